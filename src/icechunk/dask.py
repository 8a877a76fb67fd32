"""Dask: write arrays from the tasks of any scheduler, and gather in one fork what they wrote.

Each block of a Dask array becomes one task. A task makes its own empty copy of the target's fork,
writes its block through it and returns that copy, which holds no data but the references of the
chunks just written. A tree of merge tasks turns all copies into one.

The copies are what makes the result safe. Two tasks that write the same Zarr chunk would silently
overwrite each other's part of it; here they meet at the merge as two writers of one chunk and the
merge says so, whether they ran on two machines or in two threads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import dask
import dask.array as da
import zarr
from dask.array.slicing import normalize_index

from icechunk._dask_graph import Region, merge_tree, store_blocks
from icechunk.distributed import extract_session, flatten, merge_sessions
from icechunk.session import ForkSession
from icechunk.store import IcechunkStore

if TYPE_CHECKING:
    from collections.abc import Mapping

    from icechunk.changes.merge import OverlapPolicy

__all__ = ["session_merge_reduction", "store_dask"]

OLDEST_DASK: Final = (2025, 2)


def store_dask(
    *,
    sources: da.Array | Sequence[da.Array],
    targets: zarr.Array[Any] | Sequence[zarr.Array[Any]],
    regions: Region | Sequence[Region | None] | None = None,
    split_every: int | Mapping[int, int] | None = None,
    overlap: OverlapPolicy = "raise",
    **store_kwargs: Any,
) -> ForkSession:
    """Write Dask arrays to Zarr arrays of a fork, and return the fork with all that was written.

    The counterpart of `dask.array.store` for Icechunk. It runs at once, under the active scheduler:
    threads, processes, synchronous or distributed. Nothing is visible to others until the
    returned fork is merged into a writable session and that session commits.

    Parameters
    ----------
    sources : dask array or sequence of them
        What to write.
    targets : zarr.Array or sequence of them
        Where to write it: one target per source, opened on the store of a fork
        (``zarr.open_array(fork.store, path=...)``).
    regions : tuple of slices or sequence of them, optional
        The part of each target that its source fills. One tuple applies to all targets; None
        stands for the whole target.
    split_every : int or dict, optional
        How many forks one merge task gathers, overall or per axis.
    overlap : {"raise", "last"}
        What to do when two tasks wrote the same Zarr chunk, as happens when Dask blocks and Zarr
        chunks do not align: raise, or keep the whole chunk of the later block.
    **store_kwargs
        Passed on to `dask.compute`, for instance ``scheduler`` or ``optimize_graph``.

    Returns
    -------
    ForkSession
        The fork of the first target. It holds what it held before, and the writes of all
        tasks; targets on other forks are merged into it too.

    Raises
    ------
    TypeError
        If a source is not a Dask array or a target not a Zarr array on an Icechunk store.
    ValueError
        If shapes or counts do not match, or a target does not live on a fork.
    SessionStateError
        Of kind ``merge-failed``, if two tasks wrote the same chunk.

    Notes
    -----
    When a task fails or an overlap is found, the forks of the targets stay as they were. Chunks
    already written remain in storage, referenced by nothing, until garbage collection.
    """
    _require_recent_dask()
    options = _compute_options(store_kwargs)
    writes_by_fork: dict[int, list[_Write]] = {}
    for write in _plan(sources, targets, regions):
        writes_by_fork.setdefault(id(write.fork), []).append(write)

    forks, trees = [], []
    for writes in writes_by_fork.values():
        fork = writes[0].fork
        base = fork.detached_copy()
        blocks = [store_blocks(write.source, write.target, write.region, base) for write in writes]
        forks.append(fork)
        trees.append([merge_tree(array, split_every, overlap) for array in blocks])
    results = dask.compute(*trees, **options)

    # Nothing below runs unless every task succeeded.
    for fork, merged in zip(forks, results, strict=True):
        fork.merge(merge_sessions(merged, overlap=overlap), overlap=overlap)
    return merge_sessions(forks, overlap=overlap)


def session_merge_reduction(
    arrays: da.Array | Sequence[da.Array],
    *,
    split_every: int | Mapping[int, int] | None = None,
    overlap: OverlapPolicy = "raise",
    **store_kwargs: Any,
) -> ForkSession:
    """Compute Dask arrays whose blocks are Zarr arrays on forks, and merge all those forks.

    For arrays as `dask.array.store` returns them with ``return_stored=True, load_stored=False``.
    Prefer `store_dask`: with `dask.array.store`, tasks that share a process may share a fork,
    and then an overlap between them goes unseen.

    Parameters
    ----------
    arrays : dask array or sequence of them
        Every block is a Zarr array on the store of a fork, or a fork itself.
    split_every : int or dict, optional
        How many forks one merge task gathers, overall or per axis.
    overlap : {"raise", "last"}
        What to do when two forks wrote the same chunk.
    **store_kwargs
        Passed on to `dask.compute`.

    Returns
    -------
    ForkSession
        One fork with the changes of all.

    Raises
    ------
    TypeError
        If anything but Dask arrays is given.
    """
    reductions = [merge_tree(array, split_every, overlap) for array in flatten([arrays])]
    return merge_sessions(*dask.compute(*reductions, **store_kwargs), overlap=overlap)


# -- what to write ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Write:
    """One source that goes to one target, checked."""

    source: da.Array
    target: zarr.Array[Any]
    region: Region | None
    fork: ForkSession


def _plan(sources: Any, targets: Any, regions: Any) -> list[_Write]:
    """Pair sources, targets and regions; raises before anything is computed."""
    if isinstance(sources, da.Array):
        sources, targets = [sources], targets if isinstance(targets, list | tuple) else [targets]
    elif isinstance(targets, zarr.Array):
        targets = [targets]
    sources, targets = list(sources), list(targets)
    regions = [regions] * len(sources) if _is_region(regions) else list(regions)
    if len({len(sources), len(targets), len(regions)}) != 1:
        raise ValueError(
            f"Different number of sources [{len(sources)}], targets [{len(targets)}] and "
            f"regions [{len(regions)}]"
        )
    if not sources:
        raise ValueError("store_dask needs at least one source and one target")
    return [_checked(*write) for write in zip(sources, targets, regions, strict=True)]


def _is_region(regions: Any) -> bool:
    """Whether this is one region for all targets, rather than a sequence of regions."""
    return regions is None or (
        isinstance(regions, tuple) and not any(isinstance(item, tuple) for item in regions)
    )


def _checked(source: Any, target: Any, region: Any) -> _Write:
    if not isinstance(source, da.Array):
        raise TypeError(
            f"Expected a dask array, received {type(source)!r}. Write in-memory data directly: "
            "array[...] = data"
        )
    fork = _fork_of(target)
    room = target.shape
    if region:
        region = normalize_index(region, target.shape)
        room = tuple(
            len(range(*part.indices(size)))
            for part, size in zip(region, target.shape, strict=True)
            if isinstance(part, slice)
        )
    if any(math.isnan(size) for size in source.shape):
        raise ValueError(
            f"source of array {target.path!r} has unknown chunk sizes; call compute_chunk_sizes()"
        )
    if source.shape != room:
        part = f"region {region} of " if region else ""
        raise ValueError(
            f"source of shape {source.shape} does not fill {part}array {target.path!r}, "
            f"which has shape {room}"
        )
    return _Write(source, target, region or None, fork)


def _fork_of(target: Any) -> ForkSession:
    if not isinstance(target, zarr.Array):
        raise TypeError(f"Expected a zarr.Array as target, received {type(target)!r}")
    store = target.store
    if not isinstance(store, IcechunkStore):
        raise TypeError(
            f"array {target.path!r} lives on a {type(store).__name__}, not on an IcechunkStore"
        )
    fork = extract_session(target)
    if not isinstance(fork, ForkSession):
        raise ValueError(
            f"array {target.path!r} does not live on a fork. Open it on one: "
            "fork = session.fork(); target = zarr.open_array(fork.store, path=...)"
        )
    if store.read_only:
        raise ValueError(f"array {target.path!r} was opened through a read-only store")
    return fork


def _compute_options(store_kwargs: dict[str, Any]) -> dict[str, Any]:
    """Check the arguments that `dask.array.store` knows; return those for `dask.compute`."""
    options = dict(store_kwargs)
    for name, only in (("compute", True), ("return_stored", None), ("load_stored", None)):
        if (given := options.pop(name, only)) not in (only, False if only is None else only):
            raise TypeError(f"store_dask does not support {name}={given!r}: it runs at once")
    if options.pop("lock", None):
        raise TypeError("store_dask takes no lock: every task writes into a fork of its own")
    return options


def _require_recent_dask() -> None:
    version = tuple(int(part) for part in dask.__version__.split(".")[:2])
    if version < OLDEST_DASK:
        raise ValueError(
            f"Writing to Icechunk requires dask>=2025.2.0, but {dask.__version__} is installed"
        )

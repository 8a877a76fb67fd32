"""The Dask graph of a write: one task per block, then a tree of merges.

A task carries its target as bytes and makes the array from them without reading storage. What it
returns is a fork with nothing but the references of the chunks it wrote, about a kilobyte.
"""

from __future__ import annotations

import functools
import pickle
import sys
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import dask.array as da
import numpy as np
import zarr
from dask.array.optimization import fuse_slice
from dask.layers import ArraySliceDep
from zarr.core.array import AsyncArray
from zarr.storage import StorePath

from icechunk.distributed import extract_session, flatten, merge_sessions
from icechunk.session import ForkSession

if TYPE_CHECKING:
    from icechunk.changes.merge import OverlapPolicy

FORKS_PER_MERGE: Final = 64
"""Default fan-in of a merge task: forks are small, so few and wide tasks win."""

Region = tuple[slice | int, ...]

# -- what a task does ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Target:
    """What a task needs to know of a target, so that it never reads metadata from storage."""

    metadata: Any
    config: Any
    path: str
    region: Region | None
    fork: ForkSession

    def writer(self) -> tuple[zarr.Array[Any], ForkSession]:
        """Return the array on a fresh copy of the fork, and that copy."""
        fork = self.fork.detached_copy()
        place = StorePath(fork.store, self.path)
        return zarr.Array(AsyncArray(self.metadata, place, self.config)), fork


@functools.lru_cache(maxsize=128)
def _load_target(payload: bytes) -> _Target:
    """Unpickle a target once per process instead of once per task."""
    target: _Target = pickle.loads(payload)
    return target


def store_blocks(
    source: da.Array, target: zarr.Array[Any], region: Region | None, base: ForkSession
) -> da.Array:
    """Return an array of tasks, one for each block of the source; each gives a fork."""
    inner = target._async_array
    config = inner.config if hasattr(inner, "config") else inner._config  # zarr before 3.1.6
    # Bytes, because every task carries them and most never need them unpickled.
    payload = pickle.dumps(
        _Target(inner.metadata, config, inner.path, region, base),
        protocol=pickle.HIGHEST_PROTOCOL,
    )
    axes = tuple(range(source.ndim))
    return da.blockwise(
        _write_block,
        axes,
        source,
        axes,
        ArraySliceDep(source.chunks),
        axes,
        payload,
        None,
        # A fresh name: the same write twice is two writes, never one cached result.
        name=f"icechunk-store-{uuid.uuid4().hex}",
        align_arrays=False,
        dtype=object,
        meta=np.empty((0,) * source.ndim, dtype=object),
    )


def _write_block(block: Any, index: tuple[slice, ...], payload: bytes) -> ForkSession:
    target = _load_target(payload)
    array, fork = target.writer()
    if block.size:
        place = fuse_slice(target.region, index) if target.region else index
        array[place] = np.asanyarray(block)
    return fork


# -- how the forks come together -------------------------------------------------------------------


def merge_tree(array: Any, split_every: Any, overlap: OverlapPolicy) -> Any:
    """Reduce an array of forks, or of Zarr arrays on forks, to one fork."""
    library = _library(array)
    if split_every is None or isinstance(split_every, int):
        split_every = _fan_in(array.numblocks, split_every or FORKS_PER_MERGE)
    return library.reduction(
        array,
        chunk=_fork_of_block,
        aggregate=functools.partial(_aggregate, overlap=overlap),
        name="icechunk-merge",
        split_every=split_every,
        concatenate=False,
        keepdims=False,
        dtype=object,
        meta=np.empty((), dtype=object),
    )


def _library(array: Any) -> Any:
    """Return the module that made a Dask array: `dask.array`, or the separate ``dask_array``."""
    if isinstance(array, da.Array):
        return da
    other = sys.modules.get("dask_array")
    if other is not None and isinstance(array, other.Array):
        return other
    raise TypeError(f"Expected a dask array, received {type(array)!r}")


def _fan_in(numblocks: tuple[int, ...], limit: int) -> dict[int, int]:
    """Share a fan-in among the axes: the shorter ones first, what they leave to the longer."""
    limit = max(limit, 2)
    shares: dict[int, int] = {}
    by_length = sorted(range(len(numblocks)), key=lambda axis: numblocks[axis])
    for done, axis in enumerate(by_length):
        even_share = int(limit ** (1 / (len(by_length) - done)) + 1e-9)
        # At least 2 where there is anything to merge, or the tree would never end.
        shares[axis] = min(numblocks[axis], max(even_share, 2))
        limit = max(limit // max(shares[axis], 1), 1)
    return shares


def _fork_of_block(block: Any, axis: Any = None, keepdims: Any = None) -> Any:
    """Return the fork of one block; what Dask passes to learn the output type passes through."""
    if isinstance(block, ForkSession | np.ndarray):
        return block
    return extract_session(block)


def _aggregate(blocks: Any, axis: Any, keepdims: Any, *, overlap: OverlapPolicy) -> Any:
    if isinstance(blocks, np.ndarray):  # to learn the output type
        return blocks
    forks = list(flatten([blocks]))
    if len(forks) == 1:
        return forks[0]
    # Into a fork of its own: a task may run again, and must find its inputs as they were.
    return merge_sessions(forks[0].sibling(), forks, overlap=overlap)

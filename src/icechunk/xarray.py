"""Xarray: write a Dataset or DataArray into a session, with Dask from any scheduler.

Xarray's own Zarr backend decides what is written where: group and array metadata, encodings,
regions, appends and their checks. Only the moving of array data is ours. Data in memory goes
straight into the session; Dask arrays go through `icechunk.dask.store_dask` on a fork, made after
the metadata so that every task finds its array.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import zarr
from xarray import DataArray, Dataset
from xarray.backends.common import ArrayWriter
from xarray.backends.zarr import ZarrStore, _choose_default_mode

from icechunk.session import ForkSession, Session
from icechunk.store import IcechunkStore

try:
    from xarray.backends.writers import _validate_dataset_names, dump_to_store
except ImportError:  # before xarray 2025.9.1
    from xarray.backends.api import (  # type: ignore[no-redef,attr-defined]
        _validate_dataset_names,
        dump_to_store,
    )

if TYPE_CHECKING:
    from icechunk.changes.merge import OverlapPolicy

__all__ = ["to_icechunk"]

Mode = Literal["w", "w-", "a", "a-", "r+"]
Region = Mapping[str, slice | Literal["auto"]] | Literal["auto"] | None

# Names that xarray's own writers store and its readers look for.
DATAARRAY_NAME: Final = "__xarray_dataarray_name__"
DATAARRAY_VARIABLE: Final = "__xarray_dataarray_variable__"


def to_icechunk(
    obj: DataArray | Dataset,
    session: Session,
    *,
    group: str | None = None,
    mode: Mode | None = None,
    safe_chunks: bool = True,
    align_chunks: bool = False,
    append_dim: Hashable | None = None,
    region: Region = None,
    encoding: Mapping[Any, Any] | None = None,
    chunkmanager_store_kwargs: Mapping[str, Any] | None = None,
    split_every: int | None = None,
    overlap: OverlapPolicy = "raise",
) -> None:
    """Write an Xarray object to a group of a session's store; nothing is committed.

    The counterpart of `xarray.Dataset.to_zarr`. Dask arrays are computed and written by the
    active Dask scheduler, a distributed cluster included. It can be called many times in one
    session, with uncommitted changes present.

    Parameters
    ----------
    obj : DataArray or Dataset
        What to write.
    session : Session
        Writable session or fork that receives the changes.
    group : str, optional
        Path of the group to write to, by default the root.
    mode : {"w", "w-", "a", "a-", "r+"}, optional
        ``"w"`` replaces the group, ``"w-"`` creates it and fails if it exists, ``"a"`` creates or
        replaces variables, ``"a-"`` appends to variables with ``append_dim`` and leaves the others,
        ``"r+"`` changes values only, neither metadata nor shapes. The default is ``"a"`` with
        ``append_dim``, else ``"r+"`` with ``region``, else ``"w-"``.
    safe_chunks : bool
        Refuse Dask chunks that do not cover whole Zarr chunks, before anything is written.
    align_chunks : bool
        Rechunk Dask arrays to the Zarr chunks instead; turns ``safe_chunks`` off.
    append_dim : hashable, optional
        Dimension along which to append to what exists.
    region : mapping or "auto", optional
        Part of the existing arrays to write: slices by dimension, or ``"auto"`` to find them by
        comparing the object's indexes with the stored ones.
    encoding : mapping, optional
        Encodings by variable name, as in `xarray.Dataset.to_zarr`.
    chunkmanager_store_kwargs : mapping, optional
        Arguments for the computation, see ``store_kwargs`` of `icechunk.dask.store_dask`.
    split_every : int, optional
        How many forks one merge task gathers.
    overlap : {"raise", "last"}
        What to do when two tasks wrote the same Zarr chunk; only possible with
        ``safe_chunks=False``.

    Raises
    ------
    ValueError
        If ``session`` is no session, or xarray refuses the combination of arguments, encodings,
        chunks or shapes.
    SessionStateError
        Of kind ``merge-failed``, if two tasks wrote the same chunk.

    Notes
    -----
    After an error, the session has the uncommitted changes it had before the call, and no others.
    """
    if not isinstance(session, Session):
        raise ValueError(f"Please pass in an icechunk.Session. Received {type(session)!r} instead.")
    writer = _XarrayDatasetWriter(
        _as_dataset(obj), store=session.store, safe_chunks=safe_chunks, align_chunks=align_chunks
    )
    with session._workspace.undone_on_error():
        writer._open_group(group=group, mode=mode, append_dim=append_dim, region=region)
        writer.write_metadata(encoding)
        writer.write_eager()
        if writer.has_lazy:
            session.merge(writer.write_lazy(chunkmanager_store_kwargs, split_every, overlap))


@dataclass
class _XarrayDatasetWriter:
    """The steps of `to_icechunk` one by one; not part of the stable interface.

    Open the group, write metadata, then data in memory, then Dask arrays.
    """

    dataset: Dataset = field(repr=False)
    store: IcechunkStore = field(kw_only=True)
    safe_chunks: bool = field(kw_only=True, default=True)
    align_chunks: bool = field(kw_only=True, default=False)
    xarray_store: ZarrStore | None = field(init=False, repr=False, default=None)
    writer: _DeferringWriter | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        if not isinstance(self.store, IcechunkStore):
            raise ValueError(
                f"Please pass in an icechunk.Session. Received {type(self.store)!r} instead."
            )

    def _open_group(
        self,
        *,
        group: str | None,
        mode: Mode | None,
        append_dim: Hashable | None = None,
        region: Region = None,
    ) -> None:
        """Create or open the group, and settle the region."""
        _validate_dataset_names(self.dataset)
        self.xarray_store = ZarrStore.open_group(
            store=self.store,
            mode=_choose_default_mode(mode=mode, append_dim=append_dim, region=region),
            group=group,
            zarr_format=3,
            consolidated=False,
            consolidate_on_close=False,
            append_dim=append_dim,
            write_region=region,
            safe_chunks=self.safe_chunks,
            align_chunks=self.align_chunks,
        )
        self.dataset = self.xarray_store._validate_and_autodetect_region(self.dataset)

    def write_metadata(self, encoding: Mapping[Any, Any] | None = None) -> None:
        """Create, resize and check arrays, write attributes; no array data is written yet."""
        if self.xarray_store is None:
            raise ValueError("Please open the group with `_open_group` first.")
        self.xarray_store._validate_encoding(encoding or {})
        self.writer = _DeferringWriter()
        # xarray cannot store empty Dask arrays; there is nothing to compute in them
        dataset = self.dataset.copy()
        for variable in dataset.variables.values():
            if variable.size == 0:
                variable.load()
        dump_to_store(  # type: ignore[no-untyped-call]
            dataset, self.xarray_store, self.writer, encoding=encoding or {}
        )

    def write_eager(self) -> None:
        """Write all data that is not a Dask array into the session."""
        writer = self._require_metadata()
        for source, target, region in writer.eager:
            target[region or ...] = source
        writer.eager.clear()

    @property
    def has_lazy(self) -> bool:
        """Whether Dask arrays wait to be written."""
        return bool(self._require_metadata().lazy)

    def write_lazy(
        self,
        chunkmanager_store_kwargs: Mapping[str, Any] | None = None,
        split_every: int | None = None,
        overlap: OverlapPolicy = "raise",
    ) -> ForkSession:
        """Compute and write all Dask arrays; returns a fork for the caller to merge."""
        writer = self._require_metadata()
        if not writer.lazy:
            raise TypeError("There are no Dask arrays to write.")
        from icechunk.dask import store_dask  # only here: Dask is optional

        session = self.store.session
        fork = session if isinstance(session, ForkSession) else session.fork()
        options = {
            name: value
            for name, value in (chunkmanager_store_kwargs or {}).items()
            if name not in _SETTLED_OPTIONS
        }
        result = store_dask(
            sources=[source for source, _, _ in writer.lazy],
            targets=[
                zarr.open_array(fork.store, path=target.path, mode="r+")
                for _, target, _ in writer.lazy
            ],
            regions=[region for _, _, region in writer.lazy],
            split_every=split_every,
            overlap=overlap,
            **options,
        )
        writer.lazy.clear()
        return result

    def _require_metadata(self) -> _DeferringWriter:
        if self.writer is None:
            raise ValueError("Please call `write_metadata` first.")
        return self.writer


_SETTLED_OPTIONS: Final = frozenset({"return_stored", "load_stored", "flush"})
"""Arguments of `dask.array.store` that have only one useful value here."""


class _DeferringWriter(ArrayWriter):  # type: ignore[misc,unused-ignore]
    """Takes note of what xarray wants written where, instead of writing it."""

    __slots__ = ("eager", "lazy")

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.eager: list[tuple[Any, zarr.Array[Any], Any]] = []
        self.lazy: list[tuple[Any, zarr.Array[Any], Any]] = []

    def add(self, source: Any, target: Any, region: Any = None) -> None:
        (self.lazy if _is_dask(source) else self.eager).append((source, target, region))


def _is_dask(source: Any) -> bool:
    """Whether this is a Dask collection; without Dask imported, nothing can be one."""
    base = sys.modules.get("dask.base")
    return base is not None and bool(base.is_dask_collection(source))


def _as_dataset(obj: DataArray | Dataset) -> Dataset:
    """Turn a DataArray into the Dataset that `DataArray.to_zarr` would write."""
    if isinstance(obj, Dataset):
        return obj
    if obj.name is None:
        return obj.to_dataset(name=DATAARRAY_VARIABLE)
    if obj.name in obj.coords or obj.name in obj.dims:
        # A variable cannot share its name with a coordinate; the true name becomes an attribute.
        dataset = obj.to_dataset(name=DATAARRAY_VARIABLE)
        dataset.attrs[DATAARRAY_NAME] = obj.name
        return dataset
    return obj.to_dataset()

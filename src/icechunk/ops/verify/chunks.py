"""Whether the objects of native chunks are there and long enough, by the column.

One listing answers for all references. What it does not confirm is asked for once more before
anything is said: object by object if it is little, by another listing if it is much.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from icechunk.assets.workers import MAX_THREADS, Workers
from icechunk.chunks import ChunkKind, ChunkTable
from icechunk.errors import StorageError
from icechunk.format.ids import sortable
from icechunk.format.layout import CHUNKS, chunk_key
from icechunk.ops.distinct import DistinctKeys
from icechunk.ops.id_sets import Rows
from icechunk.ops.verify.inventory import Inventory, take_inventory
from icechunk.ops.verify.rules import text_of
from icechunk.storage.base import ObjectNotFound, Storage
from icechunk.verification import FaultKind

__all__ = ["ChunkCheck", "ChunkFault", "Owner", "read_whole"]

#: With more doubtful chunks than this another listing takes less time than asking for each.
ASKED_ONE_BY_ONE: Final = 1000


class Owner(NamedTuple):
    """Who refers to a chunk."""

    manifest_id: bytes
    node_id: bytes
    snapshot: int | None
    """Number of a snapshot whose array it is; None when no snapshot uses those references."""


class ChunkFault(NamedTuple):
    """A chunk that is not there as it should be."""

    kind: FaultKind
    message: str
    chunk_id: bytes
    coords: tuple[int, ...]
    owner: Owner


class _Doubtful(NamedTuple):
    ids: npt.NDArray[np.uint8]  # (n, 12)
    ends: npt.NDArray[np.uint64]  # (n,) bytes that the object should have
    coords: npt.NDArray[np.uint32]  # (n, rank)
    owner: Owner


class ChunkCheck:
    """Holds references against the listing of chunk objects."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self.is_used = np.zeros(len(inventory), np.bool_)
        """Of each object listed, whether anything refers to it."""
        self._doubtful: list[_Doubtful] = []
        self._seen = DistinctKeys()

    def add(self, table: ChunkTable, owner: Owner) -> Rows:
        """Check the native references of an array.

        Returns
        -------
        numpy.ndarray
            Rows of the table whose objects are there and were not met before, each once.
        """
        rows = np.flatnonzero(table.kinds == ChunkKind.NATIVE)
        if not len(rows):
            return rows
        assert table.ids is not None
        ids, ends = table.ids[rows], _ends(table, rows)
        slots = self._inventory.locate(ids)
        is_good = slots >= 0
        is_good[is_good] = self._inventory.sizes[slots[is_good]] >= ends[is_good]
        self._doubt(table, rows[~is_good], ids[~is_good], ends[~is_good], owner)
        good, rows = slots[is_good], rows[is_good]
        is_fresh = ~self.is_used[good]
        good, rows = good[is_fresh], rows[is_fresh]
        self.is_used[good] = True
        self.is_used[slots[slots >= 0]] = True
        return np.sort(rows[np.unique(good, return_index=True)[1]])

    def _doubt(
        self,
        table: ChunkTable,
        rows: Rows,
        ids: npt.NDArray[np.uint8],
        ends: npt.NDArray[np.uint64],
        owner: Owner,
    ) -> None:
        if not len(rows):
            return
        fresh = self._seen.add(sortable(ids))
        if len(fresh):
            coords = table.coords[rows[fresh]]
            self._doubtful.append(_Doubtful(ids[fresh], ends[fresh], coords, owner))

    def faults(self, storage: Storage, workers: Workers) -> Iterator[ChunkFault]:
        """Look again at all that was doubtful, and yield what is really at fault."""
        if not self._doubtful:
            return
        ids = np.concatenate([part.ids for part in self._doubtful])
        sizes = _sizes_now(storage, workers, ids)
        start = 0
        for part in self._doubtful:
            now = sizes[start : start + len(part.ids)]
            start += len(part.ids)
            is_short = (now < 0) | (np.maximum(now, 0).astype(np.uint64) < part.ends)
            for row in np.flatnonzero(is_short).tolist():
                yield _fault(part, row, int(now[row]))


def _fault(part: _Doubtful, row: int, size: int) -> ChunkFault:
    end = int(part.ends[row])
    coords = tuple(part.coords[row].tolist())
    if size < 0:
        kind, said = FaultKind.CHUNK_MISSING, f"there is no object for the chunk {coords}"
    else:
        kind = FaultKind.CHUNK_TOO_SHORT
        said = f"the object of the chunk {coords} has {size} bytes, its reference needs {end}"
    return ChunkFault(kind, said, part.ids[row].tobytes(), coords, part.owner)


def _ends(table: ChunkTable, rows: Rows) -> npt.NDArray[np.uint64]:
    """Where the ranges of some rows end; a sum that overflows lies beyond any object."""
    lengths = table.lengths[rows]
    if table.offsets is None:
        return lengths
    ends = lengths + table.offsets[rows]
    ends[ends < lengths] = np.iinfo(np.uint64).max
    return ends


def _sizes_now(storage: Storage, workers: Workers, ids: npt.NDArray[np.uint8]) -> Rows:
    """Return the size of each chunk object, -1 where there is none."""
    if len(ids) > ASKED_ONE_BY_ONE:
        again = take_inventory(storage, CHUNKS)
        slots = again.locate(ids)
        sizes = np.full(len(ids), -1, np.int64)
        sizes[slots >= 0] = again.sizes[slots[slots >= 0]].astype(np.int64)
        return sizes

    def size_of(chunk_id: bytes) -> int:
        try:
            return storage.head(chunk_key(chunk_id)).size
        except ObjectNotFound:
            return -1

    found = workers.map(size_of, [row.tobytes() for row in ids], MAX_THREADS)
    return np.fromiter(found, np.int64, len(ids))


def read_whole(storage: Storage, chunk_id: bytes) -> str | None:
    """Read the object of a chunk to its end; tell what is wrong if that fails."""
    try:
        storage.get(chunk_key(chunk_id))
    except StorageError as error:
        return text_of(error)
    return None

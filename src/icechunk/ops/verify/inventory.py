"""What a storage holds of one kind of object: a listing, as sorted columns.

One listing answers for any number of references: ids are found in it by the column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

import numpy as np
import numpy.typing as npt

from icechunk.format.ids import OBJECT_ID_SIZE, decode_ids, sortable
from icechunk.storage.base import ObjectInfo, Storage

__all__ = ["Inventory", "Rows", "take_inventory"]

Rows = npt.NDArray[np.int64]
_BATCH: Final = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class Inventory:
    """The objects of one folder, sorted by id."""

    folder: str
    ids: npt.NDArray[np.uint8]  # (n, 12)
    sizes: npt.NDArray[np.uint64]  # (n,)
    modified_us: npt.NDArray[np.int64]  # (n,)
    foreign: tuple[str, ...] = ()
    """Keys of objects that are not named by an id."""
    _prefixes: npt.NDArray[np.uint64] | None = None

    @classmethod
    def of(
        cls,
        folder: str,
        ids: npt.NDArray[np.uint8],
        sizes: npt.NDArray[np.uint64],
        modified_us: npt.NDArray[np.int64],
        foreign: tuple[str, ...] = (),
    ) -> Inventory:
        """Sort what was listed."""
        prefixes = _prefixes(ids)
        order = np.argsort(prefixes, kind="stable")
        prefixes = prefixes[order]
        if (prefixes[1:] == prefixes[:-1]).any():  # chance, or malice: whole ids decide
            order = np.argsort(sortable(ids), kind="stable")
            prefixes = _prefixes(ids[order])
        return cls(folder, ids[order], sizes[order], modified_us[order], foreign, prefixes)

    def __len__(self) -> int:
        return len(self.ids)

    def locate(self, ids: npt.NDArray[np.uint8]) -> Rows:
        """Find the row of each of a ``(k, 12)`` column of ids, -1 for those that are not here."""
        if not len(self) or not len(ids):
            return np.full(len(ids), -1, np.int64)
        assert self._prefixes is not None
        wanted = _prefixes(ids)
        slots = np.searchsorted(self._prefixes, wanted)
        slots[slots == len(self)] = 0
        is_here = (self.ids[slots] == ids).all(axis=1)
        # Eight bytes decide, except among ids that share them.
        doubtful = np.flatnonzero(~is_here & (self._prefixes[slots] == wanted))
        rows = np.where(is_here, slots, -1)
        if len(doubtful):
            mine, sought = sortable(self.ids), sortable(ids[doubtful])
            found = np.minimum(np.searchsorted(mine, sought), len(mine) - 1)
            rows[doubtful] = np.where(mine[found] == sought, found, -1)
        return rows


def take_inventory(
    storage: Storage, folder: str, seen: Callable[[int], object] = lambda _: None
) -> Inventory:
    """List a folder; `seen` is told from time to time how many objects have been listed."""
    ids: list[npt.NDArray[np.uint8]] = []
    sizes: list[npt.NDArray[np.uint64]] = []
    times: list[npt.NDArray[np.int64]] = []
    foreign: list[str] = []
    count = 0
    for batch in _batches(storage.list(folder + "/")):
        names = [info.key[len(folder) + 1 :] for info in batch]
        column, is_id = decode_ids(names, OBJECT_ID_SIZE)
        ids.append(column[is_id])
        sizes.append(np.array([info.size for info in batch], np.uint64)[is_id])
        times.append(np.array([info.last_modified_us for info in batch], np.int64)[is_id])
        foreign += [batch[row].key for row in np.flatnonzero(~is_id).tolist()]
        count += len(batch)
        seen(count)
    if not ids:
        empty = np.zeros((0, OBJECT_ID_SIZE), np.uint8)
        return Inventory.of(folder, empty, np.zeros(0, np.uint64), np.zeros(0, np.int64))
    return Inventory.of(
        folder, np.concatenate(ids), np.concatenate(sizes), np.concatenate(times), tuple(foreign)
    )


def _batches(listing: Iterator[ObjectInfo]) -> Iterator[list[ObjectInfo]]:
    while batch := list(islice(listing, _BATCH)):
        yield batch


def _prefixes(ids: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """First eight bytes of each id as a number that sorts as they do."""
    words = np.ascontiguousarray(ids[:, :8]).view(">u8").reshape(-1)
    return words.astype(np.uint64)

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

from icechunk.format.ids import OBJECT_ID_SIZE, decode_ids
from icechunk.ops.id_sets import Rows, SortedIds, no_ids
from icechunk.storage.base import ObjectInfo, Storage

__all__ = ["Inventory", "take_inventory"]

_BATCH: Final = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class Inventory:
    """The objects of one folder, sorted by id."""

    folder: str
    sorted_ids: SortedIds
    sizes: npt.NDArray[np.uint64]  # (n,)
    modified_us: npt.NDArray[np.int64]  # (n,)
    foreign: tuple[str, ...] = ()
    """Keys of objects that are not named by an id."""

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
        sorted_ids, order = SortedIds.in_given_order(ids)
        return cls(folder, sorted_ids, sizes[order], modified_us[order], foreign)

    def __len__(self) -> int:
        return len(self.sorted_ids)

    @property
    def ids(self) -> npt.NDArray[np.uint8]:
        """``(n, 12)``."""
        return self.sorted_ids.column

    def locate(self, ids: npt.NDArray[np.uint8]) -> Rows:
        """Find the row of each of a ``(k, 12)`` column of ids, -1 for those that are not here."""
        return self.sorted_ids.locate(ids)


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
        return Inventory.of(folder, no_ids(), np.zeros(0, np.uint64), np.zeros(0, np.int64))
    return Inventory.of(
        folder, np.concatenate(ids), np.concatenate(sizes), np.concatenate(times), tuple(foreign)
    )


def _batches(listing: Iterator[ObjectInfo]) -> Iterator[list[ObjectInfo]]:
    while batch := list(islice(listing, _BATCH)):
        yield batch

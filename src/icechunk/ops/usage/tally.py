"""How much storage each set of groups has, of every kind, filled manifest by manifest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from icechunk.format.manifest_files import ManifestFile
from icechunk.ops.stats import Contents
from icechunk.ops.usage.shares import GroupSets, Shared, Sums
from icechunk.stats import ChunkStorageStats, StorageColumns

__all__ = ["Select", "Tally", "all_of", "only"]

Bits = npt.NDArray[np.bool_]
Select = Callable[[Bits], Bits]
"""Of which sets a group is to be given the storage: ``(sets, groups)`` to the same."""

#: Number of the group of what does not count; those of the caller come after it.
DISCOUNTED: Final = 0
#: Sets and groups that are laid out together, at 9 bytes for each pair.
_PAIRS_AT_ONCE: Final = 1 << 22


class Tally:
    """What manifests hold, by the set of groups that refer to it.

    Chunks of manifests whose storage counts in any case are `discount`-ed: they then count for
    nobody, whoever else refers to them.
    """

    def __init__(self) -> None:
        self._sets = GroupSets()
        self._native = Shared(self._sets)
        self._virtual = Shared(self._sets)
        self._inlined = Sums(self._sets)
        self._manifests = Sums(self._sets)

    def add(
        self, file: ManifestFile, contents: list[Contents], groups_of: Callable[[bytes], int]
    ) -> None:
        """Add a manifest, to the groups that a function says of the id of each array in it."""
        everyone = 0
        for array in contents:
            mask = groups_of(array.node_id) << DISCOUNTED + 1
            everyone |= mask
            self._native.add(*array.native, mask)
            self._virtual.add(*array.virtual, mask)
            self._inlined.add(array.inlined_bytes, array.inlined, mask)
        self._manifests.add(file.size_bytes, 1, everyone)

    def discount(self, contents: list[Contents]) -> None:
        """Take the chunks of a manifest out of the tally; do so after everything was added."""
        for array in contents:
            self._native.mark(array.native[0], 1 << DISCOUNTED)
            self._virtual.mark(array.virtual[0], 1 << DISCOUNTED)

    def columns(self, groups: int, select: Select) -> StorageColumns:
        """Add up, for each of so many groups, the sets that are selected for it."""
        totals = self._totals()
        found = np.zeros((groups, totals.shape[1]), np.uint64)
        at_once = max(1, _PAIRS_AT_ONCE // (groups + 1))
        for first in range(0, len(totals), at_once):
            last = min(first + at_once, len(totals))
            bits = self._sets.matrix(first, last, groups + 1)
            counts = ~bits[:, DISCOUNTED]
            selected = select(bits[counts, DISCOUNTED + 1 :])
            found += selected.T.astype(np.uint64) @ totals[first:last][counts]
        return StorageColumns(*np.ascontiguousarray(found.T))

    def whole(self) -> tuple[ChunkStorageStats, int, int]:
        """Add up all chunks, each once, and all manifests: how many, and their bytes."""
        counted = self._totals()[~self._sets.having(DISCOUNTED)]
        sums = StorageColumns(*counted.sum(axis=0, dtype=np.uint64)[:, None])
        chunks = ChunkStorageStats(
            int(sums.native_bytes[0]), int(sums.virtual_bytes[0]), int(sums.inlined_bytes[0])
        )
        return chunks, int(sums.manifests[0]), int(sums.manifest_bytes[0])

    def _totals(self) -> npt.NDArray[np.uint64]:
        """Bytes and number of each kind for every set: ``(sets, 8)``, in the order of columns."""
        kinds = (self._native, self._virtual, self._inlined, self._manifests)
        return np.concatenate([kind.totals() for kind in kinds], axis=1)


def all_of(bits: Bits) -> Bits:
    """Give a group whatever it refers to."""
    return bits


def only(bits: Bits) -> Bits:
    """Give a group what no other refers to."""
    alone: Bits = bits.sum(axis=1) == 1
    return np.logical_and(bits, alone[:, None])

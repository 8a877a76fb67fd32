"""Which groups share what: arrays, snapshots or refs, and the chunks that they refer to.

A chunk belongs to a set of groups: all those that refer to it. Most chunks have one of a few sets,
so of a chunk there are its key, its length and the number of its set, in columns, and a set is one
integer with a bit for each group.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from icechunk.ops.distinct import Keys, NumberedKeys

__all__ = ["GroupSets", "Shared", "Sums"]

Numbers = npt.NDArray[np.int32]
Lengths = npt.NDArray[np.uint64]

_FIRST_ROOM: Final = 1024


class GroupSets:
    """Sets of groups, numbered as they turn up. A set is given as an integer, bit i for group i."""

    def __init__(self) -> None:
        self._masks: list[int] = []
        self._numbers: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._masks)

    def number(self, mask: int) -> int:
        """Return the number of a set."""
        number = self._numbers.setdefault(mask, len(self._masks))
        if number == len(self._masks):
            self._masks.append(mask)
        return number

    def with_groups(self, numbers: Numbers, mask: int) -> Numbers:
        """Return the numbers of the sets that come of adding groups to each of some sets."""
        distinct, which = np.unique(numbers, return_inverse=True)
        joined = [self.number(self._masks[number] | mask) for number in distinct.tolist()]
        return np.array(joined, np.int32)[which]

    def having(self, group: int) -> npt.NDArray[np.bool_]:
        """Tell which sets have a group."""
        return np.array([mask >> group & 1 for mask in self._masks], np.bool_)

    def matrix(self, first: int, last: int, groups: int) -> npt.NDArray[np.bool_]:
        """Lay some sets out as ``(sets, groups)``: which group is in which set."""
        width = max(1, -(-groups // 8))
        data = b"".join(mask.to_bytes(width, "little") for mask in self._masks[first:last])
        rows = np.frombuffer(data, np.uint8).reshape(-1, width)
        bits = np.unpackbits(rows, axis=1, count=groups, bitorder="little")
        return bits.view(np.bool_)


class Sums:
    """Bytes and things by set of groups, of what is counted wherever it is."""

    def __init__(self, sets: GroupSets) -> None:
        self._sets = sets
        self._sums: dict[int, tuple[int, int]] = {}

    def add(self, size: int, count: int, mask: int) -> None:
        """Add some things of some groups."""
        number = self._sets.number(mask)
        before = self._sums.get(number, (0, 0))
        self._sums[number] = before[0] + size, before[1] + count

    def totals(self) -> Lengths:
        """Bytes, and how many things, of every set: ``(sets, 2)``."""
        totals = np.zeros((len(self._sets), 2), np.uint64)
        for number, (size, count) in self._sums.items():
            totals[number] = size, count
        return totals


class Shared:
    """Chunks that groups may share, each counted once, with the length that was seen first.

    Takes 20 bytes of memory per chunk, beside its key.
    """

    def __init__(self, sets: GroupSets) -> None:
        self._sets = sets
        self._keys = NumberedKeys()
        self._set_of: Numbers = np.zeros(_FIRST_ROOM, np.int32)
        self._lengths: Lengths = np.zeros(_FIRST_ROOM, np.uint64)

    def add(self, keys: Keys, lengths: Lengths, mask: int) -> None:
        """Add chunks of some groups; those that are here already get these groups, too."""
        known = len(self._keys)
        numbers, rows = self._keys.add(keys)
        is_new = numbers >= known
        self._grow(len(self._keys))
        self._lengths[numbers[is_new]] = lengths[rows[is_new]]
        self._set_of[numbers[is_new]] = self._sets.number(mask)
        self._join(numbers[~is_new], mask)

    def mark(self, keys: Keys, mask: int) -> None:
        """Give chunks to some groups, but only those that are here already."""
        numbers = self._keys.find(keys)
        self._join(numbers[numbers >= 0], mask)

    def totals(self) -> Lengths:
        """Bytes, and how many chunks, of every set: ``(sets, 2)``."""
        totals = np.zeros((len(self._sets), 2), np.uint64)
        count = len(self._keys)
        np.add.at(totals[:, 0], self._set_of[:count], self._lengths[:count])
        np.add.at(totals[:, 1], self._set_of[:count], np.uint64(1))
        return totals

    def _join(self, numbers: npt.NDArray[Any], mask: int) -> None:
        self._set_of[numbers] = self._sets.with_groups(self._set_of[numbers], mask)

    def _grow(self, count: int) -> None:
        room = len(self._lengths)
        if count > room:
            more = max(count, 2 * room) - room
            self._set_of = np.concatenate([self._set_of, np.zeros(more, np.int32)])
            self._lengths = np.concatenate([self._lengths, np.zeros(more, np.uint64)])

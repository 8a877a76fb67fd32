"""Sets of object ids as sorted columns, asked by the column.

Ids are random, so their first eight bytes, as numbers, put them in order and find them; only ids
that share those bytes are compared whole. No Python object per id.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from icechunk.format.ids import OBJECT_ID_SIZE, decode_ids, id_column, sortable

__all__ = ["GrowingIds", "Ids", "Rows", "SortedIds", "no_ids"]

Ids = npt.NDArray[np.uint8]
"""``(n, 12)``."""
Rows = npt.NDArray[np.int64]
Prefixes = npt.NDArray[np.uint64]

#: Fewer ids than this are not worth a merge.
MIN_MERGE: Final = 1 << 20
#: Beyond all prefixes.
END: Final = 1 << 64


def no_ids() -> Ids:
    """Make an empty column."""
    return np.zeros((0, OBJECT_ID_SIZE), np.uint8)


def in_order(ids: Ids) -> tuple[Rows, Ids, Prefixes]:
    """Sort ids: the order they are put in, themselves, and their prefixes."""
    prefixes = prefixes_of(ids)
    order = np.argsort(prefixes, kind="stable")
    column, sorted_prefixes = ids[order], prefixes[order]
    repeats = np.flatnonzero(sorted_prefixes[1:] == sorted_prefixes[:-1])
    if len(repeats) and (column[repeats] != column[repeats + 1]).any():
        order = np.argsort(sortable(ids), kind="stable")  # chance, or malice: whole ids decide
        column, sorted_prefixes = ids[order], prefixes[order]
    return order, column, sorted_prefixes


def prefixes_of(ids: Ids) -> Prefixes:
    """First eight bytes of each id as a number that sorts as they do."""
    words = np.ascontiguousarray(ids[:, :8]).view(">u8").reshape(-1)
    return words.astype(np.uint64)


class SortedIds:
    """Ids in ascending order. Immutable."""

    __slots__ = ("_prefixes", "column")

    def __init__(self, column: Ids, prefixes: Prefixes) -> None:
        self.column = column
        """``(n, 12)``, sorted."""
        self._prefixes = prefixes

    @classmethod
    def of(cls, ids: Ids | Iterable[bytes]) -> SortedIds:
        """Sort ids, and drop what repeats."""
        column = ids if isinstance(ids, np.ndarray) else id_column(list(ids), OBJECT_ID_SIZE)
        return cls._distinct(*in_order(column)[1:])

    @classmethod
    def in_given_order(cls, ids: Ids) -> tuple[SortedIds, Rows]:
        """Sort ids, all of which are kept, and return the order they were put in, too."""
        order, column, prefixes = in_order(ids)
        return cls(column, prefixes), order

    @classmethod
    def _distinct(cls, column: Ids, prefixes: Prefixes) -> SortedIds:
        if len(column) < 2:
            return cls(column, prefixes)
        is_first = np.ones(len(column), np.bool_)
        repeats = np.flatnonzero(prefixes[1:] == prefixes[:-1])
        is_first[repeats + 1] = (column[repeats + 1] != column[repeats]).any(axis=1)
        return (
            cls(column, prefixes) if is_first.all() else cls(column[is_first], prefixes[is_first])
        )

    def __len__(self) -> int:
        return len(self.column)

    def locate(self, ids: Ids) -> Rows:
        """Find the row of each of a ``(k, 12)`` column of ids, -1 for those that are not here."""
        if not len(self) or not len(ids):
            return np.full(len(ids), -1, np.int64)
        wanted = prefixes_of(ids)
        slots = np.searchsorted(self._prefixes, wanted)
        slots[slots == len(self)] = 0
        is_near = self._prefixes[slots] == wanted
        near = np.flatnonzero(is_near)
        is_here = (self.column[slots[near]] == ids[near]).all(axis=1)
        rows = np.full(len(ids), -1, np.int64)
        rows[near[is_here]] = slots[near[is_here]]
        # Eight bytes decide, except among ids that share them.
        doubtful = near[~is_here]
        if len(doubtful):
            mine, sought = sortable(self.column), sortable(ids[doubtful])
            found = np.minimum(np.searchsorted(mine, sought), len(mine) - 1)
            rows[doubtful] = np.where(mine[found] == sought, found, -1)
        return rows

    def has(self, ids: Ids) -> npt.NDArray[np.bool_]:
        """Tell of each of a ``(k, 12)`` column of ids whether it is here."""
        return self.locate(ids) >= 0

    def has_named(self, names: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Tell of each name whether it is the text of an id that is here."""
        ids, is_id = decode_ids(names, OBJECT_ID_SIZE)
        return is_id & self.has(ids)

    def first(self, count: int) -> tuple[SortedIds, int]:
        """Keep about `count` of them, the smallest, and return where the others begin.

        Ids that share their first eight bytes stay together, so it may be more.
        """
        if len(self) <= count or not count:
            return self, END
        bound = self._prefixes[count]
        cut = int(np.searchsorted(self._prefixes, bound))
        if cut == 0:
            cut = int(np.searchsorted(self._prefixes, bound, side="right"))
            if cut == len(self):
                return self, END if int(bound) + 1 == END else int(bound) + 1
            bound = self._prefixes[cut]
        return SortedIds(self.column[:cut].copy(), self._prefixes[:cut].copy()), int(bound)

    def __or__(self, others: SortedIds) -> SortedIds:
        return SortedIds.of(np.concatenate([self.column, others.column]))


_NOTHING: Final = SortedIds.of(no_ids())


class GrowingIds:
    """A set that columns of ids are added to, and that gives up its upper part rather than grow.

    Ids are kept from `begin` on, and as many as there is room for: `end` tells how far that goes.
    Whoever needs the others makes another set that begins there.

    Parameters
    ----------
    most
        How many ids there is room for, at some 65 bytes each while columns are merged.
    begin
        The first eight bytes, as a number, of the first ids to keep.
    """

    def __init__(self, most: int, begin: int = 0) -> None:
        self.begin = begin
        self.end = END
        """The first eight bytes, as a number, of the first ids that were not kept."""
        self._most = most
        self._sorted = _NOTHING
        self._waiting: list[Ids] = []
        self._num_waiting = 0

    def add(self, ids: Ids) -> None:
        """Add a ``(k, 12)`` column, in any order, with repetitions."""
        ids = self.within(ids)
        if not len(ids):
            return
        self._waiting.append(ids)
        self._num_waiting += len(ids)
        if self._num_waiting > max(len(self._sorted) // 4, MIN_MERGE):
            self._merge()

    def within(self, ids: Ids) -> Ids:
        """Select those that lie between `begin` and `end`."""
        return ids if self._is_unbounded else ids[self.covers(ids)]

    def covers(self, ids: Ids) -> npt.NDArray[np.bool_]:
        """Tell which of a column lie between `begin` and `end`."""
        if self._is_unbounded:
            return np.ones(len(ids), np.bool_)
        prefixes = prefixes_of(ids)
        is_inside = prefixes >= np.uint64(self.begin)
        return is_inside if self.end == END else is_inside & (prefixes < np.uint64(self.end))

    @property
    def _is_unbounded(self) -> bool:
        return self.begin == 0 and self.end == END

    def sorted(self) -> SortedIds:
        """Return what was kept."""
        self._merge()
        return self._sorted

    def _merge(self) -> None:
        if not self._waiting:
            return
        ids = np.concatenate([self._sorted.column, *map(self.within, self._waiting)])
        self._waiting, self._num_waiting = [], 0
        self._sorted = _NOTHING  # makes room
        self._sorted, end = SortedIds.of(ids).first(self._most)
        self.end = min(self.end, end)

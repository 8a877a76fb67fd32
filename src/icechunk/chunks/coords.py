"""Chunk coordinates as keys: ordering, sorting and searching rows of `(n, rank)` uint32.

Rows are ordered lexicographically, as the references of a manifest are (Icechunk spec, "Manifest
files"). Inside a box of fewer than 2**63 cells a row is one uint64, its row-major cell number;
beyond that it is its own big-endian bytes. Both order as the rows do, whatever the rank.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from icechunk.chunks.arrays import Coords, Mask, Rows

_MAX_VOLUME = 2**63
_BLOCK_ROWS = 1 << 16
_CELLS_PER_ROW = 16
"""With at most this many cells per row, looking at all of them is quicker than sorting the rows."""
_BISECT_RATIO = 32
"""Below one needle per this many rows, bisecting rows is cheaper than making keys of them all."""


@dataclass(frozen=True, slots=True)
class Box:
    """A box of the chunk grid, in which rows are numbered."""

    lows: tuple[int, ...]
    sizes: tuple[int, ...]

    @classmethod
    def around(cls, *groups: Coords) -> Self:
        """Return the tight box around the rows of all groups, of size 0 when there are none."""
        rank = groups[0].shape[1]
        filled = [group for group in groups if len(group)]
        if not filled:
            return cls((0,) * rank, (0,) * rank)
        lows = [min(int(np.min(group[:, axis])) for group in filled) for axis in range(rank)]
        highs = [max(int(np.max(group[:, axis])) for group in filled) for axis in range(rank)]
        return cls(
            tuple(lows), tuple(high - low + 1 for low, high in zip(lows, highs, strict=True))
        )

    @property
    def volume(self) -> int:
        """Number of cells."""
        return prod(self.sizes)

    @property
    def is_linear(self) -> bool:
        """Whether cell numbers fit a uint64."""
        return self.volume <= _MAX_VOLUME

    @property
    def bounds(self) -> tuple[tuple[int, int], ...]:
        """The box as half-open ranges per axis."""
        return tuple((low, low + size) for low, size in zip(self.lows, self.sizes, strict=True))

    def contains(self, coords: Coords) -> Mask:
        """Return which rows lie inside."""
        inside: Mask = np.ones(len(coords), np.bool_)
        for axis, (low, high) in enumerate(self.bounds):
            inside &= coords[:, axis] >= low
            inside &= coords[:, axis] < high
        return inside

    def numbers(self, coords: Coords) -> npt.NDArray[np.uint64]:
        """Return the row-major cell numbers of rows inside a linear box.

        Rows outside get some number, to be masked by the caller.
        """
        keys = np.zeros(len(coords), np.uint64)
        origin = 0
        for axis, (low, size) in enumerate(zip(self.lows, self.sizes, strict=True)):
            if axis and size != 1:
                keys *= np.uint64(size)
            keys += coords[:, axis]
            origin = origin * size + low
        # The origin is taken off at the end: sums wrap modulo 2**64, differences come out right.
        keys -= np.uint64(origin % 2**64)
        return keys

    def keys(self, coords: Coords) -> npt.NDArray[Any]:
        """Return one sortable key per row: cell numbers, or big-endian bytes in a vast box."""
        return self.numbers(coords) if self.is_linear else _byte_keys(coords)


def _byte_keys(coords: Coords) -> npt.NDArray[np.bytes_]:
    width = 4 * coords.shape[1]
    return coords.astype(">u4").view(f"S{width}").reshape(len(coords))


def rows_before(left: Coords, right: Coords) -> Mask:
    """Return, row by row, whether `left` comes strictly before `right`."""
    rank = left.shape[1]
    if not rank:
        return np.zeros(len(left), np.bool_)
    before: Mask = left[:, rank - 1] < right[:, rank - 1]
    for axis in reversed(range(rank - 1)):
        before &= left[:, axis] == right[:, axis]
        before |= left[:, axis] < right[:, axis]
    return before


def is_sorted_unique(coords: Coords) -> bool:
    """Whether rows are strictly ascending; stops at the first block that is not."""
    last = len(coords) - 1
    for start in range(0, last, _BLOCK_ROWS):
        stop = min(start + _BLOCK_ROWS, last)
        before = rows_before(coords[start:stop], coords[start + 1 : stop + 1])
        if np.count_nonzero(before) < len(before):  # a fraction of the time of all()
            return False
    return True


def sort_last_wins(coords: Coords) -> Rows | None:
    """Return the row numbers that sort `coords`, keeping the last of equal rows.

    None says that the rows are sorted and unique already.
    """
    n = len(coords)
    if is_sorted_unique(coords):
        return None
    if coords.shape[1] == 0:
        return np.array([n - 1], np.int64)
    box = Box.around(coords)
    row_bits = (n - 1).bit_length()
    keys = box.keys(coords)
    rows: Rows
    if box.is_linear and (box.volume - 1).bit_length() + row_bits <= 64:
        # Key and row number in one word: a plain sort is then stable, and several times faster.
        keys <<= np.uint64(row_bits)
        keys |= np.arange(n, dtype=np.uint64)
        keys.sort()
        rows = (keys & np.uint64(2**row_bits - 1)).astype(np.int64)
        keys >>= np.uint64(row_bits)
    else:
        rows = np.argsort(keys, kind="stable")
        keys = keys[rows]
    is_last = np.ones(n, np.bool_)
    np.not_equal(keys[1:], keys[:-1], out=is_last[:-1])
    return rows if is_last.all() else rows[is_last]


def sorted_unique(coords: Coords) -> Coords:
    """Return the distinct rows in order; the same array when they are so already."""
    rows = sort_last_wins(coords)
    return coords if rows is None else coords[rows]


def distinct_rows(parts: Sequence[Coords]) -> Coords:
    """Return the distinct rows of several tables of one rank, in order.

    Where the rows fill a good part of their box, they are ticked off in a map of the box instead
    of being sorted.
    """
    box = Box.around(*parts)
    total = sum(map(len, parts))
    if not box.sizes or box.volume > _CELLS_PER_ROW * total:
        return sorted_unique(np.concatenate(parts))
    is_present = np.zeros(box.volume, np.bool_)
    for rows in parts:
        is_present[box.numbers(rows)] = True
    cells = np.unravel_index(np.flatnonzero(is_present), box.sizes)
    columns = [(cell + low).astype(np.uint32) for cell, low in zip(cells, box.lows, strict=True)]
    return np.stack(columns, axis=1)


def insertion_points(haystack: Coords, needles: Coords) -> tuple[Rows, Mask]:
    """Return where each needle belongs in the sorted haystack, and whether it is there."""
    n, m = len(haystack), len(needles)
    points: Rows
    if n == 0 or m == 0:
        return np.zeros(m, np.int64), np.zeros(m, np.bool_)
    if m * _BISECT_RATIO < n:
        points = _bisect_rows(haystack, needles)
    else:
        box = Box.around(haystack, needles)
        points = np.searchsorted(box.keys(haystack), box.keys(needles))
    found = (haystack[np.minimum(points, n - 1)] == needles).all(axis=1)
    found &= points < n
    return points, found


def _bisect_rows(haystack: Coords, needles: Coords) -> Rows:
    """Find all insertion points at once, one halving of every interval per step."""
    low = np.zeros(len(needles), np.int64)
    high = np.full(len(needles), len(haystack), np.int64)
    for _ in range(len(haystack).bit_length()):
        middle = (low + high) >> 1
        is_open = low < high
        before = rows_before(haystack[np.minimum(middle, len(haystack) - 1)], needles)
        low = np.where(is_open & before, middle + 1, low)
        high = np.where(is_open & ~before, middle, high)
    return low

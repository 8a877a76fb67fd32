"""Finding rows of a sorted table: one at a time in a microsecond, or a million at once.

What a lookup needs beyond the coordinates (box, keys) is made on first use and kept, at most 8
bytes per row. Making it twice in two threads is harmless: both make the same.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from icechunk.chunks.arrays import Coords, Rows
from icechunk.chunks.coords import Box, insertion_points

Finder: TypeAlias = Callable[[tuple[int, ...]], int]

_KEYS_RATIO = 32
"""Keys of all rows are worth making for one needle per this many rows."""


class Lookup:
    """An index over rows sorted lexicographically and unique."""

    __slots__ = ("_box", "_coords", "_find", "_keys")

    def __init__(self, coords: Coords) -> None:
        self._coords = coords
        self._box: Box | None = None
        self._keys: npt.NDArray[np.uint64] | None = None
        self._find: Finder | None = None

    @property
    def box(self) -> Box:
        """The tight box around all rows."""
        box = self._box
        if box is None:
            box = self._box = Box.around(self._coords)
        return box

    @property
    def fills_box(self) -> bool:
        """Whether every cell of the box has a row, so that cell numbers are row numbers."""
        return self.box.volume == len(self._coords)

    def find(self, coords: tuple[int, ...]) -> int:
        """Return the row at `coords`, as many numbers as the rows have axes, or -1."""
        find = self._find
        if find is None:
            find = self._find = self._finder()
        return find(coords)

    def locate(self, needles: Coords) -> Rows:
        """Return the row of each needle, -1 where absent."""
        n, box = len(self._coords), self.box
        few = self._keys is None and len(needles) * _KEYS_RATIO < n
        if n == 0 or not box.is_linear or (few and not self.fills_box):
            points, found = insertion_points(self._coords, needles)
            return np.where(found, points, -1)
        numbers = box.numbers(needles)
        inside = box.contains(needles)
        if self.fills_box:
            return np.where(inside, numbers.astype(np.int64), -1)
        keys = self._all_keys()
        points = np.searchsorted(keys, numbers)
        np.minimum(points, n - 1, out=points)
        inside &= keys[points] == numbers
        return np.where(inside, points, -1)

    def _all_keys(self) -> npt.NDArray[np.uint64]:
        keys = self._keys
        if keys is None:
            keys = self._keys = self.box.numbers(self._coords)
        return keys

    def _finder(self) -> Finder:
        box, n = self.box, len(self._coords)
        if n == 0:
            return lambda coords: -1
        if self.fills_box:
            return _dense_finder(box)
        if len(box.sizes) == 1:
            return _axis_finder(self._coords[:, 0].data)
        if box.is_linear:
            return _key_finder(box, self._all_keys().data)
        return _nested_finder([self._coords[:, axis].data for axis in range(len(box.sizes))], n)


def _dense_finder(box: Box) -> Finder:
    axes = tuple(zip(box.lows, box.sizes, strict=True))

    def find(coords: tuple[int, ...]) -> int:
        row = 0
        for coord, (low, size) in zip(coords, axes, strict=True):
            step = int(coord) - low  # int: arithmetic on numpy's small integers would overflow
            if not 0 <= step < size:
                return -1
            row = row * size + step
        return row

    return find


def _axis_finder(axis: "memoryview[Any]") -> Finder:
    n = len(axis)

    def find(coords: tuple[int, ...]) -> int:
        (coord,) = coords
        row = bisect_left(axis, coord)
        return row if row < n and axis[row] == coord else -1

    return find


def _key_finder(box: Box, keys: "memoryview[Any]") -> Finder:
    number_of = _dense_finder(box)
    n = len(keys)

    def find(coords: tuple[int, ...]) -> int:
        number = number_of(coords)
        if number < 0:
            return -1
        row = bisect_left(keys, number)
        return row if row < n and keys[row] == number else -1

    return find


def _nested_finder(axes: "list[memoryview[Any]]", n: int) -> Finder:
    """Narrow the rows axis by axis: for boxes too vast to number, needs no keys."""

    def find(coords: tuple[int, ...]) -> int:
        low, high = 0, n
        for coord, axis in zip(coords, axes, strict=True):
            low = bisect_left(axis, coord, low, high)
            high = bisect_right(axis, coord, low, high)
            if low == high:
                return -1
        return low

    return find

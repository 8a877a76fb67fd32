"""Runs of consecutive rows: selections stay slices for as long as that is cheaper.

Most selections of a sorted table are a few long stretches (a region along the first axis, a big
table with ten rows replaced). Copying stretches runs at memory speed; gathering row by row costs
some ten times as much, so selections travel as runs and become row numbers only when they must.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from icechunk.chunks.arrays import AnyArray, Rows

_FEW = 4
_ROWS_PER_SLICE = 256
"""A slice copy costs about as much as gathering this many rows; for a few nobody counts."""


@dataclass(frozen=True, slots=True)
class Runs:
    """Half-open stretches of row numbers, in output order; row numbers may span stacked tables."""

    starts: Rows
    stops: Rows

    @classmethod
    def of_rows(cls, rows: Rows) -> Self:
        """Return the maximal runs of a sequence of row numbers."""
        if len(rows) == 0:
            return cls(rows, rows)
        breaks = np.flatnonzero(rows[1:] != rows[:-1] + 1)
        starts = rows[np.concatenate([[0], breaks + 1])]
        stops = rows[np.concatenate([breaks, [len(rows) - 1]])] + 1
        return cls(starts, stops)

    @property
    def total(self) -> int:
        """Number of rows selected."""
        return int((self.stops - self.starts).sum())

    @property
    def are_long(self) -> bool:
        """Whether copying slices beats gathering rows."""
        return len(self.starts) <= _FEW or len(self.starts) * _ROWS_PER_SLICE <= self.total

    def rows(self) -> Rows:
        """Return the row numbers the runs stand for."""
        lengths = self.stops - self.starts
        ends = np.cumsum(lengths)
        total = int(ends[-1]) if len(ends) else 0
        rows: Rows = np.arange(total, dtype=np.int64)
        rows += np.repeat(self.starts - (ends - lengths), lengths)
        return rows

    def pieces(self, sizes: Sequence[int]) -> Iterator[tuple[int, int, int]]:
        """Yield `(table, start, stop)` for tables of the given sizes stacked on each other."""
        bounds = np.cumsum([0, *sizes])
        owners = np.searchsorted(bounds, self.starts, side="right") - 1
        tops = bounds.tolist()
        for owner, start, stop in zip(
            owners.tolist(), self.starts.tolist(), self.stops.tolist(), strict=True
        ):
            while start < stop:
                end = min(stop, tops[owner + 1])
                if start < end:
                    yield owner, start - tops[owner], end - tops[owner]
                start, owner = end, owner + 1


def take_rows(column: AnyArray, rows: Rows) -> AnyArray:
    """Gather rows of a one- or two-dimensional column.

    A two-dimensional row is moved as one opaque item: numpy copies it whole instead of looping
    over its few elements.
    """
    if column.ndim == 1 or column.shape[1] == 0:
        return column.take(rows, axis=0)
    width = column.shape[1]
    items = np.ascontiguousarray(column).view(np.dtype((np.void, column.dtype.itemsize * width)))
    taken = items.reshape(len(column)).take(rows)
    return taken.view(column.dtype).reshape(len(rows), width)

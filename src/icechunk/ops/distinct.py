"""Sets of keys of one width, filled by columns, that tell which keys are new, or number them.

Chunk ids and the like, millions of them, at their own size in memory: sorted columns whose sizes
grow geometrically, merged as they fill. No Python object per key.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["DistinctKeys", "Keys", "NumberedKeys"]

Keys = npt.NDArray[np.bytes_]
Numbers = npt.NDArray[np.int64]


class DistinctKeys:
    """Keys seen so far. Not for use by several threads at once."""

    __slots__ = ("_runs",)

    def __init__(self) -> None:
        self._runs: list[Keys] = []  # sorted, distinct, disjoint; the largest first

    def __len__(self) -> int:
        return sum(map(len, self._runs))

    def add(self, keys: Keys) -> npt.NDArray[np.intp]:
        """Add a column of keys, and return the rows of those not seen before.

        Of keys that repeat within the column the first row counts. All columns must be of one
        width.
        """
        fresh, rows = np.unique(keys, return_index=True)
        for run in self._runs:
            slots = np.minimum(np.searchsorted(run, fresh), len(run) - 1)
            is_new = run[slots] != fresh
            fresh, rows = fresh[is_new], rows[is_new]
        if len(fresh):
            self._runs.append(fresh)
        # A key takes part in as many merges as there are doublings up to the total.
        while len(self._runs) > 1 and len(self._runs[-2]) < 2 * len(self._runs[-1]):
            joined = np.concatenate([self._runs.pop(), self._runs.pop()])
            joined.sort(kind="stable")  # two sorted runs: a merge
            self._runs.append(joined)
        return rows


class NumberedKeys:
    """Keys numbered as they come, from 0 on. Not for use by several threads at once."""

    __slots__ = ("_count", "_runs")

    def __init__(self) -> None:
        self._runs: list[tuple[Keys, Numbers]] = []  # keys as in `DistinctKeys`, and their numbers
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, keys: Keys) -> tuple[Numbers, npt.NDArray[np.intp]]:
        """Add a column of keys.

        Returns
        -------
        numbers, rows
            Of each distinct key of the column its number and the first row that has it. Numbers
            that are new are not less than the length was before.
        """
        distinct, rows = np.unique(keys, return_index=True)
        numbers = self._locate(distinct)
        is_new = numbers < 0
        fresh = int(is_new.sum())
        if fresh:
            numbers[is_new] = np.arange(self._count, self._count + fresh)
            self._count += fresh
            self._runs.append((distinct[is_new], numbers[is_new]))
        while len(self._runs) > 1 and len(self._runs[-2][0]) < 2 * len(self._runs[-1][0]):
            (keys_a, numbers_a), (keys_b, numbers_b) = self._runs.pop(), self._runs.pop()
            joined = np.concatenate([keys_a, keys_b])
            order = np.argsort(joined, kind="stable")
            self._runs.append((joined[order], np.concatenate([numbers_a, numbers_b])[order]))
        return numbers, rows

    def find(self, keys: Keys) -> Numbers:
        """Numbers of the distinct keys of a column, -1 for those not here."""
        return self._locate(np.unique(keys))

    def _locate(self, distinct: Keys) -> Numbers:
        numbers = np.full(len(distinct), -1, np.int64)
        for run, known in self._runs:
            slots = np.minimum(np.searchsorted(run, distinct), len(run) - 1)
            is_here = run[slots] == distinct
            numbers[is_here] = known[slots[is_here]]
        return numbers

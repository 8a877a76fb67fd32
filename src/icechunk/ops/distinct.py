"""A set of keys of one width, filled by columns, that tells which keys are new to it.

Chunk ids and the like, millions of them, at their own size in memory: sorted columns whose sizes
grow geometrically, merged as they fill. No Python object per key.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["DistinctKeys"]

Keys = npt.NDArray[np.bytes_]


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

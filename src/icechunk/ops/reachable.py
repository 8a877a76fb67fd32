"""Which snapshots branches and tags lead to: functions of the state."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from icechunk.format.ids import ids_of_column
from icechunk.format.snapshot_table import SnapshotTable
from icechunk.repo.state import RepoState

__all__ = ["reachable_rows", "reachable_snapshots"]


def reachable_snapshots(info: RepoState) -> list[bytes]:
    """List the snapshots that some branch or tag leads to, sorted by id."""
    tips = {*info.branches.values(), *info.tags.values()}
    table = info.snapshots.table_of(tips)
    return ids_of_column(table.ids[reachable_rows(table, tips)])


def reachable_rows(table: SnapshotTable, tips: Iterable[bytes]) -> npt.NDArray[np.bool_]:
    """Tell which rows of a table of snapshots some tip leads to."""
    seen = np.zeros(len(table), np.bool_)
    for tip in tips:
        for row in table.ancestry(tip):
            if seen[row]:
                break  # and so are all its ancestors
            seen[row] = True
    return seen

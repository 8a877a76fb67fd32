"""Which snapshots stay, and the history without the others: pure functions of the state.

What a branch or a tag leads to stays, and what is too young to go. A snapshot that stays and whose
parent goes descends from its nearest ancestor that stays from then on, and inherits the transaction
logs in between. The root of whatever stays does so, too.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from icechunk.format.repo_info import RepoInfo
from icechunk.format.snapshot_table import SnapshotTable
from icechunk.ops.id_sets import SortedIds
from icechunk.ops.inheritance import inherit, without
from icechunk.ops.reachable import reachable_rows

__all__ = ["Mask", "logs_of", "rows_to_keep", "state_with"]

Mask = npt.NDArray[np.bool_]


def rows_to_keep(info: RepoInfo, is_young: Mask) -> Mask:
    """Tell which snapshots stay.

    Parameters
    ----------
    info
        The state.
    is_young
        Rows of its snapshots that stay in any case.
    """
    keeps = reachable_rows(info.snapshots, {*info.branches.values(), *info.tags.values()})
    parents = info.snapshots.parents
    for row in np.flatnonzero(is_young & ~keeps).tolist():
        keeps[row] = True
        root = row
        while parents[root] >= 0:
            root = int(parents[root])
        keeps[root] = True
    return keeps


def state_with(info: RepoInfo, keeps: Mask) -> RepoInfo:
    """Return the state with these snapshots and no others; refs must lead to none of the others."""
    if keeps.all():
        return info
    table = info.snapshots
    return replace(info, snapshots=without(table, ~keeps, inherit(table, ~keeps, keeps)))


def logs_of(table: SnapshotTable) -> SortedIds:
    """Return the transaction logs that snapshots need: their own, and inherited ones."""
    return SortedIds.of(np.concatenate([table.ids, table.pruned_ids]))

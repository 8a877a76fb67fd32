"""What a snapshot inherits when ancestors of it leave the table: another parent, and their logs.

So differences and rebases still find every transaction log. Icechunk spec, "Repo info file": pruned
transaction logs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from icechunk.format.ids import OBJECT_ID_SIZE
from icechunk.format.rows import gather_spans
from icechunk.format.snapshot_table import SnapshotTable

__all__ = ["Inherited", "inherit", "without"]

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Inherited:
    """What changes for a snapshot that stays while its parent goes."""

    row: int
    parent: int
    """Row of the new parent."""
    logs: npt.NDArray[np.uint8]
    """``(k, 12)`` its new list of pruned logs, oldest first."""


def inherit(table: SnapshotTable, goes: Mask, is_end: Mask) -> tuple[Inherited, ...]:
    """Find what loses its parent, and walk from there to the new one.

    Parameters
    ----------
    table
        The snapshots.
    goes
        Which rows leave.
    is_end
        Which rows a walk stops at: there the new parent is. Roots stop it in any case.

    Notes
    -----
    A walk that meets a snapshot walked from before goes on with what was found there.
    """
    parents = table.parents
    loses = ~goes & (parents >= 0) & goes[parents]
    rows = np.flatnonzero(loses)
    parent_of: list[int] = parents.tolist()
    stops: list[bool] = (is_end | (parents < 0)).tolist()
    found: dict[int, Inherited] = {}
    for row in rows[np.argsort(table.flushed_at[rows], kind="stable")].tolist():
        path = []
        at = parent_of[row]
        while at not in found and not stops[at]:
            path.append(at)
            at = parent_of[at]
        known = None if stops[at] else found[at]
        between = tuple(reversed(path))
        if known is None:
            logs = [_logs(table, between)]
            parent = at
        else:
            logs = [known.logs, table.ids[at : at + 1], _logs(table, between)]
            parent = known.parent
        first, last = table.pruned_starts[row : row + 2].tolist()
        logs.append(table.pruned_ids[first:last])
        found[row] = Inherited(row, parent, np.concatenate(logs))
    return tuple(found[row] for row in rows.tolist())


def without(table: SnapshotTable, goes: Mask, inherited: Iterable[Inherited]) -> SnapshotTable:
    """Return the table without some rows; those that lose their parents inherit."""
    parents = table.parents.copy()
    for item in inherited:
        parents[item.row] = item.parent
    return table.revise(~goes, parents, {item.row: item.logs for item in inherited})


def _logs(table: SnapshotTable, rows: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Line up the logs of snapshots, each behind those that it inherited before."""
    chosen = np.array(rows, dtype=np.int64)
    begins = table.pruned_starts[chosen]
    ends = table.pruned_starts[chosen + 1]
    counts = ends - begins
    if not counts.any():
        return table.ids[chosen]
    own = np.cumsum(counts + 1) - 1  # where the log of each snapshot itself goes
    logs = np.empty((int(own[-1]) + 1, OBJECT_ID_SIZE), dtype=np.uint8)
    is_own = np.zeros(len(logs), dtype=bool)
    is_own[own] = True
    logs[own] = table.ids[chosen]
    _, items = gather_spans(begins, counts)
    logs[~is_own] = table.pruned_ids[items]
    return logs

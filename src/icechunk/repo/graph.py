"""Where each commit of a drawn history goes: rows, columns and edges, as values.

Knows the table of snapshots and the refs, but neither characters nor colours. Every branch has a
column of its own, which holds the commits that no branch further left reaches; an edge runs down in
the column of the child and turns left where its parent is. A child stands above its parent, and
newer commits above older ones as far as that allows.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from icechunk.format.ids import encode_id
from icechunk.format.snapshot_table import SnapshotTable
from icechunk.repo.state import RepoState

__all__ = ["MAX_COMMITS", "Commit", "Edge", "GraphLayout", "graph_of_branches", "graph_of_history"]

MAX_COMMITS = 100

_NOBODY = -1


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit of a drawing; its row is its position in `GraphLayout.commits`."""

    id: str
    message: str
    column: int
    parent: int | None
    """Row of its parent; None when it has none, or when that is not drawn."""
    goes_on: bool
    """Whether it has a parent that is not drawn."""
    branches: tuple[str, ...]
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Edge:
    """The line from a child down to its parent."""

    column: int
    """Column of the child, in which the line runs down."""
    child: int
    parent: int
    """Row of the parent, or the number of rows when it is not drawn."""
    parent_column: int
    """Column of the parent; that of the child when it is not drawn."""


@dataclass(frozen=True, slots=True)
class GraphLayout:
    """A drawing before it becomes text or an image."""

    commits: tuple[Commit, ...]
    """The newest commits, one a row, from the top."""
    width: int
    """Number of columns."""
    omitted: int
    """How many older commits are not drawn."""

    def edges(self) -> list[Edge]:
        """Return the lines to draw, in the order of their children."""
        rows = len(self.commits)
        return [
            Edge(commit.column, row, rows, commit.column)
            if commit.parent is None
            else Edge(commit.column, row, commit.parent, self.commits[commit.parent].column)
            for row, commit in enumerate(self.commits)
            if commit.parent is not None or commit.goes_on
        ]


def graph_of_branches(info: RepoState, limit: int = MAX_COMMITS) -> GraphLayout:
    """Lay out everything that branches reach, ``main`` leftmost, the others by name."""
    branches = sorted(info.branches, key=lambda name: (name != "main", name))
    tips = [info.branches[name] for name in branches]
    return _lay_out(info, tips, branches, limit)


def graph_of_history(
    info: RepoState, snapshot_id: bytes, branch: str | None = None, limit: int = MAX_COMMITS
) -> GraphLayout:
    """Lay out the history of one snapshot, which `branch`, if given, points to."""
    names = [] if branch is None else [branch]
    return _lay_out(info, [snapshot_id], names, limit)


def _lay_out(
    info: RepoState, tips: Sequence[bytes], branches: Iterable[str], limit: int
) -> GraphLayout:
    """Lay out what the `tips` reach, one column each, and label it with `branches` and tags.

    Costs one step per snapshot they reach.
    """
    table = info.snapshots.table_of(tips)
    owners = _owners(table, [table.row(tip) for tip in tips])
    rows = _newest(table, owners, limit)
    used = sorted({0, *owners[rows].tolist()})  # a branch without commits of its own takes no room
    column_of = {owner: column for column, owner in enumerate(used)}
    position_of = {row: position for position, row in enumerate(rows)}
    parents = table.parents[rows].tolist()
    branches_at = _names_by_row(table, info.branches, branches)
    tags_at = _names_by_row(table, info.tags, sorted(info.tags))
    commits = tuple(
        Commit(
            id=encode_id(table.id(row)),
            message=table.messages[row].decode(),
            column=column_of[owner],
            parent=position_of.get(parent),
            goes_on=parent >= 0 and parent not in position_of,
            branches=tuple(branches_at.get(row, ())),
            tags=tuple(tags_at.get(row, ())),
        )
        for row, owner, parent in zip(rows, owners[rows].tolist(), parents, strict=True)
    )
    reached = int(np.count_nonzero(owners != _NOBODY))
    return GraphLayout(commits, len(used), reached - len(commits))


def _owners(table: SnapshotTable, tips: Sequence[int]) -> npt.NDArray[np.int64]:
    """For each row of the table, the first of the `tips` that reaches it."""
    parents = table.parents.tolist()
    owners = [_NOBODY] * len(parents)
    for owner, tip in enumerate(tips):
        row = tip
        while row >= 0 and owners[row] == _NOBODY:
            owners[row] = owner
            row = parents[row]
    return np.array(owners, dtype=np.int64)


def _newest(table: SnapshotTable, owners: npt.NDArray[np.int64], limit: int) -> list[int]:
    """Rows to draw, newest first, but every child before its parent whatever the clocks said."""
    is_reached = owners != _NOBODY
    parents = table.parents[is_reached]
    waits_for = np.bincount(parents[parents >= 0], minlength=len(table))  # children not drawn yet

    def rank(row: int) -> tuple[int, int, int]:
        return -int(table.flushed_at[row]), int(owners[row]), row

    ready = [rank(row) for row in np.flatnonzero(is_reached & (waits_for == 0)).tolist()]
    heapq.heapify(ready)
    rows: list[int] = []
    while ready and len(rows) < limit:
        row = heapq.heappop(ready)[-1]
        rows.append(row)
        parent = int(table.parents[row])
        if parent >= 0:
            waits_for[parent] -= 1
            if waits_for[parent] == 0:
                heapq.heappush(ready, rank(parent))
    return rows


def _names_by_row(
    table: SnapshotTable, refs: Mapping[str, bytes], names: Iterable[str]
) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for name in names:
        row = table.find(refs[name])
        if row >= 0:
            found.setdefault(row, []).append(name)
    return found

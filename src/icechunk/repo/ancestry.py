"""Questions about history, answered from the table of snapshots: no snapshot file is opened."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from icechunk.errors import ErrorKind, SnapshotNotFoundError
from icechunk.format.repo_info import RepoInfo
from icechunk.format.snapshot_table import SnapshotEntry
from icechunk.repo.preconditions import BranchExists, SnapshotKnown, TagExists
from icechunk.repo.times import time_text

__all__ = ["LoggedSnapshot", "branch_tip", "history", "logs_between", "snapshot_at", "tag_target"]


class LoggedSnapshot(NamedTuple):
    """A snapshot of a history, and which transaction logs say what changed since the one before."""

    id: bytes
    """The snapshot, whose own log has the same id."""
    pruned: tuple[bytes, ...]
    """Logs of expired snapshots between it and its present parent, oldest first; may be gone."""

    @property
    def logs(self) -> tuple[bytes, ...]:
        """Ids of all logs in the order things happened: the pruned ones, then its own."""
        return (*self.pruned, self.id)


def branch_tip(info: RepoInfo, branch: str) -> bytes:
    """Return the snapshot a branch points to."""
    BranchExists(branch).check(info)
    return info.branches[branch]


def tag_target(info: RepoInfo, tag: str) -> bytes:
    """Return the snapshot a tag stands for."""
    TagExists(tag).check(info)
    return info.tags[tag]


def history(info: RepoInfo, snapshot_id: bytes) -> Iterator[SnapshotEntry]:
    """Iterate over a snapshot and its ancestors, newest first.

    Raises
    ------
    SnapshotNotFoundError
        At the call, when the repository does not know the snapshot.
    """
    SnapshotKnown(snapshot_id).check(info)
    return map(info.snapshots.entry, info.snapshots.ancestry(snapshot_id))


def snapshot_at(info: RepoInfo, branch: str, time_us: int) -> bytes:
    """Return the newest snapshot in the history of a branch that was written by `time_us`."""
    BranchExists(branch, ErrorKind.BRANCH_NOT_FOUND).check(info)
    table = info.snapshots
    for row in table.ancestry(info.branches[branch]):
        if int(table.flushed_at[row]) <= time_us:
            return table.id(row)
    raise SnapshotNotFoundError(
        f"branch `{branch}` does not have a snapshot at or before {time_text(time_us)}",
        ErrorKind.NO_SNAPSHOT_AT_TIME,
    )


def logs_between(info: RepoInfo, base: bytes, tip: bytes) -> list[LoggedSnapshot] | None:
    """Say which snapshots, and so which transaction logs, lead from one snapshot to a later one.

    Returns
    -------
    list of LoggedSnapshot or None
        The history of `tip` down to `base`, without `base`, oldest first: nothing when both are
        the same snapshot. None when `base` is not in the history of `tip`.

    Raises
    ------
    SnapshotNotFoundError
        When the repository does not know one of the two.
    """
    SnapshotKnown(base).check(info)
    SnapshotKnown(tip).check(info)
    table = info.snapshots
    last = table.row(base)
    rows: list[int] = []
    for row in table.ancestry(tip):
        if row == last:
            return [LoggedSnapshot(table.id(row), table.pruned(row)) for row in reversed(rows)]
        rows.append(row)
    return None

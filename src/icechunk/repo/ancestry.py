"""Questions about history, answered without the nodes of any snapshot."""

from __future__ import annotations

from typing import NamedTuple

from icechunk.errors import ErrorKind, SnapshotNotFoundError
from icechunk.repo.preconditions import BranchExists, SnapshotKnown, TagExists
from icechunk.repo.state import RepoState
from icechunk.repo.times import time_text

__all__ = [
    "LoggedSnapshot",
    "branch_tip",
    "commits_since",
    "logs_between",
    "snapshot_at",
    "tag_target",
]


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


def branch_tip(info: RepoState, branch: str) -> bytes:
    """Return the snapshot a branch points to."""
    BranchExists(branch).check(info)
    return info.branches[branch]


def tag_target(info: RepoState, tag: str) -> bytes:
    """Return the snapshot a tag stands for."""
    TagExists(tag).check(info)
    return info.tags[tag]


def snapshot_at(info: RepoState, branch: str, time_us: int) -> bytes:
    """Return the newest snapshot in the history of a branch that was written by `time_us`."""
    BranchExists(branch, ErrorKind.BRANCH_NOT_FOUND).check(info)
    table = info.snapshots
    for row in table.ancestry(info.branches[branch]):
        if table.time(row) <= time_us:
            return table.id(row)
    raise SnapshotNotFoundError(
        f"branch `{branch}` does not have a snapshot at or before {time_text(time_us)}",
        ErrorKind.NO_SNAPSHOT_AT_TIME,
    )


def logs_between(info: RepoState, base: bytes, tip: bytes) -> list[LoggedSnapshot] | None:
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


class Unseen(NamedTuple):
    """What somebody at an older snapshot of a branch has not seen."""

    commits: list[LoggedSnapshot]
    """Oldest first."""
    is_continuation: bool
    """Whether they all come after that snapshot; else it is not part of the history any more."""
    parted_at_root: bool = False
    """Whether two histories have nothing in common but their root, or not even that. So it looks,
    too, when one was shortened and nothing has kept the logs."""


def commits_since(info: RepoState, base: bytes, tip: bytes) -> Unseen:
    """Say what was committed on the way to `tip` that somebody at `base` has not seen.

    Normally that is what `logs_between` gives. When the branch was reset or its tip amended, the
    two histories part somewhere: then it is what `tip` has since they parted, and nothing at all
    when `tip` is an ancestor of `base`. When `base` has been expired, its log is found among the
    pruned ones, and those after it count.

    Raises
    ------
    SnapshotNotFoundError
        When the repository does not know `tip`.
    """
    table = info.snapshots
    base_row = table.find(base)
    rows: list[int] = []
    commits: list[LoggedSnapshot] = []
    for row in table.ancestry(tip):
        if row == base_row:
            return Unseen(commits[::-1], True)
        rows.append(row)
        pruned = table.pruned(row)
        if base in pruned:
            commits.append(LoggedSnapshot(table.id(row), pruned[pruned.index(base) + 1 :]))
            return Unseen(commits[::-1], True)
        commits.append(LoggedSnapshot(table.id(row), pruned))
    seen = set(table.ancestry(base)) if base_row >= 0 else set()
    fork = next((number for number, row in enumerate(rows) if row in seen), len(rows))
    at_root = fork == len(rows) or table.parent_id(rows[fork]) is None
    return Unseen(commits[:fork][::-1], False, at_root)

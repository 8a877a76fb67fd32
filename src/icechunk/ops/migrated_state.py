"""What version 2 says of a repository of spec version 1, as a function of its refs and history.

Version 1 keeps no log, so one is made up: every commit, branch and tag is dated by the snapshots
they point to. Deleted tags are remembered, since their names stay taken. Snapshots that no branch
and no tag leads to are garbage already, and are left behind.
Icechunk spec, "Migration from version 1 to 2".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from icechunk.format.ops_log import (
    BranchCreated,
    NewCommit,
    RepoInitialized,
    RepoMigrated,
    RepoStatus,
    TagCreated,
    TagDeleted,
    UpdateEntry,
    UpdateKind,
)
from icechunk.format.ops_table import OpsLog
from icechunk.format.repo_info import MAIN, RepoInfo
from icechunk.format.snapshot_table import SnapshotEntry, SnapshotTable
from icechunk.repo.log import update_time

__all__ = ["RefHistory", "migrated_state"]

_MILLISECOND = 1000


@dataclass(frozen=True, slots=True)
class RefHistory:
    """Everything that a repository of spec version 1 says of itself, chunks and nodes aside."""

    branches: Mapping[str, bytes]
    """Snapshot id of each branch; ``main`` is among them."""
    tags: Mapping[str, bytes]
    """Snapshot id of each tag that was not deleted."""
    deleted_tags: Mapping[str, bytes | None]
    """Where deleted tags pointed; None where that cannot be read any more."""
    snapshots: Mapping[bytes, SnapshotEntry]
    """All that branches and tags lead to, with their parents."""
    config: bytes | None = field(default=None, repr=False)
    """The stored configuration as FlexBuffers, None if none is stored."""


def migrated_state(history: RefHistory, now_us: int) -> RepoInfo:
    """Make the state of the repository in version 2.

    Parameters
    ----------
    history
        The repository as it is in version 1.
    now_us
        Time of the migration, microseconds since the epoch.

    Raises
    ------
    FormatError
        Of kind ``snapshot-timestamp`` when a snapshot is dated a second or more after `now_us`:
        nothing could be changed until then.
    """
    log = list(_log(history))
    newest = log[-1].updated_at
    log.append(UpdateEntry(RepoMigrated(1, 2), update_time(newest, now_us)))
    return RepoInfo(
        snapshots=SnapshotTable.from_entries(history.snapshots.values()),
        branches=dict(history.branches),
        tags=dict(history.tags),
        deleted_tags=tuple(sorted(history.deleted_tags)),
        status=RepoStatus(set_at=_root(history).flushed_at),
        updates=OpsLog.from_entries(reversed(log)),
        config=history.config,
    )


def _log(history: RefHistory) -> Iterator[UpdateEntry]:
    """Yield what has happened, oldest first, each later than what came before."""
    previous = -1
    for time, kind in sorted(_happened(history), key=lambda entry: entry[0]):
        previous = max(time, previous + 1)
        yield UpdateEntry(kind, previous)


def _happened(history: RefHistory) -> Iterator[tuple[int, UpdateKind]]:
    """Yield what has happened and when; of what was at the same time, the earlier first."""
    snapshots = history.snapshots
    root = _root(history)
    told = {root.id}

    def time(snapshot_id: bytes) -> int:
        return snapshots[snapshot_id].flushed_at

    def commits(branch: str, tip: bytes) -> Iterator[tuple[int, UpdateKind]]:
        untold = []
        at: bytes | None = tip
        while at is not None and at not in told:
            told.add(at)
            untold.append(at)
            at = snapshots[at].parent_id
        for snapshot_id in reversed(untold):
            yield time(snapshot_id), NewCommit(branch, snapshot_id)

    yield root.flushed_at, RepoInitialized()
    yield from commits(MAIN, history.branches[MAIN])
    for name, tip in sorted(history.branches.items()):
        if name != MAIN:
            yield time(tip) + _MILLISECOND, BranchCreated(name)
            yield from commits(name, tip)
    for name, target in sorted(history.tags.items()):
        yield time(target) + _MILLISECOND, TagCreated(name)
    for name in sorted(history.deleted_tags, key=_as_listed):
        former = history.deleted_tags[name]
        if former is not None:
            then = time(former) if former in snapshots else root.flushed_at
            yield then + _MILLISECOND, TagCreated(name)
            yield then + 2 * _MILLISECOND, TagDeleted(name, former)


def _as_listed(name: str) -> str:
    """Order names like the keys of their files."""
    return f"{name}/"


def _root(history: RefHistory) -> SnapshotEntry:
    """Find where the history of ``main`` begins."""
    entry = history.snapshots[history.branches[MAIN]]
    while entry.parent_id is not None:
        entry = history.snapshots[entry.parent_id]
    return entry

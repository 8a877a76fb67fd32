"""Changes to the state of a repository, as records, and the pure function that applies one.

Every change lists its preconditions, edits a value, and names the entry it leaves in the operations
log. Where the state is stored and who else changes it is the business of `commit_loop`.
Icechunk spec, "Repo info file".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from icechunk.errors import ErrorKind
from icechunk.format.ops_log import (
    BranchCreated,
    BranchDeleted,
    BranchReset,
    CommitAmended,
    ConfigChanged,
    MetadataChanged,
    NewCommit,
    NewDetachedSnapshot,
    RepoStatus,
    RepoStatusChanged,
    TagCreated,
    TagDeleted,
    UpdateKind,
)
from icechunk.format.repo_info import RepoInfo
from icechunk.format.snapshot_table import SnapshotEntry
from icechunk.repo.features import FEATURES
from icechunk.repo.log import append_update
from icechunk.repo.preconditions import (
    BranchAbsent,
    BranchAt,
    BranchExists,
    FeatureEnabled,
    IsOnline,
    NameIsText,
    NotMain,
    NotRoot,
    Precondition,
    SnapshotKnown,
    SnapshotNew,
    TagExists,
    TagFree,
    TipIs,
    WrittenAfterParent,
)

__all__ = [
    "AddDetachedSnapshot",
    "AddSnapshot",
    "AmendSnapshot",
    "Change",
    "CreateBranch",
    "CreateTag",
    "DeleteBranch",
    "DeleteTag",
    "ResetBranch",
    "SetConfig",
    "SetMetadata",
    "SetStatus",
    "UpdateMetadata",
    "apply",
]

CREATE_TAG: Final = FeatureEnabled(FEATURES["create_tag"], "create_tag", "tag creation")
DELETE_TAG: Final = FeatureEnabled(FEATURES["delete_tag"], "delete_tag", "tag delete")
OPEN_REARRANGING: Final = FeatureEnabled(
    FEATURES["move_node"], "move_node", "create rearrange session"
)
COMMIT_MOVES: Final = FeatureEnabled(FEATURES["move_node"], "move_node", "commit rearrange session")


class Change(Protocol):
    """One change to the state of a repository."""

    @property
    def preconditions(self) -> Sequence[Precondition]:
        """Rules to check, in this order, besides the repository being online (see `SetStatus`)."""
        ...

    def edit(self, info: RepoInfo) -> RepoInfo:
        """Return the changed state; the preconditions hold."""
        ...

    def log_entry(self, info: RepoInfo) -> UpdateKind:
        """Return what the operations log says of this change of the state `info`."""
        ...


def apply(
    info: RepoInfo, change: Change, now_us: int, *, backup_name: str, max_log_entries: int
) -> RepoInfo:
    """Return the state after a change made at `now_us`.

    Parameters
    ----------
    info
        The state before.
    change
        What to do.
    now_us
        Time of the change, microseconds since the epoch.
    backup_name
        Name under which a copy of the state before will be found.
    max_log_entries
        How many entries of the operations log stay in the state; older ones are found by way of
        the backups.

    Raises
    ------
    IcechunkError
        The error of the first precondition that does not hold, or FormatError of kind
        ``snapshot-timestamp`` when the clock is behind the log.
    """
    if not isinstance(change, SetStatus):
        IsOnline().check(info)
    for precondition in change.preconditions:
        precondition.check(info)
    return append_update(
        change.edit(info),
        change.log_entry(info),
        now_us,
        backup_name=backup_name,
        max_entries=max_log_entries,
    )


@dataclass(frozen=True, slots=True)
class CreateBranch:
    """Point a new branch at a snapshot."""

    name: str
    snapshot: bytes

    @property
    def preconditions(self) -> Sequence[Precondition]:
        """The name is legal, the snapshot is known, the name is free."""
        return NameIsText(self.name), SnapshotKnown(self.snapshot), BranchAbsent(self.name)

    def edit(self, info: RepoInfo) -> RepoInfo:
        """Add the branch."""
        return replace(info, branches={**info.branches, self.name: self.snapshot})

    def log_entry(self, info: RepoInfo) -> UpdateKind:
        """Record the name."""
        return BranchCreated(self.name)


@dataclass(frozen=True, slots=True)
class DeleteBranch:
    """Forget a branch; its snapshots stay until they are collected."""

    name: str

    @property
    def preconditions(self) -> Sequence[Precondition]:
        """It exists, and is not the one every repository has."""
        return NotMain(self.name), BranchExists(self.name)

    def edit(self, info: RepoInfo) -> RepoInfo:
        """Remove the branch."""
        return replace(info, branches=_without(info.branches, self.name))

    def log_entry(self, info: RepoInfo) -> UpdateKind:
        """Record where the branch was."""
        return BranchDeleted(self.name, info.branches[self.name])


@dataclass(frozen=True, slots=True)
class ResetBranch:
    """Point a branch at any snapshot, if it is still where the user believes it to be."""

    name: str
    snapshot: bytes
    expected: bytes | None = None

    @property
    def preconditions(self) -> Sequence[Precondition]:
        """Branch and snapshot exist, and nobody moved the branch when that matters."""
        is_there = BranchExists(self.name), SnapshotKnown(self.snapshot)
        return (
            is_there if self.expected is None else (*is_there, BranchAt(self.name, self.expected))
        )

    def edit(self, info: RepoInfo) -> RepoInfo:
        """Move the branch."""
        return replace(info, branches={**info.branches, self.name: self.snapshot})

    def log_entry(self, info: RepoInfo) -> UpdateKind:
        """Record where the branch was."""
        return BranchReset(self.name, info.branches[self.name])


@dataclass(frozen=True, slots=True)
class CreateTag:
    """Give a snapshot a name for good."""

    name: str
    snapshot: bytes

    @property
    def preconditions(self) -> Sequence[Precondition]:
        """Name and feature allow it, the snapshot is known, the name was never used."""
        return (
            NameIsText(self.name),
            CREATE_TAG,
            SnapshotKnown(self.snapshot),
            TagFree(self.name),
        )

    def edit(self, info: RepoInfo) -> RepoInfo:
        """Add the tag."""
        return replace(info, tags={**info.tags, self.name: self.snapshot})

    def log_entry(self, info: RepoInfo) -> UpdateKind:
        """Record the name."""
        return TagCreated(self.name)


@dataclass(frozen=True, slots=True)
class DeleteTag:
    """Remove a tag, whose name is then spent."""

    name: str

    @property
    def preconditions(self) -> Sequence[Precondition]:
        """Tags may be deleted, and this one exists."""
        return DELETE_TAG, TagExists(self.name)

    def edit(self, info: RepoInfo) -> RepoInfo:
        """Remove the tag and remember its name."""
        return replace(
            info,
            tags=_without(info.tags, self.name),
            deleted_tags=tuple(sorted({*info.deleted_tags, self.name})),
        )

    def log_entry(self, info: RepoInfo) -> UpdateKind:
        """Record what the tag stood for."""
        return TagDeleted(self.name, info.tags[self.name])


@dataclass(frozen=True, slots=True)
class SetConfig:
    """Replace the stored configuration."""

    config: bytes | None
    """Encoded configuration; None for the default."""

    @property
    def preconditions(self) -> Sequence[Precondition]:
        """None: the last one to save wins."""
        return ()

    def edit(self, info: RepoInfo) -> RepoInfo:
        """Store the bytes."""
        return replace(info, config=self.config)

    def log_entry(self, info: RepoInfo) -> UpdateKind:
        """Record that it happened."""
        return ConfigChanged()


@dataclass(frozen=True, slots=True)
class SetMetadata:
    """Replace the metadata of the repository."""

    metadata: Mapping[str, Any]

    @property
    def preconditions(self) -> Sequence[Precondition]:
        """None: the last one to set them wins."""
        return ()

    def edit(self, info: RepoInfo) -> RepoInfo:
        """Exchange all of them."""
        return replace(info, metadata=dict(self.metadata))

    def log_entry(self, info: RepoInfo) -> UpdateKind:
        """Record that it happened."""
        return MetadataChanged()


@dataclass(frozen=True, slots=True)
class UpdateMetadata:
    """Lay some metadata over those of the repository, key by key."""

    metadata: Mapping[str, Any]

    @property
    def preconditions(self) -> Sequence[Precondition]:
        """None: whatever others set meanwhile stays, unless it has the same key."""
        return ()

    def edit(self, info: RepoInfo) -> RepoInfo:
        """Add or exchange values; those of other keys stay."""
        return replace(info, metadata={**info.metadata, **self.metadata})

    def log_entry(self, info: RepoInfo) -> UpdateKind:
        """Record that it happened."""
        return MetadataChanged()


@dataclass(frozen=True, slots=True)
class SetStatus:
    """Open or close the repository for changes: the one change that a closed repository takes."""

    status: RepoStatus

    @property
    def preconditions(self) -> Sequence[Precondition]:
        """None, not even that the repository is online."""
        return ()

    def edit(self, info: RepoInfo) -> RepoInfo:
        """Set the status."""
        return replace(info, status=self.status)

    def log_entry(self, info: RepoInfo) -> UpdateKind:
        """Record the status."""
        return RepoStatusChanged(self.status)


@dataclass(frozen=True, slots=True)
class AddSnapshot:
    """Commit: add a snapshot and move a branch from `expected_tip` to it."""

    branch: str
    entry: SnapshotEntry
    expected_tip: bytes
    rules: tuple[Precondition, ...] = ()
    """What else must hold, depending on what the snapshot changes."""

    @property
    def preconditions(self) -> Sequence[Precondition]:
        """The branch is still where the session found it, and time goes forward."""
        return (
            BranchExists(self.branch, ErrorKind.BRANCH_NOT_FOUND),
            TipIs(self.branch, self.expected_tip),
            *self.rules,
            *_fits(self.entry),
        )

    def edit(self, info: RepoInfo) -> RepoInfo:
        """Add the snapshot and move the branch."""
        return replace(
            info,
            snapshots=info.snapshots.insert(self.entry),
            branches={**info.branches, self.branch: self.entry.id},
        )

    def log_entry(self, info: RepoInfo) -> UpdateKind:
        """Record branch and snapshot."""
        return NewCommit(self.branch, self.entry.id)


@dataclass(frozen=True, slots=True)
class AmendSnapshot:
    """Amend: put a snapshot in the place of the tip of a branch.

    The former tip stays in the table of snapshots until it is collected.
    """

    branch: str
    entry: SnapshotEntry
    """Parent and pruned logs are those of the former tip, whatever stands here."""
    expected_tip: bytes
    rules: tuple[Precondition, ...] = ()
    """What else must hold, depending on what the snapshot changes."""

    @property
    def preconditions(self) -> Sequence[Precondition]:
        """The branch is still where the session found it, and time goes forward."""
        return (
            BranchExists(self.branch, ErrorKind.BRANCH_NOT_FOUND),
            TipIs(self.branch, self.expected_tip),
            NotRoot(self.expected_tip),
            *self.rules,
            SnapshotNew(self.entry.id),
            WrittenAfterParent(self.entry.id, self.expected_tip, self.entry.flushed_at),
        )

    def edit(self, info: RepoInfo) -> RepoInfo:
        """Add the snapshot beside the former tip, and move the branch."""
        tip = info.snapshots.info(self.expected_tip)
        entry = replace(self.entry, parent_id=tip.parent_id, pruned=tip.pruned)
        return replace(
            info,
            snapshots=info.snapshots.insert(entry),
            branches={**info.branches, self.branch: entry.id},
        )

    def log_entry(self, info: RepoInfo) -> UpdateKind:
        """Record branch, former and new tip."""
        return CommitAmended(self.branch, self.expected_tip, self.entry.id)


@dataclass(frozen=True, slots=True)
class AddDetachedSnapshot:
    """Add a snapshot that no branch points to."""

    entry: SnapshotEntry
    rules: tuple[Precondition, ...] = ()
    """What else must hold, depending on what the snapshot changes."""

    @property
    def preconditions(self) -> Sequence[Precondition]:
        """Time goes forward."""
        return (*self.rules, *_fits(self.entry))

    def edit(self, info: RepoInfo) -> RepoInfo:
        """Add the snapshot."""
        return replace(info, snapshots=info.snapshots.insert(self.entry))

    def log_entry(self, info: RepoInfo) -> UpdateKind:
        """Record the snapshot."""
        return NewDetachedSnapshot(self.entry.id)


def _fits(entry: SnapshotEntry) -> tuple[Precondition, ...]:
    """Rules for a snapshot to enter the history."""
    if entry.parent_id is None:
        return (SnapshotNew(entry.id),)
    return (
        SnapshotNew(entry.id),
        SnapshotKnown(entry.parent_id),
        WrittenAfterParent(entry.id, entry.parent_id, entry.flushed_at),
    )


def _without(refs: Mapping[str, bytes], name: str) -> dict[str, bytes]:
    return {other: snapshot for other, snapshot in refs.items() if other != name}

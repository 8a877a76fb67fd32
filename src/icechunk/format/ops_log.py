"""What the operations log of a repository records: one frozen record per kind of operation.

`UPDATE_RECORDS` ties each record to its number in files. Icechunk spec, "Operations log".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

__all__ = [
    "UPDATE_NUMBERS",
    "UPDATE_RECORDS",
    "Availability",
    "BranchCreated",
    "BranchDeleted",
    "BranchReset",
    "CommitAmended",
    "ConfigChanged",
    "ExpirationRan",
    "FeatureFlagChanged",
    "GCRan",
    "MetadataChanged",
    "NewCommit",
    "NewDetachedSnapshot",
    "RepoInitialized",
    "RepoMigrated",
    "RepoStatus",
    "RepoStatusChanged",
    "TagCreated",
    "TagDeleted",
    "UnknownUpdate",
    "UpdateEntry",
    "UpdateKind",
]


class Availability(IntEnum):
    """Who may use a repository."""

    ONLINE = 0
    READ_ONLY = 1
    OFFLINE = 2


@dataclass(frozen=True, slots=True)
class RepoStatus:
    """Whether a repository accepts changes, since when, and why not."""

    availability: int = Availability.ONLINE
    """An `Availability`; a number no version of the spec defines is kept as it is."""
    set_at: int = 0
    """Microseconds since the epoch."""
    reason: str | None = None

    @property
    def is_online(self) -> bool:
        """Whether changes are accepted. What is neither online nor known is treated as closed."""
        return self.availability == Availability.ONLINE


@dataclass(frozen=True, slots=True)
class RepoInitialized:
    """The repository was created."""


@dataclass(frozen=True, slots=True)
class RepoMigrated:
    """The repository was brought to another spec version."""

    from_version: int
    to_version: int


@dataclass(frozen=True, slots=True)
class ConfigChanged:
    """The persisted configuration was saved."""


@dataclass(frozen=True, slots=True)
class MetadataChanged:
    """The repository's own metadata was set."""


@dataclass(frozen=True, slots=True)
class TagCreated:
    """A tag was created."""

    name: str


@dataclass(frozen=True, slots=True)
class TagDeleted:
    """A tag was deleted."""

    name: str
    previous_snap_id: bytes


@dataclass(frozen=True, slots=True)
class BranchCreated:
    """A branch was created."""

    name: str


@dataclass(frozen=True, slots=True)
class BranchDeleted:
    """A branch was deleted."""

    name: str
    previous_snap_id: bytes


@dataclass(frozen=True, slots=True)
class BranchReset:
    """A branch was pointed at another snapshot."""

    name: str
    previous_snap_id: bytes


@dataclass(frozen=True, slots=True)
class NewCommit:
    """A commit was added to a branch."""

    branch: str
    new_snap_id: bytes


@dataclass(frozen=True, slots=True)
class CommitAmended:
    """The newest commit of a branch was exchanged."""

    branch: str
    previous_snap_id: bytes
    new_snap_id: bytes


@dataclass(frozen=True, slots=True)
class NewDetachedSnapshot:
    """A snapshot was written that no branch points to."""

    new_snap_id: bytes


@dataclass(frozen=True, slots=True)
class GCRan:
    """Garbage was collected."""


@dataclass(frozen=True, slots=True)
class ExpirationRan:
    """Old snapshots were expired."""


@dataclass(frozen=True, slots=True)
class FeatureFlagChanged:
    """A feature was enabled, disabled, or returned to its default (`is_set` False)."""

    id: int
    new_value: bool
    is_set: bool


@dataclass(frozen=True, slots=True)
class RepoStatusChanged:
    """The status of the repository was set."""

    status: RepoStatus


@dataclass(frozen=True, slots=True)
class UnknownUpdate:
    """An operation of a later spec: can be listed by its number, but not written back."""

    discriminant: int


UpdateKind = (
    RepoInitialized
    | RepoMigrated
    | ConfigChanged
    | MetadataChanged
    | TagCreated
    | TagDeleted
    | BranchCreated
    | BranchDeleted
    | BranchReset
    | NewCommit
    | CommitAmended
    | NewDetachedSnapshot
    | GCRan
    | ExpirationRan
    | FeatureFlagChanged
    | RepoStatusChanged
    | UnknownUpdate
)


@dataclass(frozen=True, slots=True)
class UpdateEntry:
    """One line of the operations log."""

    kind: UpdateKind
    updated_at: int
    """Microseconds since the epoch; strictly increasing from entry to newer entry."""
    backup_path: str | None = None
    """Name of the copy of the repo info object whose newest entry this is; None for the newest."""


#: The record of each union discriminant. Field names are those of the flatbuffer tables.
UPDATE_RECORDS: Mapping[int, type[UpdateKind]] = {
    1: RepoInitialized,
    2: RepoMigrated,
    3: ConfigChanged,
    4: MetadataChanged,
    5: TagCreated,
    6: TagDeleted,
    7: BranchCreated,
    8: BranchDeleted,
    9: BranchReset,
    10: NewCommit,
    11: CommitAmended,
    12: NewDetachedSnapshot,
    13: GCRan,
    14: ExpirationRan,
    15: FeatureFlagChanged,
    16: RepoStatusChanged,
}
UPDATE_NUMBERS: Mapping[type[UpdateKind], int] = {
    record: number for number, record in UPDATE_RECORDS.items()
}

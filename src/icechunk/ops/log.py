"""Public records of the operations log: what was done to a repository, and when."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import ClassVar

from icechunk._display import Block, Shown, datetime_text
from icechunk.errors import ErrorKind, FormatError
from icechunk.format.ids import encode_id
from icechunk.format.ops_log import (
    FeatureFlagChanged,
    RepoStatusChanged,
    UnknownUpdate,
    UpdateEntry,
    UpdateKind,
)
from icechunk.repo.status import RepoStatus, public_status
from icechunk.repo.times import to_datetime

__all__ = ["Update", "UpdateType"]


class UpdateType:
    """Base of the kinds of update, which are its attributes: ``UpdateType.NewCommit`` and so on."""

    __slots__ = ()

    RepoInitialized: ClassVar[type[_RepoInitialized]]
    RepoMigrated: ClassVar[type[_RepoMigrated]]
    RepoStatusChanged: ClassVar[type[_RepoStatusChanged]]
    ConfigChanged: ClassVar[type[_ConfigChanged]]
    MetadataChanged: ClassVar[type[_MetadataChanged]]
    FeatureFlagChanged: ClassVar[type[_FeatureFlagChanged]]
    TagCreated: ClassVar[type[_TagCreated]]
    TagDeleted: ClassVar[type[_TagDeleted]]
    BranchCreated: ClassVar[type[_BranchCreated]]
    BranchDeleted: ClassVar[type[_BranchDeleted]]
    BranchReset: ClassVar[type[_BranchReset]]
    NewCommit: ClassVar[type[_NewCommit]]
    CommitAmended: ClassVar[type[_CommitAmended]]
    NewDetachedSnapshot: ClassVar[type[_NewDetachedSnapshot]]
    ExpirationRan: ClassVar[type[_ExpirationRan]]
    GCRan: ClassVar[type[_GCRan]]

    def __repr__(self) -> str:
        values = [(f.name, getattr(self, f.name)) for f in fields(self)]  # type: ignore[arg-type]
        inner = ", ".join(f"{name}={_quoted(value)}" for name, value in values)
        return f"icechunk.ops.{type(self).__qualname__}({inner})"


def _quoted(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value).rstrip("\n")


@dataclass(frozen=True, slots=True, repr=False)
class _RepoInitialized(UpdateType):
    """The repository was created."""


@dataclass(frozen=True, slots=True, repr=False)
class _RepoMigrated(UpdateType):
    """The repository was brought to a later version of the format."""

    from_version: int
    to_version: int


@dataclass(frozen=True, slots=True, repr=False)
class _RepoStatusChanged(UpdateType):
    """The repository was opened or closed for changes."""

    status: RepoStatus


@dataclass(frozen=True, slots=True, repr=False)
class _ConfigChanged(UpdateType):
    """The stored configuration was replaced."""


@dataclass(frozen=True, slots=True, repr=False)
class _MetadataChanged(UpdateType):
    """The metadata of the repository was replaced."""


@dataclass(frozen=True, slots=True, repr=False)
class _FeatureFlagChanged(UpdateType):
    """A feature was switched on, off, or back to its default (None)."""

    id: int
    new_value: bool | None


@dataclass(frozen=True, slots=True, repr=False)
class _TagCreated(UpdateType):
    """A tag was created."""

    name: str


@dataclass(frozen=True, slots=True, repr=False)
class _TagDeleted(UpdateType):
    """A tag was deleted."""

    name: str
    previous_snap_id: str


@dataclass(frozen=True, slots=True, repr=False)
class _BranchCreated(UpdateType):
    """A branch was created."""

    name: str


@dataclass(frozen=True, slots=True, repr=False)
class _BranchDeleted(UpdateType):
    """A branch was deleted."""

    name: str
    previous_snap_id: str


@dataclass(frozen=True, slots=True, repr=False)
class _BranchReset(UpdateType):
    """A branch was pointed to another snapshot."""

    name: str
    previous_snap_id: str


@dataclass(frozen=True, slots=True, repr=False)
class _NewCommit(UpdateType):
    """A snapshot was committed to a branch."""

    branch: str
    new_snap_id: str


@dataclass(frozen=True, slots=True, repr=False)
class _CommitAmended(UpdateType):
    """The tip of a branch was replaced by another version of itself."""

    branch: str
    previous_snap_id: str
    new_snap_id: str


@dataclass(frozen=True, slots=True, repr=False)
class _NewDetachedSnapshot(UpdateType):
    """A snapshot was written that no branch points to."""

    new_snap_id: str


@dataclass(frozen=True, slots=True, repr=False)
class _ExpirationRan(UpdateType):
    """Old snapshots were expired."""


@dataclass(frozen=True, slots=True, repr=False)
class _GCRan(UpdateType):
    """Unreachable objects were removed."""


_KINDS: tuple[type[UpdateType], ...] = (
    _RepoInitialized,
    _RepoMigrated,
    _RepoStatusChanged,
    _ConfigChanged,
    _MetadataChanged,
    _FeatureFlagChanged,
    _TagCreated,
    _TagDeleted,
    _BranchCreated,
    _BranchDeleted,
    _BranchReset,
    _NewCommit,
    _CommitAmended,
    _NewDetachedSnapshot,
    _ExpirationRan,
    _GCRan,
)

for _kind in _KINDS:
    # Public as attributes of UpdateType, and so are their reprs and pickles.
    _kind.__name__ = _kind.__name__.removeprefix("_")
    _kind.__qualname__ = f"UpdateType.{_kind.__name__}"
    setattr(UpdateType, _kind.__name__, _kind)


@dataclass(frozen=True, slots=True, repr=False)
class Update(Shown):
    """One entry of the operations log."""

    kind: UpdateType
    """What was done."""
    updated_at: datetime
    """When, in UTC."""
    backup_path: str | None
    """Name of the copy of the repository's state right after this update; None for the newest."""

    @classmethod
    def _of(cls, entry: UpdateEntry) -> Update:
        return cls(_public(entry.kind), to_datetime(entry.updated_at), entry.backup_path)

    def _block(self) -> Block:
        return Block.of(
            "icechunk.ops.Update",
            {
                "kind": self.kind,
                "updated_at": datetime_text(self.updated_at),
                "backup_path": self.backup_path,
            },
        )


def _public(kind: UpdateKind) -> UpdateType:
    """Translate a record of the engine: same name, same fields, ids as text."""
    match kind:
        case UnknownUpdate():
            raise FormatError(
                f"the operations log holds an update of kind {kind.discriminant}, unknown to this"
                " library: upgrade it to read the log",
                ErrorKind.DESERIALIZATION,
            )
        case FeatureFlagChanged():
            return _FeatureFlagChanged(kind.id, kind.new_value if kind.is_set else None)
        case RepoStatusChanged():
            return _RepoStatusChanged(public_status(kind.status))
    public = getattr(UpdateType, type(kind).__name__)
    values = (getattr(kind, field.name) for field in fields(kind))
    made = public(*(encode_id(v) if isinstance(v, bytes) else v for v in values))
    assert isinstance(made, UpdateType)
    return made

"""What must hold for a change to be applied: one frozen record per rule, checked against the state.

Rules are checked again on every attempt to swap the state in, against the state that attempt starts
from; so a rule that holds at the swap held all the time. Each raises the error a user should see.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from icechunk.errors import (
    AlreadyExistsError,
    ConflictError,
    ErrorKind,
    FormatError,
    InvalidInputError,
    ReadOnlyError,
    RefNotFoundError,
    SessionStateError,
    SnapshotNotFoundError,
)
from icechunk.format.ids import encode_id
from icechunk.repo.state import RepoState
from icechunk.repo.times import time_text

__all__ = [
    "BranchAbsent",
    "BranchAt",
    "BranchExists",
    "FeatureEnabled",
    "IsOnline",
    "NameIsText",
    "NotMain",
    "NotRoot",
    "Precondition",
    "SnapshotKnown",
    "SnapshotNew",
    "TagExists",
    "TagFree",
    "TipIs",
    "WrittenAfterParent",
]

MAIN: Final = "main"


class Precondition(Protocol):
    """A rule about the state a change starts from."""

    def check(self, info: RepoState) -> None:
        """Raise the error that tells the user which rule is broken, and how."""
        ...


@dataclass(frozen=True, slots=True)
class IsOnline:
    """The repository takes changes."""

    purpose: str = ""
    """What was to be done, when it is not an update."""

    def check(self, info: RepoState) -> None:
        """Refuse everything that is not plainly online."""
        status = info.status
        if status.is_online:
            return
        name = _AVAILABILITY.get(status.availability, f"unknown ({status.availability})")
        reason = "None" if status.reason is None else f'Some("{status.reason}")'
        purpose = f"{self.purpose}; " if self.purpose else ""
        raise ReadOnlyError(
            f"the repository status is read-only: {purpose}Repo status is {name},"
            f" set at {time_text(status.set_at)}, reason: {reason}",
            ErrorKind.READ_ONLY_REPOSITORY,
        )


_AVAILABILITY: Final = {1: "ReadOnly", 2: "Offline"}


@dataclass(frozen=True, slots=True)
class FeatureEnabled:
    """A feature has not been switched off for this repository."""

    flag: int
    name: str
    action: str

    def check(self, info: RepoState) -> None:
        """Let enabled win over disabled, as the spec has it; features are on by default."""
        if self.flag in (info.enabled_feature_flags or ()):
            return
        if self.flag in (info.disabled_feature_flags or ()):
            raise SessionStateError(
                f"{self.action} is disabled by a feature flag ({self.name})",
                ErrorKind.FEATURE_FLAG_DISABLED,
            )


@dataclass(frozen=True, slots=True)
class BranchExists:
    """There is a branch of that name."""

    name: str
    kind: ErrorKind = ErrorKind.REF_NOT_FOUND

    def check(self, info: RepoState) -> None:
        """Name the missing branch."""
        if self.name not in info.branches:
            what = "branch" if self.kind == ErrorKind.BRANCH_NOT_FOUND else "ref"
            raise RefNotFoundError(f"{what} not found `{self.name}`", self.kind)


@dataclass(frozen=True, slots=True)
class BranchAbsent:
    """There is no branch of that name yet."""

    name: str

    def check(self, info: RepoState) -> None:
        """Tell where the existing branch points."""
        tip = info.branches.get(self.name)
        if tip is not None:
            raise AlreadyExistsError(
                f"branch already exists `{self.name} -> {encode_id(tip)}`",
                ErrorKind.BRANCH_ALREADY_EXISTS,
            )


@dataclass(frozen=True, slots=True)
class NameIsText:
    """The name of a new branch or tag can be written to a file; any other rule is the user's."""

    name: str

    def check(self, info: RepoState) -> None:
        """Refuse lone surrogates."""
        try:
            self.name.encode()
        except UnicodeEncodeError as error:
            raise InvalidInputError(
                f"invalid name {self.name!r}: it is not valid Unicode text",
                ErrorKind.INVALID_REF_NAME,
            ) from error


@dataclass(frozen=True, slots=True)
class NotMain:
    """The branch is not the one every repository has."""

    name: str

    def check(self, info: RepoState) -> None:
        """Protect ``main``."""
        if self.name == MAIN:
            raise SessionStateError("main branch cannot be deleted", ErrorKind.CANNOT_DELETE_MAIN)


@dataclass(frozen=True, slots=True)
class NotRoot:
    """The snapshot is not the first one, which nothing can take the place of."""

    snapshot: bytes

    def check(self, info: RepoState) -> None:
        """Ask for a commit instead."""
        table = info.snapshots
        if table.parent_id(table.row(self.snapshot)) is None:
            raise SessionStateError(
                f"cannot amend the first snapshot {encode_id(self.snapshot)} of the repository:"
                " commit instead",
                ErrorKind.NO_AMEND_FOR_INITIAL_COMMIT,
            )


@dataclass(frozen=True, slots=True)
class TipIs:
    """Nobody has committed to the branch since the session started."""

    branch: str
    snapshot: bytes

    def check(self, info: RepoState) -> None:
        """Report a lost race at once: trying again cannot win it."""
        tip = info.branches[self.branch]
        if tip != self.snapshot:
            raise ConflictError(
                expected_parent=encode_id(self.snapshot), actual_parent=encode_id(tip)
            )


@dataclass(frozen=True, slots=True)
class BranchAt:
    """The branch is where the user believes it to be."""

    branch: str
    snapshot: bytes

    def check(self, info: RepoState) -> None:
        """Report where the branch really is."""
        tip = info.branches[self.branch]
        if tip != self.snapshot:
            expected, actual = encode_id(self.snapshot), encode_id(tip)
            raise ConflictError(
                expected_parent=expected,
                actual_parent=actual,
                message=f"branch update conflict: `(Some({expected})) != (Some({actual}))`,"
                f" branch `{self.branch}` was moved in the meantime",
                kind=ErrorKind.BRANCH_UPDATE_CONFLICT,
            )


@dataclass(frozen=True, slots=True)
class TagExists:
    """There is a tag of that name."""

    name: str

    def check(self, info: RepoState) -> None:
        """Name the missing tag."""
        if self.name not in info.tags:
            raise RefNotFoundError(f"ref not found `{self.name}`", ErrorKind.REF_NOT_FOUND)


@dataclass(frozen=True, slots=True)
class TagFree:
    """The name was never given to a tag: a tag means one snapshot forever, even once deleted."""

    name: str

    def check(self, info: RepoState) -> None:
        """Tell a tag that exists from one that did."""
        if self.name in info.tags:
            raise AlreadyExistsError(
                f"tag already exists `{self.name}`", ErrorKind.TAG_ALREADY_EXISTS
            )
        if self.name in info.deleted_tags:
            raise AlreadyExistsError(
                f"tag names are never reused, and tag `{self.name}` was deleted",
                ErrorKind.TAG_PREVIOUSLY_DELETED,
            )


@dataclass(frozen=True, slots=True)
class SnapshotKnown:
    """The snapshot is part of the repository."""

    id: bytes

    def check(self, info: RepoState) -> None:
        """Name the missing snapshot."""
        if self.id not in info.snapshots:
            raise SnapshotNotFoundError(
                f"snapshot id not found `{encode_id(self.id)}`", ErrorKind.SNAPSHOT_NOT_FOUND
            )


@dataclass(frozen=True, slots=True)
class SnapshotNew:
    """No snapshot of the repository has that id."""

    id: bytes

    def check(self, info: RepoState) -> None:
        """Refuse to add a snapshot twice."""
        if self.id in info.snapshots:
            raise FormatError(
                f"snapshot id `{encode_id(self.id)}` is already part of the repository",
                ErrorKind.DUPLICATE_SNAPSHOT_ID,
            )


@dataclass(frozen=True, slots=True)
class WrittenAfterParent:
    """A snapshot is younger than the one it was made from: history is ordered by time."""

    id: bytes
    parent: bytes
    flushed_at: int

    def check(self, info: RepoState) -> None:
        """Compare with what the repository recorded for the parent."""
        parent = info.snapshots.info(self.parent)
        if self.flushed_at <= parent.flushed_at:
            raise FormatError(
                f"snapshot timestamp is invalid: `{encode_id(self.id)}` was written at"
                f" {time_text(self.flushed_at)}, its parent `{encode_id(self.parent)}` at"
                f" {time_text(parent.flushed_at)}; set the clock of this machine",
                ErrorKind.SNAPSHOT_TIMESTAMP,
            )

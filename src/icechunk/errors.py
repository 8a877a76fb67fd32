"""The exception tree: one base, grouped by what a handler would do about an error.

Every exception carries `message`, the text that names the object an error is about and says what
to do, and `kind`, a stable code for programs. Classes of the tree are public as
`icechunk.NotFoundError` and so on, and report that module. This module knows nothing about the
engine: layers raise, nobody translates here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from enum import StrEnum
from types import TracebackType
from typing import Any

_operations = logging.getLogger("icechunk.operations")


class ErrorKind(StrEnum):
    """Stable codes telling one failure from another, for programs that react to errors.

    Members compare equal to their text. Codes are only ever added, never renamed.
    """

    # somebody else was faster
    COMMIT_CONFLICT = "commit-conflict"
    BRANCH_UPDATE_CONFLICT = "branch-update-conflict"
    REBASE_FAILED = "rebase-failed"
    CONFIG_UPDATED = "config-updated"
    REPO_INFO_UPDATED = "repo-info-updated"
    UPDATE_ATTEMPTS_EXHAUSTED = "update-attempts-exhausted"
    # not there
    NODE_NOT_FOUND = "node-not-found"
    ANCESTOR_NODE_NOT_FOUND = "ancestor-node-not-found"
    CHUNK_NOT_FOUND = "chunk-not-found"
    KEY_NOT_FOUND = "key-not-found"
    SNAPSHOT_NOT_FOUND = "snapshot-not-found"
    NO_SNAPSHOT_AT_TIME = "no-snapshot-at-time"
    REF_NOT_FOUND = "ref-not-found"
    BRANCH_NOT_FOUND = "branch-not-found"
    TAG_NOT_FOUND = "tag-not-found"
    REPOSITORY_NOT_FOUND = "repository-not-found"
    # there already
    NODE_ALREADY_EXISTS = "node-already-exists"
    BRANCH_ALREADY_EXISTS = "branch-already-exists"
    TAG_ALREADY_EXISTS = "tag-already-exists"
    TAG_PREVIOUSLY_DELETED = "tag-previously-deleted"
    MOVE_WONT_OVERWRITE = "move-wont-overwrite"
    # read only
    READ_ONLY_SESSION = "read-only-session"
    READ_ONLY_STORE = "read-only-store"
    READ_ONLY_STORAGE = "read-only-storage"
    READ_ONLY_REPOSITORY = "read-only-repository"
    # invalid input
    INVALID_KEY = "invalid-key"
    INVALID_CHUNK_INDEX = "invalid-chunk-index"
    ZERO_LENGTH_CHUNK = "zero-length-chunk"
    INVALID_MANIFEST_SPLIT_INDEX = "invalid-manifest-split-index"
    INVALID_REF_TYPE = "invalid-ref-type"
    INVALID_REF_NAME = "invalid-ref-name"
    INVALID_SNAPSHOT_ID = "invalid-snapshot-id"
    INVALID_PATH = "invalid-path"
    BAD_KEY_PREFIX = "bad-key-prefix"
    BAD_METADATA = "bad-metadata"
    BAD_PREFIX = "bad-prefix"
    NOT_AN_ARRAY = "not-an-array"
    NOT_A_GROUP = "not-a-group"
    INVALID_BYTE_RANGE = "invalid-byte-range"
    INVALID_COMMIT_CONFIGURATION = "invalid-commit-configuration"
    INVALID_ARRAY_METADATA = "invalid-array-metadata"
    INVALID_FEATURE_FLAG = "invalid-feature-flag"
    INVALID_VIRTUAL_REF = "invalid-virtual-ref"
    INVALID_CREDENTIALS = "invalid-credentials"
    NO_CONTAINER_FOR_VIRTUAL_CHUNK = "no-container-for-virtual-chunk"
    UNAUTHORIZED_VIRTUAL_CHUNK_CONTAINER = "unauthorized-virtual-chunk-container"
    EMPTY_PREFIX_CREATION = "empty-prefix-creation"
    PARENT_DIRECTORY_NOT_CLEAN = "parent-directory-not-clean"
    BAD_SNAPSHOT_CHAIN_FOR_DIFF = "bad-snapshot-chain-for-diff"
    # not allowed in this state of the session or repository
    COMMIT_NOT_ALLOWED = "commit-not-allowed"
    MERGE_NOT_ALLOWED = "merge-not-allowed"
    CANNOT_FORK_READ_ONLY_SESSION = "cannot-fork-read-only-session"
    REARRANGE_SESSION_ONLY = "rearrange-session-only"
    NON_REARRANGE_SESSION = "non-rearrange-session"
    MOVE_INTO_SELF_OR_DESCENDANT = "move-into-self-or-descendant"
    MOVE_DESTINATION_PARENT_MISSING = "move-destination-parent-missing"
    MOVE_DESTINATION_PARENT_NOT_GROUP = "move-destination-parent-not-group"
    NO_CHANGES_TO_COMMIT = "no-changes-to-commit"
    NO_AMEND_FOR_INITIAL_COMMIT = "no-amend-for-initial-commit"
    NOT_ON_BRANCH = "not-on-branch"
    NO_SNAPSHOT = "no-snapshot"
    CANNOT_DELETE_MAIN = "cannot-delete-main"
    UNCOMMITTED_CHANGES = "uncommitted-changes"
    MERGE_FAILED = "merge-failed"
    NOT_ALLOWED = "not-allowed"
    UNIMPLEMENTED = "unimplemented"
    REBASE_TX_LOG_PRUNED = "rebase-tx-log-pruned"
    FEATURE_FLAG_DISABLED = "feature-flag-disabled"
    TAG_ERROR = "tag-error"
    INVALID_REPOSITORY_MIGRATION = "invalid-repository-migration"
    # storage and its surroundings
    OBJECT_NOT_FOUND = "object-not-found"
    OBJECT_STORE = "object-store"
    IO = "io"
    STORAGE_CONFIG = "storage-config"
    CANNOT_PARSE_URL = "cannot-parse-url"
    BAD_REDIRECT = "bad-redirect"
    SEMAPHORE_ACQUIRE = "semaphore-acquire"
    THROTTLED = "throttled"
    STORAGE_OTHER = "storage-other"
    VIRTUAL_CHUNK_FETCH = "virtual-chunk-fetch"
    VIRTUAL_CHUNK_MODIFIED = "virtual-chunk-modified"
    INVALID_OBJECT_SIZE = "invalid-object-size"
    GC_DELETES_FAILING = "gc-deletes-failing"
    # bytes that cannot be understood
    SERIALIZATION = "serialization"
    DESERIALIZATION = "deserialization"
    CONFIG_DESERIALIZATION = "config-deserialization"
    INVALID_FILE_FORMAT = "invalid-file-format"
    UNSUPPORTED_SPEC_VERSION = "unsupported-spec-version"
    UNSUPPORTED_OPERATION_FOR_VERSION = "unsupported-operation-for-version"
    SNAPSHOT_TIMESTAMP = "snapshot-timestamp"
    DUPLICATE_SNAPSHOT_ID = "duplicate-snapshot-id"
    MANIFEST_INFO_NOT_FOUND = "manifest-info-not-found"
    # our own mistakes
    CONCURRENCY = "concurrency"
    FLUSH = "flush"
    PARTIAL_VALUES_PANIC = "partial-values-panic"
    CONFLICTING_PATH_NOT_FOUND = "conflicting-path-not-found"
    INCONSISTENT_MANIFESTS = "inconsistent-manifests"
    POISON_LOCK = "poison-lock"
    PICKLE = "pickle"
    UNKNOWN = "unknown"


def _all_error_kinds() -> list[str]:
    """Codes of every kind, as plain text."""
    return [kind.value for kind in ErrorKind]


class IcechunkError(Exception):
    """Base of everything Icechunk raises, so that one handler can catch all of it.

    Parameters
    ----------
    message
        What happened, to which object, and what to do about it. Also what ``str()`` returns.
    kind
        One of the codes of `ErrorKind`.
    """

    __module__ = "icechunk"

    message: str
    kind: str

    def __init__(self, message: str, kind: str = ErrorKind.UNKNOWN) -> None:
        if not isinstance(message, str):
            raise TypeError(f"error message must be str, not {type(message).__name__}")
        super().__init__(message, kind)
        self.args = (message, kind)  # the whole constructor call: what a pickle replays
        self.message = message
        self.kind = str(kind)

    def __str__(self) -> str:
        return self.message

    def __repr__(self) -> str:
        return f'icechunk.{type(self).__name__}(message="{self.message}", kind="{self.kind}")'

    def add_context(self, operation: str, /, **values: object) -> None:
        """Append a line to the message's ``context:`` section, telling what was being done.

        Called from the innermost operation outwards, while the error travels up.
        """
        details = " ".join(f"{name}={value}" for name, value in values.items())
        head, found, lines = self.message.partition(_CONTEXT_HEADER)
        number = len(lines.splitlines())
        line = f"{number:4d}: {operation}" + (f" with {details}" if details else "")
        if found:
            lines += "\n"
        before, self.message = self.message, f"{head}{_CONTEXT_HEADER}{lines}{line}"
        self.args = tuple(self.message if arg is before else arg for arg in self.args)


_CONTEXT_HEADER = "\n\ncontext:\n"


class ConflictError(IcechunkError):
    """Somebody else committed first, so the branch is not where this session started.

    Parameters
    ----------
    expected_parent
        Id of the snapshot this session was built on.
    actual_parent
        Id of the snapshot the branch points to now.
    """

    __module__ = "icechunk"

    expected_parent: str | None
    actual_parent: str | None

    def __init__(
        self,
        expected_parent: str | None = None,
        actual_parent: str | None = None,
        message: str | None = None,
        kind: str | None = None,
    ) -> None:
        if message is None:
            message = (
                f"Failed to commit, expected parent: {_optional(expected_parent)}, "
                f"actual parent: {_optional(actual_parent)}"
            )
        if kind is None:
            kind = ErrorKind.COMMIT_CONFLICT
        super().__init__(message, kind)
        self.args = (expected_parent, actual_parent, message, kind)
        self.expected_parent = expected_parent
        self.actual_parent = actual_parent

    def __repr__(self) -> str:
        return (
            f"icechunk.{type(self).__name__}(expected_parent={self.expected_parent}, "
            f"actual_parent={self.actual_parent})"
        )


class RebaseFailedError(ConflictError):
    """Rebasing met conflicts that the chosen solver could not resolve.

    Parameters
    ----------
    snapshot
        Id of the snapshot our changes conflict with.
    conflicts
        What clashed, in the order it was found.
    """

    __module__ = "icechunk"

    snapshot: str
    conflicts: list[Any]

    def __init__(self, snapshot: str, conflicts: Iterable[Any]) -> None:
        conflicts = list(conflicts)
        super().__init__(
            message=f"Rebase failed on snapshot {snapshot}: {len(conflicts)} conflicts found",
            kind=ErrorKind.REBASE_FAILED,
        )
        self.args = (snapshot, conflicts)
        self.snapshot = snapshot
        self.conflicts = conflicts

    def __repr__(self) -> str:
        return f'icechunk.RebaseFailedError(snapshot="{self.snapshot}", conflicts={self.conflicts})'


class NotFoundError(IcechunkError, KeyError):
    """What was asked for does not exist; also a `KeyError`."""

    __module__ = "icechunk"


class NodeNotFoundError(NotFoundError):
    """No group, array, chunk or store key lives at that path."""

    __module__ = "icechunk"


class SnapshotNotFoundError(NotFoundError):
    """The repository has no snapshot with that id, or none at that time."""

    __module__ = "icechunk"


class RefNotFoundError(NotFoundError):
    """The repository has no branch or tag of that name."""

    __module__ = "icechunk"


class RepositoryNotFoundError(NotFoundError):
    """The storage holds no Icechunk repository."""

    __module__ = "icechunk"


class AlreadyExistsError(IcechunkError):
    """What was to be created is there already: a node, branch, tag or move destination."""

    __module__ = "icechunk"


class ReadOnlyError(IcechunkError):
    """Something was written through a session, store, storage or repository that only reads."""

    __module__ = "icechunk"


class InvalidInputError(IcechunkError, ValueError):
    """An argument, key, index or piece of metadata makes no sense; also a `ValueError`."""

    __module__ = "icechunk"


class SessionStateError(IcechunkError):
    """The session or repository is in a state that does not allow the operation."""

    __module__ = "icechunk"


class StorageError(IcechunkError):
    """The storage failed, refused or is misconfigured; trying again may help."""

    __module__ = "icechunk"


class FormatError(IcechunkError):
    """Stored bytes are damaged, or of a format or version this library cannot handle."""

    __module__ = "icechunk"

    damage: str | None = None
    """The code of the fault that a verification reports for it, where the reader could tell."""


class InternalError(IcechunkError):
    """Icechunk contradicted itself; worth a bug report."""

    __module__ = "icechunk"


class operation:  # noqa: N801  (reads as a statement: ``with operation("fetch_manifest", id=...)``)
    """Name what is being done, for the log and for the context of an error that leaves the block.

    Conflicts pass untouched: they are an answer, not a failure.
    """

    __slots__ = ("_name", "_values")

    def __init__(self, name: str, /, **values: object) -> None:
        self._name = name
        self._values = values

    def __enter__(self) -> None:
        if _operations.isEnabledFor(logging.DEBUG):
            values = "".join(f" {name}={value}" for name, value in self._values.items())
            _operations.debug("%s%s", self._name, values)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, IcechunkError) and not isinstance(error, ConflictError):
            error.add_context(self._name, **self._values)


def _optional(snapshot_id: str | None) -> str:
    return "None" if snapshot_id is None else f'Some("{snapshot_id}")'

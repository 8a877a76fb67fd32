"""Sessions: a view of one snapshot, with edits that stay private until they are committed."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NoReturn

from icechunk._display import Block, Shown
from icechunk._threads import in_thread
from icechunk.changes.change_set import ChangeSet
from icechunk.changes.commit import write_snapshot
from icechunk.changes.diff import Diff, diff_of
from icechunk.changes.log import transaction_log
from icechunk.changes.merge import OverlapPolicy, merge
from icechunk.changes.workspace import Workspace
from icechunk.config import RepositoryConfig
from icechunk.errors import (
    ErrorKind,
    ReadOnlyError,
    SessionStateError,
)
from icechunk.format.ids import encode_id
from icechunk.format.repo_info import SnapshotEntry
from icechunk.format.snapshot import Snapshot
from icechunk.format.values import to_plain
from icechunk.repo.context import RepoContext

if TYPE_CHECKING:
    from icechunk.store import IcechunkStore

FORK_MESSAGE = "fork"


class SessionMode(IntEnum):
    """What a session may do."""

    readonly = 0
    writable = 1
    rearrange = 2

    def __repr__(self) -> str:
        return f"SessionMode.{self.name}"

    __str__ = __repr__


class Session(Shown):
    """A view of a repository at one snapshot, and edits on top of it.

    Made by `Repository.readonly_session` and `Repository.writable_session`. Reads through `store`
    see the session's own uncommitted edits at once; others see them after `commit`. A session may
    be used from many threads. Read-only sessions can be pickled; to write from other processes,
    pickle a `fork` and `merge` it back.
    """

    _is_fork = False

    def __init__(
        self,
        workspace: Workspace,
        *,
        branch: str | None,
        read_only: bool,
        default_metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self._workspace = workspace
        self._branch = branch
        self._read_only = read_only
        self._default_metadata = dict(default_metadata or {})

    @classmethod
    def readonly(cls, context: RepoContext, snapshot_id: bytes) -> Session:
        """Open a snapshot for reading."""
        return cls(Workspace(context, snapshot_id), branch=None, read_only=True)

    @classmethod
    def writable(
        cls,
        context: RepoContext,
        branch: str,
        snapshot_id: bytes,
        default_metadata: Mapping[str, Any],
    ) -> Session:
        """Open the tip of a branch for writing."""
        return cls(
            Workspace(context, snapshot_id),
            branch=branch,
            read_only=False,
            default_metadata=default_metadata,
        )

    # --- what it is ----------------------------------------------------------------------------

    @property
    def read_only(self) -> bool:
        """Whether writes are refused; a session becomes read-only by its commit."""
        return self._read_only

    @property
    def mode(self) -> SessionMode:
        """Whether the session can commit: only a session on a branch is ``writable``."""
        return SessionMode.readonly if self._branch is None else SessionMode.writable

    @property
    def snapshot_id(self) -> str:
        """Id of the snapshot the session is based on."""
        return encode_id(self._workspace.snapshot_id)

    @property
    def branch(self) -> str | None:
        """Branch that `commit` moves, None for read-only sessions and forks."""
        return self._branch

    @property
    def has_uncommitted_changes(self) -> bool:
        """Whether there are edits that a commit would record."""
        return not self._workspace.changes.is_empty()

    @property
    def config(self) -> RepositoryConfig:
        """A copy of the configuration the session works with."""
        return copy.deepcopy(self._workspace.context.config)

    @property
    def store(self) -> IcechunkStore:
        """A Zarr store on this session; every store of a session shares its state."""
        from icechunk.store import IcechunkStore  # the store needs Session, so it comes second

        store = IcechunkStore(self)
        store._is_open = True
        return store

    def status(self) -> Diff:
        """Compare the session's edits to its base snapshot."""
        workspace = self._workspace
        changes = workspace.changes
        with changes.lock:
            log = transaction_log(changes, workspace.snapshot_id)
            created = {edit.id: edit.path for edit in changes.created.values()}
        return diff_of(log, lambda node_id: created.get(node_id) or self._base_path(node_id))

    def discard_changes(self) -> None:
        """Forget all uncommitted edits.

        Raises
        ------
        ReadOnlyError
            Kind ``read-only-session``.
        """
        self._require_writable("discard changes")
        self._workspace.discard()

    # --- commit --------------------------------------------------------------------------------

    def commit(
        self,
        message: str,
        metadata: dict[str, Any] | None = None,
        *,
        allow_empty: bool = False,
    ) -> str:
        """Make the session's edits the new tip of its branch, atomically and durably.

        Afterwards the session is read-only at the new snapshot. After an error it is unchanged and
        the commit can be tried again.

        Parameters
        ----------
        message
            Describes the commit.
        metadata
            JSON-like properties of the commit, laid over the repository's defaults.
        allow_empty
            Commit also when nothing was edited.

        Returns
        -------
        str
            Id of the new snapshot.

        Raises
        ------
        ConflictError
            Kind ``commit-conflict``: the branch has moved since the session was opened.
        SessionStateError
            Kind ``commit-not-allowed`` (no branch) or ``no-changes-to-commit``.
        RefNotFoundError
            Kind ``branch-not-found``: the branch was deleted.
        ReadOnlyError
            Kind ``read-only-repository``: the repository was closed for writing.
        TypeError
            The message is no text, or the metadata are not JSON-like.

        Notes
        -----
        Costs one manifest per touched split of every touched array, whatever its size before; then
        three small objects and the swap of the repository object.
        """
        with self._workspace.changes.lock:  # no edit may arrive between the snapshot and the swap
            return self._commit(message, metadata, allow_empty=allow_empty)

    commit_async = in_thread(commit)

    def _commit(self, message: str, metadata: dict[str, Any] | None, *, allow_empty: bool) -> str:
        branch = self._branch
        if branch is None:
            raise SessionStateError(
                "commits are not allowed: the session has no branch (it is read-only, a fork, or "
                "was already committed); open one with Repository.writable_session",
                ErrorKind.COMMIT_NOT_ALLOWED,
            )
        if not isinstance(message, str):
            raise TypeError(f"the commit message must be str, not {type(message).__name__}")
        properties = {**self._default_metadata, **to_plain({} if metadata is None else metadata)}
        if not (allow_empty or self.has_uncommitted_changes):
            raise SessionStateError(
                f"cannot commit to `{branch}`: no changes made to the session "
                "(pass allow_empty=True to commit anyway)",
                ErrorKind.NO_CHANGES_TO_COMMIT,
            )
        workspace = self._workspace
        workspace.context.check_tip(branch, workspace.snapshot_id)
        snapshot = write_snapshot(workspace, message, properties)
        entry = _entry(snapshot, parent_id=workspace.snapshot_id)
        workspace.context.commit_snapshot(branch, entry, expected_parent=workspace.snapshot_id)
        self._branch = None
        self._read_only = True
        workspace.move_to(snapshot.id)
        return encode_id(snapshot.id)

    # --- distributed writes --------------------------------------------------------------------

    def fork(self) -> ForkSession:
        """Make a session for other processes to write with.

        A fork can be pickled and written to anywhere; bring the edits back with `merge`. It starts
        from what this session holds now: uncommitted edits are written as an anonymous snapshot,
        so the size of a fork does not depend on them.

        Raises
        ------
        SessionStateError
            Kind ``cannot-fork-read-only-session``.
        """
        if self._read_only:
            raise SessionStateError(
                "cannot fork a read-only session: fork a writable one, before its commit",
                ErrorKind.CANNOT_FORK_READ_ONLY_SESSION,
            )
        workspace = self._workspace
        changes = workspace.changes
        with changes.lock:
            changes.require_open()
            base_id = workspace.snapshot_id
            lineage = changes.fork_point()
            if not changes.is_empty():
                base_id = write_snapshot(workspace, FORK_MESSAGE, {}).id
        forked = Workspace(workspace.context, base_id, ChangeSet(lineage=lineage))
        return ForkSession(forked)

    def merge(self, *others: Session, overlap: OverlapPolicy = "raise") -> None:
        """Take over the edits of other sessions, usually forks of this one: all or nothing.

        Parameters
        ----------
        *others
            Sessions to merge; they stay usable.
        overlap
            What to do when two writers that could not see each other wrote the same chunk: with
            ``"raise"`` refuse, with ``"last"`` let the one merged last win. Equal references are
            no overlap.

        Raises
        ------
        SessionStateError
            Kind ``merge-failed``: the writers' edits exclude each other. Kind
            ``merge-not-allowed``: a session with a branch cannot go into a fork.
        ReadOnlyError
            Kind ``read-only-session``.
        """
        self._require_writable("merge")
        if self._is_fork and any(not other._is_fork for other in others):
            raise SessionStateError(
                "cannot merge a branch session into a fork session: merge the fork into it instead",
                ErrorKind.MERGE_NOT_ALLOWED,
            )
        workspace = self._workspace
        changes = workspace.changes
        with changes.lock:
            changes.require_open()
            merge(
                changes,
                [other._workspace.changes for other in others],
                base_path=self._base_path,
                base_id=self._base_id,
                on_overlap=overlap,
            )
            if workspace.is_loaded:
                workspace.nodes.forget()

    merge_async = in_thread(merge)

    # --- plumbing ------------------------------------------------------------------------------

    def _base_path(self, node_id: bytes) -> str | None:
        node = self._workspace.base.nodes.find_id(node_id)
        return None if node is None else node.path

    def _base_id(self, path: str) -> bytes | None:
        node = self._workspace.base.nodes.find(path)
        return None if node is None else node.id

    def _require_writable(self, action: str) -> None:
        if self._read_only:
            raise ReadOnlyError(
                f"cannot {action}: the session is read-only at snapshot {self.snapshot_id}; "
                "open one with Repository.writable_session",
                ErrorKind.READ_ONLY_SESSION,
            )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Session) and self._workspace is other._workspace

    __hash__ = None  # type: ignore[assignment]  # sessions are mutable, as in the reference

    def _block(self) -> Block:
        fields: dict[str, object] = {"read_only": self.read_only, "snapshot_id": self.snapshot_id}
        if not self.read_only:
            fields["branch"] = self.branch
            fields["has_uncommitted_changes"] = self.has_uncommitted_changes
        return Block.of("icechunk.session.Session", fields)

    def __reduce__(self) -> tuple[Any, ...]:
        if not self._read_only:
            _refuse_pickle()
        return _unpickle_readonly, (self._workspace.context, self._workspace.snapshot_id)


class ForkSession(Session):
    """A session that travels: written to by other processes, then merged back.

    A fork has no branch and cannot commit. It pickles as configuration plus the columns of what was
    written to it (about 24 bytes per chunk of a one-dimensional array).
    """

    _is_fork = True

    def __init__(self, workspace: Workspace) -> None:
        super().__init__(workspace, branch=None, read_only=False)

    def detached_copy(self) -> ForkSession:
        """Return another fork that sees what this one sees, without edits of its own.

        Each task of a distributed write takes one, so that what two tasks did can be told apart
        even when both ran in one process. Costs no I/O, unless this fork has edits: those are
        written as an anonymous snapshot, as by `fork`.
        """
        return self.fork() if self.has_uncommitted_changes else self.sibling()

    def sibling(self) -> ForkSession:
        """Return another fork of the same origin, without the edits of this one. Costs no I/O."""
        mine = self._workspace
        copied = Workspace(mine.context, mine.snapshot_id, ChangeSet(lineage=mine.changes.lineage))
        copied.share_base(mine)
        return ForkSession(copied)

    def __reduce__(self) -> tuple[Any, ...]:
        workspace = self._workspace
        return _unpickle_fork, (workspace.context, workspace.snapshot_id, workspace.changes)


def _entry(snapshot: Snapshot, parent_id: bytes) -> SnapshotEntry:
    return SnapshotEntry(
        id=snapshot.id,
        parent_id=parent_id,
        flushed_at=snapshot.flushed_at,
        message=snapshot.message,
        metadata=snapshot.metadata,
    )


def _refuse_pickle() -> NoReturn:
    raise ValueError(
        "You must opt-in to pickle writable sessions: call `Session.fork()` and send the fork to "
        "the workers, then merge what comes back with `Session.merge()`"
    )


def _unpickle_readonly(context: RepoContext, snapshot_id: bytes) -> Session:
    return Session.readonly(context, snapshot_id)


def _unpickle_fork(context: RepoContext, snapshot_id: bytes, changes: ChangeSet) -> ForkSession:
    return ForkSession(Workspace(context, snapshot_id, changes))

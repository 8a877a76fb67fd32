"""Sessions: a view of one snapshot, with edits that stay private until they are committed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import IntEnum
from operator import index
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from icechunk._display import Block, Shown
from icechunk._iterators import AsyncCloseableIterator
from icechunk._threads import in_thread
from icechunk.changes.change_set import ChangeSet
from icechunk.changes.commit import CommitOrder, commit, commit_detached
from icechunk.changes.diff import Diff, diff_of
from icechunk.changes.listing import (
    chunk_batches,
    chunk_pieces,
    locations_of,
    require_batch_size,
)
from icechunk.changes.log import transaction_log
from icechunk.changes.merge import OverlapPolicy, merge
from icechunk.changes.rebase import rebase
from icechunk.changes.reindex import (
    ArrayFunction,
    ChunkFunction,
    Renumbering,
    by_array,
    by_chunk,
    reindexed,
    shifted,
)
from icechunk.changes.snapshot_writer import write_snapshot
from icechunk.changes.solvers import ConflictSolver
from icechunk.changes.workspace import Workspace
from icechunk.chunks import ChunkKind, ChunkTable
from icechunk.config import RepositoryConfig
from icechunk.errors import (
    ErrorKind,
    IcechunkError,
    InvalidInputError,
    ReadOnlyError,
    SessionStateError,
    operation,
)
from icechunk.format.ids import encode_id
from icechunk.format.paths import ROOT, validate_path
from icechunk.format.snapshot import Snapshot
from icechunk.format.values import to_plain
from icechunk.repo.context import RepoContext

if TYPE_CHECKING:
    from icechunk.store import IcechunkStore

FORK_MESSAGE = "fork"
AMENDING = "amending a commit"
MOVING = "moving nodes"


class SessionMode(IntEnum):
    """What a session may do."""

    readonly = 0
    writable = 1
    rearrange = 2

    def __repr__(self) -> str:
        return f"SessionMode.{self.name}"

    __str__ = __repr__


class ChunkType(IntEnum):
    """Where the bytes of a chunk are."""

    uninitialized = 0
    """Nowhere: the chunk reads as the fill value."""
    native = 1
    """In an object of the repository."""
    virtual = 2
    """In a range of some object outside the repository."""
    inline = 3
    """In the metadata."""

    def __repr__(self) -> str:
        return f"ChunkType.{self.name}"

    __str__ = __repr__


class Session(Shown):
    """A view of a repository at one snapshot, and edits on top of it.

    Made by `Repository.readonly_session`, `Repository.writable_session` and
    `Repository.rearrange_session`. Reads through `store`
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
        context.preload(snapshot_id)
        return cls(Workspace(context, snapshot_id), branch=None, read_only=True)

    @classmethod
    def writable(
        cls,
        context: RepoContext,
        branch: str,
        snapshot_id: bytes,
        default_metadata: Mapping[str, Any],
        *,
        rearrange: bool = False,
    ) -> Session:
        """Open the tip of a branch for writing, or for moving nodes."""
        context.preload(snapshot_id)
        return cls(
            Workspace(context, snapshot_id, ChangeSet(moves=[] if rearrange else None)),
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
        """What the session can commit: edits, moves, or nothing, as when it is on no branch."""
        if self._branch is None:
            return SessionMode.readonly
        is_rearranging = self._workspace.changes.is_rearranging
        return SessionMode.rearrange if is_rearranging else SessionMode.writable

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
            log = transaction_log(changes, workspace.snapshot_id, workspace.net_moves())
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

    # --- moves ---------------------------------------------------------------------------------

    def move(self, from_path: str, to_path: str) -> None:
        """Move or rename a group or array, with everything below it.

        Needs a session made by `Repository.rearrange_session`. Only paths change: node ids, chunks
        and manifests stay, and no data is read or written.

        Raises
        ------
        NodeNotFoundError
            Nothing is at `from_path`.
        AlreadyExistsError
            Kind ``move-wont-overwrite``: something is at `to_path` already.
        SessionStateError
            Kind ``move-into-self-or-descendant``; kind ``move-destination-parent-missing`` or
            ``move-destination-parent-not-group``: groups are not made on the way; kind
            ``non-rearrange-session``.
        InvalidInputError
            Kind ``invalid-path``: paths must be absolute, as in ``/group/array``.
        ReadOnlyError
            Kind ``read-only-session``.
        FormatError
            Kind ``unsupported-spec-version``: the repository is of spec version 1.
        """
        source, target = validate_path(from_path), validate_path(to_path)
        if self._read_only:
            self._workspace.check_move(source, target)
            self._require_writable("move nodes")
        self._workspace.context.entry.whole(MOVING)
        self._workspace.move(source, target)

    move_async = in_thread(move)

    # --- chunks --------------------------------------------------------------------------------

    def shift_array(self, array_path: str, chunk_offset: Iterable[int]) -> None:
        """Shift all chunks of an array, without reading or writing them.

        Chunks that leave the array are gone; to keep them, resize the array first. Where chunks
        came from and none arrived, the array reads as its fill value.

        Parameters
        ----------
        array_path
            Absolute path of the array, which needs a regular chunk grid.
        chunk_offset
            By how many chunks to shift along each axis; negative numbers shift towards the start.

        Raises
        ------
        NodeNotFoundError
            There is no such array.
        InvalidInputError
            Kind ``invalid-path``; kind ``not-an-array``; kind ``invalid-chunk-index``: not one
            number for each axis.
        IcechunkError
            Kind ``unknown``: the chunk grid is not regular.
        SessionStateError
            Kind ``rearrange-session-only``.
        ReadOnlyError
            Kind ``read-only-session``.

        Notes
        -----
        Reads the manifests of the array. A million references take less than a second.
        """
        path = validate_path(array_path)
        offset = [index(step) for step in chunk_offset]
        self._require_writable("shift chunks")

        def edits(table: ChunkTable, num_chunks: tuple[int, ...]) -> ChunkTable:
            if len(offset) != len(num_chunks):
                raise InvalidInputError(
                    f"cannot shift `{path}` by {offset}: the array has {len(num_chunks)} axes, "
                    "give one number of chunks for each",
                    ErrorKind.INVALID_CHUNK_INDEX,
                )
            return shifted(table, offset, num_chunks)

        with operation("shift_array", path=path):
            self._workspace.renumber(path, edits)

    def reindex_array(
        self,
        array_path: str,
        forward: ChunkFunction | ArrayFunction,
        backward: ChunkFunction | ArrayFunction | None = None,
        *,
        vectorized: bool = False,
    ) -> None:
        """Copy the chunks of an array to other places of its grid, without reading or writing them.

        Parameters
        ----------
        array_path
            Absolute path of the array, which needs a regular chunk grid.
        forward
            Called with the coordinates of every chunk that exists, a list of integers. Returns the
            coordinates it is to have, inside the grid, or None to leave it where it is. Of chunks
            that go to one place the last wins.
        backward
            The inverse, called for every place that has a chunk and that none was sent to. Where
            it returns None, or a place that has no chunk, the chunk is deleted. Without it, places
            that chunks were sent away from keep them too.
        vectorized
            Call the functions once instead, with an array of coordinates of shape ``(n, rank)`` and
            dtype int64. They return an array of integers of that shape, or a tuple of such an array
            and a boolean mask of shape ``(n,)``, False meaning None. Spares a call per chunk.

        Raises
        ------
        IcechunkError
            Kind ``unknown``: a function raised an error, which is chained, or returned no
            integers; or the chunk grid is not regular.
        InvalidInputError
            Kind ``invalid-chunk-index``: a chunk was sent outside the grid, or the number of
            coordinates is wrong. Kind ``invalid-path`` or ``not-an-array``.
        NodeNotFoundError
            There is no such array.
        SessionStateError
            Kind ``rearrange-session-only``.
        ReadOnlyError
            Kind ``read-only-session``.

        Notes
        -----
        All or nothing: after an error no chunk has moved. Other threads that write to the session
        wait until the functions have been called.
        """
        path = validate_path(array_path)
        if not callable(forward) or not (backward is None or callable(backward)):
            raise TypeError(f"reindex_array needs functions, got {forward!r} and {backward!r}")
        self._require_writable("reindex chunks")
        renumbering: Callable[[Any, int], Renumbering] = by_array if vectorized else by_chunk

        def edits(table: ChunkTable, num_chunks: tuple[int, ...]) -> ChunkTable:
            rank = table.rank
            back = None if backward is None else renumbering(backward, rank)
            return reindexed(table, num_chunks, renumbering(forward, rank), back)

        with operation("reindex_array", path=path):
            self._workspace.renumber(path, edits)

    def chunk_type(self, array_path: str, chunk_coordinates: Sequence[int]) -> ChunkType:
        """Tell where the bytes of a chunk are.

        A chunk that was never written, was deleted, or lies outside the grid is uninitialized.

        Raises
        ------
        NodeNotFoundError, InvalidInputError
            There is no such array.
        """
        coords = tuple(index(step) for step in chunk_coordinates)
        node = self._workspace.nodes.get_array(validate_path(array_path))
        if any(step < 0 for step in coords):
            return ChunkType.uninitialized
        ref = self._workspace.locate(node.path, coords)
        return ChunkType.uninitialized if ref is None else ChunkType(ref.kind)

    chunk_type_async = in_thread(chunk_type)

    def chunk_coordinates(
        self, array_path: str, batch_size: int = 1000
    ) -> AsyncCloseableIterator[tuple[int, ...]]:
        """Iterate over the coordinates of the chunks an array has, uncommitted ones first.

        For ``async for`` as well as ``for``. Errors are raised when the iteration begins.

        Parameters
        ----------
        array_path
            Absolute path of the array.
        batch_size
            How many coordinates to turn into tuples at a time.

        Raises
        ------
        NodeNotFoundError, InvalidInputError
            There is no such array; `batch_size` is less than one.
        """

        def coordinates() -> Iterator[tuple[int, ...]]:
            require_batch_size(batch_size)
            node = self._workspace.nodes.get_array(validate_path(array_path))
            for batch in chunk_batches(self._workspace, node, batch_size):
                yield from map(tuple, batch.coords.tolist())

        blocking = not self._workspace.context.storage.is_local
        return AsyncCloseableIterator(coordinates(), blocking=blocking)

    def get_node_id(self, path: str) -> str:
        """Return the id of a group or array, which it keeps for life, wherever it is moved.

        Raises
        ------
        NodeNotFoundError
            Nothing is at `path`.
        InvalidInputError
            Kind ``invalid-path``.
        """
        return encode_id(self._workspace.nodes.get(validate_path(path)).id)

    get_node_id_async = in_thread(get_node_id)

    def all_virtual_chunk_locations(self) -> list[str]:
        """List the URLs of all virtual chunks, one per chunk, so that files appear repeatedly.

        Raises
        ------
        InvalidInputError
            Kind ``no-container-for-virtual-chunk``: a location is relative to a container that is
            not configured.

        Notes
        -----
        Reads every manifest.
        """
        workspace = self._workspace
        containers = workspace.context.config.virtual_chunk_containers or {}
        found: list[str] = []
        for node in workspace.nodes.subtree(ROOT):
            if node.is_array:
                for piece in chunk_pieces(workspace, node):
                    rows = np.flatnonzero(piece.kinds == ChunkKind.VIRTUAL)
                    found += locations_of(piece, rows, containers)
        return found

    all_virtual_chunk_locations_async = in_thread(all_virtual_chunk_locations)

    # --- commit --------------------------------------------------------------------------------

    def commit(
        self,
        message: str,
        metadata: dict[str, Any] | None = None,
        *,
        rebase_with: ConflictSolver | None = None,
        rebase_tries: int = 1000,
        allow_empty: bool = False,
    ) -> str:
        """Make the session's edits the new tip of its branch, atomically and durably.

        Afterwards the session is read-only at the new snapshot. After an error it can be tried
        again: nothing is lost, though with `rebase_with` the base may have moved on, see `rebase`.

        Parameters
        ----------
        message
            Describes the commit.
        metadata
            JSON-like properties of the commit, laid over the repository's defaults.
        rebase_with
            When somebody else was faster, rebase with this solver and try again. The metadata then
            tell how often under ``__icechunk``, ``rebase_attempts``.
        rebase_tries
            How often to rebase before giving up.
        allow_empty
            Commit also when nothing was edited.

        Returns
        -------
        str
            Id of the new snapshot.

        Raises
        ------
        ConflictError
            Kind ``commit-conflict``: the branch has moved since the session was opened, and may
            not be rebased (any more).
        RebaseFailedError
            The solver could not solve the conflicts with another commit.
        SessionStateError
            Kind ``commit-not-allowed`` (no branch) or ``no-changes-to-commit``.
        RefNotFoundError
            Kind ``branch-not-found``: the branch was deleted.
        NodeNotFoundError
            The branch was reset to a history without the nodes that were edited.
        ReadOnlyError
            Kind ``read-only-repository``: the repository was closed for writing.
        TypeError
            The message is no text, the metadata are not JSON-like, or the solver is none.

        Notes
        -----
        Costs one manifest per touched split of every touched array, whatever its size before; then
        three small objects and the swap of the repository object. A lost race costs at most the
        new snapshot, its log, and the manifests that both touched.
        """
        solver = None if rebase_with is None else _solver(rebase_with, "rebase_with")
        if rebase_tries < 0:
            raise OverflowError(f"rebase_tries must not be negative, got {rebase_tries}")
        return self._commit(
            message, metadata, allow_empty=allow_empty, solver=solver, tries=rebase_tries
        )

    commit_async = in_thread(commit)

    def amend(
        self, message: str, *, metadata: dict[str, Any] | None = None, allow_empty: bool = False
    ) -> str:
        """Put the tip of the branch with this session's edits in the place of the tip.

        The new snapshot has the parent of the former tip, and its log says what both did. The
        former tip stays readable by its id until garbage is collected.

        Parameters
        ----------
        message, metadata
            Describe the new snapshot; those of the former tip are not taken over.
        allow_empty
            Amend also when nothing was edited: only message and metadata change.

        Returns
        -------
        str
            Id of the new snapshot.

        Raises
        ------
        FormatError
            Kind ``unsupported-spec-version``: the repository is of spec version 1.
        SessionStateError
            Kind ``no-amend-for-initial-commit``: the first snapshot of a repository stays. Kind
            ``rearrange-session-only``: the tip moved nodes, which edits cannot be combined with.
            Else as `commit`, without rebasing.
        """
        return self._commit(message, metadata, allow_empty=allow_empty, amend=True)

    amend_async = in_thread(amend)

    def flush(self, message: str, *, metadata: dict[str, Any] | None = None) -> str:
        """Write the session's edits as a snapshot that no branch points to.

        It can be read by its id, and a branch or tag may be pointed to it later
        (`Repository.reset_branch`). Without edits, and in read-only sessions, it is a copy of the
        base snapshot under a new id. Afterwards the session is read-only at the new snapshot.

        Returns
        -------
        str
            Id of the new snapshot.

        Raises
        ------
        IcechunkError
            Kind ``unknown``: the session is a fork.
        ReadOnlyError
            Kind ``read-only-repository`` or ``read-only-storage``.
        TypeError
            The message is no text, or the metadata are not JSON-like.
        """
        if self._is_fork:
            raise IcechunkError(
                "cannot flush a forked session: merge it into the session it came from, and flush "
                "that",
                ErrorKind.UNKNOWN,
            )
        properties = self._properties(message, metadata)
        with self._workspace.changes.lock:
            snapshot = commit_detached(self._workspace, message, properties)
            return self._settle(snapshot)

    flush_async = in_thread(flush)

    def rebase(self, solver: ConflictSolver) -> None:
        """Put the session's edits on top of what others have committed to its branch since.

        Goes commit by commit, oldest first. Nothing is written; the session can be read and edited
        further. Without new commits, or when the branch was deleted, nothing happens.

        Parameters
        ----------
        solver
            What to do about conflicts: `icechunk.ConflictDetector` or
            `icechunk.BasicConflictSolver`.

        Raises
        ------
        RebaseFailedError
            The solver could not solve the conflicts with a commit, which it names and lists. The
            session keeps its edits, on top of the last commit without trouble.
        SessionStateError
            Kind ``commit-not-allowed``: the session has no branch. Kind ``rebase-tx-log-pruned``:
            what a commit changed is not known any more.
        NodeNotFoundError
            The branch was reset to a history without the nodes that were edited.

        Notes
        -----
        Costs one small file per commit, fetched many at a time; a snapshot for each commit that
        created or deleted nodes, if this session created some too.
        """
        chosen = _solver(solver, "solver")
        branch = self._require_branch("rebase")
        with self._workspace.changes.lock:
            rebase(self._workspace, branch, chosen)

    rebase_async = in_thread(rebase)

    def _commit(
        self,
        message: str,
        metadata: dict[str, Any] | None,
        *,
        allow_empty: bool,
        amend: bool = False,
        rewrite: bool = False,
        solver: ConflictSolver | None = None,
        tries: int = 0,
    ) -> str:
        workspace = self._workspace
        if amend:
            workspace.context.entry.whole(AMENDING)
        with workspace.changes.lock:  # no edit may arrive between the snapshot and the swap
            branch = self._require_branch("amend" if amend else "commit")
            properties = self._properties(message, metadata)
            if not (allow_empty or self.has_uncommitted_changes):
                raise SessionStateError(
                    f"cannot commit to `{branch}`: no changes made to the session "
                    "(pass allow_empty=True to commit anyway)",
                    ErrorKind.NO_CHANGES_TO_COMMIT,
                )
            order = CommitOrder(branch, message, properties, amend=amend, rewrite=rewrite)
            return self._settle(commit(workspace, order, solver, tries))

    def _require_branch(self, action: str) -> str:
        if self._branch is None:
            raise SessionStateError(
                f"cannot {action}, commits are not allowed: the session has no branch (it is "
                "read-only, a fork, or was already committed); open one with "
                "Repository.writable_session",
                ErrorKind.COMMIT_NOT_ALLOWED,
            )
        return self._branch

    def _properties(self, message: str, metadata: dict[str, Any] | None) -> dict[str, Any]:
        if not isinstance(message, str):
            raise TypeError(f"the commit message must be str, not {type(message).__name__}")
        return {**self._default_metadata, **to_plain({} if metadata is None else metadata)}

    def _settle(self, snapshot: Snapshot) -> str:
        """Go on as a read-only session at the snapshot just written."""
        self._branch = None
        self._read_only = True
        self._workspace.move_to(snapshot.id)
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
                "cannot fork a read-only session, which this one is at snapshot "
                f"{self.snapshot_id}: fork a writable one, before its commit",
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
                workspace.written.share()
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
            ``merge-not-allowed``: a session with a branch cannot go into a fork. Kind
            ``rearrange-session-only``: one of the sessions moves nodes.
        ReadOnlyError
            Kind ``read-only-session``.
        """
        self._require_writable("merge")
        if self._is_fork and any(other._branch is not None for other in others):
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


def _solver(value: object, name: str) -> ConflictSolver:
    if not isinstance(value, ConflictSolver):
        raise TypeError(f"{name} must be a ConflictSolver, not {type(value).__name__}")
    return value


def _refuse_pickle() -> NoReturn:
    raise ValueError(
        "You must opt-in to pickle writable sessions: call `Session.fork()` and send the fork to "
        "the workers, then merge what comes back with `Session.merge()`"
    )


def _unpickle_readonly(context: RepoContext, snapshot_id: bytes) -> Session:
    return Session.readonly(context, snapshot_id)


def _unpickle_fork(context: RepoContext, snapshot_id: bytes, changes: ChangeSet) -> ForkSession:
    return ForkSession(Workspace(context, snapshot_id, changes))

"""What a session has done since its base snapshot, as data.

Nodes created, updated and deleted, and the chunk references written; or else the moves of a session
that rearranges: a set holds edits or moves, never both. The rules of how edits combine live here;
what they mean on top of a snapshot is in `view`, what moves mean in `moves`, how two change sets
merge in `merge`, how one becomes a commit in `plan`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from icechunk._fork import new_rlock
from icechunk.changes.chunk_log import ChunkLog
from icechunk.changes.documents import ArrayGrid
from icechunk.changes.moves import RequestedMove
from icechunk.chunks import ChunkTable
from icechunk.errors import ErrorKind, ReadOnlyError, SessionStateError

Token = bytes


@dataclass(frozen=True, slots=True)
class NodeEdit:
    """The document of one node, as created or updated in this session."""

    id: bytes
    path: str
    user_data: bytes
    grid: ArrayGrid | None
    """Chunk grid of an array; None for a group."""
    epoch: int
    """Epoch of the last edit, see `ChangeSet.epoch`."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """A node of the base snapshot that this session deleted."""

    id: bytes
    path: str
    is_array: bool
    epoch: int


def fresh_token() -> Token:
    """Return a name for one writer, different for every copy of a fork."""
    return os.urandom(12)


@dataclass(slots=True, eq=False)
class ChangeSet:
    """Uncommitted edits of one session.

    Pickles as columns, with a fresh `token`: two copies of one fork are two writers.
    """

    created: dict[str, NodeEdit] = field(default_factory=dict)
    updated: dict[bytes, NodeEdit] = field(default_factory=dict)
    deleted: dict[bytes, Deletion] = field(default_factory=dict)
    chunks: dict[bytes, ChunkLog] = field(default_factory=dict)
    token: Token = field(default_factory=fresh_token)
    epoch: int = 0
    """Counts the forks made; every edit carries the epoch it was made in."""
    lineage: tuple[tuple[Token, int], ...] = ()
    """The ancestors this set was forked from, each with the last epoch the fork could see."""
    lock: AbstractContextManager[bool] = field(default_factory=new_rlock, repr=False)
    """Held by every edit while it is recorded, and by commit, fork and merge from first to last, so
    that an edit made meanwhile is either part of them or comes after them."""
    closed: bool = False
    """Whether the edits were committed: there is nothing left to add to."""
    moves: list[RequestedMove] | None = None
    """The moves asked for, in order, when the session rearranges; None when it edits."""

    @property
    def is_rearranging(self) -> bool:
        """Whether the set takes moves, and no edits."""
        return self.moves is not None

    def require_edits(self) -> None:
        """Refuse an edit when the session moves nodes; every edit comes by here.

        Raises
        ------
        SessionStateError
            Kind ``rearrange-session-only``.
        """
        if self.moves is not None:
            raise SessionStateError(
                "this session was opened to rearrange the hierarchy and does nothing else: commit "
                "or discard its moves, and write with Repository.writable_session",
                ErrorKind.REARRANGE_SESSION_ONLY,
            )

    def require_open(self) -> None:
        """Refuse edits that come too late for a commit; to be called with `lock` held.

        Raises
        ------
        ReadOnlyError
            Kind ``read-only-store``: the session was committed while the edit was on its way.
        """
        if self.closed:
            raise ReadOnlyError(
                "cannot write: the session was committed before this write could be part of it; "
                "open another one with Repository.writable_session",
                ErrorKind.READ_ONLY_STORE,
            )

    def is_empty(self) -> bool:
        """Whether nothing was edited."""
        logs = list(self.chunks.values())  # a copy: other threads may be adding to it
        return not (self.created or self.updated or self.deleted or any(logs) or self.moves)

    def edited_ids(self) -> list[bytes]:
        """Ids of the nodes of the base snapshot that were updated or whose chunks were written."""
        created = {edit.id for edit in self.created.values()}
        written = {node_id for node_id, log in list(self.chunks.items()) if log}
        return sorted((written | self.updated.keys()) - created - self.deleted.keys())

    def log(self, node_id: bytes, rank: int) -> ChunkLog:
        """Return the chunk log of an array to write to, made on first use."""
        self.require_edits()
        log = self.chunks.get(node_id)
        if log is None:
            # setdefault is atomic: of two threads that make a log, both use the same one
            log = self.chunks.setdefault(node_id, ChunkLog(rank, self.epoch))
        return log

    def tables(self) -> Iterator[tuple[bytes, ChunkTable]]:
        """Iterate over the arrays with chunk writes: node id and everything written."""
        for node_id, log in list(self.chunks.items()):
            if log:
                yield node_id, log.table()

    def put_document(
        self, node_id: bytes, path: str, user_data: bytes, grid: ArrayGrid | None, *, is_new: bool
    ) -> None:
        """Record a new or changed node document."""
        self.require_edits()
        edit = NodeEdit(node_id, path, user_data, grid, self.epoch)
        if is_new or path in self.created:
            self.created[path] = edit
        else:
            self.updated[node_id] = edit

    def delete(self, node_id: bytes, path: str, *, is_array: bool) -> None:
        """Record the deletion of one node, not of its descendants.

        A node created in this session leaves no trace at all.
        """
        self.require_edits()
        self.chunks.pop(node_id, None)
        edit = self.created.get(path)
        if edit is not None and edit.id == node_id:
            del self.created[path]
            return
        self.updated.pop(node_id, None)
        self.deleted[node_id] = Deletion(node_id, path, is_array, self.epoch)

    def blank(self) -> ChangeSet:
        """Return an empty set that takes what this one takes: edits, or moves."""
        return ChangeSet(moves=None if self.moves is None else [])

    def begin_epoch(self) -> int:
        """Close the current epoch and return it: what a fork made now can see."""
        seen = self.epoch
        self.epoch += 1
        for log in list(self.chunks.values()):
            log.begin_epoch(self.epoch)
        return seen

    def copy(self) -> ChangeSet:
        """Return an independent set with the same edits, for the same writer to go on from."""
        with self.lock:
            return ChangeSet(
                created=dict(self.created),
                updated=dict(self.updated),
                deleted=dict(self.deleted),
                chunks={node_id: log.copy() for node_id, log in self.chunks.items()},
                token=self.token,
                epoch=self.epoch,
                lineage=self.lineage,
                moves=None if self.moves is None else list(self.moves),
            )

    def fork_point(self) -> tuple[tuple[Token, int], ...]:
        """Begin a new epoch and return the lineage of a fork made at this moment."""
        return (*self.lineage, (self.token, self.begin_epoch()))

    def seen_by(self, other: ChangeSet) -> int:
        """Return the last epoch of this set that ``other`` could see, -1 when none."""
        return max((epoch for token, epoch in other.lineage if token == self.token), default=-1)

    def __getstate__(self) -> dict[str, Any]:
        return {
            "created": dict(self.created),
            "updated": dict(self.updated),
            "deleted": dict(self.deleted),
            "chunks": {node_id: table.to_bytes() for node_id, table in self.tables()},
            "lineage": self.lineage,
            "moves": self.moves,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.created = state["created"]
        self.updated = state["updated"]
        self.deleted = state["deleted"]
        self.lineage = state["lineage"]
        self.moves = state["moves"]
        self.token = fresh_token()
        self.epoch = 0
        self.lock = new_rlock()
        self.closed = False
        self.chunks = {}
        for node_id, data in state["chunks"].items():
            table = ChunkTable.from_bytes(data)
            self.log(node_id, table.rank).put_table(table)

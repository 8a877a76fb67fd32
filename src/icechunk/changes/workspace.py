"""One session's working state: a base snapshot, the edits on top, and chunk access through both.

This is the hot path. Everything is plain synchronous code; a store whose objects are far away has
the coroutines `IcechunkStore` needs beside it, built from the same pieces: find the reference,
then fetch; put the object, then record the reference.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from icechunk._fork import new_lock
from icechunk.assets.workers import Workers
from icechunk.changes.change_set import ChangeSet
from icechunk.changes.chunk_log import TOMBSTONE
from icechunk.changes.documents import chunk_grid_name, require_regular_grid
from icechunk.changes.moves import Arrangement, arrange, check_move
from icechunk.changes.view import NodeState, NodeView
from icechunk.changes.written import WrittenManifests
from icechunk.chunks import (
    ChunkKind,
    ChunkRef,
    ChunkTable,
    concat_many,
    in_grid,
    overlay,
    starts_with,
)
from icechunk.errors import (
    ErrorKind,
    FormatError,
    IcechunkError,
    InvalidInputError,
    NodeNotFoundError,
    SessionStateError,
)
from icechunk.format.ids import NODE_ID_SIZE, OBJECT_ID_SIZE, encode_id
from icechunk.format.manifest import Manifest
from icechunk.format.snapshot import ManifestFile, ManifestRef, NodeTable, Snapshot
from icechunk.format.transaction_log import Move
from icechunk.repo.context import RepoContext

Coords = tuple[int, ...]


class Workspace:
    """Base snapshot plus change set, with node and chunk access.

    The snapshot is fetched on first use, so that a fork that only carries results to a merge never
    reads it. Safe for concurrent use by threads. The view of the nodes is dropped before what it
    was made from changes: a process forked in between must not find it beside another base.
    """

    def __init__(
        self, context: RepoContext, snapshot_id: bytes, changes: ChangeSet | None = None
    ) -> None:
        self.context = context
        self.snapshot_id = snapshot_id
        self.changes = ChangeSet() if changes is None else changes
        settings = context.settings
        self.inline_threshold = settings.inline_chunk_threshold_bytes
        self.partial_values_at_once = settings.get_partial_values_concurrency
        self.splitting = settings.splitting
        self.written = WrittenManifests()
        """Manifests that a commit stored which did not succeed, for the next attempt."""
        self._nodes: NodeView | None = None
        self._arrangement: Arrangement | None = None
        self._lock = new_lock()

    @property
    def nodes(self) -> NodeView:
        """The node tree; fetches the base snapshot on first use."""
        while True:
            nodes = self._nodes
            if nodes is not None:
                return nodes
            wanted = self.snapshot_id
            snapshot = self.context.assets.snapshot(wanted)
            with self._lock:
                # the session may have moved on to another snapshot while this one was fetched
                if self._nodes is None and self.snapshot_id == wanted:
                    if self.changes.moves:
                        arranged = self._arranged(snapshot.nodes).table()
                        snapshot = replace(snapshot, nodes=arranged)
                    self._nodes = NodeView(snapshot, self.changes)

    @property
    def base(self) -> Snapshot:
        """The snapshot the session works on, its nodes where the session has moved them."""
        return self.nodes.base

    @property
    def is_loaded(self) -> bool:
        """Whether the base snapshot is in memory."""
        return self._nodes is not None

    def share_base(self, other: Workspace) -> None:
        """Use the base snapshot that another workspace has already loaded, if it has."""
        if self._nodes is None and other._nodes is not None:
            self._nodes = NodeView(other._nodes.base, self.changes)

    def move_to(self, snapshot_id: bytes) -> None:
        """Continue from another snapshot, which holds all edits: too late for further ones."""
        with self._lock:
            self.changes.closed = True
            self._nodes = None
            self.snapshot_id = snapshot_id
            self.changes = ChangeSet()

    def rebase_to(self, snapshot_id: bytes) -> None:
        """Put the edits on another base snapshot; the lock of the change set is held."""
        with self._lock:
            self._nodes = None
            self.snapshot_id = snapshot_id

    def discard(self) -> None:
        """Forget every edit; chunk objects already written stay behind as garbage."""
        with self.changes.lock, self._lock:
            self._nodes = None
            self.changes = self.changes.blank()

    @contextmanager
    def undone_on_error(self) -> Iterator[None]:
        """Take back every edit made inside when an error ends it; earlier edits stay."""
        saved = self.changes.copy()
        try:
            yield
        except BaseException:
            with self._lock:
                # Forks made inside must not count as having seen what is written from now on.
                while saved.epoch < self.changes.epoch:
                    saved.begin_epoch()
                self._nodes = None
                self.changes = saved
            raise

    # --- documents -----------------------------------------------------------------------------

    def put_document(self, path: str, data: bytes) -> None:
        """Create a node or replace its document, see `NodeView.put_document`.

        Raises
        ------
        InvalidInputError
            Also of kind ``bad-metadata`` for a chunk grid that the spec version does not have.
        """
        if self.context.spec_version == 1:
            require_regular_grid(data, path)
        self.nodes.put_document(path, data, new_id=os.urandom(NODE_ID_SIZE))

    # --- moves ---------------------------------------------------------------------------------

    def check_move(self, source: str, target: str) -> None:
        """Raise what is wrong with a move itself, whatever the session may do."""

        def is_array(path: str) -> bool | None:
            node = self.nodes.find(path)
            return None if node is None else node.is_array

        check_move(source, target, is_array)

    def move(self, source: str, target: str) -> None:
        """Move a node with all below it; the session's nodes are at their new paths at once.

        Raises
        ------
        NodeNotFoundError, SessionStateError, AlreadyExistsError
            See `check_move`; kind ``non-rearrange-session`` when the session takes edits.
        """
        changes = self.changes
        with changes.lock:
            changes.require_open()
            moves = changes.moves
            if moves is None:
                self.check_move(source, target)
                raise SessionStateError(
                    f"cannot move `{source}` to `{target}`: this session edits nodes and does not "
                    "move them; open another one with Repository.rearrange_session",
                    ErrorKind.NON_REARRANGE_SESSION,
                )
            nodes = self.context.assets.snapshot(self.snapshot_id).nodes
            with self._lock:
                move = self._arranged(nodes).move(source, target)
                self._nodes = None
                moves.append(move)

    def net_moves(self) -> tuple[Move, ...]:
        """Return what the session's moves come to, one entry per node that is not at home."""
        with self.changes.lock:
            if not self.changes.moves:
                return ()
            nodes = self.context.assets.snapshot(self.snapshot_id).nodes
            with self._lock:
                return self._arranged(nodes).net_moves()

    def _arranged(self, nodes: NodeTable) -> Arrangement:
        """Return the session's moves applied to its base, kept while both stay the same."""
        moves = self.changes.moves or []
        kept = self._arrangement
        if kept is None or kept.base is not nodes or kept.moves != moves:
            kept = self._arrangement = arrange(moves, nodes)
        return kept

    # --- references ----------------------------------------------------------------------------

    def find_ref(self, nodes: NodeView, node: NodeState, coords: Coords) -> ChunkRef | None:
        """Return the reference of one chunk as a view sees it, None when there is none."""
        log = nodes.changes.chunks.get(node.id)
        if log is not None:
            ref = log.get(coords)
            if ref is not None:
                return None if ref.kind == ChunkKind.DELETED else ref
        manifest_ref = node.finder.find(coords)
        if manifest_ref is None:
            return None
        return self.manifest(manifest_ref, nodes).find(node.id, coords)

    def must_fetch(self, path: str, coords: Coords) -> bool:
        """Whether `locate` would have to wait for the snapshot or a manifest."""
        nodes = self._nodes
        if nodes is None:
            return True
        node = nodes.find(path)
        if node is None:
            return False
        ref = node.finder.find(coords)
        return ref is not None and not self.context.assets.has_manifest(ref.id)

    def manifest(self, ref: ManifestRef, nodes: NodeView | None = None) -> Manifest:
        """Fetch a manifest of the base snapshot, through the cache.

        Whoever has looked at a node passes the view it was found in: a commit by another thread may
        have taken the session to a snapshot that does not list the manifest any more.

        Raises
        ------
        FormatError
            Kind ``manifest-info-not-found``: the snapshot does not list the manifest.
        """
        file = self.manifest_file(ref.id, nodes)
        return self.context.assets.manifest(ref.id, size=file.size_bytes)

    def manifest_file(self, manifest_id: bytes, nodes: NodeView | None = None) -> ManifestFile:
        """Return what the base snapshot, of a view if given, records of a manifest.

        Raises
        ------
        FormatError
            Kind ``manifest-info-not-found``: the snapshot does not list it.
        """
        base = self.base if nodes is None else nodes.base
        info = base.manifest_files.find(manifest_id)
        if info is None:
            raise FormatError(
                f"manifest information cannot be found: snapshot {encode_id(base.id)} "
                f"refers to manifest {encode_id(manifest_id)} but does not list it",
                ErrorKind.MANIFEST_INFO_NOT_FOUND,
            )
        return info

    def chunk_table(self, node: NodeState) -> ChunkTable:
        """Every chunk of an array as the session sees it: inside the grid, no tombstones."""
        grid = node.grid
        if grid is None:
            raise InvalidInputError(f"`{node.path}` is not an array", ErrorKind.NOT_AN_ARRAY)
        rank = len(grid.shape)
        nodes = self.nodes
        tables = [self.manifest(ref, nodes).table(node.id, rank) for ref in node.manifests]
        table = concat_many(tables) if tables else ChunkTable.empty(rank)
        log = nodes.changes.chunks.get(node.id)
        if log:
            table = overlay(table, log.table(), drop_deleted=True)
        inside = in_grid(table, grid.num_chunks)
        return table if inside.all() else table.take(inside)

    # --- chunk edits ---------------------------------------------------------------------------

    def record(
        self, node: NodeState, coords: Coords, ref: ChunkRef, nodes: NodeView | None = None
    ) -> None:
        """Record the reference of a chunk whose bytes are stored, or a tombstone.

        Storing takes a while: the view in which the write was found to be allowed is asked again.

        Raises
        ------
        ReadOnlyError
            The session was committed meanwhile.
        NodeNotFoundError
            The array was deleted meanwhile.
        """
        nodes = self.nodes if nodes is None else nodes
        changes = nodes.changes
        with changes.lock:
            changes.require_open()
            now = nodes.get(node.path)
            if now.id != node.id:
                raise NodeNotFoundError(
                    f"the array at `{node.path}` was deleted while chunk {list(coords)} was "
                    "written to it",
                    ErrorKind.NODE_NOT_FOUND,
                )
            changes.log(node.id, len(coords)).put(coords, ref)

    def record_table(self, node: NodeState, table: ChunkTable, nodes: NodeView) -> None:
        """Record many references that were made for a node of a view.

        Raises
        ------
        ReadOnlyError
            The session was committed meanwhile.
        NodeNotFoundError
            The array was deleted meanwhile.
        InvalidInputError
            Kind ``invalid-chunk-index``: the array was made smaller meanwhile.
        """
        changes = nodes.changes
        with changes.lock:
            changes.require_open()
            now = nodes.get(node.path)
            if now.id != node.id or now.grid is None:
                raise NodeNotFoundError(
                    f"the array at `{node.path}` was deleted while references were set",
                    ErrorKind.NODE_NOT_FOUND,
                )
            if not in_grid(table, now.grid.num_chunks).all():
                raise InvalidInputError(
                    f"the array at `{node.path}` was resized while references were set",
                    ErrorKind.INVALID_CHUNK_INDEX,
                )
            if len(table):
                changes.log(node.id, table.rank).put_table(table)

    def write_chunk(self, path: str, coords: Coords, data: memoryview) -> None:
        """Store one chunk: inline up to the threshold, else as a new object."""
        size = data.nbytes
        nodes = self.nodes
        node = writable_array(nodes, path, coords, size)
        if size <= self.inline_threshold:
            ref = inline_ref(data)
        else:
            chunk_id = os.urandom(OBJECT_ID_SIZE)
            self.context.assets.save_chunk(chunk_id, data)
            ref = native_ref(chunk_id, size)
        self.record(node, coords, ref, nodes)

    async def put_chunk_async(self, data: memoryview) -> bytes:
        """Store a chunk's bytes as a new object, awaiting the object store; return its id."""
        chunk_id = os.urandom(OBJECT_ID_SIZE)
        await self.context.assets.save_chunk_async(chunk_id, data)
        return chunk_id

    def delete_chunk(self, path: str, coords: Coords) -> None:
        """Record that a chunk is gone; nothing to delete is no error."""
        nodes = self.nodes
        with nodes.changes.lock:
            node = nodes.find(path)
            if node is not None and node.grid is not None and node.grid.contains(coords):
                self.record(node, coords, TOMBSTONE, nodes)

    def delete_chunks(self, node: NodeState, leading: Coords) -> None:
        """Record that every chunk whose coordinates start with ``leading`` is gone."""
        changes = self.changes
        with changes.lock:
            changes.require_open()
            table = self.chunk_table(node)
            coords = table.coords[starts_with(table, leading)]
            if len(coords):
                changes.log(node.id, table.rank).put_table(ChunkTable.deleted(coords))

    def renumber(self, path: str, edits: Callable[[ChunkTable, Coords], ChunkTable]) -> None:
        """Record what a function makes of all chunks of an array, all at once.

        Nobody else edits the session meanwhile.

        Parameters
        ----------
        path
            The array, which must have a regular chunk grid.
        edits
            Called with all chunks and the size of the grid; returns what to lay over them.

        Raises
        ------
        NodeNotFoundError, InvalidInputError
            No such array.
        IcechunkError
            Kind ``unknown``: chunks of another grid have sizes that depend on their place.
        """
        nodes = self.nodes
        changes = nodes.changes
        with changes.lock:
            changes.require_open()
            node = nodes.get_array(path)
            assert node.grid is not None
            grid_name = chunk_grid_name(node.user_data, path)
            if grid_name != "regular":
                raise IcechunkError(
                    f"cannot shift or reindex chunks of `{path}`: its chunk grid is "
                    f"`{grid_name}`, where the size of a chunk depends on its place; only arrays "
                    "with a `regular` chunk grid can be shifted or reindexed",
                    ErrorKind.UNKNOWN,
                )
            changes.require_edits()
            table = edits(self.chunk_table(node), node.grid.num_chunks)
            changes.require_open()  # again: the function may have used the session
            found = nodes.find(path)
            if found is None or found.id != node.id:
                raise NodeNotFoundError(
                    f"the array at `{path}` was deleted while its chunks were renumbered",
                    ErrorKind.NODE_NOT_FOUND,
                )
            if len(table):
                changes.log(node.id, table.rank).put_table(table)

    # --- chunk reads ---------------------------------------------------------------------------

    def locate(self, path: str, coords: Coords) -> ChunkRef | None:
        """Return the reference of a chunk by path; None for anything that is not there."""
        nodes = self.nodes
        node = nodes.find(path)
        if node is None or node.grid is None or not node.grid.contains(coords):
            return None
        return self.find_ref(nodes, node, coords)

    def locate_many(self, chunks: Sequence[tuple[str, Coords]]) -> list[ChunkRef | None]:
        """Do as `locate` does for many chunks, going to each manifest once.

        Manifests that are not in memory are fetched side by side.
        """
        nodes = self.nodes
        found: list[ChunkRef | None] = [None] * len(chunks)
        by_manifest: dict[bytes, list[tuple[int, NodeState, Coords]]] = {}
        refs: dict[bytes, ManifestRef] = {}
        for position, (path, coords) in enumerate(chunks):
            node = nodes.find(path)
            if node is None or node.grid is None or not node.grid.contains(coords):
                continue
            log = nodes.changes.chunks.get(node.id)
            edited = None if log is None else log.get(coords)
            if edited is not None:
                found[position] = None if edited.kind == ChunkKind.DELETED else edited
                continue
            ref = node.finder.find(coords)
            if ref is not None:
                refs[ref.id] = ref
                by_manifest.setdefault(ref.id, []).append((position, node, coords))
        wanted = list(refs.values())
        with Workers(self.context.storage.is_local, "icechunk-locate") as workers:
            manifests = workers.map(
                lambda ref: self.manifest(ref, nodes), wanted, self.partial_values_at_once
            )
            for ref, manifest in zip(wanted, manifests, strict=True):
                for position, node, coords in by_manifest[ref.id]:
                    found[position] = manifest.find(node.id, coords)
        return found

    def read(self, ref: ChunkRef, start: int, stop: int) -> bytes:
        """Fetch bytes ``[start, stop)`` of a chunk."""
        if ref.inline is not None:
            return ref.inline[start:stop]
        if ref.id is None:
            return self.context.virtual.read(ref, start, stop)
        return self.context.assets.chunk(ref.id, ref.offset + start, stop - start)

    async def read_async(self, ref: ChunkRef, start: int, stop: int) -> bytes:
        """Do as `read` does, awaiting the object store."""
        if ref.inline is not None:
            return ref.inline[start:stop]
        if ref.id is None:
            return await self.context.virtual.read_async(ref, start, stop)
        return await self.context.assets.chunk_async(ref.id, ref.offset + start, stop - start)


def writable_array(nodes: NodeView, path: str, coords: Coords, size: int) -> NodeState:
    """Check that a chunk of ``size`` bytes may be written, before any byte is stored.

    Raises
    ------
    NodeNotFoundError, InvalidInputError
        No such node; a group; coordinates outside the grid (``invalid-chunk-index``); no bytes
        (``zero-length-chunk``).
    SessionStateError
        The session moves nodes and takes no edits.
    """
    node = nodes.get_array(path)
    grid = node.grid
    if grid is None or not grid.contains(coords):
        raise InvalidInputError(
            f"chunk index {list(coords)} is invalid for array `{path}` with "
            f"{list(grid.num_chunks) if grid else []} chunks",
            ErrorKind.INVALID_CHUNK_INDEX,
        )
    if size == 0:
        raise InvalidInputError(
            f"zero-length chunk {list(coords)} for array `{path}`: every chunk needs at least "
            "one byte; delete the chunk to make it read as the fill value",
            ErrorKind.ZERO_LENGTH_CHUNK,
        )
    nodes.changes.require_edits()
    return node


def inline_ref(data: memoryview) -> ChunkRef:
    """Make a reference that carries the chunk's bytes itself."""
    return ChunkRef(ChunkKind.INLINE, None, 0, data.nbytes, data.tobytes())


def native_ref(chunk_id: bytes, size: int) -> ChunkRef:
    """Make a reference to a whole chunk object of the repository."""
    return ChunkRef(ChunkKind.NATIVE, chunk_id, 0, size)

"""Writing what a session did as a new snapshot.

Manifests first, beside them the transaction log, then the snapshot: nothing points to any of them
until the repository object names the snapshot, so a failure at any point leaves garbage at worst,
never damage.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from threading import BoundedSemaphore
from typing import Any, Final

from icechunk.assets.workers import Workers
from icechunk.changes.change_set import ChangeSet
from icechunk.changes.log import transaction_log
from icechunk.changes.log_union import united_log
from icechunk.changes.plan import (
    Edit,
    ManifestPlan,
    Piece,
    SplitSizes,
    extents_of,
    manifests_to_read,
    plan_manifests,
)
from icechunk.changes.view import NodeState
from icechunk.changes.workspace import Workspace
from icechunk.changes.written import ManifestKey, WrittenManifest
from icechunk.chunks import ChunkTable, overlay
from icechunk.config.splitting_rules import split_sizes_for
from icechunk.errors import AlreadyExistsError, ErrorKind, NodeNotFoundError
from icechunk.format.ids import NODE_ID_SIZE, encode_id, id_column
from icechunk.format.manifest import Manifest
from icechunk.format.snapshot import ArrayData, ManifestFile, ManifestRef, Node, Snapshot
from icechunk.format.transaction_log import TransactionLog
from icechunk.repo.times import later_than

__all__ = ["write_snapshot"]

UPLOADS_AT_ONCE: Final = 16


def write_snapshot(
    workspace: Workspace,
    message: str,
    metadata: Mapping[str, Any],
    *,
    rewrite: bool = False,
    amended: TransactionLog | None = None,
) -> Snapshot:
    """Write manifests, transaction log and snapshot of a workspace's edits.

    The workspace itself does not change, but it remembers the manifests written, for the next
    attempt. Nothing refers to the snapshot yet.

    Parameters
    ----------
    workspace
        Base snapshot and edits. The lock of its change set is held.
    message, metadata
        Describe the snapshot.
    rewrite
        Write the manifests of all arrays anew, as the splitting configuration now has them.
    amended
        Transaction log of the base snapshot, when the new snapshot takes its place.

    Returns
    -------
    Snapshot
        The new snapshot, with a random id.

    Raises
    ------
    NodeNotFoundError, AlreadyExistsError
        The edits do not fit the base snapshot: nodes they belong to are not there, or their paths
        are taken. Only after a rebase onto a branch that was reset.
    FormatError
        Kind ``snapshot-timestamp``: the clock is behind the base snapshot.
    StorageError
        Writing failed; the repository is unchanged.
    """
    changes = workspace.changes
    world = workspace.context.world
    base = workspace.base
    assets = workspace.context.assets
    snapshot_id = world.random_id()
    _check_fits(workspace)
    old = _OldManifests(workspace)
    arrays, upserts = _nodes_to_write(workspace, rewrite=rewrite)
    log = transaction_log(changes, snapshot_id, workspace.net_moves())
    if amended is not None:
        log = united_log([amended, log])
    new_files: list[ManifestFile] = []
    # Everything at once, except that a rewrite reads whole arrays: one by one, for their size.
    batches = [[], *([state] for state in arrays)] if rewrite else [arrays]
    for number, batch in enumerate(batches):
        planned = [_plan_array(workspace, old, state, rewrite=rewrite) for state in batch]
        _store(workspace, old, planned, None if number else log)
        for array in planned:
            node, files = array.result(workspace)
            upserts.append(node)
            new_files += files
    nodes = base.nodes.replace(_removed_paths(workspace), upserts)
    version = assets.settings.spec_version
    snapshot = Snapshot(
        id=snapshot_id,
        parent_id=base.id if version == 1 else None,
        nodes=nodes,
        flushed_at=later_than(base.flushed_at, world.now_us(), f"snapshot {encode_id(base.id)}"),
        message=message,
        metadata=dict(metadata),
        manifest_files=base.manifest_files.replace(nodes.columns.ref_ids, new_files),
        spec_version=version,
    )
    assets.save_snapshot(snapshot)
    return snapshot


class _OldManifests:
    """The manifests of the base snapshot: fetched a few at once where storage is far away."""

    def __init__(self, workspace: Workspace) -> None:
        settings = workspace.context.settings
        self._workspace = workspace
        self._at_once = max(1, settings.max_concurrent_manifest_fetches_during_commit)
        self._gate = BoundedSemaphore(self._at_once)

    def manifest(self, ref: ManifestRef) -> Manifest:
        with self._gate:
            return self._workspace.manifest(ref)

    def tables(
        self, refs: Sequence[ManifestRef], node_id: bytes, rank: int
    ) -> dict[ManifestRef, ChunkTable]:
        """Read the references that some manifests hold for an array."""
        with Workers(self._workspace.context.storage.is_local, "icechunk-commit") as workers:
            manifests = workers.map(self.manifest, refs, self._at_once)
            return {
                ref: manifest.table(node_id, rank)
                for ref, manifest in zip(refs, manifests, strict=True)
            }


@dataclass(frozen=True, slots=True)
class _PlannedArray:
    """One array whose manifests may change."""

    state: NodeState
    plan: ManifestPlan
    split: SplitSizes
    revision: int

    def key(self, part: Piece | Edit) -> ManifestKey:
        assert self.state.grid is not None
        return ManifestKey(
            self.state.id, self.revision, self.state.grid.num_chunks, self.split, part.identity
        )

    def parts(self) -> Sequence[Piece | Edit]:
        return (*self.plan.pieces, *self.plan.edits)

    def result(self, workspace: Workspace) -> tuple[Node, list[ManifestFile]]:
        """Return the array's node in the new snapshot, and its new manifests: all are stored."""
        grid = self.state.grid
        assert grid is not None
        stored = [workspace.written[self.key(part)] for part in self.parts()]
        new = [manifest for manifest in stored if manifest is not None]
        refs = (*self.plan.kept, *(ManifestRef(one.file.id, one.extents) for one in new))
        array = ArrayData(grid.shape, grid.num_chunks, grid.dimension_names, refs)
        node = Node(self.state.id, self.state.path, self.state.user_data, array)
        return node, [one.file for one in new]


def _nodes_to_write(workspace: Workspace, *, rewrite: bool) -> tuple[list[NodeState], list[Node]]:
    """Return the arrays that were touched, or all, and the groups that were."""
    arrays: list[NodeState] = []
    groups: list[Node] = []
    states = workspace.nodes.subtree("/") if rewrite else _touched(workspace)
    for state in states:
        if state.grid is not None:
            arrays.append(state)
        elif not rewrite or _is_edited(workspace.changes, state):
            groups.append(Node(state.id, state.path, state.user_data, None))
    return arrays, groups


def _plan_array(
    workspace: Workspace, old: _OldManifests, state: NodeState, *, rewrite: bool
) -> _PlannedArray:
    grid = state.grid
    assert grid is not None
    rank = len(grid.shape)
    log = workspace.changes.chunks.get(state.id)
    split = split_sizes_for(workspace.splitting, state.path, grid.dimension_names, rank)

    early = manifests_to_read(grid.num_chunks, state.manifests, split, rewrite=rewrite)
    read = old.tables(early, state.id, rank)
    plan = plan_manifests(
        grid.num_chunks,
        state.manifests,
        log.table() if log else ChunkTable.empty(rank),
        split,
        load=lambda ref: read[ref] if ref in read else old.manifest(ref).table(state.id, rank),
        count=lambda ref: workspace.manifest_file(ref.id).num_chunk_refs,
        rewrite=rewrite,
    )
    return _PlannedArray(state, plan, tuple(split), log.revision if log else 0)


def _touched(workspace: Workspace) -> Iterator[NodeState]:
    """Iterate over nodes that were created, updated, or had chunks written."""
    changes = workspace.changes
    nodes = workspace.nodes
    paths = set(changes.created)
    paths.update(edit.path for edit in changes.updated.values())
    written = {node_id for node_id, log in changes.chunks.items() if log}
    written -= {edit.id for edit in changes.created.values()}
    for node_id in written:
        node = workspace.base.nodes.find_id(node_id)
        if node is not None and node_id not in changes.deleted:
            paths.add(node.path)
    for path in sorted(paths):
        state = nodes.find(path)
        if state is not None:
            yield state


def _is_edited(changes: ChangeSet, state: NodeState) -> bool:
    return state.is_new or state.id in changes.updated


def _removed_paths(workspace: Workspace) -> list[str]:
    """Paths of the base snapshot whose nodes were deleted, by id: a path may have a new node."""
    deleted = list(workspace.changes.deleted)
    nodes = workspace.base.nodes
    rows = nodes.locate_ids(id_column(deleted, NODE_ID_SIZE))
    return [nodes[int(row)].path for row in rows if row >= 0]


def _check_fits(workspace: Workspace) -> None:
    """Refuse edits of nodes that the base snapshot does not have, rather than lose them."""
    changes = workspace.changes
    nodes = workspace.base.nodes
    edited = changes.edited_ids()
    rows = nodes.locate_ids(id_column(edited, NODE_ID_SIZE))
    if (rows < 0).any():
        lost = edited[int((rows < 0).argmax())]
        edit = changes.updated.get(lost)
        where = f"`{edit.path}` ({encode_id(lost)})" if edit else f"with id {encode_id(lost)}"
        raise NodeNotFoundError(
            f"node not found in snapshot {encode_id(workspace.snapshot_id)}: the session edited "
            f"the node {where}, which is not there any more; discard the changes and make them "
            "again",
            ErrorKind.NODE_NOT_FOUND,
        )
    for path in changes.created:
        row = nodes.row(path)
        if row is not None and nodes[row].id not in changes.deleted:
            raise AlreadyExistsError(
                f"cannot create the node `{path}`: snapshot {encode_id(workspace.snapshot_id)} "
                "has another one there; discard the changes and make them again",
                ErrorKind.NODE_ALREADY_EXISTS,
            )


def _store(
    workspace: Workspace,
    old: _OldManifests,
    arrays: Sequence[_PlannedArray],
    log: TransactionLog | None,
) -> None:
    """Store the log, if given, and every planned manifest that no earlier attempt has stored."""
    written = workspace.written
    missing = {
        planned.key(part): partial(_store_manifest, workspace, old, planned.state.id, part)
        for planned in arrays
        for part in planned.parts()
        if planned.key(part) not in written
    }

    def store(item: ManifestKey | TransactionLog) -> None:
        if isinstance(item, TransactionLog):
            workspace.context.assets.save_transaction_log(item)
        else:
            written[item] = missing[item]()

    items: list[ManifestKey | TransactionLog] = [] if log is None else [log]
    items += missing
    with Workers(workspace.context.storage.is_local, "icechunk-commit") as workers:
        for _ in workers.map(store, items, UPLOADS_AT_ONCE):
            pass


def _store_manifest(
    workspace: Workspace, old: _OldManifests, node_id: bytes, part: Piece | Edit
) -> WrittenManifest | None:
    assets = workspace.context.assets
    manifest_id = workspace.context.world.random_id()
    if isinstance(part, Edit):
        manifest = old.manifest(part.old)
        file = assets.save_patched_manifest(manifest_id, manifest, node_id, part.rows)
        if file is not None:
            return WrittenManifest(file, part.extents)
        table = overlay(manifest.table(node_id, part.rows.rank), part.rows)
    else:
        table = part.build()
        if not len(table):
            return None
    size = assets.save_manifest(manifest_id, [(node_id, table)])
    return WrittenManifest(ManifestFile(manifest_id, size, len(table)), extents_of(table))

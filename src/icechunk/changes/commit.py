"""Writing what a session did as a new snapshot.

Manifests first, then transaction log and snapshot: nothing points to them until the repository
object names the snapshot, so a failure at any point leaves garbage at worst, never damage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

from icechunk.changes.change_set import ChangeSet
from icechunk.changes.log import transaction_log
from icechunk.changes.plan import Edit, Extents, ManifestPlan, extents_of, plan_manifests
from icechunk.changes.view import NodeState
from icechunk.changes.workspace import Workspace
from icechunk.chunks import ChunkTable, overlay
from icechunk.config.splitting_rules import split_sizes_for
from icechunk.errors import ErrorKind, FormatError
from icechunk.format.ids import encode_id
from icechunk.format.snapshot import ArrayData, ManifestFile, ManifestRef, Node, Snapshot

UPLOADS_AT_ONCE: Final = 16


def write_snapshot(
    workspace: Workspace,
    message: str,
    metadata: Mapping[str, Any],
) -> Snapshot:
    """Write manifests, transaction log and snapshot of a workspace's edits.

    The workspace itself does not change. Nothing refers to the snapshot yet.

    Returns
    -------
    Snapshot
        The new snapshot, with a random id.

    Raises
    ------
    FormatError
        Kind ``snapshot-timestamp``: the clock is behind the base snapshot.
    StorageError
        Writing failed; the repository is unchanged.
    """
    changes = workspace.changes
    world = workspace.context.world
    base = workspace.base
    upserts, new_files = _write_manifests(workspace)
    removed = [node.path for node in changes.deleted.values()]
    nodes = base.nodes.replace(removed, upserts)
    files = base.manifest_files.replace(nodes.columns.ref_ids, new_files)
    flushed_at = world.now_us()
    if flushed_at <= base.flushed_at:
        raise FormatError(
            f"the clock of this machine ({flushed_at} us) is not after the base snapshot "
            f"{encode_id(base.id)} ({base.flushed_at} us); set the clock and try again",
            ErrorKind.SNAPSHOT_TIMESTAMP,
        )
    snapshot = Snapshot(
        id=world.random_id(),
        parent_id=None,
        nodes=nodes,
        flushed_at=flushed_at,
        message=message,
        metadata=dict(metadata),
        manifest_files=files,
    )
    assets = workspace.context.assets
    assets.save_transaction_log(transaction_log(changes, snapshot.id, workspace.net_moves()))
    assets.save_snapshot(snapshot)
    return snapshot


def _write_manifests(workspace: Workspace) -> tuple[list[Node], list[ManifestFile]]:
    """Write the manifests of every touched array; return all nodes to put, and the new files."""
    upserts: list[Node] = []
    files: list[ManifestFile] = []
    with _uploader(workspace) as save:
        for state in _touched(workspace):
            if state.grid is None:
                upserts.append(Node(state.id, state.path, state.user_data, None))
                continue
            plan = _plan_array(workspace, state)
            refs = [*plan.kept]
            for extents, file in save(state.id, (*plan.tables, *plan.edits)):
                refs.append(ManifestRef(file.id, extents))
                files.append(file)
            array = ArrayData(
                state.grid.shape, state.grid.num_chunks, state.grid.dimension_names, tuple(refs)
            )
            upserts.append(Node(state.id, state.path, state.user_data, array))
    return upserts, files


def _touched(workspace: Workspace) -> Iterator[NodeState]:
    """Iterate over nodes that were created, updated, or had chunks written."""
    changes: ChangeSet = workspace.changes
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


def _plan_array(workspace: Workspace, state: NodeState) -> ManifestPlan:
    grid = state.grid
    assert grid is not None
    rank = len(grid.shape)
    log = workspace.changes.chunks.get(state.id)
    return plan_manifests(
        grid.num_chunks,
        state.manifests,
        log.table() if log else ChunkTable.empty(rank),
        split_sizes_for(workspace.splitting, state.path, grid.dimension_names, rank),
        load=lambda ref: workspace.manifest(ref).table(state.id, rank),
        count=lambda ref: workspace.manifest_file(ref.id).num_chunk_refs,
    )


Content = ChunkTable | Edit
Saved = tuple[Extents, ManifestFile]
Saver = Callable[[bytes, tuple[Content, ...]], list[Saved]]


@contextmanager
def _uploader(workspace: Workspace) -> Iterator[Saver]:
    """Save manifests: one after the other, or several at once where storage is far away."""
    assets = workspace.context.assets
    world = workspace.context.world

    def save(node_id: bytes, content: Content) -> Saved:
        manifest_id = world.random_id()
        if isinstance(content, Edit):
            old = workspace.manifest(content.old)
            file = assets.save_patched_manifest(manifest_id, old, node_id, content.rows)
            if file is not None:
                return content.extents, file
            content = overlay(old.table(node_id, content.rows.rank), content.rows)
        size = assets.save_manifest(manifest_id, [(node_id, content)])
        return extents_of(content), ManifestFile(manifest_id, size, len(content))

    pool: ThreadPoolExecutor | None = None

    def save_all(node_id: bytes, contents: tuple[Content, ...]) -> list[Saved]:
        nonlocal pool
        if len(contents) <= 1 or workspace.context.storage.is_local:
            return [save(node_id, content) for content in contents]
        if pool is None:
            pool = ThreadPoolExecutor(UPLOADS_AT_ONCE, thread_name_prefix="icechunk-commit")
        return list(pool.map(lambda content: save(node_id, content), contents))

    try:
        yield save_all
    finally:
        if pool is not None:
            pool.shutdown()

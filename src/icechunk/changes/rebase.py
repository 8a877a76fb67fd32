"""Putting the edits of a session on top of what others have committed since it began.

Commit by commit, oldest first: conflicts are found from transaction logs, a solver decides, and the
session's base becomes that commit. No chunk is read and nothing is written; a snapshot is fetched
only where it matters which nodes there are. Icechunk spec, "Conflict resolution".
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final

import numpy as np

from icechunk.assets.manager import AssetManager
from icechunk.assets.workers import Workers
from icechunk.changes.conflicts import (
    Clash,
    Comparison,
    ConflictType,
    OurEdits,
    find_conflicts,
)
from icechunk.changes.moves import Arrangement, RequestedMove
from icechunk.changes.solvers import ConflictSolver
from icechunk.changes.workspace import Workspace
from icechunk.chunks import ChunkKind, in_grid
from icechunk.chunks.arrays import Coords
from icechunk.errors import (
    AlreadyExistsError,
    ErrorKind,
    NodeNotFoundError,
    RebaseFailedError,
    SessionStateError,
    StorageError,
)
from icechunk.format.ids import NODE_ID_SIZE, encode_id, id_column
from icechunk.format.nodes import NodeTable
from icechunk.format.transaction_log import TransactionLog
from icechunk.repo.ancestry import LoggedSnapshot, commits_since

__all__ = ["rebase"]

log = logging.getLogger(__name__)

LOGS_AHEAD: Final = 64


def rebase(workspace: Workspace, branch: str, solver: ConflictSolver) -> None:
    """Move the base of a workspace to the tip of a branch, solving conflicts on the way.

    The lock of the change set is held. A branch that is gone is left for the commit to report.

    Raises
    ------
    RebaseFailedError
        The solver gave up at a commit. What came before is solved, and the commit before it is the
        base now.
    SessionStateError
        Kind ``rebase-tx-log-pruned``: the transaction log of a commit is gone; the commits before
        it are dealt with. Or, in spec version 1, the history may have been shortened since the
        session began; then nothing has changed.
    NodeNotFoundError, SessionStateError
        A node that is to be moved is gone, or the group it is to be moved into. Or the branch was
        reset to a history without the nodes that were edited; then nothing has changed.
    """
    info = workspace.context.state()
    tip = info.branches.get(branch)
    if tip is None:
        log.warning("nothing to rebase on: the branch %r was deleted", branch)
        return
    if tip == workspace.snapshot_id:
        return
    unseen = commits_since(info, workspace.snapshot_id, tip)
    progress = _Progress(workspace)
    if unseen.is_continuation:
        try:
            progress.solve(unseen.commits, solver)
        finally:
            progress.apply()
        return
    if unseen.parted_at_root and workspace.context.spec_version == 1:
        raise SessionStateError(
            f"cannot rebase: branch `{branch}` has no snapshot in common with the session but the"
            " first one of the repository. Perhaps what was in between has expired, and in spec"
            " version 1 nobody can tell then what that changed; open a new session and make the"
            " changes again",
            ErrorKind.REBASE_TX_LOG_PRUNED,
        )
    # The branch was reset, or its tip amended: our base is not part of its history, and neither
    # is anything between. So it is all or nothing.
    progress.solve(unseen.commits, solver)
    _require_nodes(workspace, tip)
    _require_places(workspace, tip)
    progress.apply(tip)


class _Progress:
    """How far our edits have come; only `apply` changes the workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._commit: bytes | None = None
        self._taken_back: dict[bytes, list[Coords]] = {}

    def solve(self, commits: Sequence[LoggedSnapshot], solver: ConflictSolver) -> None:
        """Compare our edits with one commit after the other, until the solver gives up."""
        workspace = self._workspace
        assets = workspace.context.assets
        nodes = workspace.base.nodes
        ours = OurEdits.of(workspace.changes, nodes)
        known: Callable[[], NodeTable] = lambda: nodes  # noqa: E731
        logs = _fetch_logs(assets, [log_id for commit in commits for log_id in commit.logs])
        for commit in commits:
            resolutions = []
            for _ in commit.logs:
                theirs = next(logs)
                is_another_tree = _changes_the_tree(theirs)
                if is_another_tree:
                    known = _nodes_of(assets, commit.id)
                conflicts = find_conflicts(Comparison(ours, theirs, known))
                if ours.changes.moves and is_another_tree and not conflicts:
                    conflicts = _clashes_of_moves(ours.changes.moves, known())
                resolution = solver.resolve(conflicts)
                if resolution is None:
                    raise RebaseFailedError(
                        encode_id(commit.id), [clash.public() for clash in conflicts]
                    )
                for node_id, coords in resolution.dropped_chunks:
                    ours.take_back(node_id, coords)
                resolutions.append(resolution)
            self._commit = commit.id
            for resolution in resolutions:
                for node_id, coords in resolution.dropped_chunks:
                    self._taken_back.setdefault(node_id, []).append(coords)

    def apply(self, base: bytes | None = None) -> None:
        """Take back what the solver gave up, and go on from the last commit, or from `base`."""
        for node_id, coords in self._taken_back.items():
            self._workspace.changes.chunks[node_id].drop(np.concatenate(coords))
        base = base or self._commit
        if base is not None:
            self._workspace.rebase_to(base)


def _clashes_of_moves(moves: Sequence[RequestedMove], nodes: NodeTable) -> list[Clash]:
    """Make sure that our moves work on their nodes as well; a missing source raises."""
    arrangement = Arrangement(nodes)
    for move in moves:
        try:
            arrangement.replay(move)
        except AlreadyExistsError:
            return [Clash(ConflictType.NewNodeConflictsWithExistingNode, move.target)]
    return []


def _changes_the_tree(theirs: TransactionLog) -> bool:
    lists = (theirs.new_groups, theirs.new_arrays, theirs.deleted_groups, theirs.deleted_arrays)
    return bool(theirs.moves) or any(len(ids) for ids in lists)


def _nodes_of(assets: AssetManager, snapshot_id: bytes) -> Callable[[], NodeTable]:
    return lambda: assets.snapshot(snapshot_id).nodes


def _fetch_logs(assets: AssetManager, log_ids: Sequence[bytes]) -> Iterator[TransactionLog]:
    """Yield logs in order; from far away many at once, ahead of the one that is looked at."""
    with Workers(assets.storage.is_local, "icechunk-rebase") as workers:
        yield from workers.map(partial(_fetch_log, assets), log_ids, LOGS_AHEAD)


def _fetch_log(assets: AssetManager, log_id: bytes) -> TransactionLog:
    try:
        return assets.transaction_log(log_id)
    except StorageError as error:
        if error.kind != ErrorKind.OBJECT_NOT_FOUND:
            raise
        raise SessionStateError(
            f"cannot rebase: the transaction log {encode_id(log_id)} is gone, so nobody can tell "
            "what that commit changed; open a new session and make the changes again",
            ErrorKind.REBASE_TX_LOG_PRUNED,
        ) from error


def _require_nodes(workspace: Workspace, tip: bytes) -> None:
    """Refuse to go where our edits would belong to nodes that do not exist."""
    wanted = workspace.changes.edited_ids()
    rows = workspace.context.assets.snapshot(tip).nodes.locate_ids(id_column(wanted, NODE_ID_SIZE))
    for node_id, row in zip(wanted, rows.tolist(), strict=True):
        if row < 0:
            node = workspace.base.nodes.find_id(node_id)
            path = encode_id(node_id) if node is None else node.path
            raise NodeNotFoundError(
                f"cannot rebase: the branch was moved to snapshot {encode_id(tip)}, which does not "
                f"have the node `{path}` that this session edited; open a new session and make "
                "the changes again",
                ErrorKind.NODE_NOT_FOUND,
            )


def _require_places(workspace: Workspace, tip: bytes) -> None:
    """Refuse to go where what we created, moved or wrote has no place.

    What was deleted or enlarged only on the history left behind is there again or as small as it
    was, and no log tells.
    """
    changes = workspace.changes
    nodes = workspace.context.assets.snapshot(tip).nodes
    ours = OurEdits.of(changes, workspace.base.nodes)
    conflicts = find_conflicts(Comparison(ours, TransactionLog(tip), lambda: nodes))
    conflicts = conflicts or _clashes_of_moves(changes.moves or (), nodes)
    conflicts += _chunks_without_place(ours, nodes)
    if conflicts:
        raise RebaseFailedError(encode_id(tip), [clash.public() for clash in conflicts])


def _chunks_without_place(ours: OurEdits, nodes: NodeTable) -> list[Clash]:
    """Find arrays whose grid does not have all the chunks that we wrote."""
    clashes = []
    for node_id, chunks in ours.chunks.items():
        node = nodes.find_id(node_id)
        if node is None or node.array is None or node_id in ours.updated_arrays:
            continue
        written = chunks.table.take(chunks.kept & (chunks.table.kinds != ChunkKind.DELETED))
        grid = node.array.num_chunks
        if written.rank != len(grid) or not in_grid(written, grid).all():
            clashes.append(Clash(ConflictType.ChunksUpdatedInUpdatedArray, node.path, node_id))
    return clashes

"""The transaction log of a change set: what it did, by node id; and two logs as one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from icechunk.changes.change_set import ChangeSet
from icechunk.chunks.coords import sorted_unique
from icechunk.format.transaction_log import ID_LISTS, Move, TransactionLog, node_ids

__all__ = ["merged_log", "transaction_log"]


def transaction_log(
    changes: ChangeSet, snapshot_id: bytes, moves: tuple[Move, ...] = ()
) -> TransactionLog:
    """Record a change set as the transaction log of the snapshot made from it.

    `moves` is what the moves of the set come to, see `Workspace.net_moves`.

    Chunk coordinates written *or* deleted are listed, also those beyond the final grid.
    """
    created = changes.created.values()
    updated = changes.updated.values()
    deleted = changes.deleted.values()
    return TransactionLog(
        id=snapshot_id,
        new_groups=node_ids(edit.id for edit in created if edit.grid is None),
        new_arrays=node_ids(edit.id for edit in created if edit.grid is not None),
        deleted_groups=node_ids(node.id for node in deleted if not node.is_array),
        deleted_arrays=node_ids(node.id for node in deleted if node.is_array),
        updated_arrays=node_ids(edit.id for edit in updated if edit.grid is not None),
        updated_groups=node_ids(edit.id for edit in updated if edit.grid is None),
        updated_chunks={
            node_id: table.coords for node_id, table in sorted(changes.tables()) if len(table)
        },
        moves=moves,
    )


def merged_log(earlier: TransactionLog, later: TransactionLog) -> TransactionLog:
    """Return what two commits in a row did, as the log of one with the id of the later.

    Lists are united, so a node that one created and the other deleted stands in both lists. Moves
    of one node are chained; a node that is back where it started did not move. Amending a commit
    writes such a log.
    """
    lists: dict[str, Any] = {
        name: node_ids(np.concatenate([getattr(earlier, name), getattr(later, name)]))
        for name in ID_LISTS
    }
    chunks = dict(earlier.updated_chunks)
    for node_id, coords in later.updated_chunks.items():
        below = chunks.get(node_id)
        if below is None or below.shape[1] != coords.shape[1]:
            chunks[node_id] = coords  # the rank changes only where no chunk is left
        else:
            chunks[node_id] = sorted_unique(np.concatenate([below, coords]))
    return TransactionLog(
        later.id,
        **lists,
        updated_chunks=chunks,
        moves=_chained(earlier.moves, later.moves),
    )


def _chained(earlier: tuple[Move, ...], later: tuple[Move, ...]) -> tuple[Move, ...]:
    origins = {move.node_id: move.from_path for move in earlier}
    moves = {move.node_id: move for move in earlier}
    for move in later:
        origin = origins.get(move.node_id, move.from_path)
        moves[move.node_id] = replace(move, from_path=origin)
    return tuple(move for move in moves.values() if move.from_path != move.to_path)

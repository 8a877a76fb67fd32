"""The transaction log of a change set: what it did, by node id."""

from __future__ import annotations

from icechunk.changes.change_set import ChangeSet
from icechunk.format.transaction_log import Move, TransactionLog, node_ids


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

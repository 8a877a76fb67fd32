"""One transaction log for several snapshots in a row.

An amended commit did what its former version did and what was added; a snapshot whose ancestors
expired stands for what all of them did. Nothing is cancelled out: a node created and deleted on
the way is in both lists.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from icechunk.chunks.arrays import Coords, frozen
from icechunk.chunks.coords import sorted_unique
from icechunk.format.paths import segment_order_key
from icechunk.format.transaction_log import ID_LISTS, Move, TransactionLog, node_ids

__all__ = ["composite_log"]


def composite_log(logs: Sequence[TransactionLog], snapshot_id: bytes) -> TransactionLog:
    """Merge logs, oldest first, into the log of the snapshot that has the result of all.

    Id lists and chunk coordinates are united; moves of a node are chained, and dropped where they
    end at their start.
    """
    lists = {
        name: node_ids(np.concatenate([getattr(log, name) for log in logs])) for name in ID_LISTS
    }
    touched = sorted({node_id for log in logs for node_id in log.updated_chunks})
    return TransactionLog(
        snapshot_id,
        **lists,
        updated_chunks={node_id: _united(logs, node_id) for node_id in touched},
        moves=_chained(logs),
    )


def _united(logs: Sequence[TransactionLog], node_id: bytes) -> Coords:
    tables = [log.updated_chunks[node_id] for log in logs if node_id in log.updated_chunks]
    return tables[0] if len(tables) == 1 else frozen(sorted_unique(np.concatenate(tables)))


def _chained(logs: Sequence[TransactionLog]) -> tuple[Move, ...]:
    moves: dict[bytes, Move] = {}
    for log in logs:
        for move in log.moves:
            first = moves.get(move.node_id, move)
            moves[move.node_id] = Move(first.from_path, move.to_path, move.node_id, move.is_array)
    ended = [move for move in moves.values() if move.from_path != move.to_path]
    return tuple(sorted(ended, key=lambda move: segment_order_key(move.to_path)))

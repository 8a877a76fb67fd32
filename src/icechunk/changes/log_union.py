"""What many commits in a row did, as one transaction log.

All logs are united at once, column by column: uniting them two at a time would copy the chunks of
the first as often as there are logs. Chunks of an array are united when somebody asks for them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from icechunk.chunks.arrays import Coords, frozen
from icechunk.chunks.coords import distinct_rows
from icechunk.format.paths import segment_order_key
from icechunk.format.transaction_log import ID_LISTS, Move, TransactionLog, node_ids

__all__ = ["united_log"]


def united_log(logs: Sequence[TransactionLog]) -> TransactionLog:
    """Return what the commits of `logs`, oldest first, did together; it has the id of the last.

    Lists are united, so a node that one commit created and another deleted stands in both lists.
    Moves of one node are chained, sorted by where they end; a node that is back where it started
    did not move.
    """
    if len(logs) == 1:
        return logs[0]
    chunks: dict[bytes, list[Mapping[bytes, Coords]]] = defaultdict(list)
    for log in logs:
        for node_id in log.updated_chunks:
            chunks[node_id].append(log.updated_chunks)
    lists = {
        name: node_ids(np.concatenate([getattr(log, name) for log in logs])) for name in ID_LISTS
    }
    return TransactionLog(
        logs[-1].id,
        **lists,
        updated_chunks=_UnitedChunks(dict(sorted(chunks.items()))),
        moves=_chained(logs),
    )


class _UnitedChunks(Mapping[bytes, Coords]):
    """Chunks by node id, put together from those of several logs on demand."""

    __slots__ = ("_made", "_parts")

    def __init__(self, parts: Mapping[bytes, Sequence[Mapping[bytes, Coords]]]) -> None:
        self._parts = parts
        self._made: dict[bytes, Coords] = {}

    def __getitem__(self, node_id: bytes) -> Coords:
        made = self._made.get(node_id)
        if made is None:
            made = _united([chunks[node_id] for chunks in self._parts[node_id]])
            self._made[node_id] = made
        return made

    def __contains__(self, node_id: object) -> bool:
        return node_id in self._parts

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)


def _united(parts: Sequence[Coords]) -> Coords:
    # An array changes its rank only while it has no chunks: those of another rank are gone.
    # Some writers list arrays of which no chunk changed; a list without chunks tells no rank.
    parts = [coords for coords in parts if len(coords)] or parts
    alike = [coords for coords in parts if coords.shape[1] == parts[-1].shape[1]]
    return alike[0] if len(alike) == 1 else frozen(distinct_rows(alike))


def _chained(logs: Sequence[TransactionLog]) -> tuple[Move, ...]:
    moves: dict[bytes, Move] = {}
    for log in logs:
        for move in log.moves:
            first = moves.get(move.node_id, move)
            moves[move.node_id] = replace(move, from_path=first.from_path)
    away = (move for move in moves.values() if move.from_path != move.to_path)
    return tuple(sorted(away, key=lambda move: segment_order_key(move.to_path)))

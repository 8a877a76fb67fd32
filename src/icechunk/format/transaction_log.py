"""Transaction log files: what one snapshot changed relative to its parent.

Lists of node ids by what happened to them, the chunk coordinates set or deleted per array, and
moved nodes. Reading data never needs a log; diffs and rebases do. After an amend the same id may
be in several lists. Icechunk spec, "Transaction logs".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from icechunk.chunks.arrays import MAX_RANK, Coords, frozen
from icechunk.chunks.coords import sorted_unique
from icechunk.format import flatbuf, schema
from icechunk.format.damage import Damage
from icechunk.format.envelope import FileKind, unwrap, wrap
from icechunk.format.flatbuf_single import Single, equal_vectors
from icechunk.format.paths import segment_order_key

NodeIds = npt.NDArray[np.uint8]
"""(k, 8) node ids, sorted by bytes and distinct."""

ID_LISTS = (
    "new_groups",
    "new_arrays",
    "deleted_groups",
    "deleted_arrays",
    "updated_arrays",
    "updated_groups",
)

GROUP, ARRAY = 0, 1
"""Values of `MoveOperation.node_type`."""


@dataclass(frozen=True, slots=True)
class Move:
    """One node that is now at another path; descendants of a moved group are listed too."""

    from_path: str
    """Path in the parent snapshot."""
    to_path: str
    """Path in this snapshot."""
    node_id: bytes
    is_array: bool


def node_ids(ids: Any = ()) -> NodeIds:
    """Make a list of node ids: `(k, 8)` bytes, or an iterable of 8 bytes each, in any order."""
    if not isinstance(ids, np.ndarray):
        ids = np.frombuffer(b"".join(ids), np.uint8)
    if not len(ids):
        return _NO_IDS
    rows = np.ascontiguousarray(ids, np.uint8).reshape(-1, 8)
    if len(rows) < 2:
        return frozen(rows)
    # Big-endian numbers order as the bytes do.
    return frozen(np.unique(rows.view(">u8").reshape(-1)).view(np.uint8).reshape(-1, 8))


_NO_IDS: NodeIds = frozen(np.zeros((0, 8), np.uint8))


@dataclass(frozen=True, slots=True, eq=False)
class TransactionLog:
    """The changes of the snapshot with the same id.

    Construct id lists with `node_ids`; `updated_chunks` holds sorted distinct coordinates.
    """

    id: bytes
    """The snapshot's id, 12 bytes."""
    new_groups: NodeIds = field(default_factory=node_ids)
    new_arrays: NodeIds = field(default_factory=node_ids)
    deleted_groups: NodeIds = field(default_factory=node_ids)
    """Ids known to the parent; deleting a group lists every descendant."""
    deleted_arrays: NodeIds = field(default_factory=node_ids)
    updated_arrays: NodeIds = field(default_factory=node_ids)
    """Nodes of the parent whose metadata changed."""
    updated_groups: NodeIds = field(default_factory=node_ids)
    updated_chunks: Mapping[bytes, Coords] = field(default_factory=dict)
    """Coordinates (n, rank) set or deleted, by node id."""
    moves: tuple[Move, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing changed, as in the first snapshot and in rewrites of manifests."""
        lists = any(len(getattr(self, name)) for name in ID_LISTS)
        return not (lists or self.updated_chunks or self.moves)


def decode_transaction_log(data: bytes, key: str, *, lazy: bool = False) -> TransactionLog:
    """Read the transaction log file found at `key`.

    Parameters
    ----------
    data, key
        Content and name of the file.
    lazy
        Read the chunks of an array when they are first asked for: most commits touch arrays that
        nobody asks about. Damage among them is found no earlier.

    Raises
    ------
    FormatError
        The file is not a transaction log, or damaged.
    """
    buffer = flatbuf.Buffer(unwrap(data, FileKind.TRANSACTION_LOG, key).payload, key)
    root = Single.root(buffer, schema.TRANSACTION_LOG)
    lists = {name: node_ids(root.vector(name)) for name in ID_LISTS}
    spans: dict[bytes, tuple[int, int]] = {}
    for array in root.tables("updated_chunks"):
        node_id = array.struct("node_id")
        if node_id in spans:
            buffer.fail("TransactionLog.updated_chunks", "an array is listed twice")
        spans[node_id] = array.offsets("chunks")
    chunks = _Chunks(buffer, spans)
    updated: Mapping[bytes, Coords] = chunks if lazy else dict(chunks)
    moves = _moves(buffer.root(schema.TRANSACTION_LOG)) if root.offsets("moved_nodes")[1] else ()
    return TransactionLog(root.struct("id"), **lists, updated_chunks=updated, moves=moves)


class _Chunks(Mapping[bytes, Coords]):
    """Chunks by node id, read when they are asked for."""

    __slots__ = ("_buffer", "_gathered", "_read", "_spans")

    def __init__(self, buffer: flatbuf.Buffer, spans: Mapping[bytes, tuple[int, int]]) -> None:
        self._buffer = buffer
        self._spans = spans
        self._read: dict[bytes, Coords] = {}
        self._gathered = 0

    def __getitem__(self, node_id: bytes) -> Coords:
        found = self._read.get(node_id)
        if found is None:
            coords = _coords(self._buffer, *self._spans[node_id])
            self._gathered += coords.nbytes
            self._buffer.limited(self._gathered, "ArrayUpdatedChunks.chunks")
            found = self._read[node_id] = frozen(sorted_unique(coords))
        return found

    def __contains__(self, node_id: object) -> bool:
        return node_id in self._spans

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._spans)

    def __len__(self) -> int:
        return len(self._spans)


def _coords(buffer: flatbuf.Buffer, start: int, count: int) -> Coords:
    """Read the chunks of one array: a vector of tables that hold a vector of numbers each."""
    table = schema.CHUNK_INDICES
    rows = equal_vectors(buffer, table, table["coords"], start, count)
    if rows is None:
        places = start + 4 * np.arange(count, dtype=np.int64)
        chunks = flatbuf.Rows(buffer, table, buffer.follow(places, "ArrayUpdatedChunks.chunks"))
        coords = chunks.vectors("coords")
        ends = coords.offsets
        rank = int(ends[1] - ends[0]) if count else 0
        if not bool((np.diff(ends) == rank).all()):
            buffer.fail(
                "ChunkIndices.coords", "chunks of one array differ in rank", Damage.RANK_WRONG
            )
        rows = coords.values.reshape(count, rank)
    if rows.shape[1] > MAX_RANK:
        buffer.fail(
            "ChunkIndices.coords", f"chunks have {rows.shape[1]} axes, more than {MAX_RANK}"
        )
    return rows


def _moves(root: flatbuf.Rows) -> tuple[Move, ...]:
    # Absent in files of spec version 1 writers.
    rows, _ = root.tables("moved_nodes")
    return tuple(
        Move(source or "", target or "", node.tobytes(), node_type == ARRAY)
        for source, target, node, node_type in zip(
            rows.texts("from"),
            rows.texts("to"),
            rows.struct("node_id"),
            rows.scalar("node_type").tolist(),
            strict=True,
        )
    )


def encode_transaction_log(
    log: TransactionLog, *, level: int | None = None, spec_version: int = 2
) -> bytes:
    """Write a transaction log file; every list is present, also when it is empty."""
    updated = sorted(log.updated_chunks.items())
    tables = [coords for _, coords in updated]
    moves = sorted(log.moves, key=lambda move: segment_order_key(move.to_path))
    columns: dict[str, Any] = {
        "id": np.frombuffer(log.id, np.uint8),
        **{name: getattr(log, name)[None] for name in ID_LISTS},
        "updated_chunks": flatbuf.Children(
            [len(updated)],
            flatbuf.Tables(
                len(updated),
                {
                    "node_id": _id_column([node_id for node_id, _ in updated]),
                    "chunks": flatbuf.Children(
                        [len(coords) for coords in tables],
                        flatbuf.Tables(
                            sum(map(len, tables)), {"coords": flatbuf.stack_vectors(tables)}
                        ),
                    ),
                },
            ),
        ),
        "moved_nodes": flatbuf.Children(
            [len(moves)],
            flatbuf.Tables(
                len(moves),
                {
                    "from": [move.from_path for move in moves],
                    "to": [move.to_path for move in moves],
                    "node_id": _id_column([move.node_id for move in moves]),
                    "node_type": [ARRAY if move.is_array else GROUP for move in moves],
                },
            ),
        ),
    }
    payload = flatbuf.lay_out(schema.TRANSACTION_LOG, flatbuf.Tables(1, columns))
    return wrap(FileKind.TRANSACTION_LOG, payload, level=level, spec_version=spec_version)


def _id_column(ids: list[bytes]) -> NodeIds:
    return np.frombuffer(b"".join(ids), np.uint8).reshape(-1, 8)

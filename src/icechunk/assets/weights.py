"""What cached objects weigh, in the units of the configuration.

The configuration counts chunk references, nodes and changes. Each of these stands for a number of
bytes as well, and an object weighs what is more: its count, or its memory divided by that number.
So ordinary objects weigh what the configuration says, while inlined chunks, long locations and
large attributes weigh more than their number, and the memory of a cache is bounded by its setting:
`num_chunk_refs` times `BYTES_PER_REF`, and so on.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Final

from icechunk.format.manifest import Manifest
from icechunk.format.nodes import NodeColumns
from icechunk.format.snapshot import Snapshot
from icechunk.format.transaction_log import ID_LISTS, TransactionLog

__all__ = [
    "BYTES_PER_CHANGE",
    "BYTES_PER_NODE",
    "BYTES_PER_REF",
    "CHUNK_OVERHEAD",
    "weigh_chunk",
    "weigh_manifest",
    "weigh_snapshot",
    "weigh_transaction_log",
]

BYTES_PER_REF: Final = 128
"""A native chunk of a three-dimensional array takes 52 in the file and 41 once it is decoded."""
BYTES_PER_NODE: Final = 4096
"""An array with some attributes takes one to three thousand, with the objects made for it."""
BYTES_PER_CHANGE: Final = 64
CHUNK_OVERHEAD: Final = 256
"""Keeping a chunk takes so many bytes beyond its own."""

_OVERHEAD: Final = 2048
"""Of any object: what Python needs to hold it together."""
_BYTES_PER_NODE_OBJECT: Final = 600
_BYTES_PER_REF_OBJECT: Final = 400
_BYTES_PER_FILE: Final = 180
"""One manifest in the index of a snapshot's manifests."""


def weigh_manifest(manifest: Manifest) -> int:
    """Weigh a manifest as chunk references: its payload, and what was decoded of it so far."""
    return max(manifest.num_refs(), _units(manifest.nbytes, BYTES_PER_REF))


def weigh_snapshot(snapshot: Snapshot) -> int:
    """Weigh a snapshot as nodes, with all node objects that can be made of its columns."""
    columns = snapshot.nodes.columns
    nbytes = (
        _nbytes(columns)
        + columns.user_data.nbytes  # again, in the objects
        + _BYTES_PER_NODE_OBJECT * len(columns)
        + _BYTES_PER_REF_OBJECT * len(columns.ref_ids)
        + _BYTES_PER_FILE * len(snapshot.manifest_files)
    )
    return max(len(columns), _units(nbytes, BYTES_PER_NODE))


def weigh_transaction_log(log: TransactionLog) -> int:
    """Weigh a transaction log as changes: nodes, chunks and moves."""
    lists = [getattr(log, name) for name in ID_LISTS]
    chunks = list(log.updated_chunks.values())
    count = sum(map(len, lists)) + sum(map(len, chunks)) + len(log.moves)
    nbytes = (
        sum(column.nbytes for column in (*lists, *chunks))
        + sum(len(move.from_path) + len(move.to_path) + 2 * CHUNK_OVERHEAD for move in log.moves)
        + CHUNK_OVERHEAD * len(chunks)
    )
    return max(count, _units(nbytes, BYTES_PER_CHANGE))


def weigh_chunk(chunk: bytes) -> int:
    """Weigh the bytes of a chunk."""
    return len(chunk) + CHUNK_OVERHEAD


def _nbytes(columns: NodeColumns) -> int:
    return sum(getattr(columns, column.name).nbytes for column in fields(columns))


def _units(nbytes: int, size: int) -> int:
    return -(-(nbytes + _OVERHEAD) // size)

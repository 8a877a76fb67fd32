"""What a snapshot file says of the snapshot as a whole, read without its nodes.

Whoever walks a history of spec version 1 opens every file, and asks for a few bytes of it. Nodes
and manifests are not looked at, so damage there goes unnoticed. Icechunk spec, "Snapshot files".
"""

from __future__ import annotations

from icechunk.format import schema
from icechunk.format.envelope import FileKind, unwrap
from icechunk.format.flatbuf import Buffer
from icechunk.format.flatbuf_single import Single
from icechunk.format.snapshot_table import SnapshotEntry
from icechunk.format.values import decode_value

__all__ = ["decode_snapshot_head"]


def decode_snapshot_head(data: bytes, key: str) -> SnapshotEntry:
    """Read the head of a snapshot file; `key` names it in messages.

    Files of spec version 2 name no parent.

    Raises
    ------
    FormatError
        When the file is no snapshot, or damaged where it was looked at.
    """
    envelope = unwrap(data, FileKind.SNAPSHOT, key)
    version = envelope.spec_version
    root = Single.root(Buffer(envelope.payload, key), schema.SNAPSHOT)
    metadata = {}
    for item in root.tables("metadata"):
        name = item.text("name")
        value = item.vector("value").tobytes()
        metadata[name] = decode_value(value, version, f"{key}: metadata {name!r}")
    return SnapshotEntry(
        id=root.struct("id"),
        parent_id=root.find_struct("parent_id") if version == 1 else None,
        flushed_at=root.number("flushed_at"),
        message=root.text("message"),
        metadata=metadata,
    )

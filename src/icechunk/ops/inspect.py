"""What the files of a repository say, as plain dictionaries for looking at.

Bytes in, JSON-like values out; nothing here fetches. Keys are those that users of the reference
implementation know. Ids are text, times are ISO 8601 in UTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Final

from icechunk.changes.log_union import united_log
from icechunk.chunks import ChunkKind
from icechunk.format.envelope import FileKind, Header, read_header
from icechunk.format.ids import encode_id, encode_ids
from icechunk.format.manifest import Manifest
from icechunk.format.nodes import ArrayData, Node
from icechunk.format.ops_log import (
    Availability,
    FeatureFlagChanged,
    RepoMigrated,
    RepoStatus,
    RepoStatusChanged,
    UnknownUpdate,
    UpdateEntry,
    UpdateKind,
)
from icechunk.format.paths import segment_order_key
from icechunk.format.repo_info import RepoInfo
from icechunk.format.snapshot import decode_snapshot
from icechunk.format.snapshot_table import SnapshotEntry
from icechunk.format.transaction_log import ID_LISTS, TransactionLog, decode_transaction_log
from icechunk.repo.times import to_datetime

__all__ = [
    "describe_manifest",
    "describe_repo_info",
    "describe_snapshot",
    "describe_transaction_log",
]

Described = dict[str, Any]

_FILE_TYPES: Final = {
    FileKind.SNAPSHOT: "snapshot",
    FileKind.MANIFEST: "manifest",
    FileKind.TRANSACTION_LOG: "transaction-log",
    FileKind.REPO_INFO: "repo-info",
}
_AVAILABILITY: Final = {
    Availability.ONLINE: "Online",
    Availability.READ_ONLY: "ReadOnly",
    Availability.OFFLINE: "Offline",
}
_COMPOSITE_NOTE: Final = (
    "Merged from several files: expiration dropped the ancestors listed below, and their logs are "
    "part of this one. The header is that of the snapshot's own file."
)


def describe_snapshot(data: bytes, key: str) -> Described:
    """Describe a snapshot file read from `key`: its nodes, and the manifests they need.

    Raises
    ------
    FormatError
        The file is damaged or not a snapshot.
    """
    snapshot = decode_snapshot(data, key)
    return {
        "id": encode_id(snapshot.id),
        "header": _header(read_header(data, FileKind.SNAPSHOT, key)),
        "flushed_at": _time(snapshot.flushed_at),
        "commit_message": snapshot.message,
        "metadata": snapshot.metadata,
        "manifests": [
            {
                "id": encode_id(file.id),
                "size_bytes": file.size_bytes,
                "num_chunk_refs": file.num_chunk_refs,
            }
            for file in snapshot.manifest_files
        ],
        "nodes": [_node(node) for node in snapshot.nodes],
    }


def describe_manifest(data: bytes, key: str) -> Described:
    """Describe a manifest file read from `key`: how many references it has, and of which kinds.

    Its `size_bytes` is that of the decompressed content. Decodes all references.

    Raises
    ------
    FormatError
        The file is damaged or not a manifest.
    """
    manifest = Manifest.decode(data, key)
    arrays = [_array_counts(manifest, node_id) for node_id in manifest.node_ids]
    compression: Described = {
        "uses_location_compression": manifest.dictionary_size > 0,
        "num_compressed_refs": manifest.num_compressed_locations(),
    }
    if manifest.dictionary_size:
        compression["dictionary_size_bytes"] = manifest.dictionary_size
    return {
        "id": encode_id(manifest.id),
        "header": _header(read_header(data, FileKind.MANIFEST, key)),
        "size_bytes": manifest.payload_size,
        "num_arrays": len(arrays),
        "total_chunk_refs": sum(counts["num_chunk_refs"] for counts in arrays),
        "total_inline": sum(counts["num_inline"] for counts in arrays),
        "total_native": sum(counts["num_native"] for counts in arrays),
        "total_virtual": sum(counts["num_virtual"] for counts in arrays),
        "arrays": arrays,
        "compression": compression,
    }


def describe_transaction_log(
    data: bytes, key: str, pruned: Sequence[tuple[bytes, TransactionLog | None]] = ()
) -> Described:
    """Describe a transaction log file read from `key`.

    Parameters
    ----------
    data, key
        The file.
    pruned
        Ids and logs of the ancestors that expiration dropped, oldest first; None for a log that
        is gone. They are merged into the description, which then says so.

    Raises
    ------
    FormatError
        The file is damaged or not a transaction log.
    """
    log = decode_transaction_log(data, key)
    found = [(log_id, older) for log_id, older in pruned if older is not None]
    if found:
        log = united_log([*(older for _, older in found), log])
    moves = sorted(log.moves, key=lambda move: segment_order_key(move.to_path))
    described: Described = {
        "header": _header(read_header(data, FileKind.TRANSACTION_LOG, key)),
        **{name: encode_ids(getattr(log, name)) for name in ID_LISTS},
        "updated_chunks": [
            {"node_id": encode_id(node_id), "chunks": coords.tolist()}
            for node_id, coords in sorted(log.updated_chunks.items())
        ],
        "moved_nodes": [{"from": move.from_path, "to": move.to_path} for move in moves],
    }
    if pruned:
        described["synthetic_composite"] = {
            "note": _COMPOSITE_NOTE,
            "merged_pruned_ancestor_tx_logs": [encode_id(log_id) for log_id, _ in found],
            "missing_tx_logs": [encode_id(log_id) for log_id, older in pruned if older is None],
        }
    return described


def describe_repo_info(info: RepoInfo, data: bytes, key: str) -> Described:
    """Describe the state of a repository, decoded from the file `data` read from `key`.

    The operations log is described as far as it is in this file.
    """
    described: Described = {
        "header": _header(read_header(data, FileKind.REPO_INFO, key)),
        "spec_version": _version(info.spec_version),
        "branches": {name: encode_id(target) for name, target in sorted(info.branches.items())},
        "tags": {name: encode_id(target) for name, target in sorted(info.tags.items())},
        "deleted_tags": sorted(info.deleted_tags),
        "snapshots": [_history_entry(entry) for entry in info.snapshots],
        "metadata": dict(info.metadata),
        "latest_updates": [_update(entry) for entry in info.updates],
    }
    if info.repo_before_updates is not None:
        described["repo_before_updates"] = info.repo_before_updates
    return described


def _header(header: Header) -> Described:
    app, dash, version = header.written_by.partition("-")
    described = {
        "written_by": header.written_by,
        "app_name": app,
        "spec_version": _version(header.spec_version),
        "file_type": _FILE_TYPES[header.kind],
        "compression": "zstd" if header.is_compressed else "none",
    }
    if dash:
        described["app_version"] = version
    return described


def _version(number: int) -> str:
    return f"{number}.0"


def _time(us: int) -> str:
    """Write a time with as few digits of a second as it needs: none, three or six."""
    digits = "microseconds" if us % 1000 else "milliseconds" if us % 1_000_000 else "seconds"
    return to_datetime(us).isoformat(timespec=digits).replace("+00:00", "Z")


def _node(node: Node) -> Described:
    described: Described = {
        "id": encode_id(node.id),
        "path": node.path,
        "node_type": "group" if node.array is None else "array",
    }
    if node.array is not None:
        described["shape"] = _shape(node.array)
        described["manifest_refs"] = [
            {"id": encode_id(ref.id), "extents": [list(extent) for extent in ref.extents]}
            for ref in node.array.manifests
        ]
    return described


def _shape(array: ArrayData) -> list[Described]:
    names = array.dimension_names or ()
    shape: list[Described] = []
    for axis, (length, chunks) in enumerate(zip(array.shape, array.num_chunks, strict=True)):
        dimension: Described = {"array_length": length, "num_chunks": chunks}
        name = names[axis] if axis < len(names) else None
        if name is not None:
            dimension["name"] = name
        shape.append(dimension)
    return shape


def _array_counts(manifest: Manifest, node_id: bytes) -> Described:
    table = manifest.table(node_id)
    counts = table.count_by_kind()
    return {
        "node_id": encode_id(node_id),
        "num_chunk_refs": len(table),
        "num_inline": counts[ChunkKind.INLINE],
        "num_native": counts[ChunkKind.NATIVE],
        "num_virtual": counts[ChunkKind.VIRTUAL],
    }


def _history_entry(entry: SnapshotEntry) -> Described:
    described: Described = {
        "id": encode_id(entry.id),
        "flushed_at": _time(entry.flushed_at),
        "message": entry.message,
        "metadata": entry.metadata,
    }
    if entry.parent_id is not None:
        described["parent_id"] = encode_id(entry.parent_id)
    return described


def _update(entry: UpdateEntry) -> Described:
    described: Described = {
        "update_type": _update_type(entry.kind),
        "updated_at": _time(entry.updated_at),
    }
    if entry.backup_path is not None:
        described["backup_path"] = entry.backup_path
    return described


def _update_type(kind: UpdateKind) -> Described:
    name = type(kind).__name__
    match kind:
        case UnknownUpdate():
            return {"type": "Unknown", "discriminant": kind.discriminant}
        case FeatureFlagChanged():
            value = kind.new_value if kind.is_set else None
            return {"type": name, "id": kind.id, "new_value": value}
        case RepoMigrated():
            return {
                "type": f"{name}Update",
                "from_version": _version(kind.from_version),
                "to_version": _version(kind.to_version),
            }
        case RepoStatusChanged():
            return {"type": f"{name}Update", "status": _status(kind.status)}
    values = {field.name: getattr(kind, field.name) for field in fields(kind)}
    texts = {k: encode_id(v) if isinstance(v, bytes) else v for k, v in values.items()}
    return {"type": f"{name}Update", **texts}


def _status(status: RepoStatus) -> Described:
    known = {int(value): text for value, text in _AVAILABILITY.items()}
    return {
        "availability": known.get(status.availability, f"Unknown ({status.availability})"),
        "limited_availability_reason": status.reason,
        "set_at": _time(status.set_at),
    }

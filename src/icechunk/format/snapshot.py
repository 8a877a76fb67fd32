"""The snapshot file: all nodes of a repository at one commit, and the manifests they need.

Files of both spec versions are read, whatever mixture of old and new fields they hold. Which of
the two is written is the snapshot's own choice: version 1 keeps shapes and manifest infos as
structs, the parent's id, and MessagePack metadata. Icechunk spec, "Snapshot files".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from icechunk.errors import ErrorKind, FormatError
from icechunk.format import schema
from icechunk.format.envelope import FileKind, unwrap, wrap
from icechunk.format.flatbuf import Buffer, Children, Ragged, Rows, Tables, encode
from icechunk.format.ids import encode_id, sortable
from icechunk.format.manifest_files import ManifestFile, ManifestFiles
from icechunk.format.metadata_items import metadata_of, metadata_to
from icechunk.format.node_codec import nodes_of, nodes_to
from icechunk.format.nodes import ArrayData, ManifestRef, Node, NodeTable
from icechunk.format.snapshot_table import SnapshotEntry

__all__ = [
    "ArrayData",
    "ManifestFile",
    "ManifestFiles",
    "ManifestRef",
    "Node",
    "NodeTable",
    "Snapshot",
    "decode_snapshot",
    "encode_snapshot",
    "manifest_files_of",
]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One state of all nodes."""

    id: bytes
    parent_id: bytes | None
    """Only in files of spec version 1; later versions keep history in the repo info object."""
    nodes: NodeTable
    flushed_at: int
    """Microseconds since the epoch."""
    message: str
    metadata: dict[str, Any] = field(default_factory=dict)
    manifest_files: ManifestFiles = field(default_factory=lambda: ManifestFiles.from_files(()))
    """Exactly the manifests that the arrays refer to; given as any iterable of them."""
    spec_version: int = 2
    """Version of the spec that the file follows."""

    def __post_init__(self) -> None:
        files: ManifestFiles | Iterable[ManifestFile] = self.manifest_files
        if not isinstance(files, ManifestFiles):
            object.__setattr__(self, "manifest_files", ManifestFiles.from_files(files))

    @property
    def head(self) -> SnapshotEntry:
        """What the file says of the snapshot as a whole."""
        return SnapshotEntry(self.id, self.parent_id, self.flushed_at, self.message, self.metadata)


def decode_snapshot(data: bytes, key: str) -> Snapshot:
    """Read a snapshot file; `key` names it in messages.

    Raises
    ------
    FormatError
        When the file is damaged or not a snapshot.
    """
    envelope = unwrap(data, FileKind.SNAPSHOT, key)
    root = Buffer(envelope.payload, key).root(schema.SNAPSHOT)
    version = envelope.spec_version
    nodes, _ = root.tables("nodes")
    # In later versions the parent stands in the repo info object, which may rewrite it.
    has_parent = version == 1 and bool(root.present("parent_id")[0])
    return Snapshot(
        id=root.struct("id")[0].tobytes(),
        parent_id=root.struct("parent_id")[0].tobytes() if has_parent else None,
        nodes=NodeTable(nodes_of(nodes)),
        flushed_at=int(root.scalar("flushed_at")[0]),
        message=str(root.texts("message")[0]),
        metadata=metadata_of(root, version),
        manifest_files=manifest_files_of(root),
        spec_version=version,
    )


def encode_snapshot(snapshot: Snapshot, *, level: int | None = None) -> bytes:
    """Write a snapshot file of the snapshot's spec version.

    Raises
    ------
    FormatError
        Of kind ``manifest-info-not-found`` when the manifest files are not exactly those that the
        arrays refer to; of kind ``serialization`` for text that is not valid Unicode.
    """
    name = encode_id(snapshot.id)
    version = snapshot.spec_version
    files = snapshot.manifest_files
    if not files.is_exactly(snapshot.nodes.columns.ref_ids):
        raise FormatError(
            f"snapshot {name}: the list of manifest files is not that of the manifests its arrays "
            "refer to",
            ErrorKind.MANIFEST_INFO_NOT_FOUND,
        )
    columns: dict[str, Any] = {
        "id": [list(snapshot.id)],
        "nodes": nodes_to(snapshot.nodes.columns, version),
        "flushed_at": [snapshot.flushed_at],
        "message": [snapshot.message],
        "metadata": metadata_to(snapshot.metadata, version),
        "manifest_files": _file_structs(files if version == 1 else ManifestFiles.from_files(())),
    }
    if version == 1:
        columns["parent_id"] = snapshot.parent_id and [list(snapshot.parent_id)]
    else:
        infos = {"id": files.ids, "size_bytes": files.sizes, "num_chunk_refs": files.counts}
        columns["manifest_files_v2"] = Children([len(files)], Tables(len(files), infos))
    try:
        payload = encode(schema.SNAPSHOT, Tables(1, columns))
    except UnicodeEncodeError as error:
        raise FormatError(
            f"snapshot {name}: {error.object!r} is not valid Unicode text", ErrorKind.SERIALIZATION
        ) from error
    return wrap(FileKind.SNAPSHOT, payload, level=level, spec_version=version)


def manifest_files_of(root: Rows) -> ManifestFiles:
    """Read the list of manifests, in whichever of its two forms a file has it."""
    if root.present("manifest_files_v2")[0]:
        infos, _ = root.tables("manifest_files_v2")
        ids = infos.struct("id")
        sizes, counts = infos.scalar("size_bytes"), infos.scalar("num_chunk_refs")
    else:
        records = root.vectors("manifest_files").values
        ids = np.ascontiguousarray(records["id"])
        sizes, counts = records["size_bytes"].copy(), records["num_chunk_refs"].copy()
    _, rows = np.unique(sortable(ids), return_index=True)
    return ManifestFiles(ids[rows], sizes[rows], counts[rows])


def _file_structs(files: ManifestFiles) -> Ragged:
    records = np.zeros(len(files), schema.MANIFEST_FILE_INFO.dtype)
    records["id"], records["size_bytes"], records["num_chunk_refs"] = (
        files.ids,
        files.sizes,
        files.counts,
    )
    return Ragged(np.array([0, len(files)]), records)

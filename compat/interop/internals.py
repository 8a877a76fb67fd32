"""What needs this package's inner layers: only ever called on our side.

Reads files one by one with `icechunk.format`, which works for both versions of the format and for
repositories that the public interface does not open; and writes what it has no call for yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr

import icechunk
from icechunk.chunks import ChunkKind, ChunkRef, ChunkTable
from icechunk.format.ids import encode_id
from icechunk.format.manifest import Manifest
from icechunk.format.repo_info import decode_repo_info
from icechunk.format.snapshot import ArrayData, Node, Snapshot, decode_snapshot
from icechunk.format.transaction_log import decode_transaction_log
from interop.describe import digest, open_repository
from interop.scenarios import create

Json = Any


def read_files(path: str) -> dict[str, Json]:
    """Read every snapshot file of a repository with its manifests and chunks, by snapshot id."""
    return {name: _read_snapshot(Path(path), name) for name in _names(path, "snapshots")}


def spec_versions(path: str) -> dict[str, list[int]]:
    """Return the versions of the format that the files of each kind are written in."""
    folders = ("snapshots", "manifests", "transactions")
    return {
        folder: sorted(
            {(Path(path) / folder / name).read_bytes()[36] for name in _names(path, folder)}
        )
        for folder in folders
    }


def _read_snapshot(root: Path, name: str) -> Json:
    snapshot = _snapshot(root, name)
    digests = {}
    for node in snapshot.nodes:
        prefix = node.path.lstrip("/")
        digests[f"{prefix}/zarr.json".lstrip("/")] = digest(node.user_data)
        for coords, ref in _references(root, node):
            assert ref.kind != ChunkKind.VIRTUAL, "its bytes are not in the repository"
            key = "/".join([prefix, "c", *map(str, coords)]).lstrip("/")
            digests[key] = digest(_chunk_bytes(root, ref))
    return {
        "parent_id": None if snapshot.parent_id is None else encode_id(snapshot.parent_id),
        "message": snapshot.message,
        "metadata": snapshot.metadata,
        "flushed_at": snapshot.flushed_at,
        "manifests": sorted(
            [encode_id(file.id), file.size_bytes, file.num_chunk_refs]
            for file in snapshot.manifest_files
        ),
        "digests": digests,
    }


def read_changes(path: str, snapshot_id: str, parent_id: str) -> Json:
    """Read one transaction log, with paths for node ids where the two snapshots know them."""
    root = Path(path)
    key = f"transactions/{snapshot_id}"
    log = decode_transaction_log((root / key).read_bytes(), key)
    paths = {
        node.id: node.path
        for name in (parent_id, snapshot_id)
        for node in _snapshot(root, name).nodes
    }

    def named(ids: np.ndarray) -> list[str]:
        return sorted(paths[row.tobytes()] for row in ids)

    kinds = ("new_groups", "new_arrays", "deleted_groups", "deleted_arrays", "updated_groups",
             "updated_arrays")  # fmt: skip
    found: dict[str, Json] = {kind: named(getattr(log, kind)) for kind in kinds}
    found["updated_chunks"] = {
        paths[node_id]: coords.tolist()
        for node_id, coords in sorted(log.updated_chunks.items(), key=lambda item: paths[item[0]])
    }
    found["moved_nodes"] = [[move.from_path, move.to_path] for move in log.moves]
    return found


def chunk_references(path: str) -> Json:
    """List every chunk reference of main as `reference.chunk_references` does."""
    repo = open_repository(path)
    workspace = repo.readonly_session("main")._workspace
    found = {}
    for node in workspace.nodes.subtree("/"):
        if not node.is_array:
            continue
        table, rows = workspace.chunk_table(node), []
        for row in range(len(table)):
            ref = table.ref(row)
            place = ref.location or ("" if ref.id is None else encode_id(ref.id))
            inline = None if ref.inline is None else bytes(ref.inline).hex()
            rows.append(
                [table.coords[row].tolist(), int(ref.kind), place, ref.offset, ref.length, inline]
            )
        if rows:
            found[node.path] = sorted(rows)
    return found


def checksums(path: str, array: str) -> Json:
    """List coordinates, ETag and modification time of the virtual chunks of an array of main."""
    workspace = open_repository(path).readonly_session("main")._workspace
    table = workspace.chunk_table(workspace.nodes.get_array(array))
    refs = [(table.coords[row].tolist(), table.ref(row)) for row in range(len(table))]
    return [
        [coords, ref.etag, ref.last_modified]
        for coords, ref in refs
        if ref.kind == ChunkKind.VIRTUAL
    ]


def write_virtual(path: str, count: int, compress: bool) -> list[str]:
    """Write an array of virtual chunks and one of all kinds; return their locations, sorted."""
    asked = icechunk.ManifestVirtualChunkLocationCompressionConfig() if compress else None
    manifest = icechunk.ManifestConfig(virtual_chunk_location_compression=asked)
    config = icechunk.RepositoryConfig(manifest=manifest)
    session = create(path, config=config).writable_session("main")
    root = zarr.create_group(session.store)
    root.create_array("many", shape=(count,), chunks=(1,), dtype="int8")
    root.create_array("mixed", shape=(6,), chunks=(1,), dtype="int8")[4:] = 1
    workspace = session._workspace
    many = [f"s3://some-bucket/path/to/file-{i // 7:06}.nc" for i in range(count)]
    for index, location in enumerate(many):
        ref = ChunkRef(ChunkKind.VIRTUAL, None, index * 100, 100, None, location)
        workspace.record(workspace.nodes.get_array("/many"), (index,), ref)
    mixed = [
        ChunkRef(ChunkKind.VIRTUAL, None, 0, 1, None, "s3://some-bucket/ünï%20/0", '"etag"'),
        ChunkRef(ChunkKind.VIRTUAL, None, 2**40, 7, None, "gs://b/x", None, 1_700_000_000),
        ChunkRef(ChunkKind.VIRTUAL, None, 5, 2**33, None, "file:///some/file"),
    ]
    for index, ref in enumerate(mixed):
        workspace.record(workspace.nodes.get_array("/mixed"), (index,), ref)
    session.commit("virtual")
    return sorted([*many, *(ref.location or "" for ref in mixed)])


def stored_config(path: str) -> str | None:
    """Return the bytes of the stored configuration, in hexadecimal digits."""
    info = decode_repo_info((Path(path) / "repo").read_bytes(), "repo")
    return None if info.config is None else bytes(info.config).hex()


def _snapshot(root: Path, name: str) -> Snapshot:
    key = f"snapshots/{name}"
    return decode_snapshot((root / key).read_bytes(), key)


def _references(root: Path, node: Node) -> Iterator[tuple[tuple[int, ...], ChunkRef]]:
    for manifest_ref in (node.array or ArrayData((), ())).manifests:
        key = f"manifests/{encode_id(manifest_ref.id)}"
        table: ChunkTable = Manifest.decode((root / key).read_bytes(), key).table(node.id)
        for row in range(len(table)):
            yield tuple(table.coords[row].tolist()), table.ref(row)


def _chunk_bytes(root: Path, ref: ChunkRef) -> bytes:
    if ref.inline is not None:
        return bytes(ref.inline)
    assert ref.id is not None
    data = (root / "chunks" / encode_id(ref.id)).read_bytes()
    return data[ref.offset : ref.offset + ref.length]


def _names(path: str, folder: str) -> list[str]:
    return sorted(file.name for file in (Path(path) / folder).iterdir())

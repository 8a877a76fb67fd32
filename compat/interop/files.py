"""Files one by one, taken apart and put together by `icechunk.format`: only called on our side."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from icechunk.config.yaml import CONFIG_KEY, config_from_yaml, config_to_yaml
from icechunk.format import schema
from icechunk.format.envelope import FileKind, read_header, unwrap
from icechunk.format.flatbuf import Buffer
from icechunk.format.flatbuf_read import Rows
from icechunk.format.ids import encode_id
from icechunk.format.manifest import Manifest, encode_manifest
from icechunk.format.manifest_files import ManifestFiles
from icechunk.format.schema import Kind
from icechunk.format.snapshot import decode_snapshot, encode_snapshot
from icechunk.format.transaction_log import decode_transaction_log, encode_transaction_log
from interop.spec_1 import configuration, preload_condition

KINDS = {
    "snapshots": (FileKind.SNAPSHOT, schema.SNAPSHOT),
    "manifests": (FileKind.MANIFEST, schema.MANIFEST),
    "transactions": (FileKind.TRANSACTION_LOG, schema.TRANSACTION_LOG),
}


def versions(path: str) -> dict[str, list[int]]:
    """Return the versions of the format in the headers, by kind of file."""
    found = defaultdict(set)
    for folder, (kind, _) in KINDS.items():
        for key, data in _files(path, folder):
            found[folder].add(read_header(data, kind, key).spec_version)
    return {folder: sorted(numbers) for folder, numbers in found.items()}


def fields(path: str) -> list[str]:
    """List the fields of tables that files have, as ``table.field``.

    Vectors without elements are left out: some write them, and some do not.
    """
    found: set[str] = set()
    for folder, (kind, table) in KINDS.items():
        for key, data in _files(path, folder):
            _collect(Buffer(unwrap(data, kind, key).payload, key).root(table), found)
    return sorted(found)


def _collect(rows: Rows, found: set[str]) -> None:
    for name, field in rows.table.fields.items():
        if not len(rows) or not rows.present(name).any():
            continue
        label = f"{rows.table.name}.{name}"
        if field.kind is Kind.TABLES:
            children, counts = rows.tables(name)
            if not counts.any():
                continue
            _collect(children, found)
        elif field.kind is Kind.TABLE:
            _collect(rows.child(name), found)
        elif field.kind is Kind.UNION:
            for discriminant in field.members or ():
                _collect(rows.member(name, discriminant)[1], found)
        elif field.kind is Kind.VECTOR and not len(rows.vectors(name).values):
            continue
        found.add(label)


def written_anew(path: str) -> int:
    """Decode every file of a repository and put what we encode of it in its place; count them."""
    root, sizes = Path(path), {}
    written = 0
    for key, data in _files(path, "manifests"):
        manifest = Manifest.decode(data, key)
        arrays = [(node, manifest.table(node)) for node in manifest.node_ids]
        sizes[manifest.id] = len(anew := encode_manifest(manifest.id, arrays, spec_version=1))
        (root / key).write_bytes(anew)
        written += 1
    for key, data in _files(path, "snapshots"):
        snapshot = decode_snapshot(data, key)
        listed = [
            dataclasses.replace(file, size_bytes=sizes[file.id]) for file in snapshot.manifest_files
        ]
        changed = dataclasses.replace(snapshot, manifest_files=ManifestFiles.from_files(listed))
        (root / key).write_bytes(encode_snapshot(changed))
        written += 1
    for key, data in _files(path, "transactions"):
        log = decode_transaction_log(data, key)
        (root / key).write_bytes(encode_transaction_log(log, spec_version=1))
        written += 1
    return written


def configuration_read(path: str) -> Any:
    """Describe what is in `config.yaml` as we read it."""
    config = config_from_yaml((Path(path) / CONFIG_KEY).read_bytes())
    return {**configuration(config), "preload if": preload_condition(config)}


def configuration_written_anew(path: str) -> None:
    """Put what we write of `config.yaml` in its place; we read the same in both."""
    file = Path(path) / CONFIG_KEY
    config = config_from_yaml(file.read_bytes())
    file.write_bytes(config_to_yaml(config))
    assert config_from_yaml(file.read_bytes()) == config


def chunk_lengths(path: str) -> dict[str, Any]:
    """Return lengths of axes and of chunks as version 1 records them, by snapshot and path."""
    found: dict[str, Any] = {}
    for key, data in _files(path, "snapshots"):
        root = Buffer(unwrap(data, FileKind.SNAPSHOT, key).payload, key).root(schema.SNAPSHOT)
        nodes, _ = root.tables("nodes")
        at, arrays = nodes.member("node_data", 1)
        shapes = arrays.vectors("shape")
        for row, node in enumerate(at):
            name = f"{encode_id(root.struct('id')[0].tobytes())} {nodes.texts('path')[node]}"
            record = shapes.values[shapes.offsets[row] : shapes.offsets[row + 1]]
            found[name] = [[int(size), int(chunk)] for size, chunk in record.tolist()]
    return found


def _files(path: str, folder: str) -> Iterator[tuple[str, bytes]]:
    for file in sorted((Path(path) / folder).iterdir()):
        yield f"{folder}/{file.name}", file.read_bytes()

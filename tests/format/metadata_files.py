"""The metadata files of the golden repositories, and how each kind is read completely.

What the repositories hold is told in ``tests/golden/PROVENANCE.md`` and, for those in archives,
in ``compat/make_golden.py``.
"""

import zipfile
from collections.abc import Callable, Iterator
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any, NamedTuple

from icechunk.format.envelope import FileKind
from icechunk.format.ids import encode_id, encode_ids
from icechunk.format.manifest import Manifest, encode_manifest
from icechunk.format.repo_info import RepoInfo, decode_repo_info, encode_repo_info
from icechunk.format.snapshot import Snapshot, decode_snapshot, encode_snapshot
from icechunk.format.transaction_log import (
    ID_LISTS,
    TransactionLog,
    decode_transaction_log,
    encode_transaction_log,
)

GOLDEN = Path(__file__).parents[1] / "golden"
ARCHIVES = Path(__file__).parents[2] / "compat" / "golden"


def manifest_content(manifest: Manifest) -> Any:
    return manifest.id, {node: list(manifest.table(node).items()) for node in manifest.node_ids}


def manifest_again(manifest: Manifest) -> bytes:
    return encode_manifest(manifest.id, [(n, manifest.table(n)) for n in manifest.node_ids])


def log_content(log: TransactionLog) -> Any:
    lists = {name: encode_ids(getattr(log, name)) for name in ID_LISTS}
    chunks = {encode_id(node): rows.tolist() for node, rows in log.updated_chunks.items()}
    moves = tuple(sorted(log.moves, key=astuple))  # writers choose the order
    return encode_id(log.id), {name: ids for name, ids in lists.items() if ids}, chunks, moves


def snapshot_content(snapshot: Snapshot) -> Any:
    return replace(snapshot, nodes=list(snapshot.nodes))  # type: ignore[arg-type]


def repo_content(info: RepoInfo) -> Any:
    return replace(info, updates=list(info.updates), snapshots=list(info.snapshots))  # type: ignore[arg-type]


class Codec(NamedTuple):
    kind: FileKind
    decode: Callable[[bytes, str], Any]
    content: Callable[[Any], Any]
    """Everything in the file, in values that compare; looks at all of it."""
    encode: Callable[[Any], bytes]


CODECS = {
    "snapshots": Codec(FileKind.SNAPSHOT, decode_snapshot, snapshot_content, encode_snapshot),
    "manifests": Codec(FileKind.MANIFEST, Manifest.decode, manifest_content, manifest_again),
    "transactions": Codec(
        FileKind.TRANSACTION_LOG, decode_transaction_log, log_content, encode_transaction_log
    ),
    "repo": Codec(FileKind.REPO_INFO, decode_repo_info, repo_content, encode_repo_info),
    "overwritten": Codec(FileKind.REPO_INFO, decode_repo_info, repo_content, encode_repo_info),
}

FILES = sorted(
    path.relative_to(GOLDEN).as_posix()
    for path in GOLDEN.glob("reference-v*/**/*")
    if path.is_file() and path.relative_to(GOLDEN).parts[1] in CODECS
)


def read(name: str) -> bytes:
    return (GOLDEN / name).read_bytes()


def codec_of(name: str) -> Codec:
    return CODECS[name.split("/")[1]]


def content_of(name: str) -> Any:
    codec = codec_of(name)
    return codec.content(codec.decode(read(name), name))


def archived() -> Iterator[tuple[str, bytes]]:
    """All metadata files of the repositories in archives, named as `FILES` are."""
    for archive in sorted(ARCHIVES.glob("*.zip")):
        with zipfile.ZipFile(archive) as opened:
            for member in sorted(opened.namelist()):
                name = member.removeprefix("repo")
                if name != member and name.split("/")[1] in CODECS:
                    yield archive.stem + name, opened.read(member)

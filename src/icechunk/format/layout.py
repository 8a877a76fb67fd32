"""Where each kind of object lives, relative to the root of a repository.

Pure naming: the random part and the time of a backup's name come in as arguments.
Icechunk spec, "File layout".
"""

from __future__ import annotations

import re

from icechunk.format.ids import OBJECT_ID_SIZE, decode_id, encode_id

__all__ = [
    "CHUNKS",
    "CONFIG",
    "MANIFESTS",
    "OVERWRITTEN",
    "REFS",
    "REPO",
    "SNAPSHOTS",
    "TRANSACTIONS",
    "backup_key",
    "backup_name",
    "backup_time_us",
    "chunk_key",
    "id_from_key",
    "manifest_key",
    "snapshot_key",
    "transaction_key",
]

REPO = "repo"
CONFIG = "config.yaml"
SNAPSHOTS = "snapshots"
MANIFESTS = "manifests"
TRANSACTIONS = "transactions"
CHUNKS = "chunks"
REFS = "refs"
OVERWRITTEN = "overwritten"

# Backups count down to this instant (3000-01-01T00:00:00Z), so a listing shows the newest first.
_BACKUP_EPOCH_MS = 32_503_680_000_000
_BACKUP_NAME = re.compile(r"(?P<source>.+)\.(?P<index>[0-9]{14})\.(?P<random>[0-9A-Z]{20})")


def snapshot_key(snapshot_id: bytes) -> str:
    """Key of a snapshot file."""
    return f"snapshots/{encode_id(snapshot_id)}"


def manifest_key(manifest_id: bytes) -> str:
    """Key of a manifest file."""
    return f"manifests/{encode_id(manifest_id)}"


def transaction_key(snapshot_id: bytes) -> str:
    """Key of the transaction log of a snapshot; it carries the snapshot's id."""
    return f"transactions/{encode_id(snapshot_id)}"


def chunk_key(chunk_id: bytes) -> str:
    """Key of a chunk, whose file is the bare chunk bytes."""
    return f"chunks/{encode_id(chunk_id)}"


def backup_name(now_us: int, random_id: bytes, source: str = REPO) -> str:
    """Name for a copy of `source` taken at `now_us`, as operations logs record it."""
    index = max(_BACKUP_EPOCH_MS - now_us // 1000, 0)
    return f"{source}.{index:014d}.{encode_id(random_id)}"


def backup_time_us(name: str) -> int | None:
    """Read when a backup was made out of its name, microseconds; None for the name of none.

    Raises no error: listings hold files of others.
    """
    found = _BACKUP_NAME.fullmatch(name)
    if found is None or id_from_key(found["random"]) is None:
        return None
    return (_BACKUP_EPOCH_MS - int(found["index"])) * 1000


def backup_key(name: str) -> str:
    """Key of a backup, given the name that the operations log records."""
    return f"overwritten/{name}"


def id_from_key(key: str) -> bytes | None:
    """Read the object id at the end of a key, None for a foreign file found in a listing."""
    text = key.rpartition("/")[2]
    try:
        decoded = decode_id(text, OBJECT_ID_SIZE)
    except ValueError:
        return None
    # Only the canonical spelling names an object of ours; anything else is somebody's file.
    return decoded if encode_id(decoded) == text else None

"""What a stored repository needs, found one reference after the other: a twin to test others by."""

from __future__ import annotations

from icechunk.chunks import ChunkKind
from icechunk.format.ids import decode_id
from icechunk.format.layout import (
    SNAPSHOTS,
    chunk_key,
    manifest_key,
    snapshot_key,
    transaction_key,
)
from icechunk.format.manifest import Manifest
from icechunk.format.repo_info import decode_repo_info
from icechunk.format.snapshot import decode_snapshot
from icechunk.storage.base import Storage

__all__ = ["reachable_keys"]


def reachable_keys(storage: Storage, young_us: int | None = None) -> set[str]:
    """Return the keys of all that branches and tags lead to, in a repository of spec version 2.

    Parameters
    ----------
    storage
        Where it is.
    young_us
        If given, snapshots of the history whose objects were stored at this time or later count as
        well, and so do the roots of their histories.

    Raises
    ------
    ObjectNotFound
        Something of it is not there.
    """
    info = decode_repo_info(storage.get("repo"))
    entries = {entry.id: entry for entry in info.snapshots}
    needed: set[bytes] = set()
    for tip in [*info.branches.values(), *info.tags.values()]:
        at: bytes | None = tip
        while at is not None:
            needed.add(at)
            at = entries[at].parent_id
    if young_us is not None:
        for listed in storage.list(SNAPSHOTS + "/"):
            at = decode_id(listed.key.split("/")[1], 12)
            if listed.last_modified_us >= young_us and at in entries:
                needed.add(at)
                while (parent := entries[at].parent_id) is not None:
                    at = parent
                needed.add(at)
    keys: set[str] = set()
    for snapshot_id in needed:
        keys.add(snapshot_key(snapshot_id))
        at = snapshot_id
        while at is not None and (at == snapshot_id or at not in needed):
            keys |= {transaction_key(log) for log in (at, *entries[at].pruned)}
            at = entries[at].parent_id
        snapshot = decode_snapshot(storage.get(snapshot_key(snapshot_id)), "snapshot")
        for node in snapshot.nodes:
            if node.array is not None:
                keys |= {manifest_key(ref.id) for ref in node.array.manifests}
    for key in sorted(keys):
        if key.startswith("manifests/"):
            manifest = Manifest.decode(storage.get(key), key)
            for node_id in manifest.node_ids:
                table = manifest.table(node_id)
                for row in range(len(table)):
                    ref = table.ref(row)
                    if ref.kind == ChunkKind.NATIVE and ref.id is not None:
                        keys.add(chunk_key(ref.id))
    for key in keys:
        storage.head(key)
    return keys

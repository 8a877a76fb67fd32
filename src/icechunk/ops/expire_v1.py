"""Expiration in a repository of spec version 1: rewrite snapshot files in place.

Every rewrite leaves a repository in which all refs have a history that ends at the same root, so
they may stop after any of them; doing it again does the rest. Refs are deleted by updates of their
own, afterwards: nothing that is rewritten depends on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from icechunk.assets.manager import AssetManager
from icechunk.assets.workers import Workers
from icechunk.format.envelope import FileKind
from icechunk.format.snapshot import decode_snapshot

__all__ = ["rewrite_parents"]

REWRITES_AT_ONCE = 8


def rewrite_parents(assets: AssetManager, parents: Mapping[bytes, bytes]) -> None:
    """Store snapshots anew, each with another parent and otherwise as they are.

    The file is read from storage, not from the cache: what is written back is what is there.

    Raises
    ------
    StorageError, FormatError
        A snapshot cannot be read or written; any of the others may have been written.
    """

    def rewrite(snapshot_id: bytes) -> None:
        data, key = assets.file(FileKind.SNAPSHOT, snapshot_id)
        snapshot = decode_snapshot(data, key)
        if snapshot.parent_id != parents[snapshot_id]:
            assets.replace_snapshot(replace(snapshot, parent_id=parents[snapshot_id]))

    with Workers(assets.storage.is_local, "icechunk-expire") as workers:
        for _ in workers.map(rewrite, list(parents), REWRITES_AT_ONCE):
            pass
    assets.storage.flush()

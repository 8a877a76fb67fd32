"""Load and save snapshots, manifests, transaction logs and chunks of one repository.

Storage gives bytes, `icechunk.format` gives meaning, the caches keep the results. Errors leave with
the name and id of the object in their context. Nothing here knows branches or sessions.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Final

from icechunk.assets.caches import AssetCaches, caches_of, publish
from icechunk.assets.limit import limit_of
from icechunk.assets.settings import AssetSettings
from icechunk.chunks import ChunkTable
from icechunk.config import RepositoryConfig
from icechunk.errors import ErrorKind, FormatError, StorageError, operation
from icechunk.format.damage import require_id
from icechunk.format.envelope import FileKind, wrap
from icechunk.format.ids import encode_id
from icechunk.format.layout import chunk_key, manifest_key, snapshot_key, transaction_key
from icechunk.format.manifest import Manifest, encode_manifest
from icechunk.format.manifest_files import ManifestFile
from icechunk.format.manifest_patch import patched_manifest
from icechunk.format.snapshot import Snapshot, decode_snapshot, encode_snapshot
from icechunk.format.snapshot_head import decode_snapshot_head
from icechunk.format.snapshot_manifests import SnapshotManifests, decode_snapshot_manifests
from icechunk.format.snapshot_table import SnapshotEntry
from icechunk.format.transaction_log import (
    TransactionLog,
    decode_transaction_log,
    encode_transaction_log,
)
from icechunk.storage.base import BytesLike, ObjectNotFound, Storage

__all__ = ["AssetManager"]

_FILES: Final = {
    FileKind.SNAPSHOT: ("snapshot", "snapshot_id", snapshot_key),
    FileKind.MANIFEST: ("manifest", "manifest_id", manifest_key),
    FileKind.TRANSACTION_LOG: ("transaction_log", "snapshot_id", transaction_key),
}

#: A stored object's time may differ this much from the writer's clock.
MAX_CLOCK_DRIFT_US: Final = 600 * 1_000_000


class AssetManager:
    """Typed access to the immutable objects of one repository.

    Safe to use from any thread, and after a fork. Opening a repository makes fresh caches; copies
    of it that arrive by pickle share the ones of the process, see `shared`.
    """

    __slots__ = ("caches", "requests", "settings", "storage")

    def __init__(
        self, storage: Storage, settings: AssetSettings, caches: AssetCaches | None = None
    ) -> None:
        self.storage = storage
        self.settings = settings
        self.caches = AssetCaches(settings.caches) if caches is None else caches
        self.requests = limit_of(storage.identity(), settings.max_concurrent_requests)
        """How many requests the repository has under way in this process."""

    @classmethod
    def fresh(
        cls, storage: Storage, config: RepositoryConfig, spec_version: int = 2
    ) -> AssetManager:
        """Make a manager that has seen nothing yet, and offer its caches to later unpickled copies.

        Opening a repository must show what is stored now, also when somebody rebuilt or repaired it
        since this process last looked.
        """
        settings = AssetSettings.from_config(config, spec_version)
        manager = cls(storage, settings)
        publish(storage.identity(), manager.caches)
        return manager

    @classmethod
    def shared(
        cls, storage: Storage, config: RepositoryConfig, spec_version: int = 2
    ) -> AssetManager:
        """Make a manager over the caches this process already has for the same storage location.

        A thousand forks unpickled on one worker so fetch a snapshot once. Only caches are shared:
        each manager reads through the storage, and so the credentials, it was given.
        """
        settings = AssetSettings.from_config(config, spec_version)
        return cls(storage, settings, caches_of(storage.identity(), settings.caches))

    def snapshot(self, snapshot_id: bytes, *, keep: bool = True) -> Snapshot:
        """Return a snapshot, from memory if it was used recently.

        Who scans a repository does not `keep` what it fetches: others use what is kept now.
        """
        if not keep:
            return self.caches.snapshots.peek(snapshot_id) or self._fetch_snapshot(snapshot_id)
        return self.caches.snapshots.get(snapshot_id, lambda: self._fetch_snapshot(snapshot_id))

    def snapshot_head(self, snapshot_id: bytes, *, cached: bool = True) -> SnapshotEntry:
        """Return what a snapshot file says of the snapshot as a whole; it is not kept.

        Parameters
        ----------
        snapshot_id
            Its id.
        cached
            Whether a snapshot in memory serves as well. One of spec version 1 may have got another
            parent since it was read.
        """
        known = self.caches.snapshots.peek(snapshot_id) if cached else None
        if known is not None:
            return known.head
        key = snapshot_key(snapshot_id)
        with operation("fetch_snapshot", snapshot_id=encode_id(snapshot_id)):
            head = decode_snapshot_head(self._get(key), key)
            require_id(key, head.id, snapshot_id)
        return head

    def snapshot_manifests(self, snapshot_id: bytes) -> SnapshotManifests:
        """Return which manifests a snapshot refers to; nothing is kept."""
        known = self.caches.snapshots.peek(snapshot_id)
        if known is not None:
            return SnapshotManifests.of(known)
        key = snapshot_key(snapshot_id)
        with operation("fetch_snapshot", snapshot_id=encode_id(snapshot_id)):
            manifests = decode_snapshot_manifests(self._get(key), key)
            require_id(key, manifests.id, snapshot_id)
        return manifests

    def manifest(self, manifest_id: bytes, size: int = 0, *, keep: bool = True) -> Manifest:
        """Return a manifest; `size` of its file, when known, saves a large one a round trip.

        For `keep` see `snapshot`.
        """
        found = self.caches.manifests.peek(manifest_id)
        if found is not None:
            return found
        if not keep:
            return self._fetch_manifest(manifest_id, size)
        return self.caches.manifests.get(
            manifest_id, lambda: self._watched(self._fetch_manifest(manifest_id, size))
        )

    def _watched(self, manifest: Manifest) -> Manifest:
        """Have the cache weigh a manifest again when references of it are decoded."""
        # Weak, so that caches nobody uses any more go at once, not when cycles are looked for.
        cache, manifest_id = weakref.ref(self.caches.manifests), manifest.id

        def grown() -> None:
            living = cache()
            if living is not None:
                living.reweigh(manifest_id)

        manifest.when_grown = grown
        return manifest

    def has_manifest(self, manifest_id: bytes) -> bool:
        """Tell whether a manifest can be had without asking storage."""
        return manifest_id in self.caches.manifests

    def transaction_log(self, snapshot_id: bytes) -> TransactionLog:
        """Return the log of what the commit of a snapshot changed."""
        if not self.settings.caches.transaction_changes:
            return self._fetch_transaction_log(snapshot_id)
        return self.caches.transaction_logs.get(
            snapshot_id, lambda: self._fetch_transaction_log(snapshot_id)
        )

    def find_transaction_log(self, snapshot_id: bytes) -> TransactionLog | None:
        """Return a transaction log, None when there is none any more."""
        try:
            return self.transaction_log(snapshot_id)
        except ObjectNotFound:
            return None

    def file(self, kind: FileKind, object_id: bytes) -> tuple[bytes, str]:
        """Fetch the bytes of a snapshot, manifest or transaction log, and say what key they have.

        For looking at the file itself: nothing is decoded or kept.
        """
        name, id_name, key_of = _FILES[kind]
        with operation(f"fetch_{name}", **{id_name: encode_id(object_id)}):
            key = key_of(object_id)
            return self.storage.get(key), key

    def chunk(self, chunk_id: bytes, offset: int, length: int) -> bytes:
        """Return `length` bytes of a native chunk's object, from `offset` on."""
        if self.settings.caches.chunk_bytes == 0:
            return self._fetch_range(chunk_key(chunk_id), offset, length)
        return self.caches.chunks.get(
            (chunk_id, offset, length),
            lambda: self._fetch_range(chunk_key(chunk_id), offset, length),
        )

    def _fetch_range(self, key: str, offset: int, length: int) -> bytes:
        if self.storage.is_local:
            return self.storage.get_range(key, offset, offset + length)
        with self.requests.hold(self.storage.requests_for(length)):
            return self.storage.get_range(key, offset, offset + length)

    async def chunk_async(self, chunk_id: bytes, offset: int, length: int) -> bytes:
        """Do as `chunk` does, awaiting the object store."""
        keep = self.settings.caches.chunk_bytes != 0
        if keep:
            found = self.caches.chunks.peek((chunk_id, offset, length))
            if found is not None:
                return found
        async with self.requests.hold_async(self.storage.requests_for(length)):
            data = await self.storage.get_range_async(chunk_key(chunk_id), offset, offset + length)
        if keep:
            self.caches.chunks.put((chunk_id, offset, length), data)
        return data

    def save_chunk(self, chunk_id: bytes, data: BytesLike) -> None:
        """Store the bytes of a chunk under its fresh id."""
        key = chunk_key(chunk_id)
        if self.storage.is_local:
            self.storage.put_new(key, data)
            return
        with self.requests.hold(self.storage.requests_for(memoryview(data).nbytes, writing=True)):
            self.storage.put_new(key, data)

    async def save_chunk_async(self, chunk_id: bytes, data: BytesLike) -> None:
        """Do as `save_chunk` does, awaiting the object store."""
        requests = self.storage.requests_for(memoryview(data).nbytes, writing=True)
        async with self.requests.hold_async(requests):
            await self.storage.put_new_async(chunk_key(chunk_id), data)

    def save_snapshot(self, snapshot: Snapshot) -> int:
        """Store a snapshot and return the size of its file.

        Raises
        ------
        FormatError
            Of kind ``snapshot-timestamp`` when this machine's clock and the object store's differ
            by more than ten minutes: expiration and garbage collection trust both.
        """
        key = snapshot_key(snapshot.id)
        data = encode_snapshot(snapshot, level=self.settings.compression_level)
        with operation("write_snapshot", snapshot_id=encode_id(snapshot.id)):
            self._put(key, data)
            if not self.storage.is_local:
                _check_clock(key, self.storage.head(key).last_modified_us, snapshot.flushed_at)
        self.caches.snapshots.put(snapshot.id, snapshot)
        return len(data)

    def replace_snapshot(self, snapshot: Snapshot) -> None:
        """Store a snapshot in the place of the one with its id, whoever wrote that.

        Only version 1 of the format has a use for it, where snapshot files name their parents.
        """
        data = encode_snapshot(snapshot, level=self.settings.compression_level)
        with operation("rewrite_snapshot", snapshot_id=encode_id(snapshot.id)):
            key = snapshot_key(snapshot.id)
            with self.requests.hold(self.storage.requests_for(len(data), writing=True)):
                self.storage.put(key, data)
        self.caches.snapshots.put(snapshot.id, snapshot)

    def save_manifest(self, manifest_id: bytes, arrays: Sequence[tuple[bytes, ChunkTable]]) -> int:
        """Store a manifest of the given references, by node id, and return the size of its file."""
        data = encode_manifest(
            manifest_id,
            arrays,
            level=self.settings.compression_level,
            spec_version=self.settings.spec_version,
            location_compression=self.settings.location_compression,
        )
        self._put_manifest(manifest_id, data)
        return len(data)

    def save_patched_manifest(
        self, manifest_id: bytes, old: Manifest, node_id: bytes, changed: ChunkTable
    ) -> ManifestFile | None:
        """Store a manifest that is an old one with some references changed or added.

        Cheap for a few changes to many references. None when the old file does not lend itself to
        it: then nothing is stored, and the manifest has to be written anew.
        """
        patched = patched_manifest(old, manifest_id, node_id, changed)
        if patched is None:
            return None
        data = wrap(
            FileKind.MANIFEST,
            patched.payload,
            level=self.settings.compression_level,
            spec_version=self.settings.spec_version,
        )
        self._put_manifest(manifest_id, data)
        return ManifestFile(manifest_id, len(data), patched.num_refs)

    def _put_manifest(self, manifest_id: bytes, data: bytes) -> None:
        with operation("write_manifest", manifest_id=encode_id(manifest_id)):
            self._put(manifest_key(manifest_id), data)

    def _put(self, key: str, data: bytes) -> None:
        with self.requests.hold(self.storage.requests_for(len(data), writing=True)):
            self.storage.put_new(key, data)

    def save_transaction_log(self, log: TransactionLog) -> int:
        """Store a transaction log and return the size of its file."""
        data = encode_transaction_log(
            log,
            level=self.settings.compression_level,
            spec_version=self.settings.spec_version,
        )
        with operation("write_transaction_log", snapshot_id=encode_id(log.id)):
            self._put(transaction_key(log.id), data)
        return len(data)

    def _fetch_snapshot(self, snapshot_id: bytes) -> Snapshot:
        key = snapshot_key(snapshot_id)
        with operation("fetch_snapshot", snapshot_id=encode_id(snapshot_id)):
            snapshot = decode_snapshot(self._get(key), key)
            require_id(key, snapshot.id, snapshot_id)
        return snapshot

    def _fetch_manifest(self, manifest_id: bytes, size: int) -> Manifest:
        key = manifest_key(manifest_id)
        with operation("fetch_manifest", manifest_id=encode_id(manifest_id)):
            manifest = Manifest.decode(self._manifest_bytes(key, size), key)
            require_id(key, manifest.id, manifest_id)
        return manifest

    def _manifest_bytes(self, key: str, size: int) -> bytes:
        if size:
            try:
                return self._fetch_range(key, 0, size)
            except StorageError as error:
                # A size recorded too large is tolerated; a file cut short fails to decompress.
                if error.kind != ErrorKind.INVALID_OBJECT_SIZE:
                    raise
        return self._get(key)

    def _get(self, key: str) -> bytes:
        with self.requests.hold():
            return self.storage.get(key)

    def _fetch_transaction_log(self, snapshot_id: bytes) -> TransactionLog:
        key = transaction_key(snapshot_id)
        with operation("fetch_transaction_log", snapshot_id=encode_id(snapshot_id)):
            return decode_transaction_log(self._get(key), key, lazy=True)


def _check_clock(key: str, stored_at: int, flushed_at: int) -> None:
    drift = abs(stored_at - flushed_at)
    if drift > MAX_CLOCK_DRIFT_US:
        raise FormatError(
            f"{key}: the object store's clock and the one of this machine differ by"
            f" {drift // 1_000_000} seconds; set the clock before committing",
            ErrorKind.SNAPSHOT_TIMESTAMP,
        )

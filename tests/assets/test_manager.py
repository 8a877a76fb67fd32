"""Typed objects over storage: what is fetched, how often, and what errors say about it."""

import pickle
import threading

import numpy as np
import pytest

from icechunk.assets.manager import AssetManager
from icechunk.assets.settings import AssetSettings
from icechunk.chunks import ChunkTable
from icechunk.config import (
    CachingConfig,
    CompressionConfig,
    ManifestConfig,
    ManifestVirtualChunkLocationCompressionConfig,
    RepositoryConfig,
)
from icechunk.errors import FormatError, StorageError
from icechunk.format.ids import encode_id
from icechunk.format.nodes import NodeTable
from icechunk.format.snapshot import Snapshot
from icechunk.format.transaction_log import TransactionLog
from icechunk.storage.memory import MemoryStorage

ID = bytes(range(12))
NODE = bytes(range(8))
NOW = 1_700_000_000_000_000


class Counting(MemoryStorage):
    def __init__(self):
        super().__init__()
        self.reads = []

    def get(self, key):
        self.reads.append(key)
        return super().get(key)

    def get_range(self, key, start, end):
        self.reads.append((key, start, end))
        return super().get_range(key, start, end)


def snapshot(snapshot_id=ID, flushed_at=NOW):
    return Snapshot(snapshot_id, None, NodeTable.empty(), flushed_at, "a message", {"k": 1})


def table(rows=5):
    coords = np.arange(rows, dtype=np.uint32).reshape(-1, 1)
    ids = np.arange(rows * 12, dtype=np.uint32).astype(np.uint8).reshape(-1, 12)
    return ChunkTable.native(coords, ids, np.full(rows, 100, dtype=np.uint64))


@pytest.fixture
def storage():
    return Counting()


@pytest.fixture
def assets(storage):
    return AssetManager.fresh(storage, RepositoryConfig())


def other(storage):
    """A manager that has seen nothing."""
    return AssetManager(storage, AssetSettings())


class TestRoundTrips:
    def test_snapshot(self, assets, storage):
        size = assets.save_snapshot(snapshot())
        assert size == storage.head(f"snapshots/{encode_id(ID)}").size
        for manager in (assets, other(storage)):
            assert manager.snapshot(ID) == snapshot()
        assert len(storage.reads) == 1  # the writer knew it

    @pytest.mark.parametrize("size_known", [False, True])
    def test_manifest(self, assets, storage, size_known):
        size = assets.save_manifest(ID, [(NODE, table())])
        key = f"manifests/{encode_id(ID)}"
        assert size == storage.head(key).size
        assert not assets.has_manifest(ID)
        for _ in range(3):
            manifest = assets.manifest(ID, size if size_known else 0)
        assert storage.reads == [(key, 0, size) if size_known else key]
        assert assets.has_manifest(ID)
        assert manifest.num_refs() == 5
        assert manifest.find(NODE, (3,)) == table().ref(3)

    def test_transaction_log(self, assets, storage):
        assets.save_transaction_log(TransactionLog(ID))
        for _ in range(2):
            assert assets.transaction_log(ID).id == ID
        assert len(storage.reads) == 2  # logs are not kept unless asked for

    @pytest.mark.parametrize("kept", [0, 1000])
    async def test_chunk(self, storage, kept):
        caching = CachingConfig(num_bytes_chunks=kept)
        assets = AssetManager.fresh(storage, RepositoryConfig(caching=caching))
        storage.put(f"chunks/{encode_id(ID)}", b"0123456789")
        for _ in range(2):
            assert assets.chunk(ID, 2, 5) == b"23456"
            assert await assets.chunk_async(ID, 2, 5) == b"23456"
        assert await assets.chunk_async(ID, 0, 10) == assets.chunk(ID, 0, 10) == b"0123456789"
        assert len(storage.reads) == (2 if kept else 6)


class TestErrors:
    @pytest.mark.parametrize(
        ("method", "operation"),
        [
            ("snapshot", "fetch_snapshot"),
            ("manifest", "fetch_manifest"),
            ("transaction_log", "fetch_transaction_log"),
        ],
    )
    def test_missing_and_damaged_objects_are_named(self, assets, storage, method, operation):
        folder = {"transaction_log": "transactions"}.get(method, method + "s")
        key = f"{folder}/{encode_id(ID)}"
        fetch = getattr(assets, method)
        with pytest.raises(StorageError, match=f"(?s)object not found.*{encode_id(ID)}") as missing:
            fetch(ID)
        assert missing.value.kind == "object-not-found"
        assert f"{operation} with" in missing.value.message
        storage.put(key, b"not an icechunk file, but long enough to have a header")
        with pytest.raises(FormatError, match=f"(?s){key}.*{operation}"):
            fetch(ID)
        assert encode_id(ID) in missing.value.message

    @pytest.mark.parametrize("kind", ["snapshot", "manifest"])
    def test_a_file_under_another_name_is_refused(self, assets, storage, kind):
        assets.save_snapshot(snapshot())
        assets.save_manifest(ID, [(NODE, table())])
        wrong = bytes(12)
        data = storage.get(f"{kind}s/{encode_id(ID)}")
        storage.put(f"{kind}s/{encode_id(wrong)}", data)
        with pytest.raises(FormatError, match=f"it is {encode_id(ID)}"):
            getattr(assets, kind)(wrong)

    def test_a_manifest_is_read_though_its_size_is_recorded_too_large(self, assets, storage):
        size = assets.save_manifest(ID, [(NODE, table())])
        assert assets.manifest(ID, size=size + 1).find(NODE, (3,)) == table().ref(3)
        with pytest.raises(FormatError, match="manifests/"):
            other(storage).manifest(ID, size=size - 1)

    def test_clock_of_a_remote_store(self, storage):
        storage.is_local = False
        assets = other(storage)
        now = storage_now(storage)
        assets.save_snapshot(snapshot(bytes(12), flushed_at=now - 599_000_000))
        for drift in (700_000_000, -700_000_000):
            with pytest.raises(FormatError, match="clock") as caught:
                assets.save_snapshot(snapshot(ID, flushed_at=now + drift))
            assert caught.value.kind == "snapshot-timestamp"
            assert ID not in assets.caches.snapshots


def storage_now(storage):
    storage.put("probe", b"")
    return storage.head("probe").last_modified_us


class TestSharing:
    def test_one_fetch_for_many_copies(self, assets, storage):
        other(storage).save_snapshot(snapshot())
        copies = [AssetManager.shared(storage, RepositoryConfig()) for _ in range(50)]
        threads = [threading.Thread(target=copy.snapshot, args=(ID,)) for copy in copies]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(storage.reads) == 1

    def test_unpickled_storage_shares(self, assets, storage):
        again = pickle.loads(pickle.dumps(MemoryStorage()))
        assert AssetManager.shared(again, RepositoryConfig()).caches is not assets.caches
        assert AssetManager.shared(storage, RepositoryConfig()).caches is assets.caches

    def test_fresh_sees_nothing_old(self, assets, storage):
        assets.save_snapshot(snapshot())
        fresh = AssetManager.fresh(storage, RepositoryConfig())
        assert fresh.caches is not assets.caches
        assert AssetManager.shared(storage, RepositoryConfig()).caches is fresh.caches

    def test_other_sizes_are_not_shared(self, assets, storage):
        config = RepositoryConfig(caching=CachingConfig(num_chunk_refs=1))
        assert AssetManager.shared(storage, config).caches is not assets.caches

    def test_caches_in_use_are_found_however_many_there_are(self, assets, storage):
        config = RepositoryConfig()
        others = [AssetManager.fresh(MemoryStorage(), config) for _ in range(20)]
        assert AssetManager.shared(storage, config).caches is assets.caches
        assert len({id(manager.caches) for manager in others}) == 20


def test_settings_of_a_configuration():
    assert AssetSettings.from_config(RepositoryConfig()) == AssetSettings()
    settings = AssetSettings.from_config(
        RepositoryConfig(
            compression=CompressionConfig(level=9),
            caching=CachingConfig(1, 2, 3, 4, 5),
            manifest=ManifestConfig(
                virtual_chunk_location_compression=ManifestVirtualChunkLocationCompressionConfig(
                    min_num_chunks=6
                )
            ),
        )
    )
    sizes = settings.caches
    assert settings.compression_level == 9
    assert (sizes.snapshot_nodes, sizes.chunk_refs) == (1, 2)
    assert (sizes.transaction_changes, sizes.chunk_bytes) == (3, 5)
    assert settings.location_compression.min_num_chunks == 6

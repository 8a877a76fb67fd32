"""Caches count what the configuration counts, but no memory beyond what that stands for."""

import gc
import tracemalloc
import weakref

import numpy as np
import pytest

from icechunk.assets.caches import AssetCaches
from icechunk.assets.manager import AssetManager
from icechunk.assets.settings import AssetSettings, CacheSizes
from icechunk.assets.weights import (
    BYTES_PER_CHANGE,
    BYTES_PER_NODE,
    BYTES_PER_REF,
    weigh_chunk,
    weigh_manifest,
    weigh_snapshot,
    weigh_transaction_log,
)
from icechunk.chunks import ChunkTable
from icechunk.chunks.ragged import RaggedBytes
from icechunk.format.locations import LocationCompression
from icechunk.format.manifest import Manifest, encode_manifest
from icechunk.format.nodes import ArrayData, ManifestRef, Node, NodeTable
from icechunk.format.snapshot import Snapshot, decode_snapshot, encode_snapshot
from icechunk.format.transaction_log import Move, TransactionLog, node_ids
from icechunk.storage.memory import MemoryStorage

ID, NODE = bytes(range(12)), bytes(range(8))
N = 2000


def coords(n=N, rank=3):
    return np.stack(np.unravel_index(np.arange(n), (n,) + (1,) * (rank - 1)), axis=1)


def native(n=N, rank=3):
    ids = np.random.default_rng(1).integers(0, 256, (n, 12), dtype=np.uint8)
    return ChunkTable.native(coords(n, rank), ids, np.full(n, 10))


def inline(size, n=N):
    payload = np.random.default_rng(1).integers(0, 256, n * size, dtype=np.uint8)
    return ChunkTable.inline_(coords(n), RaggedBytes.from_lengths(np.full(n, size), payload))


def virtual(length, n=N):
    places = [f"s3://bucket/{'a' * length}/{number}" for number in range(n)]
    return ChunkTable.virtual(coords(n), RaggedBytes.from_strings(places), None, 5)


def manifest(table, **options):
    return Manifest.decode(encode_manifest(ID, [(NODE, table)], **options), "k")


def test_ordinary_manifests_weigh_their_references():
    for rank in (1, 2, 3, 4):
        found = manifest(native(rank=rank))
        assert weigh_manifest(found) == N
        found.table(NODE).find((0,) * rank)
        assert weigh_manifest(found) == N, "also when decoded"


@pytest.mark.parametrize("table", [inline(512), virtual(300)], ids=["inline", "virtual"])
def test_heavy_references_weigh_their_bytes(table):
    found = manifest(table)
    before = weigh_manifest(found)
    assert before > 2 * N
    assert before == pytest.approx(found.payload_size / BYTES_PER_REF, rel=0.05)
    found.table(NODE)
    assert weigh_manifest(found) == pytest.approx(2 * before, rel=0.3)


def test_locations_weigh_more_once_they_are_decompressed():
    packed = manifest(virtual(300), location_compression=LocationCompression(10, 100, 2048, 3))
    before = weigh_manifest(packed)
    packed.table(NODE)
    assert weigh_manifest(packed) > 2 * before


def test_even_an_empty_manifest_weighs_something():
    assert weigh_manifest(manifest(native(1))) > 10


def traced(make):
    """Result, and the memory it holds on to."""
    make()  # what is made once for all
    gc.collect()
    tracemalloc.start()
    try:
        result = make()
        gc.collect()
        return result, tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "table",
    [native(), native(rank=1), inline(100), inline(1), virtual(5), virtual(500)],
    ids=["native", "native-1d", "inline", "inline-tiny", "virtual", "virtual-long"],
)
def test_weight_covers_the_memory_of_a_manifest(table):
    data = encode_manifest(ID, [(NODE, table)])

    def make():
        found = Manifest.decode(data, "k")
        found.table(NODE).locate(coords(N, table.rank))
        found.table(NODE).find((3,) * table.rank)
        return found

    found, memory = traced(make)
    assert memory <= weigh_manifest(found) * BYTES_PER_REF * 1.05


def nodes(n, document, refs):
    kept = tuple(ManifestRef(bytes([k] * 12), ((0, 1), (k, k + 1))) for k in range(refs))
    array = ArrayData((9, 9), (9, 9), ("x", "y"), kept)
    return NodeTable.from_nodes([Node(k.to_bytes(8), f"/a{k}", document, array) for k in range(n)])


@pytest.mark.parametrize(
    ("document", "refs"), [(800, 1), (20_000, 1), (800, 100)], ids=["usual", "documents", "refs"]
)
def test_weight_covers_the_memory_of_a_snapshot(document, refs):
    from icechunk.format.manifest_files import ManifestFile

    table = nodes(100, b"d" * document, refs)
    files = [ManifestFile(bytes([k] * 12), 1, 1) for k in range(refs)]
    data = encode_snapshot(Snapshot(ID, None, table, 1, "", {}, files))

    def make():
        found = decode_snapshot(data, "k")
        list(found.nodes)
        found.manifest_files.find(ID)
        return found

    found, memory = traced(make)
    weight = weigh_snapshot(found)
    assert memory <= weight * BYTES_PER_NODE * 1.05
    assert (weight == 100) == (document == 800 and refs == 1)


def test_weight_of_logs_and_chunks():
    log = TransactionLog(ID, new_arrays=node_ids([NODE]), updated_chunks={NODE: coords(N)})
    assert weigh_transaction_log(log) == N + 1
    moved = Move("/a" * 1000, "/b" * 1000, NODE, True)
    weight = weigh_transaction_log(TransactionLog(ID, moves=(moved,) * 10))
    assert weight >= 10 * 4000 // BYTES_PER_CHANGE
    assert weigh_chunk(b"12") > 200


def test_memory_of_a_cache_is_bounded_by_its_setting():
    """Inlined chunks of 512 bytes, decoded or not: sixty thousand references would be 60 MB."""
    storage = MemoryStorage()
    assets = AssetManager(storage, AssetSettings(CacheSizes(chunk_refs=20_000)))
    for number in range(30):
        assets.save_manifest(bytes([number] * 12), [(NODE, inline(512))])
    for number in range(30):
        found = assets.manifest(bytes([number] * 12))
        if number % 2:
            found.table(NODE)
        held = sum(entry[0].nbytes for entry in assets.caches.manifests._entries.values())
        assert held <= 20_000 * BYTES_PER_REF
        assert assets.caches.manifests.weight <= 20_000
    assert len(assets.caches.manifests) >= 1


def test_decoding_is_accounted_for_and_caches_go_when_unused():
    assets = AssetManager(MemoryStorage(), AssetSettings())
    assets.save_manifest(ID, [(NODE, inline(512))])
    found = assets.manifest(ID)
    before = assets.caches.manifests.weight
    found.table(NODE)
    after = assets.caches.manifests.weight
    assert after == weigh_manifest(found) > before
    cache, alive = weakref.ref(assets.caches), weakref.ref(assets.caches.manifests)
    gc.disable()  # reference counts alone must do
    try:
        del assets
        assert cache() is None
        assert alive() is None
        found.when_grown()
    finally:
        gc.enable()


def test_one_warning_each(caplog):
    caches = AssetCaches(CacheSizes(snapshot_nodes=400, chunk_refs=3 * N))
    for number in range(3):
        caches.snapshots.put(bytes([number]), Snapshot(ID, None, nodes(70, b"{}", 1), 1, ""))
        caches.manifests.put(bytes([number]), manifest(native()))
    assert not caplog.records
    for number in range(3):
        caches.snapshots.put(bytes([number]), Snapshot(ID, None, nodes(90, b"{}", 1), 1, ""))
        caches.manifests.put(bytes([number]), manifest(native(2 * N)))
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert "snapshot weighs 90" in messages[0]
    assert "caching.num_snapshot_nodes" in messages[0]
    assert f"manifest weighs {2 * N}" in messages[1]
    assert "caching.num_chunk_refs" in messages[1]


def test_accounts_are_right_whatever_threads_do():
    """Readers fetch, decode and drop each other's manifests; some fetches fail."""
    import random
    import threading

    from icechunk.errors import StorageError

    class Flaky(MemoryStorage):
        def get(self, key):
            if random.random() < 0.1:
                raise StorageError(f"{key}: try again", "object-store")
            return super().get(key)

    storage = Flaky()
    capacity = 1500
    assets = AssetManager(storage, AssetSettings(CacheSizes(chunk_refs=capacity)))
    for number in range(12):
        assets.save_manifest(bytes([number] * 12), [(NODE, inline(30, n=100 * (number + 1)))])
    wrong = []

    def read(seed):
        chance = random.Random(seed)
        for _ in range(150):
            number = chance.randrange(12)
            try:
                found = assets.manifest(bytes([number] * 12))
                if chance.random() < 0.3:
                    found.table(NODE)
                if (
                    found.find(NODE, (number, 0, 0)) is None
                    or assets.caches.manifests.weight > capacity
                ):
                    wrong.append(number)
            except StorageError:
                continue
            except BaseException as error:
                wrong.append(error)
                raise

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cache = assets.caches.manifests
    assert wrong == []
    assert not cache._flights
    assert cache.weight == sum(weight for _, weight in cache._entries.values()) <= capacity
    assert all(weight == weigh_manifest(m) for m, weight in cache._entries.values())

"""Many reads at once: each manifest asked once, neighbours fetched together, the bound kept."""

import asyncio
import threading
import time

import numpy as np
import pytest
import zarr
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import cpu, default_buffer_prototype

import icechunk
from icechunk import InvalidInputError, Repository, RepositoryConfig
from icechunk.changes.batch import Part, plan_transfers
from icechunk.chunks import ChunkKind, ChunkRef
from icechunk.testing import CountingStorage, LatencyStorage
from icechunk.testing.wrapper import StorageWrapper

PROTOTYPE = default_buffer_prototype()


class Distant(CountingStorage):
    """Counted, and awaited as an object store is."""

    def __init__(self, inner):
        super().__init__(inner)
        self.is_local = False


@pytest.fixture(params=["memory", "distant"])
def storage(request):
    inner = icechunk.in_memory_storage()
    return CountingStorage(inner) if request.param == "memory" else Distant(inner)


def make(storage, shards=None, **config):
    repo = Repository.create(storage, RepositoryConfig(inline_chunk_threshold_bytes=8, **config))
    session = repo.writable_session("main")
    data = np.arange(64 * 64, dtype="i4").reshape(64, 64)
    zarr.create_array(
        session.store,
        name="a",
        data=data,
        chunks=(4, 4),
        shards=shards,
        compressors=None,
        fill_value=-1,  # else the chunk of zeros is not written
    )
    session.commit("data")
    storage.reset()
    return Repository.open(storage), data


def ranges_of(store, key, wanted, **limits):
    async def collect():
        groups = store.get_ranges(key, wanted, prototype=PROTOTYPE, **limits)
        return [[(i, value.to_bytes()) for i, value in group] async for group in groups]

    return asyncio.run(collect())


def test_partial_values_ask_each_manifest_once(storage):
    repo, data = make(storage)
    store = repo.readonly_session("main").store
    storage.reset()
    keys = [f"a/c/{i}/{j}" for i in range(16) for j in range(16)]
    found = asyncio.run(store.get_partial_values(PROTOTYPE, [(key, None) for key in keys]))
    assert found[17].to_bytes() == data[4:8, 4:8].tobytes()
    assert storage.counts["get_range", "manifests"] + storage.counts["get", "manifests"] == 1
    assert storage.counts["get_range", "chunks"] == 256


def test_parts_of_one_chunk_come_in_one_request(storage):
    repo, _ = make(storage, shards=(64, 64))
    store = repo.readonly_session("main").store
    whole = asyncio.run(store.get("a/c/0/0", PROTOTYPE)).to_bytes()
    wanted = [
        RangeByteRequest(128, 192),
        None,
        RangeByteRequest(0, 64),
        SuffixByteRequest(16),
        OffsetByteRequest(len(whole) - 20),
        RangeByteRequest(10, 10),
    ]
    expected = [whole[128:192], whole, whole[:64], whole[-16:], whole[-20:], b""]
    storage.reset()
    found = asyncio.run(store.get_partial_values(PROTOTYPE, [("a/c/0/0", r) for r in wanted]))
    assert [value.to_bytes() for value in found] == expected
    assert storage.counts["get_range", "chunks"] == 1
    groups = ranges_of(store, "a/c/0/0", wanted)
    assert [value for _, value in sorted(groups[0])] == expected
    several = ranges_of(store, "a/c/0/0", wanted[:1] + wanted[2:4], max_gap_bytes=0)
    assert dict(pair for group in several for pair in group) == {
        0: expected[0],
        1: expected[2],
        2: expected[3],
    }
    assert len(several) == 3
    together = store.get_ranges_sync("a/c/0/0", wanted, prototype=PROTOTYPE)
    assert [value.to_bytes() for _, value in sorted(together, key=lambda p: p[0])] == expected


def test_sharded_arrays_read_right_through_zarr(storage):
    repo, data = make(storage, shards=(32, 32))
    array = zarr.open_array(repo.readonly_session("main").store, path="a", mode="r")
    np.testing.assert_array_equal(array[3:50, 7:41], data[3:50, 7:41])
    storage.reset()
    np.testing.assert_array_equal(array[:8, :16], data[:8, :16])
    if hasattr(zarr.abc.store.Store, "get_ranges"):
        assert storage.counts["get_range", "chunks"] == 2, "the index, and the parts together"
    np.testing.assert_array_equal(array[...], data)


def test_documents_inline_chunks_and_gaps_among_them(storage):
    repo, _ = make(storage)
    session = repo.writable_session("main")
    asyncio.run(session.store.set("a/c/0/1", cpu.Buffer.from_bytes(b"tiny")))
    asyncio.run(session.store.delete("a/c/0/2"))
    keys = ["a/zarr.json", "a/c/0/1", "a/c/0/2", "a/c/99/0", "b/c/0", ".zgroup", "a/c/0/0"]
    found = asyncio.run(
        session.store.get_partial_values(PROTOTYPE, [(k, RangeByteRequest(1, 3)) for k in keys])
    )
    kept = [None if value is None else value.to_bytes() for value in found]
    assert kept[:6] == [session.store.get_sync("a/zarr.json").to_bytes()[1:3], b"in", *[None] * 4]
    assert len(kept[6]) == 2
    assert ranges_of(session.store, "a/c/0/1", [None, RangeByteRequest(0, 2)]) == [
        [(0, b"tiny"), (1, b"ti")]
    ]


@pytest.mark.parametrize("wanted", [RangeByteRequest(60, 65), OffsetByteRequest(64)])
def test_a_range_too_long_is_refused_before_anything_is_fetched(storage, wanted):
    repo, _ = make(storage)
    store = repo.readonly_session("main").store
    requests = [("a/c/0/0", None), ("a/c/1/1", wanted)]
    with pytest.raises(InvalidInputError, match="out of bounds for chunk of length 64") as caught:
        asyncio.run(store.get_partial_values(PROTOTYPE, requests))
    assert caught.value.kind == "invalid-byte-range"
    assert "a/c/1/1" in str(caught.value)
    assert storage.counts["get_range", "chunks"] == 0
    with pytest.raises(BaseExceptionGroup) as group:
        ranges_of(store, "a/c/1/1", [None, wanted])
    assert group.value.exceptions[0].kind == "invalid-byte-range"
    with pytest.raises(BaseExceptionGroup):
        store.get_ranges_sync("a/c/1/1", [None, wanted], prototype=PROTOTYPE)


def test_ranges_of_nothing(storage):
    repo, _ = make(storage)
    store = repo.readonly_session("main").store
    assert ranges_of(store, "a/c/0/0", []) == []
    assert list(store.get_ranges_sync("a/c/0/0", [], prototype=PROTOTYPE)) == []
    with pytest.raises(BaseExceptionGroup) as caught:
        ranges_of(store, "a/c/99/0", [None])
    assert isinstance(caught.value.exceptions[0], FileNotFoundError)
    assert asyncio.run(store.get_partial_values(PROTOTYPE, [])) == []


def test_lost_chunks_are_named(storage):
    repo, _ = make(storage)
    storage.inner.delete([info.key for info in storage.inner.list("chunks")])
    store = repo.readonly_session("main").store
    with pytest.raises(icechunk.StorageError, match="object not found") as caught:
        asyncio.run(store.get_partial_values(PROTOTYPE, [("a/c/3/3", None), ("a/c/3/4", None)]))
    assert "a/c/3/" in str(caught.value)


def test_virtual_chunks_of_one_file_are_planned_together():
    def ref(location, offset, etag=None):
        return ChunkRef(ChunkKind.VIRTUAL, None, offset, 10, None, location, etag)

    parts = [Part(0, ref("s3://b/x", 100), 0, 10), Part(1, ref("s3://b/y", 0), 2, 5)]
    parts += [Part(2, ref("s3://b/x", 90), 4, 10), Part(3, ref("s3://b/x", 80, "tag"), 0, 10)]
    plans = plan_transfers(parts)
    assert [(plan.ref.location, plan.cuts) for plan in plans] == [
        ("s3://b/x", ((2, 0, 6), (0, 6, 16))),
        ("s3://b/y", ((1, 0, 3),)),
        ("s3://b/x", ((3, 0, 10),)),
    ]
    first = plans[0]
    assert (first.ref.offset + first.start, first.ref.offset + first.stop) == (94, 110)


class Busy(StorageWrapper):
    """Notes how many transfers of chunks are under way at most."""

    def __init__(self, inner):
        super().__init__(inner)
        self.lock = threading.Lock()
        self.now = self.most = 0
        self.is_local = False

    def _before(self, operation, key):
        with self.lock:
            if key.startswith("chunks/"):
                self.now += 1
                self.most = max(self.most, self.now)

    def _after(self, operation, key):
        with self.lock:
            if key.startswith("chunks/"):
                self.now -= 1

    def identity(self):
        return ("busy", *self.inner.identity())


def test_all_sessions_and_loops_of_a_process_keep_one_bound():
    slow = LatencyStorage(icechunk.in_memory_storage(), write_latency_ms=2, read_latency_ms=2)
    storage = Busy(slow)
    config = RepositoryConfig(inline_chunk_threshold_bytes=0, max_concurrent_requests=6)
    Repository.create(storage, config)
    document = (
        b'{"zarr_format":3,"node_type":"array","shape":[40],"chunk_grid":{"name":"regular",'
        b'"configuration":{"chunk_shape":[1]}}}'
    )

    def work(number):
        session = Repository.open(storage).writable_session("main")

        async def write_and_read():
            await session.store.set("a/zarr.json", cpu.Buffer.from_bytes(document))
            keys = [f"a/c/{i}" for i in range(40)]
            values = [cpu.Buffer.from_bytes(f"{number} {key}".encode()) for key in keys]
            await asyncio.gather(*map(session.store.set, keys, values))
            found = await asyncio.gather(*(session.store.get(key, PROTOTYPE) for key in keys))
            assert [value.to_bytes() for value in found] == [value.to_bytes() for value in values]

        asyncio.run(write_and_read())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert storage.now == 0
    assert storage.most == 6
    assert time.monotonic() - began < 30

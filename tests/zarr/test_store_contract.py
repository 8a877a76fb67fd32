"""Zarr's own contract for stores, on every kind of storage.

Zarr's suite writes any bytes under any key. An Icechunk store takes the keys and documents of
Zarr v3 hierarchies only, and no empty chunks: tests that break these rules are replaced by equal
ones that keep them, all others run as they are.
"""

import asyncio
import json
import pickle

import pytest
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import cpu, default_buffer_prototype
from zarr.core.sync import _collect_aiterator, sync
from zarr.storage._utils import _normalize_byte_range_index
from zarr.testing.store import StoreTests
from zarr.testing.utils import assert_bytes_equal

import icechunk
from icechunk import IcechunkStore, InvalidInputError, Repository
from icechunk.keys import ChunkKey, parse_key

FOUR = b"\x01\x02\x03\x04"


def document(rank=None, **attributes):
    """Make the zarr.json of a group, or of an array of some rank with long axes."""
    found = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    if rank is not None:
        grid = {"name": "regular", "configuration": {"chunk_shape": [1] * rank}}
        found |= {"node_type": "array", "shape": [2000] * rank, "chunk_grid": grid}
    return json.dumps(found).encode()


async def collect(iterator):
    return sorted(await _collect_aiterator(iterator))


class StoreContract(StoreTests[IcechunkStore, cpu.Buffer]):
    store_cls = IcechunkStore
    buffer_cls = cpu.Buffer

    async def set(self, store, key, value):
        """Write past the store; what a chunk needs comes into being, documents are made legal."""
        await asyncio.to_thread(self._set, store.session._workspace, parse_key(key), value)

    def _set(self, workspace, key, value):
        if not isinstance(key, ChunkKey):
            node = workspace.nodes.find(key.path)
            rank = 0 if node is None else len(node.grid.shape)
            workspace.put_document(key.path, document(rank, text=value.to_bytes().hex()))
            return
        node = workspace.nodes.find(key.path)
        if node is None or len(node.grid.shape) != len(key.coords):
            workspace.nodes.delete(key.path)
            workspace.put_document(key.path, document(len(key.coords)))
        workspace.write_chunk(key.path, key.coords, memoryview(value.to_bytes()))

    async def get(self, store, key):
        return self.buffer_cls.from_bytes(
            await asyncio.to_thread(self._get, store.session._workspace, parse_key(key))
        )

    def _get(self, workspace, key):
        if not isinstance(key, ChunkKey):
            return workspace.nodes.get(key.path).user_data
        ref = workspace.locate(key.path, key.coords)
        return workspace.read(ref, 0, ref.length)

    @pytest.fixture
    def config(self):
        return icechunk.RepositoryConfig(inline_chunk_threshold_bytes=2)

    @pytest.fixture
    def store_kwargs(self, storage, config):
        repo = Repository.create(storage, config)
        return {"session": repo.writable_session("main"), "read_only": False}

    @pytest.fixture
    def store_not_open(self, store_kwargs):
        store_kwargs["session"]._workspace.put_document("/", document(1))
        return self.store_cls(**store_kwargs)

    @pytest.fixture
    def filled(self, store):
        """A store with arrays of rank 1 at ``a`` and ``foo/0`` and of rank 2 at the root."""
        workspace = store.session._workspace
        for path, rank in (("/", 2), ("/a", 1), ("/foo/0", 1)):
            workspace.put_document(path, document(rank))
        return store

    # --- what was left to us -------------------------------------------------------------------

    def test_store_repr(self, store):
        assert repr(store).startswith("<icechunk.IcechunkStore>\nread_only: False\nsnapshot_id: ")
        assert str(store) == f"icechunk://{store.session.snapshot_id}"

    def test_store_supports_writes(self, store):
        assert store.supports_writes

    def test_store_supports_listing(self, store):
        assert store.supports_listing

    # --- with legal keys and documents ---------------------------------------------------------

    async def test_serializable_store(self, store):
        await store.set("a/zarr.json", self.buffer_cls.from_bytes(document(1)))
        with pytest.raises(ValueError, match="opt-in to pickle writable sessions"):
            pickle.dumps(store)
        forked = (await asyncio.to_thread(store.session.fork)).store
        travelled = pickle.loads(pickle.dumps(forked))
        assert travelled.read_only == forked.read_only
        assert travelled._is_open == forked._is_open
        assert travelled.session.snapshot_id == forked.session.snapshot_id
        await travelled.set("a/c/0", self.buffer_cls.from_bytes(FOUR))
        observed = await travelled.get("a/c/0", prototype=default_buffer_prototype())
        assert_bytes_equal(observed, self.buffer_cls.from_bytes(FOUR))

    async def test_read_only_store_raises(self, open_kwargs):
        store = await self.store_cls.open(**{**open_kwargs, "read_only": True})
        await self.set(store, "c/0", self.buffer_cls.from_bytes(b"bar"))
        await self._check_refusal(store)

    async def _check_refusal(self, store):
        value = self.buffer_cls.from_bytes(b"bar")
        for write in (
            lambda: store.set("c/0", value),
            lambda: store.set_if_not_exists("c/1", value),
            lambda: store.delete("c/0"),
            lambda: store.delete_dir("c"),
            lambda: store.clear(),
        ):
            with pytest.raises(ValueError, match="store was opened in read-only mode"):
                await write()
        for write in (
            lambda: store.set_sync("c/0", value),
            lambda: store.delete_sync("c/0"),
            lambda: store.sync_clear(),
        ):
            with pytest.raises(ValueError, match="store was opened in read-only mode"):
                await asyncio.to_thread(write)

    async def test_with_read_only_store(self, open_kwargs):
        store = await self.store_cls.open(**{**open_kwargs, "read_only": True})
        writer = store.with_read_only(read_only=False)
        assert not writer._is_open
        assert not writer.read_only
        await writer.set("zarr.json", self.buffer_cls.from_bytes(document(1)))
        await writer.set("c/0", self.buffer_cls.from_bytes(b"bar"))
        await writer.delete("c/0")
        await self._check_refusal(store)
        await self._check_refusal(writer.with_read_only(read_only=True))

    @pytest.mark.parametrize("key", ["c/0", "foo/c/0/0", "foo/0/c/0", "foo/c"])
    @pytest.mark.parametrize("data", [b"\x01", FOUR])
    @pytest.mark.parametrize(
        "byte_range",
        [None, RangeByteRequest(0, 1), OffsetByteRequest(0), SuffixByteRequest(1)],
    )
    async def test_get(self, store, key, data, byte_range):
        value = self.buffer_cls.from_bytes(data)
        await self.set(store, key, value)
        observed = await store.get(key, prototype=default_buffer_prototype(), byte_range=byte_range)
        start, stop = _normalize_byte_range_index(value, byte_range=byte_range)
        assert_bytes_equal(observed, value[start:stop])

    async def test_get_many(self, store):
        values = {f"c/{i}": f"{i}".encode() for i in range(10)}
        for key, value in values.items():
            await self.set(store, key, self.buffer_cls.from_bytes(value))
        requests = [(key, default_buffer_prototype(), None) for key in values]
        observed = await _collect_aiterator(store._get_many(requests))
        assert {key: value.to_bytes() for key, value in observed} == values

    @pytest.mark.parametrize("key", ["c/0", "foo/c/0/0", "foo/0/c/0", "foo/c"])
    @pytest.mark.parametrize("data", [b"\x01", FOUR])
    async def test_getsize(self, store, key, data):
        await self.set(store, key, self.buffer_cls.from_bytes(data))
        assert await store.getsize(key) == len(data)

    async def test_getsize_prefix(self, filled):
        keys = ["c/0/0", "c/0/1", "c/1/0", "c/1/1"]
        value = self.buffer_cls.from_bytes(FOUR)
        await filled.set("cc/zarr.json", self.buffer_cls.from_bytes(document(1)))
        await filled._set_many([(key, value) for key in [*keys, "cc/c/0", "a/c/0"]])
        assert await filled.getsize_prefix("c") == 16
        assert await filled.getsize_prefix("c/1") == 8
        assert await filled.getsize_prefix("cc") == len(document(1)) + 4

    @pytest.mark.parametrize("key", ["c/0/7", "a/c/0", "foo/0/c/1999"])
    @pytest.mark.parametrize("data", [b"\x01", FOUR])
    async def test_set(self, filled, key, data):
        value = self.buffer_cls.from_bytes(data)
        await filled.set(key, value)
        assert_bytes_equal(await self.get(filled, key), value)

    async def test_set_many(self, filled):
        values = {"a/zarr.json": document(1, x=1), "c/0/0": b"1", "a/c/0": FOUR, "foo/0/c/0": FOUR}
        await filled._set_many(
            [(key, self.buffer_cls.from_bytes(value)) for key, value in values.items()]
        )
        for key, value in values.items():
            assert (await self.get(filled, key)).to_bytes() == value

    async def test_exists(self, store):
        assert not await store.exists("foo/zarr.json")
        await store.set("foo/zarr.json", self.buffer_cls.from_bytes(document()))
        assert await store.exists("foo/zarr.json")
        with pytest.raises(InvalidInputError):
            await store.exists("foo")

    async def test_delete(self, store):
        await store.set("foo/zarr.json", self.buffer_cls.from_bytes(document()))
        await store.delete("foo/zarr.json")
        assert not await store.exists("foo/zarr.json")

    async def test_delete_dir(self, store):
        for key in ("zarr.json", "foo-bar/zarr.json"):
            await store.set(key, self.buffer_cls.from_bytes(document()))
        await store.set("foo/zarr.json", self.buffer_cls.from_bytes(document(1)))
        await store.set("foo/c/0", self.buffer_cls.from_bytes(b"chunk"))
        await store.delete_dir("foo")
        assert await store.exists("zarr.json")
        assert await store.exists("foo-bar/zarr.json")
        assert not await store.exists("foo/zarr.json")
        assert not await store.exists("foo/c/0")

    async def test_delete_nonexistent_key_does_not_raise(self, store):
        for key in ("zarr.json", "no/zarr.json", "c/0", "no/c", "no/c/1/2"):
            await store.delete(key)

    async def test_is_empty(self, store):
        assert await store.is_empty("")
        await self.set(store, "zarr.json", self.buffer_cls.from_bytes(b"1"))
        await self.set(store, "foo/c/0", self.buffer_cls.from_bytes(b"1"))
        assert not await store.is_empty("")
        assert await store.is_empty("fo")
        assert not await store.is_empty("foo/")
        assert not await store.is_empty("foo")
        assert await store.is_empty("spam/")

    async def test_clear(self, store):
        await self.set(store, "foo/c/0", self.buffer_cls.from_bytes(b"something"))
        await store.clear()
        assert await store.is_empty("")
        assert await collect(store.list()) == []

    async def test_list(self, store):
        assert await collect(store.list()) == []
        values = {"foo/zarr.json": document(1)} | {f"foo/c/{i}": FOUR for i in range(10)}
        for key, value in values.items():
            await store.set(key, self.buffer_cls.from_bytes(value))
        assert await collect(store.list()) == sorted(values)

    async def test_list_prefix(self, store):
        prefixes = ("", "a/", "a/b/", "a/b/c/")
        keys = [f"{prefix}zarr.json" for prefix in prefixes]
        await store._set_many([(key, self.buffer_cls.from_bytes(document())) for key in keys])
        for prefix in prefixes:
            expected = sorted(key for key in keys if key.startswith(prefix))
            assert await collect(store.list_prefix(prefix)) == expected

    async def test_list_empty_path(self, store):
        values = {
            "foo/bar/zarr.json": document(1),
            "foo/baz/zarr.json": document(1),
            "foo/bar/c/1": FOUR,
            "foo/baz/c/0": FOUR,
        }
        for key, value in values.items():
            await store.set(key, self.buffer_cls.from_bytes(value))
        assert await collect(store.list()) == sorted(values)
        assert await collect(store.list_prefix("")) == sorted(values)
        expected = sorted(key for key in values if key.startswith("foo/bar/"))
        assert await collect(store.list_prefix("foo/bar/")) == expected

    async def test_list_dir(self, store):
        assert await collect(store.list_dir("")) == []
        assert await collect(store.list_dir("foo")) == []
        values = {
            "foo/zarr.json": document(),
            "foo/bar/zarr.json": document(1),
            "foo/bar/c/1": FOUR,
            "foo/baz/zarr.json": document(),
        }
        for key, value in values.items():
            await store.set(key, self.buffer_cls.from_bytes(value))
        for root in ("foo", "foo/"):
            assert await collect(store.list_dir(root)) == ["bar", "baz", "zarr.json"]
        for root in ("foo/bar", "foo/bar/"):
            assert await collect(store.list_dir(root)) == ["c", "zarr.json"]
        assert await collect(store.list_dir("foo/bar/c")) == ["1"]

    async def test_set_if_not_exists(self, filled):
        old, new = map(self.buffer_cls.from_bytes, (b"0000", b"1111"))
        await self.set(filled, "a/c/0", old)
        await filled.set_if_not_exists("a/c/0", new)
        assert await filled.get("a/c/0", default_buffer_prototype()) == old
        await filled.set_if_not_exists("a/c/1", new)
        assert await filled.get("a/c/1", default_buffer_prototype()) == new

    if hasattr(StoreTests, "test_get_bytes"):  # helpers that newer Zarr has no more

        async def test_get_bytes(self, store):
            await self.set(store, "c/0", self.buffer_cls.from_bytes(FOUR))
            assert await store._get_bytes("c/0", prototype=default_buffer_prototype()) == FOUR
            with pytest.raises(FileNotFoundError):
                await store._get_bytes("c/1", prototype=default_buffer_prototype())

        def test_get_bytes_sync(self, store):
            sync(self.set(store, "c/0", self.buffer_cls.from_bytes(FOUR)))
            assert store._get_bytes_sync("c/0", prototype=default_buffer_prototype()) == FOUR

        async def test_get_json(self, store):
            await store.set("zarr.json", self.buffer_cls.from_bytes(document(x=1)))
            found = await store._get_json("zarr.json", prototype=default_buffer_prototype())
            assert found["attributes"] == {"x": 1}

        def test_get_json_sync(self, store):
            sync(store.set("zarr.json", self.buffer_cls.from_bytes(document(x=1))))
            found = store._get_json_sync("zarr.json", prototype=default_buffer_prototype())
            assert found["attributes"] == {"x": 1}

    # --- the synchronous methods ---------------------------------------------------------------

    def test_get_sync(self, store):
        value = self.buffer_cls.from_bytes(FOUR)
        sync(self.set(store, "c/0", value))
        assert_bytes_equal(self._require_get_sync(store).get_sync("c/0"), value)

    def test_get_sync_missing(self, store):
        getter = self._require_get_sync(store)
        assert [getter.get_sync(key) for key in ("zarr.json", "c/0", "a/c")] == [None] * 3

    def test_set_sync(self, filled):
        value = self.buffer_cls.from_bytes(FOUR)
        self._require_set_sync(filled).set_sync("a/c/0", value)
        assert_bytes_equal(sync(self.get(filled, "a/c/0")), value)

    def test_delete_sync(self, filled):
        self._require_set_sync(filled).set_sync("a/c/0", self.buffer_cls.from_bytes(FOUR))
        self._require_delete_sync(filled).delete_sync("a/c/0")
        assert filled.get_sync("a/c/0") is None

    def test_delete_sync_missing(self, filled):
        for key in ("a/c/0", "no/c/0", "no/zarr.json", "a/c/99999"):
            self._require_delete_sync(filled).delete_sync(key)

    @pytest.mark.parametrize("direction", ["set_async_get_sync", "set_sync_get_async"])
    async def test_sync_async_set_get_parity(self, filled, direction):
        value = self.buffer_cls.from_bytes(FOUR)
        if direction == "set_async_get_sync":
            await filled.set("a/c/0", value)
            result = filled.get_sync("a/c/0")
        else:
            filled.set_sync("a/c/0", value)
            result = await filled.get("a/c/0", prototype=default_buffer_prototype())
        assert_bytes_equal(result, value)

    async def test_delete_sync_visible_to_async_get(self, filled):
        await filled.set("a/c/0", self.buffer_cls.from_bytes(FOUR))
        filled.delete_sync("a/c/0")
        assert await filled.get("a/c/0", prototype=default_buffer_prototype()) is None

    @pytest.mark.parametrize(
        "byte_range",
        [None, RangeByteRequest(1, 4), OffsetByteRequest(1), SuffixByteRequest(1)],
    )
    @pytest.mark.parametrize("key", ["a/c/0", "a/zarr.json"])
    async def test_get_sync_byte_range_parity(self, filled, byte_range, key):
        await filled.set("a/c/0", self.buffer_cls.from_bytes(FOUR))
        expected = filled.get_sync(key, byte_range=byte_range)
        found = await filled.get(key, prototype=default_buffer_prototype(), byte_range=byte_range)
        assert_bytes_equal(found, expected)

    @pytest.mark.parametrize(
        "byte_range",
        [
            RangeByteRequest(10_000, 10_001),
            RangeByteRequest(3, 10_000),
            RangeByteRequest(3, 2),
            OffsetByteRequest(10_000),
            SuffixByteRequest(10_000),
        ],
    )
    @pytest.mark.parametrize("key", ["a/c/0", "a/zarr.json"])
    async def test_ranges_beyond_the_value_are_refused_by_both(self, filled, byte_range, key):
        await filled.set("a/c/0", self.buffer_cls.from_bytes(FOUR))
        with pytest.raises(InvalidInputError) as caught:
            filled.get_sync(key, byte_range=byte_range)
        assert caught.value.kind == "invalid-byte-range"
        with pytest.raises(InvalidInputError) as caught:
            await filled.get(key, prototype=default_buffer_prototype(), byte_range=byte_range)
        assert caught.value.kind == "invalid-byte-range"

    async def test_get_ranges(self, filled):
        """Newer Zarr reads many ranges of one key, coalesced, through a method of its own."""
        if not hasattr(filled, "get_ranges"):
            pytest.skip("this Zarr has no get_ranges")
        data = bytes(range(200))
        await filled.set("a/c/0", self.buffer_cls.from_bytes(data))
        wanted = [RangeByteRequest(3, 9), None, SuffixByteRequest(5), RangeByteRequest(10, 12)]
        found = {}
        async for group in filled.get_ranges("a/c/0", wanted, prototype=default_buffer_prototype()):
            found |= {index: value.to_bytes() for index, value in group}
        assert [found[i] for i in range(4)] == [data[3:9], data, data[-5:], data[10:12]]


class TestMemory(StoreContract):
    @pytest.fixture
    def storage(self):
        return icechunk.in_memory_storage()


class TestLocal(StoreContract):
    @pytest.fixture
    def storage(self, tmp_path):
        return icechunk.local_filesystem_storage(str(tmp_path / "repo"))


class TestS3(StoreContract):
    @pytest.fixture
    def storage(self, s3_server):
        return s3_server.storage()


del StoreContract

"""What every storage must do, as a pytest class to be subclassed once per backend.

A subclass overrides the fixture `storage` with one that yields an empty, writable storage::

    class TestMyStorage(StorageContract):
        @pytest.fixture
        def storage(self, tmp_path):
            return MyStorage(tmp_path)
"""

# ruff: noqa: D102  (the names of tests say what they check)

from __future__ import annotations

import asyncio
import pickle
import random
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from icechunk.config import StorageSettings
from icechunk.errors import ErrorKind, InvalidInputError, StorageError
from icechunk.storage.base import ObjectNotFound, PreconditionFailed, Storage, Version
from icechunk.storage.check import check_storage

_HIDDEN = ("a\0b", "a\nb", "repo#1", "a/b#123", "\ud800")

CHUNK = "chunks/1CECHNKREP0F1RSTCMT0"


def increment(storage: Storage, key: str, times: int) -> None:
    """Add one to the number stored under a key, so often, whoever else does the same.

    Importable, so that tests can run it in other processes.
    """
    for _ in range(times):
        while True:
            data, version = storage.get_versioned(key)
            number = int(data.split()[0]) + 1
            try:
                # Content is unique to the attempt, which tells it from others without metadata.
                storage.put_if(key, f"{number} {uuid.uuid4()}".encode(), version)
                break
            except PreconditionFailed:
                time.sleep(random.uniform(0, 0.002))


class StorageContract:
    """Checks of one storage, which the fixture `storage` provides, empty, for each test."""

    threads = 8
    increments = 25

    @pytest.fixture
    def storage(self) -> Storage:
        """Provide an empty storage."""
        raise NotImplementedError("override the fixture 'storage'")

    # Whole objects

    @pytest.mark.parametrize("write", ["put", "put_new"])
    @pytest.mark.parametrize("size", [0, 1, 1000, 3_000_001])
    def test_reads_what_was_written(self, storage: Storage, write: str, size: int) -> None:
        data = random.Random(size).randbytes(size)
        getattr(storage, write)(CHUNK, data)
        got = storage.get(CHUNK)
        assert type(got) is bytes
        assert got == data

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    @pytest.mark.parametrize("write", ["put", "put_new", "put_if"])
    def test_accepts_buffers_and_keeps_a_copy(
        self, storage: Storage, kind: type, write: str
    ) -> None:
        original = bytearray(b"some bytes")
        data = original if kind is bytearray else kind(original)
        arguments = (None,) if write == "put_if" else ()
        getattr(storage, write)(CHUNK, data, *arguments)
        original[:4] = b"XXXX"
        assert storage.get(CHUNK) == b"some bytes"

    def test_put_replaces(self, storage: Storage) -> None:
        storage.put("a/b", b"long first content")
        storage.put("a/b", b"second")
        assert storage.get("a/b") == b"second"

    @pytest.mark.parametrize(
        "key", ["repo", "a/b/c/d/e", "refs/branch.a b/ref.json", "refs/tag.ü%23!'/x", "a.b-c_d~"]
    )
    def test_keys_of_any_depth_and_alphabet(self, storage: Storage, key: str) -> None:
        storage.put(key, b"x")
        assert storage.get(key) == b"x"
        assert [info.key for info in storage.list()] == [key]

    @pytest.mark.parametrize("read", ["get", "get_versioned", "head"])
    @pytest.mark.parametrize("key", ["absent", "folder/absent", "folder", "file/below"])
    def test_missing_objects(self, storage: Storage, read: str, key: str) -> None:
        storage.put("folder/file", b"x")
        storage.put("file", b"x")
        with pytest.raises(ObjectNotFound, match=key) as caught:
            getattr(storage, read)(key)
        assert caught.value.kind == ErrorKind.OBJECT_NOT_FOUND
        assert not storage.exists(key)

    def test_exists_and_head(self, storage: Storage) -> None:
        before = time.time()
        storage.put(CHUNK, b"12345")
        assert storage.exists(CHUNK)
        info = storage.head(CHUNK)
        assert (info.key, info.size) == (CHUNK, 5)
        assert before - 5 < info.last_modified_us / 1e6 < time.time() + 5

    @pytest.mark.parametrize(
        "key",
        ["", "/", "/etc/x", "a//b", "a/", "..", "../x", "a/../../x", "a/.", "./a", *_HIDDEN],
    )
    def test_refuses_keys_that_escape_or_hide(self, storage: Storage, key: str) -> None:
        for attempt in (
            lambda: storage.get(key),
            lambda: storage.get_versioned(key),
            lambda: storage.get_range(key, 0, 1),
            lambda: storage.head(key),
            lambda: storage.exists(key),
            lambda: storage.put(key, b""),
            lambda: storage.put_new(key, b""),
            lambda: storage.put_if(key, b"", None),
            lambda: storage.delete([key]),
        ):
            with pytest.raises(InvalidInputError) as caught:
                attempt()
            assert caught.value.kind == ErrorKind.INVALID_KEY
        assert list(storage.list()) == []

    # Ranges

    @pytest.mark.parametrize("span", [(0, 10), (0, 1), (3, 7), (9, 10), (4, 4)])
    def test_ranges(self, storage: Storage, span: tuple[int, int]) -> None:
        storage.put_new(CHUNK, b"0123456789")
        got = storage.get_range(CHUNK, *span)
        assert type(got) is bytes
        assert got == b"0123456789"[slice(*span)]

    @pytest.mark.parametrize("span", [(0, 11), (9, 11), (10, 12), (50, 60), (5, 2**40)])
    def test_ranges_past_the_end(self, storage: Storage, span: tuple[int, int]) -> None:
        storage.put_new(CHUNK, b"0123456789")
        with pytest.raises(StorageError, match=CHUNK) as caught:
            storage.get_range(CHUNK, *span)
        assert caught.value.kind == ErrorKind.INVALID_OBJECT_SIZE

    @pytest.mark.parametrize("span", [(3, 2), (-1, 2), (-3, -1)])
    def test_ranges_that_make_no_sense(self, storage: Storage, span: tuple[int, int]) -> None:
        storage.put_new(CHUNK, b"0123456789")
        with pytest.raises(InvalidInputError) as caught:
            storage.get_range(CHUNK, *span)
        assert caught.value.kind == ErrorKind.INVALID_BYTE_RANGE

    def test_range_of_a_missing_object(self, storage: Storage) -> None:
        with pytest.raises(ObjectNotFound, match="absent"):
            storage.get_range("absent", 0, 1)

    # Conditional writes

    def test_create_only(self, storage: Storage) -> None:
        version = storage.put_if("repo", b"first", None)
        assert storage.get_versioned("repo") == (b"first", version)
        with pytest.raises(PreconditionFailed, match="repo"):
            storage.put_if("repo", b"second", None)
        assert storage.get("repo") == b"first"

    def test_replace(self, storage: Storage) -> None:
        storage.put("repo", b"first")
        _, version = storage.get_versioned("repo")
        replaced = storage.put_if("repo", b"second", version)
        assert replaced != version
        assert storage.get_versioned("repo") == (b"second", replaced)
        again = storage.put_if("repo", b"third", replaced)
        assert again not in (version, replaced)

    def test_a_stale_version_is_refused(self, storage: Storage) -> None:
        first = storage.put_if("repo", b"first", None)
        second = storage.put_if("repo", b"second", first)
        with pytest.raises(PreconditionFailed, match="repo"):
            storage.put_if("repo", b"third", first)
        storage.put("repo", b"unconditional")
        with pytest.raises(PreconditionFailed, match="repo"):
            storage.put_if("repo", b"third", second)
        assert storage.get("repo") == b"unconditional"

    def test_tells_what_it_refuses(self, storage: Storage) -> None:
        assert not storage.refuses("repo", b"first", None)
        _, first = storage.get_versioned("repo")
        assert storage.refuses("repo", b"second", None)
        assert not storage.refuses("repo", b"third", first)
        assert storage.refuses("repo", b"fourth", first)
        assert storage.get("repo") == b"third"

    def test_a_check_finds_it_safe_and_leaves_nothing(self, storage: Storage) -> None:
        found = check_storage(storage)
        assert found.is_safe, found
        assert list(storage.list()) == []

    def test_a_deleted_object_is_not_replaced(self, storage: Storage) -> None:
        version = storage.put_if("repo", b"first", None)
        storage.delete(["repo"])
        with pytest.raises(PreconditionFailed, match="repo"):
            storage.put_if("repo", b"second", version)
        assert not storage.exists("repo")
        storage.put_if("repo", b"third", None)
        assert storage.get("repo") == b"third"

    def test_nothing_is_replaced_in_an_empty_storage(self, storage: Storage) -> None:
        with pytest.raises(PreconditionFailed, match="repo"):
            storage.put_if("repo", b"first", Version(etag="0123456789abcdef0123456789abcdef"))
        assert list(storage.list()) == []

    def test_conditional_writes_of_nested_keys(self, storage: Storage) -> None:
        version = storage.put_if("refs/branch.main/ref.json", b"{}", None)
        storage.put_if("refs/branch.main/ref.json", b"{ }", version)
        assert [info.key for info in storage.list()] == ["refs/branch.main/ref.json"]

    def test_get_if_changed(self, storage: Storage) -> None:
        first = storage.put_if("repo", b"first", None)
        assert storage.get_if_changed("repo", first) is None
        second = storage.put_if("repo", b"second", first)
        assert storage.get_if_changed("repo", first) == (b"second", second)
        storage.delete(["repo"])
        with pytest.raises(ObjectNotFound):
            storage.get_if_changed("repo", second)

    def test_threads_lose_no_update(self, storage: Storage) -> None:
        storage.put("repo", b"0")
        with ThreadPoolExecutor(self.threads) as pool:
            runs = [
                pool.submit(increment, storage, "repo", self.increments)
                for _ in range(self.threads)
            ]
        for run in runs:
            run.result()
        assert int(storage.get("repo").split()[0]) == self.threads * self.increments

    def test_one_creator_wins(self, storage: Storage) -> None:
        def create(number: int) -> bool:
            try:
                storage.put_if("repo", b"creator %d" % number, None)
            except PreconditionFailed:
                return False
            return True

        with ThreadPoolExecutor(self.threads) as pool:
            won = list(pool.map(create, range(self.threads)))
        assert won.count(True) == 1
        assert storage.get("repo") == b"creator %d" % won.index(True)

    @pytest.mark.parametrize("conditional", [False, True])
    def test_readers_see_whole_objects(self, storage: Storage, conditional: bool) -> None:
        contents = [bytes([65 + i]) * (20_000 + 1000 * i) for i in range(20)]
        version = storage.put_if("repo", contents[0], None)

        def read() -> None:
            for _ in range(20):
                assert storage.get("repo") in contents

        with ThreadPoolExecutor(2) as pool:
            readers = [pool.submit(read) for _ in range(2)]
            for content in contents:
                if conditional:
                    version = storage.put_if("repo", content, version)
                else:
                    storage.put("repo", content)
        for reader in readers:
            reader.result()

    # Copies

    def test_a_copy_has_the_content_of_the_moment(self, storage: Storage) -> None:
        version = storage.put_if("repo", b"first", None)
        storage.copy("repo", "overwritten/one")
        second = storage.put_if("repo", b"second", version)
        storage.copy("repo", "overwritten/two")
        storage.put("repo", b"third, unconditionally")
        storage.copy("repo", "overwritten/deep/three")
        storage.delete(["repo"])
        found = {info.key: storage.get(info.key) for info in storage.list("overwritten/")}
        assert found == {
            "overwritten/one": b"first",
            "overwritten/two": b"second",
            "overwritten/deep/three": b"third, unconditionally",
        }
        with pytest.raises(PreconditionFailed):
            storage.put_if("repo", b"fourth", second)

    def test_a_copy_leaves_the_original_as_it_is(self, storage: Storage) -> None:
        version = storage.put_if("repo", b"x" * 1000, None)
        storage.copy("repo", "overwritten/one")
        assert storage.get_versioned("repo") == (b"x" * 1000, version)
        assert storage.head("overwritten/one").size == 1000
        storage.delete(["overwritten/one"])
        assert storage.get_versioned("repo") == (b"x" * 1000, version)
        storage.put_if("repo", b"y", version)

    def test_copies_of_nothing(self, storage: Storage) -> None:
        with pytest.raises(ObjectNotFound, match="repo"):
            storage.copy("repo", "overwritten/one")
        storage.put("repo", b"x")
        storage.copy("repo", "overwritten/one")
        with pytest.raises(ObjectNotFound, match="absent"):
            storage.copy("absent", "overwritten/two")
        assert sorted(info.key for info in storage.list()) == ["overwritten/one", "repo"]

    @pytest.mark.parametrize("keys", [("../x", "y"), ("repo", "/y"), ("repo", "a//b")])
    def test_copies_of_bad_keys(self, storage: Storage, keys: tuple[str, str]) -> None:
        storage.put("repo", b"x")
        with pytest.raises(InvalidInputError):
            storage.copy(*keys)
        assert [info.key for info in storage.list()] == ["repo"]

    def test_copies_are_whole_while_the_original_changes(self, storage: Storage) -> None:
        contents = [bytes([65 + i]) * (20_000 + 1000 * i) for i in range(10)]
        version = storage.put_if("repo", contents[0], None)

        def copy(number: int) -> bytes:
            storage.copy("repo", f"overwritten/{number}")
            return storage.get(f"overwritten/{number}")

        with ThreadPoolExecutor(1) as pool:
            copies = pool.map(copy, range(20))
            for content in contents:
                version = storage.put_if("repo", content, version)
            assert all(copied in contents for copied in copies)

    # Listing and deleting

    def test_listing_by_whole_segments(self, storage: Storage) -> None:
        sizes = {"repo": 3, "chunks/A": 0, "chunks/B": 10, "chunks/sub/C": 2, "chunks2/A": 1}
        for key, size in sizes.items():
            storage.put(key, b"x" * size)
        assert {info.key: info.size for info in storage.list()} == sizes
        below = {key: size for key, size in sizes.items() if key.startswith("chunks/")}
        for prefix in ("chunks", "chunks/"):
            assert {info.key: info.size for info in storage.list(prefix)} == below
        assert [info.key for info in storage.list("chunks/sub/")] == ["chunks/sub/C"]
        for prefix in ("chunk", "absent/", "repo"):
            assert list(storage.list(prefix)) == []

    def test_listing_what_is_wanted(self, storage: Storage) -> None:
        for number in range(6):
            storage.put(f"chunks/{number}", b"x" * number)
        storage.put("chunks/sub/3", b"")
        storage.put("chunks2/3", b"")
        asked: list[str] = []

        def is_wanted(names: Sequence[str]) -> list[bool]:
            asked.extend(names)
            return [name.endswith(("3", "5")) for name in names]

        for at_once in (1, 4):
            batches = storage.list_where("chunks", is_wanted, at_once)
            found = [info for batch in batches for info in batch]
            assert {info.key: info.size for info in found} == {"chunks/3": 3, "chunks/5": 5}
            assert len(found) == 2
            assert {str(number) for number in range(6)} <= set(asked)
            assert all(info in list(storage.list("chunks")) for info in found)
        assert list(storage.list_where("absent", is_wanted)) == []

    def test_listing_tells_sizes_and_times(self, storage: Storage) -> None:
        storage.put("a", b"123")
        (info,) = storage.list()
        assert (info.key, info.size) == ("a", 3)
        # Some stores cut one of the two times to whole seconds.
        assert abs(info.last_modified_us - storage.head("a").last_modified_us) < 1_000_000
        (shown,) = storage.list_objects_metadata()
        assert (shown.key, shown.size_bytes) == ("a", 3)
        assert abs(shown.created_at.timestamp() - info.last_modified_us / 1e6) < 1e-3
        assert storage.list_objects() == [("a", 3)]

    def test_listing_while_deleting(self, storage: Storage) -> None:
        for i in range(20):
            storage.put_new(f"chunks/{i}", b"x")
        for info in storage.list("chunks/"):
            storage.delete([info.key])
        assert list(storage.list()) == []

    def test_an_abandoned_listing(self, storage: Storage) -> None:
        for i in range(5):
            storage.put_new(f"chunks/{i}", b"x")
        listing = storage.list("chunks/")
        next(listing)
        del listing

    def test_delete(self, storage: Storage) -> None:
        keys = [f"chunks/{i}" for i in range(30)]
        for key in keys:
            storage.put_new(key, b"x")
        storage.delete([*keys[:20], "chunks/absent", "absent"])
        storage.delete(keys[:5])
        storage.delete([])
        assert sorted(info.key for info in storage.list()) == sorted(keys[20:])

    # The rest

    def test_coroutines(self, storage: Storage) -> None:
        async def scenario() -> None:
            keys = [f"chunks/{i}" for i in range(10)]
            await asyncio.gather(*(storage.put_new_async(key, key.encode()) for key in keys))
            got = await asyncio.gather(*(storage.get_async(key) for key in keys))
            assert got == [key.encode() for key in keys]
            assert await storage.get_range_async(keys[3], 2, 5) == keys[3].encode()[2:5]
            assert await storage.get_range_async(keys[3], 2, 2) == b""
            with pytest.raises(ObjectNotFound, match="absent"):
                await storage.get_async("absent")
            with pytest.raises(ObjectNotFound, match="absent"):
                await storage.get_range_async("absent", 0, 1)
            with pytest.raises(StorageError) as caught:
                await storage.get_range_async(keys[3], 2, 500)
            assert caught.value.kind == ErrorKind.INVALID_OBJECT_SIZE
            with pytest.raises(InvalidInputError):
                await storage.get_async("../x")

        asyncio.run(scenario())

    def test_flush_and_prepare_may_be_repeated(self, storage: Storage) -> None:
        storage.flush()
        storage.prepare()
        storage.prepare()
        storage.put_new(CHUNK, b"x")
        storage.flush()
        assert list(storage.list())

    def test_pickles_name_the_same_data(self, storage: Storage) -> None:
        storage.put("repo", b"x")
        copy = pickle.loads(pickle.dumps(storage))
        assert copy.get("repo") == b"x"
        copy.put("repo", b"y")
        assert storage.get("repo") == b"y"
        assert repr(copy) == repr(storage)

    def test_description(self, storage: Storage) -> None:
        assert repr(storage).startswith("<icechunk.Storage>\ntype: ")
        identity = storage.identity()
        assert identity
        assert all(isinstance(part, str) for part in identity)
        assert storage.identity() == identity
        assert isinstance(storage.default_settings(), StorageSettings)
        assert storage.configured(None).identity() == identity

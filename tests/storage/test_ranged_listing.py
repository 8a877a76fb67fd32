"""Large folders are listed in ranges at once: all of it, nothing twice, in few requests."""

import random
import threading
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icechunk.format.ids import encode_id
from icechunk.storage import object_store, ranged_listing
from icechunk.storage.base import ObjectInfo
from icechunk.storage.ranged_listing import list_in_ranges

names = st.binary(min_size=12, max_size=12).map(encode_id) | st.text("0Zz_!x/", min_size=1)


def lister(keys, size, asked):
    """A store that lists what it has, so many at a time, in the order of `keys`."""

    def pages_after(after):
        asked.append(after)
        left = [ObjectInfo(key, 1, 0) for key in keys if key > after]
        for start in range(0, len(left), size):
            yield left[start : start + size]

    return pages_after


@settings(max_examples=60)
@given(st.sets(names, max_size=60), st.integers(1, 8), st.integers(2, 9))
def test_everything_is_listed_once(found, size, at_once):
    keys = sorted(f"chunks/{name}" for name in found)
    pages = list_in_ranges(lister(keys, size, []), "chunks", at_once)
    listed = Counter(info.key for page in pages for info in page)
    assert listed == Counter(keys)


def test_a_store_without_order():
    chance = random.Random(3)
    keys = [f"chunks/{encode_id(chance.randbytes(12))}" for _ in range(100)]
    asked = []
    pages = list_in_ranges(lister(keys, 7, asked), "chunks", 5)
    assert [info.key for page in pages for info in page] == keys
    assert asked == [""]


def test_small_folders_are_listed_once():
    asked = []
    keys = sorted(f"chunks/{encode_id(bytes([n] * 12))}" for n in range(0, 250, 10))
    assert sum(map(len, list_in_ranges(lister(keys, 10, asked), "chunks", 8))) == 25
    assert asked == [""]


def test_ranges_are_alike():
    """Random ids are divided evenly, and ranges end where the next one begins."""
    chance = random.Random(1)
    keys = sorted(f"chunks/{encode_id(chance.randbytes(12))}" for _ in range(8000))
    asked, sizes, lock = [], Counter(), threading.Lock()
    inner = lister(keys, 10, asked)

    def pages_after(after):
        for page in inner(after):
            with lock:
                sizes[after] += 1
            yield page

    assert sum(map(len, list_in_ranges(pages_after, "chunks", 8))) == 8000
    assert len(asked) == 8
    assert all(80 < count < 125 for count in sizes.values())
    assert sum(sizes.values()) < 815


def test_a_failure_ends_it():
    def pages_after(after):
        for number in range(ranged_listing.PAGES_BEFORE + 1):
            yield [ObjectInfo(f"chunks/{number:020}", 1, 0)]
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        list(list_in_ranges(pages_after, "chunks", 3))


def test_on_a_server(s3_server, monkeypatch):
    storage = s3_server.storage("ranges")
    monkeypatch.setattr(object_store, "_LIST_PAGE", 3)
    chance = random.Random(2)
    keys = {f"chunks/{encode_id(chance.randbytes(12))}" for _ in range(60)}
    for key in keys | {"chunks/0", "chunks/z", "chunks2/0"}:
        storage.put(key, b"x")
    for at_once in (1, 5):
        found = [
            info.key
            for batch in storage.list_where(
                "chunks", lambda names: [len(n) > 1 for n in names], at_once
            )
            for info in batch
        ]
        assert sorted(found) == sorted(keys)

"""The store's own rules: which keys there are, what they hold, what listing and deleting reach."""

import asyncio
import inspect
import json
import pickle
import threading

import numpy as np
import pytest
import zarr
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import Buffer, cpu, default_buffer_prototype

import icechunk
from icechunk import (
    AlreadyExistsError,
    IcechunkStore,
    InvalidInputError,
    NodeNotFoundError,
    ReadOnlyError,
    Repository,
    RepositoryConfig,
    SessionStateError,
)
from icechunk.testing import StorageWrapper


def buffer(data):
    return cpu.Buffer.from_bytes(data)


def put(store, key, data):
    store.set_sync(key, buffer(data))


def get(store, key, byte_range=None):
    found = store.get_sync(key, byte_range=byte_range)
    return None if found is None else found.to_bytes()


def run(awaitable):
    async def wait():
        return await awaitable

    return asyncio.run(wait())


def finish(answer):
    """Wait for what a method of either kind does."""
    return run(answer) if inspect.isawaitable(answer) else answer


def keys(store, prefix=None):
    return sorted(store.list() if prefix is None else store.list_prefix(prefix))


def names(store, prefix):
    return list(store.list_dir(prefix))


def reopened(store):
    """Commit and open the result in a new repository object."""
    context = store.session._workspace.context
    store.session.commit("now")
    repo = Repository.open(context.storage)
    return repo.writable_session("main").store


@pytest.fixture
def store(repo):
    return repo.writable_session("main").store


@pytest.fixture
def filled(store, array_document, group_document):
    """A root group with an array ``a``, two of its four chunks, and another one in group ``g``."""
    put(store, "zarr.json", group_document())
    put(store, "a/zarr.json", array_document())
    put(store, "a/c/0", b"zero")
    put(store, "a/c/3", b"x" * 600)
    put(store, "g/zarr.json", group_document())
    put(store, "g/b/zarr.json", array_document((2, 2), (1, 1)))
    put(store, "g/b/c/1/0", b"b10")
    return store


ALL = ["a/c/0", "a/c/3", "a/zarr.json", "g/b/c/1/0", "g/b/zarr.json", "g/zarr.json", "zarr.json"]

# --- keys ----------------------------------------------------------------------------------------

BAD_KEYS = [
    *(
        "",
        "/",
        "foo",
        "foo/",
        "zarr.json/",
        "a/zarr.json/",
        "c/",
        "a/c/",
        "a/c/x",
        "a/c/0/",
        "a/c//0",
    ),
    *("a/c/-1", "a/c/+1", "a/c/4294967296", "a/c/0.0", "a/c/1e3", "a/c/٣", "a/c/0/zarr", "a/d/0"),
    *("../zarr.json", "a/../zarr.json", "a/./zarr.json", "a//zarr.json", "//zarr.json", "//c/0"),
    *("a/../c/0", "a//b/c/0", "./c/0", "a/./c/0", "a/.zarr", "a/c/" + "9" * 5000),
]


@pytest.mark.parametrize("key", BAD_KEYS, ids=lambda key: repr(key[:20]))
def test_other_keys_are_refused_everywhere(filled, key):
    value = buffer(b"{}")
    calls = [
        lambda: filled.get(key, default_buffer_prototype()),
        lambda: filled.set(key, value),
        lambda: filled.exists(key),
        lambda: filled.delete(key),
        lambda: filled.getsize(key),
        lambda: filled.set_if_not_exists(key, value),
        lambda: filled.get_sync(key),
        lambda: filled.set_sync(key, value),
        lambda: filled.delete_sync(key),
    ]
    for call in calls:
        with pytest.raises(InvalidInputError) as caught:
            finish(call())
        assert caught.value.kind == "invalid-key"
        assert f"`{key[:20]}" in str(caught.value)
    assert keys(filled) == ALL


def test_paths_must_be_unicode(filled, group_document):
    for key in ("\ud800/zarr.json", "a/\udfff/zarr.json"):
        with pytest.raises(InvalidInputError, match=r"ud800|udfff") as caught:
            put(filled, key, group_document())
        assert caught.value.kind == "invalid-key"
    reopened(filled)


def test_one_leading_slash_is_ignored(filled, group_document):
    assert get(filled, "/a/c/0") == b"zero"
    assert get(filled, "/zarr.json") == get(filled, "zarr.json")
    put(filled, "/a/c/1", b"one")
    put(filled, "/h/zarr.json", group_document())
    assert get(filled, "a/c/1") == b"one"
    assert run(filled.exists("/a/c/1"))
    assert run(filled.getsize("/a/c/3")) == 600
    run(filled.delete("/a/c/1"))
    run(filled.delete("/h/zarr.json"))
    assert keys(filled) == ALL


@pytest.mark.parametrize("name", [".zgroup", ".zarray", ".zattrs", ".zmetadata"])
@pytest.mark.parametrize("prefix", ["", "a/", "none/"])
def test_documents_of_zarr_v2_are_known_but_never_there(filled, prefix, name):
    key = prefix + name
    assert get(filled, key) is None
    assert run(filled.get(key, default_buffer_prototype())) is None
    assert not run(filled.exists(key))
    run(filled.delete(key))
    with pytest.raises(SessionStateError) as caught:
        put(filled, key, b"{}")
    assert caught.value.kind == "unimplemented"
    with pytest.raises(FileNotFoundError):
        run(filled.getsize(key))
    assert keys(filled) == ALL


# --- documents -----------------------------------------------------------------------------------


def test_documents_are_kept_byte_for_byte(store):
    odd = b'  {"node_type":"group", "zarr_format": 2,\n "x": [NaN, 1e400], "n\\u00e4": "\xc3\xa9"} '
    put(store, "odd/zarr.json", odd)
    assert get(store, "odd/zarr.json") == odd
    assert get(reopened(store), "odd/zarr.json") == odd


def test_an_identical_document_is_no_edit(filled):
    store = reopened(filled)
    put(store, "a/zarr.json", get(store, "a/zarr.json"))
    assert not store.session.has_uncommitted_changes


GRID = {"name": "regular", "configuration": {"chunk_shape": [2]}}


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{",
        b"\xff",
        '{"node_type": "group"}'.encode("utf-16"),
        b"[]",
        b"3",
        b"null",
        b"[" * 100_000,
        {},
        {"node_type": "other"},
        {"node_type": ["array"]},
        {"node_type": "array"},
        {"node_type": "array", "shape": [4]},
        {"node_type": "array", "shape": 4, "chunk_grid": GRID},
        {"node_type": "array", "shape": [-1], "chunk_grid": GRID},
        {"node_type": "array", "shape": [1.5], "chunk_grid": GRID},
        {"node_type": "array", "shape": [True], "chunk_grid": GRID},
        {"node_type": "array", "shape": [2**64], "chunk_grid": GRID},
        {"node_type": "array", "shape": [4, 4], "chunk_grid": GRID},
        {"node_type": "array", "shape": [], "chunk_grid": GRID},
        {"node_type": "array", "shape": [4], "chunk_grid": {"name": "hexagonal"}},
        {"node_type": "array", "shape": [4], "chunk_grid": {"name": "regular"}},
        {"node_type": "array", "shape": [2**34], "chunk_grid": GRID},
        {"node_type": "array", "shape": [4], "chunk_grid": GRID, "dimension_names": [1]},
        {"node_type": "array", "shape": [4], "chunk_grid": GRID, "dimension_names": "x"},
    ],
    ids=lambda d: repr(d)[:60],
)
def test_documents_that_are_no_nodes_are_refused(filled, document):
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    for key in ("new/zarr.json", "a/zarr.json"):
        with pytest.raises(InvalidInputError) as caught:
            put(filled, key, data)
        assert caught.value.kind == "bad-metadata"
        assert f"`/{key.removesuffix('/zarr.json')}`" in str(caught.value)
    assert keys(filled) == ALL


def test_an_array_cannot_become_a_group_nor_the_reverse(filled, array_document, group_document):
    for key, data in (("a/zarr.json", group_document()), ("g/zarr.json", array_document())):
        with pytest.raises(AlreadyExistsError) as caught:
            put(filled, key, data)
        assert caught.value.kind == "node-already-exists"
    assert keys(filled) == ALL


@pytest.mark.parametrize("names", [["x", "y", "z"], ["x"], [None, ""], [], None])
def test_dimension_names_need_not_fit(store, names):
    grid = {"name": "regular", "configuration": {"chunk_shape": [2, 2]}}
    document = {"node_type": "array", "shape": [4, 4], "chunk_grid": grid}
    put(store, "a/zarr.json", json.dumps(document | {"dimension_names": names}).encode())
    put(store, "a/c/1/1", b"1")
    store = reopened(store)
    assert json.loads(get(store, "a/zarr.json"))["dimension_names"] == names
    assert get(store, "a/c/1/1") == b"1"


@pytest.mark.parametrize(
    ("chunk_shapes", "count"),
    [([[2, 3, 5]], 3), ([[[2, 5]]], 5), ([[1, [2, 2], 5]], 4), ([3], 4), ([20], 1)],
)
def test_rectilinear_grids_have_as_many_chunks_as_edges(store, chunk_shapes, count):
    grid = {"name": "rectilinear", "configuration": {"chunk_shapes": chunk_shapes}}
    document = {"node_type": "array", "shape": [10], "chunk_grid": grid}
    put(store, "a/zarr.json", json.dumps(document).encode())
    put(store, f"a/c/{count - 1}", b"1")
    with pytest.raises(InvalidInputError) as caught:
        put(store, f"a/c/{count}", b"1")
    assert caught.value.kind == "invalid-chunk-index"
    assert get(reopened(store), f"a/c/{count - 1}") == b"1"


# --- chunks --------------------------------------------------------------------------------------


def test_chunks_need_an_array_a_place_and_a_byte(filled):
    for key, error, kind in (
        ("none/c/0", NodeNotFoundError, "node-not-found"),
        ("g/c/0", InvalidInputError, "not-an-array"),
        ("a/c/4", InvalidInputError, "invalid-chunk-index"),
        ("a/c/0/0", InvalidInputError, "invalid-chunk-index"),
        ("a/c", InvalidInputError, "invalid-chunk-index"),
        ("g/b/c/1", InvalidInputError, "invalid-chunk-index"),
        ("g/b/c/2/0", InvalidInputError, "invalid-chunk-index"),
    ):
        before = len(list(filled.session._workspace.context.storage.list("chunks")))
        with pytest.raises(error) as caught:
            put(filled, key, b"x" * 600)
        assert caught.value.kind == kind
        assert len(list(filled.session._workspace.context.storage.list("chunks"))) == before
    with pytest.raises(InvalidInputError) as caught:
        put(filled, "a/c/0", b"")
    assert caught.value.kind == "zero-length-chunk"
    for key in ("none/c/0", "g/c/0", "a/c/4", "a/c/0/0", "a/c", "g/b/c/1", "a/c/1"):
        assert get(filled, key) is None
        assert not run(filled.exists(key))
        run(filled.delete(key))
        with pytest.raises(FileNotFoundError):
            run(filled.getsize(key))
    assert keys(filled) == ALL


def test_missing_values_are_key_and_file_errors(filled):
    for key in ("none/zarr.json", "a/c/1"):
        with pytest.raises(KeyError) as caught:
            run(filled.getsize(key))
        assert isinstance(caught.value, FileNotFoundError)
        assert caught.value.kind == "key-not-found"
        assert str(caught.value) == f"no value for key `{key}`"
        assert type(pickle.loads(pickle.dumps(caught.value))) is type(caught.value)


@pytest.mark.parametrize("threshold", [0, 8, 100])
def test_only_large_chunks_become_objects(storage, array_document, threshold):
    repo = Repository.create(storage, RepositoryConfig(inline_chunk_threshold_bytes=threshold))
    store = repo.writable_session("main").store
    put(store, "a/zarr.json", array_document())
    values = {"a/c/0": b"1", "a/c/1": b"12345678", "a/c/2": b"123456789"}
    for key, value in values.items():
        put(store, key, value)
    expected = sum(len(value) > threshold for value in values.values())
    assert len(list(storage.list("chunks"))) == expected
    for view in (store, reopened(store)):
        assert {key: get(view, key) for key in values} == values
        assert run(view.getsize_prefix("a/c")) == 18
        assert run(view.getsize_prefix("a")) == 18 + len(array_document())


def test_scalar_arrays_have_one_chunk(store, array_document):
    for path in ("", "s/", "c/", "s/c/"):
        put(store, f"{path}zarr.json", array_document((), ()))
        put(store, f"{path}c", b"v" + path.encode())
    for view in (store, reopened(store)):
        for path in ("", "s/", "c/", "s/c/"):
            assert get(view, f"{path}c") == b"v" + path.encode()
    assert len(keys(store)) == 8


def test_a_grid_may_have_more_chunks_than_an_index_has_numbers(store, array_document):
    huge = 2**32 - 1
    corners = [(0, 0, 0), (huge - 1, 0, 5), (huge - 1,) * 3]
    put(store, "a/zarr.json", array_document((huge,) * 3, (1,) * 3))
    for i, corner in enumerate(corners):
        put(store, "a/c/" + "/".join(map(str, corner)), bytes([i + 1]) * 600)
    for view in (store, reopened(store)):
        for i, corner in enumerate(corners):
            assert get(view, "a/c/" + "/".join(map(str, corner))) == bytes([i + 1]) * 600
        assert names(view, "a/c") == ["0", str(huge - 1)]
        assert get(view, "a/c/1/1/1") is None
        assert run(view.getsize_prefix(f"a/c/{huge - 1}")) == 1200
    put(view, "a/c/7/7/7", b"7")
    run(view.delete_dir(f"a/c/{huge - 1}/{huge - 1}"))
    view = reopened(view)
    assert keys(view, "a") == ["a/c/0/0/0", "a/c/4294967294/0/5", "a/c/7/7/7", "a/zarr.json"]


def test_arrays_of_many_dimensions(store):
    data = np.arange(2**6 * 3, dtype="u2").reshape(2, 2, 2, 2, 2, 2, 3)
    a = zarr.create_array(store, name="a", data=data, chunks=(1, 2, 1, 2, 1, 2, 2))
    a[0, 1] = 7
    data[0, 1] = 7
    store = reopened(store)
    np.testing.assert_array_equal(zarr.open_array(store, path="a")[...], data)
    assert names(store, "a/c/1/0/1") == ["0"]
    assert len(keys(store)) == 2**3 * 2 + 2


def test_shards_are_the_chunks_of_the_grid(store):
    data = np.arange(100, dtype="i4")
    a = zarr.create_array(store, name="a", data=data, chunks=(5,), shards=(50,))
    assert keys(store, "a") == ["a/c/0", "a/c/1", "a/zarr.json"]
    run(store.delete("a/c/2"))
    assert keys(store, "a") == ["a/c/0", "a/c/1", "a/zarr.json"]
    a[12:17] = -1
    data[12:17] = -1
    store = reopened(store)
    a = zarr.open_array(store, path="a")
    np.testing.assert_array_equal(a[10:60], data[10:60])
    assert a[99] == 99


# --- byte ranges ---------------------------------------------------------------------------------

RANGES = [
    (None, slice(None)),
    (RangeByteRequest(0, 4), slice(0, 4)),
    (RangeByteRequest(1, 3), slice(1, 3)),
    (RangeByteRequest(2, 2), slice(0, 0)),
    (OffsetByteRequest(0), slice(None)),
    (OffsetByteRequest(3), slice(3, None)),
    (SuffixByteRequest(1), slice(-1, None)),
    (SuffixByteRequest(0), slice(0, 0)),
]


@pytest.mark.parametrize(("request_", "part"), RANGES)
def test_ranges_of_chunks_and_documents(filled, request_, part):
    for view in (filled, reopened(filled)):
        for key in ("a/c/0", "a/c/3", "a/zarr.json"):
            whole = get(view, key)
            assert get(view, key, request_) == whole[part]
            (found,) = run(view.get_partial_values(default_buffer_prototype(), [(key, request_)]))
            assert found.to_bytes() == whole[part]


@pytest.mark.parametrize(
    ("request_", "shown"),
    [
        (RangeByteRequest(1, 9999), "1..9999"),
        (RangeByteRequest(4, 4), "4..4"),
        (RangeByteRequest(3, 2), "3..2"),
        (RangeByteRequest(-1, 2), "-1..2"),
        (OffsetByteRequest(4), "4"),
        (OffsetByteRequest(-1), "-1"),
        (SuffixByteRequest(5), "5"),
        (SuffixByteRequest(-1), "-1"),
    ],
)
def test_ranges_beyond_a_chunk_are_refused(filled, request_, shown):
    with pytest.raises(InvalidInputError, match="out of bounds for chunk of length 4") as caught:
        get(filled, "a/c/0", request_)
    assert caught.value.kind == "invalid-byte-range"
    assert shown in str(caught.value)


def test_other_ranges_are_refused(filled):
    for key in ("a/c/0", "a/c/3", "zarr.json"):
        with pytest.raises(ValueError, match="Unexpected byte_range, got"):
            get(filled, key, (0, 2))
    assert get(filled, "a/c/1", RangeByteRequest(0, 1)) is None


def test_partial_values_come_in_order_with_gaps(filled):
    requests = [
        ("a/c/3", None),
        ("a/c/1", None),
        ("a/c/0", OffsetByteRequest(2)),
        (".zgroup", None),
    ]
    found = run(filled.get_partial_values(default_buffer_prototype(), iter(requests * 20)))
    assert [value and value.to_bytes() for value in found] == [b"x" * 600, None, b"ro", None] * 20


# --- values --------------------------------------------------------------------------------------


class Elsewhere(Buffer):
    """A buffer whose memory numpy cannot see, as on a graphics card."""

    @classmethod
    def create_zero_length(cls):
        return cls(np.array([], "B"))

    @classmethod
    def from_buffer(cls, other):
        return cls.from_bytes(other.to_bytes())

    @classmethod
    def from_bytes(cls, data):
        return cls(np.frombuffer(bytearray(data), "B")[::-1])

    def as_numpy_array(self):
        return np.asarray(self._data)[::-1]

    def __add__(self, other):
        return type(self).from_bytes(self.to_bytes() + other.to_bytes())

    def combine(self, others):
        return self


@pytest.mark.parametrize("size", [4, 5000])
@pytest.mark.parametrize("step", [1, 2, -1])
def test_any_bytes_can_be_written(filled, size, step):
    data = np.arange(size * 2).astype("u1")[::step]
    filled.set_sync("a/c/0", cpu.Buffer(data))
    assert get(filled, "a/c/0") == data.tobytes()


@pytest.mark.parametrize("size", [4, 5000])
def test_buffers_of_other_kinds_go_in_and_come_out(filled, size):
    data = np.arange(size).astype("u1").tobytes()
    filled.set_sync("a/c/0", Elsewhere.from_bytes(data))
    assert get(filled, "a/c/0") == data
    prototype = default_buffer_prototype()._replace(buffer=Elsewhere)
    for found in (
        filled.get_sync("a/c/0", prototype=prototype),
        run(filled.get("a/c/0", prototype)),
    ):
        assert type(found) is Elsewhere
        assert found.to_bytes() == data


@pytest.mark.parametrize("size", [4, 5000])
def test_what_is_stored_is_a_copy(filled, size):
    data = np.zeros(size, "u1")
    filled.set_sync("a/c/0", cpu.Buffer(data))
    run(filled.set("a/c/1", cpu.Buffer(data)))
    data[:] = 9
    for view in (filled, reopened(filled)):
        assert get(view, "a/c/0") == get(view, "a/c/1") == bytes(size)
        found = view.get_sync("a/c/0").as_numpy_array()
        if found.flags.writeable:
            found[:] = 7
        assert get(view, "a/c/0") == bytes(size)


@pytest.mark.parametrize("value", [1, b"bytes", None, np.zeros(3, "u1")])
def test_values_must_be_buffers(filled, value):
    message = rf"`value` must be a Buffer instance. Got an instance of {type(value)} instead"
    with pytest.raises(TypeError, match=message):
        filled.set_sync("a/c/0", value)
    with pytest.raises(TypeError, match=message):
        run(filled.set("a/c/0", value))


def test_set_if_not_exists_looks_at_the_value_only_when_needed(filled):
    run(filled.set_if_not_exists("a/c/0", "no buffer"))
    run(filled.set_if_not_exists("zarr.json", buffer(b"no document")))
    with pytest.raises(TypeError):
        run(filled.set_if_not_exists("a/c/1", "no buffer"))
    run(filled.set_if_not_exists("a/c/1", buffer(b"one")))
    assert get(filled, "a/c/1") == b"one"


# --- listing and deleting ------------------------------------------------------------------------


def test_listings_give_documents_first_then_chunks(filled):
    for view in (filled, reopened(filled)):
        found = list(view.list())
        assert sorted(found) == ALL
        assert [key.endswith("zarr.json") for key in found] == [True] * 4 + [False] * 3
        assert keys(view, "/") == keys(view, "") == ALL
        assert keys(view, "a") == keys(view, "/a/") == ["a/c/0", "a/c/3", "a/zarr.json"]
        assert keys(view, "g") == ["g/b/c/1/0", "g/b/zarr.json", "g/zarr.json"]
        assert all(get(view, key) is not None for key in found)


@pytest.mark.parametrize("prefix", ["none", "a/c", "a/c/0", "g/", "g/b/c", "fo", "a/zarr.json"])
def test_prefixes_must_be_nodes(filled, prefix):
    if prefix == "g/":
        assert keys(filled, prefix) == keys(filled, "g")
        return
    with pytest.raises(InvalidInputError) as caught:
        filled.list_prefix(prefix)
    assert caught.value.kind == "bad-key-prefix"
    if not prefix.startswith(("a/c", "g/b/c")):
        with pytest.raises(InvalidInputError):
            run(filled.getsize_prefix(prefix))


def test_directories(filled):
    for view in (filled, reopened(filled)):
        for prefix, expected in {
            "": ["a", "g", "zarr.json"],
            "/": ["a", "g", "zarr.json"],
            "a": ["zarr.json", "c"],
            "a/": ["zarr.json", "c"],
            "a/c": ["0", "3"],
            "a/c/0": [],
            "a/c/1": [],
            "g": ["b", "zarr.json"],
            "g/b/c": ["1"],
            "g/b/c/1": ["0"],
            "g/b/c/1/0": [],
            "g/b/c/0": [],
            "g/b/c/x": [],
            "g/c": [],
            "none": [],
            "none/c": [],
            "a/zarr.json": [],
        }.items():
            assert names(view, prefix) == expected, prefix
            assert run(view.is_empty(prefix)) == (not expected)


def test_without_a_root_the_store_looks_empty_from_above(store, array_document):
    put(store, "x/y/zarr.json", array_document())
    assert names(store, "") == names(store, "x") == []
    assert run(store.is_empty(""))
    assert keys(store) == ["x/y/zarr.json"]
    run(store.clear())
    assert keys(store) == []


SIMILAR = [
    "foo",
    "foo-bar",
    "foo.",
    "foo/bar",
    "0",
    "0.",
    "0-",
    "0/0",
    "00",
    "fo",
    "Foo",
    "c",
    "c/c",
]


@pytest.mark.parametrize("victim", SIMILAR)
@pytest.mark.parametrize("committed", [False, True])
def test_similar_names_never_leak_into_each_other(store, array_document, victim, committed):
    for path in SIMILAR:
        put(store, f"{path}/zarr.json", array_document())
        put(store, f"{path}/c/1", path.encode())
    if committed:
        store = reopened(store)
    below = [path for path in SIMILAR if path == victim or path.startswith(f"{victim}/")]
    expected = sorted(f"{path}/{rest}" for path in below for rest in ("c/1", "zarr.json"))
    assert keys(store, victim) == expected
    assert run(store.getsize_prefix(victim)) == sum(
        len(array_document()) + len(path) for path in below
    )
    everything = keys(store)
    assert len(everything) == 2 * len(SIMILAR)
    for path in SIMILAR:
        assert get(store, f"{path}/c/1") == path.encode()
    run(store.delete_dir(victim))
    assert keys(store) == [key for key in everything if key not in expected]
    store = reopened(store)
    assert keys(store) == [key for key in everything if key not in expected]


@pytest.mark.parametrize("committed", [False, True])
def test_directories_of_chunks_are_deleted_by_whole_coordinates(store, array_document, committed):
    put(store, "a/zarr.json", array_document((20, 20), (1, 1)))
    coords = [(1, 1), (1, 10), (10, 1), (11, 1), (2, 2)]
    for i, j in coords:
        put(store, f"a/c/{i}/{j}", b"1")
    if committed:
        store = reopened(store)

    def left():
        return sorted(key.removeprefix("a/c/") for key in keys(store, "a"))[:-1]

    for prefix, expected in {
        "a/c/x": 5,
        "a/c/1/1/1": 5,
        "a/c/99999999999": 5,
        "a/d": 5,
        "none": 5,
        "a/c/1": 3,
        "a/c/10/": 2,
        "a/c/2/2": 1,
        "a/c": 0,
    }.items():
        run(store.delete_dir(prefix))
        assert len(left()) == expected, prefix
    assert keys(reopened(store)) == ["a/zarr.json"]


def test_arrays_below_arrays(store, array_document):
    put(store, "a/zarr.json", array_document())
    put(store, "a/b/zarr.json", array_document())
    put(store, "a/c/1/zarr.json", array_document())
    put(store, "a/c/1", b"a1")
    put(store, "a/b/c/2", b"b2")
    put(store, "a/c/1/c/3", b"c3")
    for view in (store, reopened(store)):
        assert [get(view, key) for key in ("a/c/1", "a/b/c/2", "a/c/1/c/3")] == [
            b"a1",
            b"b2",
            b"c3",
        ]
        assert len(keys(view)) == 6
        assert names(view, "a/b/c") == ["2"]
    run(view.delete("a/c/1"))
    assert get(view, "a/c/1/c/3") == b"c3"
    run(view.delete_dir("a/b"))
    assert keys(view) == ["a/c/1/c/3", "a/c/1/zarr.json", "a/zarr.json"]
    run(view.delete("a/zarr.json"))
    assert keys(view) == []


PATHS = ["ä ö/ü", "a b", " ", "日本/語", "🧊", "a\\b", "a\tb", "%20", "x" * 300, "c d/c", "A", "a"]


def test_any_text_without_a_slash_is_a_name(store, array_document, group_document):
    put(store, "zarr.json", group_document())
    for path in PATHS:
        put(store, f"{path}/zarr.json", array_document())
        put(store, f"{path}/c/2", path.encode())
    for view in (store, reopened(store)):
        for path in PATHS:
            assert get(view, f"{path}/c/2") == path.encode()
            assert keys(view, path) == [f"{path}/c/2", f"{path}/zarr.json"]
        assert len(keys(view)) == 2 * len(PATHS) + 1
        assert "🧊" in names(view, "")


def test_after_clearing_nothing_of_old_comes_back(filled, array_document, group_document):
    for _ in range(2):
        run(filled.clear())
        assert keys(filled) == []
        put(filled, "zarr.json", group_document())
        assert keys(filled) == ["zarr.json"]
        put(filled, "a/zarr.json", array_document())
        assert get(filled, "a/c/0") is None
        assert keys(filled, "a") == ["a/zarr.json"]
        filled = reopened(filled)
        assert keys(filled) == ["a/zarr.json", "zarr.json"]
        put(filled, "a/c/0", b"new")
        filled = reopened(filled)
        assert get(filled, "a/c/0") == b"new"
    filled.sync_clear()
    assert keys(reopened(filled)) == []


def test_chunks_outside_a_shrunk_grid_are_neither_read_nor_listed(filled, array_document):
    store = reopened(filled)
    put(store, "a/c/1", b"one")
    put(store, "a/zarr.json", array_document((2,), (2,)))
    assert get(store, "a/c/1") is get(store, "a/c/3") is None
    assert keys(store, "a") == ["a/c/0", "a/zarr.json"]
    put(store, "a/zarr.json", array_document((8,), (2,)))
    assert keys(store, "a") == ["a/c/0", "a/c/1", "a/c/3", "a/zarr.json"]
    put(store, "a/zarr.json", array_document((2,), (2,)))
    store = reopened(store)
    put(store, "a/zarr.json", array_document((8,), (2,)))
    assert keys(store, "a") == ["a/c/0", "a/zarr.json"]
    store = reopened(store)
    assert keys(store, "a") == ["a/c/0", "a/zarr.json"]


# --- the object ----------------------------------------------------------------------------------


def test_listings_serve_both_kinds_of_loops_once(filled):
    async def collect(iterator):
        return [item async for item in iterator]

    for make in (filled.list, lambda: filled.list_prefix("a"), lambda: filled.list_dir("")):
        iterator = make()
        found = list(iterator)
        assert found == run(collect(make()))
        assert list(iterator) == run(collect(iterator)) == []

        async def give_up(make=make):
            iterator = make()
            first = await anext(iterator)
            await iterator.aclose()
            return first, list(iterator)

        assert run(give_up()) == (found[0], [])


def test_stores_are_equal_when_their_session_is(repo):
    first, second = (repo.writable_session("main") for _ in range(2))
    assert first.store == first.store
    assert first.store == first.store.with_read_only(True)
    assert first.store != second.store
    assert first.store != "store"
    with pytest.raises(TypeError, match="unhashable"):
        hash(first.store)
    assert first.store is not first.store


def test_a_store_is_open_from_its_session_and_works_when_it_is_not(filled):
    assert filled._is_open
    view = filled.with_read_only(True)
    assert not view._is_open
    assert get(view, "a/c/0") == b"zero"
    filled.close()
    assert not filled._is_open
    put(filled, "a/c/1", b"one")
    assert get(filled, "a/c/1") == b"one"
    assert IcechunkStore(filled.session).read_only is False


def test_read_only_sessions_refuse_every_write(filled):
    session = filled.session
    repo = Repository.open(session._workspace.context.storage)
    session.commit("now")
    store = repo.readonly_session("main").store
    assert store.read_only
    value = buffer(b"1")
    writes = [
        lambda s: s.set("a/c/0", value),
        lambda s: s.set("zarr.json", value),
        lambda s: s.set_if_not_exists("a/c/1", value),
        lambda s: s.delete("a/c/0"),
        lambda s: s.delete_dir("a"),
        lambda s: s.clear(),
        lambda s: s.set_sync("a/c/0", value),
        lambda s: s.delete_sync("a/c/0"),
        lambda s: s.sync_clear(),
    ]
    for target in (store, store.with_read_only(False), filled):  # the last from before the commit
        for write in writes:
            with pytest.raises(ReadOnlyError) as caught:
                finish(write(target))
            assert caught.value.kind in ("read-only-store", "read-only-session")
    assert keys(store) == ALL


def test_read_only_stores_travel_by_pickle(filled):
    storage = filled.session._workspace.context.storage
    filled.session.commit("now")
    store = Repository.open(storage).readonly_session("main").store
    copy = pickle.loads(pickle.dumps(store))
    assert (copy.read_only, copy._is_open) == (True, True)
    assert copy != store
    assert keys(copy) == ALL


def test_what_zarr_asks_of_a_store(filled):
    assert filled.supports_writes
    assert filled.supports_deletes
    assert filled.supports_listing
    assert not filled.supports_partial_writes
    assert not filled.supports_consolidated_metadata
    with pytest.raises(TypeError, match="consolidated"):
        zarr.consolidate_metadata(filled)


# --- writes that are on their way when the session moves on --------------------------------------


class Slow(StorageWrapper):
    """Let a test do something between the storing of a chunk and the recording of it."""

    meanwhile = None

    def _after(self, operation, key):
        if operation == "put_new" and key.startswith("chunks/") and self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            thread = threading.Thread(target=meanwhile)
            thread.start()
            thread.join()


@pytest.fixture(params=["sync", "async"])
def slow(request, array_document):
    storage = Slow(icechunk.in_memory_storage())
    storage.is_local = request.param == "sync"
    Repository.create(storage)
    store = Repository.open(storage).writable_session("main").store
    run(store.set("a/zarr.json", buffer(array_document())))
    return storage, store


def test_a_write_overtaken_by_the_commit_fails_rather_than_vanish(slow):
    storage, store = slow
    storage.meanwhile = lambda: store.session.commit("without it")
    with pytest.raises(ReadOnlyError, match="committed before this write"):
        run(store.set("a/c/0", buffer(b"x" * 600)))
    assert run(store.get("a/c/0", default_buffer_prototype())) is None
    assert not store.session.has_uncommitted_changes


def test_a_write_overtaken_by_a_deletion_fails(slow, array_document):
    storage, store = slow
    storage.meanwhile = store.sync_clear
    with pytest.raises(NodeNotFoundError):
        run(store.set("a/c/0", buffer(b"x" * 600)))
    assert not store.session.has_uncommitted_changes
    run(store.set("a/zarr.json", buffer(array_document())))

    def recreate():
        store.sync_clear()
        put(store, "a/zarr.json", array_document())

    storage.meanwhile = recreate
    with pytest.raises(NodeNotFoundError, match="deleted while"):
        run(store.set("a/c/0", buffer(b"x" * 600)))
    assert store.session.status().updated_chunks == {}


def test_a_write_overtaken_by_discarding_goes_with_the_rest(slow):
    storage, store = slow
    storage.meanwhile = store.session.discard_changes
    run(store.set("a/c/0", buffer(b"x" * 600)))
    assert not store.session.has_uncommitted_changes
    assert keys(store) == []


def test_deleting_a_missing_node_spares_what_is_below_it(repo):
    store = repo.writable_session("main").store
    put(store, "a/b/zarr.json", b'{"node_type": "group"}')
    store.delete_sync("a/zarr.json")
    asyncio.run(store.delete("a/zarr.json"))
    assert list(store.list()) == ["a/b/zarr.json"]

"""Keys, values and ranges that a store refuses."""

import pytest
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest

import icechunk
from icechunk import (
    AlreadyExistsError,
    IcechunkError,
    InvalidInputError,
    NodeNotFoundError,
    ReadOnlyError,
    SessionStateError,
)


@pytest.fixture(params=["memory", "local", "distant"])
def world(request, make_world):
    """Stores of distant storages go ways of their own."""
    return make_world(request.param)


INVALID_KEYS = [
    "foo", "array/c/0/x", "array/c/-1/0", "array/c/0/4294967296", "a/../zarr.json", "a/./zarr.json",
    "a//zarr.json", "array/c/0/", "zarr.json/",
]  # fmt: skip
VERBS = {
    "get": lambda w, key: w.get(key),
    "set": lambda w, key: w.set(key, b"x"),
    "exists": lambda w, key: w.do("exists", key),
    "delete": lambda w, key: w.do("delete", key),
    "getsize": lambda w, key: w.do("getsize", key),
    "get_sync": lambda w, key: w.session.store.get_sync(key),
    "set_sync": lambda w, key: w.session.store.set_sync(key, w.buffer(b"x")),
    "delete_sync": lambda w, key: w.session.store.delete_sync(key),
}


@pytest.mark.parametrize("edited", [False, True], ids=["clean", "edited"])
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("key", INVALID_KEYS)
def test_invalid_keys(world, refused, verb, key, edited):
    if edited:
        world.edit()
    refused(world, lambda w: VERBS[verb](w, key), InvalidInputError, "invalid-key", f"`{key}`")


DOCUMENTS = {
    "not JSON": (b"{", "new"),
    "empty": (b"", "new"),
    "no object": (b"[]", "new"),
    "no node type": (b"{}", "node_type"),
    "unknown node type": (b'{"node_type": "thing"}', "node_type"),
    "no shape": ({"shape": None}, "shape"),
    "negative shape": ({"shape": [-1]}, "shape"),
    "shape of floats": ({"shape": [1.5]}, "shape"),
    "no grid": ({"chunk_grid": None}, "chunk_grid"),
    "unknown grid": ({"chunk_grid": {"name": "hexagonal"}}, "Unsupported chunk grid"),
    "fewer chunk lengths than axes": ({"shape": [4, 4]}, "shape"),
    "negative chunk length": (
        {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [-2]}}},
        "chunk_shape",
    ),
    "too many chunks": (
        {
            "shape": [2**40],
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1]}},
        },
        "new",
    ),
}


@pytest.mark.parametrize("edited", [False, True], ids=["clean", "edited"])
@pytest.mark.parametrize("document", DOCUMENTS)
def test_bad_documents(world, refused, document, edited):
    content, reason = DOCUMENTS[document]
    value = content if isinstance(content, bytes) else world.array(**content)
    if edited:
        world.edit()
    refused(
        world,
        lambda w: w.set("bad/new/zarr.json", value),
        InvalidInputError,
        "bad-metadata",
        "/bad/new",
        reason if reason != "new" else "",
    )


WRITES = {
    "array over a group": (
        lambda w: w.set("group/zarr.json", w.array()),
        AlreadyExistsError, "node-already-exists", "/group",
    ),
    "group over an array": (
        lambda w: w.set("array/zarr.json", w.group()),
        AlreadyExistsError, "node-already-exists", "/array",
    ),
    "array of another rank over one with chunks": (
        lambda w: w.set("array/zarr.json", w.array()),
        InvalidInputError, "bad-metadata", "/array",
    ),
    "chunk of nothing": (
        lambda w: w.set("no/such/c/0", b"x"),
        NodeNotFoundError, "node-not-found", "/no/such",
    ),
    "large chunk of nothing": (
        lambda w: w.set("no/such/c/0", b"x" * 1000),
        NodeNotFoundError, "node-not-found", "/no/such",
    ),
    "chunk of a group": (
        lambda w: w.set("group/c/0", b"x"),
        InvalidInputError, "not-an-array", "/group",
    ),
    "chunk of the root": (
        lambda w: w.set("c/0", b"x"),
        InvalidInputError, "not-an-array", "`/`",
    ),
    "chunk beyond the grid": (
        lambda w: w.set("array/c/4/0", b"x"),
        InvalidInputError, "invalid-chunk-index", "/array", "[4, 0]", "[4, 2]",
    ),
    "large chunk beyond the grid": (
        lambda w: w.set("array/c/0/4000000000", b"x" * 1000),
        InvalidInputError, "invalid-chunk-index", "/array", "[0, 4000000000]",
    ),
    "chunk of too few coordinates": (
        lambda w: w.set("array/c/0", b"x"),
        InvalidInputError, "invalid-chunk-index", "/array", "[0]",
    ),
    "chunk of too many coordinates": (
        lambda w: w.set("array/c/0/0/0", b"x"),
        InvalidInputError, "invalid-chunk-index", "/array", "[0, 0, 0]",
    ),
    "chunk of no coordinates": (
        lambda w: w.set("array/c", b"x"),
        InvalidInputError, "invalid-chunk-index", "/array", "[]",
    ),
    "chunk of no bytes": (
        lambda w: w.set("array/c/0/0", b""),
        InvalidInputError, "zero-length-chunk", "/array", "[0, 0]",
    ),
    "document of Zarr v2": (
        lambda w: w.set("array/.zarray", b"{}"),
        SessionStateError, "unimplemented", "array/.zarray",
    ),
    "value no buffer": (
        lambda w: w.set("array/c/0/0", 5),
        TypeError, None, "`value` must be a Buffer instance", "<class 'int'>",
    ),
    "bad document when nothing is there": (
        lambda w: w.do("set_if_not_exists", "x/zarr.json", w.buffer(b"{")),
        InvalidInputError, "bad-metadata", "/x",
    ),
}  # fmt: skip

READS = {
    "range past the end of a chunk": (
        lambda w: w.get("array/c/1/0", RangeByteRequest(1, 1000)),
        InvalidInputError, "invalid-byte-range", "1..1000",
    ),
    "range from beyond the end of a chunk": (
        lambda w: w.get("array/c/1/0", OffsetByteRequest(1000)),
        InvalidInputError, "invalid-byte-range", "1000",
    ),
    "suffix longer than a chunk": (
        lambda w: w.get("array/c/1/0", SuffixByteRequest(1000)),
        InvalidInputError, "invalid-byte-range", "1000",
    ),
    "reversed range of a chunk": (
        lambda w: w.get("array/c/1/0", RangeByteRequest(3, 1)),
        InvalidInputError, "invalid-byte-range", "3..1",
    ),
    "range past the end of a document": (
        lambda w: w.get("group/zarr.json", RangeByteRequest(1, 10_000)),
        InvalidInputError, "invalid-byte-range", "1..10000",
    ),
    "reversed range of a document": (
        lambda w: w.get("group/zarr.json", RangeByteRequest(3, 1)),
        InvalidInputError, "invalid-byte-range", "3..1",
    ),
    "suffix longer than a document": (
        lambda w: w.get("group/zarr.json", SuffixByteRequest(10_000)),
        InvalidInputError, "invalid-byte-range", "10000",
    ),
    "unknown kind of range": (
        lambda w: w.get("array/c/1/0", (0, 1)),
        ValueError, None, "Unexpected byte_range", "(0, 1)",
    ),
    "listing below nothing": (
        lambda w: w.session.store.list_prefix("no/such"),
        InvalidInputError, "bad-key-prefix", "no/such",
    ),
    "listing below a part of a name": (
        lambda w: w.session.store.list_prefix("arr"),
        InvalidInputError, "bad-key-prefix", "`arr`",
    ),
    "size below nothing": (
        lambda w: w.do("getsize_prefix", "no/such"),
        InvalidInputError, "bad-key-prefix", "no/such",
    ),
    "size of no document": (
        lambda w: w.do("getsize", "no/zarr.json"),
        NodeNotFoundError, "key-not-found", "no/zarr.json",
    ),
    "size of no chunk": (
        lambda w: w.do("getsize", "array/c/3/1"),
        NodeNotFoundError, "key-not-found", "array/c/3/1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("edited", [False, True], ids=["clean", "edited"])
@pytest.mark.parametrize("name", WRITES)
def test_refused_writes(world, refused, name, edited):
    if edited:
        world.edit()
    chunks = chunk_objects(world)
    refused(world, *WRITES[name])
    assert chunk_objects(world) == chunks  # it was refused before its bytes were stored


@pytest.mark.parametrize("edited", [False, True], ids=["clean", "edited"])
@pytest.mark.parametrize("name", READS)
def test_refused_reads(world, refused, name, edited):
    if edited:
        world.edit()
    refused(world, *READS[name])


def test_a_session_survives_all_of_them(world):
    """One refusal after the other, then the commit: it holds the edits and nothing else."""
    world.edit()
    edits = repr(world.session.status())
    for call, *_ in (WRITES | READS).values():
        with pytest.raises((ValueError, TypeError, IcechunkError)):
            call(world)
    calls = [(verb, key) for verb in VERBS for key in INVALID_KEYS]
    for verb, key in calls:
        with pytest.raises(InvalidInputError):
            VERBS[verb](world, key)
    values = {key: world.get(key) for key in world.session.store.list()}

    world.session.commit("after all")
    assert repr(world.repo.diff(from_snapshot_id=world.first, to_branch="main")) == edits
    world.use(icechunk.Repository.open(world.storage).readonly_session("main"))
    assert {key: world.get(key) for key in world.session.store.list()} == values


READ_ONLY = {
    "chunk": (lambda w: w.set("array/c/0/0", b"x"), "read-only-store"),
    "large chunk": (lambda w: w.set("array/c/0/0", b"x" * 1000), "read-only-store"),
    "document": (lambda w: w.set("x/zarr.json", w.group()), "read-only-store"),
    "deletion of a chunk": (lambda w: w.do("delete", "array/c/0/0"), "read-only-session"),
    "deletion of a node": (lambda w: w.do("delete", "array/zarr.json"), "read-only-session"),
    "deletion of a directory": (lambda w: w.do("delete_dir", "group"), "read-only-store"),
    "clearing": (lambda w: w.do("clear"), "read-only-session"),
    "clearing at once": (lambda w: w.session.store.sync_clear(), "read-only-session"),
}


@pytest.mark.parametrize("source", ["branch", "tag", "snapshot_id"])
@pytest.mark.parametrize("name", READ_ONLY)
def test_a_read_only_session_takes_no_writes(world, refused, name, source):
    call, kind = READ_ONLY[name]
    where = {"branch": "main", "tag": "tag", "snapshot_id": world.first}[source]
    world.use(world.repo.readonly_session(**{source: where}))
    chunks = chunk_objects(world)
    refused(world, call, ReadOnlyError, kind, "{first}")
    assert chunk_objects(world) == chunks


@pytest.mark.parametrize("name", READ_ONLY)
def test_a_committed_session_takes_no_writes(world, refused, name):
    call, kind = READ_ONLY[name]
    world.set("y/zarr.json", world.group())
    world.later = world.session.commit("done")
    refused(world, call, ReadOnlyError, kind, "{later}")


def chunk_objects(world):
    return sorted(item.key for item in world.storage.list_objects_metadata(prefix="chunks/"))

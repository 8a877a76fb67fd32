"""Setting references to virtual chunks: what is stored, what is skipped, what is refused."""

import asyncio
import pickle
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
import zarr

import icechunk
from icechunk import ErrorKind, IcechunkError
from icechunk.changes import virtual_refs
from icechunk.virtual import VirtualChunkSpec

PREFIX = "s3://bucket/pre/"
FILES = "file:///data/"
TIME = datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)


def uint64(*values):
    return np.array(values, np.uint64)


@pytest.fixture
def session(storage):
    config = icechunk.RepositoryConfig()
    for prefix, store, name in (
        (PREFIX, icechunk.s3_store(region="us-east-1"), "named"),
        (FILES, icechunk.local_filesystem_store("/data"), None),
    ):
        config.set_virtual_chunk_container(icechunk.VirtualChunkContainer(prefix, store, name))
    session = icechunk.Repository.create(storage, config).writable_session("main")
    for name, shape in (("a", (8,)), ("b", (4, 6)), ("scalar", ())):
        zarr.create_array(
            session.store, name=name, shape=shape, chunks=(2,) * len(shape) or "auto", dtype="u1"
        )
    zarr.create_group(session.store, path="group")
    return session


@pytest.fixture
def store(session):
    return session.store


def refs(session, path="/a"):
    """All references of an array, as tuples by coordinates."""
    node = session._workspace.nodes.get(path)
    table = session._workspace.chunk_table(node)
    return {
        tuple(coords): (ref.location, ref.offset, ref.length, ref.etag, ref.last_modified)
        for coords in table.coords.tolist()
        for ref in [table.get(tuple(coords))]
    }


def fails(kind, call, *arguments, **named):
    with pytest.raises(IcechunkError) as error:
        call(*arguments, **named)
    assert error.value.kind == kind
    return str(error.value)


# --- one ------------------------------------------------------------------------------------------


def test_one_reference(session, store):
    store.set_virtual_ref("a/c/1", PREFIX + "x", offset=3, length=2**40)
    store.set_virtual_ref("a/c/2", "vcc://named/y", offset=0, length=1, checksum='"tag"')
    store.set_virtual_ref("a/c/3", "FILE:/data/b/../z w", offset=0, length=1, checksum=TIME)
    assert refs(session) == {
        (1,): (PREFIX + "x", 3, 2**40, None, 0),
        (2,): ("vcc://named/y", 0, 1, '"tag"', 0),
        (3,): ("file:///data/z%20w", 0, 1, None, int(TIME.timestamp())),
    }
    assert session.chunk_type("/a", [1]) == icechunk.ChunkType.virtual
    assert session.all_virtual_chunk_locations() == [
        PREFIX + "x", PREFIX + "y", "file:///data/z%20w",
    ]  # fmt: skip


def test_a_reference_replaces_a_chunk_and_is_replaced(session, store):
    array = zarr.open_array(store, path="a")
    array[:] = 1
    store.set_virtual_ref("a/c/1", PREFIX + "x", offset=0, length=2)
    assert session.chunk_type("/a", [1]) == icechunk.ChunkType.virtual
    array[2:4] = 5
    assert array[2:4].tolist() == [5, 5]


def test_scalar_arrays(session, store):
    store.set_virtual_ref("scalar/c", PREFIX + "x", offset=0, length=1)
    assert refs(session, "/scalar") == {(): (PREFIX + "x", 0, 1, None, 0)}
    store.set_virtual_refs_arr("scalar", (), [PREFIX + "y"], uint64(4), uint64(5))
    assert refs(session, "/scalar") == {(): (PREFIX + "y", 4, 5, None, 0)}


@pytest.mark.parametrize(
    ("key", "location", "length", "kind"),
    [
        ("a/zarr.json", PREFIX + "x", 1, ErrorKind.NOT_ALLOWED),
        ("a/x", PREFIX + "x", 1, ErrorKind.INVALID_KEY),
        ("a/c/4", PREFIX + "x", 1, ErrorKind.INVALID_CHUNK_INDEX),
        ("a/c/0/0", PREFIX + "x", 1, ErrorKind.INVALID_CHUNK_INDEX),
        ("a/c/0", PREFIX + "x", 0, ErrorKind.ZERO_LENGTH_CHUNK),
        ("none/c/0", PREFIX + "x", 1, ErrorKind.NODE_NOT_FOUND),
        ("group/c/0", PREFIX + "x", 1, ErrorKind.NOT_AN_ARRAY),
        ("a/c/0", "", 1, ErrorKind.INVALID_VIRTUAL_REF),
        ("a/c/0", "s3://other/x", 1, ErrorKind.NO_CONTAINER_FOR_VIRTUAL_CHUNK),
        ("a/c/0", "vcc://nobody/x", 1, ErrorKind.NO_CONTAINER_FOR_VIRTUAL_CHUNK),
        ("a/c/0", FILES + "../secret", 1, ErrorKind.NO_CONTAINER_FOR_VIRTUAL_CHUNK),
        ("a/c/0", FILES + "..%2fsecret", 1, ErrorKind.INVALID_VIRTUAL_REF),
        ("a/c/0", PREFIX + "a//b", 1, ErrorKind.INVALID_VIRTUAL_REF),
        ("a/c/0", PREFIX + "./b", 1, ErrorKind.INVALID_VIRTUAL_REF),
        ("a/c/0", PREFIX + "a/../b", 1, ErrorKind.INVALID_VIRTUAL_REF),
        ("a/c/0", PREFIX + "a/", 1, ErrorKind.INVALID_VIRTUAL_REF),
    ],
)
def test_refused_references(session, store, key, location, length, kind):
    fails(kind, store.set_virtual_ref, key, location, offset=0, length=length)
    assert not refs(session)


def test_containers_need_not_exist_yet(session, store):
    for i, location in enumerate(["s3://other/x", "vcc://nobody/x"]):
        store.set_virtual_ref(f"a/c/{i}", location, offset=0, length=1, validate_container=False)
    store.set_virtual_refs_arr(
        "a", (1,), ["gs://b/x"], uint64(0), uint64(1), arr_offset=(2,), validate_containers=False
    )
    assert [ref[0] for ref in refs(session).values()] == [
        "s3://other/x",
        "vcc://nobody/x",
        "gs://b/x",
    ]
    message = fails(
        ErrorKind.INVALID_VIRTUAL_REF, store.set_virtual_ref, "a/c/0", "foo", offset=0, length=1,
        validate_container=False,
    )  # fmt: skip
    assert "error parsing" in message


def test_keys_that_only_others_can_read(session, store):
    """Real buckets have them, so who reads otherwise may refer to them, knowingly."""
    location = PREFIX + "a//b"
    message = fails(
        ErrorKind.INVALID_VIRTUAL_REF, store.set_virtual_ref, "a/c/0", location, offset=0, length=1
    )
    assert location in message
    assert "copy the object" in message
    assert "without validating" in message
    store.set_virtual_ref("a/c/0", location, offset=0, length=1, validate_container=False)
    assert [ref[0] for ref in refs(session).values()] == [location]


@pytest.mark.parametrize("checksum", [datetime(2024, 1, 1), 5, b"x"])
def test_checksums_of_other_types(store, checksum):
    with pytest.raises(TypeError):
        store.set_virtual_ref("a/c/0", PREFIX, offset=0, length=1, checksum=checksum)
    with pytest.raises(TypeError):
        store.set_virtual_refs_arr("a", (1,), [PREFIX], uint64(0), uint64(1), checksum=checksum)


def test_times_that_cannot_be_stored(session, store):
    for year in (1960, 2150):
        time = datetime(year, 1, 1, tzinfo=UTC)
        fails(
            ErrorKind.INVALID_VIRTUAL_REF, store.set_virtual_ref, "a/c/0", PREFIX + "x", offset=0,
            length=1, checksum=time,
        )  # fmt: skip
    assert not refs(session)


@pytest.mark.parametrize("bad", [{"offset": -1, "length": 1}, {"offset": 0, "length": 2**64}])
def test_numbers_out_of_range(store, bad):
    with pytest.raises(OverflowError):
        store.set_virtual_ref("a/c/0", PREFIX, **bad)


def test_read_only_sessions_take_no_references(session, store):
    session.commit("arrays")
    for call, arguments, named in (
        (store.set_virtual_ref, ("a/c/0", PREFIX), {"offset": 0, "length": 1}),
        (store.set_virtual_refs, ("a", []), {}),
        (store.set_virtual_refs_arr, ("a", (0,), [], uint64(), uint64()), {}),
    ):
        fails(ErrorKind.READ_ONLY_STORE, call, *arguments, **named)


# --- many, as objects -----------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [2, 8192])
def test_specs(session, store, monkeypatch, at_once):
    monkeypatch.setattr(virtual_refs, "SPECS_AT_ONCE", at_once)
    zone = timezone(timedelta(hours=2))
    chunks = [
        VirtualChunkSpec([1, 2], PREFIX + "x", 1, 2),
        VirtualChunkSpec((0, 1), "S3://bucket/pre/y", 3, 4, etag_checksum="tag"),
        VirtualChunkSpec([0, 0], PREFIX + "z", 5, 6, None, TIME.astimezone(zone)),
        VirtualChunkSpec([1, 1], PREFIX + "w", 5, 6, "both", TIME),
        VirtualChunkSpec([1, 2], PREFIX + "last", 7, 8),
    ]
    assert store.set_virtual_refs("/b", chunks) is None
    assert refs(session, "/b") == {
        (0, 0): (PREFIX + "z", 5, 6, None, int(TIME.timestamp())),
        (0, 1): (PREFIX + "y", 3, 4, "tag", 0),
        (1, 1): (PREFIX + "w", 5, 6, "both", 0),
        (1, 2): (PREFIX + "last", 7, 8, None, 0),
    }


def test_specs_without_container_are_skipped(session, store):
    chunks = [
        VirtualChunkSpec([i, i], location, 0, 1, f"tag{i}")
        for i, location in enumerate([PREFIX + "x", "gs://b/x"])
    ]
    assert store.set_virtual_refs("b", chunks) == [(1, 1)]
    assert list(refs(session, "/b")) == [(0, 0)]
    assert store.set_virtual_refs("b", chunks, validate_containers=False) is None
    assert refs(session, "/b")[1, 1] == ("gs://b/x", 0, 1, "tag1", 0)


@pytest.mark.parametrize(
    ("path", "chunk", "kind"),
    [
        ("a", ([4], PREFIX + "x", 0, 1), ErrorKind.INVALID_CHUNK_INDEX),
        ("a", ([0, 0], PREFIX + "x", 0, 1), ErrorKind.INVALID_CHUNK_INDEX),
        ("a", ([0], PREFIX + "x", 0, 0), ErrorKind.ZERO_LENGTH_CHUNK),
        ("a", ([0], "", 0, 1), ErrorKind.INVALID_VIRTUAL_REF),
        ("group", ([0], PREFIX + "x", 0, 1), ErrorKind.NOT_AN_ARRAY),
        ("none", ([0], PREFIX + "x", 0, 1), ErrorKind.NODE_NOT_FOUND),
    ],
)
def test_one_bad_spec_among_good_ones_leaves_nothing(session, store, path, chunk, kind):
    good = VirtualChunkSpec([0] * len(chunk[0]), PREFIX + "x", 0, 1)
    fails(kind, store.set_virtual_refs, path, [good, VirtualChunkSpec(*chunk)])
    assert not refs(session)


def test_other_objects_are_no_specs(store):
    with pytest.raises(TypeError, match="int"):
        store.set_virtual_refs("a", [1])


def test_a_spec_is_a_value():
    spec = VirtualChunkSpec(np.array([1, 2]), "s3://b/x", np.uint64(2**63), 4, "tag", TIME)
    assert (spec.index, spec.location, spec.offset, spec.length) == ([1, 2], "s3://b/x", 2**63, 4)
    assert (spec.etag_checksum, spec.last_updated_at_checksum) == ("tag", TIME)
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert repr(spec).startswith("icechunk.virtual.VirtualChunkSpec(index=[1, 2], location='s3:")
    with pytest.raises(AttributeError):
        spec.offset = 3


@pytest.mark.parametrize("rank", [0, 1, 8, 9, 20])
def test_specs_of_any_rank(rank):
    index = list(range(2**32 - rank, 2**32))
    spec = VirtualChunkSpec(index, "s3://b/x", 2**64 - 1, 2**63)
    assert (spec.index, spec.offset, spec.length) == (index, 2**64 - 1, 2**63)
    assert pickle.loads(pickle.dumps(spec)) == spec


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (([-1], "s3://b/x", 0, 1), OverflowError),
        (([2**32], "s3://b/x", 0, 1), OverflowError),
        (([0], "s3://b/x", -1, 1), OverflowError),
        (([0], "s3://b/x", 0, 2**64), OverflowError),
        (([0.5], "s3://b/x", 0, 1), TypeError),
        (([0], "s3://b/x", 0.5, 1), TypeError),
        (([0], b"s3://b/x", 0, 1), TypeError),
        (([0], "s3://b/x", 0, 1, 5), TypeError),
        (([0], "s3://b/x", 0, 1, None, datetime(2024, 1, 1)), TypeError),
    ],
)
def test_specs_check_their_values(arguments, error):
    with pytest.raises(error):
        VirtualChunkSpec(*arguments)


# --- many, as columns -----------------------------------------------------------------------------


def test_columns_go_through_the_grid_row_by_row(session, store):
    locations = [PREFIX + f"x{i}" for i in range(6)]
    offsets, lengths = np.arange(6, dtype=np.uint64), np.arange(1, 7, dtype=np.uint64)
    assert store.set_virtual_refs_arr("/b", (2, 3), locations, offsets, lengths) is None
    assert refs(session, "/b") == {
        (i // 3, i % 3): (PREFIX + f"x{i}", i, i + 1, None, 0) for i in range(6)
    }


def test_columns_set_a_region(session, store):
    assert store.set_virtual_refs_arr(
        "b", (1, 2), [PREFIX + "x", PREFIX + "y"], uint64(0, 1), uint64(1, 1), arr_offset=(1, 1),
        checksum="tag",
    ) is None  # fmt: skip
    assert refs(session, "/b") == {
        (1, 1): (PREFIX + "x", 0, 1, "tag", 0),
        (1, 2): (PREFIX + "y", 1, 1, "tag", 0),
    }


@pytest.mark.parametrize("kind", [list, np.array, tuple])
def test_empty_locations_are_left_out_and_foreign_ones_skipped(session, store, kind):
    locations = kind([PREFIX + "x", "", "gs://b/x", PREFIX + "a b"])
    skipped = store.set_virtual_refs_arr(
        "a", (4,), locations, uint64(0, 0, 0, 7), uint64(1, 0, 1, 1), checksum=TIME
    )
    assert skipped == [(2,)]
    seconds = int(TIME.timestamp())
    assert refs(session) == {
        (0,): (PREFIX + "x", 0, 1, None, seconds),
        (3,): (PREFIX + "a b", 7, 1, None, seconds),
    }


def test_skipped_ones_are_named_by_their_place_in_the_array(session, store):
    arguments = (1, 2), ["gs://b/x", "gs://b/y"], uint64(0, 0), uint64(1, 1)
    assert store.set_virtual_refs_arr("b", *arguments, arr_offset=(1, 1)) == [(1, 1), (1, 2)]
    assert not refs(session, "/b")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"offsets": np.zeros(1, np.int64)}, TypeError),
        ({"lengths": [1]}, TypeError),
        ({"offsets": np.zeros((1, 1), np.uint64)}, TypeError),
        ({"offsets": uint64(0, 0)}, ValueError),
        ({"chunk_grid_shape": (2,)}, ValueError),
        ({"arr_offset": (0, 0)}, ValueError),
        ({"arr_offset": (-1,)}, OverflowError),
        ({"locations": [None]}, TypeError),
        ({"locations": PREFIX}, TypeError),
    ],
)
def test_columns_that_do_not_belong_together(session, store, changes, error):
    arguments = {
        "array_path": "a",
        "chunk_grid_shape": (1,),
        "locations": [PREFIX + "x"],
        "offsets": uint64(0),
        "lengths": uint64(1),
    }
    with pytest.raises(error):
        store.set_virtual_refs_arr(**(arguments | changes))
    assert not refs(session)


@pytest.mark.parametrize(
    ("shape", "changes", "kind"),
    [
        ((5,), {}, ErrorKind.INVALID_CHUNK_INDEX),
        ((1, 4), {}, ErrorKind.INVALID_CHUNK_INDEX),
        ((4,), {"arr_offset": (1,)}, ErrorKind.INVALID_CHUNK_INDEX),
        ((4,), {"location": "foo"}, ErrorKind.INVALID_VIRTUAL_REF),
        ((4,), {"length": 0}, ErrorKind.ZERO_LENGTH_CHUNK),
        ((4,), {"path": "group"}, ErrorKind.NOT_AN_ARRAY),
        ((4,), {"path": "none"}, ErrorKind.NODE_NOT_FOUND),
        ((4,), {"path": "a//b"}, ErrorKind.INVALID_PATH),
    ],
)
def test_one_bad_row_leaves_nothing(session, store, shape, changes, kind):
    n, changes = int(np.prod(shape)), dict(changes)
    locations = [PREFIX + "x"] * (n - 1) + [changes.pop("location", PREFIX + "x")]
    lengths = uint64(*[1] * (n - 1), changes.pop("length", 1))
    path = changes.pop("path", "a")
    arguments = (path, shape, locations, np.zeros(n, np.uint64), lengths)
    fails(kind, store.set_virtual_refs_arr, *arguments, **changes)
    assert not refs(session)


def test_empty_rows_may_lie_outside_the_grid(session, store):
    locations = [PREFIX + "x"] * 4 + [""]
    assert (
        store.set_virtual_refs_arr("a", (5,), locations, uint64(*[0] * 5), uint64(*[1] * 5)) is None
    )
    assert len(refs(session)) == 4
    assert store.set_virtual_refs_arr("a", (0,), [], uint64(), uint64()) is None


@pytest.mark.parametrize(
    "odd", ["", "%41", "/.hidden", "//b", "/../x", " ", "ü", "?v=1", "/", "\x7f", "\\", "S3"]
)
def test_odd_locations_among_plain_ones_are_stored_as_alone(session, store, odd):
    location = odd + "://bucket/pre/x" if odd == "S3" else PREFIX + "x" + odd
    locations = [PREFIX + "y", location, FILES + "y", FILES + "z"]

    def alone(i):
        store.set_virtual_ref(f"a/c/{i}", locations[i], offset=0, length=1)

    def together():
        return store.set_virtual_refs_arr("a", (4,), locations, uint64(*[0] * 4), uint64(*[1] * 4))

    if odd in ("//b", "/../x", "/", "\x7f"):
        fails(ErrorKind.INVALID_VIRTUAL_REF, together)
        fails(ErrorKind.INVALID_VIRTUAL_REF, lambda: alone(1))
        return
    assert together() is None
    expected = refs(session)
    for i in range(4):
        alone(i)
    assert refs(session) == expected


# --- what becomes of them -------------------------------------------------------------------------


def test_references_are_committed(session, store):
    locations = [PREFIX + f"x{i}" for i in range(4)]
    store.set_virtual_refs_arr(
        "a", (4,), locations, uint64(*[9] * 4), uint64(*[1] * 4), checksum=TIME
    )
    expected = refs(session)
    session.commit("references")
    assert refs(session) == expected
    assert session.all_virtual_chunk_locations() == locations


def test_references_come_back_from_forks(session):
    session.commit("arrays")
    # the storage of the fixture is where it was: a new session on the same repository
    repo_session = icechunk.Repository.open(session._workspace.context.storage).writable_session(
        "main"
    )
    fork = pickle.loads(pickle.dumps(repo_session.fork()))
    fork.store.set_virtual_ref("a/c/1", PREFIX + "x", offset=1, length=2, checksum="tag")
    repo_session.merge(fork)
    assert refs(repo_session) == {(1,): (PREFIX + "x", 1, 2, "tag", 0)}


def test_twins(session, store):
    async def run():
        await store.set_virtual_ref_async("a/c/0", PREFIX + "x", offset=0, length=1)
        await store.set_virtual_refs_async("a", [VirtualChunkSpec([1], PREFIX + "y", 0, 1)])
        return await store.set_virtual_refs_arr_async(
            "a", (2,), [PREFIX + "z", "gs://b/x"], uint64(0, 0), uint64(1, 1), arr_offset=[2]
        )

    assert asyncio.run(run()) == [(3,)]
    assert list(refs(session)) == [(0,), (1,), (2,)]


def test_sessions_that_rearrange_take_no_references(session):
    session.commit("arrays")
    repo = icechunk.Repository.open(session._workspace.context.storage)
    store = repo.rearrange_session("main").store
    fails(
        ErrorKind.REARRANGE_SESSION_ONLY, store.set_virtual_ref, "a/c/0", PREFIX + "x", offset=0,
        length=1,
    )  # fmt: skip

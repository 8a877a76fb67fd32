"""What a session tells of its chunks: types, coordinates, locations, references as arrays."""

import asyncio

import numpy as np
import pytest
import zarr
from zarr.core.buffer import default_buffer_prototype

import icechunk
from icechunk.chunks import ChunkTable, RaggedBytes
from icechunk.errors import InvalidInputError, NodeNotFoundError

PROTOTYPE = default_buffer_prototype()
LARGE = 600


@pytest.fixture
def mixed(storage):
    """An array `g/a` of chunks of all kinds, some committed, some not."""
    config = icechunk.RepositoryConfig()
    container = icechunk.VirtualChunkContainer(
        "s3://bucket/data/", icechunk.s3_store(region="us-east-1"), name="data"
    )
    config.set_virtual_chunk_container(container)
    repo = icechunk.Repository.create(storage, config)
    session = repo.writable_session("main")
    zarr.create_array(session.store, name="g/a", shape=(3, 4), chunks=(1, 1), dtype="u1")
    put(session, "g/a/c/0/0", b"inline")
    put(session, "g/a/c/0/1", bytes(LARGE))
    put(session, "g/a/c/2/3", b"last")
    put_virtual(session, {(0, 2): "s3://bucket/x", (0, 3): "vcc://data/a/b c"})
    session.commit("made")
    session = repo.writable_session("main")
    put(session, "g/a/c/1/0", b"fresh")
    put(session, "g/a/c/0/0", bytes(LARGE + 1))
    session.store.delete_sync("g/a/c/2/3")
    put_virtual(session, {(1, 1): "vcc://data/new"})
    return session


def put(session, key, data):
    session.store.set_sync(key, PROTOTYPE.buffer.from_bytes(data))


def put_virtual(session, locations):
    coords = np.array(list(locations), np.uint32)
    offsets = np.arange(len(coords), dtype=np.uint64) + 10
    table = ChunkTable.virtual(
        coords, RaggedBytes.from_strings(list(locations.values())), offsets, np.full(len(coords), 5)
    )
    workspace = session._workspace
    workspace.changes.log(workspace.nodes.find("/g/a").id, 2).put_table(table)


EXPECTED = {
    (0, 0): ("native", LARGE + 1, 0),
    (0, 1): ("native", LARGE, 0),
    (0, 2): ("virtual", 5, 10),
    (0, 3): ("virtual", 5, 11),
    (1, 0): ("inline", 5, 0),
    (1, 1): ("virtual", 5, 10),
}
LOCATIONS = {
    (0, 2): "s3://bucket/x",
    (0, 3): "s3://bucket/data/a/b c",
    (1, 1): "s3://bucket/data/new",
}


def test_types_of_chunks(mixed):
    for coords in np.ndindex(3, 4):
        expected = EXPECTED.get(coords, ("uninitialized",))[0]
        assert mixed.chunk_type("/g/a", coords) is icechunk.ChunkType[expected]
        assert asyncio.run(mixed.chunk_type_async("/g/a", list(coords))).name == expected
    for outside in ((3, 0), (0, 4), (0,), (0, 0, 0), (), (-1, 0), (2**40, 0)):
        assert mixed.chunk_type("/g/a", outside) is icechunk.ChunkType.uninitialized


def test_chunk_types_are_numbers_with_names():
    assert {kind.name: int(kind) for kind in icechunk.ChunkType} == {
        "uninitialized": 0,
        "native": 1,
        "virtual": 2,
        "inline": 3,
    }
    assert repr(icechunk.ChunkType.native) == str(icechunk.ChunkType.native) == "ChunkType.native"


@pytest.mark.parametrize(
    ("path", "error", "kind"),
    [
        ("/no", NodeNotFoundError, "node-not-found"),
        ("/g/a/b", NodeNotFoundError, "node-not-found"),
        ("/g", InvalidInputError, "not-an-array"),
        ("g/a", InvalidInputError, "invalid-path"),
        ("/g/a/", InvalidInputError, "invalid-path"),
        ("/g/./a", InvalidInputError, "invalid-path"),
    ],
)
def test_what_is_no_array_has_no_chunks(mixed, path, error, kind):
    with pytest.raises(error) as caught:
        mixed.chunk_type(path, (0, 0))
    assert caught.value.kind == kind
    coordinates = mixed.chunk_coordinates(path)  # no error before the iteration
    with pytest.raises(error) as caught:
        next(coordinates)
    assert caught.value.kind == kind
    if kind != "not-an-array":
        with pytest.raises(error) as caught:
            mixed.get_node_id(path)
        assert caught.value.kind == kind


@pytest.mark.parametrize("coordinates", ["00", (0.0, 0), (None, 0)])
def test_coordinates_are_integers(mixed, coordinates):
    with pytest.raises(TypeError):
        mixed.chunk_type("/g/a", coordinates)


@pytest.mark.parametrize("size", [1, 2, 4, 1000])
def test_coordinates_of_all_chunks(mixed, size):
    found = list(mixed.chunk_coordinates("/g/a", size))
    assert sorted(found) == sorted(EXPECTED)
    assert all(type(step) is int for coords in found for step in coords)
    assert set(found[:3]) == {(0, 0), (1, 0), (1, 1)}, "uncommitted ones first"

    async def collect():
        return [coords async for coords in mixed.chunk_coordinates("/g/a", batch_size=size)]

    assert asyncio.run(collect()) == found
    mixed.commit("all")
    assert sorted(mixed.chunk_coordinates("/g/a", size)) == sorted(EXPECTED)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6, 7, 100_000])
@pytest.mark.parametrize("committed", [False, True])
def test_references_as_arrays(mixed, size, committed):
    if committed:
        mixed.commit("all")
    batches = list(mixed.store.array_chunk_iterator("/g/a", size))
    rows = [len(batch[0]) for batch in batches]
    assert rows == [size] * (6 // size) + ([6 % size] if 6 % size else [])
    found = {}
    for coords, kinds, paths, offsets, lengths, inlined in batches:
        assert [column.dtype for column in (coords, kinds, offsets, lengths)] == [
            np.uint32,
            np.uint8,
            np.uint64,
            np.uint64,
        ]
        assert coords.shape == (len(kinds), 2)
        assert len(kinds) == len(paths) == len(offsets) == len(lengths)
        for row, place in enumerate(map(tuple, coords.tolist())):
            kind = icechunk.ChunkType(kinds[row])
            found[place] = (kind.name, int(lengths[row]), int(offsets[row]))
            if kind is icechunk.ChunkType.native:
                assert f"chunks/{paths[row]}" in {
                    item.key for item in mixed._workspace.context.storage.list_objects_metadata()
                }
            else:
                assert paths[row] == LOCATIONS.get(place, "")
            assert (row in inlined) == (kind is icechunk.ChunkType.inline)
        assert set(inlined.values()) <= {b"fresh"}
    assert found == EXPECTED


def test_references_are_yielded_by_both_protocols_and_belong_to_the_caller(mixed):
    (batch,) = mixed.store.array_chunk_iterator("g/a")  # the slash is optional
    batch[0][:] = 0
    batch[4][:] = 0

    async def collect():
        return [batch async for batch in mixed.store.array_chunk_iterator("g/a")]

    (again,) = asyncio.run(collect())
    assert set(map(tuple, again[0].tolist())) == set(EXPECTED)
    assert again[4].all()


def test_what_is_no_array_yields_no_references(mixed):
    zarr.create_group(mixed.store, path="other")
    for path in ("/no", "other", "/other/x"):
        assert list(mixed.store.array_chunk_iterator(path)) == []
    for path in ("/g/../a", "g//a"):
        with pytest.raises(InvalidInputError) as caught:
            mixed.store.array_chunk_iterator(path)
        assert caught.value.kind == "invalid-path"


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_has_a_size(mixed, size):
    with pytest.raises(InvalidInputError, match="batch_size"):
        mixed.store.array_chunk_iterator("g/a", size)
    with pytest.raises(InvalidInputError, match="batch_size"):
        next(mixed.chunk_coordinates("/g/a", size))


def test_chunks_beyond_a_smaller_shape_are_not_there(mixed):
    import json

    text = asyncio.run(mixed.store.get("g/a/zarr.json", PROTOTYPE)).to_bytes()
    put(mixed, "g/a/zarr.json", json.dumps({**json.loads(text), "shape": [1, 3]}).encode())
    assert sorted(mixed.chunk_coordinates("/g/a")) == [(0, 0), (0, 1), (0, 2)]
    (batch,) = mixed.store.array_chunk_iterator("g/a")
    assert len(batch[0]) == 3
    assert mixed.all_virtual_chunk_locations() == ["s3://bucket/x"]


def test_a_scalar_has_one_chunk_without_coordinates(repo):
    session = repo.writable_session("main")
    zarr.create_array(session.store, name="s", shape=(), dtype="i4")[...] = 5
    assert list(session.chunk_coordinates("/s")) == [()]
    (batch,) = session.store.array_chunk_iterator("s")
    assert batch[0].shape == (1, 0)
    assert session.chunk_type("/s", ()) is icechunk.ChunkType.inline


def test_locations_of_all_virtual_chunks(mixed):
    assert sorted(mixed.all_virtual_chunk_locations()) == sorted(LOCATIONS.values())
    put_virtual(mixed, {(2, 2): "s3://bucket/x"})  # once per chunk
    assert mixed.all_virtual_chunk_locations().count("s3://bucket/x") == 2
    found = asyncio.run(mixed.all_virtual_chunk_locations_async())
    assert found == mixed.all_virtual_chunk_locations()


def test_a_relative_location_needs_its_container(mixed):
    mixed.commit("made")
    config = icechunk.RepositoryConfig()
    config.clear_virtual_chunk_containers()
    session = icechunk.Repository.open(mixed._workspace.context.storage, config).readonly_session(
        "main"
    )
    for call in (
        session.all_virtual_chunk_locations,
        lambda: list(session.store.array_chunk_iterator("g/a")),
    ):
        with pytest.raises(
            InvalidInputError, match="no virtual chunk container named 'data'"
        ) as caught:
            call()
        assert caught.value.kind == "no-container-for-virtual-chunk"


def test_ids_of_nodes(mixed):
    node_id = mixed.get_node_id("/g/a")
    assert len(node_id) == 13
    assert asyncio.run(mixed.get_node_id_async("/g/a")) == node_id
    mixed.commit("made")
    assert mixed.get_node_id("/g/a") == node_id

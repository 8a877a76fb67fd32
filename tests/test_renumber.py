"""Shifting and reindexing arrays of a session: through Zarr, before and after the commit."""

import json
from itertools import product

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

import icechunk
from icechunk.errors import (
    IcechunkError,
    InvalidInputError,
    NodeNotFoundError,
    ReadOnlyError,
    SessionStateError,
)
from icechunk.format.ids import decode_id

FILL = -1


def make(session, shape=(6,), chunks=(2,), path="a", **options):
    return zarr.create_array(
        session.store, name=path, shape=shape, chunks=chunks, dtype="i4", fill_value=FILL, **options
    )


@pytest.fixture
def line(repo):
    """An array `a` of chunks of two numbers: 0 to 5, then a missing chunk, then 8 and 9."""
    session = repo.writable_session("main")
    array = make(session, (10,))
    array[:6] = np.arange(6)
    array[8:] = [8, 9]
    zarr.create_group(session.store, path="group")
    session.commit("made")
    return repo


def opened(session, path="a"):
    return zarr.open_array(session.store, path=path)


def shifted_values(data, offset, chunks):
    """What a shift makes of an array, element by element."""
    result = np.full_like(data, FILL)
    for place in np.ndindex(data.shape):
        source = tuple(
            here - step * size for here, step, size in zip(place, offset, chunks, strict=True)
        )
        if all(0 <= here < n for here, n in zip(source, data.shape, strict=True)):
            result[place] = data[source]
    return result


@pytest.mark.parametrize("offset", [-6, -5, -1, 0, 1, 2, 4, 5, 2**40, -(2**40), 2**70])
def test_a_shift_moves_chunks_and_clears_what_they_left(line, offset):
    session = line.writable_session("main")
    array = opened(session)
    expected = shifted_values(array[...], (offset,), (2,))
    session.shift_array("/a", (offset,))
    np.testing.assert_array_equal(array[...], expected)
    assert session.has_uncommitted_changes
    assert not session.status().updated_arrays
    snapshot_id = session.commit("shifted")
    np.testing.assert_array_equal(array[...], expected)
    fresh = line.readonly_session(snapshot_id=snapshot_id)
    np.testing.assert_array_equal(opened(fresh)[...], expected)
    assert len(list(fresh.chunk_coordinates("/a"))) == len(
        np.unique(np.flatnonzero(expected + 1) // 2)
    )


def test_a_shift_records_places_left_and_places_reached(line):
    session = line.writable_session("main")
    session.shift_array("/a", [1])
    assert session.status().updated_chunks == {"/a": [[0], [1], [2], [3], [4]]}
    assert list(session.chunk_coordinates("/a")) == [(1,), (2,), (3,)]
    log = line._context.assets.transaction_log(decode_id(session.commit("shifted")))
    assert [coords.tolist() for coords in log.updated_chunks.values()] == [
        [[0], [1], [2], [3], [4]]
    ]


@pytest.mark.parametrize("offset", list(product((-1, 0, 2), repeat=2)))
def test_both_axes_at_once(repo, offset):
    session = repo.writable_session("main")
    array = make(session, (6, 8), (2, 2))
    data = np.arange(48).reshape(6, 8)
    data[2:4, 2:4] = FILL
    array[...] = data
    session.commit("made")
    session = repo.writable_session("main")
    array = opened(session)
    array[0, 0] = data[0, 0] = 100  # some of it uncommitted
    del_chunk(session, "a/c/2/2")
    data[4:6, 4:6] = FILL
    session.shift_array("/a", offset)
    expected = shifted_values(data, offset, (2, 2))
    np.testing.assert_array_equal(array[...], expected)
    session.commit("shifted")
    np.testing.assert_array_equal(opened(repo.readonly_session("main"))[...], expected)


def del_chunk(session, key):
    session.store.delete_sync(key)


def test_shifts_compose(line):
    session = line.writable_session("main")
    data = opened(session)[...]
    for offset in (2, -3, 1):
        session.shift_array("/a", (offset,))
        data = shifted_values(data, (offset,), (2,))
    np.testing.assert_array_equal(opened(session)[...], data)
    session.commit("shifted")
    np.testing.assert_array_equal(opened(line.readonly_session("main"))[...], data)


def test_resizing_first_keeps_everything(line):
    session = line.writable_session("main")
    array = opened(session)
    data = array[...]
    array.resize((14,))
    session.shift_array("/a", (2,))
    expected = np.concatenate([np.full(4, FILL), data])
    np.testing.assert_array_equal(array[...], expected)
    array[:4] = [1, 2, 3, 4]
    expected[:4] = [1, 2, 3, 4]
    session.commit("prepended")
    np.testing.assert_array_equal(opened(line.readonly_session("main"))[...], expected)


def test_a_scalar_stays_where_it_is(repo):
    session = repo.writable_session("main")
    make(session, (), ())[...] = 7
    session.shift_array("/a", ())
    session.reindex_array("/a", lambda coords: coords)
    assert opened(session)[...] == 7
    session.commit("shifted")
    assert opened(repo.readonly_session("main"))[...] == 7


def test_an_array_without_chunks_has_nothing_to_shift(repo):
    session = repo.writable_session("main")
    make(session, (0,), (2,), "none")
    make(session, (6,), (2,), "empty")
    session.commit("made")
    session = repo.writable_session("main")
    session.shift_array("/none", (1,))
    session.shift_array("/empty", (1,))
    session.reindex_array("/empty", lambda coords: [99])
    assert not session.has_uncommitted_changes


def test_no_bytes_are_written_or_read(repo):
    config = icechunk.RepositoryConfig(inline_chunk_threshold_bytes=0)
    repo = icechunk.Repository.open(repo._storage, config)
    session = repo.writable_session("main")
    make(session)[:] = np.arange(6)
    objects = sorted(item.key for item in repo._storage.list_objects_metadata())
    session.shift_array("/a", (1,))
    assert sorted(item.key for item in repo._storage.list_objects_metadata()) == objects
    session.commit("shifted")
    chunks = [item.key for item in repo._storage.list_objects_metadata() if "chunks" in item.key]
    assert len(chunks) == 3


@given(st.data())
def test_any_reindexing_agrees_with_a_dictionary_of_chunks(data):
    repo = icechunk.Repository.create(icechunk.in_memory_storage())
    grid = data.draw(st.sampled_from([(5,), (3, 2)]))
    places = list(product(*map(range, grid)))
    session = repo.writable_session("main")
    array = make(session, grid, (1,) * len(grid))
    chunks = {}
    for number, place in enumerate(places):
        if data.draw(st.booleans()):
            array[place] = chunks[place] = number
        if number == len(places) // 2:
            session.commit("some")
            session = repo.writable_session("main")
            array = opened(session)
    there = {place: data.draw(st.none() | st.sampled_from(places)) for place in places}
    back = {place: data.draw(st.none() | st.sampled_from(places)) for place in places}
    with_backward, vectorized = data.draw(st.booleans()), data.draw(st.booleans())

    expected = dict(chunks)
    for place in sorted(chunks):
        if there[place] is not None:
            expected[there[place]] = chunks[place]
    if with_backward:
        for place in set(chunks) - {there[place] for place in chunks}:
            if back[place] is None or back[place] not in chunks:
                del expected[place]

    def function(answers):
        if not vectorized:
            return lambda coords: answers[tuple(coords)]

        def all_at_once(coords):
            assert coords.dtype == np.int64
            found = [answers[tuple(row)] for row in coords.tolist()]
            filled = np.array([place or (0,) * len(grid) for place in found], np.int64)
            mask = np.array([place is not None for place in found], bool)
            return filled.reshape(-1, len(grid)), mask

        return all_at_once

    session.reindex_array(
        "/a",
        function(there),
        function(back) if with_backward else None,
        vectorized=vectorized,
    )
    values = np.full(grid, FILL)
    for place, number in expected.items():
        values[place] = number
    np.testing.assert_array_equal(array[...], values)
    if session.has_uncommitted_changes:
        session.commit("reindexed")
    fresh = repo.readonly_session("main")
    np.testing.assert_array_equal(opened(fresh)[...], values)
    assert sorted(fresh.chunk_coordinates("/a")) == sorted(expected)


def test_without_backward_chunks_stay_where_they_were_too(line):
    session = line.writable_session("main")
    session.reindex_array("/a", lambda coords: [coords[0] + 1] if coords[0] < 4 else None)
    assert opened(session)[...].tolist() == [0, 1, 0, 1, 2, 3, 4, 5, 8, 9]


def rectilinear(session, path="r"):
    document = json.loads(json.dumps(dict(make(session, (6,), (2,), path).metadata.to_dict())))
    document["chunk_grid"] = {
        "name": "rectilinear",
        "configuration": {"kind": "inline", "chunk_shapes": [[1, 2, 3]]},
    }
    from zarr.core.buffer import default_buffer_prototype

    buffer = default_buffer_prototype().buffer
    session.store.set_sync(f"{path}/zarr.json", buffer.from_bytes(json.dumps(document).encode()))


CALLS = {
    "shift": lambda session, path: session.shift_array(path, (1,)),
    "reindex": lambda session, path: session.reindex_array(path, lambda coords: coords),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("path", "error", "kind", "fragment"),
    [
        ("/no", NodeNotFoundError, "node-not-found", "/no"),
        ("/group", InvalidInputError, "not-an-array", "/group"),
        ("a", InvalidInputError, "invalid-path", "must start with"),
        ("/a/", InvalidInputError, "invalid-path", "segment"),
        ("/r", IcechunkError, "unknown", "chunk grid is `rectilinear`"),
    ],
)
def test_arrays_that_cannot_be_renumbered(line, call, path, error, kind, fragment):
    session = line.writable_session("main")
    rectilinear(session)
    session.commit("another grid")
    session = line.writable_session("main")
    with pytest.raises(error, match=fragment) as caught:
        CALLS[call](session, path)
    assert caught.value.kind == kind
    assert not session.has_uncommitted_changes


@pytest.mark.parametrize("call", CALLS)
def test_sessions_that_cannot_renumber(line, call):
    with pytest.raises(ReadOnlyError) as caught:
        CALLS[call](line.readonly_session("main"), "/a")
    assert caught.value.kind == "read-only-session"
    with pytest.raises(SessionStateError) as caught:
        CALLS[call](line.rearrange_session("main"), "/a")
    assert caught.value.kind == "rearrange-session-only"
    fork = line.writable_session("main").fork()
    CALLS[call](fork, "/a")
    assert fork.has_uncommitted_changes


@pytest.mark.parametrize("offset", [(), (1, 2)])
def test_an_offset_has_a_number_for_each_axis(line, offset):
    session = line.writable_session("main")
    with pytest.raises(InvalidInputError, match="1 axes") as caught:
        session.shift_array("/a", offset)
    assert caught.value.kind == "invalid-chunk-index"
    assert not session.has_uncommitted_changes


@pytest.mark.parametrize("offset", [("1",), (1.0,), 1])
def test_an_offset_is_of_integers(line, offset):
    session = line.writable_session("main")
    with pytest.raises(TypeError):
        session.shift_array("/a", offset)
    assert not session.has_uncommitted_changes


@pytest.mark.parametrize(
    ("forward", "backward", "error", "kind"),
    [
        (lambda coords: [99], None, InvalidInputError, "invalid-chunk-index"),
        (lambda coords: [coords[0] - 1], None, InvalidInputError, "invalid-chunk-index"),
        (lambda coords: [0, 0], None, InvalidInputError, "invalid-chunk-index"),
        (lambda coords: [1 // (2 - coords[0])], None, IcechunkError, "unknown"),
        (lambda coords: [3], lambda coords: 1 // 0, IcechunkError, "unknown"),
        (lambda coords: [3], lambda coords: [0, 0], InvalidInputError, "invalid-chunk-index"),
        (lambda coords: coords[0], None, IcechunkError, "unknown"),
    ],
)
def test_a_failed_reindexing_stages_nothing(line, forward, backward, error, kind):
    session = line.writable_session("main")
    opened(session)[0] = 50
    status, values = session.status(), opened(session)[...]
    with pytest.raises(error) as caught:
        session.reindex_array("/a", forward, backward)
    assert caught.value.kind == kind
    assert session.status() == status
    np.testing.assert_array_equal(opened(session)[...], values)


def test_what_is_no_function_is_refused(line):
    session = line.writable_session("main")
    for functions in ((3,), (None,), (lambda coords: coords, 3)):
        with pytest.raises(TypeError, match="functions"):
            session.reindex_array("/a", *functions)


def test_a_function_may_read_the_session_but_not_delete_the_array(line):
    session = line.writable_session("main")
    array = opened(session)

    def by_value(coords):
        first = int(array[coords[0] * 2])
        return [4 - coords[0]] if first >= 0 else None

    session.reindex_array("/a", by_value)
    assert array[...].tolist() == [8, 9, 2, 3, 4, 5, 2, 3, 0, 1]

    def delete(coords):
        del_chunk(session, "a/zarr.json")
        return coords

    with pytest.raises(NodeNotFoundError, match="deleted while"):
        session.reindex_array("/a", delete)
    assert not session.status().updated_chunks


def test_a_fork_shifts_and_is_merged(line):
    session = line.writable_session("main")
    fork = session.fork()
    fork.shift_array("/a", (1,))
    session.merge(fork)
    assert opened(session)[...].tolist() == [-1, -1, 0, 1, 2, 3, 4, 5, -1, -1]

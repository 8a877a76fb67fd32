"""Arrays whose chunks differ in size, written and resized by a Zarr that knows them."""

import json

import numpy as np
import pytest
import zarr
from zarr.core.buffer import default_buffer_prototype

from icechunk.errors import IcechunkError

SWITCH = "array.rectilinear_chunks"
pytestmark = pytest.mark.skipif(
    zarr.config.get(SWITCH, None) is None, reason="this Zarr has no rectilinear chunk grids"
)
PROTOTYPE = default_buffer_prototype()


@pytest.fixture(autouse=True)
def switched_on():
    with zarr.config.set({SWITCH: True}):
        yield


def opened(session, path="a"):
    return zarr.open_array(session.store, path=path)


def grid_of(session, path="a"):
    return json.loads(session.store.get_sync(f"{path}/zarr.json").to_bytes())["chunk_grid"]["name"]


# lists of sizes, sizes that Zarr writes as repeats, and a bare number for an axis of equal chunks
GRIDS = [[[1, 2, 3], [3, 1]], [[3, 3], [2, 2]], [[1, 2, 3], 2], [[1] * 6, [4]], [[6], [1, 3]]]


@pytest.mark.parametrize("chunks", GRIDS, ids=str)
def test_they_are_written_resized_and_read_back(repo, chunks):
    session = repo.writable_session("main")
    array = zarr.create_array(
        session.store, name="a", shape=(6, 4), chunks=chunks, dtype="i4", fill_value=-1
    )
    data = np.arange(24).reshape(6, 4)
    array[...] = data
    assert grid_of(session) == "rectilinear"
    number_of_chunks = len(list(session.chunk_coordinates("/a")))
    session.commit("made")
    fresh = repo.readonly_session("main")
    np.testing.assert_array_equal(opened(fresh)[...], data)
    assert len(list(fresh.chunk_coordinates("/a"))) == number_of_chunks

    session = repo.writable_session("main")
    array = opened(session)
    array.resize((9, 4))
    array[7:] = 100
    data = np.concatenate([data, np.full((1, 4), -1), np.full((2, 4), 100)])
    np.testing.assert_array_equal(array[...], data)
    session.commit("grown")
    np.testing.assert_array_equal(opened(repo.readonly_session("main"))[...], data)

    session = repo.writable_session("main")
    opened(session).resize((2, 4))
    session.commit("shrunk")
    array = opened(repo.readonly_session("main"))
    assert array.shape == (2, 4)
    np.testing.assert_array_equal(array[...], data[:2])


def test_their_chunks_are_not_renumbered(repo):
    session = repo.writable_session("main")
    array = zarr.create_array(session.store, name="a", shape=(6,), chunks=[[1, 2, 3]], dtype="i4")
    array[...] = data = np.arange(6)
    session.commit("made")
    session = repo.writable_session("main")
    for call in (
        lambda: session.shift_array("/a", (1,)),
        lambda: session.reindex_array("/a", lambda coords: coords),
    ):
        with pytest.raises(IcechunkError, match=r"chunk grid is `rectilinear`") as caught:
            call()
        assert caught.value.kind == "unknown"
        assert not session.has_uncommitted_changes
    np.testing.assert_array_equal(opened(session)[...], data)


def test_they_are_moved_and_shown_like_others(repo):
    session = repo.writable_session("main")
    zarr.create_group(session.store)
    array = zarr.create_array(session.store, name="a", shape=(6,), chunks=[[1, 2, 3]], dtype="i4")
    array[...] = np.arange(1, 7)
    assert session.chunk_type("/a", (2,)).name == "inline"
    assert session.chunk_type("/a", (3,)).name == "uninitialized"
    session.commit("made")
    session = repo.rearrange_session("main")
    session.move("/a", "/b")
    session.commit("moved")
    np.testing.assert_array_equal(opened(repo.readonly_session("main"), "b")[...], np.arange(1, 7))

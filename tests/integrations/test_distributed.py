"""`extract_session` and `merge_sessions`."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import zarr

import icechunk
from icechunk.distributed import extract_session, merge_sessions


@pytest.fixture
def forks(session):
    """Four forks that each wrote a quarter of an array, sent there and back."""
    zarr.create_array(session.store, name="a", shape=(8,), chunks=(2,), dtype="i4")
    made = []
    for i in range(4):
        fork = pickle.loads(pickle.dumps(session.fork()))
        zarr.open_array(fork.store, path="a")[2 * i : 2 * i + 2] = i + 1
        made.append(pickle.loads(pickle.dumps(fork)))
    return made


def test_extract_session_returns_the_session_itself(session):
    array = zarr.create_array(session.store, name="a", shape=(8,), chunks=(2,), dtype="i4")
    assert extract_session(array) == session
    assert extract_session(array, axis=(0,), keepdims=True) == session
    with pytest.raises(TypeError, match="MemoryStore"):
        extract_session(zarr.create_array({}, shape=(8,), chunks=(2,), dtype="i4"))


@pytest.mark.parametrize("nest", [lambda f: f, lambda f: [f], lambda f: [[f[:1], [f[1:]]]]])
def test_merge_sessions_takes_any_nesting(session, forks, nest):
    merged = merge_sessions(*nest(forks))
    assert merged is forks[0]
    session.merge(merged)
    expected = np.repeat([1, 2, 3, 4], 2)
    np.testing.assert_array_equal(zarr.open_array(session.store, path="a")[...], expected)


def test_merge_sessions_takes_forks_only(session, forks):
    with pytest.raises(TypeError, match="Received 'Session'"):
        merge_sessions(forks, session)
    with pytest.raises(TypeError, match="Received 'int'"):
        merge_sessions(1)
    with pytest.raises(ValueError, match="at least one"):
        merge_sessions([[]])


def test_overlap(session, forks):
    zarr.open_array(forks[3].store, path="a")[:2] = 9
    with pytest.raises(icechunk.SessionStateError) as caught:
        merge_sessions(forks)
    assert caught.value.kind == "merge-failed"
    session.merge(merge_sessions(forks, overlap="last"))
    assert (zarr.open_array(session.store, path="a")[:2] == 9).all()

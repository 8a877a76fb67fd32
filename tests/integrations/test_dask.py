"""`store_dask` under every scheduler: what is written, what is found, what is refused."""

from __future__ import annotations

import os
import pickle
import signal
import uuid

import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

import icechunk
from icechunk._dask_graph import _fan_in
from icechunk.dask import session_merge_reduction, store_dask

Session = icechunk.Session


def make_array(session, name="a", shape=(40, 30), chunks=(10, 5), dtype="f8"):
    return zarr.create_array(
        session.store, name=name, shape=shape, chunks=chunks, dtype=dtype, fill_value=0
    )


def on(fork, name="a"):
    return zarr.open_array(fork.store, path=name)


def numbers(shape=(40, 30), chunks=(20, 10)):
    return da.arange(1, np.prod(shape) + 1, chunks=-1).astype("f8").reshape(shape).rechunk(chunks)


def test_writes_what_the_source_holds(repo, session, scheduler):
    make_array(session)
    fork = session.fork()
    source = numbers()
    session.merge(store_dask(sources=[source], targets=[on(fork)]))
    session.commit("written")
    stored = zarr.open_array(repo.readonly_session("main").store, path="a", mode="r")
    np.testing.assert_array_equal(stored[...], source.compute(scheduler="synchronous"))
    assert stored.nchunks_initialized == stored.nchunks


def test_the_session_sees_nothing_before_the_merge(session, scheduler):
    make_array(session)
    fork = session.fork()
    merged = store_dask(sources=numbers(), targets=on(fork))
    assert not on(session)[...].any()
    session.merge(merged)
    assert on(session)[...].all()


def test_the_fork_of_the_targets_holds_the_writes_and_is_returned(session, scheduler):
    make_array(session)
    fork = session.fork()
    assert store_dask(sources=[numbers()], targets=[on(fork)]) is fork
    assert on(fork)[...].all()


@pytest.mark.parametrize("region", [np.s_[10:30, 10:20], np.s_[10:30, ...], np.s_[0:40:2, 20:30]])
def test_regions(session, scheduler, region):
    make_array(session, chunks=(10, 10))
    fork = session.fork()
    expected = np.zeros((40, 30))
    shape = expected[region].shape
    source = numbers(shape, (shape[0], 10))
    expected[region] = source.compute(scheduler="synchronous")
    session.merge(store_dask(sources=[source], targets=[on(fork)], regions=[region]))
    np.testing.assert_array_equal(on(session)[...], expected)


def test_one_region_for_all_targets(session):
    make_array(session, "a")
    make_array(session, "b")
    fork = session.fork()
    source = numbers((20, 30))
    store_dask(
        sources=[source, source + 1],
        targets=[on(fork, "a"), on(fork, "b")],
        regions=(slice(20, 40), slice(None)),
    )
    assert not on(fork, "a")[:20].any()
    np.testing.assert_array_equal(on(fork, "b")[20:], on(fork, "a")[20:] + 1)


def test_an_integer_in_a_region_drops_an_axis(session):
    make_array(session)
    fork = session.fork()
    source = da.arange(1, 31, chunks=10).astype("f8")
    store_dask(sources=[source], targets=[on(fork)], regions=[(3, slice(None))])
    np.testing.assert_array_equal(on(fork)[3], np.arange(1, 31))
    assert not on(fork)[4].any()


def test_several_arrays_of_different_rank(session, scheduler):
    sources = [numbers(), da.ones((), dtype="f8"), da.arange(100, chunks=7), da.ones((4, 4, 4))]
    for i, source in enumerate(sources):
        make_array(session, f"a{i}", source.shape, source.chunksize, source.dtype)
    fork = session.fork()
    targets = [on(fork, f"a{i}") for i in range(len(sources))]
    session.merge(store_dask(sources=sources, targets=targets))
    for i, source in enumerate(sources):
        np.testing.assert_array_equal(on(session, f"a{i}")[...], source.compute())


def test_an_empty_array(session):
    make_array(session, shape=(0, 30))
    fork = session.fork()
    store_dask(sources=[da.zeros((0, 30), chunks=10)], targets=[on(fork)])
    assert not fork.has_uncommitted_changes


def test_targets_on_several_forks_come_back_in_the_first(session, scheduler):
    make_array(session, "a")
    make_array(session, "b")
    forks = [session.fork(), session.fork()]
    merged = store_dask(
        sources=[numbers(), numbers()], targets=[on(forks[0], "a"), on(forks[1], "b")]
    )
    assert merged is forks[0]
    session.merge(merged)
    assert on(session, "a")[...].all()
    assert on(session, "b")[...].all()


def test_a_fork_with_uncommitted_changes(session, scheduler):
    fork = session.fork()
    target = make_array(fork)
    target[:10] = 7
    source = numbers((30, 30))
    merged = store_dask(sources=[source], targets=[target], regions=[np.s_[10:, :]])
    session.merge(merged)
    assert (on(session)[:10] == 7).all()
    np.testing.assert_array_equal(on(session)[10:], source.compute(scheduler="synchronous"))


def test_writing_again_over_the_own_writes_is_no_overlap(session, scheduler):
    make_array(session)
    fork = session.fork()
    store_dask(sources=[numbers()], targets=[on(fork)])
    store_dask(sources=[numbers() + 1], targets=[on(fork)])
    session.merge(fork)
    np.testing.assert_array_equal(on(session)[0, :3], [2, 3, 4])


def test_partial_chunks_keep_what_was_there(session, scheduler):
    make_array(session)[...] = 5
    fork = session.fork()
    store_dask(sources=[da.ones((15, 30))], targets=[on(fork)], regions=[np.s_[:15, :]])
    session.merge(fork)
    assert (on(session)[:15] == 1).all()
    assert (on(session)[15:] == 5).all()


class TestOverlap:
    """Dask blocks of 15 rows over Zarr chunks of 10: two tasks write each of rows 10 to 19."""

    def overlapping(self, session):
        make_array(session)
        return session.fork(), numbers(chunks=(15, 30))

    def test_is_found_and_named(self, session, scheduler):
        fork, source = self.overlapping(session)
        with pytest.raises(icechunk.SessionStateError, match="a") as caught:
            store_dask(sources=[source], targets=[on(fork)])
        assert caught.value.kind == "merge-failed"
        assert not fork.has_uncommitted_changes

    def test_is_found_in_one_thread_of_one_worker(self, session):
        fork, source = self.overlapping(session)
        with pytest.raises(icechunk.SessionStateError, match="a"):
            store_dask(sources=[source], targets=[on(fork)], scheduler="threads", num_workers=1)

    @pytest.mark.parametrize("split_every", [2, 3, 1000])
    def test_is_found_whatever_the_tree(self, session, split_every):
        fork, source = self.overlapping(session)
        with pytest.raises(icechunk.SessionStateError):
            store_dask(sources=[source], targets=[on(fork)], split_every=split_every)

    def test_is_found_between_two_sources(self, session, scheduler):
        make_array(session)
        fork = session.fork()
        with pytest.raises(icechunk.SessionStateError):
            store_dask(
                sources=[da.ones((5, 30)), da.ones((5, 30))],
                targets=[on(fork), on(fork)],
                regions=[np.s_[0:5, :], np.s_[5:10, :]],
            )

    def test_last_keeps_the_later_block(self, session, scheduler):
        fork, source = self.overlapping(session)
        session.merge(store_dask(sources=[source], targets=[on(fork)], overlap="last"))
        expected = source.compute(scheduler="synchronous")
        # rows 10 to 14 came from the first block, whose version of the chunk lost
        np.testing.assert_array_equal(on(session)[15:20], expected[15:20])
        assert not on(session)[10:15].any()
        np.testing.assert_array_equal(on(session)[:10], expected[:10])


def test_a_failing_task_leaves_the_fork_as_it_was(session, scheduler):
    def fail(block):
        raise ZeroDivisionError("in a task")

    make_array(session)
    fork = session.fork()
    source = numbers().map_blocks(fail, dtype="f8", meta=np.empty((0, 0)))
    with pytest.raises(ZeroDivisionError, match="in a task"):
        store_dask(sources=[source], targets=[on(fork)])
    assert not fork.has_uncommitted_changes


def test_a_killed_worker_changes_nothing_of_the_result(session, cluster, tmp_path):
    from distributed import Client

    def kill_the_tenth(block):
        """Die in the tenth call, when results wait in the memory of both workers."""
        (tmp_path / uuid.uuid4().hex).touch()
        calls = len([path for path in tmp_path.iterdir() if path.is_file()])
        if calls >= 10 and not (tmp_path / "killed").exists():
            (tmp_path / "killed").mkdir()
            os.kill(os.getpid(), signal.SIGKILL)
        return block

    make_array(session)
    fork = session.fork()
    source = numbers(chunks=(10, 5)).map_blocks(kill_the_tenth, dtype="f8", meta=np.empty((0, 0)))
    with Client(cluster):
        merged = store_dask(sources=[source], targets=[on(fork)], split_every=4)
    assert (tmp_path / "killed").exists()
    session.merge(merged)
    np.testing.assert_array_equal(on(session)[...], np.arange(1, 1201, dtype="f8").reshape(40, 30))


class TestRefused:
    """Everything here is refused before any task runs."""

    def test_sources_that_are_not_dask(self, session):
        make_array(session)
        with pytest.raises(TypeError, match="Expected a dask array"):
            store_dask(sources=[np.ones((40, 30))], targets=[on(session.fork())])

    def test_targets_that_are_not_zarr(self):
        with pytest.raises(TypeError, match=r"Expected a zarr\.Array"):
            store_dask(sources=[numbers()], targets=[np.ones((40, 30))])

    def test_targets_elsewhere(self):
        target = zarr.create_array({}, shape=(40, 30), chunks=(10, 5), dtype="f8")
        with pytest.raises(TypeError, match="IcechunkStore"):
            store_dask(sources=[numbers()], targets=[target])

    def test_targets_on_a_session_that_is_no_fork(self, session):
        with pytest.raises(ValueError, match="fork"):
            store_dask(sources=[numbers()], targets=[make_array(session)])

    def test_counts_that_differ(self, session):
        make_array(session)
        target = on(session.fork())
        with pytest.raises(ValueError, match="Different number"):
            store_dask(sources=[numbers(), numbers()], targets=[target])
        with pytest.raises(ValueError, match="Different number"):
            store_dask(sources=[numbers()], targets=[target], regions=[None, None])
        with pytest.raises(ValueError, match="at least one"):
            store_dask(sources=[], targets=[])

    def test_shapes_that_differ(self, session):
        make_array(session)
        target = on(session.fork())
        with pytest.raises(ValueError, match="shape"):
            store_dask(sources=[numbers((20, 30))], targets=[target])
        with pytest.raises(ValueError, match="region"):
            store_dask(sources=[numbers()], targets=[target], regions=[np.s_[:20, :]])

    def test_unknown_shapes(self, session):
        make_array(session, shape=(40,), chunks=(10,))
        source = da.arange(80, chunks=10)
        with pytest.raises(ValueError, match="unknown chunk sizes"):
            store_dask(sources=[source[source % 2 == 0]], targets=[on(session.fork())])

    @pytest.mark.parametrize(
        "option", [{"compute": False}, {"return_stored": True}, {"load_stored": True}, {"lock": 1}]
    )
    def test_options_without_meaning(self, session, option):
        make_array(session)
        with pytest.raises(TypeError, match=next(iter(option))):
            store_dask(sources=[numbers()], targets=[on(session.fork())], **option)

    def test_an_old_dask(self, session, monkeypatch):
        monkeypatch.setattr(dask, "__version__", "2024.12.1")
        with pytest.raises(ValueError, match=r"dask>=2025\.2\.0"):
            store_dask(sources=[], targets=[])


def test_options_of_dask_are_passed_on(session):
    make_array(session)
    fork = session.fork()
    store_dask(
        sources=[numbers()],
        targets=[on(fork)],
        scheduler="synchronous",
        optimize_graph=False,
        lock=False,
        compute=True,
        return_stored=False,
    )
    assert on(fork)[...].all()


class TestMergeReduction:
    """Arrays as `dask.array.store` returns them."""

    def stored(self, fork, name="a"):
        return da.store(
            numbers(), on(fork, name), lock=False, compute=False, return_stored=True,
            load_stored=False,
        )  # fmt: skip

    def test_of_one_array(self, session, scheduler):
        make_array(session)
        session.merge(session_merge_reduction(self.stored(session.fork()), split_every=2))
        assert on(session)[...].all()

    def test_of_several(self, session):
        make_array(session, "a")
        make_array(session, "b")
        fork = session.fork()
        stored = [self.stored(fork, "a"), self.stored(fork, "b")]
        session.merge(session_merge_reduction(stored, split_every=None))
        assert on(session, "a")[...].all()
        assert on(session, "b")[...].all()

    def test_of_anything_else(self):
        with pytest.raises(TypeError, match="Expected a dask array"):
            session_merge_reduction([np.ones(3)], split_every=None)


def test_few_tasks_beyond_the_blocks(session):
    make_array(session, shape=(1000, 3), chunks=(1, 3))
    fork = session.fork()
    keys = []

    from dask.callbacks import Callback

    class Count(Callback):
        def _pretask(self, key, dsk, state):
            keys.append(key)

    source = da.ones((1000, 3), chunks=(1, 3))
    with Count():
        store_dask(sources=[source], targets=[on(fork)], scheduler="threads")
    assert len(keys) <= 1000 + 16 + 2  # 16 merges of up to 64 forks, then one of 16


def test_a_task_travels_light(session):
    make_array(session)
    fork = session.fork()
    before = len(pickle.dumps(fork.detached_copy()))
    on(fork)[...] = 1  # 24 chunks
    assert len(pickle.dumps(fork.detached_copy())) < before + 100
    assert len(pickle.dumps(fork)) < before + 24 * 400  # inline chunks


@given(
    st.lists(st.integers(1, 2000), max_size=4),
    st.integers(2, 200),
)
def test_fan_in_shares_the_limit(numblocks, limit):
    shares = _fan_in(tuple(numblocks), limit)
    assert sorted(shares) == list(range(len(numblocks)))
    for axis, blocks in enumerate(numblocks):
        assert shares[axis] >= min(blocks, 2)
        assert shares[axis] <= blocks
    product = np.prod(list(shares.values()), dtype=int)
    assert product <= max(limit, 2 ** len(numblocks))


@pytest.mark.parametrize(
    ("numblocks", "expected"),
    [((), {}), ((1000,), {0: 64}), ((1, 1000, 1), {0: 1, 1: 64, 2: 1}), ((32, 32), {0: 8, 1: 8})],
)
def test_fan_in(numblocks, expected):
    assert _fan_in(numblocks, 64) == expected

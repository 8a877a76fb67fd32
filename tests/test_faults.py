"""A commit that fails at any effect leaves the old or the new state, and a retry completes it."""

import numpy as np
import pytest
import zarr

import icechunk
from icechunk import ConflictError, Repository
from icechunk.errors import IcechunkError
from icechunk.storage import LocalStorage, MemoryStorage
from icechunk.testing import FaultyStorage

OLD = np.arange(40)
NEW = OLD * 3


def split_config():
    splitting = icechunk.ManifestSplittingConfig.from_dict(
        {icechunk.ManifestSplitCondition.AnyArray(): {icechunk.ManifestSplitDimCondition.Any(): 4}}
    )
    return icechunk.RepositoryConfig(
        inline_chunk_threshold_bytes=10, manifest=icechunk.ManifestConfig(splitting=splitting)
    )


@pytest.fixture(params=["memory", "local"])
def stored(request, tmp_path):
    """A storage with one commit: inline and native chunks in several manifests."""
    if request.param == "memory":
        storage = MemoryStorage()
    else:
        storage = LocalStorage(str(tmp_path / "repo"), durable=False)
    repo = Repository.create(storage, split_config())
    session = repo.writable_session("main")
    for name, chunk in (("native", 4), ("inline", 2)):
        array = zarr.create_array(
            session.store, name=name, shape=(40,), chunks=(chunk,), dtype="i4", compressors=None
        )
        array[:] = OLD
    session.commit("old")
    return storage


def write(session):
    for name in ("native", "inline"):
        zarr.open_array(session.store, path=name)[:] = NEW


def state(storage):
    """What a fresh reader sees: the newest message and all data, which must belong together."""
    repo = Repository.open(storage)
    message = next(iter(repo.ancestry(branch="main"))).message
    store = repo.readonly_session("main").store
    expected = {"old": OLD, "new": NEW}[message]
    for name in ("native", "inline"):
        np.testing.assert_array_equal(zarr.open_array(store, path=name, mode="r")[...], expected)
    return message


def effects_of_a_commit(storage):
    """Number of effects before the commit, and with it, on a throw-away copy."""
    probe = MemoryStorage()
    for item in storage.list(""):
        probe.put(item.key, storage.get(item.key))
    counting = FaultyStorage(probe)
    session = Repository.open(counting).writable_session("main")
    write(session)
    before = len(counting.effects)
    session.commit("new")
    return before, len(counting.effects)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("sticky", [False, True], ids=["once", "crash"])
def test_any_effect_of_a_commit_may_fail(stored, after, sticky):
    first, last = effects_of_a_commit(stored)
    assert last - first >= 9
    base = Repository.open(stored).lookup_branch("main")
    for k in range(first, last):
        faulty = FaultyStorage(stored, fail_at=k, after=after, sticky=sticky)
        session = Repository.open(faulty).writable_session("main")
        write(session)
        try:
            session.commit("new")
        except IcechunkError:
            committed = False
        else:
            committed = True
        seen = state(stored)
        if committed:
            assert seen == "new"
        elif not sticky:
            # the session is as it was: nothing is lost, and trying again ends at the new state
            assert session.has_uncommitted_changes
            assert session.branch == "main"
            try:
                session.commit("new")
            except ConflictError:
                assert seen == "new"  # the first attempt had landed after all
            assert state(stored) == "new"
        Repository.open(stored).reset_branch("main", base)
        assert state(stored) == "old"


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_chunk_write_that_fails_is_not_part_of_the_session(stored, after):
    faulty = FaultyStorage(stored, fail_at=0, after=after)
    session = Repository.open(faulty).writable_session("main")
    array = zarr.open_array(session.store, path="native")
    with pytest.raises(IcechunkError, match="injected"):
        array[:4] = 7
    assert not session.has_uncommitted_changes
    assert array[0] == 0
    array[:4] = 7
    session.commit("seven")
    store = Repository.open(stored).readonly_session("main").store
    assert zarr.open_array(store, path="native", mode="r")[3] == 7


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_fork_that_fails_to_be_made_changes_nothing(stored, after):
    session = Repository.open(stored).writable_session("main")
    write(session)
    status = repr(session.status())
    for k in range(30):
        faulty = FaultyStorage(stored, after=after)
        session = Repository.open(faulty).writable_session("main")
        write(session)
        written = len(faulty.effects)
        faulty.fail_at = written + k
        try:
            fork = session.fork()
        except IcechunkError:
            fork = session.fork()
        assert repr(session.status()) == status
        assert zarr.open_array(fork.store, path="native")[5] == NEW[5]
        assert state(stored) == "old"
        if len(faulty.effects) - written <= k:
            break
    else:
        pytest.fail("a fork has more effects than expected")


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_creating_a_repository_may_fail_anywhere(after):
    for k in range(10):
        inner = MemoryStorage()
        faulty = FaultyStorage(inner, fail_at=k, after=after)
        try:
            Repository.create(faulty)
        except IcechunkError:
            # either it exists and works, or it does not and can be created
            repo = Repository.open_or_create(inner)
        else:
            repo = Repository.open(inner)
        assert repo.list_branches() == {"main"}
        if len(faulty.effects) <= k:
            break
    else:
        pytest.fail("creation has more effects than expected")

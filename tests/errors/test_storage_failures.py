"""The storage fails at any one request of a call, reading or writing: all or nothing, and again.

Commits have a test of their own, which also lets the storage die: `tests/faults`.
"""

import pytest

import icechunk
from icechunk import ConflictDetector, RepoAvailability, RepoStatus, StorageError
from icechunk.testing import FaultyStorage
from icechunk.testing.faults import EFFECTS

READS = {"get", "get_versioned", "get_if_changed", "get_range", "head", "exists", "list"}
GRID = {"name": "regular", "configuration": {"chunk_shape": [2, 2]}}


def edited(world):
    world.edit(world.use(world.repo.writable_session("main")))


def behind(world):
    edited(world)
    world.others_commit()


def forked(world):
    edited(world)
    world.fork = world.session.fork()
    world.set("array/c/3/1", b"3" * 16, world.fork)
    world.set("forked/zarr.json", world.array(), world.fork)


def rearranging(world):
    world.use(world.repo.rearrange_session("main"))


def clean(world):
    world.use(world.repo.writable_session("main"))


def transact(world):
    with world.repo.transaction("branch", message="x") as store:
        world.edit(store.session)


# What comes before, and the call.
CALLS = {
    "commit": (edited, lambda w: w.session.commit("x")),
    "commit with a solver": (
        behind, lambda w: w.session.commit("x", rebase_with=ConflictDetector()),
    ),
    "amend": (edited, lambda w: w.session.amend("x")),
    "flush": (edited, lambda w: w.session.flush("x")),
    "rebase": (behind, lambda w: w.session.rebase(ConflictDetector())),
    "fork": (edited, lambda w: w.session.fork() and None),
    "merge": (forked, lambda w: w.session.merge(w.fork)),
    "move": (rearranging, lambda w: w.session.move("/array", "/group/array")),
    "shift": (edited, lambda w: w.session.shift_array("/array", (1, 0))),
    "reindex": (edited, lambda w: w.session.reindex_array("/array", lambda at: at[::-1])),
    "small chunk": (clean, lambda w: w.set("array/c/0/0", b"x")),
    "large chunk": (clean, lambda w: w.set("array/c/0/0", b"x" * 1000)),
    "document": (clean, lambda w: w.set("array/zarr.json", w.array(shape=[8, 4], chunk_grid=GRID))),
    "deletion": (clean, lambda w: w.do("delete_dir", "group")),
    "clearing": (clean, lambda w: w.do("clear")),
    "transaction": (clean, transact),
    "rewrite": (clean, lambda w: w.repo.rewrite_manifests("x", branch="branch")),
    "new branch": (clean, lambda w: w.repo.create_branch("new", w.first)),
    "branch reset": (clean, lambda w: w.repo.reset_branch("branch", w.root)),
    "branch deleted": (clean, lambda w: w.repo.delete_branch("branch")),
    "new tag": (clean, lambda w: w.repo.create_tag("new", w.first)),
    "tag deleted": (clean, lambda w: w.repo.delete_tag("tag")),
    "metadata": (clean, lambda w: w.repo.update_metadata({"a": 1})),
    "status": (clean, lambda w: w.repo.set_status(RepoStatus(RepoAvailability.read_only))),
    "feature flag": (clean, lambda w: w.repo.set_feature_flag("move_node", False)),
    "configuration": (clean, lambda w: w.repo.save_config()),
    "comparison": (
        clean, lambda w: w.repo.diff(from_snapshot_id=w.root, to_branch="main") and None,
    ),
}  # fmt: skip


# The one call that may leave a session on a newer base, with its edits.
MOVES_ON = "commit with a solver"


@pytest.fixture
def play(make_world):
    """Function that prepares a call, on a storage that fails at one of its requests."""

    def make(name, fail_at=None, *, after=False):
        world = make_world("memory")
        world.storage = world.faulty = FaultyStorage(
            world.storage, after=after, operations=EFFECTS | READS
        )
        world.repo = icechunk.Repository.open(world.faulty)
        prepare, call = CALLS[name]
        prepare(world)
        world.faulty.effects.clear()
        world.faulty.fail_at = fail_at
        return world, call

    return make


def content(storage, look):
    """What a repository holds, but for ids and times."""
    _, repository_state, _ = look
    state = repository_state(storage)
    for part in ("operations", "histories"):
        state.pop(part)
    repo = icechunk.Repository.open(storage)
    state["status"] = state["status"].availability
    for name in state["branches"]:
        store = repo.readonly_session(name).store
        keys = sorted(store.list())
        state["branches"][name] = [(key, store.get_sync(key).to_bytes()) for key in keys]
    return state


def without_base(state):
    return {key: value for key, value in state.items() if key not in ("snapshot", "values")}


def count_requests(play, name):
    world, call = play(name)
    call(world)
    return len(world.faulty.effects)


@pytest.mark.parametrize("name", CALLS)
def test_a_failed_request_leaves_no_trace(play, look, name):
    session_state, _, changeable = look
    control, call = play(name)
    untouched = session_state(control.session)
    call(control)
    done = content(control.faulty.inner, look)
    session_done = session_state(control.session)

    for fail_at in range(count_requests(play, name)):
        world, call = play(name, fail_at)
        repository = changeable(world.faulty.inner)
        try:
            call(world)
        except StorageError:
            world.faulty.fail_at = None
            assert changeable(world.faulty.inner) == repository, fail_at
            kept = session_state(world.session)
            if name == MOVES_ON:
                assert without_base(kept) == without_base(untouched), fail_at
            else:
                assert kept == untouched, fail_at
            call(world)
        # else it could do without; either way it is done now, once
        world.faulty.fail_at = None
        assert content(world.faulty.inner, look) == done, fail_at
        state = session_state(world.session)
        if session_done["snapshot"] != untouched["snapshot"]:  # snapshots have random ids
            assert state.pop("snapshot") != untouched["snapshot"]
        assert state == {key: session_done[key] for key in state}, fail_at


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_a_lost_answer_means_all_or_nothing(play, look, name):
    session_state, _, _ = look
    control, call = play(name)
    old = content(control.faulty.inner, look)
    untouched = session_state(control.session)
    call(control)
    new = content(control.faulty.inner, look)

    for fail_at in range(count_requests(play, name)):
        world, call = play(name, fail_at, after=True)
        try:
            call(world)
        except StorageError:
            world.faulty.fail_at = None
            found = content(world.faulty.inner, look)
            assert found in (old, new), fail_at
            kept = session_state(world.session)
            if name == MOVES_ON:
                assert without_base(kept) == without_base(untouched), fail_at
            else:
                assert kept == untouched, fail_at
        else:
            assert content(world.faulty.inner, look) == new, fail_at

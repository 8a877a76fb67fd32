"""Fail at every effect of a commit, before and after it lands: old state or new, never a third."""

import json
import pickle

import pytest
from zarr.core.buffer import cpu

import icechunk
from icechunk import (
    ConflictError,
    ManifestSplitCondition,
    ManifestSplitDimCondition,
    ManifestSplittingConfig,
    Repository,
    RepositoryConfig,
    StorageError,
)
from icechunk.config import ManifestConfig
from icechunk.testing import FaultyStorage

NEVER = 10**9


def document(n, **attributes):
    grid = {"name": "regular", "configuration": {"chunk_shape": [1]}}
    node = {"node_type": "array", "shape": [n], "chunk_grid": grid, "attributes": attributes}
    return json.dumps(node).encode()


def put(store, key, data):
    store.set_sync(key, cpu.Buffer.from_bytes(data))


def values(store):
    return {key: store.get_sync(key).to_bytes() for key in store.list()}


def config(kind):
    found = RepositoryConfig(inline_chunk_threshold_bytes=512 if kind == "inline" else 0)
    if kind == "split":
        axis = {ManifestSplitDimCondition.Any(): 2}
        sizes = ManifestSplittingConfig.from_dict({ManifestSplitCondition.AnyArray(): axis})
        found.manifest = ManifestConfig(splitting=sizes)
    return found


def prepare(storage, kind):
    """Create a repository with two arrays."""
    session = Repository.create(storage, config(kind)).writable_session("main")
    for name in "ab":
        put(session.store, f"{name}/zarr.json", document(6))
        for i in range(6):
            put(session.store, f"{name}/c/{i}", f"old {name} {i}".encode())
    session.commit("old")


def edit(store):
    """Overwrite, delete, create: something of everything."""
    put(store, "a/c/0", b"new a 0")
    put(store, "a/c/5", b"new a 5")
    store.delete_sync("a/c/2")
    store.delete_sync("b/zarr.json")
    put(store, "g/d/zarr.json", document(3))
    put(store, "g/d/c/1", b"new d 1")


def make_storage(place, tmp_path):
    if place == "memory":
        return icechunk.in_memory_storage()
    return icechunk.local_filesystem_storage(str(tmp_path / "repo"))


def both_states(kind):
    storage = icechunk.in_memory_storage()
    prepare(storage, kind)
    repo = Repository.open(storage)
    old = values(repo.readonly_session("main").store)
    session = repo.writable_session("main")
    edit(session.store)
    return old, values(session.store)


class Case:
    """One edited session on a storage that fails at one effect of the commit."""

    def __init__(self, storage, kind, fail_at, *, after, sticky):
        self.inner = storage
        prepare(storage, kind)
        self.storage = FaultyStorage(storage, sticky=sticky)
        self.session = Repository.open(self.storage).writable_session("main")
        edit(self.session.store)
        self.storage.effects.clear()
        self.storage.after = after
        self.storage.fail_at = fail_at

    def heal(self):
        self.storage.fail_at = None
        self.storage._dead = False

    def stored(self):
        """Read the branch as somebody else sees it: history and values."""
        repo = Repository.open(self.inner)
        messages = [entry.message for entry in repo.ancestry(branch="main")]
        return messages, values(repo.readonly_session("main").store)


OLD = ["old", "Repository initialized"]
NEW = ["new", *OLD]


def count_effects(kind):
    case = Case(icechunk.in_memory_storage(), kind, NEVER, after=False, sticky=False)
    case.session.commit("new")
    return len(case.storage.effects)


@pytest.mark.parametrize(
    ("kind", "place"), [("native", "local"), ("inline", "memory"), ("split", "memory")]
)
@pytest.mark.parametrize("sticky", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_failing_commit_leaves_old_or_new(kind, place, after, sticky, tmp_path):
    old, new = both_states(kind)
    effects = count_effects(kind)
    assert effects >= 6
    for fail_at in range(effects):
        case = Case(
            make_storage(place, tmp_path / str(fail_at)), kind, fail_at, after=after, sticky=sticky
        )
        failed = False
        try:
            tip = case.session.commit("new")
        except StorageError:
            failed = True
        messages, found = case.stored()
        assert (messages, found) in ((OLD, old), (NEW, new)), (fail_at, case.storage.effects)
        case.heal()
        assert values(case.session.store) == new  # the edits are still there to read
        if not failed:
            assert (messages, found) == (NEW, new)
            assert case.session.snapshot_id == tip
            continue
        assert not case.session.read_only
        if messages == OLD:
            case.session.commit("new")
        else:  # it took effect without our knowing
            with pytest.raises(ConflictError) as caught:
                case.session.commit("new")
            assert caught.value.actual_parent == Repository.open(case.inner).lookup_branch("main")
        assert case.stored() == (NEW, new)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("sticky", [False, True], ids=["once", "from then on"])
def test_only_the_lost_answer_of_the_swap_is_doubtful(after, sticky):
    """Every other failure is known to have changed nothing; the swap's is looked up if possible."""
    for fail_at in range(count_effects("native")):
        case = Case(icechunk.in_memory_storage(), "native", fail_at, after=after, sticky=sticky)
        try:
            case.session.commit("new")
            outcome = "done"
        except StorageError as error:
            outcome = type(error).__name__
        operation, key = case.storage.effects[fail_at]
        if (operation, key) == ("put_if", "repo"):
            expected = "WriteOutcomeUnknown" if sticky else ("done" if after else "InjectedFault")
            assert outcome == expected, (outcome, expected)
        else:
            assert outcome in ("InjectedFault", "done")
            assert (outcome == "done") == (case.stored()[0] == NEW)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_failing_chunk_write_changes_nothing_and_can_be_repeated(after):
    case = Case(icechunk.in_memory_storage(), "native", None, after=after, sticky=False)
    before = values(case.session.store)
    case.storage.effects.clear()
    case.storage.fail_at = 0
    with pytest.raises(StorageError):
        put(case.session.store, "a/c/3", b"again")
    assert values(case.session.store) == before
    put(case.session.store, "a/c/3", b"again")
    case.session.commit("new")
    assert case.stored()[1] == before | {"a/c/3": b"again"}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_failing_fork_leaves_the_session_as_it_was(after):
    for fail_at in range(10):
        case = Case(icechunk.in_memory_storage(), "split", fail_at, after=after, sticky=False)
        before = values(case.session.store)
        try:
            fork = case.session.fork()
        except StorageError:
            assert values(case.session.store) == before
            fork = case.session.fork()
        assert case.stored()[0] == OLD
        case.heal()
        put(fork.store, "a/c/0", b"forked")
        put(fork.store, "g/d/c/0", b"forked")
        case.session.merge(fork)
        case.session.commit("new")
        expected = before | {"a/c/0": b"forked", "g/d/c/0": b"forked"}
        assert case.stored() == (NEW, expected)
        if len(case.storage.effects) <= fail_at:
            break


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_failing_creation_leaves_no_half_repository(after):
    for fail_at in range(10):
        inner = icechunk.in_memory_storage()
        storage = FaultyStorage(inner, fail_at=fail_at, after=after)
        try:
            Repository.create(storage)
            failed = False
        except StorageError:
            failed = True
        if Repository.exists(inner):
            assert values(Repository.open(inner).readonly_session("main").store) == {}
        else:
            assert failed
            repo = Repository.create(inner, check_clean_root=False)
            repo.writable_session("main").commit("first", allow_empty=True)
        if len(storage.effects) <= fail_at:
            break
    assert fail_at >= 3


def test_reads_fail_as_such_and_work_again():
    """A failing read is an error, never a missing value, and nothing of it is remembered."""
    storage = icechunk.in_memory_storage()
    prepare(storage, "native")
    expected = values(Repository.open(storage).readonly_session("main").store)
    reading = frozenset({"get", "get_range", "get_versioned", "get_if_changed"})
    for fail_at in range(8):
        faulty = FaultyStorage(storage, operations=reading)
        repo = Repository.open(faulty)
        faulty.effects.clear()
        faulty.fail_at = fail_at

        def read(repo=repo):
            store = repo.readonly_session("main").store
            return {key: store.get_sync(key).to_bytes() for key in expected}

        with pytest.raises(StorageError):
            read()
        assert read() == expected


def test_storage_errors_travel_by_pickle():
    case = Case(icechunk.in_memory_storage(), "native", 0, after=False, sticky=False)
    with pytest.raises(StorageError) as caught:
        case.session.commit("new")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), copy.args) == (type(caught.value), caught.value.args)

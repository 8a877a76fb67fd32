"""What a lost race costs, what it leaves behind, and that nobody's commit is harmed by it."""

import json

import pytest
from zarr.core.buffer import cpu

import icechunk
from icechunk import (
    BasicConflictSolver,
    ConflictDetector,
    ConflictError,
    ManifestSplitCondition,
    ManifestSplitDimCondition,
    ManifestSplittingConfig,
    RebaseFailedError,
    Repository,
    RepositoryConfig,
)
from icechunk.config import ManifestConfig
from icechunk.repo.surroundings import Surroundings
from icechunk.storage.base import WriteOutcomeUnknown
from icechunk.testing import CountingStorage, FaultyStorage
from icechunk.testing.wrapper import StorageWrapper

WINDOW = 4


def document(n):
    grid = {"name": "regular", "configuration": {"chunk_shape": [1]}}
    return json.dumps({"node_type": "array", "shape": [n], "chunk_grid": grid}).encode()


def put(session, key, data):
    session.store.set_sync(key, cpu.Buffer.from_bytes(data))


def write(session, array, *indices, data=b"x"):
    for index in indices:
        put(session, f"{array}/c/{index}", data)


def values(repo, array):
    store = repo.readonly_session("main").store
    found = {key: store.get_sync(key) for key in store.list() if key.startswith(f"{array}/c/")}
    return {int(key.rpartition("/")[2]): data.to_bytes() for key, data in found.items()}


def config():
    axis = {ManifestSplitDimCondition.Any(): WINDOW}
    split = ManifestSplittingConfig.from_dict({ManifestSplitCondition.AnyArray(): axis})
    return RepositoryConfig(manifest=ManifestConfig(splitting=split))


class Interloper(StorageWrapper):
    """Lets others commit at the worst moment: a snapshot is written, but not yet swapped in."""

    def __init__(self, inner):
        super().__init__(inner)
        self.others = []

    def _before(self, operation, key):
        if operation == "put_new" and key.startswith("snapshots/") and self.others:
            self.others.pop(0)()


class Race:
    """A repository with two arrays of 16 chunks in windows of 4, and a way to be outrun."""

    def __init__(self, inner):
        self.inner = inner
        session = Repository.create(inner, config()).writable_session("main")
        for name in "ab":
            put(session, f"{name}/zarr.json", document(16))
            write(session, name, *range(16), data=b"old")
        session.commit("arrays")
        self.counted = CountingStorage(inner)
        self.storage = Interloper(self.counted)
        self.repo = Repository.open(self.storage)
        self.sleeps = []
        world = Surroundings(sleep=self.sleeps.append)
        self.repo._context.world = world

    def outrun_by(self, *writes):
        """Prepare commits by others, each a pair of array and index."""

        def commit_one(array, index):
            session = Repository.open(self.inner).writable_session("main")
            write(session, array, index, data=b"theirs")
            session.commit("theirs")

        self.storage.others = [lambda w=w: commit_one(*w) for w in writes]

    def session(self):
        session = self.repo.writable_session("main")
        write(session, "a", 0, 5, data=b"ours")
        write(session, "b", 0, data=b"ours")
        self.counted.reset()
        return session

    def uploads(self):
        return {
            kind: self.counted.counts["put_new", kind]
            for kind in ("manifests", "snapshots", "transactions")
        }

    def reachable(self):
        """Count the objects that some snapshot of the history refers to."""
        history = [entry.id for entry in self.repo.ancestry(branch="main")]
        manifests = {file.id for id in history for file in self.repo.list_manifest_files(id)}
        return {"snapshots": len(history), "transactions": len(history), "manifests": manifests}

    def assert_no_debris(self):
        stored = {kind: set() for kind in ("snapshots", "transactions", "manifests")}
        for item in self.inner.list():
            kind, _, name = item.key.partition("/")
            if kind in stored:
                stored[kind].add(name)
        wanted = self.reachable()
        assert stored["manifests"] == wanted["manifests"]
        assert len(stored["snapshots"]) == wanted["snapshots"]
        assert len(stored["transactions"]) == wanted["transactions"]


@pytest.fixture
def race(storage):
    return Race(storage)


def test_a_winner_elsewhere_costs_a_snapshot_and_a_log(race):
    race.outrun_by(("a", 15))
    session = race.session()
    session.commit("ours", rebase_with=ConflictDetector())
    # windows 0 and 1 of a, window 0 of b: once, although it took two attempts
    assert race.uploads() == {"manifests": 3, "snapshots": 2, "transactions": 2}
    assert values(race.repo, "a") == {
        i: b"ours" if i in (0, 5) else b"theirs" if i == 15 else b"old" for i in range(16)
    }
    race.assert_no_debris()


def test_only_the_window_that_both_touched_is_written_again(race):
    race.outrun_by(("a", 1), ("a", 2))
    session = race.session()
    session.commit("ours", rebase_with=ConflictDetector())
    assert race.uploads() == {"manifests": 3 + 1 + 1, "snapshots": 3, "transactions": 3}
    found = values(race.repo, "a")
    assert [found[i] for i in range(6)] == [b"ours", b"theirs", b"theirs", b"old", b"old", b"ours"]
    race.assert_no_debris()


def test_by_hand_it_is_as_cheap(race):
    race.outrun_by(("a", 1))
    session = race.session()
    with pytest.raises(ConflictError):
        session.commit("ours")
    session.rebase(ConflictDetector())
    session.commit("ours")
    assert race.uploads() == {"manifests": 3 + 1, "snapshots": 2, "transactions": 2}
    race.assert_no_debris()


def test_edits_after_a_lost_race_are_not_forgotten(race):
    race.outrun_by(("a", 15))
    session = race.session()
    with pytest.raises(ConflictError):
        session.commit("ours")
    write(session, "a", 6, data=b"more")
    session.rebase(ConflictDetector())
    session.commit("ours")
    assert values(race.repo, "a")[6] == b"more"
    assert values(race.repo, "a")[5] == b"ours"
    race.assert_no_debris()


def test_a_race_lost_before_it_began_writes_nothing(race):
    session = race.session()
    race.outrun_by(("a", 15))
    race.storage.others.pop()()
    race.counted.reset()
    with pytest.raises(ConflictError):
        session.commit("ours")
    assert race.counted.writes() == 0
    session.commit("ours", rebase_with=ConflictDetector())
    assert race.uploads() == {"manifests": 3, "snapshots": 1, "transactions": 1}
    assert race.sleeps == []


def test_a_failed_rebase_leaves_no_snapshot_behind(race):
    race.outrun_by(("a", 0))
    session = race.session()
    with pytest.raises(RebaseFailedError):
        session.commit("ours", rebase_with=ConflictDetector())
    assert session.has_uncommitted_changes
    stored = [item.key for item in race.inner.list("snapshots")]
    assert len(stored) == len(list(race.repo.ancestry(branch="main")))
    session.commit("ours", rebase_with=BasicConflictSolver())
    assert values(race.repo, "a")[0] == b"ours"
    race.assert_no_debris()


def test_manifests_of_a_fork_stay(race):
    session = race.session()
    fork = session.fork()
    race.outrun_by(("a", 1))
    session.commit("ours", rebase_with=ConflictDetector())
    assert race.uploads()["manifests"] == 3 + 1  # those of the fork's snapshot serve the commit
    # window 0 of a was written again on top of theirs, but the fork still needs its own
    assert fork.store.get_sync("a/c/0").to_bytes() == b"ours"
    assert fork.store.get_sync("a/c/1").to_bytes() == b"old"


def test_waits_grow_with_losses_and_shrink_with_successes(race, monkeypatch):
    race.storage.is_local = False
    monkeypatch.setattr(type(race.storage), "turn", icechunk.Storage.turn)
    race.repo = Repository.open(race.storage)
    times = iter(range(0, 10**9, 1000))
    start = race.repo._context.world.now_us()
    race.repo._context.world = Surroundings(
        now_us=lambda: start + next(times), sleep=race.sleeps.append, uniform=lambda: 0.5
    )
    race.outrun_by(("a", 12), ("a", 13), ("a", 14))
    race.session().commit("ours", rebase_with=ConflictDetector())
    first, second, third = race.sleeps
    assert 0 < first < second <= third * 1.2
    race.sleeps.clear()
    for n in range(200):
        session = race.repo.writable_session("main")
        write(session, "b", n % 16)
        session.commit("alone", rebase_with=ConflictDetector())
    assert 0 < len(race.sleeps) < 200
    assert race.sleeps[-1] < race.sleeps[0]


def test_without_a_solver_nobody_waits_or_queues(race, monkeypatch):
    def no_turn(self, patience):
        raise AssertionError("queued")

    monkeypatch.setattr(Interloper, "turn", no_turn)
    race.outrun_by(("a", 15))
    with pytest.raises(ConflictError):
        race.session().commit("ours")
    assert race.sleeps == []


def test_after_a_swap_without_answer_nothing_is_deleted(storage):
    race = Race(storage)
    faulty = FaultyStorage(race.inner, sticky=True, after=True)
    repo = Repository.open(faulty)
    session = repo.writable_session("main")
    write(session, "a", 0, data=b"ours")
    # the swap is the last effect: manifest, log, snapshot, backup, flush, swap
    faulty.fail_at = len(faulty.effects) + 5
    with pytest.raises(WriteOutcomeUnknown):
        session.commit("ours")
    faulty.fail_at = None
    faulty._dead = False
    assert faulty.effects[-1] == ("put_if", "repo")
    assert values(race.repo, "a")[0] == b"ours"  # it had taken effect
    write(session, "a", 1, data=b"more")
    session.rebase(BasicConflictSolver())
    session.commit("again")
    for entry in race.repo.ancestry(branch="main"):
        store = race.repo.readonly_session(snapshot_id=entry.id).store
        assert all(store.get_sync(key) is not None for key in store.list())
    assert values(race.repo, "a")[1] == b"more"

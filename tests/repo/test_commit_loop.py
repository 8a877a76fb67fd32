"""The compare-and-swap loop: races, retries, faults at every effect, answers that get lost."""

import threading
from dataclasses import replace
from itertools import pairwise

import pytest

from icechunk.errors import ConflictError, ErrorKind, RepositoryNotFoundError, StorageError
from icechunk.format.layout import REPO, backup_key
from icechunk.format.ops_table import OpsLog
from icechunk.repo.commit_loop import (
    Committed,
    Fate,
    Lost,
    UpdatePolicy,
    attempt,
    delays_ms,
    fate_of_swap,
    run_update,
)
from icechunk.repo.entry_v2 import EntryPoint
from icechunk.repo.log import read_log
from icechunk.repo.surroundings import REAL
from icechunk.repo.updates import AddSnapshot, CreateBranch
from icechunk.storage.base import PreconditionFailed, WriteOutcomeUnknown
from icechunk.storage.memory import MemoryStorage
from icechunk.testing import CountingStorage

POLICY = UpdatePolicy()
RIVAL = replace(REAL, now_us=lambda: 1_700_000_001_000_000)


def stored(storage, info):
    EntryPoint(storage).create(info, level=1)
    return EntryPoint(storage)


def backups(storage):
    return sorted(item.key for item in storage.list("overwritten"))


def in_use(entry):
    info = entry.load().info
    names = [update.backup_path for update in read_log(info, entry.load_backup)]
    return sorted(backup_key(name) for name in names if name is not None)


class Racing(MemoryStorage):
    """Lets somebody else update right before each of our first swaps."""

    def __init__(self, rivals):
        super().__init__()
        self.rivals = list(rivals)
        self.swaps = 0

    def put_if(self, key, data, expected):
        if expected is not None:
            self.swaps += 1
            if self.rivals:
                rival = self.rivals.pop(0)
                kept, self.rivals = self.rivals, []
                run_update(EntryPoint(self), rival, POLICY, RIVAL)
                self.rivals = kept
                self.swaps -= 1
        return super().put_if(key, data, expected)


def test_update_keeps_the_former_state_as_backup(info, world, snapshot_id):
    storage = MemoryStorage()
    entry = stored(storage, info)
    before = storage.get(REPO)
    after = run_update(entry, CreateBranch("new", snapshot_id(1)), POLICY, world.surroundings)
    assert EntryPoint(storage).load().info.branches == after.branches
    [key] = backups(storage)
    assert storage.get(key) == before
    assert key == backup_key(after.updates[1].backup_path)
    countdown = 32_503_680_000_000 - (world.clock // 1000)
    assert key.startswith(f"overwritten/repo.{countdown}.")
    assert world.slept == []


def test_a_lost_round_is_repeated_and_leaves_nothing(info, world, snapshot_id):
    rivals = [CreateBranch(f"rival{n}", snapshot_id(1)) for n in range(3)]
    storage = Racing(rivals)
    entry = stored(storage, info)
    after = run_update(entry, CreateBranch("mine", snapshot_id(1)), POLICY, world.surroundings)
    assert storage.swaps == 4
    assert {"mine", "rival0", "rival1", "rival2"} < set(after.branches)
    assert world.slept == []
    assert backups(storage) == in_use(entry)
    assert len(backups(storage)) == 4


def test_a_moved_branch_ends_the_loop_at_once(info, world, snapshot_id, child):
    rival = AddSnapshot("main", child(30), snapshot_id(3))
    storage = Racing([rival])
    entry = stored(storage, info)
    with pytest.raises(ConflictError) as caught:
        run_update(
            entry, AddSnapshot("main", child(31), snapshot_id(3)), POLICY, world.surroundings
        )
    assert caught.value.kind == "commit-conflict"
    assert storage.swaps == 1
    assert world.slept == []
    assert backups(storage) == in_use(entry)


class RacingForTheBackup(Racing):
    """Lets somebody else update between our look at the state and our copy of it."""

    def copy(self, source, target):
        if self.rivals and not self.is_rival:
            self.is_rival = True
            run_update(EntryPoint(self), self.rivals.pop(0), POLICY, RIVAL)
            self.is_rival = False
        super().copy(source, target)

    is_rival = False

    def put_if(self, key, data, expected):
        self.swaps += expected is not None and not self.is_rival
        return MemoryStorage.put_if(self, key, data, expected)


@pytest.mark.parametrize("race", [Racing, RacingForTheBackup])
def test_every_backup_is_the_state_it_is_named_for(info, world, snapshot_id, race):
    rivals = [CreateBranch(f"rival{n}", snapshot_id(1)) for n in range(3)]
    storage = race(rivals)
    entry = stored(storage, info)
    run_update(entry, CreateBranch("mine", snapshot_id(1)), POLICY, world.surroundings)
    assert storage.swaps == 4
    assert backups(storage) == in_use(entry)
    named = [update for update in entry.load().info.updates if update.backup_path is not None]
    assert len(named) == 4
    for update in named:
        backup = entry.load_backup(update.backup_path)
        assert backup.updates[0].updated_at == update.updated_at
        assert backup.updates[0].kind == update.kind


def test_a_round_uploads_one_object(info, world, snapshot_id):
    """The new state; its predecessor is copied by the storage, and a lost round drops the copy."""
    storage = CountingStorage(Racing([CreateBranch("rival", snapshot_id(1))]))
    entry = stored(storage, info)
    storage.reset()
    run_update(entry, CreateBranch("mine", snapshot_id(1)), POLICY, world.surroundings)
    assert {name: n for (name, _), n in storage.counts.items() if not name.startswith("get")} == {
        "copy": 2,
        "flush": 2,
        "put_if": 2,
        "delete": 1,
    }


def test_a_repository_that_is_gone(info, world, snapshot_id):
    class Vanishing(MemoryStorage):
        def copy(self, source, target):
            self.delete([source])
            super().copy(source, target)

    storage = Vanishing()
    entry = stored(storage, info)
    with pytest.raises(RepositoryNotFoundError) as caught:
        run_update(entry, CreateBranch("x", snapshot_id(1)), POLICY, world.surroundings)
    assert caught.value.kind == "repository-not-found"
    assert list(storage.list()) == []


def test_gives_up_after_its_tries(info, world, snapshot_id):
    class Never(MemoryStorage):
        def put_if(self, key, data, expected):
            if expected is not None:
                raise PreconditionFailed("always too late")
            return super().put_if(key, data, expected)

    storage = Never()
    entry = stored(storage, info)
    policy = UpdatePolicy(max_tries=8, initial_backoff_ms=100, max_backoff_ms=300)
    with pytest.raises(ConflictError) as caught:
        run_update(entry, CreateBranch("x", snapshot_id(1)), policy, world.surroundings)
    assert caught.value.kind == "update-attempts-exhausted"
    assert "9 attempts" in caught.value.message
    assert world.slept == pytest.approx([0.15, 0.3, 0.45])
    assert backups(storage) == []


@pytest.mark.parametrize(("max_tries", "waits"), [(0, 0), (5, 0), (6, 1), (100, 95)])
def test_delays(world, max_tries, waits):
    policy = UpdatePolicy(max_tries=max_tries)
    delays = list(delays_ms(policy, world.surroundings))
    assert delays[:6] == [0.0] * 6
    assert len(delays) == 6 + waits
    assert all(50 <= delay < 60_000 for delay in delays[6:])
    assert delays[6:9] == [75, 150, 300][: len(delays[6:9])]


class TestFaults:
    """Old state or new state, never a third, whatever fails."""

    def count(self, faulty, info, change):
        entry = stored(faulty, info)
        faulty.arm(None)
        run_update(entry, change, POLICY, REAL)
        return faulty.effects

    def test_effects_come_in_a_safe_order(self, faulty, info, snapshot_id):
        effects = self.count(faulty, info, CreateBranch("x", snapshot_id(1)))
        assert [effect.partition(" ")[0] for effect in effects] == ["copy", "flush", "put_if"]

    @pytest.mark.parametrize("after", [False, True])
    @pytest.mark.parametrize("effect", range(3))
    def test_storage_fails(self, faulty, info, world, snapshot_id, child, effect, after):
        entry = stored(faulty, info)
        old = faulty.get(REPO)
        faulty.arm(effect, after=after)
        change = AddSnapshot("main", child(30), snapshot_id(3))
        landed = effect == 2 and after
        if landed:
            # The answer got lost, but the log shows our mark.
            assert run_update(entry, change, POLICY, world.surroundings).branches["main"]
        else:
            with pytest.raises(StorageError, match="injected"):
                run_update(entry, change, POLICY, world.surroundings)
            assert faulty.get(REPO) == old
        faulty.arm(None)
        assert backups(faulty) == in_use(entry)
        if not landed:
            run_update(entry, change, POLICY, world.surroundings)
        assert EntryPoint(faulty).load().info.branches["main"] == snapshot_id(30)
        assert backups(faulty) == in_use(entry)


class Remote(MemoryStorage):
    """An object store whose answers to conditional writes get lost."""

    is_local = False

    def __init__(self, *, lands, error, rivals=(), readable=True):
        super().__init__()
        self.lands, self.error = lands, error
        self.rivals = list(rivals)
        self.readable = readable
        self.broken = False

    def put_if(self, key, data, expected):
        if key != REPO or expected is None or self.error is None:
            return super().put_if(key, data, expected)
        error, self.error = self.error, None
        if self.lands:
            super().put_if(key, data, expected)
        for rival in self.rivals:
            run_update(EntryPoint(self), rival, UpdatePolicy(max_log_entries=1), RIVAL)
        self.broken = not self.readable
        raise error

    def get_versioned(self, key):
        if self.broken:
            raise StorageError("unreachable", ErrorKind.IO)
        return super().get_versioned(key)


DOUBTFUL = [
    WriteOutcomeUnknown("timeout"),
    StorageError("reset by peer", ErrorKind.OBJECT_STORE),
]


class TestLostAnswers:
    def commit(self, storage, info, world, snapshot_id, child):
        entry = stored(storage, info)
        change = AddSnapshot("main", child(30), snapshot_id(3))
        return entry, lambda: attempt(entry, change, POLICY, world.surroundings)

    @pytest.mark.parametrize("error", [*DOUBTFUL, PreconditionFailed("412 after a repeated PUT")])
    @pytest.mark.parametrize("overtaken_by", [0, 1, 4])
    def test_it_had_landed(self, info, world, snapshot_id, child, error, overtaken_by):
        rivals = [CreateBranch(f"r{n}", snapshot_id(1)) for n in range(overtaken_by)]
        storage = Remote(lands=True, error=error, rivals=rivals)
        entry, go = self.commit(storage, info, world, snapshot_id, child)
        outcome = go()
        assert isinstance(outcome, Committed)
        assert outcome.info.branches["main"] == snapshot_id(30)
        assert backups(storage) == in_use(entry)
        assert len(backups(storage)) == 1 + overtaken_by

    @pytest.mark.parametrize("error", [*DOUBTFUL, PreconditionFailed("412")])
    @pytest.mark.parametrize("overtaken_by", [1, 4])
    def test_somebody_else_was_faster(self, info, world, snapshot_id, child, error, overtaken_by):
        rivals = [CreateBranch(f"r{n}", snapshot_id(1)) for n in range(overtaken_by)]
        storage = Remote(lands=False, error=error, rivals=rivals)
        entry, go = self.commit(storage, info, world, snapshot_id, child)
        assert go() == Lost()
        assert backups(storage) == in_use(entry)
        assert isinstance(go(), Committed)

    @pytest.mark.parametrize("error", DOUBTFUL)
    def test_nobody_knows_yet(self, info, world, snapshot_id, child, error):
        """The write may still be on its way: its backup must stay, and the caller must know."""
        storage = Remote(lands=False, error=error)
        _, go = self.commit(storage, info, world, snapshot_id, child)
        with pytest.raises(WriteOutcomeUnknown):
            go()
        assert len(backups(storage)) == 1

    @pytest.mark.parametrize("lands", [False, True])
    @pytest.mark.parametrize("error", [*DOUBTFUL, PreconditionFailed("412")])
    def test_the_store_is_gone(self, info, world, snapshot_id, child, lands, error):
        storage = Remote(lands=lands, error=error, readable=False)
        _, go = self.commit(storage, info, world, snapshot_id, child)
        with pytest.raises(WriteOutcomeUnknown):
            go()
        assert len(backups(storage)) == 1


def test_an_interrupt_leaves_old_or_new(info, world, snapshot_id):
    class Interrupted(MemoryStorage):
        def put_if(self, key, data, expected):
            if expected is not None:
                raise KeyboardInterrupt
            return super().put_if(key, data, expected)

    storage = Interrupted()
    entry = stored(storage, info)
    with pytest.raises(KeyboardInterrupt):
        run_update(entry, CreateBranch("x", snapshot_id(1)), POLICY, world.surroundings)
    assert "x" not in EntryPoint(storage).load().info.branches


def test_concurrent_updates_are_all_there(info, snapshot_id):
    storage = MemoryStorage()
    entry = stored(storage, info)
    errors = []

    def work(thread):
        try:
            for n in range(10):
                change = CreateBranch(f"{thread}-{n}", snapshot_id(1))
                run_update(entry, change, UpdatePolicy(initial_backoff_ms=1), REAL)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    info = EntryPoint(storage).load().info
    assert set(info.branches) == {"main", "dev"} | {f"{t}-{n}" for t in range(8) for n in range(10)}
    assert len(info.updates) == 81
    times = [update.updated_at for update in info.updates]
    assert all(newer > older for newer, older in pairwise(times))
    assert backups(storage) == in_use(entry)


def test_the_fate_of_a_swap_on_a_state_without_a_log_is_untold(info):
    before = replace(info, updates=OpsLog.from_entries(()))
    assert fate_of_swap(info, before, "repo.mine") is Fate.UNTOLD

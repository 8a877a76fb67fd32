"""A world without chance or time, a repository of three snapshots, and a storage that fails."""

from dataclasses import dataclass, field, replace

import pytest

from icechunk.errors import ErrorKind, StorageError
from icechunk.format.ops_log import RepoInitialized, RepoStatus, UpdateEntry
from icechunk.format.ops_table import OpsLog
from icechunk.format.repo_info import RepoInfo
from icechunk.format.snapshot_table import SnapshotEntry, SnapshotTable
from icechunk.repo.surroundings import Surroundings
from icechunk.storage.memory import MemoryStorage

START = 1_700_000_000_000_000


@dataclass
class FakeWorld:
    """Clock, sleep and ids that replay."""

    clock: int = START + 1_000_000
    slept: list[float] = field(default_factory=list)
    ids: int = 0

    def now_us(self):
        self.clock += 10
        return self.clock

    def random_id(self):
        self.ids += 1
        return self.ids.to_bytes(12, "big")

    @property
    def surroundings(self):
        return Surroundings(self.now_us, self.slept.append, lambda: 0.5, self.random_id)


class FaultyMemory(MemoryStorage):
    """Fails at the n-th effect, before or after it takes place."""

    def __init__(self):
        super().__init__()
        self.effects: list[str] = []
        self.fail_at: int | None = None
        self.after = False

    def _effect(self, name, run):
        number = len(self.effects)
        self.effects.append(name)
        failing = number == self.fail_at
        error = StorageError(f"injected at effect {number}, {name}", ErrorKind.IO)
        if failing and not self.after:
            raise error
        result = run()
        if failing:
            raise error
        return result

    def put(self, key, data):
        return self._effect(f"put {key}", lambda: super(FaultyMemory, self).put(key, data))

    def put_new(self, key, data):
        return self._effect(f"put_new {key}", lambda: super(FaultyMemory, self).put(key, data))

    def copy(self, source, target):
        run = super().get
        return self._effect(
            f"copy {target}", lambda: super(FaultyMemory, self).put(target, run(source))
        )

    def put_if(self, key, data, expected):
        run = super().put_if
        return self._effect(f"put_if {key}", lambda: run(key, data, expected))

    def delete(self, keys):
        keys = list(keys)
        run = super().delete
        return self._effect(f"delete {keys}", lambda: run(keys))

    def flush(self):
        return self._effect("flush", lambda: None)

    def arm(self, effect, *, after=False):
        self.effects = []
        self.fail_at = effect
        self.after = after


def snap(number):
    return bytes([number]) * 12


def make_info():
    """main -> 3 -> 2 -> 1; branch dev at 2; tag v1 at 2; deleted tag old; 9 is detached."""
    entries = [
        SnapshotEntry(snap(1), None, START + 1, "one", {"__icechunk": {"is_root": True}}),
        SnapshotEntry(snap(2), snap(1), START + 2, "two"),
        SnapshotEntry(snap(3), snap(2), START + 3, "three", {"a": [1, "x"]}),
        SnapshotEntry(snap(9), snap(1), START + 9, "detached"),
    ]
    return RepoInfo(
        snapshots=SnapshotTable.from_entries(entries),
        branches={"main": snap(3), "dev": snap(2)},
        tags={"v1": snap(2)},
        deleted_tags=("old",),
        status=RepoStatus(set_at=START),
        updates=OpsLog.from_entries([UpdateEntry(RepoInitialized(), START)]),
    )


@pytest.fixture
def info():
    return make_info()


@pytest.fixture
def world():
    return FakeWorld()


@pytest.fixture
def faulty():
    return FaultyMemory()


@pytest.fixture
def snapshot_id():
    return snap


@pytest.fixture
def child():
    """An entry for a new snapshot, by default on top of main."""

    def make(number, parent=3, flushed_at=START + 100, **changes):
        entry = SnapshotEntry(snap(number), snap(parent), flushed_at, f"number {number}")
        return replace(entry, **changes)

    return make


@pytest.fixture
def start_us():
    return START

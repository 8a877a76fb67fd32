"""Deleting many objects over a network that fails, is slow, and says so."""

import threading
import time
from collections import Counter
from dataclasses import replace

import pytest

from icechunk.errors import ErrorKind, StorageError
from icechunk.ops.garbage import delete
from icechunk.ops.garbage.delete import DeleteLimits, Deleter
from icechunk.repo.surroundings import REAL
from icechunk.storage.memory import MemoryStorage


class Distant(MemoryStorage):
    """Far away; `refuse` is asked of each request, given its number and keys, for an error."""

    is_local = False

    def __init__(self, refuse=lambda number, keys: None):
        super().__init__()
        self.requests, self.running, self.most = 0, 0, 0
        self._refuse, self._guard = refuse, threading.Lock()

    def delete(self, keys):
        keys = list(keys)
        with self._guard:
            self.requests += 1
            number = self.requests
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            time.sleep(0.002)
            if (error := self._refuse(number, keys)) is not None:
                raise error
            super().delete(keys)
        finally:
            with self._guard:
                self.running -= 1


def throttled():
    return StorageError("slow down", ErrorKind.THROTTLED)


def broken():
    return StorageError("no such luck\n\ncontext:\n   0: x", ErrorKind.STORAGE_OTHER)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(delete, "BATCH", 4)


def run(storage, count=200, pauses=None, **limits):
    keys = [f"chunks/{number:03}" for number in range(count)]
    for key in keys:
        storage.put(key, b"")
    told = []
    world = replace(REAL, sleep=lambda seconds: None if pauses is None else pauses.append(seconds))
    deleter = Deleter(storage, DeleteLimits(**limits), world)
    gone = deleter.delete(count, lambda a, b: keys[a:b], told.append)
    left = {info.key for info in storage.list()}
    assert [key not in left for key in keys] == gone.tolist()
    assert told == sorted(told)
    return deleter, gone


def test_more_and_more_at_once():
    storage = Distant()
    _, gone = run(storage, at_once=6)
    assert gone.all()
    assert storage.requests == 50
    assert 2 <= storage.most <= 6
    one = Distant()
    run(one, at_once=1)
    assert one.most == 1


def test_a_store_that_asks_for_patience():
    """It refuses every third batch the first time, and every ninth the second time, too."""
    asked = Counter()

    def refuse(number, keys):
        asked[keys[0]] += 1
        batch = int(keys[0][-3:]) // 4
        is_refused = batch % (3 if asked[keys[0]] == 1 else 9) == 0 and asked[keys[0]] <= 2
        return throttled() if is_refused else None

    pauses = []
    deleter, gone = run(Distant(refuse), pauses=pauses, failures_in_a_row=3)
    assert gone.all()
    assert deleter.throttled_batches == len(pauses) == 17 + 6
    assert not deleter.messages


def test_a_store_that_never_has_time():
    storage = Distant(lambda number, keys: throttled())
    pauses = []
    with pytest.raises(StorageError, match="slow down") as caught:
        run(storage, pauses=pauses, failures_in_a_row=4, at_once=1)
    assert caught.value.kind == "gc-deletes-failing"
    assert max(pauses) <= delete.LONGEST_PAUSE_SECONDS
    assert pauses[-1] >= delete.LONGEST_PAUSE_SECONDS / 2
    assert len(pauses) > 4


def test_one_that_cannot_be_deleted_is_found():
    bad = {"chunks/017", "chunks/150"}
    storage = Distant(lambda number, keys: broken() if bad & set(keys) else None)
    deleter, gone = run(storage)
    assert (~gone).nonzero()[0].tolist() == [17, 150]
    assert deleter.messages == ["no such luck"]


def test_nothing_can_be_deleted():
    storage = Distant(lambda number, keys: broken())
    with pytest.raises(StorageError, match="7 deletions in a row failed") as caught:
        run(storage, failures_in_a_row=7)
    assert caught.value.kind == "gc-deletes-failing"
    assert "no such luck" in caught.value.message
    assert storage.requests <= 7 + 10


def test_a_few_messages_are_enough():
    storage = Distant(
        lambda number, keys: StorageError(f"no {keys[0]}") if len(keys) == 1 else broken()
    )
    deleter, gone = run(storage, count=30, failures_in_a_row=1000)
    assert not gone.any()
    assert len(deleter.messages) == delete.MAX_MESSAGES


def test_in_order_nothing_goes_before_what_is_ahead():
    storage = Distant(lambda number, keys: broken() if "chunks/021" in keys else None)
    keys = [f"chunks/{number:03}" for number in range(40)]
    for key in keys:
        storage.put(key, b"")
    deleter = Deleter(storage, DeleteLimits(), REAL)
    gone = deleter.delete(40, lambda a, b: keys[a:b], lambda _: None, in_order=True)
    assert gone.tolist() == [True] * 21 + [False] * 19
    assert storage.most == 1

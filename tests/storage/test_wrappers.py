"""The wrapping storages of the testing kit."""

import asyncio
import pickle
import time

import pytest

from icechunk.storage import MemoryStorage, PreconditionFailed
from icechunk.testing import CountingStorage, FaultyStorage, InjectedFault, LatencyStorage


def plan(storage):
    storage.put_new("chunks/A", b"1")
    storage.put("snapshots/B", b"2")
    storage.flush()
    version = storage.put_if("repo", b"3", None)
    storage.put_if("repo", b"4", version)
    storage.delete(["chunks/A", "snapshots/B"])


EFFECTS = [
    ("put_new", "chunks/A"),
    ("put", "snapshots/B"),
    ("flush", ""),
    ("put_if", "repo"),
    ("put_if", "repo"),
    ("delete", "chunks/A"),
    ("delete", "snapshots/B"),
]


def contents(storage):
    return {info.key: storage.get(info.key) for info in storage.list()}


def test_effects_are_recorded():
    storage = FaultyStorage(MemoryStorage())
    plan(storage)
    assert storage.effects == EFFECTS


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("fail_at", range(len(EFFECTS)))
def test_every_effect_can_fail(fail_at, after):
    inner = MemoryStorage()
    storage = FaultyStorage(inner, fail_at=fail_at, after=after)
    with pytest.raises(InjectedFault, match=f"effect {fail_at}"):
        plan(storage)
    landed = [EFFECTS[i] for i in range(fail_at + after)]
    expected = {}
    for operation, key in landed:
        if operation == "delete":
            del expected[key]
        elif operation != "flush":
            expected[key] = {"chunks/A": b"1", "snapshots/B": b"2"}.get(key) or (
                b"4" if key in expected else b"3"
            )
    assert contents(inner) == expected
    storage.put("more", b"works again")


def test_a_dead_storage_stays_dead():
    storage = FaultyStorage(MemoryStorage(), fail_at=1, sticky=True)
    storage.put("a", b"1")
    with pytest.raises(InjectedFault):
        storage.put("b", b"2")
    for attempt in (lambda: storage.get("a"), lambda: list(storage.list()), storage.flush):
        with pytest.raises(InjectedFault, match="gone"):
            attempt()
    assert contents(storage.inner) == {"a": b"1"}


def test_the_kind_of_failure_and_of_effect_can_be_chosen():
    storage = FaultyStorage(
        MemoryStorage(), fail_at=0, fault=PreconditionFailed, operations=frozenset({"put_if"})
    )
    storage.put("a", b"1")
    with pytest.raises(PreconditionFailed, match="injected"):
        storage.put_if("repo", b"1", None)


def test_requests_are_counted():
    storage = CountingStorage(MemoryStorage())
    plan(storage)
    assert storage.counts["put_if", "repo"] == 2
    assert storage.counts["put_new", "chunks"] == 1
    assert (storage.writes(), storage.reads()) == (4, 0)
    storage.get("repo")
    asyncio.run(storage.get_range_async("repo", 0, 1))
    assert storage.reads() == 2
    assert storage.total() == 9
    storage.reset()
    assert storage.total() == 0


def test_requests_take_time():
    storage = LatencyStorage(MemoryStorage(), write_latency_ms=20, read_latency_ms=10)
    start = time.perf_counter()
    storage.put("a", b"1")
    assert time.perf_counter() - start >= 0.02

    async def reads():
        await asyncio.gather(*(storage.get_async("a") for _ in range(50)))

    start = time.perf_counter()
    asyncio.run(reads())
    assert 0.01 <= time.perf_counter() - start < 0.4
    assert not storage.is_local


def test_wrappers_pickle():
    storage = CountingStorage(MemoryStorage())
    storage.put("a", b"1")
    copy = pickle.loads(pickle.dumps(storage))
    assert copy.inner is storage.inner
    assert copy.counts == storage.counts

"""The cache: what it keeps, that it fetches once, and what happens when a fetch fails."""

import os
import random
import threading
from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icechunk.assets.cache import WeightedCache
from icechunk.errors import ErrorKind, StorageError


def never():
    raise AssertionError("fetched although kept")


@given(
    st.integers(0, 12),
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9)), max_size=60),
)
def test_keeps_what_a_slow_twin_keeps(capacity, accesses):
    cache: WeightedCache[int, tuple[int, int]] = WeightedCache("v", capacity, lambda v: v[1])
    twin: OrderedDict[int, tuple[int, int]] = OrderedDict()
    for key, weight in accesses:
        got = cache.get(key, lambda key=key, weight=weight: (key, weight))
        if key in twin:
            assert got == twin[key]
            twin.move_to_end(key)
        elif max(1, weight) <= capacity:
            twin[key] = (key, weight)
            while sum(max(1, w) for _, w in twin.values()) > capacity:
                twin.popitem(last=False)
        assert {k: cache.peek(k) for k in list(twin)} == twin
        twin = OrderedDict((k, twin[k]) for k in twin)  # peeking used every key, in this order
        assert len(cache) == len(twin)
        assert cache.weight == sum(max(1, w) for _, w in twin.values())


def test_put_replaces_and_counts_once():
    cache: WeightedCache[str, int] = WeightedCache("v", 10, lambda v: v)
    cache.put("a", 4)
    cache.put("a", 6)
    assert (cache.weight, len(cache), cache.peek("a"), "a" in cache) == (6, 1, 6, True)
    cache.put("a", 11)  # too heavy: not even the old value stays
    assert (cache.weight, len(cache), cache.peek("a"), "a" in cache) == (0, 0, None, False)
    cache.put("b", 1)
    cache.clear()
    assert (cache.weight, len(cache)) == (0, 0)


def test_warns_once_about_heavy_values(caplog):
    cache: WeightedCache[int, int] = WeightedCache("thing", 10, lambda v: v, setting="caching.x")
    cache.put(1, 5)
    assert not caplog.records
    cache.put(2, 6)
    cache.get(3, lambda: 60)
    [record] = caplog.records
    assert "thing weighs 6" in record.getMessage()
    assert "caching.x" in record.getMessage()


def test_warns_about_a_smaller_part_where_several_are_in_use(caplog):
    cache: WeightedCache[int, int] = WeightedCache("thing", 10, lambda v: v, heavy_part=5)
    cache.put(1, 2)
    assert not caplog.records
    cache.put(2, 3)
    cache.put(3, 3)
    [record] = caplog.records
    assert "more than 1/5 of its cache (10)" in record.getMessage()


def test_a_grown_value_makes_room_or_goes():
    cache: WeightedCache[str, list[int]] = WeightedCache("v", 10, len)
    small, growing = [0] * 4, [0] * 4
    cache.put("growing", growing)
    cache.put("small", small)
    growing.extend([0] * 2)
    cache.reweigh("growing")
    assert (cache.weight, len(cache)) == (10, 2)
    growing.append(0)
    cache.reweigh("growing")
    assert (cache.weight, "small" in cache, "growing" in cache) == (7, False, True)
    growing.extend([0] * 10)
    cache.reweigh("growing")
    assert (cache.weight, len(cache)) == (0, 0)
    cache.reweigh("growing")
    assert len(cache) == 0


def test_a_value_that_cannot_be_weighed_is_an_error_for_everybody():
    cache: WeightedCache[str, int] = WeightedCache("v", 10, lambda v: 1 // v)
    with pytest.raises(ZeroDivisionError):
        cache.get("k", lambda: 0)
    assert cache.get("k", lambda: 1) == 1
    assert not cache._flights


def in_threads(count, work):
    threads = [threading.Thread(target=work, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("capacity", [0, 100])
def test_concurrent_threads_share_one_fetch(capacity):
    cache: WeightedCache[str, object] = WeightedCache("v", capacity, lambda v: 1)
    fetches, results = [], []
    entered, go = threading.Event(), threading.Event()

    def load():
        fetches.append(1)
        entered.set()
        go.wait(10)
        return object()

    first = threading.Thread(target=lambda: results.append(cache.get("k", load)))
    first.start()
    entered.wait(10)
    others = [
        threading.Thread(target=lambda: results.append(cache.get("k", load))) for _ in range(5)
    ]
    for thread in others:
        thread.start()
    go.set()
    for thread in [first, *others]:
        thread.join(10)
    assert len(results) == 6
    if capacity:
        assert len(fetches) == 1
        assert len(set(map(id, results))) == 1


def test_a_failed_fetch_is_not_kept():
    cache: WeightedCache[str, int] = WeightedCache("v", 10, lambda v: 1)

    def fail():
        raise StorageError("down", ErrorKind.IO)

    with pytest.raises(StorageError):
        cache.get("k", fail)
    assert cache.get("k", lambda: 1) == 1


@pytest.mark.parametrize("error", [StorageError("down", ErrorKind.IO), KeyboardInterrupt()])
def test_waiters_get_our_errors_and_retry_after_others(error):
    cache: WeightedCache[str, int] = WeightedCache("v", 10, lambda v: 1)
    entered, go = threading.Event(), threading.Event()
    outcomes: list[object] = []

    def fail():
        entered.set()
        go.wait(10)
        raise error

    def first():
        try:
            cache.get("k", fail)
        except BaseException as caught:
            outcomes.append(caught)

    def second():
        try:
            outcomes.append(cache.get("k", lambda: 7))
        except BaseException as caught:
            outcomes.append(caught)

    one = threading.Thread(target=first)
    one.start()
    entered.wait(10)
    flight = cache._flights["k"]
    two = threading.Thread(target=second)
    two.start()
    # The second thread is either waiting or about to find no flight; both must work out.
    go.set()
    one.join(10)
    two.join(10)
    assert flight.done.is_set()
    assert error in outcomes
    other = next(o for o in outcomes if o is not error)
    if isinstance(error, StorageError):
        assert other == 7 or (isinstance(other, StorageError) and other is not error)
    else:
        assert other == 7
    assert cache.get("k", lambda: 8) in (7, 8)


def test_many_threads_many_keys():
    cache: WeightedCache[int, int] = WeightedCache("v", 20, lambda v: 1)
    wrong = []

    def work(seed):
        chance = random.Random(seed)
        for _ in range(3000):
            key = chance.randrange(40)
            if cache.get(key, lambda key=key: key * 2) != key * 2:
                wrong.append(key)

    in_threads(6, work)
    assert not wrong
    assert cache.weight == len(cache) == 20
    assert not cache._flights


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_usable_in_a_forked_child():
    """Fork while other threads hammer the cache and one fetch never ends."""
    cache: WeightedCache[int, int] = WeightedCache("v", 50, lambda v: 1)
    cache.put(1000, 1)
    stop, hang, entered = threading.Event(), threading.Event(), threading.Event()

    def hammer():
        chance = random.Random(1)
        while not stop.is_set():
            key = chance.randrange(100)
            cache.get(key, lambda key=key: key)

    def stuck():
        entered.set()
        hang.wait(60)
        return -1

    threads = [threading.Thread(target=hammer) for _ in range(2)]
    threads.append(threading.Thread(target=lambda: cache.get(999, stuck)))
    for thread in threads:
        thread.start()
    try:
        entered.wait(10)
        for _ in range(20):
            child = os.fork()
            if child == 0:
                try:
                    ok = cache.get(999, lambda: 5) == 5  # the parent's fetch is not waited for
                    ok = ok and cache.get(7, lambda: 7) == 7
                    os._exit(0 if ok else 1)
                finally:
                    os._exit(2)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        hang.set()
        for thread in threads:
            thread.join(10)

"""The same work on many objects: order, how many at once, errors, and threads that end."""

import threading

import pytest

from icechunk.assets.workers import Workers


class Work:
    """Doubles numbers; knows how many of them were being doubled at once."""

    def __init__(self, meet=1):
        self.lock = threading.Condition()
        self.running = self.peak = 0
        self.meet = meet
        self.done = []

    def __call__(self, number):
        with self.lock:
            self.running += 1
            self.peak = max(self.peak, self.running)
            self.lock.notify_all()
            self.lock.wait_for(lambda: self.peak >= self.meet, 10)
        with self.lock:
            self.running -= 1
            self.done.append(number)
        return 2 * number


def ours():
    return [thread for thread in threading.enumerate() if thread.name.startswith("ours")]


@pytest.mark.parametrize("at_once", [2, 3, 10, 100])
def test_in_order_and_so_many_at_once(at_once):
    work = Work(meet=min(at_once, 20))
    with Workers(is_local=False, name="ours") as workers:
        for _ in range(2):
            numbers = list(range(20))
            assert list(workers.map(work, numbers, at_once)) == [2 * n for n in numbers]
    assert 1 < work.peak <= at_once
    assert not ours()


@pytest.mark.parametrize(
    ("is_local", "at_once", "count"), [(True, 9, 5), (False, 1, 5), (False, 9, 1)]
)
def test_without_threads_where_they_are_of_no_use(is_local, at_once, count):
    threads = set()

    def work(number):
        threads.add(threading.get_ident())
        return number

    with Workers(is_local=is_local, name="ours") as workers:
        assert list(workers.map(work, range(count), at_once)) == list(range(count))
        assert not ours()
    assert threads == {threading.get_ident()}


def test_no_more_is_begun_than_is_asked_for():
    work = Work()
    with Workers(is_local=False, name="ours") as workers:
        results = workers.map(work, range(100), 3)
        assert [next(results) for _ in range(4)] == [0, 2, 4, 6]
    assert len(work.done) <= 4 + 3


def test_an_error_ends_the_work():
    def fail(number):
        if number == 3:
            raise OSError("no such thing")
        return number

    results = []
    with Workers(is_local=False, name="ours") as workers, pytest.raises(OSError, match="no such"):
        results.extend(workers.map(fail, range(10), 2))
    assert not ours()

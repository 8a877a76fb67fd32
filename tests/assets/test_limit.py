"""The bound on requests: counted over threads and event loops, fair, and gone in a child."""

import asyncio
import gc
import os
import threading
import time

import pytest

from icechunk.assets.limit import RequestLimit, limit_of


class Meter:
    """Counts who is inside at the same time."""

    def __init__(self):
        self.lock = threading.Lock()
        self.now = self.most = 0

    def enter(self, by=1):
        with self.lock:
            self.now += by
            self.most = max(self.most, self.now)

    def leave(self, by=1):
        with self.lock:
            self.now -= by


def test_threads_and_several_loops_share_one_bound():
    limit, meter = RequestLimit(3), Meter()

    async def request(weight):
        async with limit.hold_async(weight):
            meter.enter(min(weight, 3))
            await asyncio.sleep(0.001)
            meter.leave(min(weight, 3))

    async def many():
        await asyncio.gather(*(request(1 + i % 5) for i in range(40)))

    def blocking():
        for i in range(20):
            with limit.hold(1 + i % 2):
                meter.enter(1 + i % 2)
                time.sleep(0.0005)
                meter.leave(1 + i % 2)

    threads = [threading.Thread(target=lambda: asyncio.run(many())) for _ in range(3)]
    threads += [threading.Thread(target=blocking) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert meter.most == 3
    assert limit.in_use == 0


def test_first_come_first_served():
    limit, order = RequestLimit(2), []

    async def request(name, weight):
        async with limit.hold_async(weight):
            order.append(name)
            await asyncio.sleep(0)

    async def main():
        async with limit.hold_async(2):
            waiting = []
            for name, weight in (("large", 2), ("small", 1), ("last", 1)):
                waiting.append(asyncio.ensure_future(request(name, weight)))
                await asyncio.sleep(0)
        await asyncio.gather(*waiting)

    asyncio.run(main())
    assert order == ["large", "small", "last"]


def test_a_cancelled_coroutine_gives_its_place_away():
    limit = RequestLimit(1)

    async def main():
        async with limit.hold_async():
            waiting = [asyncio.ensure_future(hold()) for _ in range(3)]
            await asyncio.sleep(0)
            waiting[0].cancel()
            await asyncio.sleep(0)
        waiting[1].cancel()  # admitted at this very moment
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert results[2] == "done"

    async def hold():
        async with limit.hold_async():
            return "done"

    asyncio.run(main())
    assert limit.in_use == 0


def test_a_loop_that_ended_with_somebody_in_line_holds_up_nobody():
    limit = RequestLimit(1)
    loop = asyncio.new_event_loop()
    with limit.hold():
        coroutine = limit.hold_async().__aenter__()
        task = loop.create_task(coroutine)
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
    with limit.hold():
        assert limit.in_use == 1
    task._log_destroy_pending = False
    del task, coroutine
    gc.collect()
    assert limit.in_use == 0


def test_a_dropped_coroutine_gives_its_room_back():
    limit = RequestLimit(1)

    async def stuck():
        async with limit.hold_async():
            await Never()

    class Never:
        def __await__(self):
            yield

    coroutine = stuck()
    coroutine.send(None)
    assert limit.in_use == 1
    del coroutine
    gc.collect()
    assert limit.in_use == 0


def test_an_error_inside_frees_the_room():
    limit = RequestLimit(1)
    with pytest.raises(ZeroDivisionError), limit.hold():
        raise ZeroDivisionError
    assert limit.in_use == 0


def test_one_limit_per_storage_and_size():
    one = limit_of(("somewhere",), 5)
    assert limit_of(("somewhere",), 5) is one
    assert limit_of(("somewhere",), 6) is not one
    assert limit_of(("elsewhere",), 5) is not one


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_begins_with_no_requests():
    limit = RequestLimit(1)
    entered, leave = threading.Event(), threading.Event()

    def request():
        with limit.hold():
            entered.set()
            leave.wait(30)

    thread = threading.Thread(target=request)
    thread.start()
    entered.wait(30)
    child = os.fork()
    if child == 0:
        with limit.hold():
            os._exit(7 if limit.in_use == 1 else 8)
    _, status = os.waitpid(child, 0)
    leave.set()
    thread.join(30)
    assert os.waitstatus_to_exitcode(status) == 7

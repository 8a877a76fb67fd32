"""Both protocols of `AsyncCloseableIterator`, alone and mixed."""

import threading

import pytest

from icechunk._iterators import AsyncCloseableIterator


@pytest.mark.parametrize("blocking", [False, True])
class TestProtocols:
    def test_for(self, blocking):
        items = AsyncCloseableIterator(range(3), blocking=blocking)
        assert iter(items) is items
        assert list(items) == [0, 1, 2]
        assert list(items) == []

    async def test_async_for(self, blocking):
        items = AsyncCloseableIterator(range(1000), blocking=blocking)
        assert [item async for item in items] == list(range(1000))
        assert [item async for item in items] == []
        assert list(items) == []

    async def test_mixed(self, blocking):
        items = AsyncCloseableIterator(range(10), blocking=blocking)
        seen = [next(items), await anext(items), await anext(items), next(items)]
        seen += [item async for item in items]
        assert seen == list(range(10))

    async def test_error_comes_after_the_items_before_it(self, blocking):
        def produce():
            yield from range(5)
            raise OSError("gone")

        items = AsyncCloseableIterator(produce(), blocking=blocking)
        seen = [await anext(items) for _ in range(5)]
        with pytest.raises(OSError, match="gone"):
            await anext(items)
        assert seen == list(range(5))
        with pytest.raises(StopAsyncIteration):
            await anext(items)
        assert list(items) == []

    async def test_aclose_closes_the_source(self, blocking):
        closed = []

        def produce():
            try:
                yield from range(5)
            finally:
                closed.append(True)

        items = AsyncCloseableIterator(produce(), blocking=blocking)
        assert await anext(items) == 0
        await items.aclose()
        await items.aclose()
        assert closed == [True]
        assert list(items) == []


async def test_a_blocking_source_runs_outside_the_loop_thread():
    threads = set()

    def produce():
        for n in range(5):
            threads.add(threading.get_ident())
            yield n

    assert [n async for n in AsyncCloseableIterator(produce(), blocking=True)] == list(range(5))
    assert threading.get_ident() not in threads


def test_threads_share_the_items():
    items = AsyncCloseableIterator(iter(range(10_000)))
    seen: list[list[int]] = [[] for _ in range(4)]
    threads = [threading.Thread(target=lambda mine=mine: mine.extend(items)) for mine in seen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(n for mine in seen for n in mine) == list(range(10_000))

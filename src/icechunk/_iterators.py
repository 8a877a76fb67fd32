"""One iterator for both worlds: usable with ``for`` and with ``async for``.

Histories, operation logs and key listings are produced by plain generators. This class hands such a
generator to users as an object with both iteration protocols. It knows nothing of what it carries.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Generic, TypeVar

from icechunk._fork import new_lock

__all__ = ["AsyncCloseableIterator"]

T = TypeVar("T", covariant=True)

MAX_BATCH = 256


class AsyncCloseableIterator(Generic[T]):
    """Iterator that serves ``for`` and ``async for`` alike, once.

    Parameters
    ----------
    items
        Where the items come from. A generator is closed together with this iterator.
    blocking
        Whether taking an item may wait for a slow store. If so, ``async for`` takes the items in a
        worker thread, in batches growing from 1 to 256, so that the event loop stays responsive and
        the thread hop is paid rarely.

    Notes
    -----
    After the last item, after an error, and after `aclose`, both protocols keep answering that the
    iteration is over. Concurrent consumers each get a share of the items.
    """

    __slots__ = ("_batch", "_blocking", "_error", "_items", "_lock", "_ready")

    def __init__(self, items: Iterable[T], *, blocking: bool = False) -> None:
        self._items: Iterator[T] | None = iter(items)
        self._blocking = blocking
        self._batch = 1
        self._error: BaseException | None = None
        self._ready: deque[T] = deque()
        self._lock = new_lock()

    def __iter__(self) -> AsyncCloseableIterator[T]:
        return self

    def __next__(self) -> T:
        with self._lock:
            if not self._ready:
                self._take(1)
            if not self._ready:
                raise StopIteration
            return self._ready.popleft()

    def __aiter__(self) -> AsyncCloseableIterator[T]:
        return self

    async def __anext__(self) -> T:
        found = await asyncio.to_thread(self._pop) if self._must_hop() else self._pop()
        if not found:
            raise StopAsyncIteration
        return found[0]

    async def aclose(self) -> None:
        """Give up the rest of the items and release whatever produces them."""
        if self._blocking:
            await asyncio.to_thread(self._close)
        else:
            self._close()

    def _must_hop(self) -> bool:
        # Read without the lock: at worst a hop too many, or one short wait on the loop's thread.
        return self._blocking and not self._ready and self._items is not None

    def _pop(self) -> tuple[T, ...]:
        """Take one item, as a tuple since ``StopIteration`` cannot cross from thread to task."""
        with self._lock:
            if not self._ready:
                self._take(self._batch)
                self._batch = min(self._batch * 2, MAX_BATCH)
            return (self._ready.popleft(),) if self._ready else ()

    def _take(self, count: int) -> None:
        if self._items is None:
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            return
        try:
            self._ready.extend(islice(self._items, count))
        except BaseException as error:
            self._items = None
            if not self._ready:
                raise
            self._error = error  # the items before it are delivered first
        if not self._ready:
            self._items = None

    def _close(self) -> None:
        with self._lock:
            self._ready.clear()
            self._error = None
            items, self._items = self._items, None
        close: Any = getattr(items, "close", None)
        if close is not None:
            close()

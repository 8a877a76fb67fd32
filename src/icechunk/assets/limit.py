"""How many requests a repository has under way at once, whoever makes them.

One limit stands for one repository in this process: all its sessions, forks and unpickled copies
share it, on any number of threads and event loops. Waiting costs a thread only the caller's own,
and an event loop nothing. First come, first served.

Nothing here knows what the requests are for.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import cache
from weakref import WeakSet, WeakValueDictionary

from icechunk._fork import in_child, new_rlock

__all__ = ["RequestLimit", "limit_of"]


@dataclass(eq=False, slots=True)
class _Waiter:
    """Somebody in line: a thread waits for the event, a coroutine for the future."""

    weight: int
    event: threading.Event | None = None
    future: asyncio.Future[None] | None = None
    admitted: bool = False

    def call(self) -> bool:
        """Say that it is their turn; False when their event loop is gone."""
        if self.event is not None:
            self.event.set()
            return True
        assert self.future is not None
        try:
            self.future.get_loop().call_soon_threadsafe(_finish, self.future)
        except RuntimeError:  # the loop was closed with the coroutine still in it
            return False
        return True


class RequestLimit:
    """At most `size` requests at once; what needs more than that gets all of them.

    A forked child begins with none under way: those of its parent do not exist there.
    """

    __slots__ = ("__weakref__", "_in_use", "_lock", "_waiters", "size")

    def __init__(self, size: int) -> None:
        self.size = max(1, size)
        self._in_use = 0
        self._waiters: deque[_Waiter] = deque()
        # Reentrant: a coroutine that is dropped half-way gives its room back whenever it is
        # collected, which may be inside of a block below.
        self._lock = new_rlock()
        _survive_forks()
        _limits.add(self)

    @property
    def in_use(self) -> int:
        """Requests under way now."""
        return self._in_use

    @contextmanager
    def hold(self, requests: int = 1) -> Iterator[None]:
        """Wait for room, in this thread, and keep it for the block."""
        weight = min(requests, self.size)
        waiter = self._enter(weight)
        if waiter is not None:
            waiter.event = event = threading.Event()
            self._line_up(waiter)
            try:
                event.wait()
            except BaseException:
                self._leave_line(waiter)
                raise
        try:
            yield
        finally:
            self._leave(weight)

    @asynccontextmanager
    async def hold_async(self, requests: int = 1) -> AsyncIterator[None]:
        """Do as `hold` does, without holding up the event loop."""
        weight = min(requests, self.size)
        waiter = self._enter(weight)
        if waiter is not None:
            waiter.future = future = asyncio.get_running_loop().create_future()
            self._line_up(waiter)
            try:
                await future
            except BaseException:
                self._leave_line(waiter)
                raise
        try:
            yield
        finally:
            self._leave(weight)

    def _enter(self, weight: int) -> _Waiter | None:
        """Take the room if it is there and nobody is in line for it."""
        with self._lock:
            if not self._waiters and self._in_use + weight <= self.size:
                self._in_use += weight
                return None
        return _Waiter(weight)

    def _line_up(self, waiter: _Waiter) -> None:
        with self._lock:
            self._waiters.append(waiter)
            self._admit()  # room may have come free since we looked

    def _leave(self, weight: int) -> None:
        with self._lock:
            # In a child the block of the forking thread ends too, with nothing counted any more.
            self._in_use = max(0, self._in_use - weight)
            self._admit()

    def _leave_line(self, waiter: _Waiter) -> None:
        """Give up waiting, or the room that was given at the same moment."""
        with self._lock:
            if waiter.admitted:
                self._in_use = max(0, self._in_use - waiter.weight)
            elif waiter in self._waiters:
                self._waiters.remove(waiter)
            self._admit()

    def _admit(self) -> None:
        while self._waiters and self._in_use + self._waiters[0].weight <= self.size:
            waiter = self._waiters.popleft()
            if waiter.call():
                waiter.admitted = True
                self._in_use += waiter.weight


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


_by_place: WeakValueDictionary[tuple[object, ...], RequestLimit] = WeakValueDictionary()
_limits: WeakSet[RequestLimit] = WeakSet()


def limit_of(identity: tuple[str, ...], size: int) -> RequestLimit:
    """Return the limit of the repository in a storage, by the storage's identity."""
    place = (identity, size)
    found = _by_place.get(place)
    # Threads that come here at once agree on one of their limits.
    return found or _by_place.setdefault(place, RequestLimit(size))


@cache
def _survive_forks() -> None:
    in_child(_forget_requests)


def _forget_requests() -> None:
    for limit in _limits:
        limit._in_use = 0
        limit._waiters.clear()

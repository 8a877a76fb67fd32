"""Doing the same to many objects: in threads where storage is far away, else one by one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Final, Self, TypeVar

__all__ = ["MAX_THREADS", "Workers"]

T = TypeVar("T")
R = TypeVar("R")

#: Threads that wait for an object store; more of them only wait for each other.
MAX_THREADS: Final = 32


class Workers:
    """Threads that are made when they are needed first, and end with the block.

    Parameters
    ----------
    is_local
        Whether storage answers at once, so that threads would only cost time.
    name
        Beginning of the threads' names.
    """

    def __init__(self, is_local: bool, name: str) -> None:
        self._is_local = is_local
        self._name = name
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def map(self, work: Callable[[T], R], items: Sequence[T], at_once: int) -> Iterator[R]:
        """Yield the result for every item, in order.

        No more than `at_once` are under way or wait to be taken, and the next one is begun when a
        result is asked for: whoever is done with a result before asking for the next has at most
        that many in memory.
        """
        if self._is_local or min(at_once, len(items)) <= 1:
            yield from map(work, items)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix=self._name)
        submit = self._pool.submit
        rest = iter(items)
        running = deque(submit(work, item) for item in islice(rest, at_once))
        while running:
            result = running.popleft().result()
            running.extend(submit(work, item) for item in islice(rest, 1))
            yield result

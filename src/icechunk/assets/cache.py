"""A weight-bounded least-recently-used cache that fetches each key once, however many threads ask.

Values are immutable objects under names that are never reused, so nothing here invalidates: an
entry leaves only when room is needed. The cache knows neither storage nor formats; the caller
passes a loader.

One lock serves every cache of the process. It is held for dictionary operations only, never while a
loader runs, and a fork waits for it, so a child process starts with consistent caches.
"""

from __future__ import annotations

import copy
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

from icechunk._fork import wait_for
from icechunk.errors import IcechunkError

__all__ = ["WeightedCache", "process_lock"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

log = logging.getLogger(__name__)


_lock: Final = threading.Lock()


def process_lock() -> threading.Lock:
    """Return the one lock of all caches, for those who keep tables of caches."""
    wait_for(_lock)
    return _lock


class _Flight(Generic[V]):
    """A fetch under way: its result or error, and the process whose thread is running it."""

    __slots__ = ("done", "error", "pid", "value")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.pid = os.getpid()
        self.value: tuple[V] | None = None
        self.error: BaseException | None = None


class WeightedCache(Generic[K, V]):
    """Keep the most recently used values while their weights sum to at most a capacity.

    Parameters
    ----------
    name
        What is cached, for the log message about a capacity that is too small.
    capacity
        Largest sum of weights. With 0 nothing is kept, but concurrent fetches are still shared.
    weigh
        Weight of a value, in the unit of `capacity`. Values count as 1 at least.
    setting
        Name of the configuration setting to raise when one value needs too much of the cache.
    heavy_part
        A value heavier than the capacity divided by this is warned about, once.
    """

    __slots__ = (
        "__weakref__",
        "_capacity",
        "_entries",
        "_flights",
        "_heavy_part",
        "_name",
        "_setting",
        "_warned",
        "_weigh",
        "_weight",
    )

    def __init__(
        self,
        name: str,
        capacity: int,
        weigh: Callable[[V], int],
        *,
        setting: str = "",
        heavy_part: int = 2,
    ) -> None:
        wait_for(_lock)
        self._name = name
        self._capacity = capacity
        self._weigh = weigh
        self._setting = setting
        self._heavy_part = heavy_part
        self._warned = False
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._flights: dict[K, _Flight[V]] = {}
        self._weight = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    @property
    def weight(self) -> int:
        """Sum of the weights of what is kept now."""
        return self._weight

    def peek(self, key: K) -> V | None:
        """Return the kept value of `key`, if any, and mark it as recently used."""
        with _lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry[0]

    def get(self, key: K, load: Callable[[], V]) -> V:
        """Return the value of `key`, calling `load` if it is neither kept nor being fetched.

        A failed load is not remembered. Threads that waited for it get its error if it is one of
        ours, and otherwise (an interrupt in the loading thread, say) fetch for themselves.
        """
        while True:
            with _lock:
                entry = self._entries.get(key)
                if entry is not None:
                    self._entries.move_to_end(key)
                    return entry[0]
                flight = self._flights.get(key)
                # A flight of another process was inherited by a fork: no thread here will finish
                # it.
                if flight is None or flight.pid != os.getpid():
                    mine: _Flight[V] = _Flight()
                    self._flights[key] = mine
                    break
            flight.done.wait()
            if flight.value is not None:
                return flight.value[0]
            if isinstance(flight.error, IcechunkError):
                raise copy.copy(flight.error)  # every thread adds its own context on the way up
        return self._fly(key, mine, load)

    def put(self, key: K, value: V) -> None:
        """Keep `value` under `key`, dropping the least recently used values until it fits."""
        weight = max(1, self._weigh(value))
        with _lock:
            self._store(key, value, weight)
        self._warn_if_heavy(weight)

    def reweigh(self, key: K) -> None:
        """Weigh a kept value again because it grew, dropping others, or itself, for the room."""
        with _lock:
            entry = self._entries.get(key)
            if entry is None:
                return
            weight = max(1, self._weigh(entry[0]))
            self._store(key, entry[0], weight)
        self._warn_if_heavy(weight)

    def clear(self) -> None:
        """Forget everything kept; fetches under way go on."""
        with _lock:
            self._entries.clear()
            self._weight = 0

    def _fly(self, key: K, flight: _Flight[V], load: Callable[[], V]) -> V:
        try:
            value = load()
            weight = max(1, self._weigh(value))
        except BaseException as error:
            with _lock:
                self._land(key, flight)
            flight.error = copy.copy(error) if isinstance(error, IcechunkError) else error
            flight.done.set()
            raise
        # Kept before it is announced: whoever comes in between finds the entry, not a gap.
        with _lock:
            self._store(key, value, weight)
            self._land(key, flight)
        flight.value = (value,)
        flight.done.set()
        self._warn_if_heavy(weight)
        return value

    def _land(self, key: K, flight: _Flight[V]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]

    def _store(self, key: K, value: V, weight: int) -> None:
        old = self._entries.pop(key, None)
        if old is not None:
            self._weight -= old[1]
        if weight > self._capacity:
            return
        self._entries[key] = (value, weight)
        self._weight += weight
        while self._weight > self._capacity:
            _, (_, dropped) = self._entries.popitem(last=False)
            self._weight -= dropped

    def _warn_if_heavy(self, weight: int) -> None:
        if self._warned or self._capacity == 0 or weight * self._heavy_part <= self._capacity:
            return
        self._warned = True
        log.warning(
            "One %s weighs %d, more than 1/%d of its cache (%d): such objects will be fetched time"
            " and again. Raise %s in the repository configuration.",
            self._name,
            weight,
            self._heavy_part,
            self._capacity,
            self._setting or "the capacity",
        )

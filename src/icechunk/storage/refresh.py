"""Credentials that a function of the user's hands out, called as rarely as their life allows.

The function travels as its pickle. In each process all copies of it share one value, so a thousand
tasks that each unpickle a repository ask for credentials once; whoever comes while the function
runs waits for its answer. A value is asked for anew two to three minutes before it expires, at a
random moment, lest all workers of a cluster do it together.
"""

from __future__ import annotations

import pickle
import random
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar

from icechunk._fork import new_lock

__all__ = ["Expiring", "Source", "pickled", "source_of"]

_EARLIEST = 180.0  # seconds before expiry
_LATEST = 120.0
_UNDATED_LIFE = timedelta(minutes=15)  # among clients; one that has such a value keeps it
_MOST_SOURCES = 128


class Expiring(Protocol):
    """Credentials that know when they stop working."""

    @property
    def expires_after(self) -> datetime | None:
        """The moment, None for never."""


T = TypeVar("T", bound=Expiring)


def pickled(function: Callable[[], Any], *, call: bool) -> tuple[bytes, Any]:
    """Pickle a function at once, so that one that cannot travel fails here; perhaps call it."""
    return pickle.dumps(function), function() if call else None


class Source(Generic[T]):
    """The latest credentials of one function.

    Parameters
    ----------
    function
        The pickled function.
    kinds
        Types of which it returns instances.
    clock, spread
        The present moment, and a random number between two.
    """

    def __init__(
        self,
        function: bytes,
        kinds: tuple[type[T], ...],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        spread: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._function = function
        self._kinds = kinds
        self._clock = clock
        self._spread = spread
        self._lock = new_lock()
        self._held: tuple[T, datetime] | None = None  # a value and when to ask for another

    def value(self, initial: T | None = None) -> T:
        """Return credentials that are good for a while, `initial` if it is and none are known.

        Raises
        ------
        Exception
            Whatever the function raises, or `TypeError` if it returns something else.
        """
        if (held := self._held) is not None and self._clock() < held[1]:
            return held[0]
        with self._lock:
            now = self._clock()
            if (held := self._held) is not None and now < held[1]:
                return held[0]
            if initial is not None and self._is_one(initial) and now < self._until(initial, now):
                value = initial
            else:
                value = self._ask()
            self._held = value, self._until(value, now)
            return value

    def known(self) -> T | None:
        """Return the latest credentials, without asking for any."""
        return None if self._held is None else self._held[0]

    def _ask(self) -> T:
        value = pickle.loads(self._function)()
        if not self._is_one(value):
            expected = " or ".join(kind.__name__ for kind in self._kinds)
            # Without the value, which may be a secret.
            raise TypeError(f"get_credentials must return {expected}, not {type(value).__name__}")
        return value  # type: ignore[no-any-return]

    def _is_one(self, value: object) -> bool:
        return isinstance(value, self._kinds)

    def _until(self, value: T, now: datetime) -> datetime:
        if value.expires_after is None:
            return now + _UNDATED_LIFE
        return value.expires_after - timedelta(seconds=self._spread(_LATEST, _EARLIEST))


# By kinds and pickled function, those used last at the end. Not weak: a task that ends would take
# with it what the next one needs.
_sources: OrderedDict[tuple[tuple[type, ...], bytes], Source[Any]] = OrderedDict()
_lock = new_lock()


def source_of(function: bytes, kinds: tuple[type[T], ...]) -> Source[T]:
    """Return what this process knows of a function; equal pickles are the same function."""
    with _lock:
        source = _sources.pop((kinds, function), None)
        if source is None:
            source = Source(function, kinds)
        _sources[kinds, function] = source
        while len(_sources) > _MOST_SOURCES:
            _sources.popitem(last=False)
        return source

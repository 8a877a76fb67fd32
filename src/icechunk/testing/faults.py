"""Failures at a chosen point, to check that nothing is lost at any of them."""

from __future__ import annotations

from collections.abc import Callable

from icechunk.errors import ErrorKind, StorageError
from icechunk.storage.base import Storage
from icechunk.storage.locks import thread_lock
from icechunk.testing.wrapper import StorageWrapper

EFFECTS = frozenset({"put", "put_new", "copy", "put_if", "delete", "flush"})
"""Requests that change what is stored, or what would survive a power failure."""


class InjectedFault(StorageError):  # noqa: N818  (not an error: it was asked for)
    """The failure that a test asked for."""

    def __init__(self, message: str, kind: str = ErrorKind.STORAGE_OTHER) -> None:
        super().__init__(message, kind)


class FaultyStorage(StorageWrapper):
    """Fail at the k-th effect, before or after it lands.

    Raised before, the effect does not take place, as in a crash or a refused connection. Raised
    after, it does, as when only the response is lost. A test runs its plan with ``fail_at=0, 1,
    2...`` until `effects` shows that the plan has no more of them.

    Parameters
    ----------
    inner
        The storage that does the work.
    fail_at
        Number of the effect to fail at, counted from 0; None never fails.
    after
        Whether to fail after the effect has landed.
    sticky
        Whether everything fails from there on, reading too, as after a crash; otherwise only
        that one effect does.
    fault
        Makes the exception from a message.
    operations
        The requests that count as effects.
    """

    def __init__(
        self,
        inner: Storage,
        *,
        fail_at: int | None = None,
        after: bool = False,
        sticky: bool = False,
        fault: Callable[[str], BaseException] = InjectedFault,
        operations: frozenset[str] = EFFECTS,
    ) -> None:
        super().__init__(inner)
        self.fail_at = fail_at
        self.after = after
        self.sticky = sticky
        self.effects: list[tuple[str, str]] = []
        """Operation and key of every effect begun so far."""
        self._fault = fault
        self._operations = operations
        self._dead = False
        self._doomed: set[tuple[str, str]] = set()

    def _before(self, operation: str, key: str) -> None:
        if self._dead:
            raise self._fault(f"injected fault: storage is gone at {operation} of {key!r}")
        if operation not in self._operations:
            return
        with thread_lock(str(id(self))):
            number = len(self.effects)
            self.effects.append((operation, key))
        if number != self.fail_at:
            return
        if self.after:
            self._doomed.add((operation, key))
            return
        self._dead = self.sticky
        raise self._fault(f"injected fault: before effect {number}, {operation} of {key!r}")

    def _after(self, operation: str, key: str) -> None:
        if (operation, key) not in self._doomed:
            return
        self._doomed.discard((operation, key))
        self._dead = self.sticky
        raise self._fault(f"injected fault: after effect {self.fail_at}, {operation} of {key!r}")

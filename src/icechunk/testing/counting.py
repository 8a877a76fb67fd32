"""Counted requests, to check that a plan costs what it should."""

from __future__ import annotations

from collections import Counter

from icechunk.storage.base import Storage
from icechunk.storage.locks import thread_lock
from icechunk.testing.wrapper import StorageWrapper


class CountingStorage(StorageWrapper):
    """Count the requests by operation and first segment of the key.

    `counts` maps ``("put_new", "chunks")`` to the number of such requests that were begun.

    Parameters
    ----------
    inner
        The storage that does the work.
    """

    def __init__(self, inner: Storage) -> None:
        super().__init__(inner)
        self.counts: Counter[tuple[str, str]] = Counter()

    def _before(self, operation: str, key: str) -> None:
        with thread_lock(str(id(self))):
            self.counts[operation, key.partition("/")[0]] += 1

    def reset(self) -> None:
        """Forget what was counted so far."""
        with thread_lock(str(id(self))):
            self.counts.clear()

    def total(self, *operations: str) -> int:
        """Add up the requests of some operations, or of all."""
        return sum(
            count
            for (name, _), count in self.counts.items()
            if not operations or name in operations
        )

    def reads(self) -> int:
        """Add up the requests that fetch objects."""
        return self.total("get", "get_versioned", "get_if_changed", "get_range")

    def writes(self) -> int:
        """Add up the requests that store objects."""
        return self.total("put", "put_new", "copy", "put_if")

"""How far a collection has come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

__all__ = ["GarbageProgress", "Tell", "teller"]


class Tell(Protocol):
    """Takes what a `GarbageProgress` says."""

    def __call__(self, phase: str, done: int, total: int | None = None) -> None:
        """Take it."""
        ...


@dataclass(frozen=True, slots=True)
class GarbageProgress:
    """How far a garbage collection has come."""

    phase: str
    """``snapshots`` and ``manifests`` are read, ``listing`` are the objects listed that may be
    garbage, ``deleting`` are objects that were deleted."""
    done: int
    total: int | None = None
    """None where it is not known."""


def teller(progress: Callable[[GarbageProgress], object] | None) -> Tell:
    """Make what tells it to somebody, or to nobody."""

    def tell(phase: str, done: int, total: int | None = None) -> None:
        if progress is not None:
            progress(GarbageProgress(phase, done, total))

    return tell

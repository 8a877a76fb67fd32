"""How long to wait before the next attempt to commit, when many commit to one branch.

Of all who try at the same time one wins; the others did their work for nothing. Nobody can see how
many there are, so every writer adapts: a lost race makes it wait longer before its next attempts,
a won one less long (multiplicative increase and decrease, as in congestion control; the factors
settle where about seven of ten attempts win). Waits are drawn by chance, so that those who lost
together do not meet again, and measured in durations of an attempt, so that they fit a fast disk
and a slow object store alike. Who never loses never waits.
"""

from __future__ import annotations

from typing import Final

__all__ = ["Pace"]

FIRST: Final = 4.0
"""Scale of waits after a first loss, in attempts."""
GROWTH: Final = 3.0
DECAY: Final = 0.62
LEAST: Final = 1.0
"""Below that it is not worth waiting."""
MOST_SECONDS: Final = 20.0
SMOOTHING: Final = 0.3


class Pace:
    """What one writer has learnt about the contention for a repository.

    Safe for threads as far as it matters: a lost update of two numbers changes a wait a little.
    """

    __slots__ = ("_attempt_seconds", "_scale")

    def __init__(self) -> None:
        self._scale = 0.0
        self._attempt_seconds = 0.0

    def delay(self, uniform: float) -> float:
        """Return the seconds to wait before an attempt, given a number from [0, 1)."""
        return min(2 * uniform * self._scale * self._attempt_seconds, MOST_SECONDS)

    def won(self, seconds: float) -> None:
        """Learn from an attempt that took `seconds` and succeeded."""
        self._measure(seconds)
        scale = self._scale * DECAY
        self._scale = scale if scale >= LEAST else 0.0

    def lost(self, seconds: float) -> None:
        """Learn from an attempt that others came before."""
        self._measure(seconds)
        self._scale = max(self._scale * GROWTH, FIRST)

    def _measure(self, seconds: float) -> None:
        before = self._attempt_seconds or seconds
        self._attempt_seconds = before + SMOOTHING * (seconds - before)

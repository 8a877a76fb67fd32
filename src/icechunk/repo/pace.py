"""How long to wait before the next attempt to commit, when many commit to one branch.

Of all who try at the same time one wins; the others did their work for nothing. Nobody can see how
many there are, but everybody can see how often somebody wins: the history has the times. An attempt
fails when somebody else's commit lands while it is under way, so what matters is the *load*, the
commits that land in the time an attempt takes. Every writer lowers the rate of its attempts in
proportion while the load is too high, and raises it in small steps while it is not, as streams that
share a line do: so all come to about the same rate. Waits are drawn by chance, so that those who
lost together do not meet again, and measured in durations of an attempt, so that they fit a fast
disk and a slow object store alike. Who never loses never waits.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import Final

from icechunk.repo.state import RepoState

__all__ = ["LOOK_BACK", "Pace", "Traffic"]

LOOK_BACK: Final = 20
"""How many commits tell how often somebody commits."""
TARGET_LOAD: Final = 0.15
"""Six of seven attempts succeed at this load, if commits land at random: exp(-0.15)."""
MISHAP: Final = 10.0
"""A single loss may be an accident: then the wait is anything up to this, in attempts."""
FIRST_WAIT: Final = 30.0
"""After a second loss in a row, in attempts."""
LONGEST_WAIT: Final = 100.0
"""In attempts."""
MOST_SECONDS: Final = 20.0
SPREAD: Final = (0.5, 1.5)
"""Waits are so many times as long as the rate says."""
RAISE: Final = 1.1
"""A success on a branch that is not busy raises the rate by this factor,"""
STEP: Final = 0.01
"""or by this step if that is more."""
LOWER: Final = 0.9
"""A loss lowers the rate by this factor, on a busy branch by the excess of load,"""
LEAST: Final = 0.5
"""but not further than so at once."""
PATIENT_LOSSES: Final = 5
HASTE: Final = 0.7
"""Every further loss of one commit makes its next wait so much shorter: nobody shall starve."""
SMOOTHING: Final = (0.5, 0.1)
"""How much a shorter and a longer attempt count: the first one is slow for other reasons."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What others have committed to a branch lately."""

    commits: int
    seconds: float
    """In how long a time, up to now."""

    def load(self, attempt_seconds: float) -> float:
        """Return how many commits land while an attempt is under way."""
        return self.commits * attempt_seconds / max(self.seconds, 1e-6)


class Pace:
    """What one writer has learnt about the contention for a repository.

    Safe for threads as far as it matters: a lost update of two numbers changes a wait a little.
    """

    __slots__ = ("_losses", "_mine", "_rate", "_seconds")

    def __init__(self) -> None:
        self._mine: deque[bytes] = deque(maxlen=LOOK_BACK)
        self._losses = 0  # in a row
        self._rate = 1.0  # attempts to make in the time of one; from 1 on without waiting
        self._seconds = 0.0

    def remember(self, snapshot_id: bytes) -> None:
        """Note a commit as one's own: it is no traffic."""
        self._mine.append(snapshot_id)

    def traffic(self, info: RepoState, branch: str, now_us: int) -> Traffic:
        """Look at the last commits of a branch, leaving out those of this writer."""
        tip = info.branches.get(branch)
        if tip is None:
            return Traffic(0, 1.0)
        table = info.snapshots
        rows = list(islice(table.recent(tip), LOOK_BACK))
        if not rows:
            return Traffic(0, 1.0)
        others = sum(table.id(row) not in self._mine for row in rows)
        return Traffic(others, (now_us - table.time(rows[-1])) / 1e6)

    def delay(self, uniform: float) -> float:
        """Return the seconds to wait before an attempt, given a number from [0, 1)."""
        if self._rate >= 1:
            attempts = uniform * MISHAP if self._losses else 0.0
        else:
            least, most = SPREAD
            attempts = (least + (most - least) * uniform) / self._rate
        haste = HASTE ** max(0, self._losses - PATIENT_LOSSES)
        return float(min(attempts * self._seconds, MOST_SECONDS) * haste)

    def won(self, seconds: float, traffic: Traffic) -> None:
        """Learn from an attempt that took `seconds` and succeeded."""
        self._losses = 0
        if self._load(seconds, traffic) < TARGET_LOAD:
            self._rate = min(max(self._rate * RAISE, self._rate + STEP), 1.0)

    def lost(self, seconds: float, traffic: Traffic) -> None:
        """Learn from an attempt that took `seconds` until others turned out to be faster."""
        self._losses += 1
        load = self._load(seconds, traffic)
        if self._rate >= 1:
            self._rate = 1.0 if self._losses == 1 else 1 / FIRST_WAIT
        elif load > TARGET_LOAD:
            self._rate *= max(TARGET_LOAD / load, LEAST)
        else:
            self._rate *= LOWER
        self._rate = max(self._rate, 1 / LONGEST_WAIT)

    def _load(self, seconds: float, traffic: Traffic) -> float:
        before = self._seconds or seconds
        quick, slow = SMOOTHING
        self._seconds = before + (quick if seconds < before else slow) * (seconds - before)
        return traffic.load(self._seconds)

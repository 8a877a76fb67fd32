"""How long to wait before the next attempt to commit, when many commit to one branch.

Of all who try at the same time one wins; the others did their work for nothing. Nobody can see how
many there are, but everybody can see how often somebody wins: the history has the times. An attempt
fails when somebody else's commit lands while it is under way, so what matters is the *load*, the
commits that land in the time an attempt takes. Every writer scales its waits until the load is
where most attempts succeed. Waits are drawn by chance, so that those who lost together do not meet
again, and measured in durations of an attempt, so that they fit a fast disk and a slow object store
alike. Who never loses never waits.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import Final

from icechunk.format.repo_info import RepoInfo

__all__ = ["LOOK_BACK", "Pace", "Traffic"]

LOOK_BACK: Final = 12
"""How many commits tell how often somebody commits."""
TARGET_LOAD: Final = 0.25
"""Nearly four of five attempts succeed at this load, if commits land at random: exp(-0.25)."""
FIRST_SCALE: Final = 8.0
"""Scale of waits after a first loss, in attempts."""
LEAST_SCALE: Final = 1.0
"""Below that it is not worth waiting."""
STEPS: Final = (0.4, 3.0)
"""How far the scale may go in one step, down and up, whatever the load says."""
AFTER_LOSS: Final = 1.2
AFTER_SUCCESS: Final = 0.9
"""The outcome of one's own attempts counts too: at least, and at most, this step."""
MOST_SECONDS: Final = 20.0
SMOOTHING: Final = 0.3


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

    __slots__ = ("_mine", "_scale", "_seconds")

    def __init__(self) -> None:
        self._mine: deque[bytes] = deque(maxlen=LOOK_BACK)
        self._scale = 0.0
        self._seconds = 0.0

    def remember(self, snapshot_id: bytes) -> None:
        """Note a commit as one's own: it is no traffic."""
        self._mine.append(snapshot_id)

    def traffic(self, info: RepoInfo, branch: str, now_us: int) -> Traffic:
        """Look at the last commits of a branch, leaving out those of this writer."""
        tip = info.branches.get(branch)
        if tip is None:
            return Traffic(0, 1.0)
        table = info.snapshots
        rows = list(islice(table.ancestry(tip), LOOK_BACK))
        others = sum(table.id(row) not in self._mine for row in rows)
        return Traffic(others, (now_us - int(table.flushed_at[rows[-1]])) / 1e6)

    def delay(self, uniform: float) -> float:
        """Return the seconds to wait before an attempt, given a number from [0, 1)."""
        return min(2 * uniform * self._scale * self._seconds, MOST_SECONDS)

    def won(self, seconds: float, traffic: Traffic) -> None:
        """Learn from an attempt that took `seconds` and succeeded."""
        step = self._step(seconds, traffic)
        scale = self._scale * min(step, AFTER_SUCCESS if step <= 1 else 1 / AFTER_SUCCESS)
        self._scale = scale if scale >= LEAST_SCALE else 0.0

    def lost(self, seconds: float, traffic: Traffic) -> None:
        """Learn from an attempt that took `seconds` until others turned out to be faster."""
        step = self._step(seconds, traffic)
        self._scale = max(self._scale * max(step, AFTER_LOSS), FIRST_SCALE)

    def _step(self, seconds: float, traffic: Traffic) -> float:
        before = self._seconds or seconds
        self._seconds = before + SMOOTHING * (seconds - before)
        least, most = STEPS
        return min(max(traffic.load(self._seconds) / TARGET_LOAD, least), most)

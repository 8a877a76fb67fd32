"""Clock, sleep and chance, as one value that tests replace: all else here replays exactly."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from icechunk.format.ids import OBJECT_ID_SIZE
from icechunk.repo.times import now_us

__all__ = ["REAL", "Surroundings"]


def _uniform() -> float:
    """Draw from [0, 1), without a generator whose state forked processes would share."""
    return int.from_bytes(os.urandom(6), "big") / 2**48


def _random_id() -> bytes:
    return os.urandom(OBJECT_ID_SIZE)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an update takes from the world besides storage."""

    now_us: Callable[[], int] = now_us
    """Microseconds since the epoch."""
    sleep: Callable[[float], None] = time.sleep
    """Waits that many seconds."""
    uniform: Callable[[], float] = _uniform
    """A number from [0, 1)."""
    random_id: Callable[[], bytes] = _random_id
    """A fresh 12-byte id."""


REAL = Surroundings()

"""Microseconds inside, aware datetimes at the public edge."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

__all__ = ["from_datetime", "now_us", "time_text", "to_datetime"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LAST_US = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND


def now_us() -> int:
    """Read the clock: microseconds since the epoch."""
    return time.time_ns() // 1000


def to_datetime(us: int) -> datetime:
    """Turn microseconds since the epoch into a UTC datetime.

    Files may hold any 64-bit number: times beyond the year 9999 show as its last instant.
    """
    return _EPOCH + timedelta(microseconds=min(us, _LAST_US))


def from_datetime(when: datetime) -> int:
    """Turn an aware datetime into microseconds since the epoch.

    Raises
    ------
    TypeError
        For anything else, datetimes without a time zone included: they would mean different
        instants on different machines.
    """
    if not isinstance(when, datetime):
        raise TypeError(f"expected a datetime, not {type(when).__name__}")
    if when.tzinfo is None or when.utcoffset() is None:
        raise TypeError("expected a datetime with non-None tzinfo")
    return (when - _EPOCH) // _MICROSECOND


def time_text(us: int) -> str:
    """Write microseconds since the epoch for a message, such as ``2026-01-31 12:00:00.5 UTC``."""
    return f"{to_datetime(us).replace(tzinfo=None)} UTC"

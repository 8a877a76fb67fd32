"""Microseconds inside, aware datetimes at the public edge."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Final

from icechunk.errors import ErrorKind, FormatError

__all__ = ["from_datetime", "later_than", "now_us", "time_text", "to_datetime"]

#: Clocks this close count as equal: what follows is then dated a microsecond later.
MAX_LAG_US: Final = 1_000_000

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


def later_than(previous_us: int, now_us: int, what: str) -> int:
    """Time for what follows something dated `previous_us`: later than that, whatever clocks say.

    Parameters
    ----------
    previous_us
        Time of what came before, maybe by another machine's clock.
    now_us
        Time by this machine's clock.
    what
        Names what came before, for the message.

    Raises
    ------
    FormatError
        Of kind ``snapshot-timestamp`` when the clock is a second or more behind: then either this
        clock or the other one is wrong.
    """
    if now_us > previous_us:
        return now_us
    if previous_us - now_us >= MAX_LAG_US:
        raise FormatError(
            f"timestamp is invalid, the clock has drifted: it is {time_text(now_us)} here, but"
            f" {what} is dated {time_text(previous_us)}; set the clock of the machine that is"
            " wrong, or wait",
            ErrorKind.SNAPSHOT_TIMESTAMP,
        )
    return previous_us + 1

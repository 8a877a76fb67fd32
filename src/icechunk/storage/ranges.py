"""Pure planning of byte-range reads: one range in many requests, many ranges in one request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MAX_GAP: Final = 1 << 20
"""Bytes between two ranges that are read along rather than asked around: some milliseconds of a
network's throughput, less than the time until another request is answered."""
MAX_TOGETHER: Final = 16 << 20
"""Bytes that one request of several ranges covers at most."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """One request: a range of one object, and which of the wanted ranges lie in it."""

    start: int
    end: int
    wanted: tuple[int, ...]
    """Positions in the list of wanted ranges, by the ranges' starts."""

    @property
    def size(self) -> int:
        """Bytes it transfers."""
        return self.end - self.start


def coalesce(
    spans: Sequence[tuple[int, int]],
    *,
    max_gap: int = MAX_GAP,
    max_together: int = MAX_TOGETHER,
) -> list[Fetch]:
    """Plan how to fetch many ranges of one object with few requests.

    Ranges at most `max_gap` bytes apart go into one request as long as it stays within
    `max_together` bytes; a range that is longer by itself is a request by itself. Ranges may
    overlap, repeat or be empty.

    >>> coalesce([(100, 110), (0, 10), (12, 20)], max_gap=5)
    [Fetch(start=0, end=20, wanted=(1, 2)), Fetch(start=100, end=110, wanted=(0,))]
    """
    fetches: list[Fetch] = []
    group: list[int] = []
    first = last = 0
    for position in sorted(range(len(spans)), key=spans.__getitem__):
        start, end = spans[position]
        if group and start - last <= max_gap and max(last, end) - first <= max_together:
            group.append(position)
            last = max(last, end)
            continue
        if group:
            fetches.append(Fetch(first, last, tuple(group)))
        group, first, last = [position], start, end
    if group:
        fetches.append(Fetch(first, last, tuple(group)))
    return fetches


def split(
    start: int, end: int, request_size: int, max_requests: int
) -> tuple[list[int], list[int]]:
    """Cut ``[start, end)`` into adjacent pieces to be fetched at once: their starts and ends.

    As many pieces of about `request_size` as the range needs, at most `max_requests`; their
    lengths differ by one byte at most, longer ones first.

    >>> split(0, 10, 4, 18)
    ([0, 4, 7], [4, 7, 10])
    """
    size = end - start
    count = max(1, min(max_requests, -(-size // request_size)))
    length, longer = divmod(size, count)
    cuts = [start + i * length + min(i, longer) for i in range(count + 1)]
    return cuts[:-1], cuts[1:]

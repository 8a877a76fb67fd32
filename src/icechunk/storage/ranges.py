"""Pure planning of byte-range reads: how many requests fetch one range."""

from __future__ import annotations


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

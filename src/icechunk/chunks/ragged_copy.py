"""Copying many short byte runs between two buffers without a Python step per run.

Selecting strings of a column is this operation, and so are both directions of a codec: the strings
and vectors of a flatbuffer lie anywhere in the payload, those of a column end to end. Callers have
checked all bounds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LONG_RUN = 4096
"""From this length on one slice assignment per run costs less than anything cleverer."""

COPY_BLOCK = 1 << 20
"""Bytes on their way at a time."""

INDEX_BLOCK = 1 << 19
"""Bytes addressed by one index array, so that the indices (8 bytes each) stay small."""


def windows(buffer: Any, width: int) -> NDArray[np.void]:
    """View each `width`-byte window of a buffer as one item, so that indexing copies runs."""
    size = memoryview(buffer).nbytes
    return np.ndarray((size - width + 1,), np.dtype((np.void, width)), buffer, strides=(1,))


def copy_runs(
    source: NDArray[np.uint8],
    source_starts: NDArray[np.int64],
    target: NDArray[np.uint8],
    target_starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
) -> None:
    """Copy run i of `lengths[i]` bytes from `source_starts[i]` to `target_starts[i]`, for all i.

    Runs of equal length move together, one numpy call per distinct length; if there are too many
    distinct lengths for that to pay, bytes are addressed one by one in blocks.
    """
    if lengths.size == 0:
        return
    longest = int(lengths.max())
    if longest == 0:
        return
    if longest == int(lengths.min()):
        _copy_equal(source, source_starts, target, target_starts, longest)
        return
    if longest >= LONG_RUN:
        is_long = lengths >= LONG_RUN
        _copy_each(source, source_starts[is_long], target, target_starts[is_long], lengths[is_long])
        is_short = ~is_long
        copy_runs(
            source, source_starts[is_short], target, target_starts[is_short], lengths[is_short]
        )
        return
    rows_of_length = np.bincount(lengths, minlength=longest + 1)
    distinct = np.flatnonzero(rows_of_length[1:]) + 1
    if are_alike(len(distinct), lengths.size):
        # Sorting 16-bit keys is a radix sort: linear.
        order = np.argsort(lengths.astype(np.uint16), kind="stable")
        ends = np.cumsum(rows_of_length)
        for length in distinct.tolist():
            rows = order[ends[length - 1] : ends[length]]
            _copy_equal(source, source_starts[rows], target, target_starts[rows], length)
    else:
        _copy_by_byte(source, source_starts, target, target_starts, lengths)


def are_alike(distinct: int, runs: int) -> bool:
    """Whether so many runs have so few distinct lengths that one call for each length pays."""
    return distinct <= 8 + runs // 64


def _copy_equal(
    source: NDArray[np.uint8],
    source_starts: NDArray[np.int64],
    target: NDArray[np.uint8],
    target_starts: NDArray[np.int64],
    length: int,
) -> None:
    if len(source_starts) <= 4 or length >= LONG_RUN:
        each = np.full(len(source_starts), length)
        _copy_each(source, source_starts, target, target_starts, each)
        return
    given, wanted = windows(source, length), windows(target, length)
    step = COPY_BLOCK // length
    for first in range(0, len(source_starts), step):
        part = slice(first, first + step)
        wanted[target_starts[part]] = given[source_starts[part]]


def _copy_each(
    source: NDArray[np.uint8],
    source_starts: NDArray[np.int64],
    target: NDArray[np.uint8],
    target_starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
) -> None:
    for start, to, length in zip(
        source_starts.tolist(), target_starts.tolist(), lengths.tolist(), strict=True
    ):
        target[to : to + length] = source[start : start + length]


def _copy_by_byte(
    source: NDArray[np.uint8],
    source_starts: NDArray[np.int64],
    target: NDArray[np.uint8],
    target_starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
) -> None:
    ends = np.cumsum(lengths)
    first = 0
    while first < len(lengths):
        done = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, done + INDEX_BLOCK)))
        run = lengths[first:last]
        within = np.arange(int(run.sum())) - np.repeat(ends[first:last] - run - done, run)
        target[np.repeat(target_starts[first:last], run) + within] = source[
            np.repeat(source_starts[first:last], run) + within
        ]
        first = last

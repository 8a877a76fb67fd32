"""Ragged columns: gathering rows whose items are flattened into one array.

A column with a varying number of items per row is an array of all items plus ``starts``, the
``(n + 1,)`` int64 positions where each row's items begin. These few functions move rows of such
columns about without a loop per row.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from icechunk.chunks.ragged import RaggedBytes

__all__ = [
    "Int64s",
    "concat_starts",
    "counts_of",
    "gather_rows",
    "gather_spans",
    "is_strictly_increasing",
    "starts_of",
]

Int64s = npt.NDArray[np.int64]

# With fewer rows than this left to compare, bytes objects are quicker than numpy calls.
_FEW_ROWS = 16

# So are they for rows that are equal for longer than this, however many.
_DEEP = 4096

# Comparing takes some 200 bytes of memory per pair: this many at a time.
_BLOCK_PAIRS = 1 << 16


def starts_of(counts: npt.ArrayLike) -> Int64s:
    """Turn the item count of each row into the positions where rows begin and the last ends."""
    counts = np.asarray(counts, dtype=np.int64)
    starts = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=starts[1:])
    return starts


def counts_of(starts: Int64s) -> Int64s:
    """Count the items of each row."""
    return starts[1:] - starts[:-1]


def gather_rows(starts: Int64s, rows: npt.NDArray[np.intp]) -> tuple[Int64s, Int64s]:
    """Plan the copy of some rows: their new `starts`, and where each item is taken from."""
    return gather_spans(starts[:-1][rows], counts_of(starts)[rows])


def gather_spans(begins: Int64s, counts: Int64s) -> tuple[Int64s, Int64s]:
    """Plan the copy of spans of items: the `starts` they get, and where each item is taken from."""
    starts = starts_of(counts)
    items = np.arange(starts[-1], dtype=np.int64)
    items += np.repeat(begins - starts[:-1], counts)
    return starts, items


def concat_starts(first: Int64s, second: Int64s) -> Int64s:
    """Compute `starts` of two ragged columns, one after the other."""
    return np.concatenate([first, second[1:] + first[-1]])


def is_strictly_increasing(texts: RaggedBytes) -> bool:
    """Tell whether each row is greater than the one before, as bytes.

    Adjacent rows are compared 8 bytes at a time, a block of pairs at once, dropping those decided;
    the work is bounded by the bytes of the column.
    """
    starts = np.asarray(texts.offsets, dtype=np.int64)
    sizes = counts_of(starts)
    padded = np.concatenate([texts.data, np.zeros(8, dtype=np.uint8)])
    pairs = range(len(sizes) - 1)  # pair i is rows i and i + 1
    return all(
        _pairs_increase(texts, starts, sizes, padded, pairs[first : first + _BLOCK_PAIRS])
        for first in pairs[::_BLOCK_PAIRS]
    )


def _pairs_increase(
    texts: RaggedBytes,
    starts: Int64s,
    sizes: Int64s,
    padded: npt.NDArray[np.uint8],
    pairs: range,
) -> bool:
    undecided = np.arange(pairs.start, pairs.stop)
    depth = 0
    while len(undecided) > _FEW_ROWS and depth < _DEEP:
        left = _words(padded, starts, sizes, undecided, depth)
        right = _words(padded, starts, sizes, undecided + 1, depth)
        if (left > right).any():
            return False
        undecided = undecided[left == right]
        depth += 8
        # Equal up to the end of one of them: the shorter comes first.
        left_sizes, right_sizes = sizes[undecided], sizes[undecided + 1]
        has_ended = np.minimum(left_sizes, right_sizes) <= depth
        if (left_sizes[has_ended] >= right_sizes[has_ended]).any():
            return False
        undecided = undecided[~has_ended]
    return _slowly(texts, undecided)


def _slowly(texts: RaggedBytes, pairs: npt.NDArray[np.intp]) -> bool:
    return all(texts[i] < texts[i + 1] for i in pairs.tolist())


def _words(
    padded: npt.NDArray[np.uint8],
    starts: Int64s,
    sizes: Int64s,
    rows: npt.NDArray[np.intp],
    depth: int,
) -> npt.NDArray[np.uint64]:
    """8 bytes of each row from `depth` on, zero past its end, as numbers that sort like them."""
    within = np.arange(depth, depth + 8)
    positions = np.minimum(starts[rows][:, None] + within, len(padded) - 1)  # (k, 8)
    chars = np.where(within < sizes[rows][:, None], padded[positions], 0).astype(np.uint8)
    words: npt.NDArray[np.uint64] = chars.view(">u8")[:, 0].astype(np.uint64)
    return words

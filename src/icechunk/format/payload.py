"""The bytes of a metadata file before compression: in one piece, or made as they are needed.

A manifest of a million references is laid out in a few milliseconds, but is a hundred megabytes
long. Nobody needs all of them at a time: they are made, and compressed, in blocks that stay in the
processor's cache and whose memory is used again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

BLOCK_BYTES = 1 << 18
"""Bytes that are made together, about."""

Block: TypeAlias = NDArray[np.uint8]
Part: TypeAlias = Callable[[], Iterable[Block]]
"""Makes one part of a payload, from its first byte to its last; a block is good until the next."""


class Payload:
    """Bytes that are known but not made.

    Parameters
    ----------
    size
        How many there are.
    parts
        Where parts begin, and what makes them. They do not overlap; all else is zero.
    """

    __slots__ = ("_parts", "_size")

    def __init__(self, size: int, parts: Iterable[tuple[int, Part]]) -> None:
        self._size = size
        self._parts = sorted(parts, key=lambda part: part[0])

    def __len__(self) -> int:
        return self._size

    def blocks(self) -> Iterator[Block]:
        """Make all bytes, in order; a block is good until the next is asked for."""
        end = 0
        for position, part in self._parts:
            if position > end:
                yield np.zeros(position - end, np.uint8)
            end = position
            for block in part():
                yield block
                end += len(block)
        if end < self._size:
            yield np.zeros(self._size - end, np.uint8)

    def to_memory(self) -> memoryview:
        """Make all bytes at once, in memory that may be written to."""
        out = memory(self._size)
        filled = 0
        for block in self.blocks():
            out[filled : filled + len(block)] = block
            filled += len(block)
        return out.data


def memory(size: int) -> Block:
    """Return zeroed memory.

    numpy asks for huge pages, which a `bytearray` is not made of: a hundred megabytes of small
    pages take longer to get than to fill.
    """
    return np.zeros(size, np.uint8)


def slices(count: int, size: int, blocks: int = 1) -> Iterator[slice]:
    """Cut `count` rows of `size` bytes into stretches of about so many blocks each."""
    each = max(1, blocks * BLOCK_BYTES // max(1, size))
    for start in range(0, count, each):
        yield slice(start, min(start + each, count))

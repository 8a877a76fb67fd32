"""A column of byte strings in one buffer: inline chunks, virtual locations, entity tags.

`n` strings cost their bytes and 8 bytes each, and are copied, selected and compared without one
Python object per string.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from icechunk.chunks.arrays import Bytes, Mask, Rows, frozen
from icechunk.chunks.ragged_copy import LONG_RUN, are_alike, copy_runs
from icechunk.chunks.runs import Runs

_BLOCK = 1 << 20
"""Bytes handled at a time where numpy needs an 8-byte index per byte."""
_STRINGS = 8192
"""Texts joined at a time."""
_BYTES_PER_SLICE = 32
"""Joining slices of the buffer beats gathering bytes from about this size on."""
_BYTES_PER_COPY = 512
"""Below it, copying all strings of one length at once beats joining slices."""


@dataclass(frozen=True, slots=True, eq=False)
class RaggedBytes:
    """`n` byte strings: string `i` is `data[offsets[i]:offsets[i + 1]]`, and `offsets[0]` is 0.

    The constructor trusts its arguments; whoever reads offsets from a file checks them first.
    """

    offsets: Rows
    """(n + 1,) int64, ascending from 0 to `len(data)`."""
    data: Bytes
    """(m,) uint8."""

    @classmethod
    def empty(cls, n: int) -> Self:
        """Return `n` empty strings."""
        return cls(frozen(np.zeros(n + 1, np.int64)), frozen(np.zeros(0, np.uint8)))

    @classmethod
    def from_list(cls, items: Sequence[bytes]) -> Self:
        """Return the given strings as a column."""
        lengths = np.fromiter(map(len, items), np.int64, len(items))
        return cls.from_lengths(lengths, b"".join(items))

    @classmethod
    def from_strings(cls, items: Sequence[str]) -> Self:
        """Return the given texts as a column of UTF-8."""
        n = len(items)
        lengths = np.fromiter(map(len, items), np.int64, n)
        data = _memory(int(lengths.sum()))
        filled = 0
        # In pieces that stay in the processor's cache, and whose memory is used again.
        for start in range(0, n, _STRINGS):
            text = "".join(items[start : start + _STRINGS])
            if not text.isascii():
                return cls.from_list([item.encode() for item in items])
            data[filled : filled + len(text)] = np.frombuffer(text.encode("ascii"), np.uint8)
            filled += len(text)
        return cls.from_lengths(lengths, data)

    @classmethod
    def from_lengths(
        cls, lengths: npt.NDArray[np.integer], data: bytes | memoryview | Bytes
    ) -> Self:
        """Cut `data` into strings of the given lengths, which must add up to its size."""
        offsets = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        buffer = data if isinstance(data, np.ndarray) else np.frombuffer(data, np.uint8)
        return cls(frozen(offsets), frozen(buffer))

    @classmethod
    def concat(cls, parts: Iterable[Self]) -> Self:
        """Return the strings of all parts, in order."""
        columns = list(parts)
        if not columns:
            return cls.empty(0)
        lengths = np.concatenate([column.lengths for column in columns])
        return cls.from_lengths(lengths, np.concatenate([column.data for column in columns]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> bytes:
        start, stop = self.offsets[row], self.offsets[row + 1]
        return self.data[start:stop].tobytes()

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.to_list())

    def to_list(self) -> list[bytes]:
        """Return the strings as Python objects."""
        whole, bounds = self.data.tobytes(), self.offsets.tolist()
        return list(map(whole.__getitem__, map(slice, bounds, bounds[1:])))

    @property
    def lengths(self) -> Rows:
        """(n,) int64, the size of each string."""
        return np.diff(self.offsets)

    @property
    def nbytes(self) -> int:
        """Memory the column refers to."""
        return self.offsets.nbytes + self.data.nbytes

    def slice(self, start: int, stop: int) -> Self:
        """Return strings `start` to `stop`; their bytes are not copied."""
        if start == 0 and stop == len(self):
            return self
        first, last = int(self.offsets[start]), int(self.offsets[stop])
        return type(self)(
            frozen(self.offsets[start : stop + 1] - first), frozen(self.data[first:last])
        )

    def take(self, rows: Rows) -> Self:
        """Return the strings at the given rows, in that order; rows may repeat."""
        runs = Runs.of_rows(rows)
        if len(runs.starts) == 1:
            return self.slice(int(runs.starts[0]), int(runs.stops[0]))
        lengths = self.lengths[rows]
        begins, ends = self.offsets[runs.starts], self.offsets[runs.stops]
        total = int(lengths.sum())
        if total < _BYTES_PER_COPY * len(begins) and _are_alike(lengths):
            out = np.empty(total, np.uint8)
            copy_runs(self.data, self.offsets[rows], out, np.cumsum(lengths) - lengths, lengths)
            return type(self).from_lengths(lengths, out)
        if total >= _BYTES_PER_SLICE * len(begins):
            buffer = np.ascontiguousarray(self.data).data
            cuts = map(slice, begins.tolist(), ends.tolist())
            return type(self).from_lengths(lengths, b"".join(map(buffer.__getitem__, cuts)))
        spans = Runs(begins, ends)
        out = np.empty(total, np.uint8)
        filled = 0
        for part in _blocks(begins, ends):
            index = Runs(spans.starts[part], spans.stops[part]).rows()
            self.data.take(index, out=out[filled : filled + len(index)], mode="clip")
            filled += len(index)
        return type(self).from_lengths(lengths, out)

    def repeat(self, counts: Rows) -> Self:
        """Return each string as many times as `counts` says, one copy after the other."""
        lengths = self.lengths
        column = _memory(int((lengths * counts).sum()))
        ends = np.cumsum(lengths * counts)
        for part in _blocks(ends - lengths * counts, ends):
            some, times = self.slice(part.start, part.stop), counts[part]
            size = int(lengths[part.start])
            if size and (lengths[part] == size).all():
                cells = np.ascontiguousarray(some.data).view(np.dtype((np.void, size)))
                copies = np.repeat(cells, times).view(np.uint8)
            else:
                copies = some.take(np.repeat(np.arange(len(some)), times)).data
            end = int(ends[part.stop - 1])
            column[end - len(copies) : end] = copies
        return type(self).from_lengths(np.repeat(lengths, counts), column)

    def spread(self, rows: Rows, n: int) -> Self:
        """Return a column of `n` strings, ours at `rows` (ascending) and empty ones elsewhere."""
        if len(rows) == n:
            return self
        lengths = np.zeros(n, np.int64)
        lengths[rows] = self.lengths
        return type(self).from_lengths(lengths, self.data)

    def equal_rows(self, other: Self) -> Mask:
        """Return, row by row, whether the strings of two columns of one length are the same."""
        equal: Mask = self.lengths == other.lengths
        if equal.all() and np.array_equal(self.data, other.data):
            return equal
        rows = np.flatnonzero(equal)
        ends = np.cumsum(self.lengths[rows])
        for part in _blocks(ends - self.lengths[rows], ends):
            mine, theirs = self.take(rows[part]), other.take(rows[part])
            differing = np.flatnonzero(mine.data != theirs.data)
            owners = np.searchsorted(mine.offsets, differing, side="right") - 1
            equal[rows[part][owners]] = False
        return equal

    def is_utf8(self) -> bool:
        """Whether every string is valid UTF-8 on its own."""
        try:
            self.data.tobytes().decode()
        except UnicodeDecodeError:
            return False
        # The buffer is valid as a whole, so a string is too unless a cut falls inside a character.
        cuts = self.offsets[:-1]
        cuts = cuts[cuts < len(self.data)]
        return not bool(((self.data[cuts] & 0xC0) == 0x80).any())


def _memory(size: int) -> Bytes:
    """Return zeroed memory of small pages.

    They cost 0.4 ms for each megabyte. Huge ones, which numpy asks for, cost a tenth of it, but
    three times as much in a virtual machine whose host has taken free ones away meanwhile.
    """
    return np.frombuffer(bytearray(size), np.uint8)


def _are_alike(lengths: Rows) -> bool:
    """Whether strings of these lengths are copied length by length."""
    longest = int(lengths.max(initial=0))
    return longest < LONG_RUN and are_alike(
        int(np.count_nonzero(np.bincount(lengths))), len(lengths)
    )


def _blocks(begins: Rows, ends: Rows) -> Iterator[slice]:
    """Cut a list of byte spans into stretches of spans of about one block each."""
    filled = np.cumsum(ends - begins)
    start, n = 0, len(filled)
    while start < n:
        before = int(filled[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(filled, before + _BLOCK, side="right")))
        yield slice(start, stop)
        start = stop

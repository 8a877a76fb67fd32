"""Where tables, vectors and strings go in a payload that is written front to back.

The rows of one table type share a vtable and a stride. Where rows differ in which optional fields
they have, each combination is a group with its own vtable and stride; the order of a vector lives
in its offsets, so grouping does not disturb it. A string or vector of the same length in all rows
of a group (chunk coordinates, say) sits inside the stride, right behind the table that points to
it, which makes its offset a constant; others are packed in a heap after the rows::

    group:   | vtable | row 0 | row 1 | ...      row:  | soffset | fields | uniform vectors |
    heap:    | length, bytes, NUL, padding | length, ...

A group's rows are then one structured numpy array that views the payload.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icechunk.chunks.ragged_copy import copy_runs, windows
from icechunk.format.flatbuf_columns import Mask, Positions, Ragged
from icechunk.format.payload import Block, Part, slices
from icechunk.format.schema import U8, U32, Element

HEAP_BLOCKS = 16
"""Blocks of a heap that are made together: many, since strings are copied length by length."""


@dataclass(slots=True)
class Layout:
    """The positions given out so far, and what will be written at them."""

    size: int = 0
    parts: list[tuple[int, Part]] = field(default_factory=list)
    """Where each part begins, and what makes it once all positions are known."""
    vtables: dict[bytes, int] = field(default_factory=dict)

    def reserve(self, size: int, align: int = 4, phase: int = 0) -> int:
        """Set `size` bytes apart at a position that is `phase` modulo `align`."""
        position = self.size + (phase - self.size) % align
        self.size = position + size
        return position

    def vtable(self, table_size: int, slots: dict[int, int]) -> int:
        """Place a vtable, or find the equal one placed before."""
        entries = [0] * (max(slots, default=-1) + 1)
        for number, offset in slots.items():
            entries[number] = offset
        words = np.array([4 + 2 * len(entries), table_size, *entries], "<u2").tobytes()
        if words not in self.vtables:
            position = self.vtables[words] = self.reserve(len(words), 2)
            self.parts.append((position, lambda: (np.frombuffer(words, np.uint8),)))
        return self.vtables[words]


@dataclass(slots=True)
class Slot:
    """What one vtable slot holds: an inline value, or an offset to something placed elsewhere."""

    number: int
    element: Element  # U32 for offsets
    present: Mask | None
    values: NDArray[Any] | None = None
    """Inline values, one per row."""
    runs: Ragged | None = None
    """Vectors or strings to point to, one per row."""
    table: NDArray[Any] | None = None
    """Vectors of one length to point to, likewise: (n, length, *element shape)."""
    run_element: Element = U8
    terminator: int = 0
    """Bytes behind each run that its count leaves out: the NUL of a string."""
    targets: Positions | None = None
    """Positions of things placed after the rows; set before the fills run."""

    @property
    def order(self) -> tuple[int, int]:
        """Where in its table the slot goes: 4-byte values, ids, 8-byte values, the small ones.

        Ids right behind the offsets, both new in every row, leave the rest to compress as one
        run: of the orders tried on a million chunk references this gave the smallest file at no
        loss of speed.
        """
        rank = 1 if self.element.width else {4: 0, 8: 2, 2: 3, 1: 4}[self.element.align]
        return rank, self.number

    @property
    def align(self) -> int:
        """Alignment of what the slot holds or points to."""
        points = self.runs is not None or self.table is not None
        return self.run_element.align if points else self.element.align


class _Stride:
    """One row of a group: where its fields are, as they are added one after the other."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        self.names = ["soffset"]
        self.formats: list[Any] = ["<i4"]
        self.offsets = [0]
        self.end = 4
        self.align = 8 if any(slot.align == 8 for slot in slots) else 4
        # Rows may start 4 bytes past a multiple of 8 when that spares padding before 8-byte
        # values.
        before = 4 + sum(slot.element.size for slot in slots if slot.order[0] < 2)
        self.phase = -before % self.align

    def pad(self, align: int, phase: int = 0) -> None:
        """Let the next field be at a position that is `phase` modulo `align`."""
        self.end += (phase - self.end - self.phase) % align

    def add(self, name: str, element: Element, *count: int) -> int:
        """Append a field, an element or `count` of them; return its offset."""
        self.pad(element.align)
        offset = self.end
        self.names.append(name)
        self.formats.append((element.dtype, (*count, *element.shape)))
        self.offsets.append(offset)
        self.end += element.size * (count[0] if count else 1)
        return offset

    @property
    def size(self) -> int:
        return self.end + -self.end % self.align

    @property
    def dtype(self) -> np.dtype[Any]:
        return _row_dtype(tuple(self.names), tuple(self.formats), tuple(self.offsets), self.size)


@lru_cache(maxsize=256)
def _row_dtype(
    names: tuple[str, ...], formats: tuple[Any, ...], offsets: tuple[int, ...], size: int
) -> np.dtype[Any]:
    """Make the type of rows, which costs more than filling a few: the same ones come again."""
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": size})


def place_group(layout: Layout, rows: Any, slots: Sequence[Slot], count: int) -> Positions:
    """Place the rows that have exactly these slots, and their strings and vectors.

    `rows` selects them from all `count` rows. Returns where they are.
    """
    size = count if isinstance(rows, slice) else len(rows)
    slots = sorted(slots, key=lambda slot: slot.order)
    stride = _Stride(slots)
    fields = {slot.number: stride.add(f"slot{slot.number}", slot.element) for slot in slots}
    vtable = layout.vtable(stride.end, fields)

    runs = {
        slot.number: (slot, slot.runs.offsets[:-1][rows], slot.runs.counts[rows])
        for slot in slots
        if slot.runs is not None
    }
    tails: dict[int, int] = {}
    for slot in slots:
        if slot.table is not None:
            tails[slot.number] = _add_tail(stride, slot, slot.table.shape[1])
        elif slot.runs is not None:
            counts = runs[slot.number][2]
            if (counts == counts[0]).all():
                tails[slot.number] = _add_tail(stride, slot, int(counts[0]))
    base = layout.reserve(stride.size * size, stride.align, stride.phase)
    at = np.arange(base, base + stride.size * size, stride.size)
    heaps = {
        number: place_heap(layout, slot, starts, counts)
        for number, (slot, starts, counts) in runs.items()
        if number not in tails
    }

    def blocks() -> Iterator[Block]:
        out = np.zeros(0, np.uint8)
        for part in slices(size, stride.size):
            length = (part.stop - part.start) * stride.size
            if length > len(out):  # the first is the largest
                out = np.zeros(length, np.uint8)
            fill_rows(out[:length].view(stride.dtype), part)
            yield out[:length]

    def fill_rows(view: NDArray[Any], part: slice) -> None:
        chosen = part if isinstance(rows, slice) else rows[part]
        view["soffset"] = at[part] - vtable
        for slot in slots:
            number, name = slot.number, f"slot{slot.number}"
            if slot.values is not None:
                view[name] = slot.values[chosen]
            elif number in tails:
                view[name] = tails[number] - fields[number]
                if slot.table is None:
                    _fill_tail(view, slot, runs[number][1][part])
                elif slot.table.shape[1]:
                    view[f"count{number}"] = slot.table.shape[1]
                    view[f"items{number}"] = slot.table[chosen]
            else:
                if number in heaps:
                    targets = heaps[number][part]
                else:
                    assert slot.targets is not None
                    targets = slot.targets[chosen]
                view[name] = targets - (at[part] + fields[number])

    layout.parts.append((base, blocks))
    return at


def _add_tail(stride: _Stride, slot: Slot, count: int) -> int:
    """Append a vector of `count` elements to the stride; return its offset."""
    element = slot.run_element
    if element.align == 8:
        stride.pad(8, phase=4)
    stride.pad(4)
    offset = stride.add(f"count{slot.number}", U32)
    stride.add(f"items{slot.number}", element, count)
    stride.end += slot.terminator
    return offset


def _fill_tail(view: NDArray[Any], slot: Slot, starts: Positions) -> None:
    """Write the vectors that lie inside the stride."""
    assert slot.runs is not None
    items = view[f"items{slot.number}"]
    size, each = items.shape[:2]
    view[f"count{slot.number}"] = each
    if each == 0:
        return
    values, element = slot.runs.values, slot.run_element
    first = int(starts[0])
    if int(starts[-1]) == first + (size - 1) * each:
        items[...] = values[first : first + size * each].reshape(items.shape)
    else:
        runs = windows(_raw(values), each * element.size)[starts * element.size]
        items[...] = runs.view(element.dtype).reshape(items.shape)


def place_heap(layout: Layout, slot: Slot, starts: Positions, counts: Positions) -> Positions:
    """Place vectors of different lengths one after the other; return where they are."""
    assert slot.runs is not None
    values, element = slot.runs.values, slot.run_element
    align = max(4, element.align)
    lengths = counts * element.size
    sizes = 4 + lengths + slot.terminator
    sizes += -sizes % align
    total = int(sizes.sum())
    # Elements are aligned, so the count before them is 4 bytes before that.
    heap = layout.reserve(total, align, 4 % align)
    at = heap + np.cumsum(sizes) - sizes

    def blocks() -> Iterator[Block]:
        for part in slices(len(at), max(1, total // max(1, len(at))), HEAP_BLOCKS):
            end = heap + total if part.stop == len(at) else int(at[part.stop])
            start = int(at[part.start])
            out = np.zeros(end - start, np.uint8)
            out.view("<u4")[(at[part] - start) // 4] = counts[part]
            copy_runs(raw, starts[part] * element.size, out, at[part] + 4 - start, lengths[part])
            yield out

    raw = _raw(values)
    layout.parts.append((heap, blocks))
    return at


def _raw(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(values).view(np.uint8).reshape(-1)

"""Writing many flatbuffer tables at once: a vector of tables is one structured numpy array.

A payload is laid out front to back, parents before children, since offsets only point forward::

    root offset | "Ichk" | vtable, root, its vectors | vtable, rows, vectors of its children | ...

Here columns become vtable slots and children get their places; `flatbuf_layout` lays out the rows
of one table type. Sizes and positions are settled first, then one zeroed buffer is filled in place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from icechunk.chunks.ragged import RaggedBytes
from icechunk.errors import ErrorKind, FormatError
from icechunk.format.flatbuf_columns import Children, Mask, Maybe, Positions, Ragged, Tables, Union
from icechunk.format.flatbuf_layout import Layout, Slot, place_group, place_heap
from icechunk.format.payload import Block, Payload, slices
from icechunk.format.schema import U8, U32, Field, Kind, Table

FILE_IDENTIFIER = b"Ichk"
MAX_PAYLOAD = 2**31 - 1
"""Offsets of a flatbuffer are limited to 31 bits."""


def encode(table: Table, root: Tables) -> memoryview:
    """Make a whole payload in memory, see `lay_out`."""
    return lay_out(table, root).to_memory()


def lay_out(table: Table, root: Tables) -> Payload:
    """Lay out a whole payload whose root is the single row of `root`.

    Its columns must not change before its bytes are made.

    Raises
    ------
    FormatError
        The payload would be larger than offsets can address.
    ValueError
        A column does not fit the number of rows.
    """
    layout = Layout()
    layout.reserve(8)
    position = int(_place(layout, table, root)[0])
    if layout.size > MAX_PAYLOAD:
        raise FormatError(
            f"a {table.name} of {layout.size} bytes exceeds the limit of {MAX_PAYLOAD} bytes;"
            " split it into smaller files",
            ErrorKind.SERIALIZATION,
        )
    start = np.frombuffer(position.to_bytes(4, "little") + FILE_IDENTIFIER, np.uint8)
    return Payload(layout.size, [(0, lambda: (start,)), *layout.parts])


@dataclass(slots=True)
class _Draft:
    """The slots of some rows, and the children to place once the rows are."""

    layout: Layout
    count: int
    slots: list[Slot] = field(default_factory=list)
    children: list[Callable[[], None]] = field(default_factory=list)


def _place(layout: Layout, table: Table, tables: Tables) -> Positions:
    """Give positions to tables and all they refer to; return where the tables are."""
    draft = _Draft(layout, tables.count)
    for name, column in tables.columns.items():
        if column is not None:
            _add(draft, table[name], column)
    positions = np.empty(tables.count, np.int64)
    if tables.count:
        for rows, slots in _groups(draft.slots):
            found = place_group(layout, rows, slots, tables.count)
            if isinstance(rows, slice):
                positions = found
            else:
                positions[rows] = found
        for place in draft.children:
            place()
    return positions


def _groups(slots: list[Slot]) -> Iterator[tuple[Any, list[Slot]]]:
    """Split rows by which optional slots they have."""
    always, optional, masks = [], [], []
    for slot in slots:
        if slot.present is None or slot.present.all():
            always.append(slot)
        elif slot.present.any():
            optional.append(slot)
            masks.append(np.asarray(slot.present, np.bool_))
    if not optional:
        yield slice(None), always
        return
    has = np.stack(masks, axis=1)
    combinations = has @ (1 << np.arange(len(optional)))
    _, first, group = np.unique(combinations, return_index=True, return_inverse=True)
    for number, row in enumerate(first.tolist()):
        members = [slot for slot, is_there in zip(optional, has[row], strict=True) if is_there]
        yield np.flatnonzero(group == number), always + members


def _add(draft: _Draft, field: Field, column: Any) -> None:
    """Translate one column to the slots of its field."""
    present: Mask | None = None
    if isinstance(column, Maybe):
        present, column = column.present, column.column
    match field.kind:
        case Kind.SCALAR | Kind.STRUCT:
            _add_inline(draft, field, column, present)
        case Kind.STRING | Kind.VECTOR:
            _add_runs(draft, field, column, present)
        case Kind.UNION:
            _add_union(draft, field, column)
        case Kind.TABLE:
            _add_child(draft, field, column, present)
        case Kind.TABLES | Kind.STRINGS:
            _add_children(draft, field, column, present)


def _add_inline(draft: _Draft, field: Field, column: Any, present: Mask | None) -> None:
    element = field.element
    assert element is not None
    values = np.asarray(column, element.dtype)
    shape = (draft.count, *element.shape)
    if values.shape != shape:
        values = np.broadcast_to(values, shape)
    draft.slots.append(Slot(field.slot, element, present, values=values))


def _add_runs(draft: _Draft, field: Field, column: Any, present: Mask | None) -> None:
    element = field.element or U8
    if element is not U8 and isinstance(column, np.ndarray):
        _check(field, len(column), draft.count)
        table = np.asarray(column, element.dtype)
        draft.slots.append(Slot(field.slot, U32, present, table=table, run_element=element))
        return
    if element is U8:
        if present is None and not isinstance(column, RaggedBytes):
            present = np.array([item is not None for item in column], np.bool_)
        runs = _byte_runs(column)
    else:
        runs = Ragged(column.offsets, np.asarray(column.values, element.dtype))
    _check(field, len(runs), draft.count)
    terminator = 1 if field.kind is Kind.STRING else 0
    draft.slots.append(
        Slot(field.slot, U32, present, runs=runs, run_element=element, terminator=terminator)
    )


def _add_child(draft: _Draft, field: Field, column: Tables, present: Mask | None) -> None:
    target = field.target
    assert target is not None
    slot = Slot(field.slot, U32, present)
    draft.slots.append(slot)
    _check(field, column.count, draft.count if present is None else int(present.sum()))

    def place() -> None:
        slot.targets = _spread(_place(draft.layout, target, column), present)

    draft.children.append(place)


def _add_union(draft: _Draft, field: Field, column: Union) -> None:
    members = field.members
    assert members is not None
    types = np.asarray(column.types, np.uint8)
    _check(field, len(types), draft.count)
    has = types != 0
    slot = Slot(field.slot + 1, U32, has)
    draft.slots += [Slot(field.slot, U8, has, values=types), slot]

    def place() -> None:
        slot.targets = np.zeros(draft.count, np.int64)
        for kind, tables in column.members.items():
            slot.targets[types == kind] = _place(draft.layout, members[kind], tables)

    draft.children.append(place)


def _add_children(draft: _Draft, field: Field, column: Children, present: Mask | None) -> None:
    layout, items = draft.layout, column.items
    slot = Slot(field.slot, U32, present)
    draft.slots.append(slot)
    counts = np.asarray(column.counts, np.int64)
    _check(field, len(counts), draft.count)
    if present is not None:
        counts = counts[present]
    total = int(counts.sum())
    _check(field, items.count if isinstance(items, Tables) else len(items), total)

    def place() -> None:
        # The vectors of all rows end to end, each its count and then its offsets, in words.
        size = len(counts) + total
        start = layout.reserve(4 * size)
        heads = np.arange(len(counts)) + np.cumsum(counts) - counts
        slot.targets = _spread(start + 4 * heads, present)
        if isinstance(items, Tables):
            assert field.target is not None
            targets = _place(layout, field.target, items)
        else:
            runs = _byte_runs(items)
            strings = Slot(0, U32, None, runs=runs, terminator=1)
            targets = place_heap(layout, strings, runs.offsets[:-1], runs.counts)

        if len(counts) == 1:
            layout.parts.append((start, lambda: _single_vector(start, targets)))
            return
        words = np.empty(size, "<u4")
        words[heads] = counts
        cells = np.arange(total) + np.repeat(np.arange(1, len(counts) + 1), counts)
        words[cells] = targets - (start + 4 * cells)
        layout.parts.append((start, lambda: (words.view(np.uint8),)))

    draft.children.append(place)


def _single_vector(start: int, targets: Positions) -> Iterator[Block]:
    """Make the only vector at a position: how many offsets it has, and these."""
    yield np.array([len(targets)], "<u4").view(np.uint8)
    for part in slices(len(targets), 4):
        cells = np.arange(start + 4 + 4 * part.start, start + 4 + 4 * part.stop, 4)
        yield (targets[part] - cells).astype("<u4").view(np.uint8)


def _byte_runs(column: RaggedBytes | Sequence[bytes | str | None]) -> Ragged:
    if not isinstance(column, RaggedBytes):
        column = RaggedBytes.from_list(
            [item.encode() if isinstance(item, str) else item or b"" for item in column]
        )
    return Ragged(column.offsets, column.data)


def _spread(positions: Positions, present: Mask | None) -> Positions:
    """Spread what belongs to the present rows over all rows."""
    if present is None:
        return positions
    spread = np.zeros(len(present), np.int64)
    spread[present] = positions
    return spread


def _check(field: Field, given: int, expected: int) -> None:
    if given != expected:
        raise ValueError(f"column {field.name!r} has {given} items for {expected} rows")

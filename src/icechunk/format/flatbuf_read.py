"""Reading many flatbuffer tables at once, one numpy call per field instead of one per table.

`Buffer.root` gives the root as `Rows` of length one; `Rows` is any number of tables of the same
type, known by their positions, and hands out one column per field. The tables of one vector may
have different vtables: each distinct vtable is parsed once and its slots are spread over its
rows.

The bytes are not trusted. Every position is checked against the payload before it is used, and the
bytes gathered for one field are limited to a small multiple of the payload, so that offsets which
all point to the same large vector cannot exhaust memory. Everything wrong is a `FormatError` that
names the file and the field.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from icechunk.chunks.ragged import RaggedBytes
from icechunk.chunks.ragged_copy import copy_runs, windows
from icechunk.format.damage import Damage, damaged
from icechunk.format.flatbuf_columns import Positions, Ragged
from icechunk.format.schema import I32, U8, U16, U32, Element, Field, Kind, Table

GATHER_FACTOR = 4
GATHER_SLACK = 1 << 20
"""One field may gather at most GATHER_FACTOR times the payload plus GATHER_SLACK bytes.

Without sharing it can gather at most the payload once. Writers do share equal strings and vectors.
"""

NESTED_VTABLES = 8
"""Distinct vtables found by comparing; a file with more has them sorted."""


class Buffer:
    """One flatbuffer payload and the key of the file it came from.

    Parameters
    ----------
    data
        The decompressed payload.
    key
        Name of the file, for messages.
    """

    __slots__ = ("data", "key", "size", "u8")

    def __init__(self, data: bytes, key: str) -> None:
        self.data = data
        self.key = key
        self.size = len(data)
        self.u8: NDArray[np.uint8] = np.frombuffer(data, np.uint8)

    def root(self, table: Table) -> Rows:
        """Open the root table, as rows of length one."""
        if self.size < 8:
            self.fail(table.name, f"the payload has only {self.size} bytes")
        position = self.read(np.zeros(1, np.int64), U32).astype(np.int64)
        return Rows(self, table, self.bounded(position, 4, table.name))

    def fail(self, what: str, problem: str, damage: Damage | None = None) -> NoReturn:
        """Raise the error of a corrupt file."""
        raise damaged(f"{self.key} is corrupt: {what}: {problem}", damage)

    def bounded(self, positions: Positions, width: int, what: str) -> Positions:
        """Check that `width` bytes at each position, none negative, lie inside the payload."""
        if positions.size and int(positions.max()) + width > self.size:
            self.fail(what, f"an offset points outside the payload of {self.size} bytes")
        return positions

    def limited(self, total: int, what: str) -> int:
        """Check that gathering `total` bytes is proportionate to the payload."""
        if total > GATHER_FACTOR * self.size + GATHER_SLACK:
            self.fail(what, f"overlapping vectors add up to {total} bytes")
        return total

    def read(self, positions: Positions, element: Element) -> NDArray[Any]:
        """Gather one element at each checked position."""
        if positions.size == 0:
            return np.empty((0, *element.shape), element.dtype)
        if positions.size == 1:
            count = element.width or 1
            value = np.frombuffer(self.data, element.dtype, count, int(positions[0]))
            return value.reshape(1, *element.shape)
        raw = windows(self.data, element.size)[positions]
        return raw.view(element.dtype).reshape(len(positions), *element.shape)

    def follow(self, positions: Positions, what: str) -> Positions:
        """Resolve the offset stored at each checked position, to where four bytes can be read."""
        targets = positions + self.read(positions, U32)
        return self.bounded(targets, 4, what)

    def vectors(self, positions: Positions, size: int, what: str) -> tuple[Positions, Positions]:
        """Start and element count of the vectors at checked positions, ends checked."""
        counts = self.read(positions, U32).astype(np.int64)
        starts = positions + 4
        if counts.size and int((starts + counts * size).max()) > self.size:
            self.fail(what, f"a vector reaches beyond the payload of {self.size} bytes")
        self.limited(int(counts.sum()) * size, what)
        return starts, counts


class Rows:
    """Tables of one type, read a column at a time.

    Column methods take the name of a field. Rows in which the field is absent get the default, an
    empty string or an empty vector; `present` tells them apart. An absent required field is an
    error.

    Examples
    --------
    >>> root = Buffer(payload, "snapshots/...").root(schema.SNAPSHOT)        # doctest: +SKIP
    >>> flushed_at = int(root.scalar("flushed_at")[0])                       # doctest: +SKIP
    >>> nodes, _ = root.tables("nodes")                                      # doctest: +SKIP
    >>> paths = nodes.texts("path")                                          # doctest: +SKIP
    >>> arrays_at, arrays = nodes.member("node_data", 1)                     # doctest: +SKIP
    >>> refs, refs_per_array = arrays.tables("manifests")                    # doctest: +SKIP
    """

    __slots__ = ("_group", "_vtable_sizes", "_vtables", "buffer", "positions", "table")

    def __init__(self, buffer: Buffer, table: Table, positions: Positions) -> None:
        self.buffer = buffer
        self.table = table
        self.positions = positions
        vtables = positions - buffer.read(positions, I32)
        if vtables.size and int(vtables.min()) < 0:
            buffer.fail(table.name, "a vtable lies outside the payload")
        self._vtables, self._group = _distinct(vtables)
        buffer.bounded(self._vtables, 4, table.name)
        sizes = buffer.read(self._vtables, U16).astype(np.int64)
        if sizes.size and (
            int(sizes.min()) < 4 or int((self._vtables + sizes).max()) > buffer.size
        ):
            buffer.fail(table.name, "a vtable has an impossible size")
        self._vtable_sizes = sizes

    def __len__(self) -> int:
        return len(self.positions)

    def take(self, rows: NDArray[Any]) -> Rows:
        """Select rows by index or mask."""
        return Rows(self.buffer, self.table, self.positions[rows])

    def present(self, name: str) -> NDArray[np.bool_]:
        """Mask of the rows that have the field; for a union, those with a value."""
        field = self.table[name]
        slot = field.slot + 1 if field.kind is Kind.UNION else field.slot
        return np.broadcast_to(self._slot(slot) != 0, self.positions.shape)

    def scalar(self, name: str) -> NDArray[Any]:
        """Numbers of a scalar field, (n,)."""
        field = self.table[name]
        assert field.element is not None
        positions, has = self._locate(field, field.slot, field.element.size)
        values = self.buffer.read(positions, field.element)
        return values if has is None else _spread(values, has, field.default)

    def struct(self, name: str) -> NDArray[Any]:
        """Structs: (n, size) bytes for ids, (n,) records otherwise; zeros where absent."""
        return self.scalar(name)

    def byte_strings(self, name: str) -> RaggedBytes:
        """Strings or byte vectors, as stored: text is not checked to be UTF-8."""
        field = self.table[name]
        starts, counts, has = self._vectors(field, 1)
        ragged = self._gather(field, starts, counts, has, U8)
        return RaggedBytes(ragged.offsets, ragged.values)

    def texts(self, name: str) -> list[str | None]:
        """Strings of all rows, checked and decoded; None where absent."""
        return self._decode(name, self.byte_strings(name), self.present(name).tolist())

    def vectors(self, name: str) -> Ragged:
        """Vectors of numbers or structs."""
        field = self.table[name]
        assert field.element is not None
        starts, counts, has = self._vectors(field, field.element.size)
        return self._gather(field, starts, counts, has, field.element)

    def strings(self, name: str) -> tuple[RaggedBytes, Positions]:
        """Vectors of strings: the strings of all rows, and the number of each row."""
        field = self.table[name]
        what = self._what(field)
        positions, counts = self._elements(field)
        starts, lengths = self.buffer.vectors(self.buffer.follow(positions, what), 1, what)
        ragged = self._gather(field, starts, lengths, None, U8)
        return RaggedBytes(ragged.offsets, ragged.values), counts

    def string_lists(self, name: str) -> list[list[str]]:
        """Vectors of strings, checked and decoded."""
        strings, counts = self.strings(name)
        texts = iter(self._decode(name, strings, [True] * len(strings)))
        return [[str(next(texts)) for _ in range(count)] for count in counts.tolist()]

    def tables(self, name: str) -> tuple[Rows, Positions]:
        """Vectors of tables: the children of all rows end to end, and the number of each row."""
        field = self.table[name]
        assert field.target is not None
        positions, counts = self._elements(field)
        return Rows(
            self.buffer, field.target, self.buffer.follow(positions, self._what(field))
        ), counts

    def spans(self, name: str) -> tuple[Positions, Positions]:
        """Where the elements of each row's vector of tables begin, and how many there are."""
        starts, counts, has = self._vectors(self.table[name], 4)
        return (
            (starts, counts) if has is None else (_spread(starts, has, 0), _spread(counts, has, 0))
        )

    def child(self, name: str) -> Rows:
        """Child tables of the rows that have one (see `present`)."""
        field = self.table[name]
        assert field.target is not None
        positions, _ = self._locate(field, field.slot, 4)
        return Rows(self.buffer, field.target, self.buffer.follow(positions, self._what(field)))

    def discriminant(self, name: str) -> NDArray[np.uint8]:
        """Type of each row's union; 0 where there is none. May be a type the schema lacks."""
        field = self.table[name]
        positions, has = self._locate(field, field.slot, 1)
        values = self.buffer.read(positions, U8)
        return values if has is None else _spread(values, has, 0)

    def member(self, name: str, discriminant: int) -> tuple[Positions, Rows]:
        """Rows whose union is of one type: their indices, and the child table of each."""
        field = self.table[name]
        assert field.members is not None
        rows = np.flatnonzero(self.discriminant(name) == discriminant)
        slots = np.broadcast_to(self._slot(field.slot + 1), self.positions.shape)[rows]
        what = self._what(field)
        if not slots.all():
            self.buffer.fail(what, "a union has a type but no value")
        positions = self.buffer.bounded(self.positions[rows] + slots, 4, what)
        target = field.members[discriminant]
        return rows, Rows(self.buffer, target, self.buffer.follow(positions, what))

    def _what(self, field: Field) -> str:
        return f"{self.table.name}.{field.name}"

    def _slot(self, slot: int) -> Positions:
        """Where in its table each row has the slot; 0 is absent. One number if all agree."""
        entry = 4 + 2 * slot
        if self._group is None:
            if not len(self._vtables) or self._vtable_sizes[0] < entry + 2:
                return np.zeros(1, np.int64)
            return self.buffer.read(self._vtables + entry, U16).astype(np.int64)
        per_vtable = np.zeros(len(self._vtables), np.int64)
        reaches = self._vtable_sizes >= entry + 2
        per_vtable[reaches] = self.buffer.read(self._vtables[reaches] + entry, U16)
        return per_vtable[self._group]

    def _locate(
        self, field: Field, slot: int, width: int
    ) -> tuple[Positions, NDArray[np.bool_] | None]:
        """Positions of the rows that have the slot, and their mask (None: all of them)."""
        slots = self._slot(slot)
        if len(self) == 0 or slots.all():
            return self.buffer.bounded(self.positions + slots, width, self._what(field)), None
        has = np.broadcast_to(slots != 0, self.positions.shape)
        if field.required:
            row = int(np.argmin(has))
            self.buffer.fail(self._what(field), f"required, but row {row} does not have it")
        positions = (self.positions + slots)[has]
        return self.buffer.bounded(positions, width, self._what(field)), has

    def _vectors(
        self, field: Field, size: int
    ) -> tuple[Positions, Positions, NDArray[np.bool_] | None]:
        positions, has = self._locate(field, field.slot, 4)
        what = self._what(field)
        starts, counts = self.buffer.vectors(self.buffer.follow(positions, what), size, what)
        return starts, counts, has

    def _elements(self, field: Field) -> tuple[Positions, Positions]:
        """Positions of all elements of an offset vector, and the number of each row."""
        starts, counts, has = self._vectors(field, 4)
        total = int(counts.sum())
        before = np.cumsum(counts) - counts
        if len(starts) == 1:
            positions = starts[0] + 4 * np.arange(total)
        else:
            positions = np.repeat(starts - 4 * before, counts) + 4 * np.arange(total)
        return positions, counts if has is None else _spread(counts, has, 0)

    def _gather(
        self,
        field: Field,
        starts: Positions,
        counts: Positions,
        has: NDArray[np.bool_] | None,
        element: Element,
    ) -> Ragged:
        lengths = counts * element.size
        ends = np.cumsum(lengths)
        raw = np.empty(int(ends[-1]) if len(ends) else 0, np.uint8)
        copy_runs(self.buffer.u8, starts, raw, ends - lengths, lengths)
        offsets = np.zeros(len(self) + 1 if has is not None else len(counts) + 1, np.int64)
        np.cumsum(counts if has is None else _spread(counts, has, 0), out=offsets[1:])
        values = raw if element is U8 else raw.view(element.dtype).reshape(-1, *element.shape)
        return Ragged(offsets, values)

    def _decode(self, name: str, strings: RaggedBytes, has: list[bool]) -> list[str | None]:
        raw = strings.data.tobytes()
        offsets = strings.offsets.tolist()
        try:
            return [
                raw[start:end].decode() if is_present else None
                for start, end, is_present in zip(offsets[:-1], offsets[1:], has, strict=True)
            ]
        except UnicodeDecodeError as error:
            self.buffer.fail(self._what(self.table[name]), f"text is not UTF-8 ({error.reason})")


def _distinct(values: Positions) -> tuple[Positions, NDArray[np.intp] | None]:
    """Find the distinct values and which one each row has; None if there is at most one.

    Real files have one to three, for which a comparison each beats a sort.
    """
    if values.size == 0 or bool((values == values[0]).all()):
        return values[:1], None
    group = np.full(values.size, -1, np.intp)
    found: list[Any] = []
    for _ in range(NESTED_VTABLES):
        row = int(np.argmax(group < 0))
        if group[row] >= 0:
            return np.array(found), group
        group[values == values[row]] = len(found)
        found.append(values[row])
    return np.unique(values, return_inverse=True)


def _spread(values: NDArray[Any], has: NDArray[np.bool_], default: int) -> NDArray[Any]:
    """Put the values of the present rows in place and the default elsewhere."""
    spread = np.zeros((len(has), *values.shape[1:]), values.dtype)
    if default:
        spread[...] = default
    spread[has] = values
    return spread

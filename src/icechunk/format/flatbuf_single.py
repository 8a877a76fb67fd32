"""Reading one flatbuffer table at a time, in plain Python, and regular vectors of small tables.

The counterpart of `flatbuf_read` where a file has few tables of a type: numpy calls then cost more
than what they do. Bytes are not trusted here either: everything is checked before it is used, and
what is wrong is a `FormatError` that names the file and the field.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from struct import Struct

import numpy as np
import numpy.typing as npt

from icechunk.format.flatbuf_read import Buffer
from icechunk.format.schema import Field, Table

__all__ = ["Single", "equal_vectors"]

_EMPTY: npt.NDArray[np.uint8] = np.zeros((0, 64), np.uint8)

_u16 = Struct("<H").unpack_from
_u32 = Struct("<I").unpack_from
_i32 = Struct("<i").unpack_from


class Single:
    """One table of a buffer.

    Parameters
    ----------
    buffer
        The payload.
    table
        Its type.
    position
        Where it begins; anything beyond the payload is an error.
    """

    __slots__ = ("_buffer", "_position", "_reach", "_table", "_vtable")

    def __init__(self, buffer: Buffer, table: Table, position: int) -> None:
        self._buffer = buffer
        self._table = table
        self._position = position
        self._check(position, 4, table.name)
        self._vtable = position - _i32(buffer.data, position)[0]
        self._check(self._vtable, 4, table.name)
        self._reach = _u16(buffer.data, self._vtable)[0]
        if self._reach < 4:
            buffer.fail(table.name, "a vtable has an impossible size")
        self._check(self._vtable, self._reach, table.name)

    @classmethod
    def root(cls, buffer: Buffer, table: Table) -> Single:
        """Open the root table."""
        if buffer.size < 8:
            buffer.fail(table.name, f"the payload has only {buffer.size} bytes")
        return cls(buffer, table, _u32(buffer.data, 0)[0])

    def struct(self, name: str) -> bytes:
        """Bytes of a required struct."""
        found = self.find_struct(name)
        if found is None:
            self._buffer.fail(self._what(self._table[name]), "required, but absent")
        return found

    def find_struct(self, name: str) -> bytes | None:
        """Bytes of a struct, None where it is absent."""
        field = self._table[name]
        start, size = self._place(field), _size(field)
        if not start:
            return None
        self._check(start, size, self._what(field))
        return self._buffer.data[start : start + size]

    def number(self, name: str) -> int:
        """Read a number; where it is absent it is its default."""
        field = self._table[name]
        start, size = self._place(field), _size(field)
        if not start:
            return field.default
        self._check(start, size, self._what(field))
        return int.from_bytes(self._buffer.data[start : start + size], "little")

    def text(self, name: str) -> str:
        """Read a required text."""
        field = self._table[name]
        start, count = self._span(field, 1)
        try:
            return self._buffer.data[start : start + count].decode()
        except UnicodeDecodeError:
            self._buffer.fail(self._what(field), "text is not UTF-8")

    def vector(self, name: str) -> npt.NDArray[np.uint8]:
        """Bytes of a vector of numbers or structs, one row each; not copied."""
        field = self._table[name]
        assert field.element is not None
        size = field.element.size
        start, count = self._span(field, size)
        if not count:
            return _EMPTY[:, :size]
        raw = self._buffer.u8[start : start + count * size]
        return raw.reshape(count, size)

    def offsets(self, name: str) -> tuple[int, int]:
        """Where the offsets of a vector of tables begin, and how many there are."""
        return self._span(self._table[name], 4)

    def tables(self, name: str) -> Iterator[Single]:
        """Go through the tables of a vector, which should be few."""
        field = self._table[name]
        assert field.target is not None
        start, count = self._span(field, 4)
        data = self._buffer.data
        places = range(start, start + 4 * count, 4)
        return (Single(self._buffer, field.target, at + _u32(data, at)[0]) for at in places)

    def _span(self, field: Field, size: int) -> tuple[int, int]:
        what = self._what(field)
        place = self._place(field)
        if not place:
            if field.required:
                self._buffer.fail(what, "required, but absent")
            return 0, 0
        self._check(place, 4, what)
        start = place + _u32(self._buffer.data, place)[0]
        self._check(start, 4, what)
        count = _u32(self._buffer.data, start)[0]
        self._check(start + 4, count * size, what)
        return start + 4, count

    def _place(self, field: Field) -> int:
        """Where the field is, 0 if it is absent."""
        entry = 4 + 2 * field.slot
        if entry + 2 > self._reach:
            return 0
        slot: int = _u16(self._buffer.data, self._vtable + entry)[0]
        return self._position + slot if slot else 0

    def _check(self, start: int, size: int, what: str) -> None:
        if start < 0 or start + size > self._buffer.size:
            self._buffer.fail(what, "an offset points outside the payload")

    def _what(self, field: Field) -> str:
        return f"{self._table.name}.{field.name}"


def _size(field: Field) -> int:
    assert field.element is not None
    return field.element.size


def equal_vectors(
    buffer: Buffer, table: Table, field: Field, start: int, count: int
) -> npt.NDArray[np.uint32] | None:
    """Read a vector of tables that consist of one vector of numbers each, all of equal length.

    Writers lay such tables out alike, at equal distances, so that the numbers of all of them are
    one block with strides.

    Parameters
    ----------
    buffer, start, count
        The payload, where the offsets of the vector begin, and how many they are.
    table, field
        Type of the tables, and their field.

    Returns
    -------
    numpy.ndarray or None
        The numbers, `(count, length)`, as a copy. None when the tables are laid out otherwise, or
        wrongly: they are to be read one by one then.
    """
    if count < 2:
        return None
    offsets = np.frombuffer(buffer.data, "<u4", count, start)
    first = start + int(offsets[0])
    stride = 4 + int(offsets[1]) - int(offsets[0])  # negative where tables were written backwards
    last = first + stride * (count - 1)
    lowest, highest = min(first, last), max(first, last)

    def reaches(shift: int) -> bool:
        return lowest >= 0 and highest + shift <= buffer.size

    if not reaches(4) or offsets.tobytes() != _steps(int(offsets[0]), stride - 4, count):
        return None
    vtable = first - _i32(buffer.data, first)[0]
    entry = vtable + 4 + 2 * field.slot
    if vtable < 0 or entry + 2 > buffer.size or _u16(buffer.data, vtable)[0] < entry + 2 - vtable:
        return None
    slot = _u16(buffer.data, entry)[0]
    if not slot or not reaches(slot + 4):
        return None
    shift = slot + _u32(buffer.data, first + slot)[0]  # from a table to its vector
    if not reaches(shift + 4):
        return None
    width = _u32(buffer.data, first + shift)[0]
    if not reaches(shift + 4 + 4 * width):
        return None
    buffer.limited(4 * count * width, f"{table.name}.{field.name}")

    def column(shift: int, width: int) -> npt.NDArray[np.uint32]:
        """Numbers at an equal distance from each table."""
        return np.ndarray((count, width), "<u4", buffer.data, first + shift, (stride, 4))

    # Equal bytes are equal numbers, and are compared in a fraction of the time.
    if (
        column(0, 1).tobytes() != _steps(first - vtable, stride, count)
        or column(slot, 1).tobytes() != _steps(shift - slot, 0, count)
        or column(shift, 1).tobytes() != _steps(width, 0, count)
    ):
        return None
    return np.ascontiguousarray(column(shift + 4, width))


@lru_cache(maxsize=16)
def _steps(first: int, step: int, count: int) -> bytes:
    """Return an arithmetic sequence of 32-bit words as bytes; logs of a kind have the same ones."""
    steps = np.arange(count, dtype="<u4") * np.uint32(step % 2**32) + np.uint32(first % 2**32)
    return steps.tobytes()

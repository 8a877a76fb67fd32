"""The compact form in which a table travels between processes.

It is private to one version of the engine, never stored. Numbers are little-endian:

    magic "ictw" | version u8 | rank u8 | rows u64
    axis columns  x rank            numbers
    kinds                           numbers
    ids                             12 bytes per native row
    offsets, lengths                numbers, native and virtual rows
    inline                          strings, inline rows
    locations, etags                strings, virtual rows
    last_modified                   numbers, virtual rows

A column of *numbers* is a tag and a body: tag 0 all zero; 9 all the same, body u64; 1, 2, 4, 8 the
width of each number in the body. A column of *strings* is the numbers column of lengths, then the
bytes. A native reference of a one-dimensional array takes some 20 bytes.
"""

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from icechunk.chunks.arrays import ID_SIZE, MAX_COORD, Rows, frozen
from icechunk.chunks.columns import ChunkColumns
from icechunk.chunks.coords import is_sorted_unique
from icechunk.chunks.kinds import ChunkKind
from icechunk.chunks.ragged import RaggedBytes
from icechunk.errors import ErrorKind, FormatError

_HEADER = struct.Struct("<4sBBQ")
_MAGIC, _VERSION = b"ictw", 1
_CONSTANT = 9
_WIDTHS = {1: "<u1", 2: "<u2", 4: "<u4", 8: "<u8"}


def encode_columns(table: ChunkColumns) -> bytes:
    """Return the wire form of a table."""
    of = _rows_by_kind(table.kinds)
    parts = [_HEADER.pack(_MAGIC, _VERSION, table.rank, len(table))]
    for axis in range(table.rank):
        _put_numbers(parts, table.coords[:, axis])
    _put_numbers(parts, table.kinds)
    if table.ids is not None:
        parts.append(_part(table.ids, of["native"]).tobytes())
    _put_numbers(parts, _part(table.offsets, of["ranged"]))
    _put_numbers(parts, _part(table.lengths, of["ranged"]))
    _put_strings(parts, table.inline, of["inline"])
    _put_strings(parts, table.locations, of["virtual"])
    _put_strings(parts, table.etags, of["virtual"])
    _put_numbers(parts, _part(table.last_modified, of["virtual"]))
    return b"".join(parts)


def decode_columns(data: bytes | bytearray | memoryview) -> dict[str, Any]:
    """Return the columns of a table from its wire form, completely checked.

    Raises
    ------
    FormatError
        The bytes are not a valid table. No more rows are made than there are bytes.
    """
    data = bytes(data)  # columns share this memory, so nobody else may change it
    reader = _Reader(memoryview(data))
    magic, version, rank, n = _HEADER.unpack(reader.take(_HEADER.size, "header"))
    if magic != _MAGIC or version != _VERSION:
        raise _corrupt(f"unknown header {magic!r} version {version}")
    # Distinct rows need at least one axis written out, so more rows than bytes cannot be.
    if n > max(1, len(data)):
        raise _corrupt(f"{n} rows declared in {len(data)} bytes")
    coords = np.empty((n, rank), np.uint32)
    for axis in range(rank):
        coords[:, axis] = reader.numbers(n, "coords", MAX_COORD)
    if not is_sorted_unique(coords):
        raise _corrupt("rows are not sorted and unique")
    kinds = reader.numbers(n, "kinds", int(ChunkKind.INLINE)).astype(np.uint8)
    of = _rows_by_kind(kinds)
    columns: dict[str, Any] = {"coords": frozen(coords), "kinds": frozen(kinds)}
    if len(of["native"]):
        ids = reader.take(len(of["native"]) * ID_SIZE, "ids")
        columns["ids"] = _spread(np.frombuffer(ids, np.uint8).reshape(-1, ID_SIZE), of["native"], n)
    columns["offsets"] = _spread(reader.numbers(len(of["ranged"]), "offsets"), of["ranged"], n)
    lengths = _spread(reader.numbers(len(of["ranged"]), "lengths"), of["ranged"], n)
    columns["inline"] = reader.strings(of["inline"], n, "inline")
    columns["locations"] = reader.strings(of["virtual"], n, "locations", is_text=True)
    columns["etags"] = reader.strings(of["virtual"], n, "etags", is_text=True)
    modified = reader.numbers(len(of["virtual"]), "last_modified", 2**32 - 1)
    columns["last_modified"] = _spread(modified.astype(np.uint32), of["virtual"], n)
    reader.finish()
    if len(of["inline"]):
        lengths = lengths.copy()
        lengths[of["inline"]] = columns["inline"].lengths[of["inline"]]
    columns["lengths"] = frozen(lengths)
    return columns


class _Reader:
    """A cursor over the bytes that refuses to go past their end."""

    def __init__(self, data: "memoryview[int]") -> None:
        self._data = data
        self._at = 0

    def take(self, size: int, name: str) -> "memoryview[int]":
        start = self._at
        if size > len(self._data) - start:
            raise _corrupt(f"{name} needs {size} bytes at offset {start}, beyond the end")
        self._at = start + size
        return self._data[start : start + size]

    def numbers(self, n: int, name: str, limit: int = 2**64 - 1) -> npt.NDArray[np.uint64]:
        (tag,) = self.take(1, name)
        if tag == 0:
            return np.zeros(n, np.uint64)
        values: npt.NDArray[Any]
        if tag == _CONSTANT:
            values = np.frombuffer(self.take(8, name), "<u8")
        elif tag in _WIDTHS:
            values = np.frombuffer(self.take(n * tag, name), _WIDTHS[tag])
        else:
            raise _corrupt(f"unknown tag {tag} of {name}")
        if values.size and limit < 2**64 - 1 and int(values.max()) > limit:
            raise _corrupt(f"{name} holds {int(values.max())}, more than {limit}")
        if tag == _CONSTANT:
            return np.full(n, values[0], np.uint64)
        return values.astype(np.uint64)

    def strings(
        self, rows: Rows, n: int, name: str, *, is_text: bool = False
    ) -> RaggedBytes | None:
        left = len(self._data) - self._at
        lengths = self.numbers(len(rows), f"lengths of {name}", left)
        # Each is at most the bytes left, so the sum of fewer than 2**31 of them cannot overflow.
        column = RaggedBytes.from_lengths(lengths, self.take(int(lengths.sum()), name))
        if is_text and not column.is_utf8():
            raise _corrupt(f"{name} is not valid UTF-8")
        return column.spread(rows, n) if len(rows) else None

    def finish(self) -> None:
        if self._at != len(self._data):
            raise _corrupt(f"{len(self._data) - self._at} bytes too many")


def _corrupt(what: str) -> FormatError:
    return FormatError(f"corrupt chunk table received: {what}", ErrorKind.DESERIALIZATION)


def _rows_by_kind(kinds: npt.NDArray[np.uint8]) -> dict[str, Rows]:
    is_native, is_virtual = kinds == ChunkKind.NATIVE, kinds == ChunkKind.VIRTUAL
    return {
        "native": np.flatnonzero(is_native),
        "virtual": np.flatnonzero(is_virtual),
        "ranged": np.flatnonzero(is_native | is_virtual),
        "inline": np.flatnonzero(kinds == ChunkKind.INLINE),
    }


def _part(column: npt.NDArray[Any] | None, rows: Rows) -> npt.NDArray[Any]:
    if column is None:
        return np.zeros(0, np.uint8)  # written as all zero
    return column if len(rows) == len(column) else column[rows]


def _spread(values: npt.NDArray[Any], rows: Rows, n: int) -> npt.NDArray[Any]:
    """Return a column of `n` rows holding `values` at `rows` and zero elsewhere."""
    if len(rows) == n:
        return frozen(values)
    column = np.zeros((n, *values.shape[1:]), values.dtype)
    column[rows] = values
    return frozen(column)


def _put_numbers(parts: list[bytes], values: npt.NDArray[Any]) -> None:
    high = int(values.max()) if values.size else 0
    if high == 0:
        parts.append(b"\0")
        return
    if int(values.min()) == high:
        parts.append(struct.pack("<BQ", _CONSTANT, high))
        return
    width = next(width for width in _WIDTHS if high < 1 << 8 * width)
    parts.append(bytes([width]))
    parts.append(values.astype(_WIDTHS[width]).tobytes())


def _put_strings(parts: list[bytes], column: RaggedBytes | None, rows: Rows) -> None:
    if column is None:
        parts.append(b"\0")
        return
    _put_numbers(parts, _part(column.lengths, rows))
    parts.append(column.data.tobytes())

"""Finding one chunk reference in a manifest by bisecting its vector of tables in place.

The counterpart of decoding a whole column when a single chunk is read: about twenty tables are
touched, four numbers each, and nothing is copied. Bytes are not trusted here either: reads are
bounds-checked by `struct`, vtables are checked once and remembered.
"""

from __future__ import annotations

from struct import Struct, error
from typing import NoReturn

from icechunk.chunks.kinds import ChunkKind, ChunkRef
from icechunk.errors import ErrorKind, FormatError
from icechunk.format import locations
from icechunk.format.schema import CHUNK_REF

_u16 = Struct("<H").unpack_from
_u32 = Struct("<I").unpack_from
_u64 = Struct("<Q").unpack_from
_i32 = Struct("<i").unpack_from

_SLOT = {name: field.slot for name, field in CHUNK_REF.fields.items()}
_SLOTS = len(_SLOT)
_INDEX = _SLOT["index"]

MAX_VTABLES = 64
"""Vtables remembered; a file with more is odd, and may be slow."""


class ChunkRefSearch:
    """The sorted references of one array inside a manifest's payload.

    Parameters
    ----------
    data
        The payload.
    key
        The manifest's file, for messages.
    start
        Position of the first offset of the vector of tables.
    count
        Number of tables, all of whose offsets are known to lie in the payload.
    dictionary
        Opens compressed locations; empty if there is none.
    """

    __slots__ = ("_count", "_data", "_dictionary", "_hint", "_key", "_start", "_vtables")

    def __init__(self, data: bytes, key: str, start: int, count: int, dictionary: bytes) -> None:
        self._data = data
        self._key = key
        self._start = start
        self._count = count
        self._dictionary = dictionary
        self._vtables: dict[int, tuple[int, ...]] = {}
        self._hint = 0

    def find(self, coords: tuple[int, ...]) -> ChunkRef | None:
        """Find the reference at `coords`, or None."""
        try:
            position = self._bisect(coords)
            return None if position is None else self._ref(position, coords)
        except error as problem:
            self._fail(f"an offset points outside the payload ({problem})")

    def _bisect(self, coords: tuple[int, ...]) -> int | None:
        """Position of the table with these coordinates."""
        data, start, vtables = self._data, self._start, self._vtables
        table: int
        rank = len(coords)
        read = Struct(f"<{rank + 1}I").unpack_from
        wanted = (rank, *coords)
        low, high = 0, self._count
        # Chunks are mostly read in order: try the successor of the last one found first.
        middle = self._hint  # read once: other threads move it
        if middle >= high:
            middle = high >> 1
        while low < high:
            slot = start + 4 * middle
            table = slot + _u32(data, slot)[0]
            vtable = table - _i32(data, table)[0]
            slots = vtables.get(vtable) or self._vtable(vtable)
            at = table + slots[_INDEX]
            at += _u32(data, at)[0]
            found = read(data, at)
            if found == wanted:
                self._hint = middle + 1
                return table
            if found[0] != rank:
                self._fail(f"a reference of rank {found[0]} in an array of rank {rank}")
            if found < wanted:
                low = middle + 1
            else:
                high = middle
            middle = (low + high) >> 1
        return None

    def _vtable(self, vtable: int) -> tuple[int, ...]:
        """Slots of a vtable, where in the table each field is; 0 is absent."""
        if vtable < 0:
            self._fail("a vtable lies outside the payload")
        data = self._data
        size = _u16(data, vtable)[0]
        if size < 4:
            self._fail("a vtable has an impossible size")
        slots = tuple(
            _u16(data, vtable + 4 + 2 * slot)[0] if 6 + 2 * slot <= size else 0
            for slot in range(_SLOTS)
        )
        if not slots[_INDEX]:
            self._fail("index is required, but a reference does not have it")
        if len(self._vtables) >= MAX_VTABLES:
            self._vtables.clear()
        self._vtables[vtable] = slots
        return slots

    def _ref(self, table: int, coords: tuple[int, ...]) -> ChunkRef:
        data = self._data
        vtable = table - _i32(data, table)[0]
        slots = self._vtables.get(vtable) or self._vtable(vtable)

        def string(name: str) -> bytes | None:
            slot = slots[_SLOT[name]]
            if not slot:
                return None
            at = table + slot
            at += _u32(data, at)[0]
            end = at + 4 + _u32(data, at)[0]
            if end > len(data):
                self._fail(f"{name} reaches beyond the payload")
            return data[at + 4 : end]

        def number(name: str) -> int:
            slot = slots[_SLOT[name]]
            return _u64(data, table + slot)[0] if slot else 0

        slot = slots[_SLOT["chunk_id"]]
        if slot:
            chunk_id = data[table + slot : table + slot + 12]
            if len(chunk_id) != 12:
                self._fail("chunk_id reaches beyond the payload")
            return ChunkRef(ChunkKind.NATIVE, chunk_id, number("offset"), number("length"))
        location = string("compressed_location")
        if location is not None:
            what = f"{self._key} is corrupt: ChunkRef.compressed_location"
            if not self._dictionary:
                self._fail("compressed_location is set, but the file has no dictionary for it")
            location = locations.decompress_one(location, self._dictionary, what)
        else:
            location = string("location")
        if location is not None:
            etag = string("checksum_etag")
            slot = slots[_SLOT["checksum_last_modified"]]
            seconds = _u32(data, table + slot)[0] if slot else 0
            try:
                return ChunkRef(
                    ChunkKind.VIRTUAL,
                    None,
                    number("offset"),
                    number("length"),
                    None,
                    location.decode(),
                    etag.decode() if etag else None,
                    0 if etag else seconds,
                )
            except UnicodeDecodeError as problem:
                self._fail(f"text of a virtual reference is not UTF-8 ({problem.reason})")
        inline = string("inline")
        if inline is not None:
            return ChunkRef(ChunkKind.INLINE, None, 0, len(inline), inline)
        self._fail(f"the reference to {coords} refers to nothing")

    def _fail(self, problem: str) -> NoReturn:
        raise FormatError(f"{self._key} is corrupt: ChunkRef: {problem}", ErrorKind.DESERIALIZATION)

"""The chunk references of one array as columns: a sorted, immutable table.

Everything that holds many references is such a table: a manifest's array, a session's sealed
writes, what a forked worker hands back. Operations on whole tables are in `combine` and `split`;
this module knows the columns, how a valid table is made, and how rows are found and selected.
Icechunk spec, "Manifest files".
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt

from icechunk.chunks.arrays import (
    Mask,
    Rows,
    as_column,
    as_coords,
    as_ids,
    frozen,
)
from icechunk.chunks.build import columns_of_refs
from icechunk.chunks.columns import COLUMNS, NEEDED_COLUMNS, ChunkColumns, gather, tidied
from icechunk.chunks.coords import sort_last_wins
from icechunk.chunks.kinds import ChunkKind, ChunkRef
from icechunk.chunks.lookup import Lookup
from icechunk.chunks.ragged import RaggedBytes
from icechunk.chunks.runs import Runs
from icechunk.chunks.wire import decode_columns, encode_columns
from icechunk.errors import ErrorKind, InvalidInputError


@dataclass(frozen=True, slots=True, eq=False)
class ChunkTable(ChunkColumns):
    """References of one array, sorted lexicographically by coordinates, one row per chunk.

    The constructor trusts its arguments to be as described; the class methods `from_columns`,
    `native`, `virtual`, `inline_`, `deleted` and `from_refs` take any order and check their input.
    """

    _lookup: Lookup | None = field(default=None, init=False, repr=False)

    @classmethod
    def empty(cls, rank: int) -> Self:
        """Return a table without rows."""
        return cls(
            coords=frozen(np.zeros((0, rank), np.uint32)),
            kinds=frozen(np.zeros(0, np.uint8)),
            lengths=frozen(np.zeros(0, np.uint64)),
        )

    @classmethod
    def from_columns(
        cls,
        coords: npt.ArrayLike,
        kinds: npt.ArrayLike,
        lengths: npt.ArrayLike,
        *,
        ids: npt.ArrayLike | bytes | None = None,
        offsets: npt.ArrayLike | None = None,
        inline: RaggedBytes | None = None,
        locations: RaggedBytes | None = None,
        etags: RaggedBytes | None = None,
        last_modified: npt.ArrayLike | None = None,
    ) -> "ChunkTable":
        """Return a table of rows given in any order; of rows at the same place the last wins.

        Columns that fit already are not copied when the rows are sorted. `kinds` and the integer
        columns may be scalars. Lengths of inline rows are taken from `inline`.

        Raises
        ------
        InvalidInputError
            Coordinates or other numbers are out of range, columns differ in length, or a kind
            lacks the column it needs.
        """
        places = as_coords(coords)
        n = len(places)
        kind_column = as_column("kinds", kinds, np.uint8, n)
        if n and int(kind_column.max()) > ChunkKind.INLINE:
            raise InvalidInputError(
                f"chunk kinds must be 0 to {int(ChunkKind.INLINE)}, got {int(kind_column.max())}",
                ErrorKind.INVALID_CHUNK_INDEX,
            )
        length_column = as_column("lengths", lengths, np.uint64, n)
        if inline is not None:
            length_column = frozen(
                np.where(
                    kind_column == ChunkKind.INLINE, inline.lengths.astype(np.uint64), length_column
                )
            )
        table = ChunkTable(
            coords=places,
            kinds=kind_column,
            lengths=length_column,
            ids=None if ids is None else as_ids(ids, n),
            offsets=None if offsets is None else as_column("offsets", offsets, np.uint64, n),
            inline=_checked("inline", inline, n),
            locations=_checked("locations", locations, n),
            etags=_checked("etags", etags, n),
            last_modified=None
            if last_modified is None
            else as_column("last_modified", last_modified, np.uint32, n),
        )
        for kind, name in NEEDED_COLUMNS.items():
            if getattr(table, name) is None and (kind_column == kind).any():
                raise InvalidInputError(
                    f"{kind.name.lower()} chunk references need the column {name!r}",
                    ErrorKind.INVALID_CHUNK_INDEX,
                )
        rows = sort_last_wins(places)
        return tidied(table) if rows is None else gather([table], Runs.of_rows(rows))

    @classmethod
    def native(
        cls,
        coords: npt.ArrayLike,
        ids: npt.ArrayLike | bytes,
        lengths: npt.ArrayLike,
        offsets: npt.ArrayLike | None = None,
    ) -> "ChunkTable":
        """Return native references; see `from_columns`."""
        return cls.from_columns(coords, ChunkKind.NATIVE, lengths, ids=ids, offsets=offsets)

    @classmethod
    def virtual(
        cls,
        coords: npt.ArrayLike,
        locations: RaggedBytes,
        offsets: npt.ArrayLike | None,
        lengths: npt.ArrayLike,
        etags: RaggedBytes | None = None,
        last_modified: npt.ArrayLike | None = None,
    ) -> "ChunkTable":
        """Return virtual references; see `from_columns`. Locations and etags are UTF-8."""
        return cls.from_columns(
            coords,
            ChunkKind.VIRTUAL,
            lengths,
            offsets=offsets,
            locations=locations,
            etags=etags,
            last_modified=last_modified,
        )

    @classmethod
    def inline_(cls, coords: npt.ArrayLike, payload: RaggedBytes) -> "ChunkTable":
        """Return inline references holding `payload`; see `from_columns`."""
        return cls.from_columns(coords, ChunkKind.INLINE, 0, inline=payload)

    @classmethod
    def deleted(cls, coords: npt.ArrayLike) -> "ChunkTable":
        """Return rows that hide older references at `coords`; see `from_columns`."""
        return cls.from_columns(coords, ChunkKind.DELETED, 0)

    @classmethod
    def from_refs(
        cls,
        rank: int,
        items: Mapping[tuple[int, ...], ChunkRef] | Iterable[tuple[tuple[int, ...], ChunkRef]],
    ) -> "ChunkTable":
        """Return a table of single references, such as a session's write buffer.

        Raises
        ------
        InvalidInputError
            Coordinates of another rank or out of range, or a reference without the fields its
            kind needs.
        """
        return cls.from_columns(**columns_of_refs(rank, items))

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview) -> "ChunkTable":
        """Return the table that `to_bytes` wrote.

        Raises
        ------
        FormatError
            The bytes are not a valid table, which is checked completely.
        """
        return tidied(ChunkTable(**decode_columns(data)))

    def to_bytes(self) -> bytes:
        """Return a compact form for sending to another process, not for storage."""
        return encode_columns(self)

    def __reduce__(self) -> tuple[Callable[[bytes], "ChunkTable"], tuple[bytes]]:
        return ChunkTable.from_bytes, (self.to_bytes(),)

    def lookup(self) -> Lookup:
        """Return the table's row index, made on first use."""
        lookup = self._lookup
        if lookup is None:
            lookup = Lookup(self.coords)
            object.__setattr__(self, "_lookup", lookup)  # a cache: the value does not change
        return lookup

    def find(self, coords: tuple[int, ...]) -> int:
        """Return the row at `coords`, or -1. About a microsecond, after a first use that may index.

        Raises
        ------
        InvalidInputError
            `coords` has another rank than the table.
        """
        if len(coords) != self.coords.shape[1]:
            raise InvalidInputError(
                f"chunk coordinates {coords} have rank {len(coords)}, "
                f"but the array's chunk grid has rank {self.rank}",
                ErrorKind.INVALID_CHUNK_INDEX,
            )
        return (self._lookup or self.lookup()).find(coords)

    def locate(self, coords: npt.ArrayLike) -> Rows:
        """Return the row at each of the `(m, rank)` coordinates, -1 where there is none."""
        return self.lookup().locate(as_coords(coords, self.rank))

    def ref(self, row: int) -> ChunkRef:
        """Return one row as a value."""
        if row < 0:
            raise IndexError(f"chunk table row {row} is negative")
        kind = int(self.kinds[row])
        if kind == ChunkKind.NATIVE:
            assert self.ids is not None
            offset = 0 if self.offsets is None else int(self.offsets[row])
            return ChunkRef(kind, self.ids[row].tobytes(), offset, int(self.lengths[row]))
        if kind == ChunkKind.INLINE:
            payload = b"" if self.inline is None else self.inline[row]
            return ChunkRef(kind, length=len(payload), inline=payload)
        if kind == ChunkKind.VIRTUAL:
            assert self.locations is not None
            etag = b"" if self.etags is None else self.etags[row]
            return ChunkRef(
                kind,
                offset=0 if self.offsets is None else int(self.offsets[row]),
                length=int(self.lengths[row]),
                location=self.locations[row].decode(),
                etag=etag.decode() if etag else None,
                last_modified=0 if self.last_modified is None else int(self.last_modified[row]),
            )
        return ChunkRef(kind)

    def get(self, coords: tuple[int, ...]) -> ChunkRef | None:
        """Return the reference at `coords`, or None."""
        row = self.find(coords)
        return None if row < 0 else self.ref(row)

    def items(self) -> Iterator[tuple[tuple[int, ...], ChunkRef]]:
        """Yield every row as objects, for small tables and tests."""
        for row, coords in enumerate(self.coords.tolist()):
            yield tuple(coords), self.ref(row)

    def take(self, rows: Rows | Mask | slice | Sequence[int]) -> "ChunkTable":
        """Return the selected rows, which must be in ascending order.

        A slice, or rows that follow each other, shares memory with this table.

        Raises
        ------
        InvalidInputError
            Row numbers are not strictly ascending, or not rows of this table.
        """
        n = len(self)
        if isinstance(rows, slice):
            start, stop, step = rows.indices(n)
            if step == 1:
                stop = max(start, stop)
                return gather([self], Runs(np.array([start]), np.array([stop])))
            numbers: Rows = np.arange(start, stop, step)
        else:
            selector = np.asarray(rows)
            if selector.dtype == np.bool_:
                if selector.shape != (n,):
                    raise InvalidInputError(
                        f"a mask of {selector.shape} cannot select from {n} chunk references",
                        ErrorKind.INVALID_CHUNK_INDEX,
                    )
                numbers = np.flatnonzero(selector)
            else:
                numbers = selector.astype(np.int64, copy=False)
        if len(numbers) and (
            numbers[0] < 0 or numbers[-1] >= n or not (numbers[1:] > numbers[:-1]).all()
        ):
            raise InvalidInputError(
                f"rows to take must be strictly ascending and below {n}",
                ErrorKind.INVALID_CHUNK_INDEX,
            )
        return gather([self], Runs.of_rows(numbers))

    def with_coords(self, coords: npt.ArrayLike) -> "ChunkTable":
        """Return the same references at other places, row by row; the rank may change.

        Rows are sorted again; of rows that meet, the last wins.
        """
        places = as_coords(coords)
        if len(places) != len(self):
            raise InvalidInputError(
                f"{len(places)} coordinates given for {len(self)} chunk references",
                ErrorKind.INVALID_CHUNK_INDEX,
            )
        moved = ChunkTable(coords=places, **{name: getattr(self, name) for name in COLUMNS[1:]})
        rows = sort_last_wins(places)
        return moved if rows is None else gather([moved], Runs.of_rows(rows))

    def columns(self) -> ChunkColumns:
        """Return the columns without the promise that rows are sorted and unique."""
        return ChunkColumns(**{name: getattr(self, name) for name in COLUMNS})

    def bounds(self) -> tuple[tuple[int, int], ...]:
        """Return the tight half-open box around all rows, (0, 0) per axis when there are none."""
        return self.lookup().box.bounds

    def count_by_kind(self) -> dict[ChunkKind, int]:
        """Return how many rows there are of each kind, zeros included."""
        return {kind: int(np.count_nonzero(self.kinds == kind)) for kind in ChunkKind}


def _checked(name: str, column: RaggedBytes | None, n: int) -> RaggedBytes | None:
    if column is not None and len(column) != n:
        raise InvalidInputError(
            f"column {name!r} has {len(column)} strings, but the chunk table has {n} rows",
            ErrorKind.INVALID_CHUNK_INDEX,
        )
    return column

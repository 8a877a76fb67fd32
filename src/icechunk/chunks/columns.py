"""The columns of a chunk table, and how rows of tables are put together.

Which columns exist is said here once; selecting, stacking and merging rows treat them all alike.
Nothing here orders or checks rows: `icechunk.chunks.table` and `combine` do.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from icechunk.chunks.arrays import ID_SIZE, Bytes, Coords, frozen
from icechunk.chunks.kinds import ChunkKind
from icechunk.chunks.ragged import RaggedBytes
from icechunk.chunks.runs import Runs, take_rows


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ChunkColumns:
    """References of one array as columns, one row per chunk.

    A column is None when no row has anything to say in it. Where a column does not concern a
    row's kind the row holds zero or an empty string. Arrays are read-only and may share memory
    with other tables.
    """

    coords: Coords
    """(n, rank) uint32, C-contiguous, rows strictly ascending."""
    kinds: Bytes
    """(n,) uint8 of `ChunkKind`."""
    lengths: npt.NDArray[np.uint64]
    """(n,) uint64: bytes of the chunk, whatever its kind (inline included); 0 where deleted."""
    ids: Bytes | None = None
    """(n, 12) uint8: object ids of native chunks."""
    offsets: npt.NDArray[np.uint64] | None = None
    """(n,) uint64: where native and virtual chunks start in their objects."""
    inline: RaggedBytes | None = None
    """n strings: bytes of inline chunks."""
    locations: RaggedBytes | None = None
    """n strings: UTF-8 URLs of virtual chunks."""
    etags: RaggedBytes | None = None
    """n strings: UTF-8 entity tags of virtual chunks, empty for none."""
    last_modified: npt.NDArray[np.uint32] | None = None
    """(n,) uint32: seconds since the epoch for virtual chunks, 0 for none."""

    @property
    def rank(self) -> int:
        """Number of axes of the chunk grid."""
        return int(self.coords.shape[1])

    def __len__(self) -> int:
        return len(self.coords)

    @property
    def nbytes(self) -> int:
        """Memory the columns refer to."""
        columns = (getattr(self, name) for name in COLUMNS)
        return sum(column.nbytes for column in columns if column is not None)


T = TypeVar("T", bound=ChunkColumns)
COLUMNS = tuple(field.name for field in fields(ChunkColumns))
_RAGGED = ("inline", "locations", "etags")
NEEDED_COLUMNS = {
    ChunkKind.NATIVE: "ids",
    ChunkKind.INLINE: "inline",
    ChunkKind.VIRTUAL: "locations",
}


def tidied(table: T) -> T:
    """Return the table with columns that say nothing dropped."""
    changed: dict[str, Any] = {name: getattr(table, name) for name in COLUMNS}
    for kind, name in NEEDED_COLUMNS.items():
        if changed[name] is not None and not (table.kinds == kind).any():
            changed[name] = None
    if table.etags is not None and not len(table.etags.data):
        changed["etags"] = None
    for name in ("offsets", "last_modified"):
        if changed[name] is not None and not changed[name].any():
            changed[name] = None
    if all(changed[name] is getattr(table, name) for name in COLUMNS):
        return table
    return type(table)(**changed)


def gather(tables: Sequence[T], runs: Runs) -> T:
    """Return the rows that `runs` selects from tables stacked on each other.

    The selected rows must come out sorted and unique. Long runs are copied as slices; a single
    run of a single table is not copied at all.
    """
    if not runs.total:
        return _sliced(tables[0], 0, 0)
    if len(runs.starts) == 1:
        pieces = list(runs.pieces([len(table) for table in tables]))
        if len(pieces) == 1:
            owner, start, stop = pieces[0]
            return _sliced(tables[owner], start, stop)
    if runs.are_long:
        pieces = list(runs.pieces([len(table) for table in tables]))
        return stacked([_raw_slice(tables[i], start, stop) for i, start, stop in pieces])
    whole = stacked(tables) if len(tables) > 1 else tables[0]
    rows = runs.rows()
    columns: dict[str, Any] = {}
    for name in COLUMNS:
        column = getattr(whole, name)
        if isinstance(column, RaggedBytes):
            columns[name] = column.take(rows)
        elif column is not None:
            columns[name] = frozen(take_rows(column, rows))
    return tidied(type(tables[0])(**columns))


def stacked(tables: Sequence[T]) -> T:
    """Return the rows of all tables one after the other."""
    columns: dict[str, Any] = {}
    for name in COLUMNS:
        parts = [getattr(table, name) for table in tables]
        if all(part is None for part in parts):
            continue
        if name in _RAGGED:
            columns[name] = RaggedBytes.concat(
                RaggedBytes.empty(len(table)) if part is None else part
                for table, part in zip(tables, parts, strict=True)
            )
        else:
            columns[name] = frozen(
                np.concatenate(
                    [
                        _zeros(name, len(table)) if part is None else part
                        for table, part in zip(tables, parts, strict=True)
                    ]
                )
            )
    return tidied(type(tables[0])(**columns))


def _zeros(name: str, n: int) -> npt.NDArray[Any]:
    if name == "ids":
        return np.zeros((n, ID_SIZE), np.uint8)
    return np.zeros(n, np.uint32 if name == "last_modified" else np.uint64)


def _raw_slice(table: T, start: int, stop: int) -> T:
    columns: dict[str, Any] = {}
    for name in COLUMNS:
        column = getattr(table, name)
        if isinstance(column, RaggedBytes):
            columns[name] = column.slice(start, stop)
        elif column is not None:
            columns[name] = column[start:stop]
    return type(table)(**columns)


def _sliced(table: T, start: int, stop: int) -> T:
    if start == 0 and stop == len(table):
        return table
    return tidied(_raw_slice(table, start, stop))

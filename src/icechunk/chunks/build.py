"""Columns from single references: how a session's write buffer becomes a table.

This is where a commit meets Python objects, so every column is drawn out of all references by one
call that loops in C.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from icechunk.chunks.arrays import ID_SIZE, Coords, Rows, as_coords
from icechunk.chunks.kinds import ChunkKind, ChunkRef
from icechunk.chunks.ragged import RaggedBytes
from icechunk.errors import ErrorKind, InvalidInputError

_KIND, _ID, _OFFSET, _LENGTH, _INLINE, _LOCATION, _ETAG, _LAST_MODIFIED = map(itemgetter, range(8))


def columns_of_refs(
    rank: int,
    items: Mapping[tuple[int, ...], ChunkRef] | Iterable[tuple[tuple[int, ...], ChunkRef]],
) -> dict[str, Any]:
    """Return the arguments of `ChunkTable.from_columns` for the given references.

    Of references at the same coordinates the last wins.

    Raises
    ------
    InvalidInputError
        Coordinates of another rank or out of range, or a reference without the fields its kind
        needs.
    """
    by_coords = items if isinstance(items, Mapping) else dict(items)
    refs = list(by_coords.values())
    n = len(refs)
    try:
        columns: dict[str, Any] = {
            "coords": _coords(rank, by_coords.keys(), n),
            "kinds": np.fromiter(map(_KIND, refs), np.uint8, n),
            "lengths": np.zeros(n, np.uint64),
        }
        for kind, add in _ADD.items():
            rows = np.flatnonzero(columns["kinds"] == kind)
            if len(rows) == n:
                add(columns, rows, refs)
            elif len(rows):
                add(columns, rows, [refs[row] for row in rows.tolist()])
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(
            f"invalid chunk reference among {n} for an array of rank {rank}: {error}",
            ErrorKind.INVALID_CHUNK_INDEX,
        ) from error
    return columns


def _coords(rank: int, keys: Iterable[tuple[int, ...]], n: int) -> Coords:
    wrong = set(map(len, keys)) - {rank}
    if wrong:
        raise InvalidInputError(
            f"chunk coordinates have rank {min(wrong)}, but the array's chunk grid has rank {rank}",
            ErrorKind.INVALID_CHUNK_INDEX,
        )
    # int64 first: numpy scalars out of the range of uint32 would wrap around silently.
    flat = np.fromiter(chain.from_iterable(keys), np.int64, n * rank)
    return as_coords(flat.reshape(n, rank))


def _add_native(columns: dict[str, Any], rows: Rows, refs: Sequence[ChunkRef]) -> None:
    n = len(columns["kinds"])
    ids = list(map(_ID, refs))
    wrong = set(map(len, ids)) - {ID_SIZE}
    if wrong:
        raise InvalidInputError(
            f"a native chunk id has {min(wrong)} bytes, expected {ID_SIZE}",
            ErrorKind.INVALID_CHUNK_INDEX,
        )
    column = np.frombuffer(b"".join(ids), np.uint8).reshape(-1, ID_SIZE)
    if len(rows) < n:
        part, column = column, np.zeros((n, ID_SIZE), np.uint8)
        column[rows] = part
    columns["ids"] = column
    _add_ranges(columns, rows, refs)


def _add_virtual(columns: dict[str, Any], rows: Rows, refs: Sequence[ChunkRef]) -> None:
    n = len(columns["kinds"])
    _add_ranges(columns, rows, refs)
    columns["locations"] = RaggedBytes.from_strings(list(map(_LOCATION, refs))).spread(rows, n)
    etags = [etag or "" for etag in map(_ETAG, refs)]
    if any(etags):
        columns["etags"] = RaggedBytes.from_strings(etags).spread(rows, n)
    _add_numbers(columns, "last_modified", _LAST_MODIFIED, rows, refs)


def _add_inline(columns: dict[str, Any], rows: Rows, refs: Sequence[ChunkRef]) -> None:
    payloads = list(map(_INLINE, refs))
    columns["inline"] = RaggedBytes.from_list(payloads).spread(rows, len(columns["kinds"]))


def _add_ranges(columns: dict[str, Any], rows: Rows, refs: Sequence[ChunkRef]) -> None:
    _add_numbers(columns, "offsets", _OFFSET, rows, refs)
    _add_numbers(columns, "lengths", _LENGTH, rows, refs)


def _add_numbers(
    columns: dict[str, Any],
    name: str,
    of: "itemgetter[int]",
    rows: Rows,
    refs: Sequence[ChunkRef],
) -> None:
    dtype = np.uint32 if name == "last_modified" else np.uint64
    values: npt.NDArray[Any] = np.fromiter(map(of, refs), dtype, len(refs))
    if len(rows) == len(columns["kinds"]):
        columns[name] = values
    elif values.any():
        if name not in columns:
            columns[name] = np.zeros(len(columns["kinds"]), dtype)
        columns[name][rows] = values


_ADD: dict[ChunkKind, Callable[[dict[str, Any], Rows, Sequence[ChunkRef]], None]] = {
    ChunkKind.NATIVE: _add_native,
    ChunkKind.VIRTUAL: _add_virtual,
    ChunkKind.INLINE: _add_inline,
}

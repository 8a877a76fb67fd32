"""Renumbering the chunks of an array: what to record so that references stand at other places.

Both `shifted` and `reindexed` take every chunk an array has and return one table of edits, to be
laid over it: references at their new places, tombstones where nothing is left. Bytes of chunks are
not touched. Pure; how a user's function is called is said here too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import index
from typing import Final

import numpy as np
import numpy.typing as npt

from icechunk.chunks import ChunkTable, difference, overlay, shift
from icechunk.errors import ErrorKind, IcechunkError, InvalidInputError

__all__ = [
    "ArrayFunction",
    "ChunkFunction",
    "Renumbering",
    "by_array",
    "by_chunk",
    "reindexed",
    "shifted",
]

Places = npt.NDArray[np.int64]
"""(n, rank) chunk coordinates, possibly outside the grid."""
IsMapped = npt.NDArray[np.bool_]
"""(n,) whether a row of places means anything."""

Renumbering = Callable[[Places], tuple[Places, IsMapped]]
"""Says of chunk coordinates which others they correspond to, if any."""

ChunkFunction = Callable[[list[int]], Iterable[int] | None]
"""A user's function of the coordinates of one chunk; None: no counterpart."""
ArrayFunction = Callable[[Places], npt.ArrayLike | tuple[npt.ArrayLike, npt.ArrayLike]]
"""A user's function of many coordinates: places, or places and the mask of those that count."""

BEYOND: Final = 2**32
"""Outside every grid, and small enough for arithmetic."""


def shifted(table: ChunkTable, offset: Sequence[int], num_chunks: Sequence[int]) -> ChunkTable:
    """Return the edits that move every chunk by `offset`.

    Chunks that leave the grid are dropped; a place whose chunk moved away, and into which none
    moved, is cleared.
    """
    return _with_cleared(table, shift(table, offset, num_chunks))


def reindexed(
    table: ChunkTable,
    num_chunks: Sequence[int],
    forward: Renumbering,
    backward: Renumbering | None = None,
) -> ChunkTable:
    """Return the edits that copy every chunk to where `forward` says.

    Chunks without a counterpart stay. With `backward`, a place that has a chunk and became no
    destination is cleared, unless `backward` names a place that has a chunk too. Of chunks that
    meet at one destination the last wins.

    Raises
    ------
    InvalidInputError
        Kind ``invalid-chunk-index``: a destination lies outside the grid.
    """
    coords = table.coords.astype(np.int64)
    places, is_mapped = forward(coords)
    outside = is_mapped & ~_inside(places, num_chunks)
    if outside.any():
        row = int(outside.argmax())
        raise InvalidInputError(
            f"chunk {coords[row].tolist()} cannot go to {_shown(places[row])}, which is outside "
            f"the grid of {list(num_chunks)} chunks: resize the array first, or map it to nothing",
            ErrorKind.INVALID_CHUNK_INDEX,
        )
    moved = table.take(is_mapped).with_coords(places[is_mapped])
    if backward is None:
        return moved
    left = difference(table, moved).coords  # in order, as `backward` is to see them
    sources, has_source = backward(left.astype(np.int64))
    has_source &= _inside(sources, num_chunks)
    has_source[has_source] = table.locate(sources[has_source]) >= 0
    return overlay(ChunkTable.deleted(left[~has_source]), moved)


def by_chunk(function: ChunkFunction, rank: int) -> Renumbering:
    """Make a mapping of a function that is called with the coordinates of one chunk at a time.

    Raises
    ------
    IcechunkError
        From the mapping: the function failed, or returned no coordinates; it is chained.
    InvalidInputError
        From the mapping, of kind ``invalid-chunk-index``: coordinates of another rank.
    """

    def mapping(coords: Places) -> tuple[Places, IsMapped]:
        places = np.zeros((len(coords), rank), np.int64)
        is_mapped = np.zeros(len(coords), np.bool_)
        for row, here in enumerate(coords.tolist()):
            try:
                result = function(list(here))
                there = None if result is None else [index(step) for step in result]
            except Exception as error:
                raise _callback_failed(error, f"chunk {here}") from error
            if there is None:
                continue
            if len(there) != rank:
                raise InvalidInputError(
                    f"the function returned {there} for chunk {here}: an array of {rank} axes "
                    f"needs {rank} coordinates",
                    ErrorKind.INVALID_CHUNK_INDEX,
                )
            places[row] = [min(max(step, -1), BEYOND) for step in there]
            is_mapped[row] = True
        return places, is_mapped

    return mapping


def by_array(function: ArrayFunction, rank: int) -> Renumbering:
    """Make a mapping of a function that is called once, with the coordinates of all chunks.

    Raises
    ------
    IcechunkError
        From the mapping: the function failed, or returned no array of integers; it is chained.
    InvalidInputError
        From the mapping, of kind ``invalid-chunk-index``: arrays of another shape.
    """

    def mapping(coords: Places) -> tuple[Places, IsMapped]:
        n = len(coords)
        try:
            result = function(coords.copy())
            places, is_mapped = result if isinstance(result, tuple) else (result, np.ones(n, bool))
            places, is_mapped = np.asarray(places), np.asarray(is_mapped)
            if places.dtype.kind not in "iu" or is_mapped.dtype.kind != "b":
                raise TypeError(
                    "expected an array of integers, and maybe a mask of booleans, not "
                    f"{places.dtype} and {is_mapped.dtype}"
                )
        except Exception as error:
            raise _callback_failed(error, f"all {n} chunks") from error
        if places.shape != (n, rank) or is_mapped.shape != (n,):
            raise InvalidInputError(
                f"the function returned arrays of shapes {places.shape} and {is_mapped.shape} for "
                f"coordinates of shape {(n, rank)}: expected {(n, rank)}, and {(n,)} for the mask",
                ErrorKind.INVALID_CHUNK_INDEX,
            )
        if places.dtype.kind == "u":
            places = np.minimum(places, np.uint64(BEYOND))
        return np.clip(places.astype(np.int64), -1, BEYOND), is_mapped.copy()

    return mapping


def _with_cleared(table: ChunkTable, moved: ChunkTable) -> ChunkTable:
    """Return `moved`, and tombstones wherever else the table has a chunk."""
    return overlay(ChunkTable.deleted(difference(table, moved).coords), moved)


def _inside(places: Places, num_chunks: Sequence[int]) -> IsMapped:
    inside: IsMapped = np.ones(len(places), np.bool_)
    for axis, size in enumerate(num_chunks):
        inside &= (places[:, axis] >= 0) & (places[:, axis] < size)
    return inside


def _shown(place: Places) -> str:
    """Write a place down; what was clamped is only known to be outside."""
    names = {-1: "below 0", BEYOND: "beyond 2**32"}
    return "[" + ", ".join(names.get(step, str(step)) for step in place.tolist()) + "]"


def _callback_failed(error: Exception, where: str) -> IcechunkError:
    return IcechunkError(
        f"the function given to reindex_array failed for {where}: {type(error).__name__}: {error}; "
        "nothing was changed",
        ErrorKind.UNKNOWN,
    )

"""Operations on whole tables: merging, subtracting, comparing, cutting out regions.

Merging is how a session's writes meet a manifest and how workers' results meet each other; of two
references at the same place the later table's wins. Comparing is how overlapping work is found.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from icechunk.chunks.arrays import Coords, Mask, Rows, as_coords, frozen
from icechunk.chunks.columns import COLUMNS, gather, stacked, tidied
from icechunk.chunks.coords import insertion_points, sort_last_wins
from icechunk.chunks.kinds import ChunkKind
from icechunk.chunks.ragged import RaggedBytes
from icechunk.chunks.runs import Runs
from icechunk.chunks.table import ChunkTable
from icechunk.errors import ErrorKind, InvalidInputError


def concat_many(tables: Sequence[ChunkTable], *, rank: int | None = None) -> ChunkTable:
    """Merge any number of tables with one sort; where they meet, the later table wins.

    `rank` is that of the result when there are no tables.

    Raises
    ------
    InvalidInputError
        The tables differ in rank, or there are none and `rank` is not given.
    """
    if not tables and rank is None:
        raise InvalidInputError(
            "merging no chunk tables needs the rank of the result", ErrorKind.INVALID_CHUNK_INDEX
        )
    ranks = {table.rank for table in tables} | ({rank} if rank is not None else set())
    if len(ranks) > 1:
        raise InvalidInputError(
            f"chunk tables of one array cannot have ranks {sorted(ranks)}",
            ErrorKind.INVALID_CHUNK_INDEX,
        )
    filled = [table for table in tables if len(table)]
    if not filled:
        return ChunkTable.empty(ranks.pop())
    if len(filled) == 1:
        return filled[0]
    whole = stacked(filled)
    rows = sort_last_wins(whole.coords)
    return whole if rows is None else gather([whole], Runs.of_rows(rows))


def overlay(base: ChunkTable, *tops: ChunkTable, drop_deleted: bool = False) -> ChunkTable:
    """Lay tables over a base; later ones win, and DELETED rows hide what lies below.

    Costs a search per laid row and a copy of the base's columns, never a sort of the base. With
    `drop_deleted` the result has no DELETED rows, else they stay and go on hiding.
    """
    top = concat_many(tops, rank=base.rank)
    if not len(top):
        merged = base
    elif not len(base):
        merged = top
    else:
        points, found = insertion_points(base.coords, top.coords)
        kept = top.kinds != ChunkKind.DELETED if drop_deleted else np.ones(len(top), dtype=np.bool_)
        runs = _interleaved(len(base), points, found, kept)
        if not runs.are_long and found.all() and kept.all():
            merged = _replaced(base, points, top)
        else:
            merged = gather([base, top], runs)
    return without_deleted(merged) if drop_deleted else merged


def without_deleted(table: ChunkTable) -> ChunkTable:
    """Return the table without its DELETED rows."""
    is_present = table.kinds != ChunkKind.DELETED
    return table if is_present.all() else table.take(is_present)


def difference(table: ChunkTable, coords: ChunkTable | Coords) -> ChunkTable:
    """Return the rows of `table` whose coordinates are not among `coords`."""
    places = _places(coords, table.rank)
    rows = table.locate(places)
    is_left: Mask = np.ones(len(table), np.bool_)
    is_left[rows[rows >= 0]] = False
    return table if is_left.all() else table.take(is_left)


def select_region(table: ChunkTable, lo: Sequence[int], hi: Sequence[int]) -> ChunkTable:
    """Return the rows with `lo <= coords < hi` on every axis."""
    if len(lo) != table.rank or len(hi) != table.rank:
        raise InvalidInputError(
            f"region {tuple(lo)} to {tuple(hi)} does not fit a chunk grid of rank {table.rank}",
            ErrorKind.INVALID_CHUNK_INDEX,
        )
    if table.rank == 0:
        return table
    first = table.coords[:, 0]
    start, stop = (int(np.searchsorted(first, _as_coord(edge))) for edge in (lo[0], hi[0]))
    part = table.take(slice(start, stop))
    inside: Mask = np.ones(len(part), np.bool_)
    for axis in range(1, table.rank):
        inside &= part.coords[:, axis] >= _as_coord(lo[axis])
        inside &= part.coords[:, axis] < _as_coord(hi[axis])
    return part if inside.all() else part.take(inside)


def in_grid(table: ChunkTable, num_chunks: Sequence[int]) -> Mask:
    """Return which rows lie inside a chunk grid of the given size."""
    if len(num_chunks) != table.rank:
        raise InvalidInputError(
            f"chunk grid {tuple(num_chunks)} does not fit chunk references of rank {table.rank}",
            ErrorKind.INVALID_CHUNK_INDEX,
        )
    inside: Mask = np.ones(len(table), np.bool_)
    for axis, size in enumerate(num_chunks):
        inside &= table.coords[:, axis] < _as_coord(size)
    return inside


def starts_with(table: ChunkTable, leading: Sequence[int]) -> Mask:
    """Return which rows have coordinates that begin with `leading`; none if that is too long."""
    if len(leading) > table.rank:
        return np.zeros(len(table), np.bool_)
    found: Mask = np.all(table.coords[:, : len(leading)] == np.array(leading, np.int64), axis=1)
    return found


def shift(table: ChunkTable, offset: Sequence[int], num_chunks: Sequence[int]) -> ChunkTable:
    """Move every row by `offset`, dropping the rows that leave the chunk grid."""
    if not len(offset) == len(num_chunks) == table.rank:
        raise InvalidInputError(
            f"shift by {tuple(offset)} in chunk grid {tuple(num_chunks)} does not fit chunk "
            f"references of rank {table.rank}",
            ErrorKind.INVALID_CHUNK_INDEX,
        )
    lo = [-step for step in offset]
    hi = [size - step for size, step in zip(num_chunks, offset, strict=True)]
    staying = select_region(table, lo, hi)
    if not any(offset) or not len(staying):
        return staying
    moved = staying.coords + np.array(offset, np.int64)
    return staying.with_coords(moved)


def overlap(a: ChunkTable, b: ChunkTable) -> Coords:
    """Return the `(k, rank)` coordinates at which both tables have a row and the rows differ.

    Rows are the same when they have the same kind and the same id and range (native), bytes
    (inline), location, range and checksum (virtual); DELETED rows are all the same.
    """
    small, large = (a, b) if len(a) <= len(b) else (b, a)
    found = large.locate(_places(small, large.rank))
    is_shared = found >= 0
    mine, theirs = small.take(is_shared), large.take(found[is_shared])
    if not len(mine):
        return mine.coords
    return mine.coords[~_same(mine, theirs)]


def _same(a: ChunkTable, b: ChunkTable) -> Mask:
    n = len(a)
    same: Mask = a.kinds == b.kinds
    for name in COLUMNS[1:]:
        left, right = getattr(a, name), getattr(b, name)
        if left is None and right is None:
            continue
        if isinstance(left, RaggedBytes) or isinstance(right, RaggedBytes):
            blank = RaggedBytes.empty(n)
            equal = (blank if left is None else left).equal_rows(blank if right is None else right)
        else:
            equal = np.equal(0 if left is None else left, 0 if right is None else right)
            equal = equal.all(axis=1) if equal.ndim == 2 else equal
        same &= equal
    return same


def _interleaved(n: int, points: Rows, found: Mask, kept: Mask) -> Runs:
    """Return the runs of a base of `n` rows with a top stacked on it, merged in order.

    Top row `j` goes before base row `points[j]`, in whose place it stands if `found[j]`; it is
    left out unless `kept[j]`.
    """
    m = len(points)
    starts, stops = np.empty((2, 2 * m + 1), np.int64)
    starts[0], starts[2::2] = 0, points + found
    stops[:-1:2], stops[-1] = points, n
    starts[1::2] = np.arange(n, n + m)
    stops[1::2] = starts[1::2] + kept
    is_filled = starts < stops
    starts, stops = starts[is_filled], stops[is_filled]
    if not len(starts):
        return Runs(starts, stops)
    # Neighbours join, except across the seam between the two tables.
    is_cut = (starts[1:] != stops[:-1]) | (starts[1:] == n)
    return Runs(starts[np.concatenate([[True], is_cut])], stops[np.concatenate([is_cut, [True]])])


def _replaced(base: ChunkTable, rows: Rows, top: ChunkTable) -> ChunkTable:
    """Return the base with the given rows (ascending) replaced by all of `top`."""
    columns: dict[str, Any] = {"coords": base.coords}
    for name in COLUMNS[1:]:
        old, new = getattr(base, name), getattr(top, name)
        if old is None and new is None:
            continue
        if isinstance(old, RaggedBytes) or isinstance(new, RaggedBytes):
            source = np.arange(len(base))
            source[rows] = np.arange(len(base), len(base) + len(top))
            columns[name] = RaggedBytes.concat(
                [
                    RaggedBytes.empty(len(table)) if column is None else column
                    for table, column in ((base, old), (top, new))
                ]
            ).take(source)
            continue
        if old is None:
            column = np.zeros((len(base), *new.shape[1:]), new.dtype)
        else:
            column = old.copy()
        column[rows] = 0 if new is None else new
        columns[name] = frozen(column)
    return tidied(ChunkTable(**columns))


def _places(coords: ChunkTable | Coords, rank: int) -> Coords:
    return as_coords(coords.coords if isinstance(coords, ChunkTable) else coords, rank)


def _as_coord(value: int) -> np.uint64:
    """Return a bound that compares with coordinates without changing their type's order."""
    return np.uint64(min(max(int(value), 0), 2**32))

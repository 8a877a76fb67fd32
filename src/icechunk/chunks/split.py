"""Which rows go to which manifest: the chunk grid cut into cells.

Every axis is cut at multiples of its split size, or not at all where the size is None; references
inside one cell share a manifest. A grid may have astronomically many cells; only those that hold
rows are ever touched. Icechunk spec, "Manifest files".
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from icechunk.chunks.arrays import MAX_COORD, Coords
from icechunk.chunks.columns import gather
from icechunk.chunks.coords import Box
from icechunk.chunks.runs import Runs
from icechunk.chunks.table import ChunkTable
from icechunk.errors import ErrorKind, InvalidInputError

Cell: TypeAlias = tuple[int, ...]
Extents: TypeAlias = tuple[tuple[int, int], ...]
SplitSizes: TypeAlias = Sequence[int | None]
"""Chunks per cell along each axis; None leaves an axis uncut."""


def cell_around(extents: Extents, sizes: SplitSizes) -> Cell | None:
    """Return the one cell that holds a whole non-empty box, None when it straddles a border."""
    cuts = _cuts(sizes, len(extents))
    first = tuple(low // size for (low, _), size in zip(extents, cuts, strict=True))
    last = tuple((high - 1) // size for (_, high), size in zip(extents, cuts, strict=True))
    return first if first == last else None


def partition(table: ChunkTable, sizes: SplitSizes) -> list[tuple[Cell, ChunkTable]]:
    """Split a table by cell, in row-major order of cells; cells without rows do not appear.

    Costs one sort of cell numbers at most, and nothing when one cell holds the whole table.
    Parts that are stretches of the table share its memory.
    """
    _cuts(sizes, table.rank)
    if not len(table):
        return []
    only = cell_around(table.bounds(), sizes)
    if only is not None:
        return [(only, table)]
    homes = _assign(table.coords, sizes)
    keys = Box.around(homes).keys(homes)
    if (keys[1:] >= keys[:-1]).all():
        order = np.arange(len(table))
    else:
        order = np.argsort(keys, kind="stable")  # stable: rows of a cell stay in their own order
        keys = keys[order]
    starts = np.concatenate([[0], np.flatnonzero(keys[1:] != keys[:-1]) + 1])
    stops = np.append(starts[1:], len(keys))
    return [
        (tuple(cell), gather([table], Runs.of_rows(order[start:stop])))
        for cell, start, stop in zip(homes[order[starts]].tolist(), starts, stops, strict=True)
    ]


def _assign(coords: Coords, sizes: SplitSizes) -> Coords:
    """Return the `(n, rank)` uint32 cell of each row."""
    cells = np.zeros(coords.shape, np.uint32)
    for axis, size in enumerate(_cuts(sizes, coords.shape[1])):
        if size <= MAX_COORD:
            np.floor_divide(coords[:, axis], np.uint32(size), out=cells[:, axis])
    return cells


def _cuts(sizes: SplitSizes, rank: int) -> list[int]:
    """Return the sizes with None replaced by one that no coordinate reaches."""
    cuts = [MAX_COORD + 1 if size is None else int(size) for size in sizes]
    if len(cuts) != rank or any(size < 1 for size in cuts):
        raise InvalidInputError(
            f"split sizes {tuple(sizes)} do not fit a chunk grid of rank {rank}: "
            "every axis needs a size of at least 1, or None",
            ErrorKind.INVALID_MANIFEST_SPLIT_INDEX,
        )
    return cuts

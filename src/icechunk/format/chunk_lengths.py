"""Lengths of chunks, which files of spec version 1 record beside the lengths of arrays.

In memory an array has numbers of chunks, which are all that readers need. The length itself stands
in the array's document, and other writers copy it from there. Icechunk spec, "Snapshot files".
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from icechunk.format.nodes import NodeColumns
from icechunk.format.rows import counts_of

__all__ = ["ceil_divide", "chunk_lengths"]


def chunk_lengths(nodes: NodeColumns) -> npt.NDArray[np.uint64]:
    """Return the length of a chunk along each axis of each array, one after the other.

    Where a document does not tell, or contradicts the number of chunks, it is the least length that
    gives as many chunks. Costs the parsing of all documents that were not parsed lately.
    """
    least = ceil_divide(nodes.array_lengths, nodes.num_chunks)
    told = least.copy()
    starts = nodes.dim_starts.tolist()
    for row in np.flatnonzero((counts_of(nodes.dim_starts) > 0) & nodes.is_array).tolist():
        first, last = starts[row : row + 2]
        sizes = _chunk_shape(nodes.user_data[row])
        if len(sizes) == last - first:
            told[first:last] = sizes
    fits = (told != 0) & (ceil_divide(nodes.array_lengths, told) == nodes.num_chunks)
    return np.where(fits, told, least)


def ceil_divide(
    lengths: npt.NDArray[np.uint64], by: npt.NDArray[np.unsignedinteger[Any]]
) -> npt.NDArray[np.uint64]:
    """Divide, rounding up, without overflow; division by zero gives zero."""
    divisor = np.maximum(by.astype(np.uint64), np.uint64(1))
    quotient = lengths // divisor + (lengths % divisor != 0)
    return np.where(by == 0, np.uint64(0), quotient)


@lru_cache(maxsize=8192)
def _chunk_shape(document: bytes) -> tuple[int, ...]:
    """Read the shape of a chunk of a regular grid; nothing where there is none.

    A commit changes few documents of many, so those of the last commits are remembered.
    """
    try:
        sizes = json.loads(document)["chunk_grid"]["configuration"]["chunk_shape"]
        good = tuple(size for size in sizes if type(size) is int and 0 <= size < 2**64)
    except (ValueError, LookupError, TypeError, RecursionError):
        return ()
    return good if len(good) == len(sizes) else ()

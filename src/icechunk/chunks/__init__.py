"""Chunk references as columnar values: tables, and everything done to whole tables.

Pure numpy. This layer knows nothing of files, storage, clocks or Zarr; it uses only
`icechunk.errors`.
"""

from icechunk.chunks.columns import ChunkColumns, stacked
from icechunk.chunks.combine import (
    concat_many,
    difference,
    in_grid,
    overlap,
    overlay,
    select_region,
    shift,
    starts_with,
    without_deleted,
)
from icechunk.chunks.coords import Box, is_sorted_unique, sort_last_wins, sorted_unique
from icechunk.chunks.kinds import ChunkKind, ChunkRef
from icechunk.chunks.ragged import RaggedBytes
from icechunk.chunks.split import cell_around, partition
from icechunk.chunks.table import ChunkTable

__all__ = [
    "Box",
    "ChunkColumns",
    "ChunkKind",
    "ChunkRef",
    "ChunkTable",
    "RaggedBytes",
    "cell_around",
    "concat_many",
    "difference",
    "in_grid",
    "is_sorted_unique",
    "overlap",
    "overlay",
    "partition",
    "select_region",
    "shift",
    "sort_last_wins",
    "sorted_unique",
    "stacked",
    "starts_with",
    "without_deleted",
]

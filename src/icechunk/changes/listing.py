"""All chunks of an array as columns, batch by batch, for those who look at every one of them.

What the session wrote comes first, then its committed manifests one after the other, so that no
more than one manifest is looked at at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from icechunk.changes.view import NodeState
from icechunk.changes.workspace import Workspace
from icechunk.chunks import ChunkColumns, ChunkKind, ChunkTable, difference, in_grid, stacked
from icechunk.config.containers import VirtualChunkContainer, absolute_location
from icechunk.errors import ErrorKind, InvalidInputError
from icechunk.format.ids import encode_ids

__all__ = ["ChunkArrays", "array_batches", "chunk_batches", "chunk_pieces", "locations_of"]

ChunkArrays = tuple[
    npt.NDArray[np.uint32],
    npt.NDArray[np.uint8],
    list[str],
    npt.NDArray[np.uint64],
    npt.NDArray[np.uint64],
    dict[int, bytes],
]
"""Coordinates, kinds, paths, offsets, lengths of a batch, and its inline bytes by row."""


def chunk_pieces(workspace: Workspace, node: NodeState) -> Iterator[ChunkTable]:
    """Yield every chunk the session sees, once: first what it wrote, then manifest by manifest."""
    grid = node.grid
    assert grid is not None
    nodes = workspace.nodes  # the session may be committed while somebody iterates
    log = nodes.changes.chunks.get(node.id)
    rank = len(grid.shape)
    written = log.table() if log else ChunkTable.empty(rank)
    is_there = in_grid(written, grid.num_chunks) & (written.kinds != ChunkKind.DELETED)
    yield written.take(is_there)
    for ref in node.manifests:
        table = difference(workspace.manifest(ref, nodes).table(node.id, rank), written)
        inside = in_grid(table, grid.num_chunks)
        yield table if inside.all() else table.take(inside)


def chunk_batches(workspace: Workspace, node: NodeState, size: int) -> Iterator[ChunkColumns]:
    """Yield the chunks of an array in batches of exactly `size` rows, the last one the rest."""
    held: list[ChunkColumns] = []
    missing = size
    for table in chunk_pieces(workspace, node):
        start = 0
        while start < len(table):
            piece = table.take(slice(start, min(start + missing, len(table))))
            held.append(piece.columns())
            start += len(piece)
            missing -= len(piece)
            if not missing:
                yield stacked(held)
                held, missing = [], size
    if held:
        yield stacked(held)


def array_batches(
    workspace: Workspace,
    node: NodeState,
    size: int,
    containers: Mapping[str, VirtualChunkContainer],
) -> Iterator[ChunkArrays]:
    """Yield the chunks of an array as plain arrays, see `IcechunkStore.array_chunk_iterator`."""
    for batch in chunk_batches(workspace, node, size):
        yield (
            batch.coords.copy(),
            batch.kinds.copy(),
            _paths(batch, containers),
            np.zeros(len(batch), np.uint64) if batch.offsets is None else batch.offsets.copy(),
            batch.lengths.copy(),
            _inline_bytes(batch),
        )


def locations_of(
    batch: ChunkColumns, rows: npt.NDArray[np.intp], containers: Mapping[str, VirtualChunkContainer]
) -> list[str]:
    """Return the absolute locations of some rows, all of virtual chunks.

    Raises
    ------
    InvalidInputError
        Kind ``no-container-for-virtual-chunk``: a relative location names an unknown container.
    """
    if batch.locations is None:
        return []
    texts = [text.decode() for text in batch.locations.take(rows.astype(np.int64))]
    return [absolute_location(text, containers) for text in texts]


def require_batch_size(size: int) -> None:
    """Refuse a size that would never get anywhere.

    Raises
    ------
    InvalidInputError
        It is less than one.
    """
    if size < 1:
        raise InvalidInputError(f"batch_size must be at least 1, got {size}", ErrorKind.UNKNOWN)


def _paths(batch: ChunkColumns, containers: Mapping[str, VirtualChunkContainer]) -> list[str]:
    """Where the bytes are: the id of a chunk object, the location of a virtual chunk, or empty."""
    paths = [""] * len(batch)
    native = np.flatnonzero(batch.kinds == ChunkKind.NATIVE)
    if batch.ids is not None and len(native):
        _put(paths, native, encode_ids(batch.ids[native]))
    virtual = np.flatnonzero(batch.kinds == ChunkKind.VIRTUAL)
    if len(virtual):
        _put(paths, virtual, locations_of(batch, virtual, containers))
    return paths


def _put(paths: list[str], rows: npt.NDArray[np.intp], values: Iterable[str]) -> None:
    for row, value in zip(rows.tolist(), values, strict=True):
        paths[row] = value


def _inline_bytes(batch: ChunkColumns) -> dict[int, bytes]:
    rows = np.flatnonzero(batch.kinds == ChunkKind.INLINE)
    if batch.inline is None or not len(rows):
        return {}
    return dict(zip(rows.tolist(), batch.inline.take(rows.astype(np.int64)), strict=True))

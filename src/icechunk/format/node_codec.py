"""Nodes of a snapshot file to `NodeColumns` and back, without a loop per node.

Shapes come in two forms: with the length of a chunk (spec version 1) or with the number of chunks.
Which form an array has is told by the presence of the newer field, not by the version of the
file. Icechunk spec, "Snapshot files".
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from icechunk.chunks.ragged import RaggedBytes
from icechunk.format import schema
from icechunk.format.chunk_lengths import ceil_divide, chunk_lengths
from icechunk.format.damage import Damage
from icechunk.format.flatbuf import Children, Maybe, Ragged, Rows, Tables, Union
from icechunk.format.nodes import NodeColumns
from icechunk.format.rows import (
    Int64s,
    counts_of,
    gather_spans,
    is_strictly_increasing,
    starts_of,
)

__all__ = ["ARRAY", "nodes_of", "nodes_to"]

ARRAY, _GROUP = 1, 2
"""Kinds of nodes in the union `NodeSnapshot.node_data`."""
_MAX_CHUNKS = 2**32 - 1

_Shapes = tuple[Int64s, npt.NDArray[np.uint64], npt.NDArray[np.uint32]]


def nodes_of(nodes: Rows) -> NodeColumns:
    """Read and check all nodes of a file.

    Raises
    ------
    FormatError
        When anything is out of bounds, nodes are not sorted by path, a node is neither group nor
        array, or the box of a manifest has another rank than its array.
    """
    fail = nodes.buffer.fail
    paths = _texts(nodes, "path")
    if not is_strictly_increasing(paths):
        fail(
            "NodeSnapshot.path",
            "nodes are not sorted by path, each path once",
            Damage.UNSORTED_NODES,
        )
    types = nodes.discriminant("node_data")
    is_array = types == ARRAY
    if not (is_array | (types == _GROUP)).all():
        fail("NodeSnapshot.node_data", "a node is neither an array nor a group")
    at, arrays = nodes.member("node_data", ARRAY)
    count = len(nodes)

    dim_starts, lengths, num_chunks = _shapes_of(arrays)
    name_rows, name_counts = arrays.tables("dimension_names")
    has_names = np.zeros(count, dtype=bool)
    has_names[at] = arrays.present("dimension_names")
    refs, ref_counts = arrays.tables("manifests")
    boxes = refs.vectors("extents")
    is_fitting = (boxes.counts == 0) | (
        boxes.counts == np.repeat(counts_of(dim_starts), ref_counts)
    )
    if not is_fitting.all():
        fail(
            "ManifestRef.extents",
            "the box of a manifest has another rank than its array",
            Damage.RANK_WRONG,
        )
    return NodeColumns(
        paths=paths,
        ids=nodes.struct("id"),
        user_data=nodes.byte_strings("user_data"),
        is_array=is_array,
        dim_starts=_spread_starts(count, at, counts_of(dim_starts)),
        array_lengths=lengths,
        num_chunks=num_chunks,
        has_names=has_names,
        name_starts=_spread_starts(count, at, name_counts),
        name_is_given=name_rows.present("name"),
        names=_texts(name_rows, "name"),
        ref_starts=_spread_starts(count, at, ref_counts),
        ref_ids=refs.struct("object_id"),
        extent_starts=np.asarray(boxes.offsets, dtype=np.int64),
        extents=boxes.values.view("<u4").reshape(-1, 2),
    )


def _texts(rows: Rows, name: str) -> RaggedBytes:
    texts = rows.byte_strings(name)
    if not texts.is_utf8():
        rows.buffer.fail(f"{rows.table.name}.{name}", "text is not UTF-8")
    return texts


def _spread_starts(count: int, at: Int64s, counts: npt.NDArray[Any]) -> Int64s:
    """Compute `starts` over all nodes from the item counts of the arrays among them."""
    all_counts = np.zeros(count, dtype=np.int64)
    all_counts[at] = counts
    return starts_of(all_counts)


def _shapes_of(arrays: Rows) -> _Shapes:
    has_counts = arrays.present("shape_v2")
    if has_counts.all():
        return _shapes_with_counts(arrays)
    old = _shapes_with_chunk_lengths(arrays, ~has_counts)
    if not has_counts.any():
        return old
    new = _shapes_with_counts(arrays)
    # Both kinds in one file: pick each array's span from one or the other.
    begins = np.where(has_counts, new[0][:-1], old[0][:-1] + new[0][-1])
    counts = np.where(has_counts, counts_of(new[0]), counts_of(old[0]))
    starts, dims = gather_spans(begins, counts)
    lengths, num_chunks = np.concatenate([new[1], old[1]]), np.concatenate([new[2], old[2]])
    return starts, lengths[dims], num_chunks[dims]


def _shapes_with_counts(arrays: Rows) -> _Shapes:
    dims, counts = arrays.tables("shape_v2")
    return starts_of(counts), dims.scalar("array_length"), dims.scalar("num_chunks")


def _shapes_with_chunk_lengths(arrays: Rows, is_used: npt.NDArray[np.bool_]) -> _Shapes:
    shapes = arrays.vectors("shape")
    lengths, chunks = shapes.values["array_length"], shapes.values["chunk_length"]
    is_impossible = (chunks == 0) & (lengths != 0) & np.repeat(is_used, shapes.counts)
    if is_impossible.any():
        arrays.buffer.fail("ArrayNodeData.shape", "an axis has elements, but chunks of length 0")
    # Coordinates have 32 bits, so chunks beyond that many cannot exist.
    num_chunks = np.minimum(ceil_divide(lengths, chunks), _MAX_CHUNKS).astype(np.uint32)
    return np.asarray(shapes.offsets, dtype=np.int64), np.ascontiguousarray(lengths), num_chunks


def nodes_to(nodes: NodeColumns, spec_version: int) -> Children:
    """Lay out nodes as the column of a snapshot."""
    is_array = nodes.is_array
    types = np.where(is_array, ARRAY, _GROUP).astype(np.uint8)
    array_count = int(is_array.sum())
    arrays = Tables(array_count, _array_columns(nodes, array_count, spec_version))
    members = {ARRAY: arrays, _GROUP: Tables(len(nodes) - array_count, {})}
    columns = {
        "id": nodes.ids,
        "path": nodes.paths,
        "user_data": nodes.user_data,
        "node_data": Union(types, members),
    }
    return Children([len(nodes)], Tables(len(nodes), columns))


def _array_columns(nodes: NodeColumns, count: int, spec_version: int) -> dict[str, Any]:
    # Groups have no items, so the items of all nodes are those of the arrays, in order.
    is_array = nodes.is_array
    dim_counts = counts_of(nodes.dim_starts)[is_array]
    names = Tables(len(nodes.names), {"name": Maybe(nodes.name_is_given, nodes.names)})
    boxes = np.ascontiguousarray(nodes.extents, dtype="<u4").view(schema.CHUNK_INDEX_RANGE.dtype)
    refs = Tables(
        len(nodes.ref_ids),
        {"object_id": nodes.ref_ids, "extents": Ragged(nodes.extent_starts, boxes.reshape(-1))},
    )
    columns: dict[str, Any] = {
        "dimension_names": Maybe(
            nodes.has_names[is_array], Children(counts_of(nodes.name_starts)[is_array], names)
        ),
        "manifests": Children(counts_of(nodes.ref_starts)[is_array], refs),
    }
    dtype = schema.DIMENSION_SHAPE.dtype
    if spec_version == 1:
        shapes = np.zeros(len(nodes.array_lengths), dtype)
        shapes["array_length"] = nodes.array_lengths
        shapes["chunk_length"] = chunk_lengths(nodes)
        columns["shape"] = Ragged(starts_of(dim_counts), shapes)
    else:
        columns["shape"] = Ragged(np.zeros(count + 1, dtype=np.int64), np.zeros(0, dtype))
        dims = {"array_length": nodes.array_lengths, "num_chunks": nodes.num_chunks}
        columns["shape_v2"] = Children(dim_counts, Tables(len(nodes.array_lengths), dims))
    return columns

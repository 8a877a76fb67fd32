"""Lengths of chunks as documents have them, where these are to be trusted."""

import json

import pytest

from icechunk.format.chunk_lengths import chunk_lengths
from icechunk.format.nodes import ArrayData, Node, NodeTable


def document(chunk_shape):
    grid = {"name": "regular", "configuration": {"chunk_shape": chunk_shape}}
    return json.dumps({"node_type": "array", "chunk_grid": grid}).encode()


def lengths(*arrays):
    """Lengths of chunks of arrays, given shape, number of chunks and document of each."""
    nodes = [Node(b"g" * 8, "/", b"{}", None)]
    nodes += [
        Node(bytes([number]) * 8, f"/a{number}", data, ArrayData(shape, counts, None, ()))
        for number, (shape, counts, data) in enumerate(arrays)
    ]
    return chunk_lengths(NodeTable.from_nodes(nodes).columns).tolist()


def test_documents_are_believed():
    assert lengths(
        ((5, 3), (2, 1), document([4, 10])),
        ((), (), document([])),
        ((0,), (0,), document([2])),
        ((2**63,), (1,), document([2**64 - 1])),
    ) == [4, 10, 2, 2**64 - 1]


@pytest.mark.parametrize(
    "data",
    [
        document([3]),  # that would be four chunks along the first axis
        document([4, 10, 1])[:-5],
        document([4]),
        document([4.0, 10]),
        document([True, 10]),
        document([-4, 10]),
        document([2**64, 10]),
        document("ab"),
        document(None),
        document({"a": 1, "b": 2}),
        b'{"chunk_grid": {"name": "rectilinear", "configuration": {"chunk_shapes": [[4, 6]]}}}',
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b"",
    ],
)
def test_but_not_what_cannot_be(data):
    assert lengths(((10, 3), (2, 1), data)) == [5, 3]
    assert lengths(((0, 3), (0, 1), data), ((7,), (7,), document([1]))) == [0, 3, 1]


def test_axis_by_axis():
    """A document that is wrong about one axis may be right about another."""
    assert lengths(((10, 3), (2, 1), document([2, 8]))) == [5, 8]

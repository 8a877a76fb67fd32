"""Reading zarr.json documents: grids, names, and documents that are refused."""

import json

import pytest

from icechunk.changes.documents import ArrayGrid, parse_document
from icechunk.errors import InvalidInputError


def array(shape=(5, 4), chunks=(2, 2), **fields):
    grid = {"name": "regular", "configuration": {"chunk_shape": list(chunks)}}
    document = {"node_type": "array", "shape": list(shape), "chunk_grid": grid, **fields}
    return json.dumps(document).encode()


def test_a_group_has_no_grid():
    assert parse_document(b' {"node_type": "group", "anything": 1} ', "/g") is None


@pytest.mark.parametrize(
    ("shape", "chunks", "expected"),
    [
        ((5, 4), (2, 2), (3, 2)),
        ((), (), ()),
        ((0,), (2,), (0,)),
        ((5,), (0,), (0,)),
        ((2**32 - 1,), (1,), (2**32 - 1,)),
        ((2**64 - 1,), (2**63,), (2,)),
    ],
)
def test_regular_grids_count_partial_chunks(shape, chunks, expected):
    assert parse_document(array(shape, chunks), "/a") == ArrayGrid(shape, expected, None)


def test_rectilinear_grids_count_entries_and_repeats():
    grid = {"name": "rectilinear", "configuration": {"chunk_shapes": [[1, 2, [3, 4]], [[5, 2]]]}}
    assert parse_document(array((15, 10), chunk_grid=grid), "/a").num_chunks == (6, 2)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (None, None),
        (["x", None], ("x", None)),
        (["", "y"], (None, "y")),
        (["x"], ("x", None)),
        (["x", "y", "z"], ("x", "y")),
    ],
)
def test_dimension_names_fit_the_rank(names, expected):
    assert parse_document(array(dimension_names=names), "/a").dimension_names == expected


@pytest.mark.parametrize(
    ("document", "fragment"),
    [
        (b"not json", "JSON"),
        (b"\xff\xfe\xff", "JSON"),
        (b"[" * 100_000, "JSON"),
        (b"[]", "object"),
        (b"{}", "node_type"),
        (b'{"node_type": "table"}', "node_type"),
        (b'{"node_type": "array"}', "shape"),
        (array((-1, 2)), "shape"),
        (array((True, 2)), "shape"),
        (array((1.5, 2)), "shape"),
        (array((2**64, 2)), "shape"),
        (array(chunk_grid=None), "chunk_grid"),
        (array(chunk_grid={"name": "hexagonal"}), "Unsupported chunk grid"),
        (array(chunk_grid={"name": "regular"}), "chunk_shape"),
        (array((5, 4), (2,)), "Fewer dimensions"),
        (array((5,), (2, 2)), "More dimensions"),
        (array((2**32,), (1,)), "larger chunks"),
        (
            array(chunk_grid={"name": "rectilinear", "configuration": {"chunk_shapes": ["2", 2]}}),
            "axis 0",
        ),
        (array(dimension_names="xy"), "dimension_names"),
        (array(dimension_names=["x", "\ud800"]), "dimension_names"),
    ],
)
def test_bad_documents_say_what_is_wrong_and_where(document, fragment):
    with pytest.raises(InvalidInputError, match=fragment) as caught:
        parse_document(document, "/some/node")
    assert caught.value.kind == "bad-metadata"
    assert "/some/node" in str(caught.value)


def test_coordinates_must_have_the_rank_and_lie_inside():
    grid = parse_document(array((5, 4), (2, 2)), "/a")
    assert grid.contains((2, 1))
    assert not grid.contains((3, 0))
    assert not grid.contains((0,))
    assert not grid.contains((0, 0, 0))
    assert not parse_document(array((0,), (1,)), "/a").contains((0,))
    assert parse_document(array((), ()), "/a").contains(())

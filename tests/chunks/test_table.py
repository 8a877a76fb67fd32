import pickle

import numpy as np
import pytest
from effort import EFFORT
from hypothesis import given, settings
from hypothesis import strategies as st

from icechunk.chunks import ChunkKind, ChunkRef, ChunkTable, RaggedBytes
from icechunk.errors import ErrorKind, InvalidInputError

pytestmark = pytest.mark.usefixtures("thresholds")
quick = settings(max_examples=50 * EFFORT, deadline=None)

NATIVE = ChunkRef(1, b"a" * 12, 0, 5)


@quick
@given(st.data())
def test_from_refs_holds_what_it_was_given(kit, data):
    rank = data.draw(kit.ranks)
    model = data.draw(kit.models(rank))
    kit.check(ChunkTable.from_refs(rank, model), rank, model)


@quick
@given(st.data())
def test_from_refs_of_pairs_keeps_the_last(kit, data):
    rank = data.draw(kit.ranks)
    pairs = data.draw(st.lists(st.tuples(kit.places(rank), kit.refs), max_size=8))
    kit.check(ChunkTable.from_refs(rank, iter(pairs)), rank, dict(pairs))


@quick
@given(st.data())
def test_native_sorts_and_keeps_the_last(kit, data):
    rank = data.draw(kit.ranks)
    coords = data.draw(st.lists(kit.places(rank), max_size=12))
    model = {}
    for i, place in enumerate(coords):
        model[place] = ChunkRef(1, bytes([i]) * 12, 0, i + 1)
    ids = b"".join(bytes([i]) * 12 for i in range(len(coords)))
    array = np.array(coords, np.int64).reshape(len(coords), rank)
    table = ChunkTable.native(array, ids, np.arange(1, len(coords) + 1))
    kit.check(table, rank, model)


@quick
@given(st.data())
def test_find_get_and_locate_agree_with_a_dict(kit, data):
    rank = data.draw(kit.ranks)
    model = data.draw(kit.models(rank))
    table = kit.build(rank, model)
    asked = data.draw(st.lists(kit.places(rank), max_size=6)) + list(model)
    order = sorted(model)
    expected = [order.index(c) if c in model else -1 for c in asked]
    array = np.array(asked, np.int64).reshape(len(asked), rank)
    assert table.locate(array).tolist() == expected
    assert [table.find(c) for c in asked] == expected
    assert [table.get(c) for c in asked] == [model.get(c) for c in asked]
    assert table.locate(array).tolist() == expected  # again, now that keys exist


@quick
@given(st.data())
def test_take_by_rows_mask_and_slice(kit, data):
    rank = data.draw(kit.ranks)
    model = data.draw(kit.models(rank))
    table = kit.build(rank, model)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(model), max_size=len(model))))
    mask = mask.astype(bool)
    expected = {c: model[c] for c, kept in zip(sorted(model), mask, strict=True) if kept}
    kit.check(table.take(mask), rank, expected)
    kit.check(table.take(np.flatnonzero(mask)), rank, expected)
    kit.check(table.take(np.flatnonzero(mask).tolist()), rank, expected)
    cut = data.draw(st.slices(len(model)).filter(lambda s: (s.step or 1) > 0))
    kit.check(table.take(cut), rank, {c: model[c] for c in sorted(model)[cut]})


@quick
@given(st.data())
def test_bounds_and_counts(kit, data):
    rank = data.draw(kit.ranks)
    model = data.draw(kit.models(rank))
    table = kit.build(rank, model)
    if model:
        axes = list(zip(*model, strict=True))
        assert table.bounds() == tuple((min(axis), max(axis) + 1) for axis in axes)
    else:
        assert table.bounds() == ((0, 0),) * rank
    kinds = [ref.kind for ref in model.values()]
    assert table.count_by_kind() == {kind: kinds.count(kind) for kind in ChunkKind}


@quick
@given(st.data())
def test_with_coords_moves_rows(kit, data):
    rank, new_rank = data.draw(kit.ranks), data.draw(kit.ranks)
    model = data.draw(kit.models(rank))
    n = len(model)
    moved = data.draw(st.lists(kit.places(new_rank), min_size=n, max_size=n))
    table = kit.build(rank, model).with_coords(np.array(moved, np.int64).reshape(n, new_rank))
    refs = [model[c] for c in sorted(model)]
    kit.check(table, new_rank, dict(zip(moved, refs, strict=True)))


@pytest.mark.parametrize("rank", range(6))
def test_empty(kit, rank):
    table = ChunkTable.empty(rank)
    kit.check(table, rank, {})
    assert table.find((0,) * rank) == -1
    assert table.locate(np.zeros((0, rank), np.uint32)).tolist() == []
    assert table.nbytes == 0
    kit.check(table.take([]), rank, {})


def test_sorted_input_is_not_copied():
    coords = np.arange(10, dtype=np.uint32)[:, None]
    ids, lengths = np.zeros((10, 12), np.uint8), np.ones(10, np.uint64)
    table = ChunkTable.native(coords, ids, lengths)
    assert np.shares_memory(table.coords, coords)
    assert np.shares_memory(table.ids, ids)
    assert np.shares_memory(table.lengths, lengths)
    assert coords.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        table.coords[0, 0] = 3


def test_virtual_and_inline_and_deleted_constructors(kit):
    coords = [[2], [0], [2]]
    virtual = ChunkTable.virtual(
        coords,
        RaggedBytes.from_strings(["s3://a", "s3://ä", "s3://c"]),
        [1, 2, 3],
        [4, 5, 6],
        etags=RaggedBytes.from_list([b"x", b"", b"z"]),
        last_modified=[0, 7, 0],
    )
    expected = {
        (0,): ChunkRef(2, offset=2, length=5, location="s3://ä", last_modified=7),
        (2,): ChunkRef(2, offset=3, length=6, location="s3://c", etag="z"),
    }
    kit.check(virtual, 1, expected)
    inline = ChunkTable.inline_(coords, RaggedBytes.from_list([b"one", b"", b"two"]))
    kit.check(
        inline, 1, {(0,): ChunkRef(3, inline=b""), (2,): ChunkRef(3, length=3, inline=b"two")}
    )
    kit.check(ChunkTable.deleted(coords), 1, {(0,): ChunkRef(0), (2,): ChunkRef(0)})


def test_numpy_integers_find_rows_in_large_boxes():
    coords = np.array([[5, 0], [5, 2**31], [2**31, 7]], np.uint32)
    table = ChunkTable.native(coords, b"x" * 36, 1)
    with np.errstate(all="raise"):
        assert [table.find(tuple(row)) for row in coords] == [0, 1, 2]
        assert table.find(tuple(np.zeros(2, np.uint32))) == -1


@pytest.mark.parametrize("coords", [(-1, 0), (0, -1), (2**32, 0), (2**70, 2**70)])
@pytest.mark.parametrize("spread", [1, 3, 2**31])
def test_find_outside_any_grid(coords, spread):
    table = ChunkTable.deleted([[0, 0], [0, spread], [1, 0], [spread, spread]])
    assert table.find(coords) == -1


@pytest.mark.parametrize(
    "coords",
    [[[-1]], [[2**32]], [[2**70]], [[0.5]], [["a"]], [1, 2], [[[1]]], [[1], [1, 2]], [[1] * 300]],
)
def test_bad_coordinates_are_refused(coords):
    with pytest.raises(InvalidInputError) as caught:
        ChunkTable.deleted(coords)
    assert caught.value.kind == ErrorKind.INVALID_CHUNK_INDEX


@pytest.mark.parametrize(
    "columns",
    [
        {"kinds": 4, "lengths": 0},
        {"kinds": 1, "lengths": 0},
        {"kinds": 2, "lengths": 0},
        {"kinds": 3, "lengths": 0},
        {"kinds": 1, "lengths": -1, "ids": b"x" * 24},
        {"kinds": 1, "lengths": 1.5, "ids": b"x" * 24},
        {"kinds": 1, "lengths": [1], "ids": b"x" * 24},
        {"kinds": 1, "lengths": 1, "ids": b"x" * 23},
        {"kinds": 1, "lengths": 1, "ids": np.zeros((2, 12))},
        {"kinds": 3, "lengths": 1, "inline": RaggedBytes.from_list([b""])},
    ],
)
def test_bad_columns_are_refused(columns):
    with pytest.raises(InvalidInputError):
        ChunkTable.from_columns([[0], [1]], **columns)


@pytest.mark.parametrize(
    "items",
    [
        {(0,): NATIVE},
        {(0, 0): NATIVE, (1,): NATIVE},
        {(0, -1): NATIVE},
        {(0, np.int64(-1)): NATIVE},
        {(0, 2**32): NATIVE},
        {(0, 2**64): NATIVE},
        {(0, "x"): NATIVE},
        {(0, 0): ChunkRef(1, None, 0, 5)},
        {(0, 0): ChunkRef(1, b"short", 0, 5)},
        {(0, 0): ChunkRef(1, b"a" * 12, -1, 5)},
        {(0, 0): ChunkRef(1, b"a" * 12, 0, 2**64)},
        {(0, 0): ChunkRef(2, location=None)},
        {(0, 0): ChunkRef(2, location="x", last_modified=2**32)},
        {(0, 0): ChunkRef(3)},
        {(0, 0): ChunkRef(4)},
        {(0, 0): ChunkRef(-1)},
    ],
)
def test_bad_references_are_refused(items):
    with pytest.raises(InvalidInputError):
        ChunkTable.from_refs(2, items)


def test_questions_of_the_wrong_rank_are_refused():
    table = ChunkTable.deleted([[0, 0]])
    with pytest.raises(InvalidInputError, match="rank 1"):
        table.find((0,))
    with pytest.raises(InvalidInputError):
        table.locate([[0]])
    with pytest.raises(InvalidInputError):
        table.with_coords([[0, 0], [1, 1]])
    with pytest.raises(IndexError):
        table.ref(-1)


@pytest.mark.parametrize("rows", [[1, 0], [0, 0], [-1], [3], np.ones(2, bool)])
def test_unordered_or_missing_rows_are_refused(rows):
    with pytest.raises(InvalidInputError):
        ChunkTable.deleted([[0], [1], [2]]).take(rows)


def test_pickle(kit):
    model = {(0, 1): NATIVE, (1, 0): ChunkRef(3, length=1, inline=b"x")}
    kit.check(pickle.loads(pickle.dumps(kit.build(2, model))), 2, model)


def test_memory_of_native_rows():
    n = 1000
    coords = np.stack([np.arange(n)] * 3, axis=1)
    table = ChunkTable.native(coords, np.zeros((n, 12), np.uint8), np.ones(n, np.int64))
    assert table.nbytes <= 45 * n

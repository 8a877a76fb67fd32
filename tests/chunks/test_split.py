import numpy as np
import pytest
from effort import EFFORT
from hypothesis import given, settings
from hypothesis import strategies as st

from icechunk.chunks import (
    ChunkTable,
    assign,
    cell_around,
    cell_extents,
    partition,
    split_ranges,
)
from icechunk.errors import ErrorKind, InvalidInputError

pytestmark = pytest.mark.usefixtures("thresholds")
quick = settings(max_examples=50 * EFFORT, deadline=None)

SIZES = st.one_of(st.none(), st.integers(1, 4), st.sampled_from([2**16, 2**32 - 1, 2**32, 2**40]))


def cell_of(coords, sizes):
    return tuple(0 if k is None else i // k for i, k in zip(coords, sizes, strict=True))


@quick
@given(st.data())
def test_partition(kit, data):
    rank = data.draw(kit.ranks)
    model = data.draw(kit.models(rank))
    sizes = data.draw(st.tuples(*[SIZES] * rank))
    expected = {}
    for coords, ref in model.items():
        expected.setdefault(cell_of(coords, sizes), {})[coords] = ref
    parts = partition(kit.build(rank, model), sizes)
    assert [cell for cell, _ in parts] == sorted(expected)
    for cell, table in parts:
        kit.check(table, rank, expected[cell])


@quick
@given(st.data())
def test_assign(kit, data):
    rank = data.draw(kit.ranks)
    coords = data.draw(st.lists(kit.places(rank), max_size=6))
    sizes = data.draw(st.tuples(*[SIZES] * rank))
    cells = assign(np.array(coords, np.uint32).reshape(len(coords), rank), sizes)
    assert [tuple(c) for c in cells.tolist()] == [cell_of(c, sizes) for c in coords]


@quick
@given(st.lists(st.tuples(st.integers(0, 7), SIZES), max_size=3))
def test_ranges_tile_the_grid(axes):
    grid, sizes = [n for n, _ in axes], [size for _, size in axes]
    per_axis = split_ranges(grid, sizes)
    for axis, (n, starts) in enumerate(zip(grid, per_axis, strict=True)):
        seen = []
        for index, start in enumerate(starts):
            cell = tuple(index if a == axis else 0 for a in range(len(grid)))
            low, high = cell_extents(cell, grid, sizes)[axis]
            assert low == start
            seen += range(low, high)
        assert seen == list(range(n))


@quick
@given(st.data())
def test_cell_around(kit, data):
    rank = data.draw(kit.ranks)
    sizes = data.draw(st.tuples(*[SIZES] * rank))
    ranges = st.tuples(st.integers(0, 9), st.integers(1, 5))
    box = [(low, low + n) for low, n in data.draw(st.tuples(*[ranges] * rank))]
    first = cell_of([low for low, _ in box], sizes)
    last = cell_of([high - 1 for _, high in box], sizes)
    assert cell_around(tuple(box), sizes) == (first if first == last else None)


def test_the_worked_example_of_an_appended_axis():
    assert split_ranges((10, 2), (3, None)) == (range(0, 10, 3), range(0, 2, 2**32))
    assert cell_extents((3, 0), (10, 2), (3, None)) == ((9, 10), (0, 2))
    table = ChunkTable.deleted([(i, j) for i in range(10) for j in range(2)])
    parts = partition(table, (3, None))
    assert [(cell, len(part)) for cell, part in parts] == [
        ((0, 0), 6), ((1, 0), 6), ((2, 0), 6), ((3, 0), 2),
    ]  # fmt: skip
    assert all(np.shares_memory(part.coords, table.coords) for _, part in parts)


def test_one_cell_gets_the_table_itself():
    table = ChunkTable.deleted([(4, 4), (5, 7)])
    assert partition(table, (4, 4)) == [((1, 1), table)]
    assert partition(ChunkTable.empty(2), (4, 4)) == []


@pytest.mark.parametrize("sizes", [(0, 1), (1,), (1, 1, 1), (-1, 1)])
def test_bad_sizes_are_refused(sizes):
    table = ChunkTable.deleted([(4, 4)])
    for call in (
        lambda: partition(table, sizes),
        lambda: assign(table.coords, sizes),
        lambda: split_ranges((9, 9), sizes),
    ):
        with pytest.raises(InvalidInputError) as caught:
            call()
        assert caught.value.kind == ErrorKind.INVALID_MANIFEST_SPLIT_INDEX

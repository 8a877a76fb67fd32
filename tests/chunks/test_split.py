import numpy as np
import pytest
from effort import EFFORT
from hypothesis import given, settings
from hypothesis import strategies as st

from icechunk.chunks import (
    ChunkTable,
    cell_around,
    partition,
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
def test_cell_around(kit, data):
    rank = data.draw(kit.ranks)
    sizes = data.draw(st.tuples(*[SIZES] * rank))
    ranges = st.tuples(st.integers(0, 9), st.integers(1, 5))
    box = [(low, low + n) for low, n in data.draw(st.tuples(*[ranges] * rank))]
    first = cell_of([low for low, _ in box], sizes)
    last = cell_of([high - 1 for _, high in box], sizes)
    assert cell_around(tuple(box), sizes) == (first if first == last else None)


def test_the_worked_example_of_an_appended_axis():
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
        lambda: cell_around(((4, 5), (4, 5)), sizes),
    ):
        with pytest.raises(InvalidInputError) as caught:
            call()
        assert caught.value.kind == ErrorKind.INVALID_MANIFEST_SPLIT_INDEX

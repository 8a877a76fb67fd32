from itertools import pairwise

import numpy as np
import pytest
from effort import EFFORT
from hypothesis import given, settings
from hypothesis import strategies as st

from icechunk.chunks.coords import (
    Box,
    distinct_rows,
    insertion_points,
    is_sorted_unique,
    rows_before,
    sort_last_wins,
    sorted_unique,
)

pytestmark = pytest.mark.usefixtures("thresholds")
quick = settings(max_examples=50 * EFFORT, deadline=None)


def array(rank, rows):
    return np.array(rows, np.uint32).reshape(len(rows), rank)


@quick
@given(st.data())
def test_sorting_keeps_the_last_of_equals(kit, data):
    rank = data.draw(kit.ranks)
    rows = data.draw(st.lists(kit.places(rank), max_size=12))
    order = sort_last_wins(array(rank, rows))
    assert is_sorted_unique(array(rank, rows)) == (rows == sorted(set(rows)))
    assert (order is None) == (rows == sorted(set(rows)))
    if order is not None:
        last = {row: i for i, row in enumerate(rows)}
        assert order.tolist() == [last[row] for row in sorted(last)]
    assert [tuple(r) for r in sorted_unique(array(rank, rows)).tolist()] == sorted(set(rows))


@quick
@given(st.data())
def test_distinct_rows_of_several_tables(kit, data):
    rank = data.draw(kit.ranks)
    places = data.draw(st.sampled_from([kit.places(rank), st.tuples(*[st.integers(7, 9)] * rank)]))
    groups = data.draw(st.lists(st.lists(places, max_size=8), min_size=1, max_size=4))
    found = distinct_rows([array(rank, rows) for rows in groups])
    assert found.dtype == np.uint32
    assert [tuple(row) for row in found.tolist()] == sorted({row for g in groups for row in g})


@quick
@given(st.data())
def test_keys_order_as_rows_do(kit, data):
    rank = data.draw(st.integers(1, 5))
    rows = data.draw(st.lists(kit.places(rank), min_size=2, max_size=8))
    box = Box.around(array(rank, rows))
    keys = box.keys(array(rank, rows)).tolist()
    assert (box.keys(array(rank, rows)).dtype == np.uint64) == (box.volume <= 2**63)
    for i in range(len(rows)):
        for j in range(len(rows)):
            assert (keys[i] < keys[j]) == (rows[i] < rows[j])
    before = rows_before(array(rank, rows[:-1]), array(rank, rows[1:]))
    assert before.tolist() == [a < b for a, b in pairwise(rows)]


@quick
@given(st.data())
def test_box(kit, data):
    rank = data.draw(kit.ranks)
    groups = data.draw(st.lists(st.lists(kit.places(rank), max_size=4), min_size=1, max_size=3))
    box = Box.around(*(array(rank, rows) for rows in groups))
    rows = [row for group in groups for row in group]
    assert box.contains(array(rank, rows)).all()
    if rows:
        assert box.bounds == tuple((min(a), max(a) + 1) for a in zip(*rows, strict=True))
    other = data.draw(st.lists(kit.places(rank), max_size=4))
    expected = [
        all(lo <= c < hi for c, (lo, hi) in zip(row, box.bounds, strict=True)) for row in other
    ]
    assert box.contains(array(rank, other)).tolist() == expected


def test_linear_keys_reach_to_the_last_cell_of_the_largest_box():
    corners = array(2, [(1, 0), (2**31, 2**32 - 1)])
    box = Box.around(corners)
    assert box.volume == 2**63
    assert box.keys(corners).tolist() == [0, 2**63 - 1]


@quick
@given(st.data())
def test_insertion_points(kit, data):
    rank = data.draw(kit.ranks)
    haystack = sorted(set(data.draw(st.lists(kit.places(rank), max_size=12))))
    needles = data.draw(st.lists(kit.places(rank), max_size=6)) + haystack[::2]
    points, found = insertion_points(array(rank, haystack), array(rank, needles))
    assert points.tolist() == [sum(row < needle for row in haystack) for needle in needles]
    assert found.tolist() == [needle in haystack for needle in needles]

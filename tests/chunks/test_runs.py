from itertools import pairwise

import numpy as np
from effort import EFFORT
from hypothesis import given, settings
from hypothesis import strategies as st

from icechunk.chunks.runs import Runs, take_rows

quick = settings(max_examples=50 * EFFORT, deadline=None)


@quick
@given(st.lists(st.integers(0, 8), max_size=20))
def test_runs_stand_for_their_rows(rows):
    runs = Runs.of_rows(np.array(rows, np.int64))
    assert runs.rows().tolist() == rows
    assert runs.total == len(rows)
    assert (runs.starts[1:] != runs.stops[:-1]).all()  # they are maximal


@quick
@given(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.data())
def test_pieces_name_rows_of_stacked_tables(sizes, data):
    total = sum(sizes)
    edges = sorted(data.draw(st.lists(st.integers(0, total), max_size=6)))
    pairs = [(a, b) for a, b in pairwise(edges) if a < b]
    runs = Runs(*np.array(pairs, np.int64).reshape(-1, 2).T)
    owners = [(table, row) for table, size in enumerate(sizes) for row in range(size)]
    got = [(table, row) for table, a, b in runs.pieces(sizes) for row in range(a, b)]
    assert got == [owners[row] for row in runs.rows().tolist()]


def test_take_rows_of_any_width():
    for width in (0, 1, 3, 12):
        column = np.arange(4 * width, dtype=np.uint8).reshape(4, width)
        taken = take_rows(column, np.array([3, 0, 0]))
        assert taken.tolist() == column[[3, 0, 0]].tolist()
        strided = np.arange(8 * width, dtype=np.uint8).reshape(4, 2 * width)[:, ::2]
        assert take_rows(strided, np.array([2])).tolist() == strided[[2]].tolist()

"""Sets of ids as columns, against Python's."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from icechunk.ops import id_sets
from icechunk.ops.id_sets import END, GrowingIds, SortedIds, no_ids


def column(numbers):
    return np.array([list(n.to_bytes(12, "big")) for n in numbers], np.uint8).reshape(-1, 12)


def numbers_of(ids):
    return [int.from_bytes(row.tobytes(), "big") for row in ids]


# Many share their first eight bytes, and some of these are the first or last there are.
ids = st.integers(0, 20) | st.builds(
    lambda high, low: high << 32 | low, st.sampled_from([1, 2, 3, 2**64 - 1]), st.integers(0, 5)
)
lists = st.lists(ids, max_size=30)


@settings(max_examples=50)
@given(lists, lists)
def test_sorted_ids(mine, others):
    found = SortedIds.of(column(mine))
    assert numbers_of(found.column) == sorted(set(mine))
    assert found.has(column(others)).tolist() == [number in mine for number in others]
    rows = found.locate(column(others)).tolist()
    assert [sorted(set(mine))[row] for row in rows if row >= 0] == [n for n in others if n in mine]
    joined = found | SortedIds.of(column(others))
    assert numbers_of(joined.column) == sorted({*mine, *others})


@settings(max_examples=50)
@given(st.lists(lists, max_size=6), st.integers(1, 8))
def test_growing_ids_in_passes(columns, most):
    """Pass by pass all ids are seen, each once, and no pass has more than there is room for."""
    expected = sorted({number for numbers in columns for number in numbers})
    found, begin, passes = [], 0, 0
    least, id_sets.MIN_MERGE = id_sets.MIN_MERGE, 3
    try:
        while begin < END:
            growing = GrowingIds(most, begin)
            for numbers in columns:
                growing.add(column(numbers))
            part = numbers_of(growing.sorted().column)
            assert begin < growing.end
            assert part == [n for n in expected if begin <= n >> 32 < growing.end]
            assert growing.covers(column(expected)).tolist() == [n in part for n in expected]
            assert len(part) <= most or len({n >> 32 for n in part}) == 1
            found += part
            begin, passes = growing.end, passes + 1
    finally:
        id_sets.MIN_MERGE = least
    assert found == expected
    assert passes <= max(1, len(expected))


def test_nothing():
    assert len(SortedIds.of(no_ids())) == 0
    assert SortedIds.of(no_ids()).has(column([1])).tolist() == [False]
    assert len(GrowingIds(5).sorted()) == 0

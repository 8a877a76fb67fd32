import numpy as np
import pytest
from effort import EFFORT
from hypothesis import given, settings
from hypothesis import strategies as st

from icechunk.chunks import RaggedBytes

pytestmark = pytest.mark.usefixtures("thresholds")
quick = settings(max_examples=50 * EFFORT, deadline=None)

ITEMS = st.lists(st.sampled_from([b"", b"a", b"b", b"abc", b"abd", b"x" * 9]), max_size=12)


@quick
@given(ITEMS)
def test_list_round_trip(items):
    column = RaggedBytes.from_list(items)
    assert column.to_list() == list(column) == items
    assert [column[i] for i in range(len(column))] == items
    assert column.lengths.tolist() == [len(item) for item in items]
    assert column.nbytes == 8 * (len(items) + 1) + sum(map(len, items))


@quick
@given(st.lists(st.text(max_size=5), max_size=8))
def test_strings_are_utf8(items):
    column = RaggedBytes.from_strings(items)
    assert column.to_list() == [item.encode() for item in items]
    assert column.is_utf8()


@quick
@given(st.lists(st.binary(max_size=3), max_size=4))
def test_is_utf8_is_judged_string_by_string(items):
    def valid(item):
        try:
            item.decode()
        except UnicodeDecodeError:
            return False
        return True

    assert RaggedBytes.from_list(items).is_utf8() == all(map(valid, items))


@pytest.mark.parametrize("text", ["ü", "€", "😀"])
def test_a_character_cut_in_two_is_not_utf8(text):
    data = text.encode()
    for cut in range(1, len(data)):
        assert not RaggedBytes.from_list([data[:cut], data[cut:]]).is_utf8()


@quick
@given(ITEMS, st.data())
def test_repeat(items, data):
    counts = data.draw(st.lists(st.integers(0, 3), min_size=len(items), max_size=len(items)))
    column = RaggedBytes.from_list(items).repeat(np.array(counts, np.int64))
    assert column.to_list() == [
        item for item, count in zip(items, counts, strict=True) for _ in range(count)
    ]


@quick
@given(ITEMS, st.data())
def test_take(items, data):
    rows = data.draw(st.lists(st.integers(0, len(items) - 1), max_size=20)) if items else []
    taken = RaggedBytes.from_list(items).take(np.array(rows, np.int64))
    assert taken.to_list() == [items[row] for row in rows]


@quick
@given(ITEMS, st.data())
def test_slice(items, data):
    start = data.draw(st.integers(0, len(items)))
    stop = data.draw(st.integers(start, len(items)))
    part = RaggedBytes.from_list(items).slice(start, stop)
    assert part.to_list() == items[start:stop]
    assert part.take(np.arange(len(part))[::-1]).to_list() == items[start:stop][::-1]


@quick
@given(st.lists(ITEMS, max_size=4))
def test_concat(parts):
    whole = RaggedBytes.concat([RaggedBytes.from_list(part) for part in parts])
    assert whole.to_list() == [item for part in parts for item in part]


@quick
@given(ITEMS, st.data())
def test_spread(items, data):
    n = len(items) + data.draw(st.integers(0, 4))
    rows = sorted(data.draw(st.permutations(range(n)))[: len(items)])
    spread = RaggedBytes.from_list(items).spread(np.array(rows, np.int64), n)
    at = dict(zip(rows, items, strict=True))
    assert spread.to_list() == [at.get(row, b"") for row in range(n)]


@quick
@given(st.lists(st.tuples(*[st.sampled_from([b"", b"a", b"b", b"ab", b"ax" * 4])] * 2)))
def test_equal_rows(pairs):
    left = RaggedBytes.from_list([a for a, _ in pairs])
    right = RaggedBytes.from_list([b for _, b in pairs])
    assert left.equal_rows(right).tolist() == [a == b for a, b in pairs]

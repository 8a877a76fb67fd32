"""Splitting and joining of byte ranges."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from icechunk.storage.ranges import coalesce, split


@given(st.integers(0, 10**6), st.integers(1, 10**6), st.integers(1, 10**6), st.integers(1, 50))
def test_pieces_cover_the_range_evenly(start, size, request_size, max_requests):
    starts, ends = split(start, start + size, request_size, max_requests)
    assert starts[0] == start
    assert ends[-1] == start + size
    assert starts[1:] == ends[:-1]
    lengths = [end - begin for begin, end in zip(starts, ends, strict=True)]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] - lengths[-1] <= 1
    assert len(lengths) == max(1, min(max_requests, -(-size // request_size)))


spans = st.lists(
    st.tuples(st.integers(0, 200), st.integers(0, 30)).map(lambda pair: (pair[0], sum(pair)))
)


@given(spans, st.integers(0, 20), st.integers(0, 60))
def test_coalesced_requests_bring_every_range_and_keep_the_limits(wanted, max_gap, max_together):
    fetches = coalesce(wanted, max_gap=max_gap, max_together=max_together)
    assert sorted(i for fetch in fetches for i in fetch.wanted) == list(range(len(wanted)))
    for fetch in fetches:
        inside = sorted(wanted[i] for i in fetch.wanted)
        assert fetch.start == min(start for start, _ in inside)
        assert fetch.end == max(end for _, end in inside)
        assert fetch.size <= max_together or len(inside) == 1
        reached = inside[0][1]
        for start, end in inside[1:]:
            assert start - reached <= max_gap
            reached = max(reached, end)


@given(spans)
def test_ranges_that_touch_come_in_one_request(wanted):
    fetches = coalesce(wanted, max_gap=0)
    starts = [fetch.start for fetch in fetches]
    assert starts == sorted(starts)
    for before, after in pairwise(fetches):
        assert before.end < after.start

"""Splitting of byte ranges."""

from hypothesis import given
from hypothesis import strategies as st

from icechunk.storage.ranges import split


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

"""Renumbering chunks: against a dictionary of coordinates, and what users' functions may return."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icechunk.changes.reindex import by_array, by_chunk, reindexed, shifted
from icechunk.chunks import ChunkKind, ChunkRef, ChunkTable, RaggedBytes, overlay
from icechunk.errors import IcechunkError, InvalidInputError

GRIDS = st.lists(st.integers(0, 4), max_size=3).map(tuple)


def ref_of(number):
    kind = [ChunkKind.NATIVE, ChunkKind.INLINE, ChunkKind.VIRTUAL][number % 3]
    if kind == ChunkKind.NATIVE:
        return ChunkRef(int(kind), number.to_bytes(12, "big"), 7, 9)
    if kind == ChunkKind.INLINE:
        text = f"inline {number}".encode()
        return ChunkRef(int(kind), length=len(text), inline=text)
    return ChunkRef(int(kind), offset=number, length=3, location=f"s3://b/{number}", etag="e")


@st.composite
def arrays(draw):
    """A grid, and some of its chunks."""
    grid = draw(GRIDS)
    places = list(product(*map(range, grid)))
    chosen = draw(st.sets(st.sampled_from(places))) if places else set()
    return grid, {coords: ref_of(number) for number, coords in enumerate(sorted(chosen))}


def applied(table, edits):
    return dict(overlay(table, edits, drop_deleted=True).items())


def slow_reindex(chunks, grid, forward, backward):
    """Follow the rules chunk by chunk; None where a destination is outside."""
    result, destinations = dict(chunks), set()
    for coords in sorted(chunks):
        there = forward(list(coords))
        if there is None:
            continue
        there = tuple(there)
        if not all(0 <= step < size for step, size in zip(there, grid, strict=True)):
            return None
        result[there] = chunks[coords]
        destinations.add(there)
    if backward is not None:
        for coords in set(chunks) - destinations:
            source = backward(list(coords))
            if source is None or tuple(source) not in chunks:
                del result[coords]
    return result


@given(arrays(), st.data())
def test_a_shift_does_what_a_dictionary_does(array, data):
    grid, chunks = array
    offset = data.draw(st.tuples(*(st.integers(-size - 1, size + 1) for size in grid)))
    table = ChunkTable.from_refs(len(grid), chunks)
    expected = {
        tuple(here + step for here, step in zip(coords, offset, strict=True)): ref
        for coords, ref in chunks.items()
    }
    expected = {
        coords: ref
        for coords, ref in expected.items()
        if all(0 <= here < size for here, size in zip(coords, grid, strict=True))
    }
    edits = shifted(table, offset, grid)
    assert applied(table, edits) == expected
    assert set(map(tuple, edits.coords.tolist())) == set(chunks) | set(expected)


@given(arrays(), st.data())
def test_a_shift_is_a_reindexing(array, data):
    grid, chunks = array
    offset = data.draw(st.tuples(*(st.integers(-2, 2) for _ in grid)))
    table = ChunkTable.from_refs(len(grid), chunks)

    def moved(coords, sign):
        there = [here + sign * step for here, step in zip(coords, offset, strict=True)]
        inside = all(0 <= here < size for here, size in zip(there, grid, strict=True))
        return there if inside else None

    rank = len(grid)
    edits = reindexed(
        table,
        grid,
        by_chunk(lambda coords: moved(coords, 1), rank),
        by_chunk(lambda coords: moved(coords, -1), rank),
    )
    left_behind = shifted(table, offset, grid)
    outside = {
        coords for coords in chunks if moved(coords, 1) is None and moved(coords, -1) is not None
    }
    by_reindex, by_shift = applied(table, edits), applied(table, left_behind)
    # what has no destination stays where it is, if something could have come to its place
    assert {c: r for c, r in by_reindex.items() if c not in outside} == {
        c: r for c, r in by_shift.items() if c not in outside
    }


@given(arrays(), st.data())
def test_any_function_does_what_a_dictionary_does(array, data):
    grid, chunks = array
    places = list(product(*map(range, grid)))
    wild = st.none() | st.tuples(*(st.integers(-1, size) for size in grid))
    answers = st.none() | st.sampled_from(places) if places else st.none()
    if data.draw(st.integers(0, 4)) == 0:
        answers = answers | wild
    there = {coords: data.draw(answers) for coords in chunks}
    back = {coords: data.draw(st.none() | wild) for coords in places}
    backward = data.draw(st.sampled_from([None, lambda coords: back[tuple(coords)]]))

    def forward(coords):
        assert type(coords) is list
        return there[tuple(coords)]

    rank = len(grid)
    table = ChunkTable.from_refs(rank, chunks)
    expected = slow_reindex(chunks, grid, forward, backward)
    in_bulk = (by_array(in_arrays(forward, rank), rank),)
    one_by_one = (by_chunk(forward, rank),)
    if backward is not None:
        in_bulk += (by_array(in_arrays(backward, rank), rank),)
        one_by_one += (by_chunk(backward, rank),)
    for renumberings in (one_by_one, in_bulk):
        if expected is None:
            with pytest.raises(InvalidInputError, match="outside") as caught:
                reindexed(table, grid, *renumberings)
            assert caught.value.kind == "invalid-chunk-index"
        else:
            assert applied(table, reindexed(table, grid, *renumberings)) == expected


def in_arrays(function, rank):
    """Make a function of one chunk into one of all."""

    def vectorised(coords):
        results = [function(row) for row in coords.tolist()]
        filled = [(0,) * rank if result is None else tuple(result) for result in results]
        places = np.array(filled, np.int64).reshape(len(coords), rank)
        return places, np.array([result is not None for result in results], bool)

    return vectorised


def line(n, present=None):
    coords = np.arange(n, dtype=np.uint32)[:, None] if present is None else np.array(present)
    return ChunkTable.inline_(
        coords, RaggedBytes.from_list([b"%d" % n for n in range(len(coords))])
    )


def test_of_chunks_that_meet_the_last_wins():
    table = line(3)
    edits = reindexed(table, (4,), by_chunk(lambda coords: [3], 1))
    assert [ref.inline for _, ref in edits.items()] == [b"2"]


def test_backward_is_asked_of_places_that_are_no_destination():
    asked = []
    reindexed(
        line(3),
        (4,),
        by_chunk(lambda coords: [coords[0] + 1], 1),
        by_chunk(asked.append, 1),
    )
    assert asked == [[0]]


@pytest.mark.parametrize(
    ("returned", "cause", "fragment"),
    [
        (3, TypeError, "int"),
        ("3", TypeError, "str"),
        ([1.0], TypeError, "float"),
        ([None], TypeError, "None"),
    ],
)
def test_what_is_no_list_of_integers_is_refused(returned, cause, fragment):
    with pytest.raises(IcechunkError, match=fragment) as caught:
        reindexed(line(2), (4,), by_chunk(lambda coords: returned, 1))
    assert caught.value.kind == "unknown"
    assert type(caught.value.__cause__) is cause


@pytest.mark.parametrize("make", [by_chunk, by_array])
def test_what_a_function_raises_is_told_and_chained(make):
    def fail(coords):
        raise ZeroDivisionError("what it said")

    for functions in ((fail,), (lambda coords: coords[:0] or None, fail)):
        if make is by_array and len(functions) == 2:
            functions = (lambda coords: (coords, np.zeros(len(coords), bool)), fail)
        with pytest.raises(IcechunkError, match="ZeroDivisionError: what it said") as caught:
            reindexed(line(2), (4,), *(make(function, 1) for function in functions))
        assert caught.value.kind == "unknown"
        assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_an_interrupt_is_no_failure_of_the_function():
    def interrupt(coords):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reindexed(line(2), (4,), by_chunk(interrupt, 1))


@pytest.mark.parametrize("returned", [[], [0, 0]])
def test_coordinates_of_another_rank_are_refused(returned):
    with pytest.raises(InvalidInputError, match="needs 1 coordinates") as caught:
        reindexed(line(2), (4,), by_chunk(lambda coords: returned, 1))
    assert caught.value.kind == "invalid-chunk-index"


@pytest.mark.parametrize("place", [4, -1, 2**32, 2**70, -(2**70)])
def test_a_place_outside_the_grid_is_refused(place):
    with pytest.raises(InvalidInputError, match=r"chunk \[0\] cannot go to") as caught:
        reindexed(line(2), (4,), by_chunk(lambda coords: [place], 1))
    assert caught.value.kind == "invalid-chunk-index"


@pytest.mark.parametrize(
    "returned",
    [
        np.zeros((1, 1), np.int64),
        np.zeros((2, 2), np.int64),
        np.zeros(2, np.int64),
        (np.zeros((2, 1), np.int64), np.ones(1, bool)),
    ],
)
def test_arrays_of_another_shape_are_refused(returned):
    with pytest.raises(InvalidInputError, match="shape") as caught:
        reindexed(line(2), (4,), by_array(lambda coords: returned, 1))
    assert caught.value.kind == "invalid-chunk-index"


@pytest.mark.parametrize(
    "returned", [np.zeros((2, 1)), None, (np.zeros((2, 1), int), np.zeros(2)), "text"]
)
def test_arrays_of_no_integers_are_refused(returned):
    with pytest.raises(IcechunkError, match="TypeError: expected an array of integers") as caught:
        reindexed(line(2), (4,), by_array(lambda coords: returned, 1))
    assert caught.value.kind == "unknown"


def test_unsigned_arrays_and_lists_will_do():
    for function in (
        lambda coords: coords.astype(np.uint64) + 1,
        lambda coords: [[row[0] + 1] for row in coords.tolist()],
    ):
        edits = reindexed(line(2), (4,), by_array(function, 1))
        assert edits.coords.tolist() == [[1], [2]]
    with pytest.raises(InvalidInputError):
        reindexed(line(2), (4,), by_array(lambda coords: coords.astype(np.uint64) + 2**63, 1))


def test_a_function_cannot_spoil_the_coordinates():
    def spoil(coords):
        coords += 1
        return coords

    edits = reindexed(line(2), (4,), by_array(spoil, 1))
    assert edits.coords.tolist() == [[1], [2]]

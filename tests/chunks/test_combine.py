import numpy as np
import pytest
from effort import EFFORT
from hypothesis import given, settings
from hypothesis import strategies as st

from icechunk.chunks import (
    ChunkRef,
    ChunkTable,
    concat_many,
    difference,
    in_grid,
    overlap,
    overlay,
    select_region,
    shift,
    without_deleted,
)
from icechunk.errors import InvalidInputError

pytestmark = pytest.mark.usefixtures("thresholds")
quick = settings(max_examples=50 * EFFORT, deadline=None)

EDGES = st.one_of(st.integers(-1, 4), st.sampled_from([2**16, 2**31, 2**32 - 1, 2**32, 2**40]))


def present(model):
    return {c: ref for c, ref in model.items() if ref.kind}


def listed(coords):
    return [tuple(row) for row in coords.tolist()]


@quick
@given(st.data())
def test_overlay(kit, data):
    rank = data.draw(kit.ranks)
    models = data.draw(st.lists(kit.models(rank), min_size=1, max_size=4))
    merged = {}
    for model in models:
        merged.update(model)
    tables = [kit.build(rank, model) for model in models]
    kit.check(overlay(*tables), rank, merged)
    kit.check(overlay(*tables, drop_deleted=True), rank, present(merged))


@quick
@given(st.data())
def test_overlay_of_replacements_only(kit, data):
    rank = data.draw(kit.ranks)
    base = data.draw(kit.models(rank))
    top = {c: data.draw(kit.refs) for c in base if data.draw(st.booleans())}
    tables = kit.build(rank, base), kit.build(rank, top)
    kit.check(overlay(*tables), rank, base | top)
    kit.check(overlay(*tables, drop_deleted=True), rank, present(base | top))


@quick
@given(st.data())
def test_concat_many(kit, data):
    rank = data.draw(kit.ranks)
    models = data.draw(st.lists(kit.models(rank, 5), max_size=6))
    merged = {}
    for model in models:
        merged.update(model)
    tables = [kit.build(rank, model) for model in models]
    kit.check(concat_many(tables, rank=rank), rank, merged)
    if tables:
        kit.check(concat_many(tables), rank, merged)


@quick
@given(st.data())
def test_difference(kit, data):
    rank = data.draw(kit.ranks)
    model, other = data.draw(kit.models(rank)), data.draw(kit.models(rank))
    table, rest = kit.build(rank, model), kit.build(rank, other)
    left = {c: ref for c, ref in model.items() if c not in other}
    kit.check(difference(table, rest), rank, left)
    shuffled = np.array(data.draw(st.permutations([*other, *other])), np.int64)
    shuffled = shuffled.reshape(2 * len(other), rank)
    kit.check(difference(table, shuffled), rank, left)


@quick
@given(st.data())
def test_overlap(kit, data):
    rank = data.draw(kit.ranks)
    a, b = data.draw(kit.models(rank)), data.draw(kit.models(rank))
    for place in a:
        if data.draw(st.booleans()):
            b[place] = a[place]
    expected = sorted(c for c in set(a) & set(b) if a[c] != b[c])
    tables = kit.build(rank, a), kit.build(rank, b)
    assert listed(overlap(*tables)) == expected
    assert listed(overlap(*reversed(tables))) == expected
    assert overlap(*tables).shape == (len(expected), rank)


@quick
@given(st.data())
def test_select_region(kit, data):
    rank = data.draw(kit.ranks)
    model = data.draw(kit.models(rank))
    lo, hi = data.draw(st.tuples(*[EDGES] * rank)), data.draw(st.tuples(*[EDGES] * rank))
    inside = {
        c: ref
        for c, ref in model.items()
        if all(low <= i < high for i, low, high in zip(c, lo, hi, strict=True))
    }
    kit.check(select_region(kit.build(rank, model), lo, hi), rank, inside)


@quick
@given(st.data())
def test_in_grid(kit, data):
    rank = data.draw(kit.ranks)
    model = data.draw(kit.models(rank))
    grid = data.draw(st.tuples(*[EDGES] * rank))
    mask = in_grid(kit.build(rank, model), grid)
    assert mask.tolist() == [
        all(i < n for i, n in zip(c, grid, strict=True)) for c in sorted(model)
    ]


@quick
@given(st.data())
def test_shift(kit, data):
    rank = data.draw(kit.ranks)
    model = data.draw(kit.models(rank))
    step = st.one_of(st.integers(-3, 3), st.sampled_from([-(2**31), 2**31]))
    offset = data.draw(st.tuples(*[step] * rank))
    grid = data.draw(st.tuples(*[EDGES.filter(lambda n: n <= 2**32)] * rank))
    moved = {}
    for c, ref in model.items():
        target = tuple(i + d for i, d in zip(c, offset, strict=True))
        if all(0 <= i < n for i, n in zip(target, grid, strict=True)):
            moved[target] = ref
    kit.check(shift(kit.build(rank, model), offset, grid), rank, moved)


@quick
@given(st.data())
def test_without_deleted(kit, data):
    rank = data.draw(kit.ranks)
    model = data.draw(kit.models(rank))
    kit.check(without_deleted(kit.build(rank, model)), rank, present(model))


def test_nothing_to_do_copies_nothing():
    table = ChunkTable.native([[0], [1]], b"x" * 24, 1)
    assert overlay(table, ChunkTable.empty(1), drop_deleted=True) is table
    assert overlay(ChunkTable.empty(1), table) is table
    assert concat_many([ChunkTable.empty(1), table]) is table
    assert difference(table, ChunkTable.deleted([[7]])) is table
    assert select_region(table, (0,), (2,)) is table
    assert without_deleted(table) is table


def test_replacing_a_row_leaves_the_base_alone(kit):
    base = {(i,): ChunkRef(1, bytes([i]) * 12, 0, 1) for i in range(20)}
    table = kit.build(1, base)
    top = {(i,): ChunkRef(3, length=1, inline=b"x") for i in range(0, 20, 2)}
    kit.check(overlay(table, kit.build(1, top)), 1, base | top)
    kit.check(table, 1, base)


def test_ranks_must_agree():
    one, two = ChunkTable.deleted([[0]]), ChunkTable.deleted([[0, 0]])
    for call in (
        lambda: overlay(one, two),
        lambda: concat_many([one, two]),
        lambda: concat_many([]),
        lambda: overlap(one, two),
        lambda: difference(one, two),
        lambda: select_region(one, (0, 0), (1, 1)),
        lambda: in_grid(one, (1, 1)),
        lambda: shift(one, (1, 1), (1, 1)),
    ):
        with pytest.raises(InvalidInputError):
            call()

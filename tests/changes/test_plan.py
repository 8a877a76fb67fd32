"""Which manifests a commit keeps and writes: the worked example, and a model for the rest."""

import itertools

import numpy as np
from effort import EFFORT
from hypothesis import given, settings
from hypothesis import strategies as st

from icechunk.changes.plan import extents_of, manifests_to_read, plan_manifests
from icechunk.chunks import ChunkTable, overlay
from icechunk.format.snapshot import ManifestRef


def table_of(coords, mark=0, rank=None):
    coords = sorted(coords)
    rank = len(coords[0]) if coords else rank
    ids = np.zeros((len(coords), 12), np.uint8)
    ids[:, 0] = mark
    return ChunkTable.native(
        np.array(coords, np.uint32).reshape(len(coords), rank), ids, np.full(len(coords), 7)
    )


class Manifests:
    """Committed manifests of one array; counts what is loaded."""

    def __init__(self):
        self.tables = {}
        self.loaded = []

    def add(self, table):
        ref = ManifestRef(len(self.tables).to_bytes(12, "big"), extents_of(table))
        self.tables[ref.id] = table
        return ref

    def load(self, ref):
        self.loaded.append(ref)
        return self.tables[ref.id]

    def commit(self, num_chunks, refs, written, split, count=lambda ref: 0):
        self.loaded = []
        plan = plan_manifests(num_chunks, refs, written, split, self.load, count)
        assert self.loaded == manifests_to_read(num_chunks, refs, split)
        edited = [self.add(overlay(self.tables[edit.old.id], edit.rows)) for edit in plan.edits]
        assert [ref.extents for ref in edited] == [edit.extents for edit in plan.edits]
        tables = [table for piece in plan.pieces if len(table := piece.build())]
        return [*plan.kept, *map(self.add, tables), *edited], plan


def grid(*shape):
    return list(itertools.product(*map(range, shape)))


def sizes(manifests, refs):
    return [len(manifests.tables[ref.id]) for ref in refs]


def test_worked_example_of_ten_by_two_chunks_split_by_three():
    stored = Manifests()
    split = (3, None)
    empty = ChunkTable.empty(2)
    refs, _ = stored.commit((10, 2), [], table_of(grid(10, 2)), split)
    assert sizes(stored, refs) == [6, 6, 6, 2]

    touched, plan = stored.commit((10, 2), refs, table_of([(4, 1)], mark=1), split)
    assert len(plan.kept) == 3
    assert len(stored.loaded) == 1
    assert sorted(sizes(stored, touched)) == [2, 6, 6, 6]

    same, plan = stored.commit((10, 2), refs, empty, split)
    assert same == refs
    assert not stored.loaded

    grown, plan = stored.commit((11, 2), refs, table_of([(10, 0), (10, 1)]), split)
    assert len(plan.kept) == 3
    assert sizes(stored, grown)[3:] == [4]

    shrunk, plan = stored.commit((4, 2), refs, empty, split)
    assert sizes(stored, shrunk) == [6, 2]
    assert plan.kept == (refs[0],)

    cut, plan = stored.commit((4, 2), shrunk, empty, (None, 1))
    assert sorted(sizes(stored, cut)) == [1, 1, 3, 3]


def test_a_manifest_whose_last_chunk_is_deleted_disappears():
    stored = Manifests()
    refs, _ = stored.commit((4,), [], table_of([(1,)]), (None,))
    refs, plan = stored.commit((4,), refs, ChunkTable.deleted([[1]]), (None,))
    assert refs == []
    assert not plan.kept


def test_scalar_arrays_have_one_manifest_without_extents():
    stored = Manifests()
    refs, _ = stored.commit((), [], table_of([()], rank=0), ())
    assert refs[0].extents == ()
    replaced, plan = stored.commit((), refs, table_of([()], mark=2, rank=0), ())
    assert plan.kept == ()
    assert len(replaced) == 1


def test_a_few_rows_of_many_are_an_edit_of_the_old_manifest():
    stored = Manifests()
    refs, _ = stored.commit((10, 2), [], table_of(grid(10, 2)[:-1]), (5, None))
    many = {"count": lambda ref: 1_000_000}
    changed, plan = stored.commit((10, 2), refs, table_of([(9, 1), (8, 0)], 1), (5, None), **many)
    assert plan.kept == (refs[0],)
    assert [edit.old for edit in plan.edits] == [refs[1]]
    assert not plan.pieces
    assert not stored.loaded
    assert sizes(stored, changed) == [10, 10]
    # not where rows are deleted, the manifest is small, or lies across a border
    for written, split, count in (
        (ChunkTable.deleted([[8, 0]]), (5, None), 1_000_000),
        (table_of([(8, 0)], 1), (5, None), 100),
        (table_of([(8, 0)], 1), (3, None), 1_000_000),
    ):
        _, plan = stored.commit((10, 2), refs, written, split, count=lambda ref, n=count: n)
        assert not plan.edits
        assert plan.pieces


def test_extents_that_cover_everything_are_read_before_they_are_kept():
    stored = Manifests()
    table = table_of(grid(4))
    stored.tables[b"x" * 12] = table
    refs, plan = stored.commit((4,), [ManifestRef(b"x" * 12, ())], ChunkTable.empty(1), (2,))
    assert sizes(stored, refs) == [2, 2]
    assert not plan.kept


@st.composite
def histories(draw):
    rank = draw(st.integers(0, 3))
    axis = st.integers(1, 5)
    steps = []
    for _ in range(draw(st.integers(1, 4))):
        num_chunks = tuple(draw(axis) for _ in range(rank))
        split = tuple(draw(st.none() | st.integers(1, 4)) for _ in range(rank))
        coords = st.tuples(*(st.integers(0, 5) for _ in range(rank)))
        steps.append((num_chunks, split, draw(st.dictionaries(coords, st.booleans(), max_size=12))))
    return rank, steps


@given(histories(), st.sampled_from([0, 1_000_000]))
@settings(max_examples=150 * EFFORT, deadline=None)
def test_any_history_reads_like_a_dictionary(history, count):
    rank, steps = history
    stored = Manifests()
    refs = []
    model = {}
    for mark, (num_chunks, split, edits) in enumerate(steps, 1):
        puts = [coords for coords, is_put in edits.items() if is_put]
        deletes = [coords for coords, is_put in edits.items() if not is_put]
        written = ChunkTable.from_columns(
            np.array(puts + deletes, np.uint32).reshape(len(edits), rank),
            np.array([1] * len(puts) + [0] * len(deletes), np.uint8),
            np.full(len(edits), 7),
            ids=np.full((len(edits), 12), mark, np.uint8),
        )
        loaded = []
        plan_manifests(
            num_chunks,
            refs,
            written,
            split,
            lambda ref, loaded=loaded: loaded.append(ref) or stored.tables[ref.id],
            rewrite=True,
        )
        assert loaded == manifests_to_read(num_chunks, refs, split, rewrite=True)
        refs, _ = stored.commit(num_chunks, refs, written, split, lambda ref: count)
        model.update(dict.fromkeys(puts, mark))
        model = {
            coords: m
            for coords, m in model.items()
            if coords not in deletes and all(c < n for c, n in zip(coords, num_chunks, strict=True))
        }
        seen = {}
        for ref in refs:
            table = stored.tables[ref.id]
            assert ref.extents == extents_of(table)
            for coords, chunk in table.items():
                assert coords not in seen
                seen[coords] = chunk.id[0]
        assert seen == model
        assert_boxes_are_disjoint(refs)
        for ref in refs:
            for (low, high), size in zip(ref.extents, split, strict=True):
                assert size is None or low // size == (high - 1) // size


def assert_boxes_are_disjoint(refs):
    for a, b in itertools.combinations(refs, 2):
        assert any(
            high_a <= low_b or high_b <= low_a
            for (low_a, high_a), (low_b, high_b) in zip(a.extents, b.extents, strict=True)
        )

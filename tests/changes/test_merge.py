"""Merging change sets: what fits together, what does not, and that a refusal changes nothing."""

import pickle

import numpy as np
import pytest

from icechunk.changes.change_set import ChangeSet
from icechunk.changes.documents import ArrayGrid
from icechunk.changes.merge import merge
from icechunk.chunks import ChunkKind, ChunkRef, ChunkTable
from icechunk.errors import InvalidInputError, SessionStateError

ARRAY = b"array-id"
GROUP = b"group-id"
BASE = {ARRAY: "/base/array", GROUP: "/base"}
GRID = ArrayGrid((100,), (100,), None)


def inline(value):
    return ChunkRef(ChunkKind.INLINE, None, 0, len(value), value)


def native(mark):
    return ChunkRef(ChunkKind.NATIVE, bytes([mark]) * 12, 0, 1000)


GONE = ChunkRef(ChunkKind.DELETED)


def parent_with_forks(count=2):
    parent = ChangeSet()
    return parent, [ChangeSet(lineage=parent.fork_point()) for _ in range(count)]


def write(changes, chunks, node=ARRAY):
    for coords, ref in chunks.items():
        changes.log(node, len(coords)).put(coords, ref)


def written(changes, node=ARRAY):
    return dict(changes.log(node, 1).table().items())


def join(target, *others, **options):
    ids = {path: node_id for node_id, path in BASE.items()}
    merge(target, others, base_path=BASE.get, base_id=ids.get, **options)


def refusal(target, *others, **options):
    before = pickle.dumps(target)
    with pytest.raises(SessionStateError) as caught:
        join(target, *others, **options)
    assert caught.value.kind == "merge-failed"
    assert pickle.dumps(target) == before
    return str(caught.value)


def test_disjoint_chunks_come_together():
    parent, (a, b) = parent_with_forks()
    write(a, {(0,): inline(b"a"), (2,): native(1)})
    write(b, {(1,): inline(b"b"), (3,): GONE})
    join(parent, a, b)
    assert written(parent) == {
        (0,): inline(b"a"),
        (1,): inline(b"b"),
        (2,): native(1),
        (3,): GONE,
    }


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (native(1), native(2)),
        (native(1), inline(b"x")),
        (inline(b"x"), inline(b"y")),
        (inline(b"x"), GONE),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_two_forks_that_wrote_one_chunk_are_refused_by_name(mine, theirs, at_once):
    parent, (a, b) = parent_with_forks()
    write(a, {(5,): mine, (6,): native(9)})
    write(b, {(5,): theirs, (7,): native(9)})
    if at_once:
        message = refusal(parent, a, b)
    else:
        join(parent, a)
        message = refusal(parent, b)
    assert "/base/array" in message
    assert "[5]" in message
    assert "[6]" not in message


def test_last_wins_when_asked_for():
    parent, (a, b) = parent_with_forks()
    write(a, {(5,): native(1)})
    write(b, {(5,): native(2)})
    join(parent, a, b, on_overlap="last")
    assert written(parent) == {(5,): native(2)}


@pytest.mark.parametrize("ref", [native(1), inline(b"same"), GONE])
def test_equal_references_are_no_overlap(ref):
    parent, (a, b) = parent_with_forks()
    write(a, {(5,): ref})
    write(b, {(5,): ref})
    join(parent, a, b)
    join(parent, a)
    assert written(parent) == {(5,): ref}


def test_a_refusal_counts_what_it_does_not_name():
    parent, (a, b) = parent_with_forks()
    write(a, {(i,): native(1) for i in range(40)})
    write(b, {(i,): native(2) for i in range(3, 40)})
    message = refusal(parent, a, b)
    assert "[3], [4], [5], [6], [7] and 32 more" in message


def test_a_fork_may_replace_what_it_found_in_its_parent():
    parent = ChangeSet()
    write(parent, {(0,): native(1)})
    fork = ChangeSet(lineage=parent.fork_point())
    write(fork, {(0,): native(2)})
    join(parent, fork)
    assert written(parent) == {(0,): native(2)}


def test_a_fork_may_not_replace_what_its_parent_wrote_afterwards():
    parent, (fork,) = parent_with_forks(1)
    write(parent, {(0,): native(1)})
    write(fork, {(0,): native(2)})
    assert "[0]" in refusal(parent, fork)


def test_a_fork_of_the_merged_parent_builds_on_the_merged_chunks():
    parent, (first,) = parent_with_forks(1)
    write(first, {(0,): native(1)})
    join(parent, first)
    second = ChangeSet(lineage=parent.fork_point())
    write(second, {(0,): native(2)})
    join(parent, second)
    assert written(parent) == {(0,): native(2)}


def test_copies_of_one_fork_are_different_writers():
    parent, (fork,) = parent_with_forks(1)
    write(fork, {(0,): native(1)})
    copies = [pickle.loads(pickle.dumps(fork)) for _ in range(2)]
    write(copies[0], {(1,): native(2)})
    write(copies[1], {(1,): native(3)})
    assert "[1]" in refusal(copies[0], copies[1])
    assert "[1]" in refusal(parent, *copies)


def test_merging_oneself_or_one_set_twice_is_harmless():
    parent, (fork,) = parent_with_forks(1)
    write(fork, {(0,): native(1)})
    join(fork, fork)
    join(parent, fork, fork, parent)
    assert written(parent) == {(0,): native(1)}


def test_a_hundred_forks_of_two_thousand_chunks():
    parent, forks = parent_with_forks(100)
    rng = np.random.default_rng(0)
    for i, fork in enumerate(forks):
        coords = np.arange(i * 2000, (i + 1) * 2000, dtype=np.uint32)[:, None]
        ids = rng.integers(0, 256, (2000, 12), dtype=np.uint8)
        fork.log(ARRAY, 1).put_table(ChunkTable.native(coords, ids, np.full(2000, 10**6)))
    data = [pickle.dumps(fork) for fork in forks]
    assert max(map(len, data)) <= 32 * 2000
    join(parent, *map(pickle.loads, data))
    assert len(parent.log(ARRAY, 1).table()) == 200_000


# --- nodes --------------------------------------------------------------------------------------


def create(changes, path, node_id, data=b"{}", grid=GRID):
    changes.put_document(node_id, path, data, grid, is_new=True)


def update(changes, node_id, data, grid=GRID):
    changes.put_document(node_id, BASE[node_id], data, grid, is_new=False)


@pytest.mark.parametrize(("grid", "what"), [(GRID, "arrays"), (None, "groups")])
def test_one_path_created_twice_is_refused(grid, what):
    parent, (a, b) = parent_with_forks()
    create(a, "/new", b"aaaaaaaa", grid=grid)
    create(b, "/new", b"bbbbbbbb", grid=grid)
    assert f"created the same {what}: /new" in refusal(parent, a, b)


def test_one_creation_carried_by_two_copies_is_one_node():
    parent, (fork,) = parent_with_forks(1)
    create(fork, "/new", b"aaaaaaaa")
    write(fork, {(0,): native(1)}, b"aaaaaaaa")
    copies = [pickle.loads(pickle.dumps(fork)) for _ in range(2)]
    write(copies[1], {(1,): native(2)}, b"aaaaaaaa")
    join(parent, *copies)
    assert list(parent.created) == ["/new"]
    assert set(written(parent, b"aaaaaaaa")) == {(0,), (1,)}


def test_different_updates_of_one_node_are_refused_and_equal_ones_not():
    parent, (a, b, c) = parent_with_forks(3)
    update(a, ARRAY, b"1")
    update(b, ARRAY, b"1")
    update(c, ARRAY, b"2")
    join(parent, a, b)
    assert "updated the same arrays" in refusal(parent, c)
    assert parent.updated[ARRAY].user_data == b"1"


def test_a_fork_may_update_a_node_created_before_it():
    parent = ChangeSet()
    create(parent, "/new", b"aaaaaaaa", b"1")
    fork = ChangeSet(lineage=parent.fork_point())
    fork.put_document(b"aaaaaaaa", "/new", b"2", GRID, is_new=False)
    join(parent, fork)
    assert parent.created["/new"].user_data == b"2"
    assert not parent.updated


def test_deleted_by_one_and_edited_by_the_other_is_refused_in_any_order():
    for edit in (lambda c: update(c, ARRAY, b"1"), lambda c: write(c, {(0,): native(1)})):
        for order in (1, -1):
            parent, forks = parent_with_forks()
            forks[0].delete(ARRAY, BASE[ARRAY], is_array=True)
            edit(forks[1])
            message = refusal(parent, *forks[::order])
            assert "Arrays were both deleted and modified" in message


def test_both_may_delete():
    parent, (a, b) = parent_with_forks()
    for fork in (a, b):
        fork.delete(ARRAY, BASE[ARRAY], is_array=True)
        fork.delete(GROUP, BASE[GROUP], is_array=False)
    join(parent, a, b)
    assert set(parent.deleted) == {ARRAY, GROUP}


def test_a_fork_may_delete_what_its_parent_created_before():
    parent = ChangeSet()
    create(parent, "/new", b"aaaaaaaa")
    write(parent, {(0,): native(1)}, b"aaaaaaaa")
    fork = ChangeSet(lineage=parent.fork_point())
    fork.delete(b"aaaaaaaa", "/new", is_array=True)
    create(fork, "/new", b"bbbbbbbb")
    join(parent, fork)
    assert parent.created["/new"].id == b"bbbbbbbb"
    assert not parent.deleted
    assert b"aaaaaaaa" not in parent.chunks


def test_chunks_of_an_unknown_array_are_not_dropped_in_silence():
    parent, (outer,) = parent_with_forks(1)
    create(outer, "/new", b"aaaaaaaa")
    inner = ChangeSet(lineage=outer.fork_point())
    write(inner, {(0,): native(1)}, b"aaaaaaaa")
    assert "nested fork" in refusal(parent, inner)
    join(outer, inner)
    join(parent, outer)
    assert set(written(parent, b"aaaaaaaa")) == {(0,)}


def test_chunks_of_another_rank_are_refused():
    parent, (a, b) = parent_with_forks()
    write(a, {(0,): native(1)})
    write(b, {(0, 0): native(1)})
    assert "rank" in refusal(parent, a, b)


def test_the_policy_is_checked():
    parent, (a,) = parent_with_forks(1)
    with pytest.raises(InvalidInputError, match="first"):
        join(parent, a, on_overlap="first")


def test_a_creation_where_the_base_has_a_node_is_refused_unless_that_is_deleted():
    parent, (fork, other) = parent_with_forks()
    create(fork, "/base/array", b"new-node")
    assert "Multiple writers created the same arrays" in refusal(parent, fork)
    other.delete(ARRAY, "/base/array", is_array=True)
    create(other, "/base/array", b"new-node")
    join(parent, other)
    assert parent.created["/base/array"].id == b"new-node"
    assert ARRAY in parent.deleted

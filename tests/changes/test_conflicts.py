"""The rules of conflicts on columns, against a slow twin on dictionaries and sets."""

import hypothesis.strategies as st
import numpy as np
from hypothesis import given

from icechunk.changes.change_set import ChangeSet
from icechunk.changes.conflicts import RULES, Comparison, ConflictType, OurEdits, find_conflicts
from icechunk.changes.documents import ArrayGrid
from icechunk.changes.solvers import BasicConflictSolver, ConflictDetector, VersionSelection
from icechunk.chunks import ChunkKind, ChunkRef
from icechunk.format.snapshot import ArrayData, Node, NodeTable
from icechunk.format.transaction_log import Move, TransactionLog, node_ids

T = ConflictType
GRID = ArrayGrid((8, 8), (8, 8), None)
REF = ChunkRef(ChunkKind.INLINE, None, 0, 1, b"x")

ARRAYS = {bytes([n]) * 8: f"/a{n}" for n in range(1, 5)}
GROUPS = {bytes([n]) * 8: f"/g{n}" for n in range(5, 8)}

coords = st.tuples(st.integers(0, 3), st.integers(0, 3))
some_arrays = st.sets(st.sampled_from(sorted(ARRAYS)))
some_groups = st.sets(st.sampled_from(sorted(GROUPS)))
some_chunks = st.dictionaries(st.sampled_from(sorted(ARRAYS)), st.sets(coords, min_size=1))


def base_nodes(extra=()):
    array = ArrayData((8, 8), (8, 8), None, ())
    nodes = [Node(node_id, path, b"{}", array) for node_id, path in ARRAYS.items()]
    nodes += [Node(node_id, path, b"{}", None) for node_id, path in GROUPS.items()]
    return NodeTable.from_nodes([*nodes, *extra])


@st.composite
def our_edits(draw):
    changes = ChangeSet()
    deleted = draw(some_arrays), draw(some_groups)
    for node_id in draw(some_arrays) - deleted[0]:
        changes.put_document(node_id, ARRAYS[node_id], b"new", GRID, is_new=False)
    for node_id in draw(some_groups) - deleted[1]:
        changes.put_document(node_id, GROUPS[node_id], b"new", None, is_new=False)
    for node_id, chunks in draw(some_chunks).items():
        if node_id not in deleted[0]:
            for at in chunks:
                changes.log(node_id, 2).put(at, REF)
    for paths, ids, is_array in ((ARRAYS, deleted[0], True), (GROUPS, deleted[1], False)):
        for node_id in ids:
            changes.delete(node_id, paths[node_id], is_array=is_array)
    return changes


@st.composite
def their_logs(draw):
    chunks = {node_id: np.array(sorted(at), np.uint32) for node_id, at in draw(some_chunks).items()}
    return TransactionLog(
        b"s" * 12,
        deleted_arrays=node_ids(draw(some_arrays)),
        deleted_groups=node_ids(draw(some_groups)),
        updated_arrays=node_ids(draw(some_arrays)),
        updated_groups=node_ids(draw(some_groups)),
        updated_chunks=chunks,
    )


def ids_of(column):
    return {row.tobytes() for row in column}


def slow_twin(ours, theirs):
    """Say the same with sets, one obvious line per rule."""
    names = ARRAYS | GROUPS
    updated = set(ours.updated)
    deleted = set(ours.deleted)
    written = {node: {at for at, _ in table.items()} for node, table in ours.tables()}
    their_chunks = {
        node: set(map(tuple, at.tolist())) for node, at in theirs.updated_chunks.items()
    }
    gone_arrays, gone_groups = ids_of(theirs.deleted_arrays), ids_of(theirs.deleted_groups)
    new_arrays, new_groups = ids_of(theirs.updated_arrays), ids_of(theirs.updated_groups)

    def clashes(kind, ids):
        return [(kind, names[node], None) for node in sorted(ids, key=names.get)]

    found = clashes(T.ZarrMetadataDoubleUpdate, updated & new_arrays)
    found += clashes(T.ZarrMetadataDoubleUpdate, updated & new_groups)
    found += clashes(T.ZarrMetadataUpdateOfDeletedArray, updated & gone_arrays)
    found += clashes(T.ZarrMetadataUpdateOfDeletedGroup, updated & gone_groups)
    found += clashes(T.ChunksUpdatedInDeletedArray, set(written) & gone_arrays)
    found += clashes(T.ChunksUpdatedInUpdatedArray, set(written) & new_arrays)
    for node in sorted(set(written) & set(their_chunks), key=names.get):
        if both := written[node] & their_chunks[node]:
            found.append((T.ChunkDoubleUpdate, names[node], [list(at) for at in sorted(both)]))
    changed = new_arrays | set(their_chunks)
    found += clashes(T.DeleteOfUpdatedArray, deleted & changed - gone_arrays)
    found += clashes(T.DeleteOfUpdatedGroup, deleted & new_groups - gone_groups)
    return found


def compare(changes, theirs, nodes=None):
    nodes = nodes or base_nodes()
    both = Comparison(OurEdits.of(changes, base_nodes()), theirs, lambda: nodes)
    found = [clash.public() for clash in find_conflicts(both)]
    return [(c.conflict_type, c.path, c.conflicted_chunks) for c in found]


@given(our_edits(), their_logs())
def test_rules_say_what_the_slow_twin_says(changes, theirs):
    assert compare(changes, theirs) == slow_twin(changes, theirs)


@given(our_edits(), their_logs(), st.sampled_from(list(VersionSelection)), st.booleans())
def test_policies_solve_what_they_say(changes, theirs, choice, strict):
    both = Comparison(OurEdits.of(changes, base_nodes()), theirs, base_nodes)
    clashes = find_conflicts(both)
    kinds = {clash.kind for clash in clashes}
    assert (ConflictDetector().resolve(clashes) is None) == bool(clashes)
    solver = BasicConflictSolver(
        on_chunk_conflict=choice,
        fail_on_delete_of_updated_array=strict,
        fail_on_delete_of_updated_group=strict,
    )
    solvable = set()
    if choice is not VersionSelection.Fail:
        solvable.add(T.ChunkDoubleUpdate)
    if not strict:
        solvable |= {T.DeleteOfUpdatedArray, T.DeleteOfUpdatedGroup}
    resolution = solver.resolve(clashes)
    assert (resolution is None) == bool(kinds - solvable)
    if resolution is not None:
        dropped = {node: coords.tolist() for node, coords in resolution.dropped_chunks}
        wanted = {
            clash.node_id: clash.coords.tolist()
            for clash in clashes
            if clash.coords is not None and choice is VersionSelection.UseTheirs
        }
        assert dropped == wanted


@given(our_edits(), their_logs(), their_logs())
def test_chunks_that_were_taken_back_clash_no_more(changes, first, second):
    ours = OurEdits.of(changes, base_nodes())
    for clash in find_conflicts(Comparison(ours, first, base_nodes)):
        if clash.coords is not None:
            ours.take_back(clash.node_id, clash.coords)
            changes.chunks[clash.node_id].drop(clash.coords)
    assert not any(
        clash.coords is not None for clash in find_conflicts(Comparison(ours, first, base_nodes))
    )
    again = [clash.public() for clash in find_conflicts(Comparison(ours, second, base_nodes))]
    assert [(c.conflict_type, c.path, c.conflicted_chunks) for c in again] == slow_twin(
        changes, second
    )


def test_nodes_are_fetched_only_when_we_created_some():
    def unwanted():
        raise AssertionError("fetched a snapshot")

    changes = ChangeSet()
    changes.put_document(next(iter(ARRAYS)), "/a1", b"new", GRID, is_new=False)
    theirs = TransactionLog(b"s" * 12, new_arrays=node_ids([b"n" * 8]))
    assert not find_conflicts(Comparison(OurEdits.of(changes, base_nodes()), theirs, unwanted))


def test_a_taken_path_and_an_array_above_are_found():
    changes = ChangeSet()
    changes.put_document(b"mine-000", "/x/y", b"{}", None, is_new=True)
    changes.put_document(b"mine-001", "/a1/below", b"{}", None, is_new=True)
    theirs = TransactionLog(b"s" * 12, new_arrays=node_ids([b"theirs-0"]))
    nodes = base_nodes([Node(b"theirs-0", "/x/y", b"{}", ArrayData((1,), (1,), None, ()))])
    assert compare(changes, theirs, nodes) == [
        (T.NewNodeConflictsWithExistingNode, "/x/y", None),
        (T.NewNodeInInvalidGroup, "/a1", None),
    ]


def test_moves_silence_everything_else():
    changes = ChangeSet()
    changes.put_document(next(iter(ARRAYS)), "/a1", b"new", GRID, is_new=False)
    theirs = TransactionLog(
        b"s" * 12,
        updated_arrays=node_ids([next(iter(ARRAYS))]),
        moves=(Move("/a2", "/z", list(ARRAYS)[1], is_array=True),),
    )
    assert compare(changes, theirs) == [(T.MoveOperationCannotBeRebased, "", None)]


def test_every_kind_has_a_rule_or_is_the_one_that_ends_all():
    assert len(RULES) == len(ConflictType) - 1

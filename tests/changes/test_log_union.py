"""What several commits did together, against a union made row by row."""

import numpy as np
from effort import EFFORT
from hypothesis import given, settings
from hypothesis import strategies as st

from icechunk.changes.log_union import united_log
from icechunk.format.transaction_log import ID_LISTS, Move, TransactionLog, node_ids

A, B, C = (bytes([n]) * 8 for n in (1, 2, 3))


def rows(*coords):
    return np.array(coords, np.uint32)


def log(number=0, **changes):
    return TransactionLog(bytes([number]) * 12, **changes)


ids = st.sampled_from([A, B, C])
coords = st.sets(st.tuples(st.integers(0, 3), st.integers(0, 2**32 - 1)), min_size=1, max_size=5)
logs = st.builds(
    TransactionLog,
    id=st.binary(min_size=12, max_size=12),
    **{name: st.lists(ids, max_size=3).map(node_ids) for name in ID_LISTS},
    updated_chunks=st.dictionaries(ids, coords.map(lambda c: rows(*sorted(c))), max_size=3),
)


@settings(max_examples=50 * EFFORT, deadline=None)
@given(st.lists(logs, min_size=1, max_size=5))
def test_lists_and_chunks_are_united(parts):
    whole = united_log(parts)
    assert whole.id == parts[-1].id
    for name in ID_LISTS:
        expected = sorted({row.tobytes() for part in parts for row in getattr(part, name)})
        assert [row.tobytes() for row in getattr(whole, name)] == expected
    chunks = {}
    for part in parts:
        for node_id, table in part.updated_chunks.items():
            chunks.setdefault(node_id, set()).update(map(tuple, table.tolist()))
    found = {node: [tuple(row) for row in t.tolist()] for node, t in whole.updated_chunks.items()}
    assert found == {node: sorted(places) for node, places in chunks.items()}


def test_chunks_of_another_rank_are_gone():
    whole = united_log(
        [log(updated_chunks={A: rows((0,), (1,))}), log(updated_chunks={A: rows((0, 1))})]
    )
    assert whole.updated_chunks[A].tolist() == [[0, 1]]


def test_moves_are_chained():
    whole = united_log(
        [
            log(moves=(Move("/a", "/b", A, True), Move("/g", "/h", B, False))),
            log(moves=(Move("/b", "/x", A, True),)),
            log(moves=(Move("/x", "/c", A, True), Move("/q", "/b", C, True))),
        ]
    )
    assert whole.moves == (
        Move("/q", "/b", C, True),
        Move("/a", "/c", A, True),
        Move("/g", "/h", B, False),
    )


def test_a_node_that_is_back_did_not_move():
    there, back = Move("/a", "/b", A, True), Move("/b", "/a", A, True)
    assert united_log([log(moves=(there,)), log(moves=(back,))]).moves == ()


def test_one_log_is_itself():
    only = log(7, updated_chunks={A: rows((1,))})
    assert united_log([only]) is only


def test_arrays_listed_without_chunks():
    nothing = np.zeros((0, 0), np.uint32)
    parts = [log(updated_chunks={A: rows((0, 1))}), log(updated_chunks={A: nothing})]
    assert united_log(parts).updated_chunks[A].tolist() == [[0, 1]]
    assert united_log([parts[1], parts[1]]).updated_chunks[A].tolist() == []

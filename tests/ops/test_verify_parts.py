"""The parts of a verification, against slow twins that say what they must give."""

import pickle
from itertools import combinations, product

import numpy as np
import pytest
from effort import EFFORT
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from icechunk.errors import FormatError
from icechunk.format.damage import Damage, damaged
from icechunk.format.ids import encode_id
from icechunk.format.manifest_files import ManifestFile, ManifestFiles
from icechunk.format.nodes import ArrayData, ManifestRef, Node, NodeTable
from icechunk.format.transaction_log import TransactionLog, node_ids
from icechunk.ops.verify.claims import Claims, FileClaims
from icechunk.ops.verify.inventory import Inventory, take_inventory
from icechunk.ops.verify.logs import WORD, fingerprint, net_change
from icechunk.ops.verify.overlap import first_overlap
from icechunk.ops.verify.rules import RULES, kind_of
from icechunk.storage.memory import MemoryStorage
from icechunk.verification import FaultKind


def column(numbers, width=12):
    """Ids whose first eight bytes are often the same."""
    return np.array([list(n.to_bytes(width, "big")) for n in numbers], np.uint8).reshape(-1, width)


@pytest.mark.parametrize("damage", Damage)
def test_damage_that_readers_tell_apart_is_a_kind_of_fault(damage):
    error = pickle.loads(pickle.dumps(damaged("bad", damage)))
    assert (kind_of(error).value, error.damage) == (damage.value, damage)
    assert kind_of(error) in RULES


def test_other_damage_is_a_corrupt_file():
    assert kind_of(FormatError("references of one array differ in rank")) is FaultKind.CORRUPT_FILE


@given(
    st.lists(st.integers(0, 40) | st.integers(2**90, 2**90 + 9), unique=True, max_size=30),
    st.lists(st.integers(0, 40) | st.integers(2**90, 2**90 + 9), max_size=30),
)
def test_ids_are_found_in_a_listing(listed, wanted):
    ids = column(listed)
    sizes = np.arange(len(ids), dtype=np.uint64)
    inventory = Inventory.of("chunks", ids, sizes, np.zeros(len(ids), np.int64))
    rows = inventory.locate(column(wanted))
    for number, row in zip(wanted, rows.tolist(), strict=True):
        if number in listed:
            assert inventory.ids[row].tobytes() == number.to_bytes(12, "big")
            assert inventory.sizes[row] == sizes[listed.index(number)]
        else:
            assert row == -1


def test_listings_tell_ids_from_other_names():
    storage = MemoryStorage()
    names = [encode_id(n.to_bytes(12, "little")) for n in range(300)]
    for name in names:
        storage.put(f"chunks/{name}", b"abc")
    others = ["README", names[7].lower(), names[8][:-1] + "1", "x/" + names[9], names[10] + "0"]
    for name in others:
        storage.put(f"chunks/{name}", b"")
    told = []
    inventory = take_inventory(storage, "chunks", told.append)
    assert sorted(names) == [encode_id(row.tobytes()) for row in inventory.ids]
    assert set(inventory.sizes.tolist()) == {3}
    assert {f"chunks/{name}" for name in others if name not in names} == set(inventory.foreign)
    assert told == [len(names) + len(set(others) - set(names))]
    assert len(take_inventory(storage, "manifests")) == 0


def slow_overlap(boxes):
    cells = [set(product(*(range(low, high) for low, high in box))) for box in boxes.tolist()]
    return [pair for pair in combinations(range(len(cells)), 2) if cells[pair[0]] & cells[pair[1]]]


@settings(max_examples=300 * EFFORT)
@given(
    st.integers(0, 3).flatmap(
        lambda rank: arrays.arrays(
            np.int64,
            st.tuples(st.integers(0, 6), st.just(rank), st.just(2)),
            elements=st.integers(0, 4),
        )
    )
)
def test_overlaps_are_found(boxes):
    found, expected = first_overlap(boxes), slow_overlap(boxes)
    assert (found is None) == (not expected)
    assert found is None or found in expected


def test_many_boxes_are_compared_by_blocks():
    places = np.stack(np.unravel_index(np.arange(40 * 50), (40, 50)), axis=1)
    boxes = np.stack([places * 3, places * 3 + 3], axis=2).astype(np.int64)
    order = np.random.default_rng(1).permutation(len(boxes))
    assert first_overlap(boxes[order]) is None
    boxes[77] += 1  # over the edges of its neighbours
    pair = first_overlap(boxes[order])
    assert pair is not None
    assert 77 in order[list(pair)]


@given(st.lists(st.binary(min_size=8, max_size=8), unique=True), st.integers(0, 9))
def test_logs_change_fingerprints_by_what_they_list(ids, kept):
    before, created = ids[: len(ids) // 2], ids[len(ids) // 2 :]
    gone = before[kept:]
    log = TransactionLog(
        bytes(12),
        new_groups=node_ids(created[::2]),
        new_arrays=node_ids(created[1::2]),
        deleted_groups=node_ids(gone[::2]),
        deleted_arrays=node_ids(gone[1::2]),
    )
    after = [*before[:kept], *created]
    change = fingerprint(node_ids(after)) - fingerprint(node_ids(before))
    assert net_change(log) == change % WORD


def test_an_id_created_and_deleted_changes_nothing():
    """As in the log of an amend, which unites two."""
    both = node_ids([b"12345678"])
    assert net_change(TransactionLog(bytes(12), new_groups=both, deleted_groups=both)) == 0


def snapshot_of(*arrays_):
    nodes = [
        Node(node.to_bytes(8, "big"), f"/{node}", b"", ArrayData(grid, grid, None, refs))
        for node, grid, refs in arrays_
    ]
    return NodeTable.from_nodes(nodes).columns


def ref(number, *extents):
    return ManifestRef(number.to_bytes(12, "big"), extents)


def claims_of(claims, manifest):
    return {
        (found.node_id[-1], tuple(grid), tuple(map(tuple, box)), snapshot)
        for found in claims.of(manifest.to_bytes(12, "big"))
        for grid, box, snapshot in zip(
            found.grids.tolist(), found.boxes.tolist(), found.snapshots.tolist(), strict=True
        )
    }


def test_claims_are_kept_once_and_told_by_manifest():
    claims = Claims()
    square = (1, (4, 4), (ref(7, (0, 2), (0, 4)), ref(8, (2, 4), (0, 4))))
    line = (2, (9,), (ref(9),))
    point = (3, (), (ref(7),))
    claims.add(snapshot_of(square, line, (5, (3,), ())), 0)
    claims.add(snapshot_of(square, line, point), 1)
    claims.add(snapshot_of((1, (4, 5), square[2])), 2)
    claims.close()
    assert claims_of(claims, 7) == {
        (1, (4, 4), ((0, 2), (0, 4)), 0),
        (1, (4, 5), ((0, 2), (0, 4)), 2),
        (3, (), (), 1),
    }
    assert claims_of(claims, 8) == {
        (1, (4, 4), ((2, 4), (0, 4)), 0),
        (1, (4, 5), ((2, 4), (0, 4)), 2),
    }
    assert claims_of(claims, 9) == {(2, (9,), ((0, 2**32 - 1),), 0)}
    assert claims.of(bytes(12)) == []


def test_records_of_manifest_files_are_kept_once():
    def files(*rows):
        return ManifestFiles.from_files(
            ManifestFile(n.to_bytes(12, "big"), size, count) for n, size, count in rows
        )

    records = FileClaims()
    records.add(files((1, 10, 2), (2, 20, 3)), 0)
    records.add(files((1, 10, 2), (2, 21, 3)), 1)
    records.add_unlisted(column([3]), 2)
    found = [
        [(claim.id[-1], claim.size, claim.num_refs, claim.snapshot) for claim in group]
        for group in records.by_manifest()
    ]
    assert found == [[(1, 10, 2, 0)], [(2, 20, 3, 0), (2, 21, 3, 1)], [(3, 0, -1, 2)]]
    assert list(FileClaims().by_manifest()) == []


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_overlaps_with_itself(count):
    assert first_overlap(np.ones((count, 2, 2), np.int64)) is None

"""Storage by array, snapshot and ref against sets of every single chunk."""

import sys
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from icechunk.chunks import ChunkKind, ChunkTable
from icechunk.chunks.ragged import RaggedBytes
from icechunk.format.ids import encode_id
from icechunk.ops.scan import ScanLimits
from icechunk.ops.stats import chunk_storage
from icechunk.ops.usage.by import by_array, by_ref, by_snapshot, difference
from icechunk.ops.usage.shares import GroupSets

sys.path.append(str(Path(__file__).parent))  # for the helper beside this file

from hand_made import Repo, nid, oid

LIMITS = [ScanLimits(), ScanLimits(1, 1, 1, 1)]
KINDS = ("native", "virtual", "inlined", "manifest")


@st.composite
def tables(draw):
    """References of one array to chunks of which there are few, so that many are shared."""
    refs = draw(
        st.lists(
            st.tuples(st.sampled_from(list(ChunkKind)[1:]), st.integers(1, 9)),
            min_size=1,
            max_size=5,
        )
    )
    n = len(refs)
    return ChunkTable.from_columns(
        np.arange(n).reshape(-1, 1),
        [kind for kind, _ in refs],
        [2**number for _, number in refs],
        ids=b"".join(oid(number) for _, number in refs),
        offsets=[number % 2 for _, number in refs],
        inline=RaggedBytes.from_list([bytes(number) for _, number in refs]),
        locations=RaggedBytes.from_strings([f"s3://b/{number % 3}" for _, number in refs]),
    )


@st.composite
def repositories(draw):
    repo = Repo()
    for number in range(1, draw(st.integers(1, 5)) + 1):
        nodes = draw(st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True))
        repo.manifest(number, *(draw(tables()) for _ in nodes), nodes=nodes)
    manifests = st.lists(st.sampled_from(sorted(repo.files)), max_size=4, unique=True)
    count = draw(st.integers(1, 6))
    for number in range(1, count + 1):
        parent = draw(st.integers(1, number - 1)) if number > 1 else None
        repo.snapshot(number, parent, *draw(manifests))
    numbers = st.integers(1, count)
    tags = draw(st.lists(numbers, max_size=2, unique=True))
    return repo, repo.info(tags, main=draw(numbers), side=draw(numbers))


def items_of(repo, manifest, node=None):
    """Everything that counts in a manifest, or in an array of it: kind, what it is, bytes."""
    found = {("manifest", manifest, repo.files[manifest].size_bytes)}
    for its, table in repo.contents[manifest].items():
        if node not in (None, its):
            continue
        for row in range(len(table)):
            ref = table.ref(row)
            if ref.kind == ChunkKind.INLINE:
                found.add(("inlined", (manifest, its, row), ref.length))
            elif ref.kind == ChunkKind.NATIVE:
                found.add(("native", ref.id, ref.length))
            else:
                found.add(("virtual", (ref.location, ref.offset, ref.length), ref.length))
    return found


def manifests_of(repo, snapshot):
    files = repo.assets.snapshot(oid(snapshot)).manifest_files
    return {file.id[0] for file in files}


def ancestry(info, number):
    return [info.snapshots.id(row)[0] for row in info.snapshots.ancestry(oid(number))]


def check(columns, groups):
    """Compare columns with sets of items, one for each row."""
    assert len(columns) == len(groups)
    for row, items in enumerate(groups):
        for kind in KINDS:
            its = {item for item in items if item[0] == kind}
            count = "manifests" if kind == "manifest" else f"{kind}_chunks"
            assert getattr(columns, f"{kind}_bytes")[row] == sum(item[2] for item in its)
            assert getattr(columns, count)[row] == len(its)


def alone(groups):
    """What is in one of the groups only, for each."""
    return [
        items - set().union(*groups[:row], *groups[row + 1 :]) for row, items in enumerate(groups)
    ]


@settings(max_examples=25)
@given(st.sampled_from(LIMITS), repositories())
def test_by_snapshot(limits, made):
    repo, info = made
    table = by_snapshot(repo.assets, info, limits)
    parents = {entry.id[0]: entry.parent_id and entry.parent_id[0] for entry in info.snapshots}
    tips = [*info.branches.values(), *info.tags.values()]
    reachable = sorted({n for tip in tips for n in ancestry(info, tip[0])}, reverse=True)
    groups = {n: set().union(*(items_of(repo, m) for m in manifests_of(repo, n))) for n in parents}
    assert table.ids == tuple(encode_id(oid(n)) for n in reachable)
    check(table.total, [groups[n] for n in reachable])
    check(table.exclusive, alone([groups[n] for n in reachable]))
    check(table.added, [groups[n] - groups.get(parents[n], set()) for n in reachable])
    assert table.whole == chunk_storage(repo.assets, info, limits)


@settings(max_examples=25)
@given(st.sampled_from(LIMITS), repositories())
def test_by_ref(limits, made):
    repo, info = made
    refs = [*sorted(info.branches.items()), *sorted(info.tags.items())]
    groups = [
        {
            i
            for n in ancestry(info, tip[0])
            for m in manifests_of(repo, n)
            for i in items_of(repo, m)
        }
        for _, tip in refs
    ]
    for kind, rows in (("branch", slice(2)), ("tag", slice(2, None))):
        table = by_ref(repo.assets, info, kind, limits)
        assert table.names == tuple(name for name, _ in refs[rows])
        assert table.ids == tuple(encode_id(tip) for _, tip in refs[rows])
        check(table.total, groups[rows])
        check(table.exclusive, alone(groups)[rows])
        assert table.whole == chunk_storage(repo.assets, info, limits)


@settings(max_examples=25)
@given(st.sampled_from(LIMITS), repositories())
def test_by_array(limits, made):
    repo, info = made
    table = by_array(repo.assets, info, limits)
    tips = [*info.branches.values(), *info.tags.values()]
    reachable = {n for tip in tips for n in ancestry(info, tip[0])}
    manifests = {m for n in reachable for m in manifests_of(repo, n)}
    nodes = sorted({node for m in manifests for node in repo.contents[m]})
    groups = [
        {i for m in manifests if node in repo.contents[m] for i in items_of(repo, m, node)}
        for node in nodes
    ]
    assert table.names == tuple(f"/n{node}" for node in nodes)
    assert table.ids == tuple(encode_id(nid(node)) for node in nodes)
    check(table.total, groups)
    check(table.exclusive, alone(groups))
    assert table.whole == chunk_storage(repo.assets, info, limits)


@settings(max_examples=25)
@given(st.sampled_from(LIMITS), repositories(), st.data())
def test_difference(limits, made, data):
    repo, info = made
    known = st.lists(st.sampled_from([entry.id[0] for entry in info.snapshots]), unique=True)
    mine, others = data.draw(known), data.draw(known)
    table = difference(repo.assets, info, list(map(oid, mine)), list(map(oid, others)), limits)

    theirs = {m for n in others for m in manifests_of(repo, n)}
    gone = set().union(*(items_of(repo, m) for m in theirs))
    manifests = {m for n in mine for m in manifests_of(repo, n)} - theirs
    groups = {
        node: {i for m in manifests if node in repo.contents[m] for i in items_of(repo, m, node)}
        - gone
        for node in range(4)
    }
    rows = [node for node in groups if groups[node]]
    assert table.names == tuple(f"/n{node}" for node in rows)
    check(table.total, [groups[node] for node in rows])
    check(table.exclusive, alone([groups[node] for node in rows]))
    items = set().union(*groups.values())
    sums = {kind: sum(item[2] for item in items if item[0] == kind) for kind in KINDS}
    assert table.whole.native_bytes == sums["native"]
    assert table.whole.virtual_bytes == sums["virtual"]
    assert table.whole.inlined_bytes == sums["inlined"]


@given(st.lists(st.integers(0, 2**20), max_size=20), st.integers(20, 40))
def test_sets_as_a_matrix(masks, groups):
    sets = GroupSets()
    numbers = [sets.number(mask) for mask in masks]
    assert numbers == [list(dict.fromkeys(masks)).index(mask) for mask in masks]
    matrix = sets.matrix(0, len(sets), groups)
    for mask, number in zip(masks, numbers, strict=True):
        assert [bool(mask >> group & 1) for group in range(groups)] == matrix[number].tolist()


def test_nothing_is_read_for_what_has_nothing_of_its_own():
    repo = Repo()
    repo.manifest(1, ChunkTable.native([[0]], oid(1), [5]))
    repo.snapshot(1, None, 1)
    repo.snapshot(2, 1, 1)
    repo.storage.reads.clear()
    assert len(difference(repo.assets, repo.info(main=2), [oid(2)], [oid(1)], LIMITS[0])) == 0
    assert len(repo.storage.reads) == 2
    assert not len(repo.assets.caches.snapshots)

"""Patching manifests: the same as overlaying and rebuilding, in any writer's layout, or refused."""

import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
from effort import EFFORT
from hypothesis import given, settings
from hypothesis import strategies as st

from icechunk.chunks.combine import overlay
from icechunk.chunks.kinds import ChunkKind, ChunkRef
from icechunk.chunks.ragged import RaggedBytes
from icechunk.chunks.table import ChunkTable
from icechunk.errors import FormatError
from icechunk.format import schema
from icechunk.format.envelope import FileKind, wrap
from icechunk.format.flatbuf import Buffer
from icechunk.format.locations import LocationCompression
from icechunk.format.manifest import Manifest, encode_manifest
from icechunk.format.manifest_patch import MAX_GROWTH, patched_manifest

ROOT = Path(__file__).parents[2]
GOLDEN = [*sorted((ROOT / "tests/golden").glob("*/manifests/*"))]
ARCHIVES = sorted((ROOT / "compat/golden").glob("*.zip"))
ID, NEW_ID = bytes(range(12)), b"a new id 012"
NODE, OTHER = b"node-one", b"node-two"
KEY = "manifests/X"


def decode(data: bytes) -> Manifest:
    return Manifest.decode(data, KEY)


def refs(table: ChunkTable) -> dict:
    return dict(table.items())


def opened(patched) -> Manifest:
    return decode(wrap(FileKind.MANIFEST, patched.payload))


def patch(manifest: Manifest, changed: ChunkTable, node: bytes = NODE):
    return patched_manifest(manifest, NEW_ID, node, changed)


def checked(manifest: Manifest, changed: ChunkTable, stock=None, node: bytes = NODE):
    """Patch, and compare with the slow way, as three readers see it."""
    before = bytes(manifest._buffer.data)
    patched = patch(manifest, changed, node)
    assert bytes(manifest._buffer.data) == before
    if patched is None:
        return None
    new = opened(patched)
    expected = refs(overlay(manifest.table(node, changed.rank), changed))
    assert new.id == NEW_ID
    assert new.node_ids == (node,)
    assert patched.num_refs == new.num_refs() == len(expected)
    assert {coords: new.find(node, coords) for coords in expected} == expected
    assert list(refs(new.table(node)).items()) == list(expected.items())
    if stock is not None:
        row = stock.read(schema.MANIFEST, bytes(patched.payload))
        assert row["id"] == NEW_ID
        found = row["arrays"][0]["refs"]
        assert [
            tuple(int.from_bytes(axis, "little") for axis in ref["index"]) for ref in found
        ] == list(expected)
        assert [ref.get("chunk_id") for ref in found] == [ref.id for ref in expected.values()]
        assert [ref.get("location") for ref in found] == [ref.location for ref in expected.values()]
    return new


def some_ref(rng: random.Random, kinds: str) -> ChunkRef:
    offset, length = rng.choice([0, rng.randrange(2**64)]), rng.randrange(2**64)
    match rng.choice(kinds):
        case "n":
            return ChunkRef(ChunkKind.NATIVE, rng.randbytes(12), offset, length)
        case "i":
            raw = rng.randbytes(rng.randrange(9))
            return ChunkRef(ChunkKind.INLINE, length=len(raw), inline=raw)
        case _:
            check = rng.choice([(None, 0), (None, rng.randrange(2**32)), ("etag", 0)])
            place = "s3://bucket/" + "x" * rng.randrange(9)
            return ChunkRef(ChunkKind.VIRTUAL, None, offset, length, None, place, *check)


def some_table(rng: random.Random, rank: int, size: int, kinds: str, axis: int = 7) -> ChunkTable:
    def coords():
        return tuple(rng.choice([rng.randrange(axis), rng.randrange(2**32)]) for _ in range(rank))

    return ChunkTable.from_refs(rank, {coords(): some_ref(rng, kinds) for _ in range(size)})


def other_refs(rng: random.Random, table: ChunkTable, kinds: str) -> ChunkTable:
    """Other references at the same coordinates."""
    return ChunkTable.from_refs(
        table.rank, {coords: some_ref(rng, kinds) for coords in refs(table)}
    )


def manifest_of(table: ChunkTable, **how) -> Manifest:
    return decode(encode_manifest(ID, [(NODE, table)], **how))


def stock_dict(table: ChunkTable, rng: random.Random) -> dict:
    """The manifest for the stock builder; some references have defaults and `extra` written out."""
    rows = []
    for coords, ref in table.items():
        row = {"index": [axis.to_bytes(4, "little") for axis in coords]}
        if ref.kind == ChunkKind.INLINE:
            row |= {"inline": ref.inline}
        else:
            row |= {"length": ref.length, "offset": ref.offset}
        if ref.kind == ChunkKind.NATIVE:
            row |= {"chunk_id": ref.id}
        if ref.location is not None:
            row |= {"location": ref.location}
        if ref.etag is not None:
            row |= {"checksum_etag": ref.etag}
        if ref.last_modified:
            row |= {"checksum_last_modified": ref.last_modified}
        if rng.random() < 0.3:
            row |= {"extra": b"?"}
        rows.append(row)
    arrays = [{"node_id": NODE, "refs": rows}]
    return {"id": ID, "arrays": arrays} | rng.choice([{}, {"compression_algorithm": 0}])


cases = st.tuples(
    st.randoms(use_true_random=False),
    st.integers(1, 4),
    st.sampled_from(["n", "i", "v", "niv"]),
    st.sampled_from(["n", "i", "v", "niv"]),
)


@settings(max_examples=60 * EFFORT, deadline=None)
@given(case=cases, size=st.integers(0, 90), spec_version=st.sampled_from([1, 2]))
def test_same_as_overlay(stock, case, size, spec_version):
    rng, rank, kinds, new_kinds = case
    table = some_table(rng, rank, size, kinds)
    changed = some_table(rng, rank, len(table) // 16, new_kinds)
    checked(manifest_of(table, spec_version=spec_version), changed, stock)


@settings(max_examples=40 * EFFORT, deadline=None)
@given(case=cases, size=st.integers(32, 90))
def test_same_as_overlay_of_stock_files(stock, case, size):
    rng, rank, kinds, new_kinds = case
    table = some_table(rng, rank, size, kinds)
    changed = some_table(rng, rank, rng.randint(1, max(1, len(table) // 16)), new_kinds)
    manifest = Manifest(Buffer(stock.build(schema.MANIFEST, stock_dict(table, rng)), KEY))
    assert refs(manifest.table(NODE)) == refs(table)
    checked(manifest, changed, stock)


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
@pytest.mark.parametrize("kinds", ["n", "i", "v", "niv"])
def test_is_not_refused_without_reason(stock, rank, kinds):
    rng = random.Random(rank)
    table = some_table(rng, rank, 400, kinds, axis=9)
    changed = other_refs(rng, table.take(slice(0, None, 70)), kinds)
    inserted = some_table(rng, rank, 5, kinds)
    for manifest in (
        manifest_of(table),
        Manifest(Buffer(stock.build(schema.MANIFEST, stock_dict(table, rng)), KEY)),
    ):
        assert checked(manifest, changed, stock) is not None
        assert checked(manifest, inserted, stock) is not None
        assert checked(manifest, overlay(changed, inserted), stock) is not None


def test_ends(stock):
    table = some_table(random.Random(1), 1, 300, "n").take(slice(1, None))
    manifest = manifest_of(table.with_coords(np.arange(10, 10 + len(table))[:, None]))
    for coords in ([[0]], [[0], [1], [2]], [[2**32 - 1]], [[9], [10], [9 + len(table)], [10**6]]):
        changed = some_table(random.Random(2), 1, 99, "niv").take(slice(0, len(coords)))
        assert checked(manifest, changed.with_coords(coords), stock) is not None


def test_no_changes():
    table = some_table(random.Random(1), 2, 20, "niv")
    new = checked(manifest_of(table), ChunkTable.empty(2))
    assert refs(new.table(NODE)) == refs(table)
    empty = patch(manifest_of(ChunkTable.empty(2)), ChunkTable.empty(2))
    assert empty.num_refs == 0
    assert opened(empty).id == NEW_ID


def test_rank_0_is_one_reference_and_so_always_rebuilt():
    table = some_table(random.Random(1), 0, 1, "n")
    assert patch(manifest_of(table), table) is None
    assert checked(manifest_of(table), ChunkTable.empty(0)) is not None


def test_vtables_in_front_of_the_vector(stock):
    """As a front-to-back writer may place them: patching has to correct every reference."""
    table = some_table(random.Random(1), 2, 200, "n")
    data = bytearray(manifest_of(table)._buffer.data)
    [row] = Manifest(Buffer(bytes(data), KEY))._rows.values()
    arrays, _ = Buffer(bytes(data), KEY).root(schema.MANIFEST).tables("arrays")
    positions = arrays.tables("refs")[0].positions + 32
    first = int(positions[0]) - 32
    vtable = first - int.from_bytes(data[first : first + 4], "little", signed=True)
    size = int.from_bytes(data[vtable : vtable + 2], "little")
    assert size <= 32
    # 32 bytes for the vtable in front of everything; the root offset grows, nothing else crosses.
    root = int.from_bytes(data[:4], "little") + 32
    copy = bytes(data[vtable : vtable + size]).ljust(32, b"\0")
    data[8:8] = copy
    data[:4] = root.to_bytes(4, "little")
    for position in positions.tolist():
        data[position : position + 4] = (position - 8).to_bytes(4, "little")
    moved = Manifest(Buffer(bytes(data), KEY))
    assert refs(moved.table(NODE)) == refs(table)
    for seed in range(5):
        changed = some_table(random.Random(seed), 2, 9, "niv")
        assert checked(moved, changed, stock) is not None
    # A vtable inside the vector of references would be cut in two.
    position = int(positions[7])
    inside = row.start + 32 + 40
    data[position : position + 4] = (position - inside).to_bytes(4, "little")
    assert patch(Manifest(Buffer(bytes(data), KEY)), changed) is None


def golden_manifests():
    for path in GOLDEN:
        yield path.name, path.read_bytes()
    for archive in ARCHIVES:
        with zipfile.ZipFile(archive) as files:
            for name in files.namelist():
                if "manifests/" in name and not name.endswith("/"):
                    yield f"{archive.stem}:{name}", files.read(name)


def test_files_of_the_reference(stock, monkeypatch):
    """They are small, so the limits that only say when patching pays are lifted."""
    monkeypatch.setattr("icechunk.format.manifest_patch.MIN_REFS_PER_CHANGE", 0)
    monkeypatch.setattr("icechunk.format.manifest_patch.MAX_GROWTH", 1000)
    rng = random.Random(3)
    seen = refused = 0
    for name, data in golden_manifests():
        manifest = Manifest.decode(data, name)
        if len(manifest.node_ids) != 1 or not manifest.num_refs():
            continue
        [node] = manifest.node_ids
        table = manifest.table(node)
        changed = other_refs(rng, table.take(slice(0, None, 3)), "niv")
        if table.rank:
            changed = overlay(changed, some_table(rng, table.rank, 3, "niv"))
        seen += 1
        refused += checked(manifest, changed, stock, node) is None
    assert seen >= 5
    assert refused <= seen // 3, "only those with a location dictionary"


@pytest.mark.slow
@pytest.mark.parametrize("kinds", ["n", "i", "v", "niv"])
@pytest.mark.parametrize("inserting", [False, True])
def test_repeated_patches_are_bounded(stock, kinds, inserting):
    rng = random.Random(4)
    table = some_table(rng, 2, 320, kinds, axis=40)
    manifest = manifest_of(table)
    original = len(manifest._buffer.data)
    rebuilt = patched = 0
    for turn in range(50):
        changed = some_table(rng, 2, rng.randint(1, 12), kinds, axis=40)
        if not inserting:
            rows = sorted(rng.sample(range(len(table)), len(changed)))
            changed = other_refs(rng, table.take(rows), kinds)
        table = overlay(table, changed)
        new = checked(manifest, changed, None if turn % 8 else stock)
        if new is None:
            new = manifest_of(table)
            original = len(new._buffer.data)
            rebuilt += 1
        else:
            patched += 1
        assert len(new._buffer.data) <= MAX_GROWTH * original
        manifest = new
        assert refs(manifest.table(NODE)) == refs(table)
    assert rebuilt > 0
    assert patched > rebuilt


def test_endless_patching_is_refused():
    table = some_table(random.Random(5), 1, 200, "n")
    manifest = manifest_of(table)
    original = len(manifest._buffer.data)
    for _ in range(200):
        patched = patch(manifest, table.take([7]))
        if patched is None:
            break
        assert len(patched.payload) <= MAX_GROWTH * original
        manifest = opened(patched)
        # Changing nothing keeps the memory of earlier patches.
        manifest = opened(patch(manifest, ChunkTable.empty(1)))
    assert patched is None


def test_refusals(stock):
    rng = random.Random(6)
    table = some_table(rng, 2, 160, "n")
    one = some_table(rng, 2, 1, "n")
    manifest = manifest_of(table)
    assert patch(manifest, one) is not None
    assert patch(manifest, one, OTHER) is None
    assert patch(manifest, ChunkTable.deleted([[1, 2]])) is None
    assert patch(manifest, some_table(rng, 3, 1, "n")) is None
    assert patch(manifest, some_table(rng, 2, len(table) // 16 + 1, "n")) is None
    two = decode(encode_manifest(ID, [(NODE, table), (OTHER, table)]))
    assert patch(two, one) is None
    assert patch(decode(encode_manifest(ID, [])), one) is None
    row = stock_dict(table, rng)
    for more in ({"location_dictionary": b"x"}, {"extra": b"x"}):
        assert patch(Manifest(Buffer(stock.build(schema.MANIFEST, row | more), KEY)), one) is None
    row["arrays"][0]["extra"] = b"x"
    assert patch(Manifest(Buffer(stock.build(schema.MANIFEST, row), KEY)), one) is None
    del row["arrays"][0]["extra"]
    slots = stock.build(schema.MANIFEST, row, extra_slots=1)
    assert patch(Manifest(Buffer(slots, KEY)), one) is None, "unknown slots may be offsets"


def test_location_dictionaries_are_refused():
    places = RaggedBytes.from_list([b"s3://bucket/some/file-%03d.nc" % i for i in range(100)])
    table = ChunkTable.virtual(np.arange(100)[:, None], places, 0, 5)
    manifest = manifest_of(table, location_compression=LocationCompression(min_num_chunks=1))
    assert patch(manifest, table.take([5])) is None
    assert checked(manifest_of(table), table.take([5])) is not None


def test_repeated_references_are_not_patched(stock):
    """One of them would be replaced, and the others would go on saying what was there before."""
    rng = random.Random(8)
    table = ChunkTable.native(np.arange(100)[:, None], np.zeros((100, 12), np.uint8), 0, 5)
    row = stock_dict(table, rng)
    rows = row["arrays"][0]["refs"]
    row["arrays"][0]["refs"] = [*rows[:41], *rows[40:], rows[99]]
    manifest = Manifest(Buffer(stock.build(schema.MANIFEST, row), KEY))
    assert len(manifest.table(NODE)) == 100
    for repeated in (40, 99):
        assert patch(manifest, table.take([repeated])) is None
    for single in (39, 41, 98):
        assert refs(opened(patch(manifest, table.take([single]))).table(NODE)) == refs(table)


@pytest.mark.slow
@pytest.mark.parametrize("kinds", ["n", "niv"])
@pytest.mark.parametrize("writer", ["ours", "stock", "patched"])
def test_damage(stock, writer, kinds):
    rng = random.Random(7)
    table = some_table(rng, 2, 80, kinds)
    changed = some_table(rng, 2, 4, kinds)
    data = manifest_of(table)._buffer.data
    if writer == "stock":
        data = stock.build(schema.MANIFEST, stock_dict(table, rng))
    elif writer == "patched":
        data = bytes(patch(manifest_of(table), changed.take([0])).payload)
    survived = 0
    for turn in range(500):
        damaged = bytearray(data)
        limit = 500 if turn % 2 else len(data)  # offsets are mostly in front
        for _ in range(rng.choice([1, 1, 3])):
            damaged[rng.randrange(limit)] ^= 1 << rng.randrange(8)
        cut = len(data) if rng.random() < 0.9 else rng.randrange(len(data))
        try:
            manifest = Manifest(Buffer(bytes(damaged[:cut]), KEY))
            patched = patch(manifest, changed)
            if patched is None:
                continue
            new = opened(patched)
            before = manifest.table(NODE)
            after = new.table(NODE)
        except FormatError:
            continue
        survived += 1
        assert refs(after) == refs(overlay(before, changed))
    assert survived

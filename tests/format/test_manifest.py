"""Manifests: known files, every kind of reference, location dictionaries, damage."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
import zstandard
from effort import EFFORT
from hypothesis import given, settings
from hypothesis import strategies as st

from icechunk.chunks.kinds import ChunkKind, ChunkRef
from icechunk.chunks.ragged import RaggedBytes
from icechunk.chunks.table import ChunkTable
from icechunk.errors import FormatError
from icechunk.format import locations, schema
from icechunk.format.envelope import FileKind, unwrap, wrap
from icechunk.format.flatbuf import Children, Tables, encode
from icechunk.format.ids import decode_id, ids_of_column
from icechunk.format.locations import LocationCompression
from icechunk.format.manifest import Manifest, encode_manifest

GOLDEN = Path(__file__).parent.parent / "golden"
ID = bytes(range(12))
NODE, OTHER = b"node-one", b"node-two"

INLINE_FILE = bytes.fromhex(
    "494345f09fa78a4348554e4b69632d322e332e30202020202020202020202020"
    "2020202002020128b52ffd20a04d03006245121ea01b5a03ffebff5510b8b641"
    "b183e83b7283435694802bb61318f0dadf29dfa2770269adb539e200c303e3d0"
    "500a8cdb8b0edae7e802b1283297382c5445bd82a796f0269248e3290c004719"
    "b21403d014043b42ca4f83a52c00a95f8c1bcad89f2dc08018"
)
NATIVE_FILE = bytes.fromhex(
    "494345f09fa78a4348554e4b69632d322e332e30202020202020202020202020"
    "2020202002020128b52ffd20d07d040062c71923a06d33c372882903fdf16fb2"
    "7ef895187f7f1fa359cd63a818401814f5250040b9dc292dd5a5b2faae858590"
    "c1705d8d1302253a0c51e39371184edfaec572b5f76e752444a7e429408ecd5e"
    "05b101bf3c4a37191d361a13ea919a0d7c10bbcd5e12f914df020f002e2b380b"
    "b6228f19b0adbae3635f88d8ea82424dcf0c901325c1670c65ed526d898131"
)
FILES = [
    (
        INLINE_FILE,
        "CJ5P8EH9646ATECGBTFG",
        "7CG6XE2CM9C2E",
        {
            (0,): ChunkRef(ChunkKind.INLINE, length=8, inline=bytes.fromhex("0000000001000000")),
            (1,): ChunkRef(ChunkKind.INLINE, length=8, inline=bytes.fromhex("0200000003000000")),
        },
    ),
    (
        NATIVE_FILE,
        "YNHF9VN8NCFXRY90FN80",
        "CMCVKTNK87MJ0",
        {
            (0, 0): ChunkRef(ChunkKind.NATIVE, decode_id("02GA25WA9W267ZW4KKV0", 12), 0, 1200),
            (1, 0): ChunkRef(ChunkKind.NATIVE, decode_id("Y0DP18DVB7B55CT2QZ9G", 12), 0, 1200),
        },
    ),
]


def decode(data: bytes) -> Manifest:
    return Manifest.decode(data, "manifests/X")


def refs_of(manifest: Manifest, node: bytes) -> dict:
    """All references, looked up both ways."""
    table = manifest.table(node)
    refs = dict(table.items())
    fresh = Manifest(manifest._buffer)
    assert {coords: fresh.find(node, coords) for coords in refs} == refs
    return refs


@pytest.mark.parametrize(("data", "id", "node", "refs"), FILES, ids=["inline", "native"])
def test_known_files(data, id, node, refs):
    manifest = decode(data)
    node = decode_id(node, 8)
    assert manifest.id == decode_id(id, 12)
    assert manifest.node_ids == (node,)
    assert manifest.num_refs() == manifest.num_refs(node) == 2
    assert refs_of(manifest, node) == refs
    again = decode(encode_manifest(manifest.id, [(node, manifest.table(node))]))
    assert refs_of(again, node) == refs
    assert again.id == manifest.id


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*/manifests/*")), ids=lambda path: path.name)
def test_golden_files(path):
    manifest = Manifest.decode(path.read_bytes(), f"manifests/{path.name}")
    assert manifest.id == decode_id(path.name, 12)
    for node in manifest.node_ids:
        refs = refs_of(manifest, node)
        assert len(refs) == manifest.num_refs(node) == 2
        version = unwrap(path.read_bytes(), FileKind.MANIFEST, "x").spec_version
        data = encode_manifest(manifest.id, [(node, manifest.table(node))], spec_version=version)
        assert refs_of(decode(data), node) == refs


def test_unknown_arrays_and_coordinates():
    manifest = decode(INLINE_FILE)
    node = manifest.node_ids[0]
    assert manifest.find(OTHER, (0,)) is None
    assert manifest.find(node, (2,)) is None
    assert manifest.find(node, (2**32 - 1,)) is None
    assert manifest.num_refs(OTHER) == 0
    assert len(manifest.table(OTHER, rank=3)) == 0
    assert manifest.table(OTHER, rank=3).rank == 3


kinds_of_ref = st.one_of(
    st.builds(
        lambda id, offset, length: ChunkRef(ChunkKind.NATIVE, id, offset, length),
        st.binary(min_size=12, max_size=12),
        st.integers(0, 2**64 - 1),
        st.integers(0, 2**64 - 1),
    ),
    st.builds(
        lambda raw: ChunkRef(ChunkKind.INLINE, length=len(raw), inline=raw), st.binary(max_size=20)
    ),
    st.builds(
        lambda place, offset, length, check: ChunkRef(
            ChunkKind.VIRTUAL, None, offset, length, None, place, *check
        ),
        st.text(min_size=1, max_size=30),
        st.integers(0, 2**64 - 1),
        st.integers(0, 2**64 - 1),
        st.one_of(
            st.tuples(st.text(min_size=1, max_size=5), st.just(0)),
            st.tuples(st.none(), st.integers(0, 2**32 - 1)),
        ),
    ),
)


def some_refs(rank: int):
    coords = st.tuples(*[st.integers(0, 3) | st.integers(0, 2**32 - 1)] * rank)
    return st.dictionaries(coords, kinds_of_ref, max_size=12)


@settings(max_examples=80 * EFFORT, deadline=None)
@given(
    refs=st.integers(0, 4).flatmap(lambda rank: st.tuples(st.just(rank), some_refs(rank))),
    others=some_refs(1),
    spec_version=st.sampled_from([1, 2]),
    compressed=st.booleans(),
)
def test_round_trip(refs, others, spec_version, compressed):
    rank, refs = refs
    data = encode_manifest(
        ID,
        [(OTHER, ChunkTable.from_refs(1, others)), (NODE, ChunkTable.from_refs(rank, refs))],
        spec_version=spec_version,
        location_compression=LocationCompression(min_num_chunks=1) if compressed else None,
    )
    manifest = decode(data)
    assert manifest.node_ids == (NODE, OTHER)
    assert manifest.num_refs() == len(refs) + len(others)
    assert refs_of(manifest, NODE) == refs
    assert refs_of(manifest, OTHER) == others
    native = [ref.id for ref in (*refs.values(), *others.values()) if ref.id is not None]
    assert sorted(ids_of_column(decode(data).native_ids())) == sorted(native)


def test_spec_version_1_has_no_later_fields(stock):
    table = ChunkTable.virtual(
        [[i] for i in range(20)],
        RaggedBytes.from_list([b"s3://bucket/some/file-%02d.nc" % i for i in range(20)]),
        0,
        5,
    )
    how = LocationCompression(min_num_chunks=1)
    rows = []
    for version in (1, 2):
        data = encode_manifest(ID, [(NODE, table)], spec_version=version, location_compression=how)
        payload = unwrap(data, FileKind.MANIFEST, "x").payload
        rows.append(stock.read(schema.MANIFEST, payload))
    old, new = rows
    assert set(old) == {"id", "arrays"}
    assert old["arrays"][0]["refs"][3]["location"] == "s3://bucket/some/file-03.nc"
    assert set(new) == {"id", "arrays", "location_dictionary"}
    assert new["location_dictionary"][:4] == bytes.fromhex("37a430ec")
    assert set(new["arrays"][0]["refs"][3]) == {"index", "length", "compressed_location"}


def test_plain_manifests_say_so(stock):
    data = encode_manifest(ID, [(NODE, ChunkTable.empty(1))])
    row = stock.read(schema.MANIFEST, unwrap(data, FileKind.MANIFEST, "x").payload)
    assert row["compression_algorithm"] == 0


def test_deleted_rows_are_refused():
    table = ChunkTable.deleted([[0]])
    with pytest.raises(FormatError, match="deleted"):
        encode_manifest(ID, [(NODE, table)])


def virtual(places: list[bytes]) -> ChunkTable:
    return ChunkTable.virtual(np.arange(len(places))[:, None], RaggedBytes.from_list(places), 0, 10)


@pytest.mark.parametrize("bulk", [True, False], ids=["bulk", "one by one"])
def test_location_dictionary(monkeypatch, bulk):
    monkeypatch.setattr(locations, "_HAS_BULK", bulk)
    places = [b"s3://my-bucket/a/rather/long/path/file-%06d.nc" % i for i in range(1500)]
    places[7] = b"s3://" + b"long" * 300
    places[8] = b"x"
    table = virtual(places)
    data = encode_manifest(ID, [(NODE, table)], location_compression=LocationCompression())
    assert len(data) < len(encode_manifest(ID, [(NODE, table)]))
    manifest = decode(data)
    decoded = manifest.table(NODE)
    assert decoded.locations.to_list() == places
    fresh = decode(data)
    for row in (0, 7, 8, 1499):
        assert fresh.find(NODE, (row,)) == table.ref(row)


@pytest.mark.parametrize(
    ("places", "count"),
    [
        ([b"s3://bucket/file-%05d" % i for i in range(999)], 999),
        ([b"a:/%04d" % i for i in range(2000)], 2000),
        ([b"same"] * 2000, 2000),
    ],
    ids=["few", "short", "tiny"],
)
def test_no_dictionary_where_it_does_not_pay(stock, places, count):
    data = encode_manifest(
        ID, [(NODE, virtual(places))], location_compression=LocationCompression()
    )
    row = stock.read(schema.MANIFEST, unwrap(data, FileKind.MANIFEST, "x").payload)
    assert "location_dictionary" not in row
    assert len(row["arrays"][0]["refs"]) == count


def test_equal_tables_make_equal_files():
    table = virtual([b"s3://bucket/path/file-%05d" % i for i in range(1200)])
    make = [
        encode_manifest(ID, [(NODE, table)], location_compression=LocationCompression())
        for _ in range(2)
    ]
    assert make[0] == make[1]


def one_ref(stock, **fields) -> Manifest:
    """A file with references that a writer should not have made."""
    refs = [
        {"index": [(i).to_bytes(4, "little")], "inline": b"", **row}
        for i, row in enumerate(fields.pop("refs"))
    ]
    row = {"id": ID, "arrays": [{"node_id": NODE, "refs": refs}], **fields}
    return decode(wrap(FileKind.MANIFEST, stock.build(schema.MANIFEST, row)))


def test_first_payload_wins(stock):
    manifest = one_ref(
        stock,
        refs=[
            {"chunk_id": ID, "location": "s3://b/k", "length": 3},
            {"location": "s3://b/k", "checksum_etag": "e", "checksum_last_modified": 7},
        ],
    )
    assert refs_of(manifest, NODE) == {
        (0,): ChunkRef(ChunkKind.NATIVE, ID, 0, 3),
        (1,): ChunkRef(ChunkKind.VIRTUAL, location="s3://b/k", etag="e"),
    }
    assert ids_of_column(manifest.native_ids()) == [ID]


def test_frames_of_any_sort(stock):
    """With and without dictionary id and content size, mixed with plain locations."""
    text = b"s3://bucket/some/path/file.nc"
    words = zstandard.ZstdCompressionDict(text, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    frames = [
        zstandard.ZstdCompressor(
            dict_data=words, write_content_size=size, write_dict_id=size
        ).compress(text)
        for size in (True, False)
    ]
    manifest = one_ref(
        stock,
        refs=[
            {"compressed_location": frames[0]},
            {"location": "s3://plain"},
            {"compressed_location": frames[1]},
        ],
        location_dictionary=text,
    )
    found = [ref.location for ref in refs_of(manifest, NODE).values()]
    assert found == [text.decode(), "s3://plain", text.decode()]


BAD_FRAMES = {
    "long": zstandard.ZstdCompressor().compress(b"x" * 1025),
    "long and unstated": zstandard.ZstdCompressor(write_content_size=False).compress(b"x" * 1025),
    "enormous": bytes.fromhex("28b52ffde0ffffffffffffff7f") + bytes(8),
    "empty": b"",
    "garbage": b"garbage",
    "cut": zstandard.ZstdCompressor().compress(b"some text" * 9)[:-3],
    "lying": bytes.fromhex("28b52ffd20ff") + zstandard.ZstdCompressor().compress(b"a")[6:],
}


@pytest.mark.parametrize("frame", BAD_FRAMES.values(), ids=BAD_FRAMES)
def test_bad_frames(stock, frame):
    manifest = one_ref(
        stock, refs=[{"compressed_location": frame}], location_dictionary=b"dictionary"
    )
    with pytest.raises(FormatError, match="manifests/X is corrupt"):
        manifest.find(NODE, (0,))
    with pytest.raises(FormatError, match="manifests/X is corrupt"):
        manifest.table(NODE)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"refs": [{"compressed_location": b"abc"}]}, "dictionary"),
        (
            {
                "refs": [{"compressed_location": b"abc"}],
                "location_dictionary": b"words",
                "compression_algorithm": 0,
            },
            "dictionary",
        ),
        ({"refs": [{"index": [bytes(4), bytes(4)]}]}, "rank|no such"),
    ],
)
def test_contradictions(stock, fields, message):
    manifest = one_ref(stock, **fields)
    with pytest.raises(FormatError, match=message):
        manifest.find(NODE, (0,))


def test_disorder_and_emptiness(stock):
    one, zero = (1).to_bytes(4, "little"), bytes(4)
    manifest = one_ref(stock, refs=[{"index": [one]}, {"index": [zero]}])
    with pytest.raises(FormatError, match="ascending"):
        manifest.table(NODE)
    manifest = one_ref(stock, refs=[{}, {"index": [one, one]}])
    with pytest.raises(FormatError, match="rank"):
        manifest.table(NODE)
    row = {"id": ID, "arrays": [{"node_id": NODE, "refs": [{"index": [one]}]}]}
    manifest = decode(wrap(FileKind.MANIFEST, stock.build(schema.MANIFEST, row)))
    for look in (manifest.table, lambda node: manifest.find(node, (1,))):
        with pytest.raises(FormatError, match="refers to nothing"):
            look(NODE)
    row["arrays"] *= 2
    with pytest.raises(FormatError, match="twice"):
        decode(wrap(FileKind.MANIFEST, stock.build(schema.MANIFEST, row)))


def counted(*numbers: int, inline: bytes = b"x") -> list[dict]:
    return [{"index": [n.to_bytes(4, "little")], "inline": inline} for n in numbers]


def test_repeated_references_count_once(stock):
    """Icechunk 1.1 writes them where manifests were split in another way before."""
    manifest = one_ref(stock, refs=counted(0, 0, 2, 5, 5, 5))
    expected = {(n,): ChunkRef(ChunkKind.INLINE, None, 0, 1, b"x") for n in (0, 2, 5)}
    assert dict(manifest.table(NODE).items()) == expected
    assert manifest.num_refs() == 6
    searched = one_ref(stock, refs=counted(0, 0, 2, 5, 5, 5))
    assert {(n,): searched.find(NODE, (n,)) for n in (0, 2, 5)} == expected
    assert searched.find(NODE, (1,)) is None


@pytest.mark.parametrize(
    "refs", [counted(0, 3) + counted(3, inline=b"y"), counted(0, 0, 2, 1), counted(1, 0, 0)]
)
def test_repeated_references_that_differ_or_are_in_disorder(stock, refs):
    with pytest.raises(FormatError, match="ascending"):
        one_ref(stock, refs=refs).table(NODE)


def test_damage_raises_format_errors_only():
    table = ChunkTable.from_refs(
        2,
        {
            (0, 1): ChunkRef(ChunkKind.NATIVE, ID, 1, 2),
            (0, 2): ChunkRef(ChunkKind.INLINE, length=3, inline=b"abc"),
            (3, 0): ChunkRef(ChunkKind.VIRTUAL, None, 1, 2, None, "s3://b/é", "tag"),
            (3, 1): ChunkRef(ChunkKind.VIRTUAL, None, 1, 2, None, "s3://b/k", None, 9),
        },
    )
    payload = bytes(unwrap(encode_manifest(ID, [(NODE, table)]), FileKind.MANIFEST, "x").payload)
    random = np.random.default_rng(7)
    damaged = [payload[:size] for size in range(0, len(payload), 3)]
    for at in range(len(payload)):
        values = (0, 255, int(random.integers(256)))
        damaged += [payload[:at] + bytes([value]) + payload[at + 1 :] for value in values]
    for candidate in damaged:
        try:
            manifest = decode(wrap(FileKind.MANIFEST, candidate, level=1))
        except FormatError:
            continue
        for coords in table.coords.tolist():
            with contextlib.suppress(FormatError):
                manifest.find(NODE, tuple(coords))
        try:
            for row in range(len(decoded := manifest.table(NODE))):
                decoded.ref(row)
        except FormatError:
            pass


def test_a_damaged_dictionary_is_a_format_error():
    urls = [f"s3://bucket/some/prefix/{i}.nc".encode() for i in range(50)]
    packed = locations.compress(RaggedBytes.from_list(urls), LocationCompression(min_num_chunks=1))
    for at in range(9, 100, 10):
        damaged = bytearray(packed.dictionary)
        damaged[at] ^= 0xFF
        with contextlib.suppress(FormatError):
            locations.decompress(packed.frames, bytes(damaged), "x")
    with pytest.raises(FormatError, match="damaged"):
        locations.decompress(packed.frames, packed.dictionary[:20], "x")


def test_references_of_absurd_rank_are_refused():
    coords = np.zeros((2, 300), np.uint32)
    coords[1, -1] = 1
    refs = Tables(2, {"index": coords, "inline": [b"a", b"b"]})
    array = Tables(1, {"node_id": [list(NODE)], "refs": Children([2], refs)})
    payload = encode(schema.MANIFEST, Tables(1, {"id": [list(ID)], "arrays": Children([1], array)}))
    manifest = decode(wrap(FileKind.MANIFEST, payload))
    with pytest.raises(FormatError, match="300 axes"):
        manifest.table(NODE)

import struct
from dataclasses import replace
from itertools import pairwise
from typing import Any, cast

import numpy as np
import pytest
from effort import EFFORT
from flatbuffers.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st

from icechunk.chunks.ragged import RaggedBytes
from icechunk.errors import FormatError
from icechunk.format import rows, schema
from icechunk.format.envelope import FileKind, unwrap, wrap
from icechunk.format.flatbuf import Children, Ragged, Tables, Union, encode
from icechunk.format.ids import id_column
from icechunk.format.manifest_files import ManifestFile, ManifestFiles
from icechunk.format.nodes import ArrayData, ManifestRef, Node, NodeTable
from icechunk.format.rows import is_strictly_increasing
from icechunk.format.snapshot import Snapshot, decode_snapshot, encode_snapshot

KEY = "snapshots/X"

id12 = st.binary(min_size=12, max_size=12)
id8 = st.binary(min_size=8, max_size=8)
segment = st.text("ab-0é", min_size=1, max_size=2)
path = st.lists(segment, max_size=3).map(lambda parts: "/" + "/".join(parts))
u32 = st.integers(0, 2**32 - 1)


@st.composite
def arrays(draw: st.DrawFn) -> ArrayData:
    rank = draw(st.integers(0, 3))
    shape = tuple(draw(st.integers(1, 2**64 - 1)) for _ in range(rank))
    # As a regular grid would have it, so that both forms of shape can express it.
    chunks = [draw(st.integers(-(-length // (2**32 - 1)), length)) for length in shape]
    named = st.tuples(*[st.none() | segment] * rank)
    boxes = st.just(()) | st.tuples(*[st.tuples(u32, u32)] * rank)
    refs = st.lists(st.builds(ManifestRef, id12, boxes), max_size=3).map(tuple)
    return ArrayData(
        shape=shape,
        num_chunks=tuple(-(-n // c) for n, c in zip(shape, chunks, strict=True)),
        dimension_names=draw(st.none() | named),
        manifests=draw(refs),
    )


nodes = st.builds(Node, id8, path, st.binary(max_size=20), st.none() | arrays())
node_lists = st.lists(nodes, max_size=8, unique_by=lambda node: node.path)
metadata = st.dictionaries(segment, st.integers() | segment | st.none(), max_size=3).filter(
    lambda items: all(abs(v) < 2**63 for v in items.values() if isinstance(v, int))
)


def snapshot_of(found: list[Node], spec_version: int = 2, **fields: Any) -> Snapshot:
    ids = {ref.id for node in found if node.array for ref in node.array.manifests}
    files = [ManifestFile(id_, 40 + i, i) for i, id_ in enumerate(sorted(ids))]
    defaults = {"id": bytes(12), "parent_id": None, "flushed_at": 5, "message": "m"}
    return Snapshot(
        nodes=NodeTable.from_nodes(found),
        manifest_files=files,  # type: ignore[arg-type]
        spec_version=spec_version,
        **{**defaults, **fields},
    )


@settings(deadline=None, max_examples=60 * EFFORT)
@given(node_lists, st.sampled_from([1, 2]), id12, st.none() | id12, metadata, segment)
def test_round_trip(
    found: list[Node],
    spec_version: int,
    own_id: bytes,
    parent_id: bytes | None,
    items: dict[str, Any],
    message: str,
) -> None:
    snapshot = snapshot_of(
        found,
        spec_version,
        id=own_id,
        parent_id=parent_id if spec_version == 1 else None,
        metadata=items,
        message=message,
        flushed_at=2**63 + 1,
    )
    again = decode_snapshot(encode_snapshot(snapshot), KEY)
    assert again == snapshot
    assert list(again.nodes) == sorted(found, key=lambda node: node.path.encode())
    assert encode_snapshot(again) == encode_snapshot(snapshot)


def slow_nodes(payload: bytes) -> list[Any]:
    """Read the nodes of a spec 2 snapshot one by one, with the flatbuffers package."""
    root = Table(bytearray(payload), struct.unpack_from("<I", payload)[0])

    def children(table: Table, slot: int) -> list[Table] | None:
        offset = table.Offset(4 + 2 * slot)
        if not offset:
            return None
        start = table.Vector(offset)
        return [
            Table(table.Bytes, table.Indirect(start + 4 * i))
            for i in range(table.VectorLen(offset))
        ]

    def raw(table: Table, slot: int, size: int) -> bytes:
        start = table.Offset(4 + 2 * slot) + table.Pos
        return bytes(table.Bytes[start : start + size])

    def vector(table: Table, slot: int, size: int) -> bytes:
        offset = table.Offset(4 + 2 * slot)
        start = table.Vector(offset)
        return bytes(table.Bytes[start : start + size * table.VectorLen(offset)])

    def number(table: Table, slot: int, code: str) -> int:
        offset = table.Offset(4 + 2 * slot)
        return struct.unpack_from(code, table.Bytes, table.Pos + offset)[0] if offset else 0

    def text(table: Table, slot: int) -> str | None:
        offset = table.Offset(4 + 2 * slot)
        return table.String(table.Pos + offset).decode() if offset else None

    def array(table: Table) -> ArrayData:
        names = children(table, 1)
        refs = [
            ManifestRef(raw(ref, 0, 12), tuple(struct.iter_unpack("<II", vector(ref, 1, 8))))
            for ref in children(table, 2) or []
        ]
        assert vector(table, 0, 16) == b""
        dims = children(table, 3)
        assert dims is not None
        return ArrayData(
            tuple(number(dim, 0, "<Q") for dim in dims),
            tuple(number(dim, 1, "<I") for dim in dims),
            None if names is None else tuple(text(name, 0) for name in names),
            tuple(refs),
        )

    found = []
    for node in children(root, 2) or []:
        data = Table(node.Bytes, 0)
        node.Union(data, node.Offset(4 + 2 * 4))
        kind = number(node, 3, "<B")
        assert kind in (1, 2)
        found.append(
            Node(
                raw(node, 0, 8),
                str(text(node, 1)),
                vector(node, 2, 1),
                array(data) if kind == 1 else None,
            )
        )
    return found


@settings(deadline=None, max_examples=60 * EFFORT)
@given(node_lists)
def test_the_flatbuffers_package_reads_the_same_nodes(found: list[Node]) -> None:
    snapshot = snapshot_of(found)
    payload = unwrap(encode_snapshot(snapshot), FileKind.SNAPSHOT, KEY).payload
    assert slow_nodes(payload) == list(snapshot.nodes)


@settings(deadline=None, max_examples=60 * EFFORT)
@given(node_lists, st.lists(nodes, max_size=4), st.lists(path, max_size=4))
def test_replace_is_a_dict_update(
    base: list[Node], upserts: list[Node], removed: list[str]
) -> None:
    table = NodeTable.from_nodes(base)
    expected = {node.path: node for node in base}
    for gone in removed:
        expected.pop(gone, None)
    expected.update({node.path: node for node in upserts})
    result = table.replace(removed, upserts)
    assert list(result) == sorted(expected.values(), key=lambda node: node.path.encode())
    assert list(table) == sorted(base, key=lambda node: node.path.encode())
    assert result == NodeTable.from_nodes(expected.values())


@settings(deadline=None, max_examples=60 * EFFORT)
@given(node_lists, path)
def test_lookups(found: list[Node], wanted: str) -> None:
    table = NodeTable.from_nodes(found)
    by_path = {node.path: node for node in found}
    assert table.find(wanted) == by_path.get(wanted)
    assert table.find(wanted) is table.find(wanted)
    assert (wanted in table) == (wanted in by_path)
    prefix = wanted.rstrip("/") + "/"
    below = [node for node in table if node.path.startswith(prefix) and node.path != wanted]
    assert [table[row] for row in table.subtree(wanted)] == below
    direct = [node for node in below if "/" not in node.path[len(prefix) :]]
    assert table.children(wanted) == {node.path[len(prefix) :]: node.id for node in direct}


@settings(deadline=None, max_examples=60 * EFFORT)
@given(st.lists(nodes, max_size=8, unique_by=(lambda n: n.path, lambda n: n.id)), id8)
def test_lookups_by_id(found: list[Node], unknown: bytes) -> None:
    table = NodeTable.from_nodes(found)
    by_id = {node.id: node for node in found}
    wanted = [*by_id, unknown]
    assert [table.find_id(node_id) for node_id in wanted] == [by_id.get(i) for i in wanted]
    rows = table.locate_ids(id_column(wanted, 8))
    assert [table[row] if row >= 0 else None for row in rows.tolist()] == [
        by_id.get(node_id) for node_id in wanted
    ]


def test_rows_are_made_when_asked_for() -> None:
    found = [Node(i.to_bytes(8, "big"), f"/group/array{i:05d}", b"{}") for i in range(2000)]
    table = decode_snapshot(encode_snapshot(snapshot_of(found)), KEY).nodes
    changed = table.replace(["/group/array00007"], [Node(bytes(8), "/group/new", b"{}")])
    assert len(changed) == 2000
    assert changed.find("/group/new") is not None
    assert len(table._made) == 0
    assert len(changed._made) == 1
    assert table[-1].path == "/group/array01999"
    with pytest.raises(IndexError):
        table[2000]


def test_nothing_replaced_is_the_same_table() -> None:
    table = NodeTable.from_nodes([Node(bytes(8), "/", b"{}")])
    assert table.replace(["/absent"], []) is table
    assert len(NodeTable.empty()) == 0
    assert NodeTable.empty().find("/") is None
    assert NodeTable.empty().find_id(bytes(8)) is None


@settings(deadline=None, max_examples=60 * EFFORT)
@given(st.lists(st.binary(max_size=20), max_size=60), st.booleans())
def test_order_check(texts: list[bytes], is_sorted: bool) -> None:
    if is_sorted:
        texts = sorted(texts)
    expected = all(a < b for a, b in pairwise(texts))
    assert is_strictly_increasing(RaggedBytes.from_list(texts)) == expected


def test_rows_that_differ_late_take_no_step_for_every_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []

    def counted(*args: Any) -> Any:
        steps.append(1)
        return words(*args)

    words = rows._words
    monkeypatch.setattr(rows, "_words", counted)
    texts = [b"a" * 100_000 + bytes([65 + i]) for i in range(20)]
    assert is_strictly_increasing(RaggedBytes.from_list(texts))
    assert not is_strictly_increasing(RaggedBytes.from_list(texts[::-1]))
    assert len(steps) < 5000


def test_rows_are_compared_across_the_borders_of_blocks() -> None:
    texts = [b"%09d" % i for i in range((1 << 16) + 5)]
    assert is_strictly_increasing(RaggedBytes.from_list(texts))
    for i in (1 << 16) + np.arange(-2, 3):
        swapped = [*texts[:i], texts[i + 1], texts[i], *texts[i + 2 :]]
        assert not is_strictly_increasing(RaggedBytes.from_list(swapped))


@pytest.mark.parametrize("tail", [b"", b"\0", b"aaaaaaaa", b"aaaaaaaaaaaab"])
def test_order_check_of_long_common_prefixes(tail: bytes) -> None:
    base = [b"prefix/" * 5 + b"%05d" % i for i in range(100)]
    for i in (0, 50, 99):
        texts = sorted({*base, base[i] + tail})
        assert is_strictly_increasing(RaggedBytes.from_list(texts))
        texts.insert(i, texts[i])
        assert not is_strictly_increasing(RaggedBytes.from_list(texts))
        texts[i], texts[i + 1] = base[i] + tail + b"x", base[i] + tail
        assert not is_strictly_increasing(RaggedBytes.from_list(texts))


def test_manifest_files() -> None:
    first, second, third = (ManifestFile(bytes([i]) * 12, i, i) for i in (1, 2, 3))
    files = ManifestFiles.from_files([second, first])
    assert list(files) == [first, second]
    assert files.find(first.id) == first
    assert files.find(third.id) is None
    assert files.is_exactly(id_column([second.id, first.id, second.id], 12))
    assert not files.is_exactly(id_column([second.id], 12))
    grown = replace(second, size_bytes=99)
    assert list(files.replace([second.id, second.id, third.id], [third, grown])) == [grown, third]
    assert list(files.replace(id_column([first.id], 12), [third])) == [first]
    assert list(files.replace([], [])) == []


def test_manifest_files_must_be_those_of_the_arrays() -> None:
    array = ArrayData((4,), (2,), None, (ManifestRef(b"m" * 12, ((0, 2),)),))
    snapshot = snapshot_of([Node(bytes(8), "/a", b"{}", array)])
    assert snapshot.nodes.manifest_ids() == [b"m" * 12]
    for files in ((), (ManifestFile(b"m" * 12, 1, 1), ManifestFile(b"n" * 12, 1, 1))):
        with pytest.raises(FormatError) as caught:
            encode_snapshot(replace(snapshot, manifest_files=files))
        assert caught.value.kind == "manifest-info-not-found"


def test_text_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(FormatError, match="Unicode"):
        encode_snapshot(snapshot_of([], message="\ud800"))


def file_of(columns: dict[str, Any], spec_version: int = 2) -> bytes:
    empty_files = Ragged(np.array([0, 0]), np.zeros(0, schema.MANIFEST_FILE_INFO.dtype))
    root = {
        "id": [[0] * 12],
        "message": ["m"],
        "metadata": Children([0], Tables(0, {})),
        "manifest_files": empty_files,
        **columns,
    }
    payload = encode(schema.SNAPSHOT, Tables(1, root))
    return wrap(FileKind.SNAPSHOT, payload, spec_version=spec_version)


def nodes_file(paths: list[Any], types: list[int] | None = None, **array: Any) -> bytes:
    count = len(paths)
    types = types or [2] * count
    arrays = sum(kind == 1 for kind in types)
    columns = {
        "id": np.zeros((count, 8), np.uint8),
        "path": paths,
        "user_data": [b"{}"] * count,
        "node_data": Union(
            types, {1: Tables(arrays, array), 2: Tables(sum(kind == 2 for kind in types), {})}
        ),
    }
    return file_of({"nodes": Children([count], Tables(count, columns))})


def shape_structs(*dims: tuple[int, int]) -> Ragged:
    return Ragged(np.array([0, len(dims)]), np.array(list(dims), schema.DIMENSION_SHAPE.dtype))


def refs(*boxes: list[tuple[int, int]]) -> Children:
    extents = Ragged(
        np.cumsum([0, *map(len, boxes)]),
        np.array([pair for box in boxes for pair in box], schema.CHUNK_INDEX_RANGE.dtype),
    )
    ids = np.zeros((len(boxes), 12), np.uint8)
    return Children([len(boxes)], Tables(len(boxes), {"object_id": ids, "extents": extents}))


def test_old_shapes_in_new_files() -> None:
    data = nodes_file(
        ["/a"], [1], shape=shape_structs((5, 4), (0, 0), (2**64 - 1, 1)), manifests=refs([])
    )
    node = decode_snapshot(data, KEY).nodes[0]
    assert node.array == ArrayData(
        (5, 0, 2**64 - 1), (2, 0, 2**32 - 1), None, (ManifestRef(bytes(12), ()),)
    )


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (nodes_file(["/b", "/a"]), "not sorted"),
        (nodes_file(["/a", "/a"]), "not sorted"),
        (nodes_file([b"/\xff"]), "UTF-8"),
        (nodes_file([b"/a\xc3", b"\xa9/b"]), "UTF-8"),
        (
            nodes_file(["/a"], [1], shape=shape_structs((5, 0)), manifests=refs()),
            "chunks of length 0",
        ),
        (
            nodes_file(["/a"], [1], shape=shape_structs((5, 5)), manifests=refs([(0, 1)] * 2)),
            "another rank",
        ),
        (nodes_file(["/a"], [1], shape=shape_structs((5, 5))), "manifests: required"),
        (file_of({}), "nodes: required"),
        (nodes_file(["/a"], [0]), "NodeSnapshot"),
    ],
)
def test_corrupt_files(data: bytes, match: str) -> None:
    with pytest.raises(FormatError, match=match) as caught:
        decode_snapshot(data, KEY)
    assert KEY in str(caught.value)


def test_nodes_of_unknown_type() -> None:
    payload = bytearray(unwrap(nodes_file(["/a"]), FileKind.SNAPSHOT, KEY).payload)
    root = Table(payload, struct.unpack_from("<I", payload)[0])
    node_at = root.Indirect(root.Vector(root.Offset(8)))
    node = Table(payload, node_at)
    payload[node_at + node.Offset(10)] = 3
    with pytest.raises(FormatError, match="neither an array nor a group"):
        decode_snapshot(wrap(FileKind.SNAPSHOT, payload), KEY)


def test_parent_in_a_new_file_is_ignored() -> None:
    columns = {"nodes": Children([0], Tables(0, {})), "parent_id": [[1] * 12]}
    assert decode_snapshot(file_of(columns), KEY).parent_id is None
    old = replace(decode_snapshot(file_of(columns), KEY), spec_version=1, parent_id=b"p" * 12)
    assert decode_snapshot(encode_snapshot(old), KEY).parent_id == b"p" * 12


def test_a_second_thread_finds_manifest_files_while_the_first_makes_the_index() -> None:
    class Slow(bytes):
        """Lets the other thread look in between."""

        def __getitem__(self, item: Any) -> Any:
            if item.start == 12 and not looked:
                looked.append(True)
                found.append(files.find(ids[-1]))
            return super().__getitem__(item)

    class SlowIds:
        def tobytes(self) -> bytes:
            return Slow(b"".join(ids))

        def __getitem__(self, row: int) -> Any:
            return np.frombuffer(ids[row], np.uint8)

    ids = [bytes([i]) * 12 for i in range(3)]
    looked: list[bool] = []
    found: list[ManifestFile | None] = []
    one = np.ones(3, np.uint64)
    files = ManifestFiles(cast("Any", SlowIds()), one, one.astype(np.uint32))
    assert files.find(ids[0]) == ManifestFile(ids[0], 1, 1)
    assert found == [ManifestFile(ids[-1], 1, 1)]

"""Transaction logs: known files, round trips, order on disk, damage."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
from effort import EFFORT
from hypothesis import given, settings
from hypothesis import strategies as st

from icechunk.errors import FormatError
from icechunk.format import flatbuf, schema
from icechunk.format.envelope import FileKind, unwrap, wrap
from icechunk.format.flatbuf_single import Single, equal_vectors
from icechunk.format.ids import decode_id
from icechunk.format.transaction_log import (
    ID_LISTS,
    Move,
    TransactionLog,
    decode_transaction_log,
    encode_transaction_log,
    node_ids,
)

GOLDEN = Path(__file__).parent.parent / "golden"

FIRST_COMMIT = bytes.fromhex(
    "494345f09fa78a4348554e4b69632d322e332e30202020202020202020202020"
    "2020202002040128b52ffd602800cd050022c9202c80655a03602eb5a3dfe49d"
    "f5e663ba18701719c1282af6f0069043c16429de999d08b61d6fed0fb9cbb177"
    "0a21a812d41466d3998b80c464e9b0ecb83cbb002822f23d4419caf8e5daf16d"
    "79e8bf76f79b94d500b546056f772be4c78ebff6f9eb5ffa517fa8090057f544"
    "a2780e1ee7e7ee4e6c983e273c783bae98fb4b65e2f86915003701564fe00ac6"
    "e528c640c0d06c4f28b735b33564612bc220df9b465cc5dd8c70552090f7d302"
    "b06966d6b851c1993303"
)
EMPTY = bytes.fromhex(
    "494345f09fa78a4348554e4b69632d322e332e30202020202020202020202020"
    "2020202002040128b52ffd207035020072c40e1bc035731b5f83feff4d26a033"
    "407c9529cd452e729e4b59b6fa3ca4d10bf576f7f7e5398ae13008080a84453c"
    "75912dbbaa47239a4c039e86390b02003857c1993303"
)


def plain(log: TransactionLog) -> dict:
    """The log as comparable values."""
    return {
        "id": log.id,
        **{name: [row.tobytes() for row in getattr(log, name)] for name in ID_LISTS},
        "updated_chunks": {node: c.tolist() for node, c in log.updated_chunks.items()},
        "moves": log.moves,
    }


def test_first_commit():
    log = decode_transaction_log(FIRST_COMMIT, "transactions/FDJJBAB4QZ5BSSE9ZDRG")
    small, big = decode_id("7CG6XE2CM9C2E", 8), decode_id("CMCVKTNK87MJ0", 8)
    assert plain(log) == {
        "id": decode_id("FDJJBAB4QZ5BSSE9ZDRG", 12),
        "new_groups": [decode_id("5HMWAR0B78E7T", 8), decode_id("EDPDBF0EVK4Y8", 8)],
        "new_arrays": [small, big],
        "deleted_groups": [],
        "deleted_arrays": [],
        "updated_arrays": [],
        "updated_groups": [],
        "updated_chunks": {small: [[0], [1]], big: [[0, 0], [1, 0]]},
        "moves": (),
    }
    assert plain(decode_transaction_log(encode_transaction_log(log), "t")) == plain(log)
    assert not log.is_empty


def test_empty_log_has_every_list(stock):
    log = decode_transaction_log(EMPTY, "t")
    assert log.is_empty
    payload = unwrap(encode_transaction_log(log), FileKind.TRANSACTION_LOG, "t").payload
    row = stock.read(schema.TRANSACTION_LOG, payload)
    assert row == {
        "id": log.id,
        **{key: [] for key in [*ID_LISTS, "updated_chunks", "moved_nodes"]},
    }


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*/transactions/*")), ids=lambda p: p.name)
def test_golden_files(path):
    log = decode_transaction_log(path.read_bytes(), f"transactions/{path.name}")
    assert log.id == decode_id(path.name, 12)
    again = decode_transaction_log(encode_transaction_log(log), "t")
    assert plain(again) == plain(log)


ids = st.binary(min_size=8, max_size=8)
paths = st.lists(st.sampled_from(["a", "a-b", "b", "é"]), min_size=1, max_size=3).map(
    lambda parts: "/" + "/".join(parts)
)
coords_of_array = st.integers(0, 3).flatmap(
    lambda rank: (
        st.sets(st.tuples(*[st.integers(0, 5) | st.integers(0, 2**32 - 1)] * rank))
        .map(sorted)
        .map(lambda rows: np.array(rows, np.uint32).reshape(len(rows), rank))
    )
)
logs = st.builds(
    TransactionLog,
    id=st.binary(min_size=12, max_size=12),
    **{name: st.lists(ids, max_size=4).map(node_ids) for name in ID_LISTS},
    updated_chunks=st.dictionaries(ids, coords_of_array, max_size=4),
    moves=st.lists(st.builds(Move, paths, paths, ids, st.booleans()), max_size=4).map(tuple),
)


@settings(max_examples=60 * EFFORT, deadline=None)
@given(logs, st.sampled_from([1, 2]))
def test_round_trip(log, spec_version):
    data = encode_transaction_log(log, spec_version=spec_version)
    expected = plain(log)
    again = plain(decode_transaction_log(data, "t"))
    assert sorted(again["moves"], key=str) == sorted(expected["moves"], key=str)
    again["moves"] = expected["moves"] = None
    # Without rows there is no rank.
    assert again == expected


def test_order_on_disk(stock):
    a, b = b"\x01" * 8, b"\xff" * 8
    log = TransactionLog(
        bytes(12),
        new_groups=node_ids([b, a, b]),
        updated_chunks={b: np.zeros((1, 1), np.uint32), a: np.zeros((1, 2), np.uint32)},
        moves=tuple(
            Move(f"/old{i}", to, a, is_array=i == 0)
            for i, to in enumerate(["/q-x/c", "/q-x", "/q/dn2", "/q/ab", "/q"])
        ),
    )
    payload = unwrap(encode_transaction_log(log), FileKind.TRANSACTION_LOG, "t").payload
    row = stock.read(schema.TRANSACTION_LOG, payload)
    assert row["new_groups"] == [a, b]
    assert [entry["node_id"] for entry in row["updated_chunks"]] == [a, b]
    assert [move["to"] for move in row["moved_nodes"]] == [
        "/q",
        "/q/ab",
        "/q/dn2",
        "/q-x",
        "/q-x/c",
    ]
    assert row["moved_nodes"][-1]["node_type"] == 1


def test_logs_without_moves_are_read(stock):
    row = {"id": bytes(12), **{key: [] for key in [*ID_LISTS, "updated_chunks"]}}
    data = wrap(FileKind.TRANSACTION_LOG, stock.build(schema.TRANSACTION_LOG, row), spec_version=1)
    assert decode_transaction_log(data, "t").moves == ()


def test_contradictions(stock):
    def log_with(*arrays):
        row = {"id": bytes(12), **{key: [] for key in ID_LISTS}, "updated_chunks": list(arrays)}
        return wrap(FileKind.TRANSACTION_LOG, stock.build(schema.TRANSACTION_LOG, row))

    word = bytes(4)
    one = {"node_id": bytes(8), "chunks": [{"coords": [word]}]}
    mixed = {"node_id": bytes(8), "chunks": [{"coords": [word]}, {"coords": [word] * 2}]}
    with pytest.raises(FormatError, match=r"transactions/T is corrupt: .*differ in rank"):
        decode_transaction_log(log_with(mixed), "transactions/T")
    with pytest.raises(FormatError, match=r"transactions/T is corrupt: .*twice"):
        decode_transaction_log(log_with(one, one), "transactions/T")


@settings(max_examples=100 * EFFORT, deadline=None)
@given(logs, st.data())
def test_damage_raises_format_errors_only(log, data):
    whole = unwrap(encode_transaction_log(log), FileKind.TRANSACTION_LOG, "t").payload
    payload = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    for candidate in (payload, whole[: data.draw(st.integers(0, len(whole) - 1))]):
        with contextlib.suppress(FormatError):
            decode_transaction_log(wrap(FileKind.TRANSACTION_LOG, bytes(candidate)), "t")


class TestLayoutOfChunks:
    """Chunks laid out alike are read as a block; any other layout gives the same."""

    @pytest.fixture
    def file_of(self, stock):
        def make(*tables):
            arrays = [
                {
                    "node_id": bytes([number]) * 8,
                    "chunks": [{"coords": [np.uint32(c).tobytes() for c in row]} for row in table],
                }
                for number, table in enumerate(tables)
            ]
            row = {"id": bytes(12), **{key: [] for key in ID_LISTS}, "updated_chunks": arrays}
            return wrap(FileKind.TRANSACTION_LOG, stock.build(schema.TRANSACTION_LOG, row))

        return make

    @pytest.mark.parametrize("count", [0, 1, 2, 3, 50])
    @pytest.mark.parametrize("rank", [0, 1, 2, 5])
    @pytest.mark.parametrize("ours", [False, True])
    def test_any_rank_and_number(self, file_of, count, rank, ours):
        count = min(count, 1) if rank == 0 else count
        table = [[row * 3 + axis for axis in range(rank)] for row in range(count)]
        data = file_of(table, [[1], [2]])
        if ours:
            data = self.rewritten(data)
        chunks = decode_transaction_log(data, "t").updated_chunks
        assert chunks[bytes(8)].tolist() == table
        assert chunks[b"\x01" * 8].tolist() == [[1], [2]]

    def test_large_numbers_and_any_order(self, file_of):
        table = [[2**32 - 1, 0], [5, 7], [5, 7], [0, 2**31]]
        chunks = decode_transaction_log(file_of(table), "t").updated_chunks
        assert chunks[bytes(8)].tolist() == [[0, 2**31], [5, 7], [2**32 - 1, 0]]

    def test_regular_files_are_read_as_a_block(self, file_of):
        buffer, span = self.parts(self.rewritten(file_of([[n, n + 1] for n in range(9)])))
        table = schema.CHUNK_INDICES
        block = equal_vectors(buffer, table, table["coords"], *span)
        assert block.tolist() == [[n, n + 1] for n in range(9)]

    @pytest.mark.parametrize("damaged", ["table", "vtable", "slot", "vector", "length"])
    def test_what_is_out_of_line_is_no_block(self, file_of, damaged):
        buffer, (start, count) = self.parts(self.rewritten(file_of([[n, n + 1] for n in range(9)])))
        table = schema.CHUNK_INDICES
        data = bytearray(buffer.data)

        def number(at, size=4, signed=False):
            return int.from_bytes(data[at : at + size], "little", signed=signed)

        offset = start + 4 * 5
        position = offset + number(offset)
        vtable = position - number(position, signed=True)
        to_vector = position + number(vtable + 4, 2)
        place = {
            "table": offset,
            "vtable": position,
            "slot": vtable + 4,
            "vector": to_vector,
            "length": to_vector + number(to_vector),
        }[damaged]
        data[place] ^= 0x40
        changed = flatbuf.Buffer(bytes(data), "t")
        assert equal_vectors(changed, table, table["coords"], start, count) is None

    def rewritten(self, data):
        return encode_transaction_log(decode_transaction_log(data, "t"))

    def parts(self, data):
        buffer = flatbuf.Buffer(unwrap(data, FileKind.TRANSACTION_LOG, "t").payload, "t")
        (array,) = Single.root(buffer, schema.TRANSACTION_LOG).tables("updated_chunks")
        return buffer, array.offsets("chunks")

    def test_vectors_that_share_their_bytes_are_limited(self, file_of):
        """One long vector counted by every table may not make memory out of nothing."""
        import struct

        count, width = 20_000, 20_000
        size = 12 + 4 * count + 6
        tables_at = 4 * count
        words = bytearray(tables_at + 8 * count + 16 + 4 * (width + count))
        for n in range(count):
            at = tables_at + 4 * n
            struct.pack_into("<I", words, 4 * n, at - 4 * n)
        buffer = flatbuf.Buffer(bytes(words) + bytes(size), "t")
        table = schema.CHUNK_INDICES
        found = equal_vectors(buffer, table, table["coords"], 0, count)
        assert found is None or found.nbytes <= 8 * buffer.size

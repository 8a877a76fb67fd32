"""The columnar flatbuffer codec against the stock package, both ways, for every root table."""

import contextlib
import itertools

import numpy as np
import pytest
from effort import EFFORT
from hypothesis import given, settings
from hypothesis import strategies as st

from icechunk.chunks.ragged_copy import copy_runs
from icechunk.errors import FormatError
from icechunk.format import flatbuf, flatbuf_layout, schema
from icechunk.format import payload as payloads

ROOTS = [schema.SNAPSHOT, schema.MANIFEST, schema.TRANSACTION_LOG, schema.REPO]


@pytest.mark.parametrize("table", ROOTS, ids=lambda table: table.name)
@settings(max_examples=25 * EFFORT, deadline=None)
@given(data=st.data(), extra_slots=st.integers(0, 2))
def test_reads_what_the_stock_builder_writes(stock, table, data, extra_slots):
    row = data.draw(stock.rows_of(table))
    assert stock.our_read(table, stock.build(table, row, extra_slots)) == row


@pytest.mark.parametrize("table", ROOTS, ids=lambda table: table.name)
@settings(max_examples=25 * EFFORT, deadline=None)
@given(data=st.data())
def test_writes_what_the_stock_reader_reads(stock, table, data):
    row = data.draw(stock.rows_of(table))
    payload = stock.our_build(table, row)
    assert stock.read(table, payload) == row
    assert stock.our_read(table, payload) == row


@pytest.mark.parametrize("table", ROOTS, ids=lambda table: table.name)
@settings(max_examples=10 * EFFORT, deadline=None)
@given(data=st.data())
def test_payloads_do_not_depend_on_the_blocks_they_are_made_in(stock, table, data):
    row = data.draw(stock.rows_of(table))
    whole = stock.our_build(table, row)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(payloads, "BLOCK_BYTES", data.draw(st.sampled_from([1, 16, 40])))
        patch.setattr(flatbuf_layout, "HEAP_BLOCKS", 1)
        assert stock.our_build(table, row) == whole


@settings(max_examples=80 * EFFORT, deadline=None)
@given(data=st.data())
def test_damaged_payloads_raise_format_errors_only(stock, data):
    table = data.draw(st.sampled_from(ROOTS))
    row = data.draw(stock.rows_of(table))
    payload = bytearray(stock.our_build(table, row))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(payload) - 1))
        payload[at] = data.draw(st.integers(0, 255))
    damaged = bytes(payload[: data.draw(st.integers(0, len(payload)))])
    for candidate in (bytes(payload), damaged):
        try:
            stock.our_read(table, candidate)
        except FormatError as error:
            if "files/x" not in str(error):
                raise


def test_every_byte_overwritten(stock):
    row = {
        "id": bytes(12),
        "arrays": [
            {
                "node_id": bytes(8),
                "refs": [
                    {"index": [bytes(4)] * 2, "chunk_id": bytes(12), "length": 5},
                    {"index": [bytes(4)] * 2, "inline": b"abc"},
                ],
            }
        ],
    }
    payload = stock.our_build(schema.MANIFEST, row)
    for at in range(len(payload)):
        for value in (0, 0xFF):
            damaged = payload[:at] + bytes([value]) + payload[at + 1 :]
            with contextlib.suppress(FormatError):
                stock.our_read(schema.MANIFEST, damaged)


def test_overlapping_strings_are_refused(stock):
    count, size = 3000, 1 << 13
    names = flatbuf.Tables(count, {"name": [""] * (count - 1) + ["y" * size]})
    array = flatbuf.Tables(
        1,
        {
            "shape": np.zeros((1, 0), schema.DIMENSION_SHAPE.dtype),
            "manifests": flatbuf.Children([0], flatbuf.Tables(0, {})),
            "dimension_names": flatbuf.Children([count], names),
        },
    )
    payload = bytearray(flatbuf.encode(schema.ARRAY_NODE_DATA, array))
    rows, _ = (
        flatbuf.Buffer(bytes(payload), "k").root(schema.ARRAY_NODE_DATA).tables("dimension_names")
    )
    target = bytes(payload).index(b"y" * size) - 4
    for table in rows.positions.tolist():
        payload[table + 4 : table + 8] = (target - table - 4).to_bytes(4, "little")
    rows, _ = (
        flatbuf.Buffer(bytes(payload), "k").root(schema.ARRAY_NODE_DATA).tables("dimension_names")
    )
    with pytest.raises(FormatError, match=r"k is corrupt: DimensionName\.name: overlapping"):
        rows.byte_strings("name")


def test_many_vtables_in_one_vector(stock):
    # More distinct vtables than are found by comparing.
    optional = {"offset": 1, "length": 2, "inline": b"z", "checksum_last_modified": 3}
    refs = [
        {"index": [bytes(4)], **{name: optional[name] for name in names}}
        for size in range(5)
        for names in itertools.combinations(optional, size)
    ]
    assert len(refs) == 16
    row = {"id": bytes(12), "arrays": [{"node_id": bytes(8), "refs": refs}]}
    assert stock.our_read(schema.MANIFEST, stock.build(schema.MANIFEST, row)) == row
    assert stock.read(schema.MANIFEST, stock.our_build(schema.MANIFEST, row)) == row


def test_missing_required_field_is_named(stock):
    payload = stock.build(schema.REPO, {"spec_version": 2})
    with pytest.raises(FormatError, match=r"files/x is corrupt: Repo\.tags: required"):
        stock.our_read(schema.REPO, payload)


def test_empty_and_tiny_payloads():
    for payload in (b"", b"\0" * 7, b"\0" * 8, b"\xff" * 64):
        with pytest.raises(FormatError):
            flatbuf.Buffer(payload, "k").root(schema.REPO).scalar("spec_version")


def test_wrong_number_of_rows_is_refused():
    with pytest.raises(ValueError, match="'name' has 1 items for 2 rows"):
        flatbuf.encode(schema.DIMENSION_NAME, flatbuf.Tables(2, {"name": ["a"]}))


@settings(max_examples=60 * EFFORT, deadline=None)
@given(
    st.one_of(
        st.lists(st.integers(0, 12), max_size=60),
        st.lists(st.sampled_from([0, 3, 5000]), max_size=9),
        st.lists(st.integers(0, 300), max_size=80),
    ),
    st.integers(0, 2**32 - 1),
)
def test_copy_runs(lengths, seed):
    random = np.random.default_rng(seed)
    source = random.integers(0, 256, 6000, dtype=np.uint8)
    sizes = np.array(lengths, np.int64)
    starts = random.integers(0, 6001 - sizes)
    ends = np.cumsum(sizes)
    target = np.zeros(int(sizes.sum()), np.uint8)
    copy_runs(source, starts, target, ends - sizes, sizes)
    expected = b"".join(
        source[start : start + length].tobytes()
        for start, length in zip(starts.tolist(), lengths, strict=True)
    )
    assert target.tobytes() == expected

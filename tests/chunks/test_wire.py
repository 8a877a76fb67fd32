import struct

import numpy as np
import pytest
from effort import EFFORT
from hypothesis import given, settings
from hypothesis import strategies as st

from icechunk.chunks import ChunkRef, ChunkTable
from icechunk.errors import ErrorKind, FormatError

quick = settings(max_examples=100 * EFFORT, deadline=None)

HEADER = "<4sBBQ"


@quick
@given(st.data())
def test_round_trip(kit, data):
    rank = data.draw(kit.ranks)
    model = data.draw(kit.models(rank))
    wire = kit.build(rank, model).to_bytes()
    kit.check(ChunkTable.from_bytes(wire), rank, model)
    assert ChunkTable.from_bytes(bytearray(wire)).to_bytes() == wire
    assert ChunkTable.from_bytes(memoryview(wire)).to_bytes() == wire


@quick
@given(st.data())
def test_truncated_or_extended_bytes_are_refused(kit, data):
    rank = data.draw(kit.ranks)
    wire = kit.build(rank, data.draw(kit.models(rank))).to_bytes()
    cut = data.draw(st.integers(0, len(wire) - 1))
    for bad in (wire[:cut], wire + b"\0"):
        with pytest.raises(FormatError) as caught:
            ChunkTable.from_bytes(bad)
        assert caught.value.kind == ErrorKind.DESERIALIZATION


@quick
@given(st.data())
def test_any_change_is_refused_or_gives_a_valid_table(kit, data):
    rank = data.draw(kit.ranks)
    wire = bytearray(kit.build(rank, data.draw(kit.models(rank))).to_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    try:
        table = ChunkTable.from_bytes(bytes(wire))
    except FormatError:
        return
    kit.check(table, table.rank, dict(table.items()))


@quick
@given(st.binary(max_size=60), st.integers(0, 3), st.integers(0, 9))
def test_garbage_bodies(kit, body, rank, n):
    for data in (body, struct.pack(HEADER, b"ictw", 1, rank, n) + body):
        try:
            table = ChunkTable.from_bytes(data)
        except FormatError:
            continue
        kit.check(table, table.rank, dict(table.items()))


@pytest.mark.parametrize("n", [2, 100, 2**31, 2**62, 2**64 - 1])
def test_declared_rows_are_not_believed(n):
    constant = b"\x09" + b"\1" * 8
    with pytest.raises(FormatError):
        ChunkTable.from_bytes(struct.pack(HEADER, b"ictw", 1, 1, n) + constant * 8)


def test_huge_declared_strings_are_not_believed(kit):
    wire = kit.build(1, {(i,): ChunkRef(3, length=9, inline=b"123456789") for i in range(4)})
    data = wire.to_bytes()
    at = data.index(b"\x09" + struct.pack("<Q", 9))
    for claimed in (10, 2**40, 2**62, 2**64 - 1):
        bad = data[: at + 1] + struct.pack("<Q", claimed) + data[at + 9 :]
        with pytest.raises(FormatError, match="inline"):
            ChunkTable.from_bytes(bad)


def test_native_references_are_small():
    n = 2000
    rng = np.random.default_rng(1)
    coords = np.sort(rng.permutation(2**32 // 1024)[:n])[:, None]
    ids = rng.integers(0, 256, (n, 12), np.uint8)
    varied = ChunkTable.native(coords, ids, rng.integers(1, 2**40, n), rng.integers(0, 99, n))
    assert len(varied.to_bytes()) <= 32 * n
    plain = ChunkTable.native(np.arange(n)[:, None], ids, 1000)
    assert len(plain.to_bytes()) <= 15 * n

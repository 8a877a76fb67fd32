"""Heads of snapshots are what whole snapshots say, and damage is an error or does not matter."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from icechunk.errors import FormatError
from icechunk.format.envelope import FileKind, unwrap, wrap
from icechunk.format.nodes import NodeTable
from icechunk.format.snapshot import Snapshot, decode_snapshot, encode_snapshot
from icechunk.format.snapshot_head import decode_snapshot_head

GOLDEN = Path(__file__).parent.parent / "golden"
FILES = sorted(GOLDEN.glob("*/snapshots/*"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parts[-3]}-{path.name}")
def test_golden_files(path):
    data = path.read_bytes()
    head = decode_snapshot_head(data, "k")
    assert head == decode_snapshot(data, "k").head
    assert head.pruned == ()


def test_both_versions():
    first = Snapshot(
        id=b"a" * 12,
        parent_id=b"p" * 12,
        nodes=NodeTable.empty(),
        flushed_at=2**63 + 1,
        message="é 🧊",
        metadata={"b": [1, None], "a": {"c": 1.5}},
        spec_version=1,
    )
    assert decode_snapshot_head(encode_snapshot(first), "k") == first.head
    # Later files name no parent, and one that is found there does not count.
    later = decode_snapshot_head(encode_snapshot(replace(first, spec_version=2)), "k")
    assert later == replace(first, parent_id=None).head
    payload = unwrap(encode_snapshot(first), FileKind.SNAPSHOT, "k").payload
    plain = unwrap(encode_snapshot(replace(first, metadata={})), FileKind.SNAPSHOT, "k").payload
    assert decode_snapshot_head(wrap(FileKind.SNAPSHOT, plain), "k").parent_id is None
    assert len(payload) > len(plain)


def test_damage():
    """Whatever stands in any byte, or where the file ends."""
    data = max(FILES[:3], key=lambda path: path.stat().st_size).read_bytes()
    payload = bytearray(unwrap(data, FileKind.SNAPSHOT, "k").payload)
    random = np.random.default_rng(7)
    refused = 0
    for at in range(len(payload)):
        for damaged in (
            payload[:at],
            payload[:at] + bytes([int(random.integers(256))]) + payload[at + 1 :],
        ):
            file = wrap(FileKind.SNAPSHOT, bytes(damaged), level=-5, spec_version=1)
            try:
                decode_snapshot_head(file, "k")
            except FormatError:
                refused += 1
    assert refused > len(payload) // 4

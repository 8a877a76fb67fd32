"""The manifests of a snapshot, read alone, are those of the whole snapshot."""

from pathlib import Path

import numpy as np
import pytest

from icechunk.errors import FormatError
from icechunk.format.envelope import FileKind, unwrap, wrap
from icechunk.format.ids import id_column
from icechunk.format.manifest_files import ManifestFile, ManifestFiles
from icechunk.format.snapshot import decode_snapshot
from icechunk.format.snapshot_manifests import SnapshotManifests, decode_snapshot_manifests

GOLDEN = Path(__file__).parent.parent / "golden"
FILES = sorted(GOLDEN.glob("*/snapshots/*"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parts[-3]}-{path.name}")
def test_golden_files(path):
    data = path.read_bytes()
    alone = decode_snapshot_manifests(data, "k")
    whole = SnapshotManifests.of(decode_snapshot(data, "k"))
    assert (alone.id, alone.files) == (whole.id, whole.files)
    assert alone.used.tolist() == whole.used.tolist()
    assert len(alone.unlisted) == 0


def test_a_list_that_is_not_complete():
    files = ManifestFiles.from_files([ManifestFile(b"b" * 12, 1, 1)])
    used = id_column([b"a" * 12, b"b" * 12, b"c" * 12], 12)
    found = SnapshotManifests(b"s" * 12, files, used).unlisted
    assert [row.tobytes() for row in found] == [b"a" * 12, b"c" * 12]


def test_damage():
    """Whatever stands in any byte, or where the file ends."""
    payload = unwrap(FILES[0].read_bytes(), FileKind.SNAPSHOT, "k").payload
    random = np.random.default_rng(7)
    refused = 0
    for at in range(len(payload)):
        other = payload[:at] + bytes([int(random.integers(256))]) + payload[at + 1 :]
        for damaged in (payload[:at], other):
            try:
                decode_snapshot_manifests(wrap(FileKind.SNAPSHOT, damaged, level=-5), "k")
            except FormatError:
                refused += 1
    assert refused > len(payload) // 4

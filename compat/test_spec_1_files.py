"""Files of spec version 1: what is in theirs, and that ours are as good."""

from __future__ import annotations

import pytest
from hands import NAMES, Sides, dealt, described
from interop import histories
from oracle import Side

pytestmark = pytest.mark.slow

VERSION_1 = {"manifests": [1], "snapshots": [1], "transactions": [1]}

ONLY_IN_VERSION_2 = {
    "ArrayNodeData.shape_v2",
    "ArrayManifest.extra",
    "ChunkRef.compressed_location",
    "ChunkRef.extra",
    "Manifest.extra",
    "Manifest.location_dictionary",
    "NodeSnapshot.extra",
    "Snapshot.extra",
    "Snapshot.manifest_files_v2",
    "TransactionLog.extra",
    "TransactionLog.moved_nodes",
}
NOT_IN_OURS = {"Manifest.compression_algorithm"}
"""Where 2.x says that nothing is compressed, and 1.x says nothing: so do we."""


def test_all_write_the_same_fields(repo_path: str, ours: Side, spec_1_sides: Sides) -> None:
    found = {}
    for name, side in spec_1_sides.items():
        found[name] = set()
        for history, steps in histories.NAMED.items():
            path = f"{repo_path}-{name}-{history}"
            side.call("steps.carry_out", path=path, steps=steps())
            assert ours.call("files.versions", path=path) == VERSION_1
            found[name] |= set(ours.call("files.fields", path=path))
        assert not found[name] & ONLY_IN_VERSION_2
    for name, fields in found.items():
        assert fields - NOT_IN_OURS == found["2.x"] - NOT_IN_OURS, name


@pytest.mark.parametrize(("history", "writer"), dealt(histories.NAMED, NAMES[1]))
def test_they_read_what_we_make_of_their_files(
    history: str, writer: str, repo_path: str, ours: Side, spec_1_sides: Sides
) -> None:
    """Every file is decoded, encoded and put in its place; nobody notices, and all go on."""
    steps = histories.NAMED[history]()
    spec_1_sides[writer].call("steps.carry_out", path=repo_path, steps=steps)
    before = spec_1_sides[writer].call("spec_1.describe", path=repo_path)
    fields = ours.call("files.fields", path=repo_path)
    assert ours.call("files.written_anew", path=repo_path) > len(steps)
    assert ours.call("files.versions", path=repo_path) == VERSION_1
    assert set(ours.call("files.fields", path=repo_path)) == set(fields) - NOT_IN_OURS
    assert described(spec_1_sides, repo_path) == before
    for number, side in enumerate(spec_1_sides.values()):
        side.call("steps.carry_out", path=repo_path, steps=histories.going_on(number))
    assert ours.call("files.versions", path=repo_path) == VERSION_1


def test_lengths_of_chunks(repo_path: str, ours: Side, spec_1_sides: Sides) -> None:
    """1.x records the length that the document has, 2.x one that gives as many chunks."""
    wide, empty = "/wide", "/deep-er"
    recorded = {}
    for name, side in spec_1_sides.items():
        path = f"{repo_path}-{name}"
        side.call("steps.carry_out", path=path, steps=histories.types())
        lengths = ours.call("files.chunk_lengths", path=path)
        by_path = {key.partition(" ")[2]: value for key, value in lengths.items()}
        recorded[name] = by_path[wide], by_path[empty]
    assert recorded.pop("2.x") == ([[3, 3]], [[0, 0], [3, 3]])
    for found in recorded.values():
        assert found == ([[3, 10]], [[0, 2], [3, 3]])

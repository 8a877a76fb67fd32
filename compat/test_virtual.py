"""Virtual chunks in local files: what either side sets the other reads, or refuses alike."""

from __future__ import annotations

from pathlib import Path

import pytest
from oracle import Oracle, Side


@pytest.fixture
def folder(tmp_path: Path) -> str:
    folder = tmp_path.resolve() / "data"
    folder.mkdir()
    return str(folder)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("writer", ["ours", "theirs"])
def test_both_read_what_either_set(
    repo_path: str, folder: str, writer: str, compress: bool, ours: Side, theirs: Oracle
) -> None:
    side = {"ours": ours, "theirs": theirs}[writer]
    side.call("virtuals.write", path=repo_path, folder=folder, count=1500, compress=compress)
    mine = ours.call("virtuals.read", path=repo_path, folder=folder)
    assert mine == theirs.call("virtuals.read", path=repo_path, folder=folder)
    assert mine["few"][7] == [9] * 10
    assert mine["few"][0] == [(50 + j) % 251 for j in range(3, 13)]
    assert [kind for _, kind in mine["few"][2:7]] == [
        "virtual-chunk-modified",
        "virtual-chunk-modified",
        "no-container-for-virtual-chunk",
        "virtual-chunk-fetch",
        "virtual-chunk-fetch",
    ]
    for reader in (ours, theirs):
        assert reader.call("virtuals.read_without_permission", path=repo_path) == [
            "InvalidInputError",
            "unauthorized-virtual-chunk-container",
        ]


def test_both_store_the_same(tmp_path: Path, folder: str, ours: Side, theirs: Oracle) -> None:
    found = []
    for side in (ours, theirs):
        path = str(tmp_path / side.name)
        side.call("virtuals.write", path=path, folder=folder, count=20, compress=False)
        found.append(theirs.call("reference.chunk_references", path=path))
    assert found[0] == found[1]

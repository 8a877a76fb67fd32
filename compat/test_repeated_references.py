"""Chunks that 1.x lists twice: manifests that overlap, and references repeated in one manifest.

It writes them when an array is changed whose manifests were split in another way by
`rewrite_manifests`. Everyone reads such repositories; we list every chunk once.
"""

from __future__ import annotations

from typing import Any

import pytest
from interop.histories import Step, commit, create
from oracle import Oracle, Side

SPLITS = [(8, 5), (3, 100), (100, 3)]


def history(before: int, after: int) -> list[Step]:
    """Write, split in another way, and change the array as if nothing had happened."""
    line = {"shape": [40], "chunks": [1], "dtype": "int8", "dimension_names": ["t"]}
    return [
        create(inline=512, split={"t": before}),
        commit("a", ["group", "", {}], ["array", "x", line], ["write", "x", [[0, 40]], 1]),
        {"do": "rewrite", "message": "rewritten", "split": {"t": after}},
        commit("b", ["write", "x", [[6, 7]], 100]),
        commit("c", ["erase", "x/c/9"], ["write", "x", [[12, 13]], 101]),
    ]


@pytest.mark.parametrize(("before", "after"), SPLITS)
def test_we_read_and_commit_on_top(
    before: int, after: int, repo_path: str, ours: Side, theirs: Oracle, theirs_of_old: Oracle
) -> None:
    theirs_of_old.call("steps.carry_out", path=repo_path, steps=history(before, after))
    values = [*range(1, 41)]
    values[6], values[9], values[12] = 100, 0, 101
    assert theirs_of_old.call("spec_1.read", path=repo_path, name="x") == values
    theirs.call("spec_1.migrate", path=repo_path)
    listed_once(ours, theirs, repo_path)
    assert ours.call("spec_1.read", path=repo_path, name="x") == values

    change = [commit("d", ["write", "x", [[11, 12]], 50], ["write", "x", [[39, 40]], 51])]
    ours.call("steps.carry_out", path=repo_path, steps=change)
    values[11], values[39] = 50, 51
    for side in (ours, theirs):
        assert side.call("spec_1.read", path=repo_path, name="x") == values
    listed_once(ours, theirs, repo_path)
    theirs.call("steps.carry_out", path=repo_path, steps=[commit("e", ["erase", "x/c/10"])])
    values[10] = 0
    for side in (ours, theirs):
        assert side.call("spec_1.read", path=repo_path, name="x") == values


def listed_once(ours: Side, theirs: Oracle, path: str) -> None:
    """Compare all snapshots, listings of theirs without repetitions."""
    mine, other = (side.call("spec_1.describe", path=path) for side in (ours, theirs))
    for id, state in mine["snapshots"].items():
        keys: list[Any] = other["snapshots"][id]["keys"]
        assert state["keys"] == sorted(set(keys))
        assert state["digests"] == other["snapshots"][id]["digests"]
    assert mine["histories"] == other["histories"]
    assert mine["differences"] == other["differences"]

"""Both sides release the same snapshots, and leave the same histories behind."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from oracle import Oracle, Side
from test_state import compare_diffs

import icechunk
from icechunk.assets.manager import AssetManager
from icechunk.format.ids import decode_id, encode_id
from icechunk.format.repo_info import RepoInfo, decode_repo_info
from icechunk.format.snapshot import decode_snapshot
from icechunk.format.snapshot_table import SnapshotEntry, SnapshotTable
from icechunk.ops.expiration import Rule
from icechunk.ops.expiration_v1 import find_expired_refs
from icechunk.ops.expire_v1 import rewrite_parents

pytestmark = pytest.mark.slow

FLAGS = [
    {"delete_expired_branches": branches, "delete_expired_tags": tags}
    for branches in (False, True)
    for tags in (False, True)
]


def state(path: str) -> RepoInfo:
    return decode_repo_info(Path(path, "repo").read_bytes())


def shape(info: RepoInfo) -> dict[str, Any]:
    """All of a state that expiration is about."""
    return {
        "snapshots": list(info.snapshots),
        "branches": dict(info.branches),
        "tags": dict(info.tags),
        "deleted tags": info.deleted_tags,
        "log": [entry.kind for entry in info.updates],
    }


def thresholds(info: RepoInfo, chance: random.Random) -> list[int]:
    """After everything, some snapshots' own times or just after, and before everything."""
    times = sorted(info.snapshots.flushed_at.tolist())
    chosen = chance.sample(times, 3)
    return [times[-1] + 1, chosen[0], chosen[1] + 1, chosen[2], times[0]]


def expire_twice(path: str, sides: tuple[Side, Side], older_than: int, **flags: bool) -> None:
    """Let both sides expire a copy each, and compare."""
    outcomes = []
    for side in sides:
        copy = f"{path} {side.name}"
        shutil.copytree(path, copy)
        for _ in range(2):  # the second time nothing is left to do, and it is logged
            released = side.call("expiring.expire", path=copy, older_than_us=older_than, **flags)
            outcomes.append((released, shape(state(copy))))
        shutil.rmtree(copy)
    first, second = outcomes[:2], outcomes[2:]
    assert first == second
    assert first[1][0] == []


@pytest.mark.parametrize("seed", range(4))
def test_random_histories(
    seed: int, exchange: tuple[Side, Side], repo_path: str, ours: Side, theirs: Oracle
) -> None:
    exchange[0].call("expiring.build", path=repo_path, seed=seed)
    chance = random.Random(seed)
    info = state(repo_path)
    for older_than in thresholds(info, chance)[:4]:
        expire_twice(repo_path, (ours, theirs), older_than, **chance.choice(FLAGS))
    # one of the outcomes is gone on with, by the other side, and expired again
    older_than = sorted(info.snapshots.flushed_at.tolist())[len(info.snapshots) // 2]
    exchange[0].call("expiring.expire", path=repo_path, older_than_us=older_than)
    exchange[1].call("expiring.go_on", path=repo_path, seed=seed + 100)
    for older_than in thresholds(state(repo_path), chance)[1:4]:
        expire_twice(repo_path, (ours, theirs), older_than, **chance.choice(FLAGS))


@pytest.mark.parametrize("seed", range(3))
def test_the_other_side_goes_on(
    seed: int, exchange: tuple[Side, Side], repo_path: str, ours: Side, theirs: Oracle
) -> None:
    """One side writes, the other expires, both read and compare, the first writes again."""
    writer, expirer = exchange
    writer.call("scenarios.random_edits", path=repo_path, seed=seed)
    older_than = sorted(state(repo_path).snapshots.flushed_at.tolist())[-4]
    assert expirer.call("expiring.expire", path=repo_path, older_than_us=older_than)
    assert len(state(repo_path).snapshots.pruned_ids)
    agree(repo_path, ours, theirs)
    for side in (writer, expirer):
        side.call("expiring.edit", path=repo_path, by=side.name)
        agree(repo_path, ours, theirs)


def agree(path: str, ours: Side, theirs: Oracle) -> None:
    one, other = (side.call("describe.describe", path=path) for side in (ours, theirs))
    assert one == other
    compare_diffs(path, ours, theirs)


def test_rebases_over_what_has_expired(repo_path: str, ours: Side, theirs: Oracle) -> None:
    one, other = (
        side.call("expiring.rebase_over", path=f"{repo_path} {side.name}")
        for side in (ours, theirs)
    )
    assert one == other
    released, *outcomes = one
    assert released == 4
    conflict = [["New node conflicts with existing node", "/x"]]
    history = ["rebased", "add v", "Repository initialized"]
    assert outcomes == [history, conflict, ["rebased", *history], conflict]


def state_1(path: str) -> RepoInfo:
    """Gather what the files of a repository of spec version 1 say."""
    entries, refs = [], {"branch": {}, "tag": {}}
    for file in Path(path, "snapshots").iterdir():
        found = decode_snapshot(file.read_bytes(), file.name)
        entries.append(SnapshotEntry(found.id, found.parent_id, found.flushed_at, found.message))
    for folder in Path(path, "refs").iterdir():
        file = folder / "ref.json"
        if file.exists() and not (folder / "ref.json.deleted").exists():
            kind, _, name = folder.name.partition(".")
            refs[kind][name] = decode_id(json.loads(file.read_text())["snapshot"])
    table = SnapshotTable.from_entries(entries)
    return RepoInfo(table, branches=refs["branch"], tags=refs["tag"])


@pytest.mark.parametrize("seed", range(4))
def test_random_histories_of_version_1(seed: int, repo_path: str, theirs: Oracle) -> None:
    theirs.call("expiring.build", path=repo_path, seed=seed, spec_version=1)
    before = state_1(repo_path)
    chance = random.Random(seed)
    for older_than in thresholds(before, chance):
        flags = chance.choice(FLAGS)
        shutil.copytree(repo_path, copy := f"{repo_path} expired")
        released = theirs.call("expiring.expire", path=copy, older_than_us=older_than, **flags)
        after = state_1(copy)
        shutil.rmtree(copy)
        found = find_expired_refs(before, Rule(older_than, **flags))
        assert sorted(map(encode_id, found.released)) == released
        parents = {entry.id: entry.parent_id for entry in before.snapshots} | found.parents
        assert {entry.id: entry.parent_id for entry in after.snapshots} == parents
        assert before.branches.items() - found.branches.items() == after.branches.items()
        assert before.tags.items() - found.tags.items() == after.tags.items()


def test_they_read_what_we_rewrote(repo_path: str, theirs: Oracle) -> None:
    """A file rewritten by us is the one that they would have written, and they go on."""
    theirs.call("scenarios.random_edits", path=repo_path, seed=1, spec_version=1)
    before = state_1(repo_path)
    older_than = sorted(before.snapshots.flushed_at.tolist())[-3]
    shutil.copytree(repo_path, copy := f"{repo_path} theirs")
    theirs.call("expiring.expire", path=copy, older_than_us=older_than)
    parents = find_expired_refs(before, Rule(older_than)).parents
    assert parents
    storage = icechunk.local_filesystem_storage(repo_path)
    rewrite_parents(AssetManager.fresh(storage, icechunk.RepositoryConfig()), parents)
    one, other = (theirs.call("expiring.told", path=path) for path in (copy, repo_path))
    assert one == other
    theirs.call("expiring.edit", path=repo_path, by="them")

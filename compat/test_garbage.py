"""Both sides collect the same garbage, and leave the same objects and histories behind."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from oracle import Oracle, Side
from test_expiration import shape, state

import icechunk
from icechunk.testing.reachable import reachable_keys

pytestmark = pytest.mark.slow

FOREVER = 2**52
FOLDERS = ("snapshots", "transactions", "manifests", "chunks")


def files(path: str) -> dict[str, int]:
    """All objects that may be garbage, with the times they were stored, in microseconds."""
    return {
        f"{folder}/{file.name}": file.stat().st_mtime_ns // 1000
        for folder in FOLDERS
        for file in Path(path, folder).iterdir()
    }


def collect_both(path: str, sides: tuple[Side, Side], older_than_us: int) -> list[dict[str, Any]]:
    """Let both sides collect the garbage of a copy each, and compare."""
    outcomes = []
    for side in sides:
        shutil.copytree(path, copy := f"{path} {side.name}")
        arguments = {"path": copy, "older_than_us": older_than_us}
        told = side.call("collecting.collect", dry_run=True, **arguments)
        first, second = (side.call("collecting.collect", **arguments) for _ in range(2))
        outcomes.append((first, second, files(copy).keys(), shape(state(copy))))
        # In a dry run the reference keeps logs that only dropped snapshots have inherited.
        assert {**told, "transaction_logs_deleted": 0, "bytes_deleted": 0} == {
            **first,
            "transaction_logs_deleted": 0,
            "bytes_deleted": 0,
        }
        assert told == first or side.name != "ours"
        shutil.rmtree(copy)
    assert outcomes[0] == outcomes[1]
    return [outcome[0] for outcome in outcomes]


@pytest.mark.parametrize("seed", range(2))
def test_random_histories(
    seed: int, exchange: tuple[Side, Side], repo_path: str, ours: Side, theirs: Oracle
) -> None:
    exchange[0].call("collecting.build", path=repo_path, seed=seed)
    chance = random.Random(seed)
    times = sorted(files(repo_path).values())
    deleted = 0
    for older_than_us in (*chance.sample(times, 2), FOREVER):
        summary, _ = collect_both(repo_path, (ours, theirs), older_than_us)
        deleted += summary["chunks_deleted"]
    assert deleted
    # one of the outcomes is gone on with, by the other side, and collected again
    exchange[0].call("collecting.collect", path=repo_path, older_than_us=times[len(times) // 2])
    exchange[1].call("collecting.go_on", path=repo_path, seed=seed + 100)
    collect_both(repo_path, (ours, theirs), FOREVER)
    exchange[1].call("collecting.collect", path=repo_path, older_than_us=FOREVER)
    storage = icechunk.local_filesystem_storage(repo_path)
    assert files(repo_path).keys() == reachable_keys(storage)
    one, other = (side.call("describe.describe", path=repo_path) for side in (ours, theirs))
    assert one == other
    assert icechunk.Repository.open(storage).verify(decode_chunks=True).is_clean


@pytest.mark.parametrize("seed", range(2))
def test_random_histories_of_version_1(
    seed: int, exchange: tuple[Side, Side], repo_path: str, ours: Side, theirs: Oracle
) -> None:
    """The same goes in the end; on the way there ours keeps what young snapshots need.

    These are on no branch, and theirs takes old chunks and parents from them.
    """
    exchange[0].call("collecting.build", path=repo_path, seed=seed, spec_version=1)
    times = sorted(files(repo_path).values())
    left: dict[str, list[Any]] = {"ours": [], "theirs": []}
    for older_than_us in (random.Random(seed).choice(times), FOREVER):
        for side in (ours, theirs):
            shutil.copytree(repo_path, copy := f"{repo_path} {side.name}")
            arguments = {"path": copy, "older_than_us": older_than_us}
            told = side.call("collecting.collect", dry_run=True, **arguments)
            assert side.call("collecting.collect", **arguments) == told
            left[side.name] += [told, set(files(copy))]
            described = [one.call("expiring.told", path=copy) for one in (ours, theirs)]
            assert described[0] == described[1]
            shutil.rmtree(copy)
    _, ours_at_first, *ours_in_the_end = left["ours"]
    _, theirs_at_first, *theirs_in_the_end = left["theirs"]
    assert ours_in_the_end == theirs_in_the_end
    assert ours_at_first >= theirs_at_first
    assert ours_in_the_end[0]["chunks_deleted"]


def test_summaries_look_the_same(repo_path: str, ours: Side, theirs: Oracle) -> None:
    theirs.call("collecting.build", path=repo_path, seed=1, steps=1)
    one, other = (
        side.call("collecting.text_of_summary", path=repo_path) for side in (ours, theirs)
    )
    assert one == other

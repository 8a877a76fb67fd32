"""Whatever the reference writes, and whatever both write together, verifies clean."""

from __future__ import annotations

import pytest
from oracle import Oracle, Side
from test_golden import REPOSITORIES, unpack

import icechunk

THEIRS = (
    "reference.amended",
    "reference.shifted",
    "reference.expired",
    "reference.administered",
    "reference.closed",
    "reference.without_tags",
    "reference.paged",
    "reference.migrated",
    "scenarios.bare",
    "scenarios.hierarchy",
    "scenarios.edits",
    "scenarios.moved",
    "scenarios.renumbered",
    "scenarios.history",
    "scenarios.rich_config",
    "scenarios.forks",
)


def require_clean(path: str) -> icechunk.verification.VerifyReport:
    """Verify as deep as it goes."""
    storage = icechunk.local_filesystem_storage(path)
    report = icechunk.Repository.verify_storage(storage, decode_chunks=True)
    assert report.is_clean, report
    return report


@pytest.mark.parametrize("writer", THEIRS)
def test_what_they_write(writer: str, repo_path: str, theirs: Oracle) -> None:
    theirs.call(writer, path=repo_path)
    assert require_clean(repo_path).checked.snapshots > 0


@pytest.mark.parametrize("seed", range(3))
def test_what_they_edit_at_random(seed: int, repo_path: str, theirs: Oracle) -> None:
    theirs.call("scenarios.random_edits", path=repo_path, seed=seed)
    require_clean(repo_path)


@pytest.mark.parametrize("writer", ["reference.expired", "reference.amended", "scenarios.history"])
def test_after_they_collected_garbage(writer: str, repo_path: str, theirs: Oracle) -> None:
    theirs.call(writer, path=repo_path)
    theirs.call("reference.collect_garbage", path=repo_path)
    assert require_clean(repo_path).notes == 0


def test_rectilinear_grids(repo_path: str, theirs: Oracle) -> None:
    theirs.call("reference.rectilinear", path=repo_path)
    storage = icechunk.local_filesystem_storage(repo_path)
    assert icechunk.Repository.verify_storage(storage).is_clean  # not every Zarr can decode them


def test_split_manifests(repo_path: str, theirs: Oracle) -> None:
    theirs.call("scenarios.resplitting", path=repo_path, seed=3)
    assert require_clean(repo_path).checked.manifests > 3


def test_large_manifests(repo_path: str, theirs: Oracle) -> None:
    theirs.call("scenarios.many_chunks", path=repo_path, count=20_000)
    report = icechunk.Repository.verify_storage(icechunk.local_filesystem_storage(repo_path))
    assert report.is_clean, report
    assert report.checked.references >= 20_000


def test_taking_turns(exchange: tuple[Side, Side], repo_path: str) -> None:
    exchange[0].call("scenarios.forks", path=repo_path)
    for step in range(1, 5):
        exchange[step % 2].call("scenarios.continued", path=repo_path, step=step)
        require_clean(repo_path)


@pytest.mark.parametrize("name", REPOSITORIES)
def test_what_they_wrote_once(name: str, repo_path: str) -> None:
    unpack(name, repo_path)
    require_clean(repo_path)

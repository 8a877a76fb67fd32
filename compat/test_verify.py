"""Whatever the reference writes, and whatever both write together, verifies clean."""

from __future__ import annotations

import pytest
import test_repeated_references
from interop import histories
from oracle import Oracle, Side
from test_golden import REPOSITORIES, SPEC_1, unpack

import icechunk

pytestmark = pytest.mark.slow

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


OLDER = {**histories.NAMED, "aged": histories.aged}


def require_clean(path: str, **options: bool) -> icechunk.verification.VerifyReport:
    """Verify as deep as it goes."""
    storage = icechunk.local_filesystem_storage(path)
    report = icechunk.Repository.verify_storage(storage, decode_chunks=True, **options)
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
    theirs.call("scenarios.many_chunks", path=repo_path, count=2000)
    report = icechunk.Repository.verify_storage(icechunk.local_filesystem_storage(repo_path))
    assert report.is_clean, report
    assert report.checked.references >= 2000


def test_taking_turns(exchange: tuple[Side, Side], repo_path: str) -> None:
    exchange[0].call("scenarios.forks", path=repo_path)
    for step in range(1, 5):
        exchange[step % 2].call("scenarios.continued", path=repo_path, step=step)
        require_clean(repo_path)


@pytest.mark.parametrize("name", [*REPOSITORIES, *SPEC_1])
def test_what_they_wrote_once(name: str, repo_path: str) -> None:
    unpack(name, repo_path)
    require_clean(repo_path)


@pytest.mark.parametrize("writer", ["theirs", "theirs_of_old"])
@pytest.mark.parametrize("history", OLDER)
def test_version_1(
    history: str, writer: str, repo_path: str, request: pytest.FixtureRequest
) -> None:
    side = request.getfixturevalue(writer)
    side.call("steps.carry_out", path=repo_path, steps=OLDER[history]())
    assert require_clean(repo_path).spec_version == 1


@pytest.mark.parametrize("seed", range(3))
def test_random_histories_of_version_1(
    seed: int, repo_path: str, theirs: Oracle, theirs_of_old: Oracle
) -> None:
    side = (theirs, theirs_of_old)[seed % 2]
    steps = histories.random_history(seed, 25)
    side.call("steps.carry_out", path=repo_path, steps=steps)
    require_clean(repo_path)


@pytest.mark.parametrize("writer", ["theirs", "theirs_of_old"])
def test_version_1_expired_collected_and_migrated(
    writer: str, repo_path: str, theirs: Oracle, request: pytest.FixtureRequest
) -> None:
    side = request.getfixturevalue(writer)
    side.call("steps.carry_out", path=repo_path, steps=histories.aged())
    for before in ("old 2", "new 1"):
        side.call("spec_1.expire", path=repo_path, before=before, branches=True)
        require_clean(repo_path)
    side.call("spec_1.collect", path=repo_path)
    assert require_clean(repo_path).notes == 0
    theirs.call("spec_1.migrate", path=repo_path)
    assert require_clean(repo_path).spec_version == 2
    theirs.call("scenarios.continued", path=repo_path, step=1)
    require_clean(repo_path)


@pytest.mark.parametrize("splits", test_repeated_references.SPLITS)
def test_chunks_listed_twice(
    splits: tuple[int, int], repo_path: str, theirs_of_old: Oracle
) -> None:
    steps = test_repeated_references.history(*splits)
    theirs_of_old.call("steps.carry_out", path=repo_path, steps=steps)
    require_clean(repo_path)


def test_odd_names_of_version_1(repo_path: str, theirs_of_old: Oracle) -> None:
    names = ["feat#1", "ü", "a b", "100%", "x|y", "[z]", '"quoted"', "~", "ref.json", "m%61in"]
    theirs_of_old.call("spec_1.create_plain", path=repo_path)
    theirs_of_old.call("spec_1.named", path=repo_path, names=names)
    theirs_of_old.call("spec_1.unnamed", path=repo_path, names=names[::2])
    assert require_clean(repo_path).faults == ()

"""Migration of repositories of spec version 1: everyone makes the same of equal copies.

Whoever migrates, all that was there is there, `repo` tells how it came about, and whoever knows
version 2 goes on.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hands import MIGRATORS, NAMES, Sides, copies, dealt, described, files
from interop import histories
from interop.places import storage_at
from oracle import Oracle, RemoteError
from test_spec_1_names import ODD

import icechunk
from icechunk.testing import FaultyStorage

pytestmark = pytest.mark.slow

REFUSED = ["SessionStateError", "invalid-repository-migration"]
KNOWN = ("branches", "tags", "histories")
HISTORIES = {**histories.NAMED, "aged": histories.aged}

AGED_LOG = [
    ["RepoMigrated", 1, 2],
    ["NewCommit", "main", "new 1"],
    ["TagCreated", "new tag"],
    ["NewCommit", "main", "new 0"],
    ["BranchCreated", "side"],
    ["NewCommit", "side", "new aside"],
    ["NewCommit", "main", "old 3"],
    ["NewCommit", "main", "old 2"],
    ["TagDeleted", "gone", "old 1"],
    ["TagCreated", "gone"],
    ["TagCreated", "old tag"],
    ["NewCommit", "main", "old 1"],
    ["BranchCreated", "old branch"],
    ["NewCommit", "old branch", "old aside"],
    ["NewCommit", "main", "old 0"],
    ["NewCommit", "main", "start"],
    ["RepoInitialized"],
]


@pytest.fixture
def migrators(spec_1_sides: Sides) -> Sides:
    """Everyone who migrates."""
    return {name: spec_1_sides[name] for name in MIGRATORS}


@pytest.mark.parametrize(("history", "writer"), dealt(HISTORIES, NAMES[1]))
def test_all_that_was_there_is_there(
    history: str,
    writer: str,
    repo_path: str,
    spec_1_sides: Sides,
    migrators: Sides,
) -> None:
    spec_1_sides[writer].call("steps.carry_out", path=repo_path, steps=HISTORIES[history]())
    before = spec_1_sides[writer].call("spec_1.describe", path=repo_path)
    unchanged = {key: data for key, data in files(repo_path).items() if _stays(key)}
    results = {}
    for name, path in copies(repo_path, migrators).items():
        migrators[name].call("spec_1.migrate", path=path)
        after = files(path)
        assert {key: data for key, data in after.items() if key != "repo"} == unchanged
        assert described(migrators, path) == before
        found = {
            reader: side.call("describe.describe", path=path, values=False)
            for reader, side in migrators.items()
        }
        assert all(other == found[name] for other in found.values())
        results[name] = {**found[name], "log": _timeless(found[name]["log"])}
    first = next(iter(results.values()))
    assert all(other == first for other in results.values())


def _stays(key: str) -> bool:
    return not key.startswith(("refs/", "config.yaml"))


def _timeless(log: list[Any]) -> list[Any]:
    """Forget when it was migrated; all before that has the times of the commits."""
    return [{**log[0], "at": None}, *log[1:]]


def test_the_log_tells_how_it_came_about(
    repo_path: str, spec_1_sides: Sides, migrators: Sides
) -> None:
    spec_1_sides["1.x"].call("steps.carry_out", path=repo_path, steps=histories.aged())
    for name, path in copies(repo_path, migrators).items():
        before = migrators[name].call("spec_1.describe", path=path)
        messages = {
            entry["id"]: entry["message"] for line in before["histories"].values() for entry in line
        }
        migrators[name].call("spec_1.migrate", path=path)
        log = migrators[name].call("describe.describe", path=path, values=False)["log"]
        told = [
            [entry["operation"], *(messages.get(v, v) for v in _by_name(entry["fields"]))]
            for entry in log
        ]
        assert told == AGED_LOG
        times = [entry["at"] for entry in log]
        assert times == sorted(set(times), reverse=True)
        assert {entry["backup"] for entry in log} == {None}


def _by_name(fields: dict[str, Any]) -> list[Any]:
    order = ("from_version", "to_version", "name", "branch", "previous_snap_id", "new_snap_id")
    return [fields[name] for name in order if name in fields]


def test_going_on_after_migration(repo_path: str, theirs_of_old: Oracle, migrators: Sides) -> None:
    theirs_of_old.call("steps.carry_out", path=repo_path, steps=histories.aged())
    for path in copies(repo_path, migrators).values():
        before = theirs_of_old.call("spec_1.describe", path=path)
        migrators["2.x"].call("spec_1.migrate", path=path)
        with pytest.raises(RemoteError, match="v2 format"):
            theirs_of_old.call("spec_1.describe", path=path)
        for number, side in enumerate(migrators.values(), start=1):
            side.call("steps.carry_out", path=path, steps=histories.going_on(number))
            said = side.call("spec_1.refused", path=path, attempt="deleted tag")
            assert "deleted" in said
            side.call("spec_1.collect", path=path)
        after = described(migrators, path)
        for id, state in before["snapshots"].items():
            assert after["snapshots"][id]["digests"] == state["digests"]
        assert after["config"] == before["config"]


def test_names_that_need_no_spelling(
    repo_path: str, theirs_of_old: Oracle, migrators: Sides
) -> None:
    """Only those that stand in a path as they are: the reference fails over other branches."""
    plain = [name for name in ODD if name.isascii() and name.replace(".", "").isalnum()]
    theirs_of_old.call("steps.create", path=repo_path, spec=1)
    theirs_of_old.call("spec_1.named", path=repo_path, names=plain)
    for name, path in copies(repo_path, migrators).items():
        migrators[name].call("spec_1.migrate", path=path)
        for side in migrators.values():
            assert side.call("spec_1.listed", path=path) == [
                sorted(["main", *plain]),
                sorted(plain),
            ]


def test_names_that_need_spelling(repo_path: str, theirs_of_old: Oracle, migrators: Sides) -> None:
    """They have the names that they were given, whoever reads them."""
    theirs_of_old.call("steps.create", path=repo_path, spec=1)
    theirs_of_old.call("spec_1.named", path=repo_path, names=ODD)
    theirs_of_old.call("spec_1.unnamed", path=repo_path, names=["ü", "100%"])
    migrators["ours"].call("spec_1.migrate", path=repo_path)
    left = sorted(set(ODD) - {"ü", "100%"})
    for side in migrators.values():
        assert side.call("spec_1.listed", path=repo_path) == [sorted([*left, "main"]), left]
        said = side.call("spec_1.resolved", path=repo_path, branches=left, tags=left)
        assert set(said["tags"].values()) == {"Repository initialized"}


def test_rehearsals_change_nothing(repo_path: str, theirs_of_old: Oracle, migrators: Sides) -> None:
    theirs_of_old.call("steps.carry_out", path=repo_path, steps=histories.aged())
    before = files(repo_path)
    for side in migrators.values():
        side.call("spec_1.migrate", path=repo_path, dry_run=True)
        assert files(repo_path) == before


def test_old_files_can_stay(repo_path: str, theirs_of_old: Oracle, migrators: Sides) -> None:
    theirs_of_old.call("steps.carry_out", path=repo_path, steps=histories.aged())
    before = files(repo_path)
    for name, path in copies(repo_path, migrators).items():
        migrators[name].call("spec_1.migrate", path=path, delete=False)
        after = files(path)
        assert after.pop("repo")
        assert after == before
        for side in migrators.values():
            assert side.call("spec_1.migration_refused", path=path, delete=False) == REFUSED
        assert migrators["2.x"].call("spec_1.migration_refused", path=path) == REFUSED
        # ours deletes them when asked to, whoever left them
        assert migrators["ours"].call("spec_1.migration_refused", path=path) == []
        rest = files(path)
        assert rest.pop("repo")
        assert rest == {key: data for key, data in after.items() if _stays(key)}


def test_the_former_object_is_of_no_use(
    repo_path: str, theirs_of_old: Oracle, migrators: Sides
) -> None:
    theirs_of_old.call("steps.carry_out", path=repo_path, steps=histories.references())
    for name, path in copies(repo_path, migrators).items():
        said, version = migrators[name].call("spec_1.used_after_migration", path=path)
        assert "invalidated by upgrade_icechunk_repository" in said
        assert version == "SpecVersion.v2 (current)"


def test_an_expired_history(repo_path: str, theirs_of_old: Oracle, migrators: Sides) -> None:
    """The snapshots that nothing leads to any longer stay behind as garbage."""
    theirs_of_old.call("steps.carry_out", path=repo_path, steps=histories.aged())
    theirs_of_old.call("spec_1.expire", path=repo_path, before="new aside", tags=True)
    before = theirs_of_old.call("spec_1.describe", path=repo_path)
    for name, path in copies(repo_path, migrators).items():
        migrators[name].call("spec_1.migrate", path=path)
        described_after = described(migrators, path)
        assert {key: described_after[key] for key in KNOWN} == {key: before[key] for key in KNOWN}
        collected = migrators[name].call("spec_1.collect", path=path)
        assert collected[0] == 6, "five that expired and an abandoned one"
        assert described(migrators, path) == described_after


def test_an_interrupted_migration_leaves_what_the_reference_reads(
    tmp_path: Path, theirs_of_old: Oracle, migrators: Sides
) -> None:
    """At every effect, in version 1 or in version 2, and whoever ends it."""
    origin = tmp_path / "origin"
    theirs_of_old.call("steps.carry_out", path=str(origin), steps=histories.aged())
    look = {"values": False, "differences": False}
    before = theirs_of_old.call("spec_1.describe", path=str(origin), **look)
    for fail_at in count():
        path = str(tmp_path / str(fail_at))
        shutil.copytree(origin, path)
        storage = FaultyStorage(storage_at(path), fail_at=fail_at, sticky=True)
        repo = icechunk.Repository.open(storage)
        with suppress(icechunk.StorageError):
            icechunk.upgrade_icechunk_repository(repo, dry_run=False)
        assert migrators["2.x"].call("spec_1.describe", path=path, **look) == before
        if fail_at == len(storage.effects):
            break
        migrators["ours"].call("spec_1.migrate", path=path)
        assert migrators["2.x"].call("spec_1.describe", path=path, **look) == before
    assert fail_at == 14

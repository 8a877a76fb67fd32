"""What version 2 says of a repository of version 1: everything that happened, in order."""

from dataclasses import replace

import pytest

from icechunk.errors import ErrorKind, FormatError
from icechunk.format.ops_log import (
    BranchCreated,
    NewCommit,
    RepoInitialized,
    RepoMigrated,
    RepoStatus,
    TagCreated,
    TagDeleted,
)
from icechunk.format.repo_info import decode_repo_info, encode_repo_info
from icechunk.format.snapshot_table import SnapshotEntry
from icechunk.ops.migrated_state import RefHistory, migrated_state

PARENTS = {"root": None, "one": "root", "two": "one", "aside": "one", "lost": "two"}
IDS = {name: bytes([number + 1]) * 12 for number, name in enumerate(PARENTS)}
SECOND = 1_000_000
TIMES = {name: (number + 1) * SECOND for number, name in enumerate(PARENTS)}
NOW = 100 * SECOND
ENTRIES = {
    name: SnapshotEntry(IDS[name], IDS.get(parent), TIMES[name], name, {"b": 1, "a": [None]})
    for name, parent in PARENTS.items()
}
HISTORY = RefHistory(
    branches={"main": IDS["two"], "side": IDS["aside"], "at root": IDS["root"]},
    tags={"v1": IDS["one"]},
    deleted_tags={"gone": IDS["two"], "astray": IDS["lost"], "forgotten": None},
    snapshots={IDS[name]: ENTRIES[name] for name in ("root", "one", "two", "aside")},
    config=b"configuration",
)


def log_of(info):
    return [(entry.updated_at, entry.kind) for entry in reversed(info.updates)]


def test_all_is_kept():
    info = migrated_state(HISTORY, NOW)
    assert dict(info.branches) == HISTORY.branches
    assert dict(info.tags) == HISTORY.tags
    assert info.deleted_tags == ("astray", "forgotten", "gone")
    assert {entry.id: entry for entry in info.snapshots} == HISTORY.snapshots
    assert info.config == b"configuration"
    assert info.status == RepoStatus(set_at=TIMES["root"])
    assert (info.metadata, info.repo_before_updates, info.spec_version) == ({}, None, 2)
    assert (info.enabled_feature_flags, info.disabled_feature_flags) == (None, None)
    assert {entry.backup_path for entry in info.updates} == {None}
    written = replace(info, config=None)
    assert decode_repo_info(encode_repo_info(written)) == written


def test_the_log_tells_what_happened_when():
    milli = 1000
    assert log_of(migrated_state(HISTORY, NOW)) == [
        (TIMES["root"], RepoInitialized()),
        (TIMES["root"] + milli, BranchCreated("at root")),
        (TIMES["root"] + milli + 1, TagCreated("astray")),  # its snapshot is in no history
        (TIMES["root"] + 2 * milli, TagDeleted("astray", IDS["lost"])),
        (TIMES["one"], NewCommit("main", IDS["one"])),
        (TIMES["one"] + milli, TagCreated("v1")),
        (TIMES["two"], NewCommit("main", IDS["two"])),
        (TIMES["two"] + milli, TagCreated("gone")),
        (TIMES["two"] + 2 * milli, TagDeleted("gone", IDS["two"])),
        (TIMES["aside"], NewCommit("side", IDS["aside"])),
        (TIMES["aside"] + milli, BranchCreated("side")),
        (NOW, RepoMigrated(1, 2)),
    ]


def test_what_was_at_the_same_time_gets_times_of_its_own():
    alike = {id: replace(entry, flushed_at=SECOND) for id, entry in HISTORY.snapshots.items()}
    log = log_of(migrated_state(replace(HISTORY, snapshots=alike), NOW))
    assert [kind for _, kind in log] == [
        RepoInitialized(),
        NewCommit("main", IDS["one"]),
        NewCommit("main", IDS["two"]),
        NewCommit("side", IDS["aside"]),
        BranchCreated("at root"),
        BranchCreated("side"),
        TagCreated("v1"),
        TagCreated("astray"),
        TagCreated("gone"),
        TagDeleted("astray", IDS["lost"]),
        TagDeleted("gone", IDS["two"]),
        RepoMigrated(1, 2),
    ]
    times = [time for time, _ in log]
    assert times[:4] == [SECOND, SECOND + 1, SECOND + 2, SECOND + 3]
    assert times == sorted(set(times))


def test_clocks_that_are_a_little_behind():
    newest = TIMES["aside"] + 1000
    assert log_of(migrated_state(HISTORY, newest - 5))[-1] == (newest + 1, RepoMigrated(1, 2))
    with pytest.raises(FormatError, match="the clock has drifted") as caught:
        migrated_state(HISTORY, newest - SECOND)
    assert caught.value.kind == ErrorKind.SNAPSHOT_TIMESTAMP

"""Operations logs with faults that our own encoder refuses to write, and damaged pages of them."""

from dataclasses import replace

import numpy as np
import pytest

import icechunk
from icechunk.errors import ErrorKind, FormatError
from icechunk.format.ids import INITIAL_SNAPSHOT_ID
from icechunk.format.ops_log import MetadataChanged, RepoInitialized, UnknownUpdate, UpdateEntry
from icechunk.format.repo_info import RepoInfo, SnapshotEntry, SnapshotTable
from icechunk.ops.verify.state import check_log, check_state, newest_readable, read_pages
from icechunk.storage.base import ObjectNotFound
from icechunk.storage.memory import MemoryStorage
from icechunk.verification import FaultKind

NOW = 1_000_000_000


def state(*entries, before=None):
    table = SnapshotTable.from_entries([SnapshotEntry(INITIAL_SNAPSHOT_ID, None, 1, "")])
    return RepoInfo(
        table, {"main": INITIAL_SNAPSHOT_ID}, updates=entries, repo_before_updates=before
    )


def entry(time, backup=None, kind=None):
    return UpdateEntry(MetadataChanged() if kind is None else kind, time, backup)


def kinds(info, pages=None, missing=()):
    def load(name):
        found = (pages or {}).get(name)
        if found is None:
            raise ObjectNotFound(name)
        if isinstance(found, Exception):
            raise found
        return found

    problems = check_log(read_pages(info, load), "repo", lambda name: name not in missing, NOW)
    return [(problem.kind, problem.key) for problem in problems]


def test_a_log_in_order():
    info = state(entry(5), entry(4, "d"), entry(3, "c"), before="b")
    last = state(entry(2), entry(1, "a", RepoInitialized()))
    assert kinds(info, {"b": last}) == []
    pages = read_pages(info, {"b": last}.__getitem__)
    assert pages.backups == ["d", "c", "b", "a"]
    assert pages.times.tolist() == [5, 4, 3, 2, 1]


def test_unusable_logs():
    assert kinds(state()) == [(FaultKind.OPERATIONS_LOG_UNUSABLE, "repo")]
    assert kinds(state(entry(1, "x"))) == [(FaultKind.OPERATIONS_LOG_UNUSABLE, "repo")]


def test_unknown_operations():
    found = kinds(state(entry(2), entry(1, "a", UnknownUpdate(99)), entry(0, "b")))
    assert found == [(FaultKind.UNKNOWN_OPERATION, "repo")]


def test_disorder_across_pages():
    info = state(entry(5), before="b")
    assert kinds(info, {"b": state(entry(5))}) == [(FaultKind.OPERATIONS_LOG_DISORDER, "repo")]


def test_a_log_that_bites_its_tail_ends():
    info = state(entry(5), before="b")
    found = kinds(info, {"b": state(entry(4), before="b")})
    assert found == [(FaultKind.OPERATIONS_LOG_DISORDER, "overwritten/b")]


def test_a_damaged_page_ends_the_log():
    damage = FormatError("overwritten/b: bad", ErrorKind.DESERIALIZATION)
    found = kinds(state(entry(5), before="b"), {"b": damage})
    assert found == [(FaultKind.CORRUPT_FILE, "overwritten/b")]


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ("a", [(FaultKind.OPERATIONS_LOG_CUT, "repo")]),
        ("ab", [(FaultKind.OPERATIONS_LOG_CUT, "repo")]),
        ("abc", [(FaultKind.OPERATIONS_LOG_CUT, "repo")]),
        ("b", [(FaultKind.BACKUP_MISSING, "overwritten/b")]),
        (
            "ac",
            [
                (FaultKind.BACKUP_MISSING, "overwritten/c"),
                (FaultKind.OPERATIONS_LOG_CUT, "repo"),
            ],
        ),
    ],
)
def test_backups_are_missed_unless_the_oldest_went(missing, expected):
    info = state(entry(4), entry(3, "c"), entry(2, "b"), entry(1, "a"))
    assert kinds(info, missing=missing) == expected


def test_damaged_backups_are_passed_over():
    storage = MemoryStorage()
    repo = icechunk.Repository.create(storage)
    for number in range(3):
        repo.set_metadata({"n": number})
    names = sorted(info.key.rpartition("/")[2] for info in storage.list("overwritten"))
    storage.put(f"overwritten/{names[0]}", b"junk")
    key, info = newest_readable(storage, [*names, "config.yaml.0.x"])
    assert key == f"overwritten/{names[1]}"
    assert info.metadata == {"n": 0}
    assert newest_readable(storage, names[:1]) is None


def test_histories_are_looked_at_whole():
    info = state(entry(1))
    times = np.array([NOW * 10], np.uint64)
    late = replace(info, snapshots=replace(info.snapshots, flushed_at=times))
    assert [problem.kind for problem in check_state(late, "repo", NOW)] == [
        FaultKind.TIME_IN_FUTURE
    ]
    assert list(check_state(info, "repo", NOW)) == []

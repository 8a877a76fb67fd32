"""The operations log: times, the cut at N entries, and reading it back through its backups."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icechunk.errors import FormatError
from icechunk.format.ops_log import BranchCreated, RepoInitialized
from icechunk.repo.log import append_update, read_log, update_time

START = 1_700_000_000_000_000


class TestUpdateTime:
    @pytest.mark.parametrize(
        ("previous", "now", "when"),
        [
            (None, 5, 5),
            (5, 6, 6),
            (5, 5, 6),
            (START, START - 1, START + 1),
            (START, START - 999_999, START + 1),
        ],
    )
    def test_always_later(self, previous, now, when):
        assert update_time(previous, now) == when

    @pytest.mark.parametrize("lag", [1_000_000, 10**12])
    def test_refuses_a_drifted_clock(self, lag):
        with pytest.raises(FormatError, match="clock has drifted") as caught:
            update_time(START, START - lag)
        assert caught.value.kind == "snapshot-timestamp"


def grow(info, count, limit):
    """Append operations op1.. and keep every state under the name of its backup."""
    backups = {}
    for number in range(1, count + 1):
        name = f"backup{number}"
        backups[name] = info
        info = append_update(
            info,
            BranchCreated(f"op{number}"),
            START + number,
            backup_name=name,
            max_entries=limit,
        )
    return info, backups


def names(entries):
    return [getattr(entry.kind, "name", "init") for entry in entries]


def test_three_entries_a_file(info):
    """Seven operations with N = 3: the file keeps three, the rest hangs on its backups."""
    state, backups = grow(info, 6, 3)
    assert names(state.updates) == ["op6", "op5", "op4"]
    assert [entry.backup_path for entry in state.updates] == [None, "backup6", "backup5"]
    # The name of the file whose list starts with the fourth newest entry.
    assert state.repo_before_updates == "backup4"
    fourth = backups["backup4"]
    assert names(fourth.updates) == ["op3", "op2", "op1"]
    assert fourth.repo_before_updates == "backup1"
    assert names(backups["backup1"].updates) == ["init"]
    assert backups["backup1"].repo_before_updates is None


def test_the_whole_log_reads_as_one(info):
    state, backups = grow(info, 6, 3)
    entries = list(read_log(state, backups.get))
    assert names(entries) == ["op6", "op5", "op4", "op3", "op2", "op1", "init"]
    assert [entry.backup_path for entry in entries] == [
        None,
        *(f"backup{number}" for number in range(6, 0, -1)),
    ]
    assert isinstance(entries[-1].kind, RepoInitialized)


@given(st.integers(0, 12), st.integers(0, 6))
def test_no_entry_is_lost_whatever_the_limit(count, limit):
    from icechunk.format.ops_log import RepoStatus, UpdateEntry
    from icechunk.format.ops_table import OpsLog
    from icechunk.format.repo_info import RepoInfo
    from icechunk.format.snapshot_table import SnapshotTable

    first = RepoInfo(
        snapshots=SnapshotTable.from_entries([]),
        branches={},
        status=RepoStatus(),
        updates=OpsLog.from_entries([UpdateEntry(RepoInitialized(), START)]),
    )
    state, backups = grow(first, count, limit)
    entries = list(read_log(state, backups.get))
    assert names(entries) == [f"op{number}" for number in range(count, 0, -1)] + ["init"]
    assert len(state.updates) <= max(1, limit)
    for entry in entries[1:]:
        # Each entry names the state in which it was the newest.
        assert backups[entry.backup_path].updates[0].kind == entry.kind


def test_a_missing_backup_ends_the_log(info):
    state, _ = grow(info, 6, 3)
    assert names(read_log(state, lambda name: None)) == ["op6", "op5", "op4"]


def test_a_chain_that_bites_its_tail_ends(info):
    state, _ = grow(info, 6, 3)
    assert names(read_log(state, lambda name: state)) == ["op6", "op5", "op4"] * 2


def test_entries_without_backup_are_not_cut_points(info):
    """Logs made by a migration have entries that no backup leads to."""
    from dataclasses import replace

    from icechunk.format.ops_log import UpdateEntry
    from icechunk.format.ops_table import OpsLog

    rows = [UpdateEntry(BranchCreated(f"old{n}"), START - n) for n in range(5)]
    state = replace(info, updates=OpsLog.from_entries(rows))
    state, backups = grow(state, 4, 2)
    entries = list(read_log(state, backups.get))
    assert names(entries) == ["op4", "op3", "op2", "op1", "old0", "old1", "old2", "old3", "old4"]

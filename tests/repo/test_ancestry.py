"""Questions about history: which logs lie between two snapshots."""

from dataclasses import replace

import pytest

from icechunk.errors import ErrorKind, SnapshotNotFoundError
from icechunk.format.snapshot_table import SnapshotEntry, SnapshotTable
from icechunk.repo.ancestry import LoggedSnapshot, logs_between


@pytest.fixture
def pruned_info(info, snapshot_id, start_us):
    """Extend to 1 <- 2 <- 3 <- 5, where 20 and 21 were expired between 3 and 5."""
    entries = [*info.snapshots]
    logs = (snapshot_id(20), snapshot_id(21))
    entries.append(
        SnapshotEntry(snapshot_id(5), snapshot_id(3), start_us + 20, "five", pruned=logs)
    )
    return replace(info, snapshots=SnapshotTable.from_entries(entries))


def test_logs_are_those_after_the_base_oldest_first(info, snapshot_id):
    assert logs_between(info, snapshot_id(1), snapshot_id(3)) == [
        LoggedSnapshot(snapshot_id(2), ()),
        LoggedSnapshot(snapshot_id(3), ()),
    ]


def test_pruned_logs_come_before_the_one_they_were_pruned_for(pruned_info, snapshot_id):
    between = logs_between(pruned_info, snapshot_id(2), snapshot_id(5))
    assert [item.id for item in between] == [snapshot_id(3), snapshot_id(5)]
    assert [log for item in between for log in item.logs] == [
        snapshot_id(3),
        snapshot_id(20),
        snapshot_id(21),
        snapshot_id(5),
    ]


def test_nothing_lies_between_a_snapshot_and_itself(info, snapshot_id):
    assert logs_between(info, snapshot_id(2), snapshot_id(2)) == []


@pytest.mark.parametrize(("base", "tip"), [(3, 2), (2, 9), (9, 3)])
def test_no_history_leads_backwards_or_across(info, snapshot_id, base, tip):
    assert logs_between(info, snapshot_id(base), snapshot_id(tip)) is None


@pytest.mark.parametrize(("base", "tip"), [(1, 77), (77, 3), (77, 77)])
def test_unknown_snapshots(info, snapshot_id, base, tip):
    with pytest.raises(SnapshotNotFoundError) as caught:
        logs_between(info, snapshot_id(base), snapshot_id(tip))
    assert caught.value.kind == ErrorKind.SNAPSHOT_NOT_FOUND

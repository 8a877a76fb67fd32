"""Fail at every effect of a garbage collection, before and after it lands: nothing needed goes."""

from datetime import UTC, datetime, timedelta

import pytest
import zarr

import icechunk
from icechunk import Repository, RepositoryConfig, StorageError
from icechunk.format.repo_info import decode_repo_info
from icechunk.repo.times import from_datetime
from icechunk.testing import FaultyStorage
from icechunk.testing.reachable import reachable_keys

NOW = datetime(2020, 1, 1, tzinfo=UTC)
NOW_US = from_datetime(NOW)
FOLDERS = ("snapshots", "transactions", "manifests", "chunks")


def write(repo, row, branch="main"):
    session = repo.writable_session(branch)
    zarr.open_array(session.store, path="x")[row] = row
    return session


@pytest.fixture(scope="module")
def template():
    """A repository in memory with garbage of every kind, all of it old but for one snapshot.

    That one is on no branch, and its parent is to go.
    """
    storage = icechunk.in_memory_storage()
    repo = Repository.create(storage, config=RepositoryConfig(inline_chunk_threshold_bytes=0))
    session = repo.writable_session("main")
    zarr.create_array(session.store, name="x", shape=(5,), chunks=(1,), dtype="i8", fill_value=-1)
    base = session.commit("start")
    repo.create_branch("side", base)
    write(repo, 0, "side").commit("left")
    aside = write(repo, 1, "side").flush("aside")
    repo.delete_branch("side")
    write(repo, 2).commit("replaced")
    write(repo, 3).amend("tip")
    write(repo, 4)
    objects = storage._objects
    for key in objects:
        objects[key] = objects[key]._replace(written_us=NOW_US - 1)
    young = f"snapshots/{aside}"
    objects[young] = objects[young]._replace(written_us=NOW_US)
    return storage


def copy(template):
    storage = icechunk.in_memory_storage()
    storage._objects.update(template._objects)
    storage._writes = template._writes
    return storage


def objects_of(storage):
    return {key for key in storage._objects if key.startswith(FOLDERS)}


def collect(repo):
    summary = repo.garbage_collect(
        NOW, max_consecutive_delete_failures=3, backup_retention=timedelta(0)
    )
    return summary.objects_failed_to_delete == 0


def history(storage):
    info = decode_repo_info(storage.get("repo"))
    return list(info.snapshots), dict(info.branches)


@pytest.mark.slow
@pytest.mark.parametrize("sticky", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_failing_collection_loses_nothing(template, after, sticky):
    clean = copy(template)
    counting = FaultyStorage(clean)
    assert collect(Repository.open(counting))
    left, new, old = objects_of(clean), history(clean), history(template)
    assert left == reachable_keys(clean, NOW_US)
    assert len(new[0]) == len(old[0]) - 2
    assert {"flush", "copy", "put_if", "delete"} <= {name for name, _ in counting.effects}
    effects = len(counting.effects)
    assert effects >= 16
    outcomes = set()
    for fail_at in range(effects):
        storage = copy(template)
        faulty = FaultyStorage(storage, fail_at=fail_at, after=after, sticky=sticky)
        try:
            is_done = collect(Repository.open(faulty))
        except StorageError:
            is_done = False
        found = history(storage)
        assert found in (old, new)
        outcomes.add(found == new)
        # until the history is changed nothing is deleted, and nothing needed ever is
        assert found == new or objects_of(storage) == objects_of(template)
        assert reachable_keys(storage, NOW_US) <= objects_of(storage)
        assert not is_done or objects_of(storage) == left
        again = Repository.open(storage)
        assert again.verify().errors == 0
        assert collect(again)
        assert objects_of(storage) == left
        assert history(storage) == new
    assert outcomes == {False, True}
    report = Repository.open(storage).verify(decode_chunks=True)
    assert {str(fault.kind) for fault in report.faults} <= {"operations-log-cut"}

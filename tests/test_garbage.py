"""`Repository.garbage_collect`, its plans, and what is left afterwards."""

import asyncio
import contextlib
import json
import math
import multiprocessing
import os
import pickle
import random
import threading
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import zarr

import icechunk
from icechunk import (
    ErrorKind,
    FormatError,
    GarbagePlan,
    GCSummary,
    ReadOnlyError,
    RepoAvailability,
    Repository,
    RepositoryConfig,
    RepoStatus,
    SnapshotNotFoundError,
    StorageError,
)
from icechunk.format.ids import decode_id, encode_id
from icechunk.format.layout import snapshot_key
from icechunk.format.manifest_files import ManifestFiles
from icechunk.format.refs_v1 import encode_ref, ref_key
from icechunk.format.repo_info import decode_repo_info
from icechunk.format.snapshot import decode_snapshot, encode_snapshot
from icechunk.ops.garbage.collect import collect, find
from icechunk.ops.garbage.delete import DeleteLimits
from icechunk.ops.garbage.plan import plan_of
from icechunk.ops.garbage.rule import Limits, Rule
from icechunk.ops.garbage.tell import teller
from icechunk.repo.times import from_datetime, to_datetime
from icechunk.testing import CountingStorage, FaultyStorage, StorageWrapper
from icechunk.testing.reachable import reachable_keys

FUTURE = datetime(2200, 1, 1, tzinfo=UTC)
PAST = datetime(2001, 1, 1, tzinfo=UTC)
NATIVE = RepositoryConfig(inline_chunk_threshold_bytes=0)
FOLDERS = ("snapshots", "transactions", "manifests", "chunks")


def keys(storage):
    """Keys of all objects that a collection may be about."""
    return {info.key for folder in FOLDERS for info in storage.list(folder + "/")}


def write(repo, row, branch="main"):
    """Open a session, and write a chunk that becomes an object."""
    session = repo.writable_session(branch)
    zarr.open_array(session.store, path="x")[row] = row
    return session


def commit(repo, row, branch="main"):
    return write(repo, row, branch).commit(f"row {row}")


def values(repo, **selector):
    session = repo.readonly_session(**(selector or {"branch": "main"}))
    return zarr.open_array(session.store, path="x", mode="r")[:].tolist()


def log_of(repo):
    return [type(update.kind).__name__.strip("_") for update in repo.ops_log()]


def make_old(storage, *chosen, to=PAST):
    """Have objects in memory look as if they had been stored long ago."""
    us = from_datetime(to)
    for key in chosen or list(storage._objects):
        storage._objects[key] = storage._objects[key]._replace(written_us=us)


@pytest.fixture
def storage():
    return icechunk.in_memory_storage()


def start(storage, **options):
    """Create a repository with an array whose chunks become objects."""
    repo = Repository.create(storage, config=NATIVE, **options)
    session = repo.writable_session("main")
    zarr.create_array(session.store, name="x", shape=(8,), chunks=(1,), dtype="i8", fill_value=-1)
    session.commit("start")
    return repo


@pytest.fixture
def repo(storage):
    return start(storage)


@pytest.fixture(scope="module")
def mess():
    """Three commits on main; a branch and a tag that are deleted, a reset, an amend, a flush,
    chunks of a session that never committed, and the snapshot of a fork."""
    storage = icechunk.in_memory_storage()
    repo = start(storage)
    base = commit(repo, 0)
    repo.create_branch("side", base)
    commit(repo, 1, "side")
    repo.create_tag("t", commit(repo, 2, "side"))
    repo.create_branch("kept", base)
    commit(repo, 3, "kept")
    commit(repo, 4)
    repo.reset_branch("main", base)
    write(repo, 5).commit("to amend")
    write(repo, 6).amend("amended")
    write(repo, 7).flush("aside")
    write(repo, 7)
    write(repo, 1).fork()
    repo.delete_branch("side")
    repo.delete_tag("t")
    return storage


@pytest.fixture
def messy(storage, mess):
    """A repository of its own with all of that."""
    storage._objects.update(mess._objects)
    storage._writes = mess._writes
    return Repository.open(storage)


def check_whole(repo, storage, young_us=None):
    """Nothing is stored but what is needed, all of that is, and nothing is wrong with it."""
    assert keys(storage) == reachable_keys(storage, young_us)
    report = repo.verify(decode_chunks=True)
    assert report.is_clean, report


def test_what_nothing_needs_goes(messy, storage):
    before, data = keys(storage), values(messy)
    sizes = {info.key: info.size for info in storage.list()}
    summary = messy.garbage_collect(FUTURE)
    gone = before - keys(storage)
    check_whole(messy, storage)
    assert values(messy) == data
    assert summary == GCSummary(
        bytes_deleted=sum(sizes[key] for key in gone),
        chunks_deleted=6,
        manifests_deleted=6,
        snapshots_deleted=6,
        transaction_logs_deleted=6,
    )
    counts = Counter(key.partition("/")[0] for key in gone)
    assert counts == {"chunks": 6, "manifests": 6, "snapshots": 6, "transactions": 6}
    assert log_of(messy)[0] == "GCRan"
    assert messy.garbage_collect(FUTURE) == GCSummary()
    assert log_of(messy)[:2] == ["GCRan", "GCRan"]


def test_nothing_is_old_enough(messy, storage):
    before = keys(storage)
    plan = messy.plan_garbage_collection(PAST)
    # Of the snapshots that nothing leads to one was never in the history: it alone is told of.
    assert (plan.num_objects, plan.dropped) == (0, ())
    assert plan.young_objects == 5  # with a log, a manifest and two chunks of sessions
    assert messy.garbage_collect(PAST) == GCSummary()
    assert keys(storage) == before
    assert len(decode_repo_info(storage.get("repo")).snapshots) == 10


def test_young_snapshots_stay_with_what_they_need(messy, storage):
    """Old garbage goes; a young snapshot that nothing leads to keeps old manifests and chunks."""
    detached = [
        info for info in decode_repo_info(storage.get("repo")).snapshots if info.message == "aside"
    ]
    make_old(storage)
    young = snapshot_key(detached[0].id)
    make_old(storage, young, to=datetime(2100, 1, 1, tzinfo=UTC))
    now = datetime.now(UTC)
    summary = messy.garbage_collect(now)
    assert summary.snapshots_deleted == 5
    assert young in keys(storage)
    check_whole(messy, storage, from_datetime(now))
    assert values(messy, snapshot_id=encode_id(detached[0].id))[7] == 7
    # it descends from its nearest ancestor that stays, and has inherited the logs in between
    entry = decode_repo_info(storage.get("repo")).snapshots.info(detached[0].id)
    root = list(messy.ancestry(branch="main"))[-1].id
    diff = messy.diff(from_snapshot_id=root, to_snapshot_id=encode_id(entry.id))
    assert [7] in diff.updated_chunks["/x"]
    make_old(storage, young)
    assert messy.garbage_collect(now).snapshots_deleted == 1
    check_whole(messy, storage)


def test_the_bound_is_exclusive(repo, storage):
    session = write(repo, 0)
    (key,) = (key for key in keys(storage) if key.startswith("chunks/"))
    when = datetime(2020, 5, 17, 1, 2, 3, 4, tzinfo=UTC)
    make_old(storage, key, to=when)
    assert repo.garbage_collect(when).chunks_deleted == 0
    assert repo.garbage_collect(when + timedelta(microseconds=1)).chunks_deleted == 1
    del session


def test_times_that_are_cut_to_seconds(repo, storage):
    """Object stores have them so: who began after the time given may seem to have begun before."""
    session = write(repo, 1)  # at 0.7 s, as it were
    make_old(storage, to=PAST)
    distant = StorageWrapper(storage)
    distant.is_local = False
    before = PAST + timedelta(seconds=0.5)
    far, near = Repository.open(distant), Repository.open(storage)
    assert far.garbage_collect(before) == GCSummary()
    assert near.plan_garbage_collection(before).chunks.num_bytes > 0  # times on disks are exact
    assert far.plan_garbage_collection(before + timedelta(seconds=1)).chunks.num_bytes > 0
    session.commit("late")
    check_whole(repo, storage)


@pytest.mark.parametrize("seed", range(6))
def test_random_histories(seed, repo, storage):
    """What is left is what a walk from reference to reference finds."""
    chance = random.Random(seed)
    known = [repo.lookup_branch("main")]
    for number in range(30):
        branch = chance.choice(sorted(repo.list_branches()))
        action = chance.choice(
            ["commit"] * 4
            + ["amend", "flush", "reset", "fork", "tag", "untag", "delete", "expire", "collect"]
        )
        row = chance.randrange(8)
        if action == "commit":
            known.append(commit(repo, row, branch))
        elif action == "amend" and len(list(repo.ancestry(branch=branch))) > 1:
            known.append(write(repo, row, branch).amend("amended"))
        elif action == "flush":
            known.append(write(repo, row, branch).flush("aside"))
        elif action == "fork":
            repo.create_branch(f"b{number}", chance.choice(known))
        elif action == "reset":
            repo.reset_branch(branch, chance.choice(known))
        elif action == "tag":
            repo.create_tag(f"t{number}", chance.choice(known))
        elif action == "untag" and repo.list_tags():
            repo.delete_tag(chance.choice(sorted(repo.list_tags())))
        elif action == "delete" and branch != "main":
            repo.delete_branch(branch)
        elif action == "expire":
            when = repo.lookup_snapshot(chance.choice(known)).written_at
            repo.expire_snapshots(when, delete_expired_tags=chance.random() < 0.5)
        elif action == "collect":
            # Old is what was stored before some of it, by the order of writes.
            writes = sorted((stored.written_us, key) for key, stored in storage._objects.items())
            bound = writes[chance.randrange(len(writes))][0]
            tips = [values(repo, branch=name) for name in sorted(repo.list_branches())]
            told = repo.garbage_collect(to_datetime(bound), dry_run=True)
            before = keys(storage)
            assert repo.garbage_collect(to_datetime(bound)) == told
            left = keys(storage)
            needed = reachable_keys(storage, bound)
            young = {key for us, key in writes if us >= bound}
            assert needed <= left
            assert before - left == before - needed - young
            assert tips == [values(repo, branch=name) for name in sorted(repo.list_branches())]
        table = decode_repo_info(storage.get("repo")).snapshots
        known = [snapshot for snapshot in known if decode_id(snapshot, 12) in table]
    repo.garbage_collect(FUTURE)
    check_whole(repo, storage)


def test_after_an_expiration(repo, storage):
    ids = [commit(repo, row) for row in range(4)]
    root = list(repo.ancestry(branch="main"))[-1].id
    before = repo.diff(from_snapshot_id=root, to_branch="main")
    repo.expire_snapshots(repo.lookup_snapshot(ids[3]).written_at)
    summary = repo.garbage_collect(FUTURE)
    assert (summary.snapshots_deleted, summary.transaction_logs_deleted) == (4, 0)
    assert repo.diff(from_snapshot_id=root, to_branch="main") == before
    check_whole(repo, storage)
    with pytest.raises(SnapshotNotFoundError):
        repo.readonly_session(snapshot_id=ids[0])


def test_other_files_stay(messy, storage):
    others = ["chunks/README", "chunks/" + "0" * 19, "chunks/sub/" + "0" * 20, "notes", "refs/x"]
    for key in others:
        storage.put(key, b"")
    messy.garbage_collect(FUTURE)
    assert all(storage.exists(key) for key in others)


@pytest.mark.parametrize("when", [datetime(2100, 1, 1), "2100-01-01", 5, None])
def test_times_have_zones(repo, when):
    for method in (repo.garbage_collect, repo.plan_garbage_collection):
        with pytest.raises(TypeError, match="datetime"):
            method(when)


@pytest.mark.parametrize(
    "limit",
    [
        "max_snapshots_in_memory",
        "max_compressed_manifest_mem_bytes",
        "max_decoded_manifest_mem_bytes",
        "max_concurrent_manifest_fetches",
        "max_concurrent_deletes",
        "max_consecutive_delete_failures",
        "max_concurrent_listings",
    ],
)
def test_limits_are_positive(messy, storage, limit):
    with pytest.raises(ValueError, match=limit):
        messy.garbage_collect(FUTURE, **{limit: 0})
    assert messy.garbage_collect(FUTURE, **{limit: 1}).chunks_deleted == 6
    check_whole(messy, storage)


def test_a_closed_repository(messy, storage):
    messy.set_status(RepoStatus(RepoAvailability.read_only))
    before = keys(storage)
    plan = messy.plan_garbage_collection(FUTURE)
    assert plan.num_objects == 24
    for attempt in (
        lambda: messy.garbage_collect(FUTURE),
        lambda: messy.run_garbage_collection(plan),
    ):
        with pytest.raises(ReadOnlyError) as caught:
            attempt()
        assert caught.value.kind == "read-only-repository"
    assert keys(storage) == before


def test_a_storage_that_is_only_read(messy, storage):
    reader = Repository.open(storage)
    storage.can_write = reader.storage.can_write = False
    assert reader.garbage_collect(FUTURE, dry_run=True).chunks_deleted == 6
    with pytest.raises(ReadOnlyError) as caught:
        reader.garbage_collect(FUTURE)
    assert caught.value.kind == "read-only-storage"


@pytest.mark.parametrize("what", ["snapshots", "manifests"])
@pytest.mark.parametrize("how", ["gone", "damaged"])
def test_nothing_goes_while_something_needed_cannot_be_read(messy, storage, what, how):
    victim = min(key for key in reachable_keys(storage) if key.startswith(what))
    if how == "gone":
        storage.delete([victim])
    else:
        storage.put(victim, storage.get(victim)[:60])
    before = keys(storage)
    reader = Repository.open(storage)
    with pytest.raises((StorageError, FormatError), match=victim):
        reader.garbage_collect(FUTURE)
    assert keys(storage) == before
    assert log_of(messy)[0] != "GCRan"


def test_manifests_that_a_snapshot_does_not_list(repo, storage, monkeypatch):
    key = f"snapshots/{commit(repo, 1)}"
    found = decode_snapshot(storage.get(key), key)
    with monkeypatch.context() as patch:
        patch.setattr(ManifestFiles, "is_exactly", lambda *_: True)
        storage.put(key, encode_snapshot(replace(found, manifest_files=())))
    before = keys(storage)
    assert Repository.open(storage).garbage_collect(FUTURE) == GCSummary()
    assert keys(storage) == before


def test_each_file_is_read_once(messy, storage):
    counting = CountingStorage(storage)
    repo = Repository.open(counting)
    counting.reset()
    repo.garbage_collect(FUTURE)
    needed = Counter(key.partition("/")[0] for key in reachable_keys(storage))
    assert counting.counts["get_range", "manifests"] == needed["manifests"]
    assert counting.counts["get", "snapshots"] == needed["snapshots"]
    assert counting.total("get", "get_range") == needed["manifests"] + needed["snapshots"]
    assert {key: n for key, n in counting.counts.items() if key[0] == "list"} == {
        ("list", "snapshots"): 2,  # once to see how old those are that nothing leads to
        ("list", "transactions"): 1,
        ("list", "manifests"): 1,
        ("list", "chunks"): 1,
    }


@pytest.mark.parametrize("most", [1, 2, 3])
def test_more_chunks_than_there_is_room_for(messy, storage, most, monkeypatch):
    monkeypatch.setattr("icechunk.ops.id_sets.MIN_MERGE", 1)
    told = messy.plan_garbage_collection(FUTURE)
    limits = Limits(max_ids=most)
    rule = Rule(from_datetime(FUTURE))
    counting = CountingStorage(storage)
    context = Repository.open(counting)._context
    assert plan_of(find(context, rule, limits, teller(None))) == told
    assert counting.counts["list", "chunks"] >= 4 / most
    collect(context, rule, limits, DeleteLimits(), teller(None))
    check_whole(messy, storage)


def test_progress(messy):
    told = []
    messy.garbage_collect(FUTURE, progress=told.append)
    assert {item.phase for item in told} == {"snapshots", "manifests", "listing", "deleting"}
    for phase in ("snapshots", "manifests", "deleting"):
        done = [item.done for item in told if item.phase == phase]
        assert done == sorted(done)
        assert done[-1] == next(item.total for item in told if item.phase == phase)


def test_coroutines(messy, storage):
    plan = asyncio.run(messy.plan_garbage_collection_async(FUTURE))
    assert asyncio.run(messy.garbage_collect_async(FUTURE, dry_run=True)) == plan.summary()
    assert asyncio.run(messy.run_garbage_collection_async(plan)) == plan.summary()
    assert asyncio.run(messy.garbage_collect_async(FUTURE)) == GCSummary()


@pytest.mark.parametrize("place", ["local"])
def test_on_disk(place, tmp_path):
    storage = icechunk.local_filesystem_storage(str(tmp_path / "repo"))
    repo = start(storage)
    commit(repo, 1)
    write(repo, 2).amend("instead")
    write(repo, 3)
    (tmp_path / "repo" / "chunks" / ("0" * 20)).mkdir()
    plan = repo.plan_garbage_collection(FUTURE)
    assert plan.summary() == repo.garbage_collect(FUTURE)
    assert plan.summary().chunks_deleted == 1
    check_whole(repo, storage)
    assert values(repo)[:4] == [-1, 1, 2, -1]


def test_on_an_object_store(s3_server):
    storage = s3_server.storage()
    repo = start(storage)
    for row in range(3):
        write(repo, row).amend(f"amended {row}")
    plan = repo.plan_garbage_collection(FUTURE)
    assert repo.garbage_collect(FUTURE) == plan.summary()
    assert (plan.summary().snapshots_deleted, plan.summary().manifests_deleted) == (3, 2)
    check_whole(repo, storage)


class TestPlans:
    def test_a_plan_changes_nothing(self, messy, storage):
        before = dict(storage._objects)
        plan = messy.plan_garbage_collection(FUTURE, backup_retention=timedelta(0))
        assert messy.garbage_collect(FUTURE, dry_run=True) == plan.summary() or plan.backups
        assert storage._objects == before
        objects = {key for found in plan.objects for key in found.keys}
        assert objects == keys(storage) - reachable_keys(storage)
        assert plan.num_objects == len(objects) + len(plan.backups)
        messages = [item.message for item in plan.dropped]
        assert messages == ["row 1", "row 2", "row 4", "to amend", "aside"]

    def test_as_json(self, messy):
        plan = messy.plan_garbage_collection(FUTURE, backup_retention=timedelta(0))
        assert plan.backups
        assert GarbagePlan.from_json(plan.to_json()) == plan
        assert GarbagePlan.from_json(plan.to_json().encode()) == plan
        assert pickle.loads(pickle.dumps(plan)) == plan

    @pytest.mark.parametrize(
        "change",
        [
            lambda plan: plan.pop("chunks"),
            lambda plan: plan.update(more=1),
            lambda plan: plan.update(version=2),
            lambda plan: plan["chunks"]["ids"].pop(),
            lambda plan: plan["chunks"]["ids"].__setitem__(0, "repo"),
            lambda plan: plan["chunks"]["sizes"].__setitem__(0, -1),
            lambda plan: plan["chunks"]["sizes"].__setitem__(0, "1"),
            lambda plan: plan["dropped"][0].update(id="../repo"),
            lambda plan: plan.update(older_than="2100-01-01"),
        ],
    )
    def test_json_of_something_else(self, messy, change):
        value = json.loads(messy.plan_garbage_collection(FUTURE).to_json())
        change(value)
        with pytest.raises(FormatError, match="garbage plan") as caught:
            GarbagePlan.from_json(json.dumps(value))
        assert caught.value.kind == "deserialization"

    def test_what_is_needed_since_stays(self, messy, storage):
        plan = GarbagePlan.from_json(messy.plan_garbage_collection(FUTURE).to_json())
        messy.create_tag("late", plan.dropped[1].id)  # and its parent with it
        messy.reset_branch("kept", plan.dropped[3].id)
        later = commit(messy, 2)
        left_since = write(messy, 3).flush("left since")
        data = values(messy, tag="late")
        summary = messy.run_garbage_collection(plan)
        assert summary.snapshots_deleted == 3
        assert values(messy, tag="late") == data
        assert messy.lookup_branch("main") == later
        assert values(messy, snapshot_id=left_since)[3] == 3
        assert messy.verify(decode_chunks=True).is_clean or "unreferenced" in str(messy.verify())
        messy.garbage_collect(FUTURE)
        check_whole(messy, storage)

    def test_a_plan_deletes_nothing_that_is_needed_whatever_it_says(self, messy, storage):
        value = json.loads(messy.plan_garbage_collection(FUTURE).to_json())
        everything = keys(storage)
        for name, folder in zip(
            ("snapshots", "transaction_logs", "manifests", "chunks"), FOLDERS, strict=True
        ):
            ids = sorted(key.split("/")[1] for key in everything if key.startswith(folder))
            value[name] = {"ids": ids, "sizes": [0] * len(ids), "modified_us": [0] * len(ids)}
        table = decode_repo_info(storage.get("repo")).snapshots
        value["dropped"] = [
            {"id": encode_id(entry.id), "written_at": "2001-01-01T00:00:00+00:00", "message": ""}
            for entry in table
        ]
        data = values(messy)
        messy.run_garbage_collection(GarbagePlan.from_json(json.dumps(value)))
        check_whole(messy, storage)
        assert values(messy) == data

    def test_run_twice(self, messy):
        plan = messy.plan_garbage_collection(FUTURE)
        assert messy.run_garbage_collection(plan) == plan.summary()
        assert messy.run_garbage_collection(plan) == GCSummary()

    def test_something_else_is_no_plan(self, repo):
        with pytest.raises(TypeError, match="GarbagePlan"):
            repo.run_garbage_collection(FUTURE)

    def test_text(self, messy):
        plan = messy.plan_garbage_collection(FUTURE)
        text = repr(plan)
        assert "5 snapshots that nothing leads to" in text
        assert "'row 1'" in text
        assert f"chunks: 6, {plan.chunks.num_bytes} bytes, stored from" in text
        assert "backups: none" in text
        assert "<GarbagePlan" not in text


class TestBackups:
    def names(self, storage):
        return sorted(info.key for info in storage.list("overwritten/"))

    def test_they_stay_by_default(self, messy, storage):
        before = self.names(storage)
        messy.garbage_collect(FUTURE)
        assert len(self.names(storage)) == len(before) + 1

    def test_old_ones_go_if_wanted(self, messy, storage):
        before = self.names(storage)
        sizes = sum(len(storage.get(key)) for key in before)
        others = messy.garbage_collect(FUTURE, dry_run=True)
        summary = messy.garbage_collect(FUTURE, backup_retention=timedelta(0))
        assert summary.backups_deleted == len(before)
        assert summary.bytes_deleted == others.bytes_deleted + sizes
        assert "backups_deleted" in repr(summary)
        assert len(self.names(storage)) == 1  # that of the collection itself
        report = messy.verify()
        assert {str(fault.kind) for fault in report.faults} == {"operations-log-cut"}
        assert log_of(messy)[0] == "GCRan"

    def test_none_goes_that_is_older_than_one_that_stays(self, messy, storage):
        """A clock that was ahead: names count down, so the last one is the oldest."""
        before = self.names(storage)
        make_old(storage, before[-3], to=FUTURE)
        summary = messy.garbage_collect(FUTURE, backup_retention=timedelta(0))
        assert summary.backups_deleted == 2
        assert set(self.names(storage)) > set(before[:-2])

    def test_recent_ones_stay(self, messy, storage):
        before = self.names(storage)
        assert (
            messy.garbage_collect(FUTURE, backup_retention=timedelta(days=1)).backups_deleted == 0
        )
        assert set(before) < set(self.names(storage))

    @pytest.mark.parametrize(("value", "error"), [(5, TypeError), (timedelta(-1), ValueError)])
    def test_odd_retentions(self, repo, value, error):
        with pytest.raises(error, match=r"timedelta|backup_retention"):
            repo.garbage_collect(FUTURE, backup_retention=value)


class TestOthersMeanwhile:
    """Everything that others do happens right when the history is to be changed."""

    @pytest.fixture
    def at_the_swap(self, storage):
        """Function that opens a repository which calls something before its next swap."""

        def make(*calls):
            pending = list(calls)

            class Busy(StorageWrapper):
                def _before(self, operation, key):
                    if operation == "put_if" and pending:
                        pending.pop(0)()

            return Repository.open(Busy(storage))

        return make

    def test_refs_to_garbage(self, messy, storage, at_the_swap):
        plan = messy.plan_garbage_collection(FUTURE)
        ids = [item.id for item in plan.dropped]
        repo = at_the_swap(
            lambda: messy.create_tag("one", ids[1]), lambda: messy.create_branch("two", ids[3])
        )
        repo.garbage_collect(FUTURE)
        check_whole(messy, storage)
        assert values(messy, tag="one")[:3] == [0, 1, 2]
        assert values(messy, branch="two")[5] == 5

    def test_commits_on_top_of_garbage(self, messy, storage, at_the_swap):
        """A branch is made at a snapshot that is to go, and committed to from a session of old."""
        ids = [item.id for item in messy.plan_garbage_collection(FUTURE).dropped]

        def others():
            messy.create_branch("two", ids[2])
            write(messy, 6, "two").commit("on top")
            messy.reset_branch("two", ids[3])

        at_the_swap(others).garbage_collect(FUTURE)
        # The commit itself is young, and stays with what it needs.
        messy.garbage_collect(datetime.now(UTC) - timedelta(hours=1))
        assert messy.verify(decode_chunks=True).errors == 0
        messy.garbage_collect(FUTURE)
        check_whole(messy, storage)
        assert values(messy, branch="two")[5] == 5

    def test_a_snapshot_aside_that_needs_garbage(self, messy, storage, at_the_swap):
        """A session on a branch that is gone writes a snapshot on a base that is to go."""
        messy.create_branch("old", messy.plan_garbage_collection(FUTURE).dropped[2].id)
        session = write(messy, 6, "old")
        messy.delete_branch("old")
        found = []
        repo = at_the_swap(lambda: found.append(session.flush("late")))
        repo.garbage_collect(FUTURE)
        assert values(messy, snapshot_id=found[0])[4] == 4
        assert messy.verify(decode_chunks=True).errors == 0

    def test_another_collection(self, messy, storage, at_the_swap):
        repo = at_the_swap(lambda: messy.garbage_collect(FUTURE))
        assert repo.garbage_collect(FUTURE).snapshots_deleted == 6  # none is left, which counts
        check_whole(messy, storage)

    def test_another_collection_while_it_is_looked_for(self, messy, storage):
        """What the state names is gone when it is read: it is looked for once more."""
        make_old(storage)
        doomed = messy.plan_garbage_collection(FUTURE).dropped[0].id
        messy.create_tag("short", doomed)
        pending = [True]

        class Busy(StorageWrapper):
            def _before(self, operation, key):
                if key == snapshot_key(decode_id(doomed, 12)) and pending:
                    pending.clear()
                    messy.delete_tag("short")
                    messy.garbage_collect(FUTURE)

        Repository.open(Busy(storage)).garbage_collect(FUTURE)
        assert not pending
        check_whole(messy, storage)

    def test_expirations(self, repo, storage, at_the_swap):
        for row in range(5):
            commit(repo, row)
        repo.create_tag("t", repo.lookup_branch("main"))
        commit(repo, 5)
        root = list(repo.ancestry(branch="main"))[-1].id
        before = repo.diff(from_snapshot_id=root, to_branch="main")
        at_the_swap(lambda: repo.expire_snapshots(FUTURE)).garbage_collect(FUTURE)
        assert repo.diff(from_snapshot_id=root, to_branch="main") == before
        repo.garbage_collect(FUTURE)
        check_whole(repo, storage)


class TestVersion1:
    """Where refs are files, and snapshots know their parents."""

    @pytest.fixture
    def repo(self, storage):
        return start(storage, spec_version=1)

    @pytest.fixture
    def messy(self, repo, storage):
        """A deleted branch, a reset, and two snapshots aside, one on top of what was reset."""
        base = commit(repo, 0)
        repo.create_branch("side", base)
        commit(repo, 1, "side")
        repo.create_tag("t", commit(repo, 2, "side"))
        repo.delete_branch("side")
        repo.delete_tag("t")
        commit(repo, 3)
        self.aside = write(repo, 4).flush("aside")
        repo.reset_branch("main", base)
        self.other = write(repo, 5).flush("another")
        return repo

    def counts(self, storage):
        return Counter(key.partition("/")[0] for key in keys(storage))

    def test_what_nothing_needs_goes(self, messy, storage):
        data = values(messy)
        plan = messy.plan_garbage_collection(FUTURE)
        assert (plan.dropped, plan.made_from) == ((), None)
        assert GarbagePlan.from_json(plan.to_json()) == plan
        assert messy.run_garbage_collection(plan) == plan.summary()
        assert plan.summary().snapshots_deleted == 5
        assert messy.garbage_collect(FUTURE) == GCSummary()
        # the first snapshot has no log
        assert self.counts(storage) == {
            "snapshots": 3,
            "transactions": 2,
            "manifests": 1,
            "chunks": 1,
        }
        assert values(messy) == data
        assert messy.verify(decode_chunks=True).is_clean

    def test_young_snapshots_stay_with_all_they_lead_to(self, messy, storage):
        make_old(storage)
        make_old(storage, f"snapshots/{self.aside}", to=datetime(2100, 1, 1, tzinfo=UTC))
        assert messy.garbage_collect(datetime.now(UTC)).snapshots_deleted == 3
        messy.create_branch("found", self.aside)
        assert values(messy, branch="found")[:5] == [0, -1, -1, 3, 4]
        assert [entry.message for entry in messy.ancestry(branch="found")][:2] == ["aside", "row 3"]
        assert messy.verify(decode_chunks=True).is_clean

    def test_a_young_snapshot_that_is_being_written(self, messy, storage):
        storage.put("snapshots/" + "0" * 20, b"ICE")
        make_old(storage)
        make_old(storage, "snapshots/" + "0" * 20, to=datetime(2100, 1, 1, tzinfo=UTC))
        assert messy.garbage_collect(datetime.now(UTC)).snapshots_deleted == 5
        assert storage.exists("snapshots/" + "0" * 20)

    def test_refs_to_garbage(self, messy, storage):
        """A tag is made after it was looked for garbage, right before it is deleted."""
        looks = []

        class Busy(StorageWrapper):
            def _before(self, operation, key):
                if (operation, key) == ("list", "chunks"):
                    looks.append(key)
                    messy.create_tag("late", self_.aside)

        self_ = self
        summary = Repository.open(Busy(storage)).garbage_collect(FUTURE)
        assert looks
        assert summary.snapshots_deleted == 3
        assert values(messy, tag="late")[:5] == [0, -1, -1, 3, 4]
        assert messy.verify(decode_chunks=True).is_clean

    def test_others_have_expired_what_is_remembered(self, repo, storage):
        ids = [commit(repo, row) for row in range(4)]
        assert len(list(repo.ancestry(branch="main"))) == 6
        other = Repository.open(storage)
        assert other.expire_snapshots(repo.lookup_snapshot(ids[3]).written_at)
        assert repo.garbage_collect(FUTURE).snapshots_deleted == 4
        assert repo.verify(decode_chunks=True).is_clean

    def test_others_expire_and_collect_between_any_two_requests(self, repo, storage):
        """What is read of histories then is of two times; it is looked for once more."""
        for row in range(2):
            commit(repo, row)
        tip = repo.lookup_branch("main")
        for name in "abc":
            repo.create_branch(name, tip)
            commit(repo, 3, name)
        objects, at, done = dict(storage._objects), 0, True

        class Busy(StorageWrapper):
            def _before(self, operation, key):
                nonlocal left
                if key.startswith("snapshots"):
                    left -= 1
                    if left == 0:
                        other = Repository.open(storage)
                        other.expire_snapshots(FUTURE)
                        other.garbage_collect(FUTURE)

        while done:
            storage._objects.clear()
            storage._objects.update(objects)
            left, at = at + 1, at + 1
            Repository.open(Busy(storage)).garbage_collect(FUTURE)
            done = left <= 0
            assert Repository.open(storage).verify().is_clean
        assert at > 10

    def test_nothing_goes_while_a_parent_is_gone(self, messy, storage):
        parent = list(messy.ancestry(branch="main"))[1].id
        storage.delete([f"snapshots/{parent}"])
        before = keys(storage)
        with pytest.raises(icechunk.IcechunkError, match=parent):
            Repository.open(storage).garbage_collect(FUTURE)
        assert keys(storage) == before

    def test_a_migrated_repository(self, messy, storage):
        before = keys(storage)
        storage.put("repo", b"")
        with pytest.raises(icechunk.SessionStateError, match="migrated"):
            messy.garbage_collect(FUTURE)
        assert keys(storage) == before

    def test_an_outdated_object_knows_no_garbage(self, messy, storage):
        """Refs are files no more, so nothing seems to be needed."""
        outdated = Repository.open(storage)
        icechunk.upgrade_icechunk_repository(messy, dry_run=False)
        with pytest.raises(icechunk.SessionStateError, match="migrated"):
            outdated.plan_garbage_collection(FUTURE)

    def test_a_life_beside_version_2(self, messy, storage):
        """A migration left the files of version 1, and somebody who knows no other goes on."""
        start = messy.lookup_branch("main")
        apart = icechunk.in_memory_storage()
        apart._objects.update(storage._objects)
        veteran = Repository.open(apart)
        new = icechunk.upgrade_icechunk_repository(
            messy, dry_run=False, delete_unused_v1_files=False
        )
        commit(new, 6)
        new.expire_snapshots(FUTURE)
        left = new.garbage_collect(FUTURE, dry_run=True)
        for row in (1, 2):
            commit(veteran, row)
        veteran.create_tag("late", start)
        storage._objects.update(apart._objects)
        new.garbage_collect(FUTURE)
        assert values(new)[:3] == [0, -1, -1]
        assert new.verify().is_clean
        storage.delete(["repo", *(info.key for info in storage.list("overwritten/"))])
        veteran = Repository.open(storage)
        report = veteran.verify(decode_chunks=True)
        assert not report.errors, str(report)
        assert values(veteran)[:3] == [0, 1, 2]

        # if nobody has gone on, these files tell of the past only
        assert left.snapshots_deleted == 7
        assert left.manifests_deleted > 0

    def test_nothing_goes_without_main(self, messy, storage):
        """As when the files of refs are the last to be copied back."""
        main = ref_key("branch", "main")
        held = storage.get(main)
        storage.delete([main])
        before = keys(storage)
        with pytest.raises(icechunk.RepositoryNotFoundError, match=main):
            messy.garbage_collect(FUTURE)
        assert keys(storage) == before
        storage.put(main, held)
        assert messy.garbage_collect(FUTURE).snapshots_deleted == 5

    def test_two_files_of_one_name(self, messy, storage):
        """Whichever of them is read when the branch is asked for."""
        messy.create_branch("a[b", messy.lookup_branch("main"))
        storage.put("refs/branch.a[b/ref.json", encode_ref(decode_id(self.aside, 12)))
        assert messy.lookup_branch("a[b") == messy.lookup_branch("main")
        assert messy.garbage_collect(FUTURE).snapshots_deleted == 3
        storage.delete([ref_key("branch", "a[b")])
        assert values(messy, branch="a[b")[:5] == [0, -1, -1, 3, 4]

    def test_stopped_anywhere(self, messy, storage):
        def copy():
            other = icechunk.in_memory_storage()
            other._objects.update(storage._objects)
            return other

        def collect_in(place):
            repo = Repository.open(place)
            with contextlib.suppress(StorageError):
                repo.garbage_collect(FUTURE, max_consecutive_delete_failures=3)

        clean = FaultyStorage(copy())
        collect_in(clean)
        effects = len(clean.effects)
        assert effects >= 15
        for fail_at in range(effects):
            place = copy()
            collect_in(FaultyStorage(place, fail_at=fail_at, sticky=True))
            again = Repository.open(place)
            assert again.verify().errors == 0
            assert values(again) == values(messy)
            again.garbage_collect(FUTURE)
            assert keys(place) == keys(clean.inner)


class TestFailures:
    def test_what_cannot_be_deleted_is_counted(self, messy, storage):
        plan = messy.plan_garbage_collection(FUTURE)
        stuck = plan.manifests.keys[2]

        class Stuck(StorageWrapper):
            def delete(self, keys):
                if stuck in (keys := list(keys)):
                    raise StorageError(f"cannot delete {stuck}", ErrorKind.STORAGE_OTHER)
                self.inner.delete(keys)

        summary = Repository.open(Stuck(storage)).garbage_collect(FUTURE)
        assert (summary.snapshots_deleted, summary.transaction_logs_deleted) == (6, 6)
        assert (summary.manifests_deleted, summary.chunks_deleted) == (5, 0)
        assert summary.objects_failed_to_delete == 1
        assert summary.delete_errors == [f"cannot delete {stuck}"]
        assert summary.skipped_phases == ["chunks"]
        assert storage.exists(stuck)
        again = messy.garbage_collect(FUTURE)
        assert (again.manifests_deleted, again.chunks_deleted) == (1, 6)
        check_whole(messy, storage)

    def test_giving_up(self, messy, storage):
        broken = FaultyStorage(storage, fail_at=0, operations=frozenset({"delete"}), sticky=True)
        repo = Repository.open(broken)
        with pytest.raises(StorageError) as caught:
            repo.garbage_collect(FUTURE, max_consecutive_delete_failures=4)
        assert caught.value.kind == "gc-deletes-failing"
        messy.garbage_collect(FUTURE)
        check_whole(messy, storage)

    def test_throttling(self, messy, storage, monkeypatch):
        """The store asks to be asked later; everything is deleted in the end."""
        pauses, refusals = [], [True, True, False, True]

        class Slow(StorageWrapper):
            def delete(self, keys):
                if refusals and refusals.pop(0):
                    raise StorageError("slow down", ErrorKind.THROTTLED)
                self.inner.delete(keys)

        repo = Repository.open(Slow(storage))
        repo._context.world = replace(repo._context.world, sleep=pauses.append)
        summary = repo.garbage_collect(FUTURE)
        assert (summary.throttled_batches, summary.objects_failed_to_delete) == (3, 0)
        assert (len(pauses), summary.delete_errors) == (3, [])
        check_whole(messy, storage)


def test_while_others_commit(tmp_path):
    """Threads commit to branches of their own and reset them while garbage is collected."""
    storage = icechunk.local_filesystem_storage(str(tmp_path / "repo"))
    repo = start(storage)
    base = repo.lookup_branch("main")
    failures, done = [], threading.Event()

    def work(number):
        try:
            own = Repository.open(storage)
            own.create_branch(f"b{number}", base)
            for turn in range(6):
                before = own.lookup_branch(f"b{number}")
                commit(own, turn, f"b{number}")
                if turn % 2:
                    own.reset_branch(f"b{number}", before)
                    commit(own, turn, f"b{number}")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        repo.garbage_collect(datetime.now(UTC) - timedelta(seconds=0.5))
        done.wait(0.05)
    for thread in threads:
        thread.join()
    assert not failures
    for number in range(2):
        assert values(repo, branch=f"b{number}") == [0, 1, 2, 3, 4, 5, -1, -1]
    repo.garbage_collect(FUTURE)
    check_whole(repo, storage)


def commit_and_fork(path, number, turns, begun):
    """In a process: commit to main, and to a branch of its own by forks; undo some of it."""
    repo = Repository.open(icechunk.local_filesystem_storage(path))
    branch = f"b{number}"
    for turn in range(turns):
        # Whoever collects garbage reads when the oldest session began that is to commit yet.
        begun[number] = time.time()
        session = repo.writable_session("main")
        zarr.open_array(session.store, path="y")[number, turn] = turn
        session.commit("to main", rebase_with=icechunk.ConflictDetector(), rebase_tries=1000)
        begun[number] = time.time()
        session = repo.writable_session(branch)
        forks = [session.fork() for _ in range(2)]
        for side, fork in enumerate(forks):
            zarr.open_array(fork.store, path="x")[2 * (turn % 4) + side] = turn
        session.merge(*pickle.loads(pickle.dumps(forks)))
        before = repo.lookup_branch(branch)
        made = session.commit("to a branch")
        if turn % 2:
            repo.reset_branch(branch, before)
            repo.reset_branch(branch, made)
            write(repo, 0, branch).amend("amended")
        begun[number] = math.inf


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_while_processes_commit(tmp_path):
    """Eight of them, on a local disk: no commit is lost, and nothing of what they leave is."""
    path, processes, turns = str(tmp_path / "repo"), 8, 3
    repo = Repository.create(icechunk.local_filesystem_storage(path), config=NATIVE)
    session = repo.writable_session("main")
    options = {"dtype": "i8", "fill_value": -1}
    zarr.create_array(session.store, name="x", shape=(8,), chunks=(1,), **options)
    zarr.create_array(session.store, name="y", shape=(processes, turns), chunks=(1, 1), **options)
    session.commit("start")
    for number in range(processes):
        repo.create_branch(f"b{number}", repo.lookup_branch("main"))
    for row in range(8):
        write(repo, row).flush("aside")
    time.sleep(0.5)
    context = multiprocessing.get_context("fork")
    begun = context.Array("d", [time.time()] * processes)
    workers = [
        context.Process(target=commit_and_fork, args=(path, number, turns, begun))
        for number in range(processes)
    ]
    for worker in workers:
        worker.start()
    deleted = 0
    while any(worker.is_alive() for worker in workers):
        # Files may be stamped a tick of the kernel's clock early.
        when = min(time.time(), *begun) - 0.2
        deleted += repo.garbage_collect(datetime.fromtimestamp(when, UTC)).chunks_deleted
        write(repo, 0).flush("aside")
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert deleted >= 8
    session = repo.readonly_session("main")
    found = zarr.open_array(session.store, path="y", mode="r")[:]
    assert found.tolist() == [list(range(turns))] * processes
    for number in range(processes):
        assert values(repo, branch=f"b{number}")[1:] == [0, 1, 1, 2, 2, -1, -1]
    assert repo.garbage_collect(FUTURE).objects_failed_to_delete == 0
    report = repo.verify(read_chunks=True)
    assert report.is_clean, report
    history = [entry.message for entry in repo.ancestry(branch="main")]
    assert history.count("to main") == processes * turns

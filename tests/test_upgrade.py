"""Upgrading a repository from version 1 of the format: what users call, see and are told."""

import logging
import threading
import time
from datetime import UTC, datetime

import pytest
import zarr

import icechunk
from icechunk import (
    ConflictError,
    ErrorKind,
    FormatError,
    ReadOnlyError,
    Repository,
    RepositoryConfig,
    SessionStateError,
    SnapshotNotFoundError,
    upgrade_icechunk_repository,
)
from icechunk.format.ids import encode_id
from icechunk.format.layout import REPO
from icechunk.format.refs_v1 import encode_ref, ref_key
from icechunk.repo.status import RepoAvailability
from icechunk.testing import FaultyStorage
from icechunk.testing.wrapper import StorageWrapper

FUTURE = datetime(2200, 1, 1, tzinfo=UTC)
INVALIDATED = "invalidated by upgrade_icechunk_repository"


@pytest.fixture
def old(storage):
    """A repository of version 1, with a commit on main, a branch and tags with odd names."""
    config = RepositoryConfig(inline_chunk_threshold_bytes=7)
    repo = Repository.create(storage, config, spec_version=1)
    repo.save_config()
    session = repo.writable_session("main")
    zarr.create_array(session.store, name="x", shape=(2,), chunks=(1,), dtype="i4")[:] = [1, 2]
    tip = session.commit("first", {"by": "me"})
    repo.create_branch("side #2", tip)
    repo.create_tag("ü", tip)
    repo.create_tag("100%", tip)
    repo.delete_tag("100%")
    return repo


def contents(storage):
    return {item.key: storage.get(item.key) for item in storage.list()}


def refused(call, error, kind, *said):
    with pytest.raises(error) as caught:
        call()
    assert caught.value.kind == kind
    for text in said:
        assert text in caught.value.message


def test_all_is_there_and_goes_on(old, storage):
    tip = old.lookup_branch("main")
    session = old.writable_session("main")
    new = upgrade_icechunk_repository(old, dry_run=False)
    assert new.spec_version == icechunk.SpecVersion.v2
    assert new.list_branches() == {"main", "side #2"}
    assert new.list_tags() == {"ü"}
    assert {new.lookup_branch("main"), new.lookup_branch("side #2"), new.lookup_tag("ü")} == {tip}
    assert [entry.message for entry in new.ancestry(tag="ü")] == [
        "first",
        "Repository initialized",
    ]
    assert new.lookup_snapshot(tip).metadata == {"by": "me"}
    assert new.config.inline_chunk_threshold_bytes == 7
    assert Repository.open(storage).config.inline_chunk_threshold_bytes == 7
    assert new.status.availability == RepoAvailability.online
    assert [type(entry.kind).__name__ for entry in new.ops_log()] == [
        "RepoMigrated",
        "TagDeleted",
        "TagCreated",
        "TagCreated",
        "BranchCreated",
        "NewCommit",
        "RepoInitialized",
    ]
    refused(
        lambda: new.create_tag("100%", tip),
        icechunk.IcechunkError,
        ErrorKind.TAG_PREVIOUSLY_DELETED,
    )
    assert not [key for key in contents(storage) if key.startswith(("refs", "config"))]
    assert Repository.verify_storage(storage).is_clean
    # a session of version 1 that was open cannot commit any more, and one of version 2 can
    zarr.open_array(session.store, path="x")[0] = 9
    with pytest.raises(SessionStateError, match="migrated to spec version 2"):
        session.commit("late")
    session = new.writable_session("side #2")
    zarr.open_array(session.store, path="x")[0] = 3
    assert new.diff(from_snapshot_id=tip, to_snapshot_id=session.commit("more")).updated_chunks
    assert Repository.verify_storage(storage, read_chunks=True).is_clean


def test_the_former_object_is_of_no_use(old):
    new = upgrade_icechunk_repository(old, dry_run=False)
    for use in (
        lambda: old.spec_version,
        lambda: old.config,
        lambda: old.storage,
        lambda: old.default_commit_metadata(),
        old.list_branches,
        old.reopen,
        old.__reduce__,
        lambda: old.writable_session("main"),
        lambda: upgrade_icechunk_repository(old, dry_run=False),
        lambda: upgrade_icechunk_repository(old, dry_run=True),
    ):
        with pytest.raises(RuntimeError, match=INVALIDATED):
            use()
    assert INVALIDATED in repr(old)
    assert INVALIDATED in old._repr_html_()
    with pytest.raises(AttributeError, match="no attribute 'missing'"):
        _ = new.missing


def test_a_dry_run_changes_nothing_and_says_what_would(old, storage, caplog):
    before = contents(storage)
    with caplog.at_level(logging.INFO, logger="icechunk"):
        same = upgrade_icechunk_repository(old, dry_run=True)
    assert contents(storage) == before
    assert same.spec_version == old.spec_version == icechunk.SpecVersion.v1
    assert "nothing was changed" in caplog.text
    plan = old.plan_upgrade()
    tip = old.lookup_branch("main")
    assert repr(plan) in caplog.text
    assert repr(plan) == (
        "<icechunk.ops.UpgradePlan>\n"
        "writes_state: True\n"
        "resumes: False\n"
        f"branches:\n    2 branches\n    main at {tip}\n    side #2 at {tip}\n"
        f"tags:\n    1 tags\n    ü at {tip}\n"
        "deleted_tags:\n    1 tags\n    100%\n"
        "snapshots: 2\n"
        "log_entries: 7\n"
        "has_config: True\n"
        "deletes:\n"
        "    6 files\n"
        "    refs/branch.main/ref.json\n"
        "    refs/branch.side %232/ref.json\n"
        "    refs/tag.%C3%BC/ref.json\n"
        "    refs/tag.100%25/ref.json\n"
        "    refs/tag.100%25/ref.json.deleted\n"
        "    ... and 1 more\n"
        "stays: none\n"
    )
    assert old.plan_upgrade(delete_unused_v1_files=False).deletes == ()
    assert contents(storage) == before


def test_what_is_of_version_2_already(repo, storage):
    for call in (
        lambda: upgrade_icechunk_repository(repo, dry_run=False),
        lambda: upgrade_icechunk_repository(repo, dry_run=True),
        repo.plan_upgrade,
    ):
        refused(
            call,
            SessionStateError,
            ErrorKind.INVALID_REPOSITORY_MIGRATION,
            "nothing to upgrade",
        )
    assert repo.list_branches() == {"main"}


def test_files_that_stay_can_be_deleted_later(old, storage):
    tip = old.lookup_branch("main")
    before = contents(storage)
    new = upgrade_icechunk_repository(old, dry_run=False, delete_unused_v1_files=False)
    assert contents(storage) == before | {REPO: storage.get(REPO)}
    refused(
        lambda: upgrade_icechunk_repository(new, dry_run=False, delete_unused_v1_files=False),
        SessionStateError,
        ErrorKind.INVALID_REPOSITORY_MIGRATION,
    )
    # refs that were deleted or moved in version 2 are known to its log
    new.delete_branch("side #2")
    session = new.writable_session("main")
    zarr.open_array(session.store, path="x")[1] = 3
    moved = session.commit("on")
    plan = new.plan_upgrade()
    assert (plan.writes_state, len(plan.deletes), plan.deletes[0]) == (
        False,
        6,
        ref_key("branch", "main"),
    )
    assert "snapshots" not in repr(plan)
    again = upgrade_icechunk_repository(new, dry_run=False)
    assert again.list_branches() == {"main"}
    assert again.lookup_branch("main") == moved != tip
    assert not [key for key in contents(storage) if key.startswith(("refs", "config"))]


def test_files_that_say_something_else_stay(old, storage):
    tip = old.lookup_branch("main")
    new = upgrade_icechunk_repository(old, dry_run=False, delete_unused_v1_files=False)
    unknown = bytes(range(12))
    storage.put(ref_key("branch", "main"), encode_ref(unknown))
    storage.put(ref_key("tag", "late"), storage.get(ref_key("tag", "ü")))
    before = contents(storage)
    refused(
        lambda: upgrade_icechunk_repository(new, dry_run=False),
        SessionStateError,
        ErrorKind.INVALID_REPOSITORY_MIGRATION,
        f"branch `main` at {encode_id(unknown)} ({ref_key('branch', 'main')})",
        f"tag `late` at {tip} ({ref_key('tag', 'late')})",
        "then delete these files",
    )
    assert contents(storage) == before


def test_files_of_others_are_left_alone(old, storage):
    storage.put("refs/README", b"")
    storage.put("refs/branch.x/ref.json.deleted", b"")
    assert old.plan_upgrade().stays == ("refs/README", "refs/branch.x/ref.json.deleted")
    upgrade_icechunk_repository(old, dry_run=False)
    assert [key for key in contents(storage) if key.startswith("refs")] == [
        "refs/README",
        "refs/branch.x/ref.json.deleted",
    ]


class ReadOnly(StorageWrapper):
    """Says that it cannot be written."""

    def __init__(self, inner):
        super().__init__(inner)
        self.can_write = False


def test_read_only_storage(old, storage):
    before = contents(storage)
    repo = Repository.open(ReadOnly(storage))
    assert repo.plan_upgrade().snapshots == 2
    refused(
        lambda: upgrade_icechunk_repository(repo, dry_run=False),
        ReadOnlyError,
        ErrorKind.READ_ONLY_STORAGE,
    )
    assert repo.spec_version == icechunk.SpecVersion.v1
    assert contents(storage) == before


def test_an_interrupted_upgrade_leaves_what_can_be_read(old, storage):
    """What was written so far is a repository of version 2 that takes no changes."""
    broken = FaultyStorage(storage, fail_at=2, sticky=True)  # retiring the first branch
    with pytest.raises(icechunk.StorageError, match="injected"):
        upgrade_icechunk_repository(Repository.open(broken), dry_run=False)
    half = Repository.open(storage)
    assert half.spec_version == icechunk.SpecVersion.v2
    assert half.status.availability == RepoAvailability.read_only
    with pytest.raises(ReadOnlyError, match="run upgrade_icechunk_repository again"):
        half.create_branch("new", half.lookup_branch("main"))
    assert half.plan_upgrade().resumes
    whole = upgrade_icechunk_repository(half, dry_run=False)
    assert whole.status.availability == RepoAvailability.online
    whole.create_branch("new", whole.lookup_branch("main"))


DAMAGE = {
    "a branch": (ref_key("branch", "side #2"), b"{}", FormatError, "branch.side %232"),
    "a tag": (ref_key("tag", "ü"), b"", FormatError, "tag.%C3%BC"),
    "a dangling branch": (
        ref_key("branch", "side #2"),
        encode_ref(bytes(12)),
        SnapshotNotFoundError,
        encode_id(bytes(12)),
    ),
    "the configuration": ("config.yaml", b"nonsense: [", FormatError, "config.yaml"),
    "two files of one tag": (
        "refs/tag.ü/ref.json",  # as it is called where names are not spelled
        encode_ref(bytes(12)),
        FormatError,
        "has two files",
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damaged_repositories_are_not_upgraded(old, storage, what):
    key, data, error, said = DAMAGE[what]
    storage.put(key, data)
    before = contents(storage)
    for dry_run in (True, False):
        with pytest.raises(error) as caught:
            upgrade_icechunk_repository(old, dry_run=dry_run)
        assert said in caught.value.message
    assert contents(storage) == before


def test_a_damaged_deleted_tag_is_still_deleted(old, storage):
    storage.put(ref_key("tag", "100%"), b"")
    new = upgrade_icechunk_repository(old, dry_run=False)
    with pytest.raises(icechunk.AlreadyExistsError, match="deleted"):
        new.create_tag("100%", new.lookup_branch("main"))
    assert not any("100%" in str(entry.kind) for entry in new.ops_log())


def test_a_commit_meanwhile_wins(old, storage):
    class Overtaken(StorageWrapper):
        def _before(self, operation, key):
            if (operation, key) == ("put_if", REPO) and not self.inner.exists(REPO):
                session = old.writable_session("main")
                zarr.open_array(session.store, path="x")[0] = 5
                session.commit("meanwhile")

    repo = Repository.open(Overtaken(storage))
    refused(
        lambda: upgrade_icechunk_repository(repo, dry_run=False),
        ConflictError,
        ErrorKind.REPO_INFO_UPDATED,
        "branch `main`",
        "try again",
    )
    assert repo.spec_version == icechunk.SpecVersion.v1
    assert next(iter(Repository.open(storage).ancestry(branch="main"))).message == "meanwhile"
    new = upgrade_icechunk_repository(old, dry_run=False)
    assert next(iter(new.ancestry(branch="main"))).message == "meanwhile"


def test_snapshots_that_are_collected_meanwhile(old, storage):
    """Their refs are where they were, but the history that was read is not there any more."""
    for number in range(3):
        session = old.writable_session("main")
        zarr.open_array(session.store, path="x")[0] = number
        session.commit(f"more {number}")
    tip = old.lookup_snapshot(old.lookup_branch("main"))
    other = Repository.open(storage)

    class Collected(StorageWrapper):
        def _before(self, operation, key):
            if (operation, key) == ("put_if", REPO) and not self.inner.exists(REPO):
                other.expire_snapshots(tip.written_at)
                other.garbage_collect(FUTURE)

    repo = Repository.open(Collected(storage))
    refused(
        lambda: upgrade_icechunk_repository(repo, dry_run=False),
        ConflictError,
        ErrorKind.REPO_INFO_UPDATED,
        "and 1 more expired",
        "try again",
    )
    new = upgrade_icechunk_repository(Repository.open(storage), dry_run=False)
    assert new.lookup_branch("main") == tip.id
    new.garbage_collect(FUTURE)
    assert new.verify().is_clean


def test_an_expiration_ends_where_an_upgrade_begins(old, storage):
    """Before it has written anything, if it has not begun to write."""
    session = old.writable_session("main")
    zarr.open_array(session.store, path="x")[0] = 7
    session.commit("last")
    before = {key: data for key, data in contents(storage).items() if key.startswith("snapshots/")}
    at = []

    class Slow(StorageWrapper):
        def _before(self, operation, key):
            if key.startswith("snapshots/") and not at:
                at.append(upgrade_icechunk_repository(Repository.open(self.inner), dry_run=False))

    repo = Repository.open(Slow(storage))
    with pytest.raises(SessionStateError):
        repo.expire_snapshots(FUTURE)
    assert at[0].verify().is_clean
    assert contents(storage).items() >= before.items()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"dry_run": 1}, TypeError),
        ({"dry_run": False, "delete_unused_v1_files": None}, TypeError),
        ({"dry_run": False, "prefetch_concurrency": 0}, ValueError),
        ({"dry_run": True, "prefetch_concurrency": "4"}, TypeError),
        ({}, TypeError),
    ],
)
def test_bad_arguments(old, storage, arguments, error):
    with pytest.raises(error):
        upgrade_icechunk_repository(old, **arguments)
    with pytest.raises(TypeError, match="Repository"):
        upgrade_icechunk_repository(storage, dry_run=True)
    assert not storage.exists(REPO)


def test_nothing_that_was_committed_meanwhile_is_lost(old, storage):
    """Two commit to version 1 for as long as they can, and one upgrades until nobody intervenes."""
    committed, errors, begun = [], [], threading.Barrier(3)

    def write(branch):
        repo = Repository.open(storage)
        begun.wait()
        try:
            for number in range(1000):
                session = repo.writable_session(branch)
                zarr.open_array(session.store, path="x")[0] = number
                committed.append((branch, session.commit(f"{branch} {number}")))
        except icechunk.IcechunkError as error:
            errors.append(error)

    branches = ("main", "side #2")
    threads = [threading.Thread(target=write, args=(branch,)) for branch in branches]
    for thread in threads:
        thread.start()
    begun.wait()
    tries = 0
    while True:
        tries += 1
        try:
            new = upgrade_icechunk_repository(Repository.open(storage), dry_run=False)
            break
        except ConflictError:
            assert tries < 1000
    for thread in threads:
        thread.join()
    histories = {branch: {entry.id for entry in new.ancestry(branch=branch)} for branch in branches}
    assert [item for item in committed if item[1] not in histories[item[0]]] == []
    assert len(errors) == 2
    assert Repository.verify_storage(storage).is_clean


class FarAway(StorageWrapper):
    """Says that it is not on this machine, and notes how many snapshots are read at once."""

    def __init__(self, inner):
        super().__init__(inner)
        self.is_local = False
        self.reading, self.most, self.keys = 0, 0, []
        self.lock = threading.Lock()

    def get(self, key):
        if not key.startswith("snapshots/"):
            return self.inner.get(key)
        with self.lock:
            self.reading += 1
            self.most = max(self.most, self.reading)
            self.keys.append(key)
        time.sleep(0.002)
        data = self.inner.get(key)
        with self.lock:
            self.reading -= 1
        return data


@pytest.mark.parametrize("at_once", [None, 3])
def test_histories_far_away_are_read_at_once(old, storage, at_once):
    for number in range(20):
        session = old.writable_session("main")
        zarr.open_array(session.store, path="x")[0] = number
        session.commit(f"commit {number}")
    damaged = "snapshots/" + encode_id(bytes(12))
    storage.put(damaged, b"nothing leads to it")
    far = FarAway(storage)
    plan = Repository.open(far).plan_upgrade(prefetch_concurrency=at_once)
    assert plan.snapshots == 22
    assert sorted(far.keys) == sorted(key for key in contents(storage) if "snapshots/" in key)
    assert 1 < far.most <= (at_once or 32)
    new = upgrade_icechunk_repository(
        Repository.open(far), dry_run=False, prefetch_concurrency=at_once
    )
    assert len(list(new.ancestry(branch="main"))) == 22
    assert storage.exists(damaged)

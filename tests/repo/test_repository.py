"""The public `Repository`, on memory and on a local directory."""

import copy
import os
import pickle
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from icechunk.config import (
    CachingConfig,
    CompressionConfig,
    RepositoryConfig,
    StorageRetriesSettings,
    StorageSettings,
)
from icechunk.errors import (
    AlreadyExistsError,
    ConflictError,
    FormatError,
    InvalidInputError,
    ReadOnlyError,
    RefNotFoundError,
    RepositoryNotFoundError,
    SessionStateError,
    SnapshotNotFoundError,
    StorageError,
)
from icechunk.format.ids import encode_id
from icechunk.format.repo_info import decode_repo_info, encode_repo_info
from icechunk.format.snapshot import Snapshot
from icechunk.format.snapshot_table import SnapshotEntry, SnapshotTable
from icechunk.ops import Update, UpdateType
from icechunk.repo.updates import AddSnapshot
from icechunk.repository import Repository, SpecVersion
from icechunk.snapshots import ManifestFileInfo, SnapshotInfo
from icechunk.storage.local import LocalStorage
from icechunk.storage.memory import MemoryStorage
from icechunk.testing.wrapper import StorageWrapper

INITIAL = "1CECHNKREP0F1RSTCMT0"
NOWHERE = "0" * 20
GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(params=["memory", "local"])
def storage(request, tmp_path):
    if request.param == "memory":
        return MemoryStorage()
    return LocalStorage(str(tmp_path / "repo"), durable=False)


@pytest.fixture
def repo(storage):
    return Repository.create(storage)


def commit(repo, message="a commit", branch="main", **metadata):
    """Commit an empty snapshot, without a session."""
    context = repo._context
    tip = context.info().branches[branch]
    base = context.assets.snapshot(tip)
    snapshot = Snapshot(
        id=os.urandom(12),
        parent_id=None,
        nodes=base.nodes,
        flushed_at=max(context.world.now_us(), base.flushed_at + 1),
        message=message,
        metadata=metadata,
    )
    context.assets.save_snapshot(snapshot)
    entry = SnapshotEntry(snapshot.id, tip, snapshot.flushed_at, message, metadata)
    context.update(AddSnapshot(branch, entry, tip))
    return encode_id(snapshot.id)


def keys(storage):
    return {item.key for item in storage.list()}


class TestCreate:
    def test_writes_three_objects(self, repo, storage):
        assert keys(storage) == {"repo", f"snapshots/{INITIAL}", f"transactions/{INITIAL}"}
        assert repo.list_branches() == {"main"}
        assert repo.list_tags() == set()
        assert repo.lookup_branch("main") == INITIAL
        assert repo.spec_version == 2
        assert repo.storage is storage
        [first] = repo.ancestry(branch="main")
        assert (first.id, first.parent_id) == (INITIAL, None)
        assert first.message == "Repository initialized"
        assert first.metadata == {"__icechunk": {"is_root": True}}
        assert abs(datetime.now(UTC) - first.written_at) < timedelta(minutes=1)
        [update] = repo.ops_log()
        assert update.kind == UpdateType.RepoInitialized()

    def test_twice(self, repo, storage):
        before = storage.get("repo")
        with pytest.raises(InvalidInputError) as caught:
            Repository.create(storage)
        assert caught.value.kind == "parent-directory-not-clean"
        with pytest.raises(ConflictError) as conflict:
            Repository.create(storage, check_clean_root=False)
        assert conflict.value.kind == "repo-info-updated"
        assert storage.get("repo") == before

    def test_among_other_files(self, storage):
        storage.put("other/file", b"x")
        with pytest.raises(InvalidInputError, match="clean prefixes"):
            Repository.create(storage)
        Repository.create(storage, check_clean_root=False)
        assert Repository.exists(storage)

    def test_after_an_interrupted_attempt(self, faulty):
        for effect in range(4):
            for after in (False, True):
                faulty.arm(effect, after=after)
                if Repository.exists(faulty):
                    break
                with pytest.raises(StorageError, match="injected"):
                    Repository.create(faulty)
                assert Repository.exists(faulty) == (effect == 3 and after)
        faulty.arm(None)
        assert Repository.open(faulty).lookup_branch("main") == INITIAL

    def test_read_only_storage(self, storage):
        storage.can_write = False
        with pytest.raises(ReadOnlyError) as caught:
            Repository.create(storage)
        assert caught.value.kind == "read-only-storage"
        assert keys(storage) == set()

    def test_bucket_root(self):
        class Bucket(MemoryStorage):
            prefix_is_empty = True

        with pytest.raises(InvalidInputError, match="empty prefix") as caught:
            Repository.create(Bucket())
        assert caught.value.kind == "empty-prefix-creation"

    @pytest.mark.parametrize("version", [None, 2, SpecVersion.v2])
    def test_version_2(self, storage, version):
        assert Repository.create(storage, spec_version=version).spec_version == SpecVersion.v2

    @pytest.mark.parametrize(
        ("version", "error", "text"),
        [
            (255, ValueError, "Unsupported version 255"),
            ("2", ValueError, "Couldn't parse a valid version"),
            (2.0, ValueError, "Couldn't parse a valid version"),
            (True, ValueError, "Couldn't parse a valid version"),
        ],
    )
    def test_other_versions(self, storage, version, error, text):
        with pytest.raises(error, match=text):
            Repository.create(storage, spec_version=version)
        assert keys(storage) == set()

    def test_many_at_once(self, storage):
        made, refused = [], []

        def create():
            try:
                made.append(Repository.open_or_create(storage))
            except Exception as error:
                refused.append(error)

        threads = [threading.Thread(target=create) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not refused
        assert len(made) == 6
        assert [update.kind for update in made[0].ops_log()] == [UpdateType.RepoInitialized()]


class TestOpen:
    def test_nothing_there(self, storage):
        assert not Repository.exists(storage)
        for method in (Repository.open, Repository.fetch_config):
            with pytest.raises(RepositoryNotFoundError, match="the repository doesn't exist"):
                method(storage)

    def test_missing_directory_is_not_made(self, tmp_path):
        path = tmp_path / "missing"
        with pytest.raises(RepositoryNotFoundError):
            Repository.open(LocalStorage(str(path)))
        assert not Repository.exists(LocalStorage(str(path)))
        assert not path.exists()

    def test_sees_the_same(self, repo, storage):
        first = commit(repo)
        again = Repository.open(storage)
        assert again.lookup_branch("main") == first
        assert [s.id for s in again.ancestry(branch="main")] == [first, INITIAL]

    def test_open_or_create(self, storage):
        first = Repository.open_or_create(storage)
        tip = commit(first)
        assert Repository.open_or_create(storage).lookup_branch("main") == tip
        assert Repository.open_or_create(storage, create_version=1).spec_version == 2

    def test_open_or_create_in_a_dirty_place(self, storage):
        storage.put("other", b"")
        with pytest.raises(InvalidInputError):
            Repository.open_or_create(storage)
        Repository.open_or_create(storage, check_clean_root=False)

    def test_damaged(self, repo, storage):
        storage.put("repo", storage.get("repo")[:60])
        with pytest.raises(FormatError, match="repo"):
            Repository.open(storage)

    def test_costs_one_request(self, repo, storage, monkeypatch):
        calls = []
        for name in ("get", "get_versioned", "get_if_changed", "head", "list", "get_range"):
            real = getattr(type(storage), name)
            monkeypatch.setattr(
                type(storage),
                name,
                lambda self, *args, name=name, real=real: calls.append(name) or real(self, *args),
            )
        Repository.open(storage)
        assert calls in (["get_versioned"], ["get_versioned", "get"])


class TestGolden:
    @pytest.mark.parametrize("name", ["reference-v1", "reference-v2"])
    def test_history_and_refs(self, name):
        repo = Repository.open(LocalStorage(str(GOLDEN / name)))
        assert repo.list_branches() == {"main"}
        assert repo.list_tags() == {"v1"}
        second, first, root = repo.ancestry(branch="main")
        assert [s.message for s in (second, first)] == ["second commit", "first commit"]
        assert second.metadata == {"author": "me", "n": 3, "f": 1.5, "l": [1, "a", None, True]}
        assert second.parent_id == first.id == repo.lookup_tag("v1")
        assert root.id == INITIAL
        assert repo.lookup_snapshot(second.id) == second

    def test_operations_log_and_manifests(self):
        repo = Repository.open(LocalStorage(str(GOLDEN / "reference-v2")))
        second, _, root = repo.ancestry(branch="main")
        assert [type(update.kind).__name__ for update in repo.ops_log()] == [
            "NewCommit",
            "TagCreated",
            "NewCommit",
            "RepoInitialized",
        ]
        files = repo.list_manifest_files(second.id)
        assert len(files) == 2
        assert [file.id for file in files] == sorted(file.id for file in files)
        for file in files:
            path = GOLDEN / "reference-v2" / "manifests" / file.id
            assert file.size_bytes == path.stat().st_size
        assert repo.list_manifest_files(root.id) == []


class TestHistory:
    def test_ancestry(self, repo):
        one = commit(repo, "one", k=[1, {"a": None}])
        two = commit(repo, "two")
        repo.create_tag("t", one)
        assert [s.id for s in repo.ancestry(branch="main")] == [two, one, INITIAL]
        assert [s.id for s in repo.ancestry(tag="t")] == [one, INITIAL]
        assert [s.id for s in repo.ancestry(snapshot_id=INITIAL)] == [INITIAL]
        newest, middle, _ = repo.ancestry(branch="main")
        assert newest == repo.lookup_snapshot(two)
        assert middle.metadata == {"k": [1, {"a": None}]}
        assert newest.parent_id == middle.id
        assert newest.written_at > middle.written_at

    async def test_ancestry_is_async_too(self, repo):
        one = commit(repo)
        assert [s.id async for s in repo.ancestry(branch="main")] == [one, INITIAL]
        assert [type(u.kind).__name__ async for u in repo.ops_log()] == [
            "NewCommit",
            "RepoInitialized",
        ]

    @pytest.mark.parametrize(
        "selector", [{}, {"branch": "main", "tag": "t"}, {"tag": "t", "snapshot_id": INITIAL}]
    )
    def test_exactly_one_selector(self, repo, selector):
        for method in (repo.ancestry, repo.readonly_session):
            with pytest.raises(ValueError, match="Must provide one of branch, tag, or snapshot_id"):
                method(**selector)

    @pytest.mark.parametrize("text", ["", "x", INITIAL[:-1], INITIAL + "0", "U" * 20, "é" * 20])
    def test_invalid_ids(self, repo, text):
        for call in (
            lambda: repo.lookup_snapshot(text),
            lambda: repo.list_manifest_files(text),
            lambda: repo.ancestry(snapshot_id=text),
            lambda: repo.readonly_session(snapshot_id=text),
            lambda: repo.create_branch("b", text),
            lambda: repo.create_tag("t", text),
            lambda: repo.reset_branch("main", text),
            lambda: repo.reset_branch("main", INITIAL, from_snapshot_id=text),
        ):
            with pytest.raises(InvalidInputError, match="invalid snapshot id") as caught:
                call()
            assert caught.value.kind == "invalid-snapshot-id"

    def test_unknown_ids(self, repo):
        for call in (
            lambda: repo.lookup_snapshot(NOWHERE),
            lambda: repo.list_manifest_files(NOWHERE),
            lambda: repo.ancestry(snapshot_id=NOWHERE),
            lambda: repo.readonly_session(snapshot_id=NOWHERE),
            lambda: repo.create_branch("b", NOWHERE),
            lambda: repo.create_tag("t", NOWHERE),
            lambda: repo.reset_branch("main", NOWHERE),
        ):
            with pytest.raises(SnapshotNotFoundError, match=NOWHERE) as caught:
                call()
            assert caught.value.kind == "snapshot-not-found"

    def test_missing_snapshot_file(self, repo, storage):
        one = commit(repo)
        storage.delete([f"snapshots/{one}"])
        again = Repository.open(storage)
        with pytest.raises(StorageError, match=f"(?s)object not found.*{one}") as caught:
            again.list_manifest_files(one)
        assert caught.value.kind == "object-not-found"
        assert [s.id for s in again.ancestry(branch="main")] == [one, INITIAL]


class TestBranchesAndTags:
    def test_branches(self, repo, storage):
        one = commit(repo)
        repo.create_branch("dev", INITIAL)
        repo.create_branch("a/b", one)
        assert repo.list_branches() == {"main", "dev", "a/b"}
        assert repo.lookup_branch("dev") == INITIAL
        with pytest.raises(AlreadyExistsError, match=f"dev -> {INITIAL}"):
            repo.create_branch("dev", one)
        repo.reset_branch("dev", one, from_snapshot_id=INITIAL)
        assert repo.lookup_branch("dev") == one
        with pytest.raises(ConflictError) as caught:
            repo.reset_branch("dev", INITIAL, from_snapshot_id=INITIAL)
        assert (caught.value.expected_parent, caught.value.actual_parent) == (INITIAL, one)
        assert caught.value.kind == "branch-update-conflict"
        repo.delete_branch("dev")
        assert Repository.open(storage).list_branches() == {"main", "a/b"}
        for call in (repo.delete_branch, repo.lookup_branch, repo.writable_session):
            with pytest.raises(RefNotFoundError, match="ref not found `dev`"):
                call("dev")
        with pytest.raises(SessionStateError, match="main branch cannot be deleted"):
            repo.delete_branch("main")

    def test_tags(self, repo):
        one = commit(repo)
        repo.create_tag("t", one)
        assert repo.list_tags() == {"t"}
        assert repo.lookup_tag("t") == one
        with pytest.raises(AlreadyExistsError, match="already exists"):
            repo.create_tag("t", INITIAL)
        repo.delete_tag("t")
        assert repo.list_tags() == set()
        for call in (repo.delete_tag, repo.lookup_tag):
            with pytest.raises(RefNotFoundError, match="ref not found `t`"):
                call("t")
        with pytest.raises(AlreadyExistsError) as caught:
            repo.create_tag("t", one)
        assert caught.value.kind == "tag-previously-deleted"

    def test_two_repositories_see_each_other(self, repo, storage):
        other = Repository.open(storage)
        repo.create_branch("x", INITIAL)
        assert "x" in other.list_branches()
        other.delete_branch("x")
        assert "x" not in repo.list_branches()

    def test_concurrent_branches_are_all_there(self, storage):
        retries = StorageRetriesSettings(max_tries=300, initial_backoff_ms=1, max_backoff_ms=5)
        from icechunk.config import RepoUpdateRetryConfig

        config = RepositoryConfig(repo_update_retries=RepoUpdateRetryConfig(default=retries))
        repo = Repository.create(storage, config)
        errors = []

        def work(thread):
            mine = Repository.open(storage)
            try:
                for n in range(5):
                    mine.create_branch(f"{thread}-{n}", INITIAL)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not errors
        assert repo.list_branches() == {"main"} | {f"{t}-{n}" for t in range(8) for n in range(5)}
        assert len(list(repo.ops_log())) == 41

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
    @pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
    def test_concurrent_processes(self, tmp_path):
        repo = Repository.create(LocalStorage(str(tmp_path), durable=False))
        tip = commit(repo)
        children = []
        for child in range(4):
            pid = os.fork()
            if pid == 0:
                try:
                    for n in range(5):
                        repo.create_branch(f"{child}-{n}", tip)
                        assert repo.readonly_session("main").snapshot_id == tip
                    os._exit(0)
                finally:
                    os._exit(1)
            children.append(pid)
        assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 4
        assert repo.list_branches() == {"main"} | {f"{c}-{n}" for c in range(4) for n in range(5)}
        assert len(list(repo.ops_log())) == 22


class TestOpsLog:
    def test_everything_is_logged(self, repo):
        one = commit(repo)
        repo.create_branch("b", one)
        repo.reset_branch("b", INITIAL)
        repo.delete_branch("b")
        repo.create_tag("t", one)
        repo.delete_tag("t")
        repo.save_config()
        updates = list(repo.ops_log())
        assert [update.kind for update in updates] == [
            UpdateType.ConfigChanged(),
            UpdateType.TagDeleted("t", one),
            UpdateType.TagCreated("t"),
            UpdateType.BranchDeleted("b", INITIAL),
            UpdateType.BranchReset("b", one),
            UpdateType.BranchCreated("b"),
            UpdateType.NewCommit("main", one),
            UpdateType.RepoInitialized(),
        ]
        assert updates[0].backup_path is None
        assert all(update.backup_path for update in updates[1:])
        times = [update.updated_at for update in updates]
        assert times == sorted(times, reverse=True)
        assert len(set(times)) == len(times)

    def test_long_logs_continue_in_backups(self, storage):
        config = RepositoryConfig(num_updates_per_repo_info_file=3)
        repo = Repository.create(storage, config)
        for n in range(10):
            repo.create_branch(f"b{n}", INITIAL)
        assert len(repo._context.info().updates) == 3
        names = [getattr(update.kind, "name", None) for update in repo.ops_log()]
        assert names == [f"b{n}" for n in range(9, -1, -1)] + [None]
        paths = [update.backup_path for update in repo.ops_log()]
        assert paths[0] is None
        assert {f"overwritten/{path}" for path in paths[1:]} == {
            key for key in keys(storage) if key.startswith("overwritten/")
        }

    def test_records_are_values(self):
        kind = UpdateType.NewCommit(branch="main", new_snap_id="X")
        assert isinstance(kind, UpdateType)
        assert repr(kind) == 'icechunk.ops.UpdateType.NewCommit(branch="main", new_snap_id="X")'
        assert repr(UpdateType.GCRan()) == "icechunk.ops.UpdateType.GCRan()"
        update = Update(kind, datetime(2026, 1, 2, tzinfo=UTC), None)
        assert repr(update) == (
            "<icechunk.ops.Update>\n"
            'kind: icechunk.ops.UpdateType.NewCommit(branch="main", new_snap_id="X")\n'
            "updated_at: datetime.datetime(2026,1,2,0,0,0,0, tzinfo=datetime.timezone.utc)\n"
            "backup_path: None\n"
        )
        assert pickle.loads(pickle.dumps(update)) == update


class TestConfig:
    def test_default_is_not_stored(self, storage):
        Repository.create(storage)
        assert Repository.fetch_config(storage) is None
        other = MemoryStorage()
        Repository.create(other, RepositoryConfig())
        assert Repository.fetch_config(other) is None

    def test_choices_are_stored_without_the_storage_defaults(self, storage):
        config = RepositoryConfig(inline_chunk_threshold_bytes=12)
        repo = Repository.create(storage, config)
        assert Repository.fetch_config(storage) == config
        assert repo.config.storage == storage.default_settings()
        assert repo.config.inline_chunk_threshold_bytes == 12

    def test_passed_over_stored_over_storage(self, storage):
        Repository.create(
            storage,
            RepositoryConfig(
                inline_chunk_threshold_bytes=12,
                compression=CompressionConfig(level=5),
                caching=CachingConfig(num_snapshot_nodes=7, num_chunk_refs=8),
                storage=StorageSettings(retries=StorageRetriesSettings(max_tries=4)),
            ),
        )
        repo = Repository.open(
            storage,
            RepositoryConfig(caching=CachingConfig(num_chunk_refs=9), max_concurrent_requests=3),
        )
        config = repo.config
        assert config.inline_chunk_threshold_bytes == 12
        assert config.max_concurrent_requests == 3
        assert config.compression.level == 5
        assert config.caching.num_snapshot_nodes == 7
        assert config.caching.num_chunk_refs == 9
        assert config.storage.retries.max_tries == 4
        defaults = storage.default_settings()
        assert config.storage.retries.initial_backoff_ms == defaults.retries.initial_backoff_ms
        assert repo._context.assets.settings.compression_level == 5

    def test_save(self, storage):
        Repository.create(storage)
        passed = RepositoryConfig(inline_chunk_threshold_bytes=77)
        repo = Repository.open(storage, passed)
        assert Repository.fetch_config(storage) is None
        repo.save_config()
        assert Repository.fetch_config(storage) == passed
        assert Repository.open(storage).config.inline_chunk_threshold_bytes == 77

    def test_is_a_copy(self, repo):
        config = repo.config
        config.inline_chunk_threshold_bytes = 3
        config.storage.retries.max_tries = 42
        assert repo.config.inline_chunk_threshold_bytes is None
        assert repo.config.storage.retries.max_tries != 42

    def test_later_changes_of_what_was_passed_do_not_matter(self, storage):
        config = RepositoryConfig(inline_chunk_threshold_bytes=3)
        repo = Repository.create(storage, config)
        config.inline_chunk_threshold_bytes = 4
        assert repo.config.inline_chunk_threshold_bytes == 3


class TestSessions:
    def test_readonly(self, repo):
        one = commit(repo)
        repo.create_tag("t", one)
        assert repo.readonly_session("main").snapshot_id == one
        assert repo.readonly_session(tag="t").snapshot_id == one
        session = repo.readonly_session(snapshot_id=INITIAL)
        assert session.snapshot_id == INITIAL
        assert session.read_only
        for selector in ({"branch": "x"}, {"tag": "x"}):
            with pytest.raises(RefNotFoundError, match="ref not found `x`"):
                repo.readonly_session(**selector)

    def test_as_of(self, repo):
        ids = [INITIAL, *(commit(repo, str(n)) for n in range(3))]
        for snapshot_id in ids:
            when = repo.lookup_snapshot(snapshot_id).written_at
            assert repo.readonly_session("main", as_of=when).snapshot_id == snapshot_id
        assert repo.readonly_session("main", as_of=datetime.now(UTC)).snapshot_id == ids[-1]
        before = repo.lookup_snapshot(INITIAL).written_at - timedelta(microseconds=1)
        with pytest.raises(SnapshotNotFoundError) as caught:
            repo.readonly_session("main", as_of=before)
        assert caught.value.kind == "no-snapshot-at-time"
        with pytest.raises(RefNotFoundError) as missing:
            repo.readonly_session("x", as_of=before)
        assert missing.value.kind == "branch-not-found"

    def test_as_of_needs_a_branch_and_a_time_zone(self, repo):
        now = datetime.now(UTC)
        for selector in ({}, {"tag": "t"}, {"snapshot_id": INITIAL}):
            with pytest.raises(ValueError, match="must be provided together with a branch name"):
                repo.readonly_session(as_of=now, **selector)
        with pytest.raises(TypeError, match="expected a datetime with non-None tzinfo"):
            repo.readonly_session("main", as_of=now.replace(tzinfo=None))

    def test_writable(self, repo):
        repo.set_default_commit_metadata({"user": "me"})
        session = repo.writable_session("main")
        assert (session.branch, session.snapshot_id) == ("main", INITIAL)
        assert not session.read_only

    def test_writable_needs_a_writable_storage(self, repo, storage):
        again = Repository.open(storage)
        storage.can_write = False
        with pytest.raises(ReadOnlyError) as caught:
            again.writable_session("main")
        assert caught.value.kind == "read-only-storage"

    def test_closed_repository(self, repo, storage):
        from icechunk.format.ops_log import RepoStatus

        info = repo._context.info()
        closed = replace(info, status=RepoStatus(1, 1_700_000_000_000_000, "moving"))
        storage.put("repo", encode_repo_info(closed))
        for call in (
            lambda: repo.writable_session("main"),
            lambda: repo.create_branch("x", INITIAL),
            lambda: repo.create_tag("x", INITIAL),
            lambda: repo.save_config(),
            lambda: commit(repo),
        ):
            with pytest.raises(ReadOnlyError, match=r"repository status is read-only.*moving"):
                call()
        assert repo.readonly_session("main").snapshot_id == INITIAL

    def test_default_metadata(self, repo):
        assert repo.default_commit_metadata() == {}
        given = {"user": "me", "tags": ("a", "b")}
        repo.set_default_commit_metadata(given)
        assert repo.default_commit_metadata() == {"user": "me", "tags": ["a", "b"]}
        repo.default_commit_metadata()["user"] = "you"
        assert repo.default_commit_metadata()["user"] == "me"
        for wrong in (3, [("a", 1)], {"a": object()}):
            with pytest.raises(TypeError, match="metadata"):
                repo.set_default_commit_metadata(wrong)


class TestPickle:
    def test_carries_choices(self, storage):
        repo = Repository.create(storage, RepositoryConfig(inline_chunk_threshold_bytes=5))
        repo.set_default_commit_metadata({"user": "me"})
        tip = commit(repo)
        again = pickle.loads(pickle.dumps(repo))
        assert again.config == repo.config
        assert again.default_commit_metadata() == {"user": "me"}
        assert again.lookup_branch("main") == tip
        again.create_branch("x", tip)
        assert "x" in repo.list_branches()

    def test_copies_share_caches_and_opening_does_not(self, storage):
        repo = Repository.create(storage)
        context = pickle.loads(pickle.dumps(repo._context))
        assert context.assets.caches is repo._context.assets.caches
        assert pickle.loads(pickle.dumps(repo))._context.assets.caches is context.assets.caches
        assert Repository.open(storage)._context.assets.caches is not context.assets.caches

    def test_deepcopy(self, repo):
        assert copy.deepcopy(repo).lookup_branch("main") == INITIAL


class TestDisplay:
    def test_repository(self, tmp_path):
        path = str(tmp_path / "r")
        repo = Repository.create(LocalStorage(path, durable=False))
        assert repr(repo) == (
            "<icechunk.Repository (v2)>\n"
            "storage:\n"
            "    <icechunk.Storage>\n"
            "    type: local filesystem\n"
            f"    path: {os.path.realpath(path)}\n"
            "config: <RepositoryConfig ...>\n"
        )

    def test_snapshot_info(self):
        when = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
        info = SnapshotInfo("A", None, when, 'say "hi"\n there', {"k": [1, None]})
        assert repr(info) == (
            "<icechunk.snapshots.SnapshotInfo>\n"
            "id: A\n"
            "parent_id: None\n"
            "written_at: datetime.datetime(2026,1,2,3,4,5,678, tzinfo=datetime.timezone.utc)\n"
            "message:\n"
            '    say "hi"\n'
            "     there\n"
            "metadata: {'k': [1, None]}\n"
        )
        assert pickle.loads(pickle.dumps(info)) == info

    def test_manifest_file_info(self):
        assert repr(ManifestFileInfo("A", 167, 3)) == (
            "<icechunk.snapshots.ManifestFileInfo>\nid: A\nsize_bytes: 167\nnum_chunk_refs: 3\n"
        )

    def test_spec_version(self):
        assert (repr(SpecVersion.v1), str(SpecVersion.v2)) == (
            "SpecVersion.v1",
            "SpecVersion.v2 (current)",
        )
        assert SpecVersion.current() == SpecVersion.v2 == 2


class TestLongHistories:
    """Thousands of snapshots, each with metadata, in one table."""

    COUNT = 3000

    @pytest.fixture
    def long(self, repo, storage):
        session = repo.writable_session("main")
        session.commit("tip", allow_empty=True)
        info = decode_repo_info(storage.get("repo"))
        root, tip = (info.snapshots.entry(row) for row in info.snapshots.ancestry(
            info.branches["main"]))  # fmt: skip
        if root.parent_id is not None:
            root, tip = tip, root
        start = root.flushed_at - 10**9
        entries = [replace(root, flushed_at=start)]
        for number in range(self.COUNT):
            name = number.to_bytes(4, "big") * 3
            previous = entries[-1].id
            entries.append(
                SnapshotEntry(name, previous, start + 1 + number, f"n{number}", {"n": number})
            )
        entries.append(replace(tip, parent_id=entries[-1].id))
        table = SnapshotTable.from_entries(entries)
        storage.put("repo", encode_repo_info(replace(info, snapshots=table)))
        return repo

    def test_everything_is_there(self, long, storage):
        tip = long.writable_session("main").commit("on top", allow_empty=True)
        for repo in (long, Repository.open(storage)):
            history = list(repo.ancestry(branch="main"))
            assert len(history) == self.COUNT + 3
            assert history[0].id == tip
            assert [info.metadata["n"] for info in history[2:-1]] == [*range(self.COUNT)][::-1]
            assert [info.message for info in history[2:-1]] == [
                f"n{n}" for n in reversed(range(self.COUNT))
            ]
            assert all(a.parent_id == b.id for a, b in pairwise(history))
            assert history[-1].parent_id is None


class TestPagedLogs:
    """An operations log of which the entry point holds little: the rest is in its backups."""

    @pytest.mark.parametrize("limit", [0, 1, 2, 3, 7])
    def test_all_of_it_is_listed(self, storage, limit):
        repo = Repository.create(storage, RepositoryConfig(num_updates_per_repo_info_file=limit))
        expected = ["RepoInitialized"]

        def note(kind, change):
            change()
            expected.insert(0, kind)

        for n in range(4):
            session = repo.writable_session("main")
            note("NewCommit", lambda s=session: s.commit("empty", allow_empty=True))
            note("BranchCreated", lambda n=n: repo.create_branch(f"b{n}", INITIAL))
            note("TagCreated", lambda n=n: repo.create_tag(f"t{n}", INITIAL))
            note("MetadataChanged", lambda n=n: repo.update_metadata({"n": n}))
        note("BranchDeleted", lambda: repo.delete_branch("b0"))
        for reader in (repo, Repository.open(storage)):
            log = list(reader.ops_log())
            assert [type(update.kind).__name__ for update in log] == expected
            assert log[0].backup_path is None
            paths = [update.backup_path for update in log[1:]]
            assert len(set(paths)) == len(paths)
            assert {f"overwritten/{path}" for path in paths} <= set(keys(storage))
            times = [update.updated_at for update in log]
            assert times == sorted(times, reverse=True)
            assert len(set(times)) == len(times)
        assert len(repo._context.info().updates) <= max(limit, 1)

    def test_a_lost_page_ends_the_log(self, storage):
        repo = Repository.create(storage, RepositoryConfig(num_updates_per_repo_info_file=2))
        for n in range(6):
            repo.create_branch(f"b{n}", INITIAL)
        whole = list(repo.ops_log())
        storage.delete([f"overwritten/{whole[2].backup_path}"])
        rest = list(repo.ops_log())
        assert rest == whole[: len(rest)]
        assert len(rest) < len(whole)

    @pytest.mark.parametrize("name", ["../repo", "a\x1bb", ""])
    def test_a_page_that_no_object_can_be_called(self, repo, storage, name):
        info = replace(decode_repo_info(storage.get("repo")), repo_before_updates=name)
        storage.put("repo", encode_repo_info(info))
        log = repo.ops_log()
        assert next(log).kind == UpdateType.RepoInitialized()
        with pytest.raises(
            FormatError, match=r"the operations log goes on in .* damaged"
        ) as caught:
            next(log)
        assert caught.value.kind == "deserialization"
        assert "\x1b" not in str(caught.value)
        assert repo.list_branches() == {"main"}


def test_listing_is_never_needed(repo, storage):
    """Credentials that may only get objects are enough to open a repository and to use it."""

    class NoListing(StorageWrapper):
        def list(self, prefix=""):
            raise StorageError("Access Denied")

    first = commit(repo)
    limited = Repository.open(NoListing(storage))
    assert Repository.exists(NoListing(storage))
    assert Repository.fetch_spec_version(NoListing(storage)) is SpecVersion.v2
    assert Repository.fetch_config(NoListing(storage)) is None
    assert limited.list_branches() == {"main"}
    assert limited.list_tags() == set()
    assert limited.lookup_branch("main") == first
    assert [info.id for info in limited.ancestry(branch="main")] == [first, INITIAL]
    assert len(list(limited.ops_log())) == 2
    limited.create_tag("t", first)
    assert repo.list_tags() == {"t"}

"""Repositories of spec version 1: branches and tags in files, history in snapshots, config.yaml."""

import asyncio
import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

import icechunk
from icechunk import Repository, RepositoryConfig, SpecVersion
from icechunk.errors import (
    AlreadyExistsError,
    ConflictError,
    FormatError,
    InvalidInputError,
    RefNotFoundError,
    RepositoryNotFoundError,
    SessionStateError,
    SnapshotNotFoundError,
)
from icechunk.format.ids import decode_id, encode_id
from icechunk.format.snapshot import decode_snapshot, encode_snapshot
from icechunk.storage.base import ObjectNotFound
from icechunk.storage.local import LocalStorage
from icechunk.testing import CountingStorage

GOLDEN = Path(__file__).parent.parent / "golden"
INITIAL = "1CECHNKREP0F1RSTCMT0"
NONE = "ZZZZZZZZZZZZZZZZZZZ0"
MAIN = "refs/branch.main/ref.json"


def commit(repo, message="commit", branch="main", **options):
    return repo.writable_session(branch).commit(message, allow_empty=True, **options)


def keys(storage):
    return {item.key for item in storage.list()}


def stored(storage):
    return {key: storage.get(key) for key in keys(storage)}


def ref(snapshot):
    return json.dumps({"snapshot": snapshot}, separators=(",", ":")).encode()


class TestCreation:
    def test_what_is_written(self, repo_v1, storage):
        assert keys(storage) - {"repo.lock#0"} == {f"snapshots/{INITIAL}", MAIN}
        assert storage.get(MAIN) == ref(INITIAL)
        assert repo_v1.spec_version is SpecVersion.v1
        assert Repository.fetch_spec_version(storage) is SpecVersion.v1
        assert Repository.fetch_config(storage) is None
        (root,) = repo_v1.ancestry(branch="main")
        assert (root.id, root.parent_id) == (INITIAL, None)
        assert root.metadata == {"__icechunk": {"is_root": True}}

    def test_configuration(self, storage):
        config = RepositoryConfig(inline_chunk_threshold_bytes=7)
        Repository.create(storage, config, spec_version=1)
        assert Repository.fetch_config(storage).inline_chunk_threshold_bytes == 7
        assert Repository.open(storage).config.inline_chunk_threshold_bytes == 7
        assert b"inline_chunk_threshold_bytes: 7" in storage.get("config.yaml")

    @pytest.mark.parametrize("version", [1, 2])
    def test_there_is_one(self, repo_v1, storage, version):
        before = stored(storage)
        with pytest.raises(InvalidInputError):
            Repository.create(storage, spec_version=version)
        with pytest.raises(ConflictError) as caught:
            Repository.create(storage, spec_version=version, check_clean_root=False)
        assert caught.value.kind == "repo-info-updated"
        assert stored(storage) == before

    def test_open_or_create(self, storage):
        first = Repository.open_or_create(storage, create_version=1)
        assert first.spec_version == 1
        tip = commit(first)
        again = Repository.open_or_create(storage, create_version=2)
        assert (again.spec_version, again.lookup_branch("main")) == (1, tip)

    def test_an_interrupted_creation_is_taken_up(self, storage):
        storage.put(f"snapshots/{INITIAL}", b"half a snap")
        assert Repository.create(storage, spec_version=1).lookup_branch("main") == INITIAL

    def test_a_configuration_that_somebody_else_stores(self, storage):
        storage.put("config.yaml", b"inline_chunk_threshold_bytes: 9\n")
        config = RepositoryConfig(inline_chunk_threshold_bytes=7)
        with pytest.raises(ConflictError, match=r"config\.yaml") as caught:
            Repository.create(storage, config, spec_version=1, check_clean_root=False)
        assert caught.value.kind == "config-updated"
        assert MAIN not in keys(storage)


class TestOpening:
    def test_of_the_reference(self):
        repo = Repository.open(LocalStorage(str(GOLDEN / "reference-v1")))
        assert repo.verify().is_clean
        store = repo.readonly_session("main").store
        assert store.get_sync("g/small/c/0").to_bytes() == bytes([7, 0, 0, 0, 8, 0, 0, 0])
        changed = repo.diff(from_tag="v1", to_branch="main").updated_chunks
        assert changed == {"/g/small": [[0]]}

    def test_costs(self, repo_v1, storage):
        counted = CountingStorage(storage)
        repo = Repository.open(counted)
        assert sorted(key for _, key in counted.counts) == ["config.yaml", "refs", "repo"]
        assert counted.total() == 3
        counted.reset()
        repo.lookup_branch("main")
        assert dict(counted.counts) == {("get_versioned", "refs"): 1}

    def test_nothing_there(self, storage):
        storage.put("refs/branch.other/ref.json", ref(INITIAL))
        with pytest.raises(RepositoryNotFoundError):
            Repository.open(storage)

    def test_version_2_beside_it(self, repo_v1, storage):
        other = icechunk.in_memory_storage()
        Repository.create(other)
        storage.put("repo", other.get("repo"))
        assert Repository.open(storage).spec_version == 2

    def test_damaged_configuration(self, repo_v1, storage):
        storage.put("config.yaml", b"[")
        with pytest.raises(FormatError, match=r"config\.yaml"):
            Repository.open(storage)

    def test_asynchronously(self, repo_v1, storage):
        async def names():
            repo = await Repository.open_async(storage)
            tip = await repo.lookup_branch_async("main")
            return tip, [entry.id async for entry in repo.ancestry(branch="main")]

        assert asyncio.run(names()) == (INITIAL, [INITIAL])

    def test_pickles(self, repo_v1, storage):
        if not isinstance(storage, LocalStorage):
            pytest.skip("memory does not travel")
        tip = commit(repo_v1)
        copy = pickle.loads(pickle.dumps(repo_v1))
        assert (copy.spec_version, copy.lookup_branch("main")) == (1, tip)
        session = pickle.loads(pickle.dumps(copy.readonly_session("main")))
        assert session.snapshot_id == tip
        again = commit(copy, "by the copy")
        assert [s.message for s in repo_v1.ancestry(snapshot_id=again)][:2] == [
            "by the copy",
            "commit",
        ]


class TestBranches:
    def test_life(self, repo_v1, storage):
        first, second = commit(repo_v1, "1"), commit(repo_v1, "2")
        repo_v1.create_branch("dev", first)
        assert storage.get("refs/branch.dev/ref.json") == ref(first)
        assert repo_v1.list_branches() == {"main", "dev"}
        repo_v1.reset_branch("dev", second, from_snapshot_id=first)
        assert repo_v1.lookup_branch("dev") == second
        with pytest.raises(ConflictError) as caught:
            repo_v1.reset_branch("dev", INITIAL, from_snapshot_id=first)
        assert caught.value.kind == "branch-update-conflict"
        assert (caught.value.expected_parent, caught.value.actual_parent) == (first, second)
        repo_v1.reset_branch("dev", INITIAL)
        repo_v1.delete_branch("dev")
        assert repo_v1.list_branches() == {"main"}
        repo_v1.create_branch("dev", first)
        assert repo_v1.lookup_branch("dev") == first

    def test_refusals(self, repo_v1, storage):
        tip = commit(repo_v1)
        before = stored(storage)
        for error, kind, attempt in [
            (ConflictError, "branch-update-conflict", lambda: repo_v1.create_branch("main", tip)),
            (InvalidInputError, "invalid-ref-name", lambda: repo_v1.create_branch("a/b", tip)),
            (InvalidInputError, "invalid-ref-name", lambda: repo_v1.create_branch("\ud800", tip)),
            (SnapshotNotFoundError, "snapshot-not-found", lambda: repo_v1.create_branch("b", NONE)),
            (SnapshotNotFoundError, "snapshot-not-found", lambda: repo_v1.reset_branch("main", NONE)),  # noqa: E501
            (RefNotFoundError, "ref-not-found", lambda: repo_v1.reset_branch("b", tip)),
            (RefNotFoundError, "ref-not-found", lambda: repo_v1.delete_branch("b")),
            (RefNotFoundError, "ref-not-found", lambda: repo_v1.lookup_branch("b")),
            (SessionStateError, "cannot-delete-main", lambda: repo_v1.delete_branch("main")),
            (RefNotFoundError, "ref-not-found", lambda: repo_v1.writable_session("b")),
            (SnapshotNotFoundError, "snapshot-not-found", lambda: repo_v1.lookup_snapshot(NONE)),
        ]:  # fmt: skip
            with pytest.raises(error) as caught:
                attempt()
            assert caught.value.kind == kind
        assert stored(storage) == before

    @pytest.mark.parametrize("name", ["", "ü", "feat#1", "100%", "%41", "a b", "back\\slash", "🧊"])
    def test_odd_names(self, repo_v1, storage, name):
        repo_v1.create_branch(name, INITIAL)
        repo_v1.create_tag(name, INITIAL)
        assert repo_v1.list_branches() == {"main", name}
        assert repo_v1.list_tags() == {name}
        tip = commit(repo_v1, branch=name)
        assert Repository.open(storage).lookup_branch(name) == tip
        repo_v1.delete_branch(name)
        repo_v1.delete_tag(name)
        assert repo_v1.list_branches() == {"main"}
        assert repo_v1.list_tags() == set()

    def test_names_that_came_from_another_storage(self, repo_v1, storage):
        storage.put("refs/branch.ü/ref.json", ref(INITIAL))
        assert repo_v1.list_branches() == {"main", "ü"}
        tip = commit(repo_v1, branch="ü")
        assert storage.get("refs/branch.ü/ref.json") == ref(tip)
        repo_v1.delete_branch("ü")
        assert repo_v1.list_branches() == {"main"}

    def test_foreign_files(self, repo_v1, storage):
        for key in ("refs/.DS_Store", "refs/branch.x/notes", "refs/other.x/ref.json", "refs/tag.x"):
            storage.put(key, b"")
        assert repo_v1.list_branches() == {"main"}
        assert repo_v1.list_tags() == set()
        assert str(repo_v1.ancestry_graph(plain=True)).startswith("● 1CECHNKR (main)")

    def test_damaged_file(self, repo_v1, storage):
        storage.put("refs/branch.bad/ref.json", b'{"snapshot": 3}')
        assert repo_v1.list_branches() == {"main", "bad"}
        with pytest.raises(FormatError, match=r"refs/branch\.bad/ref\.json"):
            repo_v1.lookup_branch("bad")


class TestTags:
    def test_life(self, repo_v1, storage):
        tip = commit(repo_v1)
        repo_v1.create_tag("t", tip)
        assert repo_v1.lookup_tag("t") == tip
        assert repo_v1.readonly_session(tag="t").snapshot_id == tip
        repo_v1.delete_tag("t")
        assert storage.get("refs/tag.t/ref.json") == ref(tip)
        assert storage.get("refs/tag.t/ref.json.deleted") == b""
        assert repo_v1.list_tags() == set()
        before = stored(storage)
        for error, kind, attempt in [
            (AlreadyExistsError, "tag-already-exists", lambda: repo_v1.create_tag("t", tip)),
            (RefNotFoundError, "ref-not-found", lambda: repo_v1.lookup_tag("t")),
            (RefNotFoundError, "ref-not-found", lambda: repo_v1.delete_tag("t")),
            (RefNotFoundError, "ref-not-found", lambda: repo_v1.delete_tag("never")),
            (InvalidInputError, "invalid-ref-name", lambda: repo_v1.create_tag("a/b", tip)),
            (SnapshotNotFoundError, "snapshot-not-found", lambda: repo_v1.create_tag("b", NONE)),
        ]:  # fmt: skip
            with pytest.raises(error) as caught:
                attempt()
            assert caught.value.kind == kind
        assert stored(storage) == before

    def test_a_tombstone_alone(self, repo_v1, storage):
        storage.put("refs/tag.t/ref.json.deleted", b"")
        with pytest.raises(AlreadyExistsError, match="deleted"):
            repo_v1.create_tag("t", INITIAL)


class TestHistory:
    def test_is_read_once(self, repo_v1, storage):
        for number in range(5):
            commit(repo_v1, str(number))
        counted = CountingStorage(storage)
        repo = Repository.open(counted)
        messages = [entry.message for entry in repo.ancestry(branch="main")]
        assert messages == [*"43210", "Repository initialized"]
        counted.reset()
        assert [entry.message for entry in repo.ancestry(branch="main")] == messages
        assert dict(counted.counts) == {("get_versioned", "refs"): 1, ("exists", "snapshots"): 1}
        commit(repo_v1, "new")
        counted.reset()
        assert next(iter(repo.ancestry(branch="main"))).message == "new"
        assert counted.total() == 3

    def test_a_parent_that_was_exchanged(self, repo_v1, storage):
        ids = [commit(repo_v1, str(number)) for number in range(3)]
        assert len(list(repo_v1.ancestry(branch="main"))) == 4
        key = f"snapshots/{ids[2]}"
        tip = decode_snapshot(storage.get(key), key)
        root = decode_snapshot(storage.get(f"snapshots/{INITIAL}"), "").id
        storage.put(key, encode_snapshot(replace(tip, parent_id=root)))
        storage.delete([f"snapshots/{ids[1]}", f"snapshots/{ids[0]}"])
        fresh = Repository.open(storage)
        assert [entry.id for entry in fresh.ancestry(branch="main")] == [ids[2], INITIAL]
        with pytest.raises(SnapshotNotFoundError):
            fresh.lookup_snapshot(ids[1])

    def test_a_parent_that_is_gone(self, repo_v1, storage):
        ids = [commit(repo_v1, str(number)) for number in range(3)]
        storage.delete([f"snapshots/{ids[1]}"])
        repo = Repository.open(storage)
        assert repo.lookup_snapshot(ids[2]).message == "2"
        history = repo.ancestry(branch="main")
        assert next(history).message == "2"
        with pytest.raises(SnapshotNotFoundError, match=ids[1]):
            next(history)

    def test_a_circle(self, repo_v1, storage):
        first, second = commit(repo_v1, "1"), commit(repo_v1, "2")
        key = f"snapshots/{first}"
        bent = decode_snapshot(storage.get(key), key)
        tip = decode_snapshot(storage.get(f"snapshots/{second}"), "").id
        storage.put(key, encode_snapshot(replace(bent, parent_id=tip)))
        assert encode_id(tip) == second
        with pytest.raises(FormatError, match="descends from itself"):
            list(Repository.open(storage).ancestry(branch="main"))

    def test_a_successor_from_a_clock_that_is_behind(self, repo_v1, storage):
        """A commit is found in the history of its branch, whatever the times there are."""
        first, second = commit(repo_v1, "1"), commit(repo_v1, "2")
        key = f"snapshots/{second}"
        tip = decode_snapshot(storage.get(key), key)
        storage.put(key, encode_snapshot(replace(tip, flushed_at=1)))
        context = Repository.open(storage)._context
        ours = context.state().snapshots.info(decode_id(first, 12))
        assert context.entry.has_committed("main", ours)
        context.state().snapshots.remember(replace(ours, flushed_at=ours.flushed_at + 10**9))
        assert context.entry.leads_to(tip.id, ours)
        assert not context.entry.leads_to(ours.parent_id, ours)

    def test_as_of(self, repo_v1):
        first = commit(repo_v1, "1")
        moment = repo_v1.lookup_snapshot(first).written_at
        commit(repo_v1, "2")
        assert repo_v1.readonly_session("main", as_of=moment).snapshot_id == first


class TestConfiguration:
    def test_saving(self, repo_v1, storage):
        repo_v1.save_config()
        first = storage.get("config.yaml")
        assert not any(key.startswith("overwritten/") for key in keys(storage))
        changed = repo_v1.reopen(RepositoryConfig(inline_chunk_threshold_bytes=3))
        changed.save_config()
        assert Repository.open(storage).config.inline_chunk_threshold_bytes == 3
        (backup,) = [key for key in keys(storage) if key.startswith("overwritten/config.yaml.")]
        assert storage.get(backup) == first

    def test_somebody_else_was_faster(self, repo_v1, storage):
        one, other = (
            Repository.open(storage, RepositoryConfig(inline_chunk_threshold_bytes=number))
            for number in (1, 2)
        )
        one.save_config()
        before = stored(storage)
        for late in (other, other.reopen()):
            with pytest.raises(ConflictError) as caught:
                late.save_config()
            assert caught.value.kind == "config-updated"
        assert stored(storage) == before
        one.save_config()
        Repository.open(storage, RepositoryConfig(inline_chunk_threshold_bytes=2)).save_config()
        assert Repository.open(storage).config.inline_chunk_threshold_bytes == 2


class TestMigratedMeanwhile:
    @pytest.mark.parametrize(
        "change",
        [
            lambda repo: commit(repo),
            lambda repo: repo.create_branch("b", INITIAL),
            lambda repo: repo.delete_branch("dev"),
            lambda repo: repo.create_tag("t", INITIAL),
            lambda repo: repo.save_config(),
        ],
    )
    def test_changes_are_refused(self, repo_v1, storage, change):
        repo_v1.create_branch("dev", INITIAL)
        storage.put("repo", b"whatever")
        before = {key: data for key, data in stored(storage).items() if key.startswith("refs/")}
        with pytest.raises(SessionStateError, match="open it again") as caught:
            change(repo_v1)
        assert caught.value.kind == "invalid-repository-migration"
        after = {key: data for key, data in stored(storage).items() if key.startswith("refs/")}
        assert after == before
        with pytest.raises(ObjectNotFound):
            storage.get("config.yaml")


def test_what_only_version_2_has(repo_v1, storage):
    commit(repo_v1)
    session = repo_v1.writable_session("main")
    status = icechunk.RepoStatus(icechunk.RepoAvailability.read_only)
    before = stored(storage)
    for attempt in [
        lambda: repo_v1.metadata,
        lambda: repo_v1.set_metadata({}),
        lambda: repo_v1.update_metadata({}),
        lambda: repo_v1.status,
        lambda: repo_v1.set_status(status),
        repo_v1.feature_flags,
        repo_v1.enabled_feature_flags,
        lambda: repo_v1.set_feature_flag("move_node", False),
        repo_v1.ops_log,
        repo_v1.inspect_repo_info,
        lambda: repo_v1.set_feature_flag("unknown", False),
        lambda: repo_v1.rearrange_session("main"),
        lambda: session.move("/x", "/y"),
        lambda: session.amend("amended", allow_empty=True),
    ]:
        with pytest.raises(FormatError, match="upgrade") as caught:
            attempt()
        assert caught.value.kind == "unsupported-spec-version"
    with pytest.raises(FormatError, match="upgrade") as caught:
        repo_v1.rewrite_manifests("again", branch="main", commit_method="amend")
    assert caught.value.kind == "unsupported-operation-for-version"
    assert stored(storage) == before

"""Amending, flushing, transactions and rewriting manifests: what they make and what they refuse."""

import json
import math

import numpy as np
import pytest
import zarr
from zarr.core.buffer import cpu

import icechunk
from icechunk import (
    BasicConflictSolver,
    ConflictDetector,
    ConflictError,
    ManifestSplitCondition,
    ManifestSplitDimCondition,
    ManifestSplittingConfig,
    Repository,
    RepositoryConfig,
    UpdateType,
    VersionSelection,
)
from icechunk.config import ManifestConfig
from icechunk.errors import FormatError, IcechunkError, ReadOnlyError, SessionStateError
from icechunk.repo.surroundings import Surroundings
from icechunk.testing import FaultyStorage


def document(n=8, **attributes):
    grid = {"name": "regular", "configuration": {"chunk_shape": [1]}}
    node = {"node_type": "array", "shape": [n], "chunk_grid": grid, "attributes": attributes}
    return json.dumps(node).encode()


def put(session, key, data):
    session.store.set_sync(key, cpu.Buffer.from_bytes(data))


def write(session, path, *indices, data=b"x"):
    for index in indices:
        put(session, f"{path}/c/{index}", data)


def keys(repo, **where):
    store = repo.readonly_session(**(where or {"branch": "main"})).store
    return {key: store.get_sync(key).to_bytes() for key in store.list()}


def messages(repo, branch="main"):
    return [entry.message for entry in repo.ancestry(branch=branch)]


def kinds(repo):
    return [update.kind for update in repo.ops_log()]


@pytest.fixture
def filled(repo):
    session = repo.writable_session("main")
    put(session, "zarr.json", json.dumps({"zarr_format": 3, "node_type": "group"}).encode())
    put(session, "a/zarr.json", document())
    write(session, "a", 0, 1, data=b"first")
    session.commit("first")
    return repo


def refused(session, error, kind, call):
    before = (session.status(), session.snapshot_id, session.branch, session.read_only)
    with pytest.raises(error) as caught:
        call()
    assert caught.value.kind == kind
    assert (session.status(), session.snapshot_id, session.branch, session.read_only) == before
    return caught.value


class TestAmend:
    def test_takes_the_place_of_the_tip(self, filled):
        old = filled.lookup_branch("main")
        session = filled.writable_session("main")
        write(session, "a", 1, 2, data=b"second")
        put(session, "b/zarr.json", document())
        new = session.amend("amended", metadata={"why": "typo"})
        assert messages(filled) == ["amended", "Repository initialized"]
        assert filled.lookup_branch("main") == session.snapshot_id == new
        assert (session.read_only, session.branch) == (True, None)
        assert next(filled.ancestry(branch="main")).metadata == {"why": "typo"}
        assert kinds(filled)[0] == UpdateType.CommitAmended("main", old, new)
        found = keys(filled)
        assert [found[f"a/c/{i}"] for i in range(3)] == [b"first", b"second", b"second"]
        assert keys(filled, snapshot_id=old)["a/c/1"] == b"first"

    def test_its_log_says_what_both_did(self, filled):
        session = filled.writable_session("main")
        write(session, "a", 1, 2, data=b"second")
        put(session, "b/zarr.json", document())
        new = session.amend("amended")
        root = list(filled.ancestry(branch="main"))[-1].id
        diff = filled.diff(from_snapshot_id=root, to_snapshot_id=new)
        assert diff.new_arrays == {"/a", "/b"}
        assert diff.updated_chunks == {"/a": [[0], [1], [2]]}

    def test_may_change_only_the_message(self, filled):
        before = keys(filled)
        session = filled.writable_session("main")
        refused(session, SessionStateError, "no-changes-to-commit", lambda: session.amend("x"))
        session.amend("better words", allow_empty=True)
        assert messages(filled) == ["better words", "Repository initialized"]
        assert keys(filled) == before

    def test_may_be_amended_again_and_deletions_stay(self, filled):
        for n in range(3):
            session = filled.writable_session("main")
            put(session, f"n{n}/zarr.json", document())
            if n:
                session.store.delete_sync(f"n{n - 1}/zarr.json")
            session.amend(f"take {n}")
        assert messages(filled) == ["take 2", "Repository initialized"]
        assert {key for key in keys(filled) if key.startswith("n")} == {"n2/zarr.json"}
        root = list(filled.ancestry(branch="main"))[-1].id
        diff = filled.diff(from_snapshot_id=root, to_branch="main")
        assert diff.new_arrays == {"/a", "/n2"}

    def test_refuses_the_first_snapshot(self, repo):
        session = repo.writable_session("main")
        put(session, "a/zarr.json", document())
        writes = len(list(repo.storage.list()))
        error = refused(
            session,
            SessionStateError,
            "no-amend-for-initial-commit",
            lambda: session.amend("x"),
        )
        assert "1CECHNKREP0F1RSTCMT0" in error.message
        assert len(list(repo.storage.list())) == writes

    def test_loses_races_like_a_commit(self, filled):
        session = filled.writable_session("main")
        write(session, "a", 3)
        other = filled.writable_session("main")
        write(other, "a", 4)
        other.commit("faster")
        refused(session, ConflictError, "commit-conflict", lambda: session.amend("slow"))
        session.rebase(ConflictDetector())
        session.amend("amends theirs")
        assert messages(filled) == ["amends theirs", "first", "Repository initialized"]
        assert {"a/c/3", "a/c/4"} <= set(keys(filled))

    def test_edits_cannot_amend_moves(self, filled):
        mover = filled.rearrange_session("main")
        mover.move("/a", "/b")
        mover.commit("move")
        session = filled.writable_session("main")
        write(session, "b", 5)
        refused(session, SessionStateError, "rearrange-session-only", lambda: session.amend("x"))
        mover = filled.rearrange_session("main")
        mover.move("/b", "/c")
        mover.amend("moved further")
        tip, first, *_ = [entry.id for entry in filled.ancestry(branch="main")]
        diff = filled.diff(from_snapshot_id=first, to_snapshot_id=tip)
        assert diff.moved_nodes == [("/a", "/c")]
        back = filled.rearrange_session("main")
        back.move("/c", "/a")
        back.amend("back home")
        assert filled.diff(from_snapshot_id=first, to_branch="main").is_empty()


class TestFlush:
    def test_writes_what_no_branch_points_to(self, filled):
        tip = filled.lookup_branch("main")
        session = filled.writable_session("main")
        write(session, "a", 5, data=b"flushed")
        flushed = session.flush("aside", metadata={"n": 1})
        assert filled.lookup_branch("main") == tip
        assert (session.snapshot_id, session.read_only, session.branch) == (flushed, True, None)
        assert session.store.get_sync("a/c/5").to_bytes() == b"flushed"
        assert keys(filled, snapshot_id=flushed)["a/c/5"] == b"flushed"
        info = filled.lookup_snapshot(flushed)
        assert (info.parent_id, info.message, info.metadata) == (tip, "aside", {"n": 1})
        assert kinds(filled)[0] == UpdateType.NewDetachedSnapshot(flushed)

    def test_a_branch_can_be_pointed_to_it(self, filled):
        session = filled.writable_session("main")
        base = session.snapshot_id
        write(session, "a", 5)
        flushed = session.flush("aside")
        filled.reset_branch("main", flushed, from_snapshot_id=base)
        assert messages(filled) == ["aside", "first", "Repository initialized"]

    def test_is_allowed_without_edits_and_in_read_only_sessions(self, filled):
        before = keys(filled)
        for session in (filled.writable_session("main"), filled.readonly_session("main")):
            base = session.snapshot_id
            flushed = session.flush("copy")
            assert flushed != base
            assert keys(filled, snapshot_id=flushed) == before
            assert session.read_only

    def test_refuses_forks(self, filled):
        session = filled.writable_session("main")
        fork = session.fork()
        write(fork, "a", 5)
        refused(fork, IcechunkError, "unknown", lambda: fork.flush("x"))
        session.merge(fork)
        session.flush("with the fork")

    def test_needs_a_repository_that_takes_changes(self, filled):
        session = filled.writable_session("main")
        write(session, "a", 5)
        filled.set_status(icechunk.RepoStatus(icechunk.RepoAvailability.read_only))
        refused(session, ReadOnlyError, "read-only-repository", lambda: session.flush("x"))
        filled.set_status(icechunk.RepoStatus(icechunk.RepoAvailability.online))
        session.flush("x")

    def test_a_flushed_rearrangement_shows_its_moves(self, filled):
        mover = filled.rearrange_session("main")
        mover.move("/a", "/b")
        flushed = mover.flush("moved")
        assert filled.diff(from_branch="main", to_snapshot_id=flushed).moved_nodes == [("/a", "/b")]


class TestTransaction:
    def test_commits_at_the_end(self, repo):
        with repo.transaction("main", message="one", metadata={"n": 1}) as store:
            zarr.create_array(store, name="a", shape=(4,), chunks=(2,), dtype="i4")[:] = 7
        assert messages(repo)[0] == "one"
        assert next(repo.ancestry(branch="main")).metadata == {"n": 1}
        array = zarr.open_array(repo.readonly_session("main").store, path="a", mode="r")
        np.testing.assert_array_equal(array[:], 7)

    def test_commits_nothing_after_an_error(self, repo):
        tip = repo.lookup_branch("main")

        def interrupted():
            with repo.transaction("main", message="one") as store:
                zarr.create_group(store, path="g")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            interrupted()
        assert repo.lookup_branch("main") == tip

    def test_an_empty_one_is_refused(self, repo):
        with pytest.raises(SessionStateError) as caught, repo.transaction("main", message="one"):
            pass
        assert caught.value.kind == "no-changes-to-commit"

    def test_can_rebase(self, filled):
        repo = filled
        with repo.transaction("main", message="slow", rebase_with=ConflictDetector()) as store:
            zarr.create_group(store, path="slow")
            with repo.transaction("main", message="fast") as other:
                zarr.create_group(other, path="fast")
        assert messages(repo)[:2] == ["slow", "fast"]
        assert {"slow/zarr.json", "fast/zarr.json"} <= set(keys(repo))


def splitting(size):
    axis = {ManifestSplitDimCondition.Any(): size}
    rules = ManifestSplittingConfig.from_dict({ManifestSplitCondition.AnyArray(): axis})
    return RepositoryConfig(manifest=ManifestConfig(splitting=rules))


class TestRewriteManifests:
    def test_gives_the_layout_the_configuration_asks_for(self, filled):
        for n in range(2, 8):
            session = filled.writable_session("main")
            write(session, "a", n)
            session.commit("one more")
        before = keys(filled)
        repo = Repository.open(filled.storage, splitting(3))
        tip = repo.rewrite_manifests("tidy", branch="main", metadata={"by": "me"})
        files = repo.list_manifest_files(tip)
        assert sorted(file.num_chunk_refs for file in files) == [2, 3, 3]
        assert keys(repo) == before
        assert messages(repo)[:2] == ["tidy", "one more"]
        metadata = next(repo.ancestry(branch="main")).metadata
        assert metadata["by"] == "me"
        rules = metadata["__icechunk"]["splitting_config"]["split_sizes"]
        assert rules == [["any_array", [{"condition": "Any", "num_chunks": 3}]]]
        parent = list(repo.ancestry(branch="main"))[1].id
        assert repo.diff(from_snapshot_id=parent, to_snapshot_id=tip).is_empty()

    def test_joins_what_was_split(self, filled):
        repo = Repository.open(filled.storage, splitting(1))
        session = repo.writable_session("main")
        write(session, "a", *range(8), data=b"many")
        session.commit("eight manifests")
        assert len(repo.list_manifest_files(repo.lookup_branch("main"))) == 8
        before = keys(repo)
        wide = Repository.open(filled.storage, splitting(100))
        tip = wide.rewrite_manifests("join", branch="main")
        assert [file.num_chunk_refs for file in repo.list_manifest_files(tip)] == [8]
        assert keys(repo) == before

    def test_may_amend(self, filled):
        filled.rewrite_manifests("amended", branch="main", commit_method="amend")
        assert messages(filled) == ["amended", "Repository initialized"]
        root = list(filled.ancestry(branch="main"))[-1].id
        assert filled.diff(from_snapshot_id=root, to_branch="main").new_arrays == {"/a"}

    def test_refusals(self, repo):
        tip = repo.lookup_branch("main")
        with pytest.raises(ValueError, match="Invalid commit method: 'x'"):
            repo.rewrite_manifests("x", branch="main", commit_method="x")
        with pytest.raises(SessionStateError) as caught:
            repo.rewrite_manifests("x", branch="main", commit_method="amend")
        assert caught.value.kind == "no-amend-for-initial-commit"
        with pytest.raises(icechunk.RefNotFoundError):
            repo.rewrite_manifests("x", branch="nowhere")
        assert repo.lookup_branch("main") == tip


class TestMetadata:
    def test_defaults_lie_below_what_a_commit_says(self, repo):
        repo.set_default_commit_metadata({"user": "test", "x": 1})
        session = repo.writable_session("main")
        put(session, "a/zarr.json", document())
        session.commit("one")
        assert next(repo.ancestry(branch="main")).metadata == {"user": "test", "x": 1}
        session = repo.writable_session("main")
        write(session, "a", 0)
        session.amend("two", metadata={"x": 2})
        assert next(repo.ancestry(branch="main")).metadata == {"user": "test", "x": 2}
        session = repo.writable_session("main")
        flushed = session.flush("three", metadata={"y": [1, None, {"z": True}]})
        assert repo.lookup_snapshot(flushed).metadata == {
            "user": "test",
            "x": 1,
            "y": [1, None, {"z": True}],
        }

    def test_values_become_json(self, filled):
        session = filled.writable_session("main")
        write(session, "a", 0)
        numbers = {"nan": math.nan, "i": np.int64(3), "t": (1, 2), "s": "ü", "b": True}
        session.commit("x", numbers)
        found = next(filled.ancestry(branch="main")).metadata
        assert found == {"nan": None, "i": 3, "t": [1, 2], "s": "ü", "b": True}

    @pytest.mark.parametrize("method", ["commit", "amend", "flush"])
    def test_what_is_not_json_is_refused(self, filled, method):
        session = filled.writable_session("main")
        write(session, "a", 0)
        for wrong in ([1], {"x": object()}, {1: 2}, "text"):
            with pytest.raises(TypeError, match="metadata"):
                getattr(session, method)("x", metadata=wrong)
        with pytest.raises(TypeError, match="message"):
            getattr(session, method)(None)
        assert session.has_uncommitted_changes


class TestClocks:
    def at(self, repo, offset_us):
        real = Surroundings().now_us
        repo._context.world = Surroundings(now_us=lambda: real() + offset_us)

    def test_a_clock_slightly_behind_is_forgiven(self, filled):
        self.at(filled, 500_000)
        session = filled.writable_session("main")
        write(session, "a", 0)
        ahead = session.commit("ahead")
        self.at(filled, 0)
        session = filled.writable_session("main")
        write(session, "a", 1)
        behind = session.commit("behind")
        times = [filled.lookup_snapshot(snapshot).written_at for snapshot in (ahead, behind)]
        assert times == sorted(set(times))

    def test_a_clock_far_behind_is_refused(self, filled):
        self.at(filled, 5_000_000)
        session = filled.writable_session("main")
        write(session, "a", 0)
        session.commit("ahead")
        self.at(filled, 0)
        session = filled.writable_session("main")
        write(session, "a", 1)
        error = refused(session, FormatError, "snapshot-timestamp", lambda: session.commit("late"))
        assert session.snapshot_id in error.message
        self.at(filled, 6_000_000)
        session.commit("now")


def rebase_commit(session):
    session.commit(
        "new", rebase_with=BasicConflictSolver(on_chunk_conflict=VersionSelection.UseOurs)
    )


WAYS = {
    "amend": lambda session: session.amend("new"),
    "flush": lambda session: session.flush("new"),
    "rebase": rebase_commit,
}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("way", WAYS)
def test_failing_at_any_effect_leaves_old_or_new(way, after):
    """Whatever fails, the branch has its old or its new state, and trying again gets there."""

    def prepared(fail_at):
        inner = icechunk.in_memory_storage()
        repo = Repository.create(inner)
        session = repo.writable_session("main")
        put(session, "a/zarr.json", document())
        write(session, "a", 0, 1, data=b"first")
        session.commit("first")
        faulty = FaultyStorage(inner, after=after)
        session = Repository.open(faulty).writable_session("main")
        write(session, "a", 1, data=b"second")
        if way == "rebase":
            other = Repository.open(inner).writable_session("main")
            write(other, "a", 1, 2, data=b"theirs")
            other.commit("theirs")
        old = {entry.id for entry in repo.ancestry(branch="main")}
        faulty.effects.clear()
        faulty.fail_at = fail_at
        return repo, faulty, session, old

    repo, faulty, session, _ = prepared(None)
    WAYS[way](session)
    expected = keys(repo, snapshot_id=session.snapshot_id)
    effects = len(faulty.effects)
    assert effects >= 6
    for fail_at in range(effects):
        repo, faulty, session, old = prepared(fail_at)
        try:
            WAYS[way](session)
        except icechunk.StorageError:
            faulty.fail_at = None
            tip = repo.lookup_branch("main")
            if way != "flush" and tip not in old:  # it took effect without our knowing
                assert keys(repo) == expected
                continue
            assert session.has_uncommitted_changes
            WAYS[way](session)
        assert keys(repo, snapshot_id=session.snapshot_id) == expected
        for entry in repo.ancestry(snapshot_id=session.snapshot_id):
            assert keys(repo, snapshot_id=entry.id) is not None

"""Sessions from opening to commit: isolation, conflicts, what fails and leaves all as it was."""

import pickle
import threading

import numpy as np
import pytest
import zarr
from zarr.core.buffer import default_buffer_prototype

import icechunk
from icechunk import ConflictError, Repository, SessionMode
from icechunk.errors import (
    AlreadyExistsError,
    InvalidInputError,
    NodeNotFoundError,
    ReadOnlyError,
    RefNotFoundError,
    SessionStateError,
)
from icechunk.format.layout import id_from_key
from icechunk.format.manifest import encode_manifest


def array(session, path="a", n=10, chunks=2, **options):
    return zarr.create_array(
        session.store, name=path, shape=(n,), chunks=(chunks,), dtype="i4", **options
    )


def read(repo, path="a", **where):
    session = repo.readonly_session(**(where or {"branch": "main"}))
    return zarr.open_array(session.store, path=path, mode="r")[...]


def test_nothing_is_visible_before_the_commit_and_all_after(repo):
    session = repo.writable_session("main")
    array(session)[:] = np.arange(10)
    with pytest.raises(FileNotFoundError):
        read(repo)
    snapshot_id = session.commit("numbers")
    assert snapshot_id == repo.lookup_branch("main")
    np.testing.assert_array_equal(read(repo), np.arange(10))
    assert [entry.message for entry in repo.ancestry(branch="main")] == [
        "numbers",
        "Repository initialized",
    ]


def test_a_committed_session_reads_on_and_writes_no_more(repo):
    session = repo.writable_session("main")
    store = session.store
    assert (session.mode, session.read_only, session.branch) == (
        SessionMode.writable,
        False,
        "main",
    )
    a = array(session)
    a[:] = 1
    snapshot_id = session.commit("one")
    assert (session.mode, session.read_only, session.branch) == (SessionMode.readonly, True, None)
    assert session.snapshot_id == snapshot_id
    assert not session.has_uncommitted_changes
    assert a[3] == 1
    assert not store.read_only
    with pytest.raises(ReadOnlyError) as caught:
        a[3] = 2
    assert caught.value.kind == "read-only-store"
    with pytest.raises(SessionStateError) as caught:
        session.commit("again")
    assert caught.value.kind == "commit-not-allowed"


def test_of_two_sessions_on_one_tip_the_second_conflicts_and_stays_usable(repo):
    first, second = (repo.writable_session("main") for _ in range(2))
    array(first, "a")[:] = 1
    array(second, "b")[:] = 2
    tip = first.commit("first")
    with pytest.raises(ConflictError) as caught:
        second.commit("second")
    assert caught.value.kind == "commit-conflict"
    assert caught.value.expected_parent == "1CECHNKREP0F1RSTCMT0"
    assert caught.value.actual_parent == tip
    assert second.has_uncommitted_changes
    assert second.branch == "main"
    assert zarr.open_array(second.store, path="b")[0] == 2
    assert repo.lookup_branch("main") == tip


def test_an_empty_commit_needs_permission(repo):
    session = repo.writable_session("main")
    with pytest.raises(SessionStateError, match="no changes made to the session") as caught:
        session.commit("nothing")
    assert caught.value.kind == "no-changes-to-commit"
    snapshot_id = session.commit("nothing", allow_empty=True)
    assert repo.lookup_snapshot(snapshot_id).message == "nothing"


def test_metadata_travel_with_the_commit(repo):
    properties = {"a": 1, "b": 1.5, "c": "x", "d": None, "e": [1, {"f": True}], "g": -3}
    session = repo.writable_session("main")
    array(session)
    snapshot_id = session.commit("m", metadata=properties)
    assert repo.lookup_snapshot(snapshot_id).metadata == properties
    with pytest.raises(TypeError, match="message"):
        repo.writable_session("main").commit(None, allow_empty=True)
    with pytest.raises(TypeError, match="metadata"):
        repo.writable_session("main").commit("m", metadata=[1], allow_empty=True)
    with pytest.raises(TypeError, match="metadata"):
        repo.writable_session("main").commit("m", metadata={"x": object()}, allow_empty=True)


def test_default_metadata_lie_below_those_of_the_commit(repo):
    repo.set_default_commit_metadata({"user": "test", "n": 1})
    session = repo.writable_session("main")
    first = session.commit("m", allow_empty=True)
    assert repo.lookup_snapshot(first).metadata == {"user": "test", "n": 1}
    second = repo.writable_session("main").commit("m", {"n": 2}, allow_empty=True)
    assert repo.lookup_snapshot(second).metadata == {"user": "test", "n": 2}


def test_a_deleted_branch_cannot_be_committed_to(repo):
    repo.create_branch("side", repo.lookup_branch("main"))
    session = repo.writable_session("side")
    array(session)
    repo.delete_branch("side")
    with pytest.raises(RefNotFoundError) as caught:
        session.commit("lost")
    assert caught.value.kind == "branch-not-found"
    assert session.has_uncommitted_changes


def test_discarding_reads_the_base_again(repo):
    session = repo.writable_session("main")
    array(session)[:] = 1
    session.commit("one")
    session = repo.writable_session("main")
    a = zarr.open_array(session.store, path="a")
    a[:] = 2
    a.attrs["x"] = 1
    assert session.has_uncommitted_changes
    session.discard_changes()
    assert not session.has_uncommitted_changes
    assert a[0] == 1
    with pytest.raises(ReadOnlyError) as caught:
        repo.readonly_session("main").discard_changes()
    assert caught.value.kind == "read-only-session"


def test_status_names_what_happened(repo):
    session = repo.writable_session("main")
    root = zarr.group(session.store)
    group = root.create_group("g")
    array(session, "g/a")[:4] = 1
    array(session, "gone")[:] = 1
    status = session.status()
    assert status.new_groups == {"/", "/g"}
    assert status.new_arrays == {"/g/a", "/gone"}
    assert status.updated_chunks["/g/a"] == [[0], [1]]
    assert "Arrays created:\n    /g/a\n" in repr(status)
    session.commit("base")

    session = repo.writable_session("main")
    assert session.status().is_empty()
    assert repr(session.status()) == ""
    root = zarr.open_group(session.store)
    root["g"].attrs["x"] = 1
    root["g/a"].attrs["y"] = 2
    root["g/a"][5] = 9
    del root["gone"]
    status = session.status()
    assert status.updated_groups == {"/g"}
    assert status.updated_arrays == {"/g/a"}
    assert status.updated_chunks == {"/g/a": [[2]]}
    assert status.deleted_arrays == {"/gone"}
    assert not status.new_arrays
    assert group.path == "g"
    assert repo.readonly_session("main").status().is_empty()


def test_status_lists_ten_chunks_and_counts_the_others(repo):
    session = repo.writable_session("main")
    array(session, n=200)[:] = 1
    assert "        ... 90 more\n" in repr(session.status()).replace("    ...", "        ...") or (
        "... 90 more" in repr(session.status())
    )


def test_overwriting_an_array_makes_a_new_node(repo):
    session = repo.writable_session("main")
    array(session)[:] = 1
    session.commit("one")
    session = repo.writable_session("main")
    array(session, overwrite=True)
    status = session.status()
    assert status.deleted_arrays == {"/a"}
    assert status.new_arrays == {"/a"}
    assert status.updated_chunks == {}
    session.commit("again")
    np.testing.assert_array_equal(read(repo), np.zeros(10))


def test_chunks_outside_a_shrunken_array_come_back_until_the_commit(repo, array_document):
    from zarr.core.buffer import default_buffer_prototype

    prototype = default_buffer_prototype()
    buffer = prototype.buffer.from_bytes
    session = repo.writable_session("main")
    store = session.store
    store.set_sync("a/zarr.json", buffer(array_document()))
    for i in range(4):
        store.set_sync(f"a/c/{i}", buffer(bytes([i, i])))
    session.commit("four")
    session = repo.writable_session("main")
    store = session.store
    store.set_sync("a/zarr.json", buffer(array_document(shape=(4,))))
    assert store.get_sync("a/c/3") is None
    assert "a/c/3" not in list(store.list())
    store.set_sync("a/zarr.json", buffer(array_document()))
    assert store.get_sync("a/c/3").to_bytes() == b"\x03\x03"
    store.set_sync("a/zarr.json", buffer(array_document(shape=(4,))))
    session.commit("two")
    session = repo.writable_session("main")
    session.store.set_sync("a/zarr.json", buffer(array_document()))
    assert session.store.get_sync("a/c/1").to_bytes() == b"\x01\x01"
    assert session.store.get_sync("a/c/3") is None


def test_a_manifest_without_the_array_that_refers_to_it_holds_no_chunks(storage, array_document):
    buffer = default_buffer_prototype().buffer.from_bytes
    session = icechunk.Repository.create(storage).writable_session("main")
    session.store.set_sync("a/zarr.json", buffer(array_document()))
    session.store.set_sync("a/c/0", buffer(b"\x01\x01"))
    session.commit("one")
    (key,) = (item.key for item in storage.list("manifests"))
    storage.put(key, encode_manifest(id_from_key(key), []))
    session = icechunk.Repository.open(storage).writable_session("main")
    assert session.store.get_sync("a/c/0") is None
    assert list(session.store.list()) == ["a/zarr.json"]
    session.store.set_sync("a/c/3", buffer(b"\x02\x02"))
    session.commit("another")
    assert session.store.get_sync("a/c/3").to_bytes() == b"\x02\x02"


def test_growing_keeps_manifests(repo):
    session = repo.writable_session("main")
    array(session)[:] = 1
    first = session.commit("one")
    session = repo.writable_session("main")
    zarr.open_array(session.store, path="a").resize((20,))
    second = session.commit("grown")
    assert repo.list_manifest_files(first) == repo.list_manifest_files(second)
    np.testing.assert_array_equal(read(repo), [1] * 10 + [0] * 10)


@pytest.mark.parametrize("threshold", [0, 40, 10_000])
def test_only_chunks_above_the_threshold_become_objects(storage, threshold):
    config = icechunk.RepositoryConfig(inline_chunk_threshold_bytes=threshold)
    repo = Repository.create(storage, config)
    session = repo.writable_session("main")
    small = array(session, "small", compressors=None)  # 8-byte chunks
    large = array(session, "large", n=100, chunks=50, compressors=None)  # 200-byte chunks
    small[:] = np.arange(10)
    large[:] = np.arange(100)
    objects = len(list(storage.list("chunks/")))
    assert objects == {0: 7, 40: 2, 10_000: 0}[threshold]
    session.commit("both")
    np.testing.assert_array_equal(read(repo, "small"), np.arange(10))
    np.testing.assert_array_equal(read(repo, "large"), np.arange(100))


def test_split_manifests_are_reused(storage):
    splitting = icechunk.ManifestSplittingConfig.from_dict(
        {
            icechunk.ManifestSplitCondition.AnyArray(): {
                icechunk.ManifestSplitDimCondition.Axis(0): 3
            }
        }
    )
    config = icechunk.RepositoryConfig(manifest=icechunk.ManifestConfig(splitting=splitting))
    repo = Repository.create(storage, config)
    session = repo.writable_session("main")
    array(session, n=20)[:] = 1
    first = session.commit("ten chunks")
    files = repo.list_manifest_files(first)
    assert sorted(file.num_chunk_refs for file in files) == [1, 3, 3, 3]
    session = repo.writable_session("main")
    zarr.open_array(session.store, path="a")[9] = 7
    second = session.commit("one chunk")
    assert len(set(repo.list_manifest_files(second)) - set(files)) == 1
    session = repo.writable_session("main")
    zarr.open_array(session.store, path="a").attrs["x"] = 1
    third = session.commit("attributes")
    assert repo.list_manifest_files(third) == repo.list_manifest_files(second)
    expected = np.ones(20)
    expected[9] = 7
    np.testing.assert_array_equal(read(repo), expected)


def test_splits_follow_a_changed_configuration(storage):
    repo = Repository.create(storage)
    session = repo.writable_session("main")
    array(session, n=20)[:] = np.arange(20)
    session.commit("one manifest")
    config = icechunk.RepositoryConfig(
        manifest=icechunk.ManifestConfig(
            splitting=icechunk.ManifestSplittingConfig.from_dict(
                {
                    icechunk.ManifestSplitCondition.name_matches("^a$"): {
                        icechunk.ManifestSplitDimCondition.Any(): 4
                    }
                }
            )
        )
    )
    repo = Repository.open(storage, config)
    session = repo.writable_session("main")
    zarr.open_array(session.store, path="a")[0] = 5
    snapshot_id = session.commit("split")
    assert sorted(f.num_chunk_refs for f in repo.list_manifest_files(snapshot_id)) == [2, 4, 4]
    expected = np.arange(20)
    expected[0] = 5
    np.testing.assert_array_equal(read(repo), expected)


# --- forks ---------------------------------------------------------------------------------------


def test_forks_write_in_parallel_and_are_merged(repo):
    session = repo.writable_session("main")
    array(session, n=12)
    session.commit("array")
    session = repo.writable_session("main")
    forks = [session.fork() for _ in range(3)]
    for i, fork in enumerate(forks):
        zarr.open_array(fork.store, path="a")[i * 4 : i * 4 + 4] = i + 1
    assert not session.has_uncommitted_changes
    session.merge(*forks)
    session.commit("merged")
    np.testing.assert_array_equal(read(repo), np.repeat([1, 2, 3], 4))


def test_a_fork_of_a_dirty_session_sees_its_edits_and_stays_small(repo):
    session = repo.writable_session("main")
    array(session, n=4000)[:] = 7
    clean = len(pickle.dumps(repo.writable_session("main").fork()))
    fork = session.fork()
    assert abs(len(pickle.dumps(fork)) - clean) < 500
    assert fork.snapshot_id != session.snapshot_id
    assert (fork.read_only, fork.branch, fork.mode) == (False, None, SessionMode.readonly)
    a = zarr.open_array(fork.store, path="a")
    assert a[100] == 7
    a[:10] = 8
    session.merge(fork)
    session.commit("merged")
    data = read(repo)
    assert data[9] == 8
    assert data[10] == 7


def test_forks_travel_by_pickle_with_what_they_wrote(tmp_path):
    repo = Repository.create(icechunk.local_filesystem_storage(str(tmp_path / "r")))
    session = repo.writable_session("main")
    array(session, n=2000, chunks=1000, compressors=None)
    fork = pickle.loads(pickle.dumps(session.fork()))
    store = pickle.loads(pickle.dumps(fork.store))
    zarr.open_array(store, path="a")[:] = 3
    assert isinstance(store.session, icechunk.ForkSession)
    session.merge(pickle.loads(pickle.dumps(store.session)))
    session.commit("travelled")
    np.testing.assert_array_equal(read(repo), np.full(2000, 3))


def test_overlapping_forks_are_refused_and_named(repo):
    session = repo.writable_session("main")
    array(session)
    one, two = session.fork(), session.fork()
    zarr.open_array(one.store, path="a")[0:4] = 1
    zarr.open_array(two.store, path="a")[3:6] = 2
    with pytest.raises(SessionStateError) as caught:
        session.merge(one, two)
    assert caught.value.kind == "merge-failed"
    assert "/a" in str(caught.value)
    assert "[1]" in str(caught.value)
    session.merge(one, two, overlap="last")
    session.commit("last wins")
    np.testing.assert_array_equal(read(repo)[:6], [1, 1, 0, 2, 2, 2])


def test_what_may_not_be_forked_merged_or_pickled(repo):
    writable = repo.writable_session("main")
    readonly = repo.readonly_session("main")
    fork = writable.fork()
    with pytest.raises(SessionStateError) as caught:
        readonly.fork()
    assert caught.value.kind == "cannot-fork-read-only-session"
    with pytest.raises(SessionStateError) as caught:
        fork.commit("no")
    assert caught.value.kind == "commit-not-allowed"
    with pytest.raises(SessionStateError) as caught:
        fork.merge(writable)
    assert caught.value.kind == "merge-not-allowed"
    fork.merge(repo.readonly_session("main"))  # brings nothing
    with pytest.raises(ReadOnlyError) as caught:
        readonly.merge(fork)
    assert caught.value.kind == "read-only-session"
    for thing in (writable, writable.store):
        with pytest.raises(ValueError, match="You must opt-in to pickle writable sessions"):
            pickle.dumps(thing)
    for thing in (readonly, readonly.store):
        copy = pickle.loads(pickle.dumps(thing))
        assert copy != thing
        assert copy.read_only


def test_forks_of_forks_are_merged_one_after_the_other(repo):
    session = repo.writable_session("main")
    array(session)
    outer = session.fork()
    zarr.open_array(outer.store, path="a")[:2] = 1
    inner = outer.fork()
    a = zarr.open_array(inner.store, path="a")
    assert a[0] == 1
    a[:4] = 2
    outer.merge(inner)
    session.merge(outer)
    session.commit("nested")
    np.testing.assert_array_equal(read(repo)[:6], [2, 2, 2, 2, 0, 0])


def test_a_detached_copy_shares_the_origin_and_nothing_else(repo):
    session = repo.writable_session("main")
    array(session)
    fork = session.fork()
    copies = [fork.detached_copy() for _ in range(2)]
    for i, copy in enumerate(copies):
        zarr.open_array(copy.store, path="a")[i * 2 : i * 2 + 2] = i + 1
    assert not fork.has_uncommitted_changes
    fork.merge(*copies)
    late = fork.detached_copy()
    assert zarr.open_array(late.store, path="a")[0] == 1
    session.merge(fork)
    session.commit("copies")
    np.testing.assert_array_equal(read(repo)[:5], [1, 1, 2, 2, 0])


# --- many at once --------------------------------------------------------------------------------


def test_threads_share_a_session(repo):
    session = repo.writable_session("main")
    a = array(session, n=400)

    def work(i):
        zarr.open_array(session.store, path="a")[i * 50 : i * 50 + 50] = i
        assert a[i * 50] == i

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    session.commit("threads")
    np.testing.assert_array_equal(read(repo), np.repeat(np.arange(8), 50))


def test_threads_that_retry_lose_no_commit(repo):
    session = repo.writable_session("main")
    array(session, n=8, chunks=1)
    session.commit("array")

    def work(i):
        for value in range(1, 6):
            while True:
                session = repo.writable_session("main")
                zarr.open_array(session.store, path="a")[i] = value
                try:
                    session.commit(f"{i}.{value}")
                    break
                except ConflictError:
                    continue

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    messages = [entry.message for entry in repo.ancestry(branch="main")]
    assert len(messages) == 22
    assert {f"{i}.{v}" for i in range(4) for v in range(1, 6)} <= set(messages)
    np.testing.assert_array_equal(read(repo)[:4], [5] * 4)


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "error", "kind"),
    [
        ("a/c/0", b"x", NodeNotFoundError, "node-not-found"),
        ("arr/c/9", b"x", InvalidInputError, "invalid-chunk-index"),
        ("arr/c/0/0", b"x", InvalidInputError, "invalid-chunk-index"),
        ("arr/c", b"x", InvalidInputError, "invalid-chunk-index"),
        ("arr/c/0", b"", InvalidInputError, "zero-length-chunk"),
        ("group/c/0", b"x", InvalidInputError, "not-an-array"),
        ("nonsense", b"x", InvalidInputError, "invalid-key"),
        ("arr/zarr.json", b"{", InvalidInputError, "bad-metadata"),
        ("arr/zarr.json", b'{"node_type": "group"}', AlreadyExistsError, "node-already-exists"),
        ("arr/.zarray", b"{}", SessionStateError, "unimplemented"),
    ],
)
def test_a_refused_write_changes_nothing(storage, array_document, key, value, error, kind):
    from zarr.core.buffer import default_buffer_prototype

    buffer = default_buffer_prototype().buffer.from_bytes
    config = icechunk.RepositoryConfig(inline_chunk_threshold_bytes=0)
    session = Repository.create(storage, config).writable_session("main")
    session.store.set_sync("arr/zarr.json", buffer(array_document()))
    session.store.set_sync("group/zarr.json", buffer(b'{"node_type": "group"}'))
    before = (repr(session.status()), sorted(session.store.list()), len(list(storage.list(""))))
    with pytest.raises(error) as caught:
        session.store.set_sync(key, buffer(value))
    assert caught.value.kind == kind
    after = (repr(session.status()), sorted(session.store.list()), len(list(storage.list(""))))
    assert after == before


def test_displays(repo):
    session = repo.writable_session("main")
    assert repr(session) == (
        "<icechunk.session.Session>\nread_only: False\nsnapshot_id: 1CECHNKREP0F1RSTCMT0\n"
        "branch: main\nhas_uncommitted_changes: False\n"
    )
    assert repr(session.store).startswith("<icechunk.IcechunkStore>\nread_only: False\n")


def test_a_snapshot_fetched_while_the_session_moves_on_is_not_used(repo):
    """The first read of a session is on its way when another thread writes and commits."""
    session = repo.writable_session("main")
    workspace = session._workspace
    assets = workspace.context.assets
    fetch = assets.snapshot

    class Assets:
        def snapshot(self, snapshot_id):
            found = fetch(snapshot_id)
            workspace.context.assets = assets
            array(session)[:] = 1
            session.commit("meanwhile")
            return found

        def __getattr__(self, name):
            return getattr(assets, name)

    workspace.context.assets = Assets()
    assert session.store.get_sync("a/zarr.json") is not None
    assert zarr.open_array(session.store, path="a", mode="r")[0] == 1

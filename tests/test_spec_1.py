"""Sessions on repositories of spec version 1: data, commits and conflicts as in version 2."""

import pickle
import threading

import numpy as np
import pytest
import zarr
from zarr.core.buffer import cpu

import icechunk
from icechunk import (
    BasicConflictSolver,
    ConflictDetector,
    ConflictError,
    RebaseFailedError,
    Repository,
    RepositoryConfig,
    VersionSelection,
    VirtualChunkSpec,
)
from icechunk.errors import (
    ErrorKind,
    FormatError,
    InvalidInputError,
    SessionStateError,
    SnapshotNotFoundError,
)
from icechunk.format.envelope import HEADER_SIZE, FileKind, read_header
from icechunk.format.snapshot import decode_snapshot
from icechunk.storage.local import LocalStorage
from icechunk.testing import FaultyStorage

KINDS = {
    "snapshots": FileKind.SNAPSHOT,
    "manifests": FileKind.MANIFEST,
    "transactions": FileKind.TRANSACTION_LOG,
}


def put(session, key, data):
    session.store.set_sync(key, cpu.Buffer.from_bytes(data))


def values(repo, **where):
    store = repo.readonly_session(**(where or {"branch": "main"})).store
    return {key: store.get_sync(key).to_bytes() for key in store.list()}


def messages(repo, branch="main"):
    return [entry.message for entry in repo.ancestry(branch=branch)][:-1]


def versions(storage):
    """Spec versions in the headers of all files."""
    found = set()
    for folder, kind in KINDS.items():
        for item in storage.list(folder):
            data = storage.get(item.key)
            assert len(data) > HEADER_SIZE
            found.add((folder, read_header(data, kind, item.key).spec_version))
    return found


@pytest.fixture
def filled(repo_v1, array_document, group_document):
    """Two arrays of four chunks in a group."""
    session = repo_v1.writable_session("main")
    put(session, "zarr.json", group_document())
    for name in "xy":
        put(session, f"{name}/zarr.json", array_document())
        for index in range(4):
            put(session, f"{name}/c/{index}", bytes([index] * 2))
    session.commit("filled", metadata={"n": 1})
    return repo_v1


def test_all_files_are_of_version_1(filled, storage):
    session = filled.writable_session("main")
    put(session, "x/c/1", b"ab")
    tip = session.commit("patched")
    filled.rewrite_manifests("rewritten", branch="main")
    filled.writable_session("main").flush("apart")
    assert versions(storage) == {(folder, 1) for folder in KINDS}
    names = {item.key.removeprefix("snapshots/") for item in storage.list("snapshots")}
    for name in names:
        snapshot = decode_snapshot(storage.get(f"snapshots/{name}"), name)
        assert (snapshot.parent_id is None) == (name == "1CECHNKREP0F1RSTCMT0")
    assert values(filled, snapshot_id=tip)["x/c/1"] == b"ab"
    assert filled.verify(decode_chunks=True).is_clean


def test_what_zarr_makes_of_it(repo_v1, storage):
    with repo_v1.transaction("main", message="made") as store:
        group = zarr.create_group(store, attributes={"title": "old"})
        array = group.create_array("a/b", shape=(5, 7), chunks=(2, 3), dtype="f4")
        array[...] = np.arange(35).reshape(5, 7)
    with Repository.open(storage).transaction("main", message="grown") as store:
        array = zarr.open_array(store, path="a/b")
        array.resize((9, 7))
        array[5:] = -1
    found = zarr.open_array(Repository.open(storage).readonly_session("main").store, path="a/b")
    expected = np.full((9, 7), -1.0)
    expected[:5] = np.arange(35).reshape(5, 7)
    np.testing.assert_array_equal(found[...], expected)


def test_differences(filled):
    start = filled.lookup_branch("main")
    session = filled.writable_session("main")
    put(session, "x/c/3", b"zz")
    session.store.delete_sync("y/zarr.json")
    session.commit("changed")
    diff = filled.diff(from_snapshot_id=start, to_branch="main")
    assert (diff.updated_chunks, diff.deleted_arrays) == ({"/x": [[3]]}, {"/y"})
    with pytest.raises(InvalidInputError) as caught:
        filled.diff(from_branch="main", to_snapshot_id=start)
    assert caught.value.kind == "bad-snapshot-chain-for-diff"
    # The first snapshot has no transaction log, and none is asked for.
    root = list(filled.ancestry(branch="main"))[-1].id
    assert filled.diff(from_snapshot_id=root, to_branch="main").new_arrays == {"/x"}


def test_lost_and_rebased(filled):
    slow, other = filled.writable_session("main"), filled.writable_session("main")
    put(other, "x/c/0", b"oo")
    theirs = other.commit("other")
    put(slow, "x/c/1", b"ss")
    with pytest.raises(ConflictError) as caught:
        slow.commit("slow")
    assert caught.value.actual_parent == theirs
    tip = slow.commit("slow", rebase_with=ConflictDetector())
    assert messages(filled) == ["slow", "other", "filled"]
    assert filled.lookup_snapshot(tip).parent_id == theirs
    assert filled.lookup_snapshot(tip).metadata == {"__icechunk": {"rebase_attempts": 1}}
    found = values(filled)
    assert (found["x/c/0"], found["x/c/1"]) == (b"oo", b"ss")


def test_conflicts(filled):
    slow, other = filled.writable_session("main"), filled.writable_session("main")
    put(other, "x/c/0", b"oo")
    other.commit("other")
    put(slow, "x/c/0", b"ss")
    with pytest.raises(RebaseFailedError) as caught:
        slow.rebase(ConflictDetector())
    assert [conflict.path for conflict in caught.value.conflicts] == ["/x"]
    solver = BasicConflictSolver(on_chunk_conflict=VersionSelection.UseOurs)
    slow.commit("slow", rebase_with=solver)
    assert values(filled)["x/c/0"] == b"ss"


def test_rebase_onto_a_branch_that_was_reset(filled):
    start = filled.lookup_branch("main")
    session = filled.writable_session("main")
    put(session, "x/c/0", b"aa")
    left = session.commit("left behind")
    slow = filled.writable_session("main")
    put(slow, "y/c/0", b"ss")
    filled.reset_branch("main", start)
    session = filled.writable_session("main")
    put(session, "x/c/1", b"bb")
    session.commit("instead")
    slow.commit("slow", rebase_with=ConflictDetector())
    assert messages(filled) == ["slow", "instead", "filled"]
    assert values(filled)["x/c/0"] == bytes(2)
    assert values(filled, snapshot_id=left)["x/c/0"] == b"aa"


def test_rebase_over_what_has_expired(filled, storage):
    """Nobody can tell any more what others have changed: nothing of it may be overwritten."""
    slow = Repository.open(storage).writable_session("main")
    put(slow, "x/c/0", b"ss")
    for name, value in (("x/c/0", b"aa"), ("x/c/1", b"bb")):
        session = filled.writable_session("main")
        put(session, name, value)
        last = session.commit(value.decode())
    other = Repository.open(storage)
    assert other.expire_snapshots(other.lookup_snapshot(last).written_at)
    with pytest.raises(SessionStateError) as caught:
        slow.commit("slow", rebase_with=ConflictDetector())
    assert caught.value.kind == ErrorKind.REBASE_TX_LOG_PRUNED
    assert values(filled)["x/c/0"] == b"aa"
    with pytest.raises(SessionStateError, match="expired"):
        slow.rebase(ConflictDetector())


def test_forks(filled):
    session = filled.writable_session("main")
    put(session, "x/c/0", b"00")
    forks = [session.fork() for _ in range(2)]
    if isinstance(filled.storage, LocalStorage):
        forks = [pickle.loads(pickle.dumps(fork)) for fork in forks]
    for number, fork in enumerate(forks, start=1):
        assert fork.store.get_sync("x/c/0").to_bytes() == b"00"
        put(fork, f"x/c/{number}", bytes([65] * 2))
    session.merge(*forks)
    tip = session.commit("merged")
    assert filled.lookup_snapshot(tip).parent_id != forks[0].snapshot_id
    assert messages(filled) == ["merged", "filled"]
    assert filled.verify().is_clean


def test_reading_writes_nothing(filled, storage):
    start = list(filled.ancestry(branch="main"))[-1].id
    filled.create_tag("t", filled.lookup_branch("main"))
    watched = FaultyStorage(storage)
    repo = Repository.open(watched)
    assert Repository.exists(watched)
    assert Repository.fetch_config(watched) is None
    assert (repo.list_branches(), repo.list_tags()) == ({"main"}, {"t"})
    assert len(repo.ancestry_graph(plain=True)._repr_html_()) > 100
    assert repo.diff(from_snapshot_id=start, to_tag="t").new_arrays == {"/x", "/y"}
    assert repo.chunk_storage_stats().inlined_bytes == 16
    assert repo.inspect_transaction_log(repo.lookup_tag("t"))["new_arrays"]
    now = repo.lookup_snapshot(repo.lookup_tag("t")).written_at
    assert not repo.plan_expiration(now).released
    assert repo.plan_garbage_collection(now).made_from is None
    assert repo.reopen().verify(decode_chunks=True).is_clean
    with pytest.raises(InvalidInputError):
        repo.lookup_branch("a/b")
    session = repo.writable_session("main")
    put(session, "x/c/0", b"ab")
    session.discard_changes()
    assert values(repo)["x/c/1"] == bytes([1, 1])
    assert watched.effects == []


def test_flushed_snapshots(filled):
    session = filled.writable_session("main")
    put(session, "x/c/0", b"ff")
    flushed = session.flush("apart")
    assert messages(filled) == ["filled"]
    assert next(iter(filled.ancestry(snapshot_id=flushed))).message == "apart"
    filled.create_branch("picked up", flushed)
    assert values(filled, branch="picked up")["x/c/0"] == b"ff"


def test_rectilinear_grids_are_refused(repo_v1):
    session = repo_v1.writable_session("main")
    document = (
        b'{"zarr_format": 3, "node_type": "array", "shape": [3], "data_type": "uint8",'
        b' "chunk_grid": {"name": "rectilinear", "configuration":'
        b' {"kind": "inline", "chunk_shapes": [[1, 2]]}}, "fill_value": 0, "codecs": []}'
    )
    with pytest.raises(InvalidInputError, match="spec version 1") as caught:
        put(session, "x/zarr.json", document)
    assert caught.value.kind == "bad-metadata"
    assert not session.has_uncommitted_changes


def test_virtual_chunks_are_stored_plainly(storage, tmp_path, array_document):
    """Location compression came with version 2, whatever the configuration says."""
    config = RepositoryConfig(
        manifest=icechunk.ManifestConfig(
            virtual_chunk_location_compression=(
                icechunk.ManifestVirtualChunkLocationCompressionConfig(min_num_chunks=1)
            )
        )
    )
    repo = Repository.create(storage, config, spec_version=1)
    session = repo.writable_session("main")
    put(session, "x/zarr.json", array_document((2000,), (1,)))
    specs = [VirtualChunkSpec([n], f"s3://bucket/file{n}.nc", n, 1) for n in range(2000)]
    session.store.set_virtual_refs("x", specs, validate_containers=False)
    tip = session.commit("virtual")
    (file,) = repo.list_manifest_files(tip)
    described = repo.inspect_manifest(file.id)
    assert described["compression"]["num_compressed_refs"] == 0
    assert described["total_virtual"] == 2000
    assert len(repo.readonly_session("main").all_virtual_chunk_locations()) == 2000


def test_statistics(filled):
    session = filled.writable_session("main")
    put(session, "x/c/0", b"22")
    session.commit("more")
    # Two manifests of eight bytes, and the one that took the place of the first.
    assert filled.chunk_storage_stats().inlined_bytes == 24
    assert [f["id"] for f in filled.inspect_snapshot(session.snapshot_id)["manifests"]]


def test_a_session_on_what_was_collected(filled, storage):
    session = filled.writable_session("main")
    put(session, "x/c/0", b"22")
    tip = session.commit("more")
    storage.delete([f"snapshots/{tip}"])
    reader = Repository.open(storage)
    with pytest.raises(SnapshotNotFoundError):
        reader.ancestry(branch="main")
    with pytest.raises(SnapshotNotFoundError):
        reader.create_tag("t", tip)
    assert any(fault.kind == "ref-to-unknown-snapshot" for fault in reader.verify().faults)


def test_damaged_snapshots(filled, storage):
    tip = filled.lookup_branch("main")
    storage.put(f"snapshots/{tip}", storage.get(f"snapshots/{tip}")[:50])
    with pytest.raises(FormatError, match=tip):
        Repository.open(storage).ancestry(branch="main")


@pytest.mark.parametrize("rebasing", [False, True])
def test_threads(filled, storage, rebasing):
    """Nobody's commit is lost, whoever loses a race tries again."""
    commits, count = 5, 4
    solver = ConflictDetector() if rebasing else None
    failures = []

    def work(number):
        try:
            repo = Repository.open(storage) if number % 2 else filled
            for turn in range(commits):
                while True:
                    session = repo.writable_session("main")
                    put(session, f"x/c/{number}", bytes([turn, number]))
                    try:
                        session.commit(f"{number} {turn}", rebase_with=solver)
                        break
                    except ConflictError:
                        assert not rebasing
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    made = messages(Repository.open(storage))
    assert sorted(made[:-1]) == sorted(f"{n} {t}" for n in range(count) for t in range(commits))
    for number in range(count):
        assert values(filled)[f"x/c/{number}"] == bytes([commits - 1, number])
        mine = [message for message in reversed(made) if message.startswith(f"{number} ")]
        assert mine == [f"{number} {turn}" for turn in range(commits)]
    assert filled.verify().is_clean

"""What `Repository.verify` promises: reports, limits, races, chunks that are read, virtual ones."""

import json
import os
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import zarr

import icechunk
from icechunk.credentials import LocalFileSystemAccess
from icechunk.errors import StorageError
from icechunk.format.ids import encode_id
from icechunk.format.repo_info import decode_repo_info, encode_repo_info
from icechunk.format.snapshot_table import SnapshotTable
from icechunk.ops.reachable import reachable_snapshots
from icechunk.ops.verify import chunks as chunk_module
from icechunk.storage.memory import MemoryStorage
from icechunk.testing import CountingStorage
from icechunk.testing.wrapper import StorageWrapper
from icechunk.verification import FaultKind, FaultSeverity

THEN = datetime.fromtimestamp(1_000_000, UTC)


def write(repo, value=1, name="a", **options):
    """Commit eight chunks of a hundred bytes; return the snapshot."""
    session = repo.writable_session("main")
    array = zarr.create_array(
        session.store,
        name=name,
        shape=(800,),
        chunks=(100,),
        dtype="u1",
        fill_value=0,
        overwrite=True,
        **options,
    )
    array[:] = value
    return session.commit(f"{name} is {value}")


@pytest.fixture
def repo(storage):
    config = icechunk.RepositoryConfig(inline_chunk_threshold_bytes=0)
    return icechunk.Repository.create(storage, config)


def keys(storage, folder):
    return sorted(info.key for info in storage.list(folder))


def kinds(report):
    return {fault.kind for fault in report.faults}


# --- the report ----------------------------------------------------------------------------------


def test_reports_show_themselves_and_become_json(repo, storage):
    write(repo, compressors=None)
    first, *_ = keys(storage, "chunks")
    storage.delete([first])
    report = repo.verify()
    described = json.loads(report.to_json())
    assert described["exit_status"] == report.exit_status == 2
    assert described["counts"] == {"chunk-missing": 1}
    assert described["faults"][0]["key"] == first
    assert described["faults"][0]["path"] == "/a"
    assert described["checked"]["chunk_objects"] == 7
    assert first in repr(report)
    assert "icechunk.verification.VerifyReport" in report._repr_html_()
    assert report.of("error") == report.faults
    assert report.of(FaultSeverity.NOTE) == ()
    assert not report.is_clean


def test_names_in_files_do_not_drive_the_terminal(repo, storage):
    write(repo, name="\x1b[2J\nfine", compressors=None)
    storage.delete(keys(storage, "chunks"))
    report = repo.verify()
    assert report.faults[0].path == "/\x1b[2J\nfine"
    assert "\x1b" not in repr(report)
    assert "\nfine" not in repr(report)


def test_faults_beyond_the_limit_are_counted(repo, storage):
    write(repo, compressors=None)
    storage.delete(keys(storage, "chunks"))
    report = repo.verify(max_faults=3)
    assert len(report.faults) == 3
    assert report.counts == {FaultKind.CHUNK_MISSING: 8}
    assert report.errors == 8
    assert report.left_out == 5


def test_small_limits_find_the_same(repo, storage):
    for value in range(4):
        write(repo, value, f"a{value}", compressors=None)
    storage.delete(keys(storage, "chunks")[::3])
    whole = repo.verify()
    little = repo.verify(
        max_snapshots_in_memory=1,
        max_compressed_manifest_mem_bytes=1,
        max_decoded_manifest_mem_bytes=1,
        max_concurrent_manifest_fetches=1,
    )
    assert little == whole
    with pytest.raises(ValueError, match="max_faults must be positive"):
        repo.verify(max_faults=0)


def test_progress_is_told(repo):
    write(repo, compressors=None)
    told = []
    repo.verify(read_chunks=True, progress=told.append)
    assert {progress.phase for progress in told} == {
        *("state", "snapshots", "transaction logs", "listing", "manifests", "chunks"),
    }
    assert told[-1].done == 8 or told[-1].phase == "manifests"


def test_where_there_is_no_repository(storage):
    with pytest.raises(icechunk.RepositoryNotFoundError):
        icechunk.Repository.verify_storage(storage)


def test_without_state_and_backups_the_files_are_verified(repo, storage):
    write(repo, compressors=None)
    storage.delete(["repo", *keys(storage, "overwritten")])
    storage.delete([keys(storage, "chunks")[0]])
    report = icechunk.Repository.verify_storage(storage)
    assert kinds(report) == {FaultKind.REPOSITORY_OBJECT_MISSING, FaultKind.CHUNK_MISSING}
    assert report.checked.snapshots == 2


def test_the_walk_goes_on_from_the_newest_readable_backup(repo, storage):
    write(repo, compressors=None)
    repo.set_metadata({"a": 1})
    newest = keys(storage, "overwritten")[0]
    storage.put("repo", b"junk")
    report = icechunk.Repository.verify_storage(storage)
    assert report.state_key == newest
    assert report.faults[0].key == "repo"
    assert newest in report.faults[0].remedy
    assert report.errors == 1
    assert report.checked.chunk_objects == 8
    storage.put(newest, b"junk")
    assert icechunk.Repository.verify_storage(storage).state_key > newest


def test_snapshots_that_no_ref_leads_to_give_warnings(repo, storage):
    tip = write(repo, compressors=None)
    root = next(iter(repo.ancestry(snapshot_id=tip))).parent_id
    repo.reset_branch("main", root)
    storage.delete(keys(storage, "chunks"))
    report = repo.verify()
    assert report.errors == 0
    assert report.warnings == 8
    assert report.exit_status == 1
    assert "no branch or tag" in report.faults[0].message
    repo.create_tag("t", tip)
    assert repo.verify().errors == 8


def test_expired_histories_are_clean(repo, storage):
    snapshots = [write(repo, value, f"a{value}", compressors=None) for value in range(1, 5)]
    session = repo.writable_session("main")
    zarr.open_group(session.store).create_group("last")
    tip = session.commit("the tip")
    repo.create_tag("t", snapshots[1])
    released = repo.expire_snapshots(datetime.now(UTC) + timedelta(hours=1))
    assert released
    assert repo.verify(decode_chunks=True).is_clean
    pruned = f"transactions/{snapshots[2]}"
    saved = storage.get(pruned)
    storage.delete([pruned])
    (fault,) = repo.verify().of("warning")
    assert (fault.kind, fault.key) == (FaultKind.TRANSACTION_LOG_MISSING, pruned)
    storage.put(pruned, storage.get(f"transactions/{snapshots[0]}"))
    (fault,) = repo.verify().of("warning")
    assert (fault.kind, fault.key) == (FaultKind.ID_MISMATCH, pruned)
    storage.put(pruned, saved)
    assert repo.verify().is_clean
    assert repo.lookup_branch("main") == tip


# --- requests ------------------------------------------------------------------------------------


def test_chunks_take_no_requests_of_their_own():
    storage = CountingStorage(MemoryStorage())
    config = icechunk.RepositoryConfig(inline_chunk_threshold_bytes=0)
    repo = icechunk.Repository.create(storage, config)
    write(repo, compressors=None)
    few = keys(storage, "chunks")
    storage.reset()
    assert repo.verify().is_clean
    requests = storage.total()
    session = repo.writable_session("main")
    zarr.create_array(
        session.store, name="b", shape=(999,), chunks=(1,), dtype="u1", compressors=None
    )[:] = 1
    session.commit("many")
    assert len(keys(storage, "chunks")) == len(few) + 999
    storage.reset()
    assert repo.verify().is_clean
    assert storage.total() == requests + 3  # a snapshot, its log, a manifest


def test_each_chunk_is_read_once():
    storage = CountingStorage(MemoryStorage())
    config = icechunk.RepositoryConfig(inline_chunk_threshold_bytes=0)
    repo = icechunk.Repository.create(storage, config)
    write(repo, compressors=None)
    for value in range(3):
        session = repo.writable_session("main")
        zarr.open_array(session.store, path="a")[:100] = value + 2
        session.commit("one chunk")
    storage.reset()
    report = repo.verify(read_chunks=True)
    assert report.is_clean
    assert report.checked.chunks_read == 11
    assert storage.counts["get", "chunks"] == 11


# --- others at work meanwhile --------------------------------------------------------------------


class Meanwhile(StorageWrapper):
    """Does something right before a request for the first key of a kind, once."""

    def __init__(self, inner):
        super().__init__(inner)
        self.plans = {}

    def _before(self, operation, key):
        plan = self.plans.pop((operation, key.partition("/")[0]), None)
        if plan is not None:
            plan()


@pytest.mark.parametrize(
    "moment",
    [
        ("get", "snapshots"),
        ("get", "transactions"),
        ("get", "manifests"),
        ("list", "chunks"),
        ("list", "manifests"),
        ("list", "snapshots"),
    ],
)
def test_commits_meanwhile_cause_no_faults(storage, moment):
    watched = Meanwhile(storage)
    repo = icechunk.Repository.create(watched)
    write(repo, compressors=None)
    other = icechunk.Repository.open(storage)
    watched.plans[moment] = lambda: write(other, 2, compressors=None)
    report = repo.verify()
    assert not watched.plans, "nothing happened meanwhile"
    assert report.is_clean, report


def test_listings_that_are_late_are_not_believed(storage):
    class Late(StorageWrapper):
        def list(self, prefix=""):
            listed = list(self.inner.list(prefix))
            yield from listed[1:] if prefix.startswith("chunks") else listed

    late = Late(storage)
    config = icechunk.RepositoryConfig(inline_chunk_threshold_bytes=0)
    write(icechunk.Repository.create(late, config), compressors=None)
    assert icechunk.Repository.open(late).verify().is_clean


def test_much_that_is_missing_is_listed_again(repo, storage, monkeypatch):
    write(repo, compressors=None)
    lost = keys(storage, "chunks")[:3]
    storage.delete(lost)
    monkeypatch.setattr(chunk_module, "ASKED_ONE_BY_ONE", 2)
    report = repo.verify()
    assert sorted(fault.key for fault in report.faults) == lost


def collect(repo, storage):
    """Do to a repository what a garbage collection does to all that no ref leads to."""
    info = decode_repo_info(storage.get("repo"))
    gone = {row.tobytes() for row in info.snapshots.ids} - set(reachable_snapshots(info))
    kept = SnapshotTable.from_entries(item for item in info.snapshots if item.id not in gone)
    storage.put("repo", encode_repo_info(replace(info, snapshots=kept)))
    needed = {
        f"manifests/{file.id}" for file in repo.list_manifest_files(repo.lookup_branch("main"))
    }
    storage.delete(f"snapshots/{encode_id(snapshot_id)}" for snapshot_id in gone)
    storage.delete(set(keys(storage, "manifests")) - needed)


@pytest.mark.parametrize("moment", [("get", "snapshots"), ("get", "manifests")])
def test_what_is_collected_meanwhile_is_no_fault(storage, moment):
    watched = Meanwhile(storage)
    repo = icechunk.Repository.create(watched)
    root = repo.lookup_branch("main")
    write(repo, compressors=None)
    repo.reset_branch("main", root)
    write(repo, 2, "b", compressors=None)
    assert repo.verify().checked.snapshots == 3
    other = icechunk.Repository.open(storage)
    watched.plans[moment] = lambda: collect(other, storage)
    report = repo.verify()
    assert not watched.plans
    assert report.is_clean, report
    assert report.checked.snapshots == 2


class Far(StorageWrapper):
    """What is asked by many threads at once."""

    def __init__(self, inner):
        super().__init__(inner)
        self.is_local = False


def test_far_storage_is_verified_by_threads():
    storage = MemoryStorage()
    config = icechunk.RepositoryConfig(inline_chunk_threshold_bytes=0)
    repo = icechunk.Repository.create(storage, config)
    for value in range(5):
        write(repo, value, f"a{value}", compressors=None)
    storage.delete([*keys(storage, "chunks")[::7], keys(storage, "transactions")[-1]])
    near = repo.verify(read_chunks=True)
    assert (near.errors, near.warnings) == (5, 1)
    before = threading.active_count()
    assert icechunk.Repository.open(Far(storage)).verify(read_chunks=True) == near
    assert threading.active_count() == before


# --- the bytes of chunks -------------------------------------------------------------------------


def test_damaged_chunks_do_not_decode(repo, storage):
    write(repo, np.arange(800) % 251)  # compressed
    damaged, *_ = keys(storage, "chunks")
    data = storage.get(damaged)
    storage.put(damaged, bytes(len(data)))
    assert repo.verify(read_chunks=True).is_clean, "the bytes are there"
    report = repo.verify(decode_chunks=True)
    (fault,) = report.faults
    assert fault.kind is FaultKind.CHUNK_UNDECODABLE
    assert (fault.key, fault.path) == (damaged, "/a")
    assert report.checked.chunks_decoded == 8


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((), {}),
        ((7,), {"chunks": (3,)}),
        ((7, 5), {"chunks": (2, 2), "shards": (4, 4)}),
        ((0, 5), {"chunks": (2, 5)}),
    ],
)
def test_all_shapes_are_decoded(shape, options, storage):
    repo = icechunk.Repository.create(storage)  # with inline chunks
    session = repo.writable_session("main")
    array = zarr.create_array(session.store, name="a", shape=shape, dtype="i4", **options)
    array[...] = 1
    session.commit("written")
    report = repo.verify(decode_chunks=True)
    assert report.faults == ()
    assert report.checked.chunks_decoded == report.checked.references


def test_arrays_that_zarr_cannot_open_are_named(storage):
    repo = icechunk.Repository.create(storage)
    write(repo, compressors=None)
    session = repo.writable_session("main")
    buffer = zarr.core.buffer.default_buffer_prototype().buffer
    document = json.loads(session._workspace.nodes.find("/a").user_data)
    document["codecs"] = [{"name": "unheard-of"}]
    session.store.set_sync("a/zarr.json", buffer.from_bytes(json.dumps(document).encode()))
    zarr.create_array(session.store, name="b", shape=(2,), dtype="u1")[:] = 1
    session.commit("unreadable")
    session = repo.writable_session("main")
    session.store.set_sync("a/c/0", buffer.from_bytes(b"abc"))
    session.commit("a manifest of its own")
    report = repo.verify(decode_chunks=True)
    assert kinds(report) == {FaultKind.ARRAY_NOT_DECODED}
    assert report.exit_status == 1


def test_objects_that_are_not_handed_over(repo, storage):
    write(repo, compressors=None)
    refused = [keys(storage, folder)[-1] for folder in ("chunks", "manifests", "snapshots")]

    class Refusing(StorageWrapper):
        def _before(self, operation, key):
            if operation in ("get", "get_range") and key in refused:
                raise StorageError(f"no access to {key}")

    report = icechunk.Repository.open(Refusing(storage)).verify(read_chunks=True)
    found = {(fault.kind, fault.key.partition("/")[0]) for fault in report.of("error")}
    assert (FaultKind.UNREADABLE, "snapshots") in found
    refused.pop()
    report = icechunk.Repository.open(Refusing(storage)).verify(read_chunks=True)
    assert kinds(report) >= {FaultKind.UNREADABLE}
    refused.pop()
    report = icechunk.Repository.open(Refusing(storage)).verify(read_chunks=True)
    assert {(fault.kind, fault.key) for fault in report.faults} == {
        (FaultKind.CHUNK_UNREADABLE, refused[0])
    }


# --- virtual chunks ------------------------------------------------------------------------------


@pytest.fixture
def virtual(storage, tmp_path):
    """A repository with virtual chunks in two files of a folder."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("x", "y"):
        (folder / name).write_bytes(bytes(100))
        os.utime(folder / name, (1_000_000, 1_000_000))
    url = f"file://{folder}/"
    config = icechunk.RepositoryConfig()
    config.set_virtual_chunk_container(
        icechunk.VirtualChunkContainer(url, icechunk.local_filesystem_store(str(folder)))
    )
    repo = icechunk.Repository.create(
        storage,
        config,
        authorize_virtual_chunk_access=icechunk.containers_credentials(
            {url: LocalFileSystemAccess}
        ),
    )
    repo.save_config()
    session = repo.writable_session("main")
    zarr.create_array(
        session.store, name="v", shape=(100,), chunks=(10,), dtype="u1", compressors=None
    )
    for index in range(10):
        name = "x" if index < 6 else "y"
        session.store.set_virtual_ref(
            f"v/c/{index}", f"{url}{name}", offset=10 * index, length=10, checksum=THEN
        )
    session.commit("virtual")
    return repo, folder


def test_files_of_virtual_chunks_are_asked_for_once(virtual):
    repo, _ = virtual
    report = repo.verify(virtual=True, decode_chunks=True)
    assert report.faults == ()
    assert report.checked.virtual_objects == 2
    assert repo.verify().checked.virtual_objects == 0


def remove(file):
    file.unlink()


def shorten(file):
    file.write_bytes(bytes(99))
    os.utime(file, (1_000_000, 1_000_000))


def change(file):
    file.write_bytes(bytes(100))


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (remove, FaultKind.VIRTUAL_CHUNK_UNREADABLE),
        (shorten, FaultKind.VIRTUAL_CHUNK_UNREADABLE),
        (change, FaultKind.VIRTUAL_CHUNK_MODIFIED),
    ],
)
def test_damaged_files_of_virtual_chunks(virtual, damage, kind):
    repo, folder = virtual
    damage(folder / "y")
    assert repo.verify().is_clean, "nobody asked"
    (fault,) = repo.verify(virtual=True).faults
    assert (fault.kind, fault.path) == (kind, "/v")
    assert fault.key.endswith("/y")


def test_containers_that_were_not_authorized(virtual):
    repo, _ = virtual
    report = icechunk.Repository.open(repo.storage).verify(virtual=True)
    assert kinds(report) == {FaultKind.VIRTUAL_CHUNK_UNCHECKED}
    assert report.exit_status == 1

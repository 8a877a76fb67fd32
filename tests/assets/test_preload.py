"""Manifests fetched ahead of use: which, by whom, and that nobody notices otherwise."""

import logging
import os
import subprocess
import sys
import threading
import time

import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

import icechunk
from icechunk.assets.preload import manifests_to_preload
from icechunk.config import ManifestPreloadCondition as If
from icechunk.config.effective import Preload, effective
from icechunk.errors import StorageError
from icechunk.format.ids import encode_id
from icechunk.format.nodes import ArrayData, ManifestRef, Node, NodeTable
from icechunk.format.snapshot import ManifestFile, Snapshot
from icechunk.storage.memory import MemoryStorage

DEFAULT = effective(icechunk.RepositoryConfig()).preload


def oid(number):
    return number.to_bytes(12, "big")


def snapshot(arrays, groups=(), unlisted=()):
    """Snapshot of arrays given as path -> {manifest number: references}."""
    nodes = [Node(b"8" * 8, path, b"{}") for path in groups]
    files = {}
    for path, manifests in arrays.items():
        refs = tuple(ManifestRef(oid(number), ((0, 1),)) for number in manifests)
        nodes.append(Node(b"8" * 8, path, b"{}", ArrayData((9,), (9,), None, refs)))
        files |= {n: ManifestFile(oid(n), 100 + n, count) for n, count in manifests.items()}
    listed = [file for number, file in files.items() if number not in unlisted]
    return Snapshot(oid(0), None, NodeTable.from_nodes(nodes), 1, "", {}, listed)


def chosen(snapshot, preload=DEFAULT):
    return [int.from_bytes(file.id, "big") for file in manifests_to_preload(snapshot, preload)]


def preload(condition=None, total=10_000, arrays=50):
    return Preload(total, arrays, If.true() if condition is None else condition)


def test_by_default_small_manifests_of_coordinates():
    arrays = {
        "/temperature": {1: 5},
        "/time": {2: 1000},
        "/lat": {3: 1001},
        "/deep/down/lon": {4: 1},
        "/x": {5: 10},
        "/latin/letters": {6: 10},
        "/time2/data": {7: 10},
        "/timestamp": {8: 10},
        "/nav_lat": {9: 10},
    }
    assert chosen(snapshot(arrays)) == [4, 9, 2, 5]


def test_in_order_of_paths_until_the_budget_is_used():
    arrays = {"/c": {1: 40}, "/a": {2: 30, 3: 50}, "/b": {4: 21, 5: 20}}
    assert chosen(snapshot(arrays), preload(total=1000)) == [2, 3, 4, 5, 1]
    # 4 does not fit any more, 5 does, and nothing is left for 1
    assert chosen(snapshot(arrays), preload(total=100)) == [2, 3, 5]
    assert chosen(snapshot(arrays), preload(total=29)) == [4]
    assert chosen(snapshot(arrays), preload(total=19)) == []


def test_only_the_first_arrays_are_looked_at():
    arrays = {f"/a{n}": {n: 1} for n in range(1, 10)}
    found = snapshot(arrays, groups=["/", "/a0", "/a1/g"])
    assert chosen(found, preload(arrays=3)) == [1, 2, 3], "groups do not count"
    assert chosen(found, preload(arrays=0)) == []
    # not even when those looked at are not chosen
    assert chosen(found, preload(If.name_matches("9"), arrays=8)) == []
    assert chosen(found, preload(If.name_matches("9"), arrays=9)) == [9]


def test_a_manifest_of_several_arrays_counts_once():
    found = snapshot({"/a": {1: 60}, "/b": {1: 60, 2: 40}})
    assert chosen(found, preload(total=100)) == [1, 2]


def test_a_manifest_that_is_not_listed_is_left_to_its_readers():
    assert chosen(snapshot({"/a": {1: 1, 2: 1}}, unlisted=[1]), preload()) == [2]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (If.true(), [1, 2, 3, 4]),
        (If.false(), []),
        (If.path_matches("^/a"), [1, 2]),
        (If.path_matches("x"), [1, 3]),
        (If.name_matches("^x$"), [1, 3]),
        (If.path_matches("["), []),
        (If.num_refs(None, 20), [1]),
        (If.num_refs(20, None), [2, 3, 4]),
        (If.num_refs(20, 30), [2]),
        (If.num_refs(None, None), [1, 2, 3, 4]),
        (If.path_matches("^/a") & If.num_refs(20, None), [2]),
        (If.path_matches("^/a") | If.num_refs(40, None), [1, 2, 4]),
        (If.and_conditions([]), [1, 2, 3, 4]),
        (If.or_conditions([]), []),
    ],
)
def test_conditions(condition, expected):
    found = snapshot({"/a/x": {1: 10}, "/a/y": {2: 20}, "/b/x": {3: 30}, "/b/y": {4: 40}})
    assert chosen(found, preload(condition)) == expected


@given(
    st.lists(st.dictionaries(st.integers(1, 8), st.just(0), max_size=3), max_size=6),
    st.lists(st.integers(0, 20), min_size=9, max_size=9),
    st.integers(0, 40),
    st.integers(0, 7),
    st.integers(0, 20),
)
def test_agrees_with_a_slow_twin(manifests, counts, total, arrays, limit):
    named = {f"/{n}": {k: counts[k] for k in refs} for n, refs in enumerate(manifests)}
    expected, used = [], 0
    for path in sorted(named)[:arrays]:
        for number, count in named[path].items():
            if number not in expected and used + count <= total and count < limit:
                expected.append(number)
                used += count
    found = chosen(snapshot(named), preload(If.num_refs(None, limit), total, arrays))
    assert found == expected


# --- the threads ---------------------------------------------------------------------------------


class Remote(MemoryStorage):
    """Answers to reads of snapshots and manifests when the gate is open; counts them."""

    is_local = False

    def __init__(self):
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.asked = threading.Event()
        self.reads = []
        self.broken = False

    def _wait(self, key):
        if key.startswith(("snapshots/", "manifests/")):
            self.reads.append(key)
            self.asked.set()
            assert self.gate.wait(20)
            if self.broken:
                raise StorageError(f"{key}: out of order", "object-store")

    def get(self, key):
        self._wait(key)
        return super().get(key)

    def get_range(self, key, start, end):
        self._wait(key)
        return super().get_range(key, start, end)


def preloading():
    return [thread for thread in threading.enumerate() if thread.name == "icechunk-preload"]


def wait_for_the_end():
    while running := preloading():  # the first one may start others
        running[0].join(20)
        assert not running[0].is_alive()


@pytest.fixture
def remote():
    storage = Remote()
    repo = icechunk.Repository.create(storage)
    session = repo.writable_session("main")
    root = zarr.create_group(session.store)
    for name in ("time", "lat", "data", "lon", "x", "y", "depth"):
        root.create_array(name, shape=(4,), chunks=(1,), dtype="u1")[:] = 1
    storage.tip = session.commit("arrays")
    wait_for_the_end()
    storage.reads.clear()
    storage.asked.clear()
    yield storage
    storage.gate.set()
    wait_for_the_end()


def names_of(storage, repo):
    """What was read, by array."""
    reads = list(storage.reads)
    nodes = repo.inspect_snapshot(storage.tip)["nodes"]
    names = {f"manifests/{ref['id']}": node["path"] for node in nodes
             for ref in node.get("manifest_refs", [])}  # fmt: skip
    return [names.get(key, key.partition("/")[0]) for key in reads]


COORDINATES = ["/depth", "/lat", "/lon", "/time", "/x", "/y"]


@pytest.mark.parametrize("kind", ["readonly", "writable"])
def test_a_session_starts_at_once_and_finds_coordinates_in_memory(remote, kind):
    repo = icechunk.Repository.open(remote)
    remote.gate.clear()
    started = time.monotonic()
    session = getattr(repo, f"{kind}_session")("main")
    assert time.monotonic() - started < 5, "the gate is still closed"
    assert preloading()
    remote.gate.set()
    wait_for_the_end()
    read = list(remote.reads)
    root = zarr.open_group(session.store, mode="r")
    assert root["time"][1] == root["lon"][2] == 1
    assert remote.reads == read, "nothing else was fetched"
    assert root["data"][1] == 1
    assert len(remote.reads) == len(read) + 1
    remote.reads = read
    [first, *others] = names_of(remote, repo)
    assert (first, sorted(others)) == ("snapshots", COORDINATES)


def test_readers_share_the_fetches(remote):
    session = icechunk.Repository.open(remote).readonly_session("main")
    remote.gate.clear()
    results = []

    def read():
        results.append(zarr.open_group(session.store, mode="r")["time"][1])

    readers = [threading.Thread(target=read) for _ in range(4)]
    for thread in readers:
        thread.start()
    remote.gate.set()
    for thread in readers:
        thread.join(20)
    wait_for_the_end()
    assert results == [1] * 4
    assert len(remote.reads) == len(set(remote.reads)) == 1 + len(COORDINATES)


def test_a_snapshot_is_preloaded_once(remote):
    repo = icechunk.Repository.open(remote)
    repo.readonly_session("main")
    wait_for_the_end()
    before = len(remote.reads)
    for _ in range(3):
        repo.readonly_session("main")
        repo.writable_session("main")
        assert not preloading()
    assert len(remote.reads) == before


OFF = {
    "no references": icechunk.ManifestPreloadConfig(max_total_refs=0),
    "no arrays": icechunk.ManifestPreloadConfig(max_arrays_to_scan=0),
    "false": icechunk.ManifestPreloadConfig(preload_if=If.false()),
}


@pytest.mark.parametrize("setting", OFF.values(), ids=OFF)
def test_switched_off(remote, setting):
    manifest = icechunk.ManifestConfig(preload=setting)
    repo = icechunk.Repository.open(remote, icechunk.RepositoryConfig(manifest=manifest))
    remote.gate.clear()
    repo.readonly_session("main")
    assert not preloading()
    assert remote.reads == []


def test_without_a_cache_there_is_nothing_to_warm(remote):
    caching = icechunk.CachingConfig(num_chunk_refs=0)
    repo = icechunk.Repository.open(remote, icechunk.RepositoryConfig(caching=caching))
    repo.readonly_session("main")
    assert not preloading()


def test_no_more_is_loaded_than_is_kept(remote):
    caching = icechunk.CachingConfig(num_chunk_refs=4)
    repo = icechunk.Repository.open(remote, icechunk.RepositoryConfig(caching=caching))
    repo.readonly_session("main")
    wait_for_the_end()
    assert names_of(remote, repo) == ["snapshots", "/depth"]


def test_local_storage_needs_none(storage):
    repo = icechunk.Repository.create(storage)
    session = repo.writable_session("main")
    zarr.create_array(session.store, name="time", shape=(4,), chunks=(1,), dtype="u1")[:] = 1
    session.commit("time")
    assert not preloading()
    repo = icechunk.Repository.open(storage)
    session = repo.readonly_session("main")
    assert not preloading()
    assert len(session._workspace.context.assets.caches.manifests) == 0


def test_failures_are_logged_and_left_to_the_reader(remote, caplog):
    repo = icechunk.Repository.open(remote)
    remote.broken = True
    with caplog.at_level(logging.DEBUG, "icechunk"):
        session = repo.readonly_session("main")
        wait_for_the_end()
    [record] = [r for r in caplog.records if "preloading" in r.getMessage()]
    assert record.levelno == logging.DEBUG
    assert encode_id(session._workspace.snapshot_id) in record.getMessage()
    with pytest.raises(StorageError, match="out of order"):
        zarr.open_group(session.store, mode="r")
    remote.broken = False
    assert zarr.open_group(session.store, mode="r")["time"][0] == 1


def test_a_process_out_of_threads_goes_without(remote, monkeypatch, caplog):
    repo = icechunk.Repository.open(remote)

    def fail(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch, caplog.at_level(logging.DEBUG, "icechunk"):
        patch.setattr(threading.Thread, "start", fail)
        session = repo.readonly_session("main")
    assert "can't start new thread" in caplog.text
    assert not preloading()
    assert zarr.open_group(session.store, mode="r")["time"][0] == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_forked_meanwhile_works(remote):
    """The parent's fetches never end in the child, which makes its own."""
    repo = icechunk.Repository.open(remote)
    remote.gate.clear()
    session = repo.readonly_session("main")
    assert remote.asked.wait(10)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            remote.gate = threading.Event()
            remote.gate.set()
            assert not preloading(), "no thread came along"
            store = session.store
            node = session._workspace.locate("/time", (1,))
            ok = node is not None and store.session.snapshot_id == session.snapshot_id
            other = icechunk.Repository.open(remote).readonly_session("main")
            wait_for_the_end()
            ok = ok and other._workspace.context.assets.caches.manifests.weight > 0
            code = 0 if ok else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    remote.gate.set()
    wait_for_the_end()
    assert len(remote.reads) == 1 + len(COORDINATES)


ENDING = """
import sys, threading, time
import icechunk, zarr
from icechunk.storage.memory import MemoryStorage
from icechunk.testing.latency import LatencyStorage

inner = MemoryStorage()
repo = icechunk.Repository.create(inner)
session = repo.writable_session("main")
for n in range(40):
    zarr.create_array(session.store, name=f"lat{n}", shape=(1,), chunks=(1,), dtype="u1")[:] = 1
session.commit("arrays")

class Slow(LatencyStorage):
    def _before(self, operation, key):
        if key.startswith(("snapshots/", "manifests/")):
            if key.startswith("manifests/"):
                print("asked", flush=True)
            time.sleep(0.3)

repo = icechunk.Repository.open(Slow(inner))
started = time.monotonic()
repo.readonly_session("main")
time.sleep(float(sys.argv[1]))
"""


@pytest.mark.parametrize("after", ["0", "0.4"])
def test_the_end_of_the_process_is_not_held_up(after):
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", ENDING, after],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    # forty manifests, of which those under way were waited for
    assert done.stdout.count("asked") <= 8
    assert time.monotonic() - started < 30

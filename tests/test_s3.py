"""Repositories on an object store: the paths that await transfers, and races over the network."""

import asyncio
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import uuid

import numpy as np
import pytest
import zarr
from zarr.core.buffer import cpu, default_buffer_prototype

import icechunk
from icechunk import ConflictError, Repository, RepositoryConfig
from icechunk.testing import CountingStorage


@pytest.fixture
def storage(s3_server):
    return s3_server.storage()


@pytest.fixture
def repo(storage):
    return Repository.create(storage, RepositoryConfig(inline_chunk_threshold_bytes=100))


DATA = np.arange(50 * 60, dtype="f8").reshape(50, 60)


def write(session, name="a", data=DATA, chunks=(10, 20)):
    # 1600-byte chunks become objects, those of two bytes stay inline
    zarr.create_array(session.store, name=name, data=data, chunks=chunks, compressors=None)
    small = np.arange(1, 10, dtype="i2")
    zarr.create_array(session.store, name=f"{name}_small", data=small, chunks=(1,))


def read(repo, path, **where):
    store = repo.readonly_session(**(where or {"branch": "main"})).store
    return zarr.open_array(store, path=path, mode="r")[...]


def test_write_commit_reopen_read(repo, storage):
    session = repo.writable_session("main")
    write(session)
    np.testing.assert_array_equal(zarr.open_array(session.store, path="a")[...], DATA)
    assert len(list(storage.list("chunks"))) == 15
    session.commit("data")
    repo = Repository.open(storage)
    np.testing.assert_array_equal(read(repo, "a"), DATA)
    np.testing.assert_array_equal(read(repo, "a_small"), np.arange(1, 10))
    store = repo.readonly_session("main").store
    assert len(list(store.list())) == 1 + 1 + 15 + 1 + 9
    assert sorted(store.list_dir("a/c")) == ["0", "1", "2", "3", "4"]
    assert dict(zarr.open_group(store, mode="r").members()).keys() == {"a", "a_small"}


def test_everything_works_inside_an_event_loop(repo, storage):
    session = repo.writable_session("main")
    write(session)
    session.commit("data")
    repo = Repository.open(storage)

    async def main():
        """Use a session that has loaded nothing yet, from coroutines only."""
        store = repo.writable_session("main").store
        prototype = default_buffer_prototype()
        assert sorted([name async for name in store.list_dir("a/c")]) == ["0", "1", "2", "3", "4"]
        store = repo.writable_session("main").store
        assert len([key async for key in store.list()]) == 27
        store = repo.writable_session("main").store
        found = await asyncio.gather(
            *(store.get(f"a/c/{i}/{j}", prototype) for i in range(5) for j in range(3))
        )
        joined = [np.frombuffer(f.to_bytes()).reshape(10, 20) for f in found]
        np.testing.assert_array_equal(np.block([joined[i * 3 : i * 3 + 3] for i in range(5)]), DATA)
        assert await store.get("/a/c/0/0", prototype) == found[0]
        value = cpu.Buffer.from_bytes(b"x" * 1600)
        await asyncio.gather(*(store.set(f"a/c/{i}/0", value) for i in range(5)))
        await store.delete("a/c/4/2")
        await store.delete_dir("a_small")
        assert await store.getsize("a/c/3/0") == 1600
        assert not await store.exists("a/c/4/2")
        assert await store.is_empty("a_small")
        await asyncio.to_thread(store.session.commit, "more")

    asyncio.run(main())
    store = repo.readonly_session("main").store
    assert store.get_sync("a/c/2/0").to_bytes() == b"x" * 1600
    assert len(list(store.list())) == 1 + 1 + 14


def test_listing_does_not_block_the_event_loop(repo, storage):
    """Fetch what a listing needs in a thread: the loop's own thread makes no request."""

    class Watched(CountingStorage):
        def _before(self, operation, key):
            super()._before(operation, key)
            if threading.current_thread() is watched:
                seen.append((operation, key))

    session = repo.writable_session("main")
    write(session)
    session.commit("data")
    seen, watched = [], None
    repo = Repository.open(Watched(storage))
    stores = [repo.readonly_session("main").store for _ in range(2)]

    async def main():
        nonlocal watched
        watched = threading.current_thread()
        assert len([name async for name in stores[0].list_dir("a/c")]) == 5
        assert len([key async for key in stores[1].list()]) == 27
        assert await stores[0].get("a/c/0/0", default_buffer_prototype()) is not None

    asyncio.run(main())
    watched = None
    assert all(operation == "get_range" and key.startswith("chunks/") for operation, key in seen)


def test_a_chunk_costs_one_request(repo, storage):
    session = repo.writable_session("main")
    write(session)
    session.commit("data")
    counting = CountingStorage(storage)
    store = Repository.open(counting).readonly_session("main").store
    a = zarr.open_array(store, path="a", mode="r")
    a[0, 0]
    counting.reset()
    np.testing.assert_array_equal(a[...], DATA)
    assert counting.counts == {("get_range", "chunks"): 15}


def test_forks_travel_and_merge(repo, storage):
    session = repo.writable_session("main")
    a = zarr.create_array(session.store, name="a", shape=(8, 200), chunks=(1, 200), dtype="f8")
    a.attrs["base"] = "uncommitted"
    forks = [pickle.loads(pickle.dumps(session.fork())) for _ in range(4)]
    for i, fork in enumerate(forks):
        part = zarr.open_array(fork.store, path="a")
        assert part.attrs["base"] == "uncommitted"
        part[2 * i : 2 * i + 2] = i + 1
    session.merge(*reversed([pickle.loads(pickle.dumps(fork)) for fork in forks]))
    session.commit("all")
    expected = np.repeat([1.0, 2, 3, 4], 2)[:, None] * np.ones(200)
    np.testing.assert_array_equal(read(Repository.open(storage), "a"), expected)


def test_the_second_of_two_commits_conflicts(repo):
    first, second = (repo.writable_session("main") for _ in range(2))
    write(first, "first")
    write(second, "second")
    tip = first.commit("first")
    with pytest.raises(ConflictError) as caught:
        second.commit("second")
    assert caught.value.actual_parent == tip
    np.testing.assert_array_equal(zarr.open_array(second.store, path="second")[...], DATA)
    assert repo.lookup_branch("main") == tip


def test_many_split_manifests_are_uploaded_and_found_again(repo, storage):
    axis = {icechunk.ManifestSplitDimCondition.Axis(0): 1}
    sizes = {icechunk.ManifestSplitCondition.AnyArray(): axis}
    config = RepositoryConfig(
        manifest=icechunk.ManifestConfig(
            splitting=icechunk.ManifestSplittingConfig.from_dict(sizes)
        )
    )
    repo = Repository.open(storage, config)
    session = repo.writable_session("main")
    write(session)
    tip = session.commit("split")
    assert len(repo.list_manifest_files(tip)) == 5 + 9
    session = repo.writable_session("main")
    zarr.open_array(session.store, path="a")[11, 0] = -1
    after = session.commit("touched")
    old, new = ({f.id for f in repo.list_manifest_files(s)} for s in (tip, after))
    assert len(new - old) == 1
    expected = DATA.copy()
    expected[11, 0] = -1
    np.testing.assert_array_equal(read(Repository.open(storage), "a"), expected)


COMMIT_OFTEN = """
import pickle, sys
from icechunk import ConflictError
from zarr.core.buffer import cpu

repo = pickle.loads(sys.stdin.buffer.read())
me, times = int(sys.argv[1]), int(sys.argv[2])
for i in range(times):
    while True:
        session = repo.writable_session("main")
        session.store.set_sync(f"a/c/{me * times + i}", cpu.Buffer.from_bytes(f"{me}.{i}".encode()))
        try:
            session.commit(f"{me}.{i}")
            break
        except ConflictError:
            pass
"""


@pytest.mark.parametrize(
    ("processes", "times"), [(2, 3), pytest.param(4, 10, marks=pytest.mark.slow)]
)
def test_no_commit_of_many_processes_is_lost(repo, storage, array_document, processes, times):
    session = repo.writable_session("main")
    document = array_document((processes * times,), (1,))
    session.store.set_sync("a/zarr.json", cpu.Buffer.from_bytes(document))
    session.commit("array")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    started = []
    for me in range(processes):
        command = [sys.executable, "-c", textwrap.dedent(COMMIT_OFTEN), str(me), str(times)]
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE
        )
        process.stdin.write(pickle.dumps(repo))
        process.stdin.close()
        process.stdin = None
        started.append(process)
    try:
        errors = [process.communicate(timeout=240)[1] for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert [process.returncode for process in started] == [0] * processes, errors
    messages = {entry.message for entry in repo.ancestry(branch="main")}
    wanted = {f"{me}.{i}" for me in range(processes) for i in range(times)}
    assert messages == wanted | {"array", "Repository initialized"}
    store = repo.readonly_session("main").store
    for me in range(processes):
        for i in range(times):
            assert store.get_sync(f"a/c/{me * times + i}").to_bytes() == f"{me}.{i}".encode()


ENDS_AT_ONCE = """
import sys, icechunk
from icechunk.storage import s3_storage
options = eval(sys.argv[1])
repo = icechunk.Repository.open(s3_storage(**options))
repo.readonly_session("main")  # begins to fetch manifests, and the process ends
"""


def test_a_process_may_end_while_manifests_are_preloaded(s3_server):
    prefix = f"ends-{uuid.uuid4().hex}"  # the server may serve another run of the tests as well
    storage = s3_server.storage(prefix=prefix)
    session = Repository.create(storage).writable_session("main")
    for number in range(8):
        zarr.create_array(session.store, name=f"lat{number}", data=np.ones(2, "u1"), chunks=(1,))
    session.commit("coordinates")
    options = {
        "bucket": s3_server.bucket,
        "prefix": prefix,
        "region": "us-east-1",
        "endpoint_url": s3_server.endpoint,
        "allow_http": True,
        "force_path_style": True,
        "access_key_id": s3_server.key,
        "secret_access_key": s3_server.secret,
    }
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", ENDS_AT_ONCE, repr(options)],
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_verification(repo, storage):
    session = repo.writable_session("main")
    write(session)
    session.commit("data")
    assert repo.verify(read_chunks=True).faults == ()
    lost, cut, *_ = sorted(info.key for info in storage.list("chunks"))
    storage.delete([lost])
    storage.put(cut, b"short")
    report = repo.verify()
    assert {(str(fault.kind), fault.key) for fault in report.faults} == {
        ("chunk-missing", lost),
        ("chunk-too-short", cut),
    }

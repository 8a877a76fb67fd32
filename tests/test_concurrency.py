"""Many writers at once: processes, threads, tasks, and a process killed at its worst moment."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr
from zarr.core.buffer import cpu, default_buffer_prototype

import icechunk
from icechunk import ConflictError, Repository, RepositoryConfig
from icechunk.changes.listing import chunk_pieces

START = """
import json, os, sys, time
import icechunk
from icechunk import ConflictError, Repository
from zarr.core.buffer import cpu

storage = icechunk.local_filesystem_storage(sys.argv[1])

def document(n):
    grid = {"name": "regular", "configuration": {"chunk_shape": [1]}}
    return cpu.Buffer.from_bytes(json.dumps(
        {"node_type": "array", "shape": [n], "chunk_grid": grid}).encode())
"""

COMMIT_OFTEN = """
me, times = int(sys.argv[2]), int(sys.argv[3])
repo = Repository.open(storage)
for i in range(times):
    while True:
        session = repo.writable_session("main")
        session.store.set_sync(f"a/c/{me * times + i}", cpu.Buffer.from_bytes(f"{me}.{i}".encode()))
        session.store.set_sync(f"n/c/{me}", cpu.Buffer.from_bytes(b"x" * (600 + i)))
        try:
            session.commit(f"{me}.{i}")
            break
        except ConflictError:
            pass
"""


def start(code, *arguments):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-c", START + textwrap.dedent(code), *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(processes, timeout=120):
    try:
        answers = [process.communicate(timeout=timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for process, (_, errors) in zip(processes, answers, strict=True):
        assert process.returncode == 0, errors
    return [output for output, _ in answers]


def document(n):
    grid = {"name": "regular", "configuration": {"chunk_shape": [1]}}
    node = {"node_type": "array", "shape": [n], "chunk_grid": grid}
    return cpu.Buffer.from_bytes(json.dumps(node).encode())


def everything_reads(repo):
    """Read every value of every snapshot in the history, and decode every other file."""
    context = repo._context
    for entry in repo.ancestry(branch="main"):
        store = repo.readonly_session(snapshot_id=entry.id).store
        for key in store.list():
            assert store.get_sync(key) is not None
        context.assets.transaction_log(
            repo.readonly_session(snapshot_id=entry.id)._workspace.snapshot_id
        )
    list(repo.ops_log())


@pytest.mark.parametrize(
    ("processes", "times"), [(4, 6), pytest.param(16, 12, marks=pytest.mark.slow)]
)
def test_no_commit_of_many_processes_is_lost(tmp_path, processes, times):
    storage = icechunk.local_filesystem_storage(str(tmp_path / "repo"))
    repo = Repository.create(storage)
    session = repo.writable_session("main")
    session.store.set_sync("a/zarr.json", document(processes * times))
    session.store.set_sync("n/zarr.json", document(processes))
    session.commit("arrays")
    finish([start(COMMIT_OFTEN, tmp_path / "repo", me, times) for me in range(processes)], 200)
    repo = Repository.open(storage)
    messages = [entry.message for entry in repo.ancestry(branch="main")]
    wanted = {f"{me}.{i}" for me in range(processes) for i in range(times)}
    assert len(messages) == len(wanted) + 2
    assert set(messages) == wanted | {"arrays", "Repository initialized"}
    for me in range(processes):  # each one's commits follow in order
        mine = [message for message in messages if message.startswith(f"{me}.")]
        assert mine == [f"{me}.{i}" for i in reversed(range(times))]
    store = repo.readonly_session("main").store
    for me in range(processes):
        assert store.get_sync(f"n/c/{me}").to_bytes() == b"x" * (600 + times - 1)
        for i in range(times):
            found = store.get_sync(f"a/c/{me * times + i}").to_bytes()
            assert found == f"{me}.{i}".encode()
    everything_reads(repo)


def test_of_many_who_create_a_repository_one_wins(tmp_path):
    code = """
    time.sleep(max(0, float(sys.argv[2]) - time.time() - 0.01))
    while time.time() < float(sys.argv[2]):
        pass
    try:
        Repository.create(storage)
        print("mine")
    except (ConflictError, icechunk.InvalidInputError) as error:
        print(error.kind)
    """
    for attempt in range(2):
        place = tmp_path / f"repo{attempt}"
        at = time.time() + 2.5
        outputs = finish([start(code, place, at) for _ in range(3)])
        answers = sorted(output.strip() for output in outputs)
        assert answers.count("mine") == 1, answers
        assert set(answers) <= {"mine", "repo-info-updated", "parent-directory-not-clean"}
        repo = Repository.open(icechunk.local_filesystem_storage(str(place)))
        assert [entry.message for entry in repo.ancestry(branch="main")] == [
            "Repository initialized"
        ]


def test_a_killed_commit_happened_or_did_not(tmp_path):
    """Whenever the process dies, the repository is at a commit it had tried, with all its data."""
    code = """
    repo = Repository.open(storage)
    number = int(sys.argv[2])
    print("ready", flush=True)
    while True:
        number += 1
        session = repo.writable_session("main")
        for i in range(4):
            data = str(number).encode() * (1 if i % 2 else 300)
            session.store.set_sync(f"a/c/{i}", cpu.Buffer.from_bytes(data))
        session.commit(str(number))
    """
    storage = icechunk.local_filesystem_storage(str(tmp_path / "repo"))
    session = Repository.create(storage).writable_session("main")
    session.store.set_sync("a/zarr.json", document(4))
    session.commit("0")
    seed = random.Random(7)
    known = 0
    deadline = time.monotonic() + 10
    for _ in range(8):
        if time.monotonic() > deadline:
            break
        process = start(code, tmp_path / "repo", known)
        try:
            process.stdout.readline()
            time.sleep(seed.uniform(0, 0.15))
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        repo = Repository.open(storage)
        messages = [entry.message for entry in repo.ancestry(branch="main")]
        assert messages == [*map(str, reversed(range(len(messages) - 1))), "Repository initialized"]
        assert len(messages) - 2 >= known
        known = len(messages) - 2
        store = repo.readonly_session("main").store
        if known:
            for i in range(4):
                expected = str(known).encode() * (1 if i % 2 else 300)
                assert store.get_sync(f"a/c/{i}").to_bytes() == expected
    everything_reads(Repository.open(storage))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_session_survives_a_fork_of_the_process(tmp_path):
    """Read in parent and child, which both inherit the session with its caches and handles."""
    code = """
    repo = Repository.create(storage)
    session = repo.writable_session("main")
    session.store.set_sync("a/zarr.json", document(3))
    for i in range(3):
        session.store.set_sync(f"a/c/{i}", cpu.Buffer.from_bytes(bytes([i]) * 600))
    session.commit("one")
    store = repo.readonly_session("main").store
    assert store.get_sync("a/c/0").to_bytes() == bytes(600)
    child = os.fork()
    for i in range(3):
        assert store.get_sync(f"a/c/{i}").to_bytes() == bytes([i]) * 600
    if child == 0:
        session = repo.writable_session("main")
        session.store.set_sync("a/c/1", cpu.Buffer.from_bytes(b"child"))
        session.commit("two")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert store.get_sync("a/c/1").to_bytes() == bytes([1]) * 600
    assert repo.readonly_session("main").store.get_sync("a/c/1").to_bytes() == b"child"
    """
    finish([start(code, tmp_path / "repo")])


# --- one session, many threads and tasks ---------------------------------------------------------


@pytest.fixture(params=[0, 512])
def session(request, storage):
    config = RepositoryConfig(inline_chunk_threshold_bytes=request.param)
    session = Repository.create(storage, config).writable_session("main")
    session.store.set_sync("a/zarr.json", document(1600))
    return session


def reopened(session):
    context = session._workspace.context
    session.commit("now")
    return Repository.open(context.storage).readonly_session("main").store


def test_tasks_share_a_session(session):
    store = session.store

    async def write(start_):
        for i in range(start_, start_ + 200):
            await store.set(f"a/c/{i}", cpu.Buffer.from_bytes(str(i).encode()))
            found = await store.get(f"a/c/{i}", default_buffer_prototype())
            assert found.to_bytes() == str(i).encode()
            if i % 50 == 0:
                await asyncio.sleep(0)

    async def main():
        await asyncio.gather(*(write(200 * n) for n in range(8)))

    asyncio.run(main())
    store = reopened(session)
    assert [store.get_sync(f"a/c/{i}").to_bytes() for i in range(1600)] == [
        str(i).encode() for i in range(1600)
    ]


def test_threads_share_a_session(session):
    """Write chunks, make nodes, list and look at the status, all at the same time."""
    store = session.store
    stop = threading.Event()

    def write(start_):
        for i in range(start_, start_ + 200):
            store.set_sync(f"a/c/{i}", cpu.Buffer.from_bytes(str(i).encode()))
            assert store.get_sync(f"a/c/{i}").to_bytes() == str(i).encode()
            if i % 20 == 0:
                store.set_sync(f"n{i}/zarr.json", document(i + 1))
                store.set_sync(f"n{i}/c/{i}", cpu.Buffer.from_bytes(b"n"))

    def look():
        while not stop.is_set():
            assert session.has_uncommitted_changes
            for key in list(store.list()):
                assert store.get_sync(key) is not None
            session.status()
            session.fork()

    with ThreadPoolExecutor(9) as pool:
        looking = pool.submit(look)
        writing = [pool.submit(write, 200 * n) for n in range(8)]
        try:
            for future in writing:
                future.result()
        finally:
            stop.set()
        looking.result()
    store = reopened(session)
    assert [store.get_sync(f"a/c/{i}").to_bytes() for i in range(1600)] == [
        str(i).encode() for i in range(1600)
    ]
    assert len(list(store.list())) == 1 + 1600 + 2 * 80


def test_writes_race_a_commit_into_it_or_into_an_error(session):
    """A write that returned is in the commit; one that came too late says so."""
    store = session.store
    done = [0] * 4

    def write(me):
        for i in range(me * 400, me * 400 + 400):
            try:
                store.set_sync(f"a/c/{i}", cpu.Buffer.from_bytes(b"here"))
            except icechunk.ReadOnlyError:
                return
            done[me] = i + 1 - me * 400

    context = session._workspace.context
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(write, me) for me in range(4)]
        while sum(done) < 40:
            time.sleep(0.001)
        session.commit("in between")
        for future in futures:
            future.result()
    found = Repository.open(context.storage).readonly_session("main").store
    for me in range(4):
        there = [found.get_sync(f"a/c/{i}") is not None for i in range(me * 400, me * 400 + 400)]
        assert there == [True] * done[me] + [False] * (400 - done[me])


def test_of_two_commits_of_one_session_one_succeeds(session):
    barrier = threading.Barrier(2)

    def commit():
        barrier.wait()
        try:
            return session.commit("mine")
        except icechunk.SessionStateError as error:
            return error.kind

    context = session._workspace.context
    with ThreadPoolExecutor(2) as pool:
        answers = [future.result() for future in [pool.submit(commit), pool.submit(commit)]]
    tip = Repository.open(context.storage).lookup_branch("main")
    assert sorted(answers) == sorted([tip, "commit-not-allowed"])
    assert session.snapshot_id == tip


def test_sessions_of_many_threads_commit_with_retries(storage):
    repo = Repository.create(storage)
    session = repo.writable_session("main")
    session.store.set_sync("a/zarr.json", document(40))
    session.commit("array")

    def work(me):
        for i in range(5):
            while True:
                session = repo.writable_session("main")
                session.store.set_sync(f"a/c/{me * 5 + i}", cpu.Buffer.from_bytes(b"1"))
                try:
                    session.commit(f"{me}.{i}")
                    break
                except ConflictError:
                    pass

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    messages = {entry.message for entry in repo.ancestry(branch="main")}
    assert messages >= {f"{me}.{i}" for me in range(8) for i in range(5)}
    assert len(list(repo.readonly_session("main").store.list())) == 41


def test_zarr_writes_from_many_threads(storage):
    repo = Repository.create(storage)
    session = repo.writable_session("main")
    a = zarr.create_array(session.store, name="a", shape=(64, 64), chunks=(8, 8), dtype="i4")
    data = np.arange(64 * 64, dtype="i4").reshape(64, 64)

    def write(row):
        a[row : row + 8] = data[row : row + 8]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(0, 64, 8)))
    np.testing.assert_array_equal(a[...], data)
    session.commit("all")
    found = zarr.open_array(repo.readonly_session("main").store, path="a", mode="r")
    np.testing.assert_array_equal(found[...], data)


def test_a_read_that_began_before_a_commit_finds_its_manifest(storage):
    """Between finding a node and fetching its manifest, another thread may commit."""
    repo = Repository.create(storage)
    session = repo.writable_session("main")
    zarr.create_array(session.store, name="a", data=np.arange(4), chunks=(2,))
    session.commit("one")
    session = repo.writable_session("main")
    workspace = session._workspace
    nodes = workspace.nodes
    node = nodes.get_array("/a")
    zarr.open_array(session.store, path="a")[:] = 7  # no chunk of the old manifest is left
    table = iter(chunk_pieces(workspace, node))
    assert len(next(table)) == 2
    session.commit("two")
    assert workspace.find_ref(nodes, node, (0,)) is not None
    workspace.context.assets.caches.manifests.clear()
    (manifest_ref,) = node.manifests
    assert workspace.manifest(manifest_ref, nodes).find(node.id, (0,)) is not None
    assert sum(map(len, table)) == 0
    with pytest.raises(icechunk.FormatError, match="cannot be found"):
        workspace.manifest(manifest_ref)

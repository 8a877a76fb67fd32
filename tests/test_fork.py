"""After `os.fork`, parent and child both go on: no lock, thread or connection is missed.

Every test runs a program in a process of its own, because pytest's has threads. Children that do
not come back are killed, and say first where they hang.
"""

import json
import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")

PREAMBLE = """
import asyncio, faulthandler, json, os, signal, sys, threading, time, warnings
import numpy as np
import zarr
import icechunk
from icechunk import Repository
from zarr.core.buffer import default_buffer_prototype

warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork.*")

def start_child(work, *arguments):
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    faulthandler.register(signal.SIGALRM, chain=True)   # says where it hangs, then dies
    signal.alarm(90)
    status = 1
    try:
        os.close(reader)
        with os.fdopen(writer, "w") as answer:
            json.dump(work(*arguments), answer)
        status = 0
    except BaseException:
        import traceback
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)

def result_of(started):
    child, reader = started
    with os.fdopen(reader) as answer:
        text = answer.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "the child failed"
    return json.loads(text)

def make_array(session, name="a", size=64):
    data = np.arange(size, dtype="i4")
    return zarr.create_array(session.store, name=name, data=data, chunks=(4,), compressors=None)

# Small chunks are objects of their own here, so that reading them takes requests.
CONFIG = icechunk.RepositoryConfig(inline_chunk_threshold_bytes=0)
"""


@pytest.fixture(params=["memory", "local", "s3"])
def place(request, tmp_path):
    """Code that makes a storage."""
    if request.param == "memory":
        return "icechunk.in_memory_storage()"
    if request.param == "local":
        return f"icechunk.local_filesystem_storage({str(tmp_path / 'repo')!r})"
    return s3_code(request.getfixturevalue("s3_server"), tmp_path.name)


def s3_code(server, name):
    arguments = {
        "bucket": server.bucket,
        "prefix": f"tests/fork/{name}-{os.getpid()}",
        "region": "us-east-1",
        "endpoint_url": server.endpoint,
        "allow_http": True,
        "force_path_style": True,
        "access_key_id": server.key,
        "secret_access_key": server.secret,
    }
    return f"icechunk.s3_storage(**{arguments!r})"


def run(tmp_path, program, *, setup="", timeout=150):
    """Run a program; what it prints last is the result."""
    path = tmp_path / "program.py"
    path.write_text(PREAMBLE + setup + textwrap.dedent(program))
    done = subprocess.run(
        [sys.executable, str(path)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-8000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_parent_and_child_both_read_and_write(tmp_path, place):
    program = """
        session = repo.writable_session("main")
        make_array(session)
        session.commit("before")
        shared = repo.readonly_session("main")
        array = zarr.open_array(shared.store, path="a", mode="r")
        assert array[0] == 0
        repo.create_branch("child", session.snapshot_id)
        pending = repo.writable_session("main")
        zarr.open_array(pending.store, path="a")[:4] = 7

        def write(repo, branch, session=None):
            session = session or repo.writable_session(branch)
            mine = zarr.open_array(session.store, path="a")
            mine[4:8] = 5
            session.commit(branch)
            done = zarr.open_array(repo.readonly_session(branch).store, path="a", mode="r")[:9]
            return [done.tolist(), int(array[8]), sum(1 for _ in repo.ancestry(branch=branch))]

        children = [start_child(write, repo, "child")]
        ours = write(repo, "main", pending)
        theirs = result_of(children[0])
        seen = sum(1 for _ in repo.ancestry(branch="child"))
        again = result_of(start_child(write, repo, "main"))
        print(json.dumps([ours, theirs, seen, again]))
    """
    setup = f"repo = Repository.create({place}, CONFIG)\n"
    ours, theirs, seen, again = run(tmp_path, program, setup=setup)
    assert ours == [[7, 7, 7, 7, 5, 5, 5, 5, 8], 8, 3]
    assert theirs == [[0, 1, 2, 3, 5, 5, 5, 5, 8], 8, 3]
    assert seen == (2 if "memory" in place else 3)  # memory is the child's own copy
    assert again == [[7, 7, 7, 7, 5, 5, 5, 5, 8], 8, 4]


def test_loaders_read_what_was_opened_before_the_fork(tmp_path, place):
    program = """
        session = repo.writable_session("main")
        make_array(session, size=256)
        session.commit("data")
        array = zarr.open_array(repo.readonly_session("main").store, path="a", mode="r")
        assert array[:8].sum() == 28        # snapshot, manifest and connection are in use

        def load(worker):
            order = np.random.default_rng(worker).permutation(64)
            read = {int(i): array[i * 4 : i * 4 + 4].tolist() for i in order}
            return [read[i] for i in range(64)]

        children = [start_child(load, worker) for worker in range(8)]
        during = array[:].tolist()
        loaded = [result_of(child) for child in children]
        assert loaded == [np.arange(256).reshape(64, 4).tolist()] * 8
        session = repo.writable_session("main")
        zarr.open_array(session.store, path="a")[:] = 1
        session.commit("after")
        after = zarr.open_array(repo.readonly_session("main").store, path="a", mode="r")[:]
        print(json.dumps([during == list(range(256)), int(after.sum()), int(array[:].sum())]))
    """
    setup = f"repo = Repository.create({place}, CONFIG)\n"
    assert run(tmp_path, program, setup=setup) == [True, 256, sum(range(256))]


def test_forks_amid_threads_at_work(tmp_path, place):
    """Children come out of every moment of a session in use, and neither hang nor see nonsense."""
    program = """
        prototype = default_buffer_prototype()
        document = zarr.create_array(
            zarr.storage.MemoryStore(), shape=(64,), chunks=(4,), dtype="i4", compressors=None
        ).metadata.to_buffer_dict(prototype)["zarr.json"]
        session = repo.writable_session("main")
        make_array(session)
        session.commit("start")
        shared = [repo.writable_session("main")]
        stop, failures = threading.Event(), []
        block = lambda value: prototype.buffer.from_bytes(np.full(4, value, "i4").tobytes())

        def each(work):
            async def turns():
                turn = 0
                while not stop.is_set():
                    turn += 1
                    session = shared[0]
                    try:
                        await work(session, session.store, turn)
                    except (icechunk.ReadOnlyError, icechunk.NodeNotFoundError,
                            icechunk.SessionStateError, icechunk.ConflictError):
                        pass            # another thread was faster
            try:
                asyncio.run(turns())
            except BaseException as error:
                failures.append(repr(error))

        async def write(session, store, turn):
            await store.set(f"a/c/{turn % 16}", block(turn))

        async def read(session, store, turn):
            data = await store.get(f"a/c/{turn % 16}", prototype)
            values = np.frombuffer(data.to_bytes(), "i4")
            assert (values == values[0]).all() or (np.diff(values) == 1).all()

        async def nodes(session, store, turn):
            await store.set("g/b/zarr.json", document)
            await store.set("g/b/c/0", block(3))
            await store.delete_dir("g")

        async def look(session, store, turn):
            session.status()
            [name async for name in store.list_dir("")]

        async def commit(session, store, turn):
            await asyncio.sleep(0.01)
            if not session.has_uncommitted_changes:
                return
            session.commit("by a thread")
            shared[0] = repo.writable_session("main")

        def child(number):
            inherited = shared[0]
            got = inherited.store
            async def use():
                for i in range(16):
                    data = np.frombuffer((await got.get(f"a/c/{i}", prototype)).to_bytes(), "i4")
                    assert (data == data[0]).all() or (np.diff(data) == 1).all()
                try:
                    await got.set("a/c/1", block(9))
                    inherited.status()
                except icechunk.ReadOnlyError:
                    pass                # it was just committed
                branch = f"child{number}"
                repo.create_branch(branch, repo.lookup_branch("main"))
                mine = repo.writable_session(branch)
                await mine.store.set("a/c/0", block(number))
                await mine.store.set("mine/zarr.json", document)
                mine.commit("by a child")
                later = repo.readonly_session(branch).store
                read = np.frombuffer((await later.get("a/c/0", prototype)).to_bytes(), "i4")
                try:                    # what the parent is committing too: one of us wins
                    inherited.commit("by a child")
                except icechunk.IcechunkError as error:
                    assert isinstance(
                        error,
                        icechunk.ConflictError | icechunk.SessionStateError | icechunk.StorageError,
                    ), error
                return read.tolist()
            return asyncio.run(use())

        threads = [
            threading.Thread(target=each, args=(work,), daemon=True)
            for work in (write, write, read, nodes, look, commit)
        ]
        for thread in threads:
            thread.start()
        answers = []
        for round in range(ROUNDS):
            time.sleep(0.003 * (round % 7))
            children = [start_child(child, 2 * round + k) for k in range(2)]
            answers += [result_of(started) for started in children]
        stop.set()
        for thread in threads:
            thread.join(60)
        assert not failures, failures
        assert not any(thread.is_alive() for thread in threads)
        assert answers == [[i] * 4 for i in range(2 * ROUNDS)], answers
        commits = sum(1 for _ in repo.ancestry(branch="main"))
        print(json.dumps([len(answers), commits > 2]))
    """
    rounds = 6 if "s3" in place else 14
    setup = f"ROUNDS = {rounds}\nrepo = Repository.create({place}, CONFIG)\n"
    assert run(tmp_path, program, setup=setup, timeout=280) == [2 * rounds, True]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("place", ["local", "s3"], indirect=True)
def test_sessions_travel_to_workers_however_started(tmp_path, place, method):
    program = f"""
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        def load(session, start):
            array = zarr.open_array(session.store, path="a", mode="r")
            return array[start : start + 16].tolist()

        def main():
            repo = Repository.create({place}, CONFIG)
            session = repo.writable_session("main")
            make_array(session)
            session.commit("data")
            shared = repo.readonly_session("main")
            assert zarr.open_array(shared.store, path="a", mode="r")[3] == 3
            context = multiprocessing.get_context({method!r})
            starts = [0, 16, 32, 48]
            with ProcessPoolExecutor(2, mp_context=context) as pool:
                parts = list(pool.map(load, [shared] * 4, starts))
            print(json.dumps(sum(parts, [])))

        if __name__ == "__main__":
            main()
    """
    assert run(tmp_path, program) == list(range(64))


@pytest.mark.parametrize("place", ["local", "s3"], indirect=True)
def test_forked_workers_write_what_the_parent_merges(tmp_path, place):
    program = f"""
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        def write(part, start):
            zarr.open_array(part.store, path="a")[start : start + 16] = start
            return part

        repo = Repository.create({place}, CONFIG)
        session = repo.writable_session("main")
        make_array(session)
        session.commit("data")
        session = repo.writable_session("main")
        assert zarr.open_array(session.store, path="a")[3] == 3
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
            parts = [pool.submit(write, session.fork(), start) for start in (0, 16, 32, 48)]
            session.merge(*(part.result() for part in parts))
        session.commit("merged")
        array = zarr.open_array(repo.readonly_session("main").store, path="a", mode="r")
        print(json.dumps(array[::8].tolist()))
    """
    assert run(tmp_path, program) == [0, 0, 16, 16, 32, 32, 48, 48]


def test_children_of_children_use_object_stores(tmp_path, s3_server):
    place = s3_code(s3_server, tmp_path.name)
    program = """
        storage.put("a", b"1")

        def grandchild():
            storage.put("c", b"3")
            return sorted(item.key for item in storage.list())

        def child():
            storage.put("b", b"2")
            try:
                storage.get("nowhere")
            except icechunk.storage.ObjectNotFound:
                pass
            return result_of(start_child(grandchild))

        found = result_of(start_child(child))
        import obstore
        from icechunk.storage import obstore_library
        assert obstore_library.obstore is obstore       # the parent's is the one everybody has
        print(json.dumps([found, storage.get("c").decode()]))
    """
    found = run(tmp_path, program, setup=f"storage = {place}\n")
    assert found == [["a", "b", "c"], "3"]


def test_a_listing_does_not_cross_a_fork(tmp_path, s3_server):
    place = s3_code(s3_server, tmp_path.name)
    program = """
        for i in range(3):
            storage.put(f"k{i}", b"1")
        items = storage.list()
        next(items)

        def child():
            # the page at hand is served, the next one would need the parent's connection
            try:
                return [item.key for item in items]
            except icechunk.StorageError as error:
                return error.kind

        kind = result_of(start_child(child))
        print(json.dumps([kind, len([next(items), next(items)])]))
    """
    assert run(tmp_path, program, setup=f"storage = {place}\n") == ["concurrency", 2]


def test_a_child_that_cannot_load_obstore_again_says_what_to_do(tmp_path, s3_server):
    place = s3_code(s3_server, tmp_path.name)
    program = """
        from icechunk.storage import obstore_library
        storage.put("a", b"1")
        obstore_library._FILE = "/nowhere/obstore.so"

        def child():
            try:
                storage.get("a")
            except icechunk.StorageError as error:
                return [error.kind, "forkserver" in str(error)]

        print(json.dumps(result_of(start_child(child))))
    """
    assert run(tmp_path, program, setup=f"storage = {place}\n") == ["concurrency", True]


def test_locks(tmp_path):
    program = """
        from icechunk import _fork
        held, leave = threading.Event(), threading.Event()
        others, others_r, mine = _fork.new_lock(), _fork.new_rlock(), _fork.new_rlock()

        def hold():
            with others, others_r:
                held.set()
                leave.wait()

        thread = threading.Thread(target=hold, daemon=True)
        thread.start()
        held.wait()

        def child():
            with others, others_r, mine:
                return others.locked()

        with mine:
            free = result_of(start_child(child))    # leaves the block it was forked in
        still = others.locked()
        leave.set()
        thread.join()
        print(json.dumps([free, still, others.locked()]))
    """
    assert run(tmp_path, program) == [True, True, False]


def test_forks_wait_for_short_work(tmp_path):
    program = """
        from icechunk import _fork
        lock = threading.Lock()
        _fork.wait_for(lock)
        _fork.wait_for(lock)        # once is enough
        held, state = threading.Event(), []

        def work():
            with lock:
                held.set()
                time.sleep(0.3)
                state.append("complete")

        thread = threading.Thread(target=work)
        thread.start()
        held.wait()
        seen = result_of(start_child(lambda: [state, lock.locked()]))
        thread.join()
        print(json.dumps([seen, lock.locked()]))
    """
    assert run(tmp_path, program) == [[["complete"], False], False]


@pytest.mark.parametrize("place", ["memory", "local"], indirect=True)
def test_no_thread_outlives_its_use(tmp_path, place):
    program = """
        def tasks():
            return len(os.listdir("/proc/self/task")) if os.path.exists("/proc/self/task") else 0

        before = tasks()
        counts = [threading.active_count()]
        prototype = default_buffer_prototype()
        repo = Repository.create(PLACE, CONFIG)
        session = repo.writable_session("main")
        document = zarr.create_array(
            zarr.storage.MemoryStore(), shape=(64,), chunks=(4,), dtype="i4", compressors=None
        ).metadata.to_buffer_dict(prototype)["zarr.json"]
        zarrs = threading.active_count() - 1        # making that document took Zarr's own thread
        store = session.store
        for name in "abcdef":
            store.set_sync(f"{name}/zarr.json", document)
            for i in range(16):
                store.set_sync(f"{name}/c/{i}", prototype.buffer.from_bytes(bytes(16)))
        counts.append(threading.active_count() - zarrs)
        session.commit("x")
        counts.append(threading.active_count() - zarrs)
        store = Repository.open(repo._storage).readonly_session("main").store
        assert store.get_sync("a/c/3", prototype=prototype).to_bytes() == bytes(16)
        counts.append(threading.active_count() - zarrs)
        print(json.dumps([counts, tasks() - before - zarrs]))
    """
    setup = f"PLACE = {place}\n"
    counts, started = run(tmp_path, program, setup=setup)
    assert counts == [1, 1, 1, 1]
    assert started == 0

"""Locks: exclusion, release at death, and forks."""

import os
import subprocess
import sys
import textwrap
import threading

import pytest

from icechunk.errors import StorageError
from icechunk.storage import locks

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


def run(program):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=30,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_threads_exclude_each_other(tmp_path):
    path = str(tmp_path / "lock#0")
    inside, most = [], []

    def work():
        for _ in range(50):
            with locks.exclusive(path):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert os.path.exists(path)


def test_failures_inside_release_the_lock(tmp_path):
    path = str(tmp_path / "lock#0")
    for _ in range(2):
        with pytest.raises(RuntimeError), locks.exclusive(path):
            raise RuntimeError
    assert not locks._open_locks


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def refused(descriptor):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(locks, "_lock", refused)
    with (
        pytest.raises(StorageError, match="advisory locks"),
        locks.exclusive(str(tmp_path / "lock#0")),
    ):
        pass


@needs_fork
def test_a_child_forked_inside_does_not_hold_the_lock(tmp_path):
    """The parent dies inside its critical section; its child lives on and must not block us."""
    path = str(tmp_path / "lock#0")
    done = run(
        f"""
        import os, signal, time
        from icechunk.storage import locks
        path = {path!r}
        parent = os.fork()
        if parent == 0:
            with locks.exclusive(path):
                if os.fork() == 0:
                    time.sleep(20)      # a long-lived child of the killed process
                    os._exit(0)
                os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(parent, 0)
        start = time.monotonic()
        with locks.exclusive(path):
            print("got it" if time.monotonic() - start < 10 else "late", flush=True)
        os._exit(0)
    """.replace("time.sleep(20)", "os.close(1), os.close(2), time.sleep(12)")
    )
    assert done.stdout == "got it\n", done.stderr


@needs_fork
def test_a_child_forked_while_another_thread_holds_the_lock(tmp_path):
    path = str(tmp_path / "lock#0")
    done = run(f"""
        import os, threading
        from icechunk.storage import locks
        path = {path!r}
        held, leave = threading.Event(), threading.Event()

        def hold():
            with locks.exclusive(path):
                held.set()
                leave.wait()

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        child = os.fork()
        if child == 0:
            with locks.thread_lock(path):    # the parent's thread does not exist here
                os._exit(5)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        leave.set()
        thread.join()
        with locks.exclusive(path):
            print("free")
    """)
    assert done.stdout.split() == ["5", "free"], done.stderr

"""What is particular to objects in memory."""

import gc
import pickle
import subprocess
import sys

from icechunk.storage import MemoryStorage, in_memory_storage


def test_every_call_makes_another_store():
    one, other = in_memory_storage(), in_memory_storage()
    one.put("repo", b"x")
    assert not other.exists("repo")
    assert one.identity() != other.identity()
    assert repr(one) == "<icechunk.Storage>\ntype: in-memory\n"


def test_unpickling_in_the_same_process_finds_the_same_store():
    storage = in_memory_storage()
    assert pickle.loads(pickle.dumps(storage)) is storage


def test_unpickling_elsewhere_gives_one_empty_store(tmp_path):
    storage = in_memory_storage()
    storage.put("repo", b"x")
    (tmp_path / "pickle").write_bytes(pickle.dumps(storage))
    program = (
        "import pickle, sys; data = open(sys.argv[1], 'rb').read()\n"
        "a, b = pickle.loads(data), pickle.loads(data)\n"
        "assert a is b; assert not a.exists('repo'); a.put('repo', b'y'); print(a.identity()[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "pickle")],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert done.stdout.strip() == storage.identity()[1], done.stderr


def test_forgotten_stores_are_freed():
    storage = MemoryStorage()
    data = pickle.dumps(storage)
    storage.put("repo", b"x")
    del storage
    gc.collect()
    assert not pickle.loads(data).exists("repo")


def test_bytes_are_not_copied():
    storage = MemoryStorage()
    data = bytes(1000)
    storage.put("a", data)
    assert storage.get("a") is data


def test_settings():
    settings = MemoryStorage().default_settings()
    assert settings.concurrency.ideal_concurrent_request_size == 1
    assert settings.retries.max_tries == 1

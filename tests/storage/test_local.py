"""Files on a local disk: atomicity across processes, crashes, durability and errors."""

import errno
import multiprocessing
import os
import pickle
import signal
import stat
import subprocess
import sys
import textwrap
import time

import pytest

from icechunk.errors import ErrorKind, InvalidInputError, StorageError
from icechunk.storage import (
    LocalStorage,
    ObjectNotFound,
    PreconditionFailed,
    local_filesystem_storage,
)
from icechunk.storage import local as local_module
from icechunk.testing.storage_contract import increment

PROCESSES = 8
INCREMENTS = 25


@pytest.fixture
def storage(tmp_path):
    return LocalStorage(tmp_path / "repository", durable=False)


def names(storage):
    return sorted(
        os.path.relpath(os.path.join(folder, name), storage.root)
        for folder, _, files in os.walk(storage.root)
        for name in files
    )


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_lose_no_update(storage, method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    storage.put("repo", b"0")
    context = multiprocessing.get_context(method)
    count = PROCESSES if method == "fork" else 2
    workers = [
        context.Process(target=increment, args=(storage, "repo", INCREMENTS)) for _ in range(count)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert int(storage.get("repo").split()[0]) == count * INCREMENTS
    assert names(storage) == ["repo", "repo.lock#0"]


@pytest.mark.slow
@pytest.mark.parametrize("write", ["put", "put_if"])
def test_killed_writers_leave_a_whole_object_and_no_lock(storage, write):
    size = 300_000
    storage.put("repo", b"A" * size)
    program = f"""
        from icechunk.storage import LocalStorage
        storage = LocalStorage({storage.root!r}, durable=False)
        print("ready", flush=True)
        number = 0
        while True:
            number += 1
            data = bytes([66 + number % 20]) * {size}
            if {write!r} == "put":
                storage.put("repo", data)
            else:
                storage.put_if("repo", data, storage.get_versioned("repo")[1])
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    for attempt in range(3):
        worker = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program)],
            stdout=subprocess.PIPE,
            env=environment,
        )
        assert worker.stdout.readline() == b"ready\n"
        time.sleep(0.005 + 0.0061 * attempt)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        worker.stdout.close()
        data, version = storage.get_versioned("repo")
        assert len(data) == size
        assert len(set(data)) == 1
        storage.put_if("repo", b"A" * size, version)
    assert [info.key for info in storage.list()] == ["repo"]


def test_no_writer_touches_the_file_in_place(storage):
    """Other implementations keep former versions as hard links."""
    version = storage.put_if("repo", b"first", None)
    os.link(f"{storage.root}/repo", f"{storage.root}/backup")
    version = storage.put_if("repo", b"second", version)
    assert storage.get("backup") == b"first"
    os.link(f"{storage.root}/repo", f"{storage.root}/backup2")
    storage.put("repo", b"third")
    assert storage.get("backup2") == b"second"


def test_versions_depend_on_content_alone(storage):
    version = storage.put_if("repo", b"content", None)
    status = os.stat(f"{storage.root}/repo")
    other = storage.put_if("repo", b"CONTENT", version)
    os.utime(f"{storage.root}/repo", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert other != version
    with pytest.raises(PreconditionFailed):
        storage.put_if("repo", b"x", version)


def test_reading_creates_nothing(tmp_path):
    storage = LocalStorage(tmp_path / "absent")
    assert not storage.exists("repo")
    assert list(storage.list()) == []
    storage.delete(["repo"])
    storage.flush()
    with pytest.raises(ObjectNotFound):
        storage.get_versioned("repo")
    with pytest.raises(PreconditionFailed):
        storage.put_if("repo", b"x", local_module._version(b""))
    assert os.listdir(tmp_path) == []
    storage.prepare()
    assert os.listdir(tmp_path) == ["absent"]


def test_unfinished_files_are_invisible_and_harmless(storage):
    storage.put_new("chunks/A", b"x")
    for name in ("chunks/A#1", "chunks/B#987654321", "repo#2", "repo.lock#0", "folder#3/x"):
        path = f"{storage.root}/{name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(b"stale")
    assert [info.key for info in storage.list()] == ["chunks/A"]
    version = storage.put_if("repo", b"x", None)
    storage.put_if("repo", b"y", version)
    assert sorted(info.key for info in storage.list()) == ["chunks/A", "repo"]


def test_names_that_only_look_unfinished_are_listed(storage):
    for key in ("a#", "a#1b", "a#b", "#x"):
        storage.put(key, b"")
    assert sorted(info.key for info in storage.list()) == ["#x", "a#", "a#1b", "a#b"]


def test_no_temporary_file_is_left(storage):
    storage.put("a/b", b"1")
    storage.put("a/b", b"2")
    storage.put_new("a/c", b"3")
    version = storage.put_if("repo", b"4", None)
    storage.put_if("repo", b"5", version)
    with pytest.raises(PreconditionFailed):
        storage.put_if("repo", b"6", version)
    with pytest.raises(PreconditionFailed):
        storage.put_if("repo", b"6", None)
    assert names(storage) == ["a/b", "a/c", "repo", "repo.lock#0"]


def test_put_new_refuses_an_existing_name(storage):
    storage.put_new("chunks/A", b"first")
    with pytest.raises(StorageError, match=r"create object 'chunks/A'.*exists already"):
        storage.put_new("chunks/A", b"second")
    assert storage.get("chunks/A") == b"first"


@pytest.mark.parametrize("write", ["put", "put_new", "put_if"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_failing_disk(storage, monkeypatch, write, code):
    storage.put("repo", b"old") if write == "put" else storage.prepare()

    def full(descriptor, data):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(local_module.os, "write", full)
    arguments = (None,) if write == "put_if" else ()
    with pytest.raises(StorageError) as caught:
        getattr(storage, write)("repo", b"new", *arguments)
    monkeypatch.undo()
    assert caught.value.kind == ErrorKind.IO
    for part in ("'repo'", os.strerror(code), storage.root):
        assert part in str(caught.value)
    assert ("free some space" in str(caught.value)) == (code != errno.EIO)
    assert [n for n in names(storage) if "lock" not in n] == (["repo"] if write == "put" else [])


@pytest.mark.parametrize("operation", ["replace", "link", "fsync"])
def test_a_failing_swap_leaves_the_old_object(tmp_path, monkeypatch, operation):
    storage = LocalStorage(tmp_path)
    version = None if operation == "link" else storage.put_if("repo", b"old", None)

    def failing(*args):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(local_module.os, operation, failing)
    with pytest.raises(StorageError, match="Input/output error"):
        storage.put_if("repo", b"new", version)
    monkeypatch.undo()
    left = [] if version is None else ["repo"]
    assert [name for name in names(storage) if "lock" not in name] == left


def test_a_copy_is_the_same_file_until_the_original_is_replaced(storage):
    version = storage.put_if("repo", b"first", None)
    storage.copy("repo", "overwritten/one")
    original, copy = (os.stat(os.path.join(storage.root, n)) for n in ("repo", "overwritten/one"))
    assert original.st_ino == copy.st_ino
    storage.put_if("repo", b"second", version)
    storage.put("repo", b"third")
    assert storage.get("overwritten/one") == b"first"
    assert os.stat(os.path.join(storage.root, "overwritten/one")).st_nlink == 1


def test_a_copy_onto_an_existing_name_is_refused(storage):
    storage.put("repo", b"x")
    storage.put("other", b"y")
    with pytest.raises(StorageError, match="exists already"):
        storage.copy("repo", "other")
    assert storage.get("other") == b"y"


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK])
def test_copies_where_hard_links_do_not_work(storage, monkeypatch, code):
    def refused(*args):
        raise OSError(code, os.strerror(code))

    storage.put("repo", b"first")
    monkeypatch.setattr(local_module.os, "link", refused)
    storage.copy("repo", "overwritten/one")
    storage.put("repo", b"second")
    assert storage.get("overwritten/one") == b"first"
    with pytest.raises(ObjectNotFound, match="absent"):
        storage.copy("absent", "overwritten/two")
    assert [n for n in names(storage) if "#" not in n] == ["overwritten/one", "repo"]


def test_file_systems_without_hard_links(storage, monkeypatch):
    def refused(*args):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(local_module.os, "link", refused)
    storage.put_if("repo", b"x", None)
    with pytest.raises(PreconditionFailed):
        storage.put_if("repo", b"y", None)
    assert names(storage) == ["repo", "repo.lock#0"]


def test_a_file_made_by_others_without_our_lock_is_not_replaced(storage, monkeypatch):
    storage.prepare()
    check = LocalStorage._check

    def overtaken(self, key, path, expected):
        check(self, key, path, expected)
        with open(path, "wb") as file:
            file.write(b"somebody else's")

    monkeypatch.setattr(LocalStorage, "_check", overtaken)
    with pytest.raises(PreconditionFailed, match="exists already"):
        storage.put_if("repo", b"ours", None)
    assert storage.get("repo") == b"somebody else's"
    assert names(storage) == ["repo", "repo.lock#0"]


def test_errors_of_the_operating_system_do_not_escape(storage, tmp_path):
    storage.put("file", b"x")
    for attempt in (
        lambda: storage.put("file/below", b""),
        lambda: storage.put_new("file/below", b""),
        lambda: storage.put_if("file/below", b"", None),
        lambda: storage.put("x" * 300, b""),
        lambda: storage.get("x" * 300),
        lambda: storage.delete(["file/below"]),
    ):
        with pytest.raises(StorageError):
            attempt()
    with pytest.raises(StorageError, match="create the directory"):
        LocalStorage(tmp_path / "repository" / "file").prepare()
    with pytest.raises(InvalidInputError):
        LocalStorage("a\0b")
    with pytest.raises(TypeError):
        LocalStorage(b"bytes")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may everything")
def test_permissions(storage):
    storage.put("repo", b"x")
    os.chmod(storage.root, 0o500)
    try:
        with pytest.raises(StorageError, match="check the permissions"):
            storage.put("repo", b"y")
    finally:
        os.chmod(storage.root, 0o700)


def test_modes_follow_the_umask(storage):
    before = os.umask(0o022)
    try:
        storage.put_new("chunks/A", b"")
        storage.put_if("repo", b"", None)
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(os.stat(f"{storage.root}/{n}").st_mode) for n in ("chunks", "repo")]
    assert modes == [0o755, 0o644]


def test_linked_directories_are_listed_once(storage, tmp_path):
    elsewhere = tmp_path / "other disk"
    elsewhere.mkdir()
    storage.prepare()
    os.symlink(elsewhere, f"{storage.root}/chunks")
    storage.put_new("chunks/A", b"x")
    os.symlink(elsewhere, elsewhere / "loop")
    assert sorted(info.key for info in storage.list("chunks")) == ["chunks/A", "chunks/loop/A"]


def test_flush_reports_errors(tmp_path, monkeypatch):
    def failing(path):
        raise OSError(errno.EIO, "Input/output error", path)

    monkeypatch.setattr(local_module, "sync_file_system", failing)
    with pytest.raises(StorageError, match="could not flush storage: Input/output error"):
        LocalStorage(tmp_path).flush()
    LocalStorage(tmp_path, durable=False).flush()


def test_short_writes_are_completed(storage, monkeypatch):
    real = os.write
    monkeypatch.setattr(local_module.os, "write", lambda fd, data: real(fd, bytes(data[:7])))
    storage.put_new("chunks/A", b"0123456789" * 5)
    monkeypatch.undo()
    assert storage.get("chunks/A") == b"0123456789" * 5


def test_short_reads_are_completed(storage, monkeypatch):
    storage.put_new("chunks/A", b"0123456789" * 5)
    real = os.pread
    monkeypatch.setattr(local_module.os, "pread", lambda fd, n, at: real(fd, min(n, 7), at))
    assert storage.get("chunks/A") == b"0123456789" * 5
    assert storage.get_range("chunks/A", 3, 33) == (b"0123456789" * 5)[3:33]


def test_paths_are_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    storage = local_filesystem_storage("some/../repository")
    path = f"{os.path.realpath(tmp_path)}/repository"
    assert repr(storage) == f"<icechunk.Storage>\ntype: local filesystem\npath: {path}\n"
    monkeypatch.chdir("/")
    storage.put("repo", b"x")
    assert (tmp_path / "repository" / "repo").read_bytes() == b"x"
    copy = pickle.loads(pickle.dumps(storage))
    assert copy.identity() == storage.identity()
    assert copy._durable


def test_settings():
    settings = local_filesystem_storage("x").default_settings()
    assert settings.unsafe_use_conditional_update is True
    assert settings.unsafe_use_metadata is False
    assert settings.retries.max_tries == 1


def test_versions_are_of_the_content_asked_for_last(storage):
    one = storage.put_if("repo", b"one", None)
    two = storage.put_if("repo", bytearray(b"two"), one)
    assert two != one
    assert storage.get_if_changed("repo", two) is None
    assert storage.get_if_changed("repo", one) == (b"two", two)
    storage.put("repo", b"one")
    assert storage.get_versioned("repo") == (b"one", one)
    with pytest.raises(PreconditionFailed):
        storage.put_if("repo", b"three", two)
    assert LocalStorage(storage.root).get_versioned("repo") == (b"one", one)
    assert pickle.loads(pickle.dumps(storage)).get_versioned("repo") == (b"one", one)


def test_a_copy_survives_being_overtaken_by_a_replacement(tmp_path, monkeypatch):
    storage = LocalStorage(tmp_path)
    storage.put("repo", b"content")

    def replaced_meanwhile(source, target):  # what link(2) says of a file that has no name left
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", source)

    monkeypatch.setattr(os, "link", replaced_meanwhile)
    storage.copy("repo", "overwritten/1")
    assert storage.get("overwritten/1") == b"content"
    with pytest.raises(ObjectNotFound, match="absent"):
        storage.copy("absent", "overwritten/2")

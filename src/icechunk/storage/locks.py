"""Mutual exclusion among the threads of a process, and among the processes of a machine.

Three kinds of lock, all safe to use around `os.fork`:

- `thread_lock` answers one of a fixed set of locks, chosen by name. Holders must not nest them.
- `exclusive` locks a file, for threads and processes alike. The operating system releases it
  when its holder dies, however it dies, so a lock is never left behind. The file itself stays:
  deleting it while somebody waits for it would give two processes a lock of the same name.
- `queue` is a lock file that one may go on without: for those who would rather wait than race.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from zlib import crc32

from icechunk._fork import in_child
from icechunk.errors import ErrorKind, StorageError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_STRIPES = 64  # more than the threads that write conditionally at once

_stripes = tuple(Lock() for _ in range(_STRIPES))
_open_locks: set[int] = set()  # descriptors of lock files this process holds or waits for


def thread_lock(name: str) -> Lock:
    """Return the lock of this process for `name`; different names may share one."""
    _survive_forks()
    return _stripes[crc32(name.encode()) % _STRIPES]


@contextmanager
def exclusive(path: str) -> Iterator[None]:
    """Hold the lock file `path` against every other thread and process of this machine.

    Creates the file if needed, its directory must exist. Waits as long as it takes: holders do
    a few milliseconds of work. Raises `OSError` when the file cannot be opened, `StorageError`
    when the file system has no locks.
    """
    # The threads of this process queue here, where waiting is cheap, and where mutual exclusion
    # holds even on network file systems that grant file locks per process.
    with thread_lock(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        _open_locks.add(descriptor)
        try:
            try:
                _lock(descriptor)
            except OSError as error:
                raise StorageError(
                    f"cannot lock {path}: {error.strerror}. Commits are only safe on a file "
                    "system with advisory locks; network file systems often have a mount option "
                    "for them",
                    ErrorKind.IO,
                ) from error
            try:
                yield
            finally:
                # Said explicitly: a child forked meanwhile holds a copy of the descriptor, and
                # closing ours alone would leave the lock with the child.
                _unlock(descriptor)
        finally:
            _open_locks.discard(descriptor)
            os.close(descriptor)


if sys.platform == "win32":

    def _lock(descriptor: int) -> None:
        while True:
            try:
                msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)
                return
            except OSError as error:  # gives up by itself after ten attempts
                if error.errno != 36:  # EDEADLOCK
                    raise

    def _try_lock(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


@contextmanager
def queue(path: str, patience: float) -> Iterator[bool]:
    """Hold the lock file `path` if it can be had within `patience` seconds, else go on without.

    For politeness, where `exclusive` is for safety: a holder may take its time, and one that hangs
    must not stop everybody else. Yields whether the lock is held. Threads count as different
    holders. Whatever is wrong with the file or its file system, it is not held then.
    """
    _survive_forks()
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    except OSError:
        yield False
        return
    _open_locks.add(descriptor)
    try:
        held = _lock_within(descriptor, patience)
        try:
            yield held
        finally:
            if held:
                _unlock(descriptor)
    finally:
        if descriptor in _open_locks:  # not in a child forked meanwhile, which has closed its copy
            _open_locks.discard(descriptor)
            os.close(descriptor)


def _lock_within(descriptor: int, patience: float) -> bool:
    """Ask again and again, a little less often each time; flock cannot wait for a limited time."""
    deadline = time.monotonic() + patience
    pause = 0.0005
    while not _try_lock(descriptor):
        if time.monotonic() >= deadline:
            return False
        time.sleep(pause)
        pause = min(pause * 1.5, 0.01)
    return True


@cache
def _survive_forks() -> None:
    """Register the fork handler, the first time anybody locks anything."""
    in_child(_forget_parent)


def _forget_parent() -> None:
    """Drop what belongs to threads that do not exist in this child."""
    global _stripes
    _stripes = tuple(Lock() for _ in range(_STRIPES))
    # Without this, a parent killed inside its critical section would leave the lock held by
    # the child's copy of the descriptor. Closing a copy does not unlock.
    for descriptor in _open_locks:
        os.close(descriptor)
    _open_locks.clear()

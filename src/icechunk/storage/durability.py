"""Waiting until files would survive a power failure, in as few system calls as possible."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from functools import cache


def sync_file_system(path: str) -> None:
    """Wait until everything written to the file system that holds `path` is on disk.

    A commit may refer to a hundred thousand chunk files, written by any process of this machine.
    One `syncfs` writes them all back in the order the disk likes, with one flush of its cache;
    an `fsync` per file would cost one flush each, and would need to know the files. The price is
    that it also waits for what other programs have written to this file system. Does nothing
    when the directory does not exist; raises `OSError` when writing back failed.
    """
    syncfs = _syncfs()
    if syncfs is None:
        os.sync()
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if syncfs(descriptor) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), path)
    finally:
        os.close(descriptor)


def sync_directory(path: str) -> None:
    """Wait until the names in a directory are on disk: those renamed into it above all."""
    if sys.platform == "win32":
        return  # directories cannot be opened there; the file system orders renames itself
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@cache
def _syncfs() -> Callable[[int], int] | None:
    """Find the system call, which Python does not wrap and only Linux has."""
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)

"""Which files of a directory are opened, by whatever process: Linux's inotify, as far as needed."""

from __future__ import annotations

import ctypes
import os
import select
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

IN_OPEN = 0x20
_HEADER = struct.Struct("iIII")


class Opened:
    """Names of the files opened since the watch began."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._names: list[str] = []

    def names(self, *, quiet_for: float = 0.5) -> list[str]:
        """Return the names, in order, once nothing was opened for some time."""
        last = time.monotonic()
        while time.monotonic() - last < quiet_for:
            if select.select([self._descriptor], [], [], 0.05)[0]:
                self._read(os.read(self._descriptor, 1 << 16))
                last = time.monotonic()
        return self._names

    def _read(self, data: bytes) -> None:
        while data:
            *_, length = _HEADER.unpack_from(data)
            name = data[_HEADER.size : _HEADER.size + length].rstrip(b"\0").decode()
            if name:
                self._names.append(name)
            data = data[_HEADER.size + length :]


@contextmanager
def watching(folder: Path) -> Iterator[Opened]:
    """Note the files of a folder that are opened from now on."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_CLOEXEC)
    try:
        if descriptor < 0 or libc.inotify_add_watch(descriptor, bytes(folder), IN_OPEN) < 0:
            raise OSError(ctypes.get_errno(), f"cannot watch {folder}")
        yield Opened(descriptor)
    finally:
        if descriptor >= 0:
            os.close(descriptor)

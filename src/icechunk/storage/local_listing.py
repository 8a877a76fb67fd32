"""Walk over the files of a local storage, skipping unfinished ones."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import compress, islice

from icechunk.storage.base import ObjectInfo

_AT_ONCE = 1 << 16

# Temporary and lock files, of this and of other implementations.
_IS_UNFINISHED = re.compile(r"#[0-9]+\Z").search


def walk(base: str, prefix: str) -> Iterator[ObjectInfo]:
    """Iterate over the regular files below ``base + prefix``, one open directory at a time.

    `base` ends in a slash, `prefix` does not; keys are relative to `base`. Links to directories
    are followed, once: a large ``chunks`` directory may live on another disk. What disappears
    during the walk is left out. Raises `OSError`.
    """
    pending = [prefix]
    linked: set[tuple[int, int]] = set()
    while pending:
        folder = pending.pop()
        try:
            entries = os.scandir(base + folder)
        except (FileNotFoundError, NotADirectoryError):
            continue
        inside = folder + "/" if folder else ""
        with entries:
            for entry in entries:
                name = entry.name
                if _IS_UNFINISHED(name):
                    continue
                try:
                    if entry.is_dir():
                        if not entry.is_symlink() or _first_visit(entry, linked):
                            pending.append(inside + name)
                        continue
                    status = entry.stat()
                except FileNotFoundError:
                    continue
                if stat.S_ISREG(status.st_mode):
                    yield ObjectInfo(inside + name, status.st_size, status.st_mtime_ns // 1000)


def files_of(
    base: str, folder: str, is_wanted: Callable[[Sequence[str]], Iterable[bool]]
) -> Iterator[list[ObjectInfo]]:
    """Iterate over the regular files of one directory whose names are wanted, by the batch.

    For other arguments and what is left out see `walk`. A name costs half a microsecond, size and
    time of a file ten times that.
    """
    try:
        entries = os.scandir(base + folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    with entries:
        while names := [entry.name for entry in islice(entries, _AT_ONCE)]:
            found = []
            for name in compress(names, is_wanted(names)):
                try:
                    status = os.stat(f"{base}{folder}/{name}")
                except FileNotFoundError:
                    continue
                if stat.S_ISREG(status.st_mode) and not _IS_UNFINISHED(name):
                    key = f"{folder}/{name}"
                    found.append(ObjectInfo(key, status.st_size, status.st_mtime_ns // 1000))
            if found:
                yield found


def _first_visit(entry: os.DirEntry[str], linked: set[tuple[int, int]]) -> bool:
    status = entry.stat()
    place = (status.st_dev, status.st_ino)
    if place in linked:
        return False
    linked.add(place)
    return True

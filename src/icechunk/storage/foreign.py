"""Reading parts of objects that others wrote, and that they may change or delete at any time.

A requirement says which state of an object is meant; whatever is not in it is refused, never read
by mistake. Not a `Storage`: nothing is ever written, listed or deleted here. Files of this
machine are read here, what is behind a network in `icechunk.storage.foreign_objects`.
"""

from __future__ import annotations

import os
import stat
from abc import ABC, abstractmethod
from dataclasses import dataclass

from icechunk.errors import ErrorKind, InvalidInputError, StorageError

__all__ = ["FileSource", "Requirement", "Source", "fetch_failed", "modified"]

_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)


@dataclass(frozen=True, slots=True)
class Requirement:
    """The state an object must be in: an entity tag, or not modified after a time."""

    etag: str | None = None
    last_modified: int = 0
    """In whole seconds since the epoch, as HTTP has it; 0 for any."""

    def allows(self, etag: str | None, last_modified: float | None) -> bool:
        """Whether an object with these properties, if they are known, is in that state."""
        if self.etag is not None and etag is not None:
            wanted = [part.strip().strip('"') for part in self.etag.split(",")]
            return "*" in wanted or etag.strip('"') in wanted
        if self.last_modified and last_modified is not None:
            return int(last_modified) <= self.last_modified
        return True


class Source(ABC):
    """Where the objects of one container are read from. Safe to use from any thread."""

    is_local = False
    """Whether answers come at once, so that calling it from an event loop is fine."""

    @abstractmethod
    def get_range(
        self, path: str, start: int, end: int, requirement: Requirement, location: str
    ) -> bytes:
        """Return the bytes ``[start, end)`` of an object; `location` names it in messages.

        Raises
        ------
        StorageError
            Kind ``virtual-chunk-modified``: the object is not in the state meant. Kind
            ``virtual-chunk-fetch``: it is not there, or could not be read. Kind
            ``invalid-object-size``: fewer bytes came than asked for.
        """

    async def get_range_async(
        self, path: str, start: int, end: int, requirement: Requirement, location: str
    ) -> bytes:
        """Do as `get_range` does, awaiting the answer."""
        return self.get_range(path, start, end, requirement, location)

    def requests_for(self, size: int) -> int:
        """Count the requests that reading so many bytes takes."""
        return 1


class FileSource(Source):
    """Files below a directory of this machine, symbolic links out of it excluded.

    Conditions mean what they mean on a web server. The entity tag of a file is made of its inode,
    time and size, as other readers of virtual chunks make it.

    Parameters
    ----------
    folder
        The directory.
    """

    is_local = True

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def get_range(
        self, path: str, start: int, end: int, requirement: Requirement, location: str
    ) -> bytes:
        """Read from a file."""
        file = os.path.realpath("/" + path)
        folder = os.path.realpath(self._folder)
        if os.path.commonpath([file, folder]) != folder or file == folder:
            raise InvalidInputError(
                f"the virtual chunk location {location} leads out of its container by a symbolic "
                f"link: {folder} does not contain it; edit the repository configuration, adding a "
                "virtual chunk container for the place it leads to",
                ErrorKind.NO_CONTAINER_FOR_VIRTUAL_CHUNK,
            )
        try:
            descriptor = os.open(file, _OPEN_FLAGS)
        except OSError as error:
            raise fetch_failed(location, os.strerror(error.errno or 0)) from None
        try:
            return _read_file(descriptor, start, end, requirement, location)
        except OSError as error:
            raise fetch_failed(location, os.strerror(error.errno or 0)) from None
        finally:
            os.close(descriptor)


def _read_file(
    descriptor: int, start: int, end: int, requirement: Requirement, location: str
) -> bytes:
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        raise fetch_failed(location, "it is not a file")
    etag = f"{facts.st_ino:x}-{facts.st_mtime_ns // 1000:x}-{facts.st_size:x}"
    if not requirement.allows(etag, facts.st_mtime_ns // 1_000_000_000):
        raise modified(location)
    if end > facts.st_size:
        raise fetch_failed(
            location,
            f"the file has {facts.st_size} bytes, and [{start}, {end}) were asked for",
        )
    pieces = []
    while start < end:
        piece = os.pread(descriptor, end - start, start)
        if not piece:
            raise fetch_failed(location, "the file was cut short while it was read")
        pieces.append(piece)
        start += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def fetch_failed(location: str, problem: str) -> StorageError:
    """Error for an object that is not there or cannot be read."""
    return StorageError(
        f"cannot fetch the virtual chunk at {location}: {problem}", ErrorKind.VIRTUAL_CHUNK_FETCH
    )


def modified(location: str) -> StorageError:
    """Error for an object that is not in the state meant."""
    return StorageError(
        f"the object of a virtual chunk has changed since the reference to it was set: {location} "
        "is not what it was; set the reference again",
        ErrorKind.VIRTUAL_CHUNK_MODIFIED,
    )

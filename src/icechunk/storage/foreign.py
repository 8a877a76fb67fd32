"""Reading parts of objects that others wrote, and that they may change or delete at any time.

A requirement says which state of an object is meant; whatever is not in it is refused, never read
by mistake. Not a `Storage`: nothing is ever written, listed or deleted here.
"""

from __future__ import annotations

import asyncio
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from icechunk.errors import ErrorKind, InvalidInputError, StorageError
from icechunk.storage import obstore_library as library
from icechunk.storage.base import PreconditionFailed
from icechunk.storage.object_store import ObjectStorage

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta

__all__ = ["ANY", "FileSource", "ObjectSource", "Requirement", "Source"]

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


ANY = Requirement()


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
            raise _fetch_failed(location, os.strerror(error.errno or 0)) from None
        try:
            return _read_file(descriptor, start, end, requirement, location)
        except OSError as error:
            raise _fetch_failed(location, os.strerror(error.errno or 0)) from None
        finally:
            os.close(descriptor)


class ObjectSource(Source):
    """Objects behind a network.

    Parameters
    ----------
    storage
        Offers the client; its root is what paths are relative to.
    quoted
        Whether the server wants quotes around entity tags, as the standard does.
    """

    def __init__(self, storage: ObjectStorage, *, quoted: bool) -> None:
        self._storage = storage
        self._quoted = quoted

    def requests_for(self, size: int) -> int:
        """Count the ranges that many bytes are read in."""
        return self._storage.requests_for(size)

    def get_range(
        self, path: str, start: int, end: int, requirement: Requirement, location: str
    ) -> bytes:
        """Download the bytes, in several requests at once if there are many."""

        def piece(begin: int, stop: int) -> _Piece:
            options = self._options(begin, stop, requirement)
            result = library.obstore.get(self._storage._read(), path, options=options)
            return _Piece(result.bytes().to_bytes(), result.meta)

        def download() -> Sequence[_Piece]:
            starts, ends = self._storage._pieces(start, end)
            if len(starts) == 1:
                return [piece(start, end)]
            with ThreadPoolExecutor(len(starts)) as pool:
                return list(pool.map(piece, starts, ends))

        return _joined(self._call(location, download), start, end, requirement, location)

    async def get_range_async(
        self, path: str, start: int, end: int, requirement: Requirement, location: str
    ) -> bytes:
        """Download the bytes, in several requests at once if there are many."""

        async def piece(begin: int, stop: int) -> _Piece:
            options = self._options(begin, stop, requirement)
            client = self._storage._read()
            result = await library.obstore.get_async(client, path, options=options)
            return _Piece((await result.bytes_async()).to_bytes(), result.meta)

        async def download() -> Sequence[_Piece]:
            starts, ends = self._storage._pieces(start, end)
            return await asyncio.gather(*map(piece, starts, ends))

        pieces = await self._await(location, download)
        return _joined(pieces, start, end, requirement, location)

    def _options(self, start: int, end: int, requirement: Requirement) -> GetOptions:
        options: GetOptions = {"range": (start, end)}
        if requirement.etag is not None:
            etag = requirement.etag
            if not etag.startswith("W/"):
                etag = etag.strip('"')
                if self._quoted and etag != "*":
                    etag = f'"{etag}"'
            options["if_match"] = etag
        elif requirement.last_modified:
            options["if_unmodified_since"] = datetime.fromtimestamp(requirement.last_modified, UTC)
        return options

    def _call(self, location: str, request: Callable[[], Sequence[_Piece]]) -> Sequence[_Piece]:
        library.ensure_usable()
        try:
            return request()
        except BaseException as error:
            failure = self._failure(error, location)
        raise failure  # out here it has no context, and so carries none of the original's text

    async def _await(
        self, location: str, request: Callable[[], Awaitable[Sequence[_Piece]]]
    ) -> Sequence[_Piece]:
        library.ensure_usable()
        try:
            return await request()
        except BaseException as error:
            failure = self._failure(error, location)
        raise failure

    def _failure(self, error: BaseException, location: str) -> StorageError:
        if isinstance(error, ValueError):
            return _fetch_failed(location, "its path cannot be addressed there")
        found = self._storage._failure(error, "read", location)
        if isinstance(found, PreconditionFailed):
            return _modified(location)
        return _fetch_failed(location, found.message)


class _Piece(NamedTuple):
    data: bytes
    meta: ObjectMeta


def _joined(
    pieces: Sequence[_Piece], start: int, end: int, requirement: Requirement, location: str
) -> bytes:
    """Put pieces together, if all are of one state of the object, and that the one meant.

    Looked at once more here, since some servers pay no attention to conditions.
    """
    for piece in pieces:
        time = piece.meta["last_modified"].timestamp()
        if not requirement.allows(piece.meta["e_tag"], time):
            raise _modified(location)
    if len({piece.meta["e_tag"] for piece in pieces}) > 1:
        raise _modified(location)
    data = b"".join(piece.data for piece in pieces) if len(pieces) > 1 else pieces[0].data
    if len(data) != end - start:
        raise StorageError(
            f"reading the bytes [{start}, {end}) of the virtual chunk at {location} brought "
            f"{len(data)} bytes: the object is shorter than the reference says",
            ErrorKind.INVALID_OBJECT_SIZE,
        )
    return data


def _read_file(
    descriptor: int, start: int, end: int, requirement: Requirement, location: str
) -> bytes:
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        raise _fetch_failed(location, "it is not a file")
    etag = f"{facts.st_ino:x}-{facts.st_mtime_ns // 1000:x}-{facts.st_size:x}"
    if not requirement.allows(etag, facts.st_mtime_ns // 1_000_000_000):
        raise _modified(location)
    if end > facts.st_size:
        raise _fetch_failed(
            location,
            f"the file has {facts.st_size} bytes, and [{start}, {end}) were asked for",
        )
    pieces = []
    while start < end:
        piece = os.pread(descriptor, end - start, start)
        if not piece:
            raise _fetch_failed(location, "the file was cut short while it was read")
        pieces.append(piece)
        start += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _fetch_failed(location: str, problem: str) -> StorageError:
    return StorageError(
        f"cannot fetch the virtual chunk at {location}: {problem}", ErrorKind.VIRTUAL_CHUNK_FETCH
    )


def _modified(location: str) -> StorageError:
    return StorageError(
        f"the object of a virtual chunk has changed since the reference to it was set: {location} "
        "is not what it was; set the reference again",
        ErrorKind.VIRTUAL_CHUNK_MODIFIED,
    )

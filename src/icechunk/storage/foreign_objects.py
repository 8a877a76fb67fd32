"""Reading parts of objects that others wrote, in object stores and on web servers, by obstore.

See `icechunk.storage.foreign` for what is promised, and for files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from icechunk.errors import ErrorKind, StorageError
from icechunk.storage import obstore_library as library
from icechunk.storage.base import PreconditionFailed
from icechunk.storage.foreign import Requirement, Source, fetch_failed, modified
from icechunk.storage.object_store import ObjectStorage

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta

__all__ = ["ObjectSource"]


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
            return fetch_failed(location, "its path cannot be addressed there")
        found = self._storage._failure(error, "read", location)
        if isinstance(found, PreconditionFailed):
            return modified(location)
        return fetch_failed(location, found.message)


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
            raise modified(location)
    if len({piece.meta["e_tag"] for piece in pieces}) > 1:
        raise modified(location)
    data = b"".join(piece.data for piece in pieces) if len(pieces) > 1 else pieces[0].data
    if len(data) != end - start:
        raise StorageError(
            f"reading the bytes [{start}, {end}) of the virtual chunk at {location} brought "
            f"{len(data)} bytes: the object is shorter than the reference says",
            ErrorKind.INVALID_OBJECT_SIZE,
        )
    return data

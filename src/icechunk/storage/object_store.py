"""The adapter to obstore: object stores reached over a network.

Requests, retries, signatures and connection pools are obstore's. This module adds what a
repository needs on top: versions, the recovery of conditional writes whose response was lost,
parallel reads of large objects, and errors of our own.

Spec: Icechunk spec, "Storage operations".
"""

from __future__ import annotations

import asyncio
import os
import uuid
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from itertools import islice
from typing import TYPE_CHECKING, ClassVar, TypeAlias, TypedDict, TypeVar
from weakref import WeakSet

from icechunk._fork import in_child
from icechunk.errors import ErrorKind, StorageError
from icechunk.storage import obstore_library as library
from icechunk.storage.base import (
    BytesLike,
    ObjectInfo,
    ObjectNotFound,
    PreconditionFailed,
    Storage,
    Version,
    WriteOutcomeUnknown,
    check_range,
    short_object,
    validate_key,
    wanted_of,
)
from icechunk.storage.conditional import WRITE_ID, Attempt, Found, Outcome, classify
from icechunk.storage.defaults import cloud_settings
from icechunk.storage.obstore_errors import (
    cannot_connect,
    cannot_copy,
    had_no_effect,
    is_absence,
    translate,
)
from icechunk.storage.ranged_listing import list_in_ranges
from icechunk.storage.ranges import split
from icechunk.storage.tuning import Tuning

if TYPE_CHECKING:
    from obstore import Attributes, Bytes, GetOptions, ObjectMeta, PutMode, UpdateVersion
    from obstore.store import ObjectStore

    from icechunk.config import StorageSettings

T = TypeVar("T")
_Infos: TypeAlias = list[ObjectInfo]  # named here because storages have a method called list

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LIST_PAGE = 1000
_DELETE_BATCH = 1000
_MOST_PARTS = 10_000  # of one multipart upload
_SMALLEST_PART = 5 * 1024 * 1024


class ObjectStorage(Storage):
    """Keep objects in an object store, through obstore.

    Subclasses say how to make its clients. Those are made when first used, never pickled, and made
    anew in a forked child.
    """

    _compares_generations = False
    """Conditions are on generation numbers, not on entity tags."""
    _lists_in_order = False
    """Listings are in the order of keys, and may begin behind any of them."""
    _reads_variables: ClassVar[str | None] = None
    """How the names of environment variables begin that its client reads by itself."""

    def __init__(self, tuning: Tuning) -> None:
        self._tuning = tuning
        self._reader: ObjectStore | None = None
        self._writer: ObjectStore | None = None

    @abstractmethod
    def _make_client(self, *, writing: bool) -> ObjectStore: ...

    @abstractmethod
    def _place(self) -> str:
        """Name bucket and prefix, for messages."""

    @abstractmethod
    def _secrets(self) -> Iterable[str]:
        """Texts that must not appear in messages."""

    # Reading

    def get(self, key: str) -> bytes:
        """Download the whole object."""

        def download() -> bytes:
            return library.obstore.get(self._read(), key).bytes().to_bytes()

        return self._call("read", key, download)

    def get_versioned(self, key: str) -> tuple[bytes, Version]:
        """Download the whole object and return the entity tag it came with."""
        found = self._call("read", key, lambda: self._find(key))
        return found.data, found.version

    def get_if_changed(self, key: str, known: Version) -> tuple[bytes, Version] | None:
        """Download the object unless its entity tag is the known one."""
        if known.etag is None:  # plain web servers may give none
            return self.get_versioned(key)

        def download() -> Found | None:
            try:
                return self._find(key, {"if_none_match": known.etag})
            except library.exceptions.NotModifiedError:
                return None

        found = self._call("read", key, download)
        return None if found is None else (found.data, found.version)

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """Download the bytes ``[start, end)``, in several requests at once if there are many."""
        check_range(key, start, end)
        if start == end:
            return b""

        def piece(begin: int, stop: int) -> Bytes:
            return library.obstore.get_range(self._read(), key, start=begin, end=stop)

        def download() -> bytes:
            starts, ends = self._pieces(start, end)
            if len(starts) == 1:
                return piece(start, end).to_bytes()
            # Threads of our own, since obstore puts neighbouring ranges into one request.
            with ThreadPoolExecutor(len(starts)) as pool:
                return b"".join(pool.map(piece, starts, ends))

        return _whole(self._call("read", key, download), key, start, end)

    def head(self, key: str) -> ObjectInfo:
        """Ask for size and modification time."""
        meta = self._call("look up", key, lambda: library.obstore.head(self._read(), key))
        return ObjectInfo(key, meta["size"], _microseconds(meta["last_modified"]))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Iterate over the objects below `prefix`, a page of the server at a time."""
        prefix = prefix.rstrip("/")
        if prefix:
            validate_key(prefix)
        for page in self._pages(prefix):
            yield from page

    def list_where(
        self,
        folder: str,
        is_wanted: Callable[[Sequence[str]], Iterable[bool]],
        at_once: int = 1,
    ) -> Iterator[_Infos]:
        """Iterate over the wanted objects of a folder; a large one in several ranges of names."""
        if at_once < 2 or not self._lists_in_order:
            yield from super().list_where(folder, is_wanted)
            return
        validate_key(folder)
        for page in list_in_ranges(partial(self._pages, folder), folder, at_once):
            yield from wanted_of(page, folder, is_wanted)

    def _pages(self, prefix: str, after: str = "") -> Iterator[_Infos]:
        """List page by page, from behind a key on."""

        def first() -> Iterator[Sequence[ObjectMeta]]:
            return iter(
                library.obstore.list(
                    self._read(), prefix or None, offset=after or None, chunk_size=_LIST_PAGE
                )
            )

        process = os.getpid()

        def following() -> Sequence[ObjectMeta] | None:
            if os.getpid() != process:
                raise StorageError(
                    f"cannot go on listing {self._place()} in a process forked meanwhile: "
                    "list it again",
                    ErrorKind.CONCURRENCY,
                )
            return next(pages, None)

        pages = self._call("list", None, first)
        while (page := self._call("list", None, following)) is not None:
            yield [
                ObjectInfo(meta["path"], meta["size"], _microseconds(meta["last_modified"]))
                for meta in page
            ]

    # Writing

    def put(self, key: str, data: BytesLike) -> None:
        """Upload an object whatever was there."""
        options = self._upload_options(key, data)
        self._call("write", key, lambda: library.obstore.put(self._write(), key, data, **options))

    def copy(self, source: str, target: str) -> None:
        """Have the server copy the object, unless it cannot or the copy needs a storage class."""
        self.copies_by_itself(source, target)

    def copies_by_itself(self, source: str, target: str) -> bool:
        """Copy an object and tell whether the server did it."""
        validate_key(target)

        def copy() -> bool:
            try:
                library.obstore.copy(self._write(), source, target)
            except library.exceptions.BaseError as error:
                if cannot_copy(error):
                    return False
                raise
            return True

        if not self._attributes(target) and self._call("copy", source, copy):
            return True
        super().copy(source, target)
        return False

    put_new = put  # uploads appear at once and whole, so there is nothing to skip

    def put_if(self, key: str, data: BytesLike, expected: Version | None) -> Version:
        """Upload an object if the stored one has the expected entity tag.

        A refusal or a broken connection is looked into: see `icechunk.storage.conditional`.
        Where the store keeps no metadata this takes an object of equal content for ours, so
        the content should hold something unique to the attempt.
        """
        library.ensure_usable()
        validate_key(key)
        attributes = self._attributes(key)
        write_id = None
        if self._tuning.metadata:
            attributes[WRITE_ID] = write_id = str(uuid.uuid4())
        attempt = Attempt(bytes(data), expected, write_id)
        mode = self._mode(key, expected)
        client = self._write()  # without one nothing is sent, and nothing is in doubt
        try:
            # In one request, since conditions do not go with multipart uploads.
            result = library.obstore.put(
                client,
                key,
                attempt.data,
                attributes=attributes,
                mode=mode,
                use_multipart=False,
            )
            return self._version(result["e_tag"], result["version"])
        except BaseException as error:
            failure = self._failure(error, "conditionally write", key)
            refused = isinstance(failure, PreconditionFailed)
            unclear = refused or not had_no_effect(error)
        if not unclear:
            raise failure
        return self._settle(key, attempt, failure, refused=refused)

    # What it can do

    @property
    def creates_conditionally(self) -> bool:
        """Whether the settings have objects created under a condition."""
        return self._tuning.conditional_create

    @property
    def updates_conditionally(self) -> bool:
        """Whether the settings have objects replaced under a condition."""
        return self._tuning.conditional_update

    def refuses(self, key: str, data: BytesLike, expected: Version | None) -> bool:
        """Tell whether `put_if`, which takes the same, is refused; one request in any case."""
        options = self._upload_options(key, b"")
        mode = self._mode(key, expected)

        def attempt() -> None:
            library.obstore.put(self._write(), key, data, mode=mode, **options)

        try:
            self._call("conditionally write", key, attempt)
        except PreconditionFailed:
            return True
        return False

    def keeps_metadata(self, key: str) -> bool | None:
        """Write an object with a write id and look for it; None where none is used."""
        if not self._tuning.metadata:
            return None
        write_id = str(uuid.uuid4())
        options = self._upload_options(key, b"")
        options["attributes"][WRITE_ID] = write_id
        self._call(
            "write", key, lambda: library.obstore.put(self._write(), key, b"probe", **options)
        )
        return self._call("read", key, lambda: self._find(key)).write_id == write_id

    # Deleting

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects, many with one request."""
        remaining = iter(keys)
        while batch := list(islice(remaining, _DELETE_BATCH)):
            for key in batch:
                validate_key(key)
            self._call("delete", None, partial(self._delete, batch))

    def _delete(self, keys: Sequence[str]) -> None:
        try:
            library.obstore.delete(self._write(), keys)
        except FileNotFoundError as error:
            # Where objects are deleted one by one, an absent one ends the batch before the rest.
            if not is_absence(error):
                raise
            with ThreadPoolExecutor(self._tuning.max_requests) as pool:
                list(pool.map(self._delete_if_there, keys))

    def _delete_if_there(self, key: str) -> None:
        try:
            library.obstore.delete(self._write(), key)
        except FileNotFoundError as error:
            if not is_absence(error):
                raise

    # Coroutines

    async def get_async(self, key: str) -> bytes:
        """Download the whole object."""

        async def download() -> bytes:
            result = await library.obstore.get_async(self._read(), key)
            return (await result.bytes_async()).to_bytes()

        return await self._await("read", key, download)

    async def get_range_async(self, key: str, start: int, end: int) -> bytes:
        """Download the bytes ``[start, end)``, in several requests at once if there are many."""
        check_range(key, start, end)
        if start == end:
            return b""

        async def piece(begin: int, stop: int) -> Bytes:
            return await library.obstore.get_range_async(self._read(), key, start=begin, end=stop)

        async def download() -> bytes:
            starts, ends = self._pieces(start, end)
            if len(starts) == 1:
                return (await piece(start, end)).to_bytes()
            return b"".join(await asyncio.gather(*map(piece, starts, ends)))

        return _whole(await self._await("read", key, download), key, start, end)

    async def put_new_async(self, key: str, data: BytesLike) -> None:
        """Upload an object under a fresh name."""
        options = self._upload_options(key, data)

        async def upload() -> None:
            await library.obstore.put_async(self._write(), key, data, **options)

        await self._await("write", key, upload)

    # Description

    def requests_for(self, size: int, *, writing: bool = False) -> int:
        """Count the ranges that many bytes are read in, or the parts they are uploaded in."""
        if not writing:
            return len(self._pieces(0, size)[0])
        part = self._part_size(size)
        if not self._in_parts(size, part):
            return 1
        return min(self._tuning.max_requests, -(-size // part))

    def default_settings(self) -> StorageSettings:
        """Return the settings of an object store behind a network."""
        return cloud_settings()

    # Parts of requests

    def _version(self, etag: str | None, generation: str | None) -> Version:
        # Without quotes: every server takes it like that in a condition, some take nothing else.
        return Version(
            etag=None if etag is None else etag.strip('"'),
            generation=generation if self._compares_generations else None,
        )

    def _find(self, key: str, options: GetOptions | None = None) -> Found:
        result = library.obstore.get(self._read(), key, options=options)
        return Found(
            data=result.bytes().to_bytes(),
            version=self._version(result.meta["e_tag"], result.meta["version"]),
            write_id=result.attributes.get(WRITE_ID),
        )

    def _pieces(self, start: int, end: int) -> tuple[Sequence[int], Sequence[int]]:
        return split(start, end, self._tuning.request_size, self._tuning.max_requests)

    def _attributes(self, key: str) -> Attributes:
        storage_class = self._tuning.storage_class_of(key)
        return {} if storage_class is None else {"Storage-Class": storage_class}

    def _upload_options(self, key: str, data: BytesLike) -> _UploadOptions:
        size = memoryview(data).nbytes
        part = self._part_size(size)
        return {
            "attributes": self._attributes(key),
            "use_multipart": self._in_parts(size, part),
            "chunk_size": part,
            "max_concurrency": self._tuning.max_requests,
        }

    def _part_size(self, size: int) -> int:
        return max(_SMALLEST_PART, self._tuning.request_size, -(-size // _MOST_PARTS))

    def _in_parts(self, size: int, part: int) -> bool:
        return size >= self._tuning.multipart_size and size > part

    def _mode(self, key: str, expected: Version | None) -> PutMode:
        if expected is None:
            return "create" if self._tuning.conditional_create else "overwrite"
        if not self._tuning.conditional_update:
            return "overwrite"
        if not expected.etag:
            raise StorageError(
                f"cannot conditionally write object {key!r} in {self._place()}: the store gave no "
                "entity tag for it, so it does not support conditional updates",
                ErrorKind.OBJECT_STORE,
            )
        condition: UpdateVersion = {"e_tag": expected.etag}
        if expected.generation is not None:
            condition["version"] = expected.generation
        return condition

    def _settle(
        self, key: str, attempt: Attempt, failure: StorageError, *, refused: bool
    ) -> Version:
        """Read the object again, to tell a lost race from a lost response."""
        try:
            found = self._call("read", key, lambda: self._find(key))
        except ObjectNotFound:
            found = None
        except StorageError as unreadable:
            raise WriteOutcomeUnknown(
                f"{failure.message}; reading it again failed too, so whether the write took "
                f"place is unknown: {unreadable.message}"
            ) from None
        outcome = classify(attempt, found, refused=refused)
        if outcome is Outcome.LANDED and found is not None:
            return found.version
        if outcome is Outcome.LOST:
            raise PreconditionFailed(failure.message)
        raise WriteOutcomeUnknown(
            f"{failure.message}; the object is still in its former state, but the write may yet "
            "take place"
        )

    # Calls

    def _read(self) -> ObjectStore:
        client = self._reader
        if client is None:  # threads racing here make two, and one is dropped
            client = self._reader = self._connect(writing=False)
        return client

    def _write(self) -> ObjectStore:
        client = self._writer
        if client is None:
            client = self._writer = self._connect(writing=True)
        return client

    def _connect(self, *, writing: bool) -> ObjectStore:
        _survive_forks()
        _connected.add(self)
        try:
            return self._make_client(writing=writing)
        except Exception as error:
            failure = cannot_connect(error, self._place(), self._secrets(), self._variables())
        raise failure  # out here it has no context, and so carries none of the original's text

    def _variables(self) -> Iterator[str]:
        for name in os.environ:
            if self._reads_variables is not None and name.startswith(self._reads_variables):
                yield name

    def _call(self, verb: str, key: str | None, request: Callable[[], T]) -> T:
        library.ensure_usable()
        if key is not None:
            validate_key(key)
        try:
            return request()
        except BaseException as error:
            failure = self._failure(error, verb, key)
        raise failure  # out here it has no context, and so carries none of the original's text

    async def _await(self, verb: str, key: str, request: Callable[[], Awaitable[T]]) -> T:
        library.ensure_usable()
        validate_key(key)
        try:
            return await request()
        except BaseException as error:
            failure = self._failure(error, verb, key)
        raise failure

    def _failure(self, error: BaseException, verb: str, key: str | None) -> StorageError:
        """Translate an error; re-raise what is none, such as a cancellation."""
        if isinstance(error, StorageError):
            return error
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise error
        return translate(error, verb, key, self._place(), self._secrets())


class _UploadOptions(TypedDict):
    attributes: Attributes
    use_multipart: bool
    chunk_size: int
    max_concurrency: int


def _whole(data: bytes, key: str, start: int, end: int) -> bytes:
    if len(data) != end - start:
        raise short_object(key, start, end)
    return data


def _microseconds(time: datetime) -> int:
    return (time - _EPOCH) // _MICROSECOND


# Storages that have made clients, for a child to begin without.
_connected: WeakSet[ObjectStorage] = WeakSet()


@cache
def _survive_forks() -> None:
    in_child(_forget_clients)


def _forget_clients() -> None:
    for storage in _connected:
        library.abandon(storage._reader, storage._writer)
        storage._reader = storage._writer = None
    _connected.clear()

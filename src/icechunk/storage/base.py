"""The narrow object-store interface everything above reads and writes through.

A storage maps relative keys (``repo``, ``chunks/1CECHNKREP0F1RSTCMT0``) to byte strings. Most
objects are written once under a fresh random name; one of them, ``repo``, is replaced under a
condition, and that single compare-and-swap is what makes commits transactional. This module holds
the interface, the values that travel through it and its errors. It knows no backend.

Spec: Icechunk spec, "Storage operations".
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import compress, islice
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from icechunk._display import Block, Shown, datetime_text
from icechunk.errors import ErrorKind, InvalidInputError, StorageError

if TYPE_CHECKING:
    from icechunk.config import S3Options, StorageSettings
    from icechunk.storage.attribution import Attribution
    from icechunk.storage.azure_credentials import AzureCredentials
    from icechunk.storage.credentials import S3Credentials
    from icechunk.storage.gcs_credentials import GcsCredentials

BytesLike: TypeAlias = bytes | bytearray | memoryview

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Version:
    """Opaque token of one stored state of an object; equal tokens mean equal states.

    Which of the two fields a backend fills is its own business: an entity tag, a generation
    number, or both.
    """

    etag: str | None = None
    generation: str | None = None


class ObjectInfo(NamedTuple):
    """What a listing tells about an object. A tuple, because listings hold millions of them."""

    key: str
    size: int
    last_modified_us: int


@dataclass(frozen=True, slots=True, repr=False)
class StorageObjectInfo(Shown):
    """Description of one stored object, as shown to users."""

    key: str
    size_bytes: int
    created_at: datetime

    def _block(self) -> Block:
        return Block.of(
            "icechunk.storage.StorageObjectInfo",
            {
                "key": self.key,
                "size_bytes": self.size_bytes,
                "created_at": datetime_text(self.created_at),
            },
        )


# Named here because `Storage` has a method called list.
_ObjectInfos: TypeAlias = list[StorageObjectInfo]
_KeysAndSizes: TypeAlias = list[tuple[str, int]]
_Infos: TypeAlias = list[ObjectInfo]

_LISTED_AT_ONCE = 1 << 16


class ObjectNotFound(StorageError):  # noqa: N818  (an answer, not always an error)
    """There is no object under the key."""

    def __init__(self, message: str, kind: str = ErrorKind.OBJECT_NOT_FOUND) -> None:
        super().__init__(message, kind)


class PreconditionFailed(StorageError):  # noqa: N818  (an answer, not always an error)
    """A conditional write was refused: the object is not in the expected state.

    Normally somebody else was faster. It can also mean that our write landed, its response got
    lost, and a third party has replaced it since; who holds data that depends on the difference
    looks for its own mark in the new content.
    """

    def __init__(self, message: str, kind: str = ErrorKind.OBJECT_STORE) -> None:
        super().__init__(message, kind)


class WriteOutcomeUnknown(StorageError):  # noqa: N818  (an answer, not always an error)
    """A conditional write got no usable answer: it may have landed, or may still land.

    Objects which the write would have made reachable must not be deleted.
    """

    def __init__(self, message: str, kind: str = ErrorKind.OBJECT_STORE) -> None:
        super().__init__(message, kind)


# Empty segments, '.' and '..', absolute keys, control characters, lone surrogates; and names
# ending in '#' + digits, which listings take for unfinished files. Folders of branches and tags
# end like their names do, where storage takes names as they are.
_BAD_KEY = re.compile(
    r"^/|//|/$|^$|(?:^|/)\.\.?(?:/|$)|[\x00-\x1f\x7f\ud800-\udfff]"
    r"|#[0-9]+$|^(?!refs/(?:branch|tag)\.).*#[0-9]+/"
)


# What almost every key looks like; recognised four times faster than the above is excluded.
_PLAIN_KEY = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9_.-]*/)*[A-Za-z0-9_-][A-Za-z0-9_.-]*")


def validate_key(key: str) -> None:
    """Refuse a key that could name something outside the storage or be hidden by listings."""
    if not is_key(key):
        raise InvalidInputError(
            f"invalid object key {key!r}: keys are '/'-separated non-empty segments, none of them "
            "'.' or '..', without control characters, and do not end in '#' and digits",
            ErrorKind.INVALID_KEY,
        )


def is_key(key: str) -> bool:
    """Whether `validate_key` has nothing against a key."""
    return _PLAIN_KEY.fullmatch(key) is not None or _BAD_KEY.search(key) is None


def check_range(key: str, start: int, end: int) -> None:
    """Refuse a byte range that runs backwards or starts before the object."""
    if not 0 <= start <= end:
        raise InvalidInputError(
            f"invalid byte range [{start}, {end}) of object {key!r}", ErrorKind.INVALID_BYTE_RANGE
        )


def short_object(key: str, start: int, end: int, size: int | None = None) -> StorageError:
    """Error for an object that ends before the range asked for."""
    known = "" if size is None else f", it has {size} bytes"
    return StorageError(
        f"object {key!r} is too short for the byte range [{start}, {end}){known}: "
        "the object is truncated or the reference to it is damaged",
        ErrorKind.INVALID_OBJECT_SIZE,
    )


def wanted_of(
    batch: Sequence[ObjectInfo], folder: str, is_wanted: Callable[[Sequence[str]], Iterable[bool]]
) -> Iterator[_Infos]:
    """Yield a list of those of a listing that `list_where` is asked for, or nothing."""
    start = len(folder) + 1
    wanted = is_wanted([info.key[start:] for info in batch])
    found = [info for info in compress(batch, wanted) if "/" not in info.key[start:]]
    if found:
        yield found


class Storage(Shown, ABC):
    """Where a repository keeps its objects: keys to bytes, with one conditional write.

    Every method is synchronous and safe to call from several threads. Missing objects raise
    `ObjectNotFound`, other trouble any `StorageError`; no exception of an underlying library or
    of the operating system leaves a storage. Storages travel to other processes by pickle, as
    their constructor's arguments.
    """

    is_local: bool = False
    """Answers come in microseconds, so calling it from an event loop is fine."""

    can_write: bool = True

    # Reading

    @abstractmethod
    def get(self, key: str) -> bytes:
        """Return the whole object."""

    @abstractmethod
    def get_versioned(self, key: str) -> tuple[bytes, Version]:
        """Return the whole object and the token of exactly this content, for `put_if`."""

    def get_if_changed(self, key: str, known: Version) -> tuple[bytes, Version] | None:
        """Return the object unless it is still in the state `known`: then ``None``."""
        data, version = self.get_versioned(key)
        return None if version == known else (data, version)

    @abstractmethod
    def get_range(self, key: str, start: int, end: int) -> bytes:
        """Return the bytes ``[start, end)``, all of them.

        An object that ends before `end` raises `StorageError` of kind ``invalid-object-size``.
        An empty range may be answered without looking at the object.
        """

    @abstractmethod
    def head(self, key: str) -> ObjectInfo:
        """Return size and modification time of an object."""

    def exists(self, key: str) -> bool:
        """Tell whether there is an object under this key."""
        try:
            self.head(key)
        except ObjectNotFound:
            return False
        return True

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Iterate over the objects below `prefix`, in no particular order.

        The prefix names whole segments, with or without a trailing slash (``chunks/``). Objects
        written or deleted meanwhile may or may not appear.
        """

    def list_where(
        self,
        folder: str,
        is_wanted: Callable[[Sequence[str]], Iterable[bool]],
        at_once: int = 1,
    ) -> Iterator[_Infos]:
        """Iterate over objects directly in a folder, by the batch, those whose names are wanted.

        Where size and time of an object cost more than its name, that is done for these alone.

        Parameters
        ----------
        folder
            Their common beginning, without a slash at the end.
        is_wanted
            Tells of each of a batch of names, without the folder, whether to go on with it.
        at_once
            How many listings may be under way, where that helps.
        """
        listing = self.list(folder + "/")
        while batch := list(islice(listing, _LISTED_AT_ONCE)):
            yield from wanted_of(batch, folder, is_wanted)

    # Writing

    @abstractmethod
    def put(self, key: str, data: BytesLike) -> None:
        """Write an object whatever was there; readers see the old or the new one, whole."""

    @abstractmethod
    def put_new(self, key: str, data: BytesLike) -> None:
        """Write an object under a fresh random name, as fast as the backend can.

        The caller guarantees that the key was never used and that nothing refers to it yet, so
        nobody reads it before this returns. A backend may refuse an existing key.
        """

    @abstractmethod
    def put_if(self, key: str, data: BytesLike, expected: Version | None) -> Version:
        """Replace the object if it is still in the state `expected`; return the new state.

        ``None`` expects no object at all. Atomic across threads and processes. Raises
        `PreconditionFailed` when the object is in another state, `WriteOutcomeUnknown` when
        that cannot be found out.
        """

    def copy(self, source: str, target: str) -> None:
        """Give the present content of an object a second, fresh name, without transferring it.

        The caller guarantees for `target` what `put_new` asks for. Whoever replaces the source
        meanwhile does not disturb: the copy is the old or the new content, whole. It goes on being
        what it is when the source is replaced or deleted. Backends that cannot copy by themselves
        read and write.
        """
        self.put_new(target, self.get(source))

    @abstractmethod
    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; those that do not exist count as deleted."""

    def flush(self) -> None:
        """Make everything written so far durable; a no-op where `put` already does."""

    def prepare(self) -> None:
        """Make the place a new repository will live in, if it needs to exist first."""

    def turn(self, patience: float) -> AbstractContextManager[bool]:
        """Stand in line with others who are about to replace the same object.

        A courtesy that spares lost races, never a guarantee: after `patience` seconds, and always
        on storages whose users cannot see each other, one goes on out of turn. The value of the
        context tells whether it is really our turn.
        """
        return nullcontext(False)

    # What it can do, see `icechunk.storage.check`

    @property
    def creates_conditionally(self) -> bool:
        """Whether `put_if` expects what it is told to when it creates; settings may say no."""
        return True

    @property
    def updates_conditionally(self) -> bool:
        """Whether `put_if` expects what it is told to when it replaces; settings may say no."""
        return True

    def refuses(self, key: str, data: BytesLike, expected: Version | None) -> bool:
        """Tell whether `put_if`, which takes the same, is refused; carried out if it is not."""
        try:
            self.put_if(key, data, expected)
        except PreconditionFailed:
            return True
        return False

    def keeps_metadata(self, key: str) -> bool | None:
        """Write an object with metadata and tell whether it comes back; None: none is used."""
        return None

    def copies_by_itself(self, source: str, target: str) -> bool:
        """Copy an object and tell whether that was done without transferring it."""
        self.copy(source, target)
        return self.is_local

    # Description

    def requests_for(self, size: int, *, writing: bool = False) -> int:
        """Tell how many requests at once a range or object of so many bytes is transferred in."""
        return 1

    @property
    def names_verbatim(self) -> bool:
        """Whether names that users give stand in keys as they are, see `icechunk.format.refs_v1`.

        It is how the reference implementation finds its files in storages of this kind.
        """
        return False

    @property
    def prefix_is_empty(self) -> bool:
        """Whether this is the root of a cloud bucket, where repositories are not created."""
        return False

    @abstractmethod
    def default_settings(self) -> StorageSettings:
        """Return the settings this backend uses where the user has not chosen any."""

    def configured(self, settings: StorageSettings | None) -> Storage:
        """Return this storage under `settings`, whose gaps the backend's defaults fill.

        None leaves the storage as it is. Storages that nothing can be set about return
        themselves.
        """
        return self

    def attributed(self, attribution: Attribution) -> Storage:
        """Return this storage with its requests attributed to somebody, where it sends any."""
        return self

    @abstractmethod
    def identity(self) -> tuple[str, ...]:
        """Name the stored data, so that copies of a storage in one process share caches.

        Holds no secrets; storages that use different credentials have different identities.
        """

    @abstractmethod
    def _describe(self) -> Mapping[str, object]:
        """Facts to show in `repr`, in order, the type first. Never secrets."""

    def _block(self) -> Block:
        return Block.of("icechunk.Storage", self._describe())

    # Coroutines of the chunk path. Object stores override them; for a local storage the call
    # costs less than a hop to another thread.

    async def get_async(self, key: str) -> bytes:
        """`get` as a coroutine."""
        return self.get(key)

    async def get_range_async(self, key: str, start: int, end: int) -> bytes:
        """`get_range` as a coroutine."""
        return self.get_range(key, start, end)

    async def put_new_async(self, key: str, data: BytesLike) -> None:
        """`put_new` as a coroutine."""
        self.put_new(key, data)

    # Inspection by users

    def list_objects_metadata(
        self, settings: StorageSettings | None = None, prefix: str | None = None
    ) -> _ObjectInfos:
        """List the stored objects below a prefix."""
        return [
            StorageObjectInfo(
                info.key, info.size, _EPOCH + timedelta(microseconds=info.last_modified_us)
            )
            for info in self.configured(settings).list(prefix or "")
        ]

    def list_objects(
        self, settings: StorageSettings | None = None, prefix: str | None = None
    ) -> _KeysAndSizes:
        """List keys and sizes of the stored objects. Prefer `list_objects_metadata`."""
        return [(info.key, info.size) for info in self.configured(settings).list(prefix or "")]

    # Constructors under the names users know. Imported when called, because the backends
    # import this module.

    @classmethod
    def new_in_memory(cls) -> Storage:
        """Make what `icechunk.in_memory_storage` makes."""
        from icechunk.storage.factories import in_memory_storage

        return in_memory_storage()

    @classmethod
    def new_local_filesystem(cls, path: str) -> Storage:
        """Make what `icechunk.local_filesystem_storage` makes."""
        from icechunk.storage.factories import local_filesystem_storage

        return local_filesystem_storage(path)

    @classmethod
    def new_s3(
        cls,
        config: S3Options,
        bucket: str,
        prefix: str | None,
        credentials: S3Credentials | None = None,
        legacy_rooted_keys: bool | None = None,
        *,
        read_headers: Mapping[str, str] | None = None,
        write_headers: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Storage:
        """Do as `icechunk.storage.s3_storage` does, given options and credentials."""
        from icechunk.storage.s3_factories import new_s3

        return new_s3(
            config,
            bucket,
            prefix,
            credentials,
            legacy_rooted_keys,
            read_headers=read_headers,
            write_headers=write_headers,
            headers=headers,
        )

    @classmethod
    def new_s3_object_store(
        cls,
        config: S3Options,
        bucket: str,
        prefix: str | None,
        credentials: S3Credentials | None = None,
        *,
        read_headers: Mapping[str, str] | None = None,
        write_headers: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Storage:
        """Do as `s3_object_store_storage` does, given options and credentials."""
        from icechunk.storage.s3_factories import new_s3_object_store

        return new_s3_object_store(
            config,
            bucket,
            prefix,
            credentials,
            read_headers=read_headers,
            write_headers=write_headers,
            headers=headers,
        )

    @classmethod
    def new_r2(
        cls,
        config: S3Options,
        bucket: str | None = None,
        prefix: str | None = None,
        account_id: str | None = None,
        credentials: S3Credentials | None = None,
        legacy_rooted_keys: bool | None = None,
        *,
        read_headers: Mapping[str, str] | None = None,
        write_headers: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Storage:
        """Do as `icechunk.storage.r2_storage` does, given options and credentials."""
        from icechunk.storage.s3_factories import new_r2

        return new_r2(
            config,
            bucket,
            prefix,
            account_id,
            credentials,
            legacy_rooted_keys,
            read_headers=read_headers,
            write_headers=write_headers,
            headers=headers,
        )

    @classmethod
    def new_tigris(
        cls,
        config: S3Options,
        bucket: str,
        prefix: str | None,
        use_weak_consistency: bool,
        credentials: S3Credentials | None = None,
        legacy_rooted_keys: bool | None = None,
        *,
        read_headers: Mapping[str, str] | None = None,
        write_headers: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Storage:
        """Do as `icechunk.storage.tigris_storage` does, given options and credentials."""
        from icechunk.storage.s3_factories import new_tigris

        return new_tigris(
            config,
            bucket,
            prefix,
            use_weak_consistency,
            credentials,
            legacy_rooted_keys,
            read_headers=read_headers,
            write_headers=write_headers,
            headers=headers,
        )

    @classmethod
    def new_hf(
        cls,
        config: S3Options,
        bucket: str,
        prefix: str | None,
        namespace: str,
        credentials: S3Credentials | None = None,
        legacy_rooted_keys: bool | None = None,
        *,
        read_headers: Mapping[str, str] | None = None,
        write_headers: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Storage:
        """Do as `icechunk.storage.hf_storage` does, given options and credentials."""
        from icechunk.storage.s3_factories import new_hf

        return new_hf(
            config,
            bucket,
            prefix,
            namespace,
            credentials,
            legacy_rooted_keys,
            read_headers=read_headers,
            write_headers=write_headers,
            headers=headers,
        )

    @classmethod
    def new_gcs(
        cls,
        bucket: str,
        prefix: str | None,
        credentials: GcsCredentials | None = None,
        *,
        config: Mapping[str, str] | None = None,
        read_headers: Mapping[str, str] | None = None,
        write_headers: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Storage:
        """Do as `icechunk.storage.gcs_storage` does, given credentials."""
        from icechunk.storage.factories import new_gcs

        return new_gcs(
            bucket,
            prefix,
            credentials,
            config=config,
            read_headers=read_headers,
            write_headers=write_headers,
            headers=headers,
        )

    @classmethod
    def new_azure_blob(
        cls,
        account: str,
        container: str,
        prefix: str,
        credentials: AzureCredentials | None = None,
        *,
        config: Mapping[str, str] | None = None,
    ) -> Storage:
        """Do as `icechunk.storage.azure_storage` does, given credentials."""
        from icechunk.storage.factories import new_azure_blob

        return new_azure_blob(account, container, prefix, credentials, config=config)

    @classmethod
    def new_http(
        cls,
        base_url: str,
        config: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Storage:
        """Do as `icechunk.storage.http_storage` does."""
        from icechunk.storage.factories import http_storage

        return http_storage(base_url, config, headers)

    @classmethod
    def new_redirect(cls, base_url: str) -> Storage:
        """Do as `icechunk.storage.redirect_storage` does."""
        from icechunk.storage.factories import redirect_storage

        return redirect_storage(base_url)

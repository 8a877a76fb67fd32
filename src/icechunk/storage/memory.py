"""Objects in a dictionary of this process: for tests, examples and scratch data."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakValueDictionary

from icechunk.storage.base import (
    BytesLike,
    ObjectInfo,
    ObjectNotFound,
    PreconditionFailed,
    Storage,
    Version,
    check_range,
    short_object,
    validate_key,
)
from icechunk.storage.defaults import memory_settings
from icechunk.storage.locks import thread_lock

if TYPE_CHECKING:
    from icechunk.config import StorageSettings


class _Stored(NamedTuple):
    data: bytes
    number: int
    written_us: int


class MemoryStorage(Storage):
    """Keep objects in this process's memory, gone when the last reference is.

    A pickle carries a token, not the data: unpickled in the same process while the store is
    alive it is the very same store; in any other process it is a new, empty one. In a forked
    child it is the child's own copy.

    Only writers and listings lock: a reader takes one entry, whole, out of the dictionary.
    """

    is_local = True

    def __init__(self) -> None:
        self._token = uuid.uuid4().hex
        self._objects: dict[str, _Stored] = {}
        self._writes = 0
        _living[self._token] = self

    def get(self, key: str) -> bytes:
        """Return the stored bytes themselves, without a copy."""
        return self._stored(key).data

    def get_versioned(self, key: str) -> tuple[bytes, Version]:
        """Return the object and the number of the write that made it."""
        stored = self._stored(key)
        return stored.data, Version(etag=str(stored.number))

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """Return the bytes ``[start, end)``."""
        check_range(key, start, end)
        data = self._stored(key).data
        if end > len(data):
            raise short_object(key, start, end, len(data))
        return data[start:end]

    def head(self, key: str) -> ObjectInfo:
        """Return size and time of the last write."""
        stored = self._stored(key)
        return ObjectInfo(key, len(stored.data), stored.written_us)

    def exists(self, key: str) -> bool:
        """Tell whether there is an object under this key."""
        validate_key(key)
        return key in self._objects

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Iterate over a snapshot of the objects below `prefix`."""
        folder = prefix.rstrip("/") + "/" if prefix else ""
        with thread_lock(self._token):
            found = [item for item in self._objects.items() if item[0].startswith(folder)]
        for key, stored in found:
            yield ObjectInfo(key, len(stored.data), stored.written_us)

    def put(self, key: str, data: BytesLike) -> None:
        """Write an object whatever was there."""
        validate_key(key)
        content = _immutable(data)
        with thread_lock(self._token):
            self._store(key, content)

    put_new = put

    def copy(self, source: str, target: str) -> None:
        """Store the same bytes under another key."""
        self.put(target, self._stored(source).data)

    def put_if(self, key: str, data: BytesLike, expected: Version | None) -> Version:
        """Replace the object if its last write is the expected one."""
        validate_key(key)
        content = _immutable(data)
        with thread_lock(self._token):
            stored = self._objects.get(key)
            current = None if stored is None else Version(etag=str(stored.number))
            if current != expected:
                raise PreconditionFailed(
                    f"object {key!r} in memory is at version {current}, not at {expected}"
                )
            return self._store(key, content)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects."""
        for key in keys:
            validate_key(key)
            with thread_lock(self._token):
                self._objects.pop(key, None)

    def default_settings(self) -> StorageSettings:
        """Return the settings of a store that neither waits nor fails."""
        return memory_settings()

    def identity(self) -> tuple[str, ...]:
        """Name this store by its token."""
        return ("memory", self._token)

    def _describe(self) -> Mapping[str, object]:
        return {"type": "in-memory"}

    def _stored(self, key: str) -> _Stored:
        validate_key(key)
        try:
            return self._objects[key]
        except KeyError:
            raise ObjectNotFound(f"object not found: {key!r} in memory") from None

    def _store(self, key: str, content: bytes) -> Version:
        self._writes += 1
        self._objects[key] = _Stored(content, self._writes, time.time_ns() // 1000)
        return Version(etag=str(self._writes))

    def __reduce__(self) -> tuple[object, ...]:
        return (_find_or_create, (self._token,))


# Weak, so that the registry does not keep the data of forgotten stores.
_living: WeakValueDictionary[str, MemoryStorage] = WeakValueDictionary()


def _find_or_create(token: str) -> MemoryStorage:
    store = _living.get(token)
    if store is None:
        store = MemoryStorage()
        del _living[store._token]
        store._token = token
        # Two threads unpickling at once agree on one of their stores.
        store = _living.setdefault(token, store)
    return store


def _immutable(data: BytesLike) -> bytes:
    return data if type(data) is bytes else bytes(data)

"""A storage that passes everything on to another one: the base of those that add something."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TypeAlias

from icechunk.config import StorageSettings
from icechunk.storage.base import BytesLike, ObjectInfo, Storage, Version

_Infos: TypeAlias = list[ObjectInfo]  # named here because storages have a method called list


class StorageWrapper(Storage):
    """Pass every request on to `inner`; subclasses override what they change.

    Overriding `_before` and `_after` is enough to see every request, the coroutines included.

    Parameters
    ----------
    inner
        The storage that does the work.
    """

    def __init__(self, inner: Storage) -> None:
        self.inner = inner
        self.is_local = inner.is_local
        self.can_write = inner.can_write

    def _before(self, operation: str, key: str) -> None:
        """See a request before it is carried out; may raise."""

    def _after(self, operation: str, key: str) -> None:
        """See a request after it has been carried out; may raise."""

    def get(self, key: str) -> bytes:  # noqa: D102  (inherited documentation says it all)
        self._before("get", key)
        data = self.inner.get(key)
        self._after("get", key)
        return data

    def get_versioned(self, key: str) -> tuple[bytes, Version]:  # noqa: D102
        self._before("get_versioned", key)
        answer = self.inner.get_versioned(key)
        self._after("get_versioned", key)
        return answer

    def get_if_changed(  # noqa: D102
        self, key: str, known: Version
    ) -> tuple[bytes, Version] | None:
        self._before("get_if_changed", key)
        answer = self.inner.get_if_changed(key, known)
        self._after("get_if_changed", key)
        return answer

    def get_range(self, key: str, start: int, end: int) -> bytes:  # noqa: D102
        self._before("get_range", key)
        data = self.inner.get_range(key, start, end)
        self._after("get_range", key)
        return data

    def head(self, key: str) -> ObjectInfo:  # noqa: D102
        self._before("head", key)
        info = self.inner.head(key)
        self._after("head", key)
        return info

    def exists(self, key: str) -> bool:  # noqa: D102
        self._before("exists", key)
        answer = self.inner.exists(key)
        self._after("exists", key)
        return answer

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:  # noqa: D102
        self._before("list", prefix)
        yield from self.inner.list(prefix)
        self._after("list", prefix)

    def list_where(  # noqa: D102
        self,
        folder: str,
        is_wanted: Callable[[Sequence[str]], Iterable[bool]],
        at_once: int = 1,
    ) -> Iterator[_Infos]:
        self._before("list", folder)
        yield from self.inner.list_where(folder, is_wanted, at_once)
        self._after("list", folder)

    def put(self, key: str, data: BytesLike) -> None:  # noqa: D102
        self._before("put", key)
        self.inner.put(key, data)
        self._after("put", key)

    def put_new(self, key: str, data: BytesLike) -> None:  # noqa: D102
        self._before("put_new", key)
        self.inner.put_new(key, data)
        self._after("put_new", key)

    def copy(self, source: str, target: str) -> None:  # noqa: D102
        self._before("copy", target)
        self.inner.copy(source, target)
        self._after("copy", target)

    def put_if(  # noqa: D102
        self, key: str, data: BytesLike, expected: Version | None
    ) -> Version:
        self._before("put_if", key)
        version = self.inner.put_if(key, data, expected)
        self._after("put_if", key)
        return version

    def refuses(  # noqa: D102
        self, key: str, data: BytesLike, expected: Version | None
    ) -> bool:
        self._before("refuses", key)
        answer = self.inner.refuses(key, data, expected)
        self._after("refuses", key)
        return answer

    def keeps_metadata(self, key: str) -> bool | None:  # noqa: D102
        return self.inner.keeps_metadata(key)

    def copies_by_itself(self, source: str, target: str) -> bool:  # noqa: D102
        return self.inner.copies_by_itself(source, target)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects one by one, so that each counts as a request of its own."""
        for key in keys:
            self._before("delete", key)
            self.inner.delete([key])
            self._after("delete", key)

    def flush(self) -> None:  # noqa: D102
        self._before("flush", "")
        self.inner.flush()
        self._after("flush", "")

    def prepare(self) -> None:  # noqa: D102
        self._before("prepare", "")
        self.inner.prepare()
        self._after("prepare", "")

    def turn(self, patience: float) -> AbstractContextManager[bool]:  # noqa: D102
        return self.inner.turn(patience)

    async def get_async(self, key: str) -> bytes:  # noqa: D102
        self._before("get", key)
        data = await self.inner.get_async(key)
        self._after("get", key)
        return data

    async def get_range_async(self, key: str, start: int, end: int) -> bytes:  # noqa: D102
        self._before("get_range", key)
        data = await self.inner.get_range_async(key, start, end)
        self._after("get_range", key)
        return data

    async def put_new_async(self, key: str, data: BytesLike) -> None:  # noqa: D102
        self._before("put_new", key)
        await self.inner.put_new_async(key, data)
        self._after("put_new", key)

    @property
    def creates_conditionally(self) -> bool:  # noqa: D102
        return self.inner.creates_conditionally

    @property
    def updates_conditionally(self) -> bool:  # noqa: D102
        return self.inner.updates_conditionally

    def requests_for(self, size: int, *, writing: bool = False) -> int:  # noqa: D102
        return self.inner.requests_for(size, writing=writing)

    @property
    def names_verbatim(self) -> bool:  # noqa: D102
        return self.inner.names_verbatim

    @property
    def prefix_is_empty(self) -> bool:  # noqa: D102
        return self.inner.prefix_is_empty

    def default_settings(self) -> StorageSettings:  # noqa: D102
        return self.inner.default_settings()

    def identity(self) -> tuple[str, ...]:
        """Name this very wrapper: what it counts or breaks must not be hidden by shared caches."""
        return (type(self).__name__, str(id(self)), *self.inner.identity())

    def _describe(self) -> Mapping[str, object]:
        return self.inner._describe()

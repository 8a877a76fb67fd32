"""A stable URL that says where a repository is at present.

The URL is asked once, when the storage is first used, and answers with a redirect, perhaps by way
of others, to a URL that names a kind of storage. That storage is then used without credentials.
The URLs on the way are asked by us, not by a client that follows redirects, since each of them
is judged before it is followed.
"""

from __future__ import annotations

import copy
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urljoin, urlsplit

from icechunk.errors import ErrorKind, IcechunkError, ReadOnlyError, StorageError
from icechunk.storage.attribution import Attribution, user_agent_of
from icechunk.storage.base import BytesLike, ObjectInfo, Storage, Version
from icechunk.storage.defaults import cloud_settings

if TYPE_CHECKING:
    from icechunk.config import StorageSettings

_MOST_REDIRECTS = 10
_TIMEOUT = 30.0  # seconds, for each
_WEB = ("http", "https")


class RedirectStorage(Storage):
    """Read from the storage that a URL redirects to.

    Parameters
    ----------
    url
        Where to ask.
    settings
        What the storage found is configured with.
    attribution
        On whose behalf requests are sent.
    """

    can_write = False

    def __init__(
        self,
        url: str,
        settings: StorageSettings | None = None,
        attribution: Attribution | None = None,
    ) -> None:
        self._url = url
        self._settings = settings
        self._attribution = attribution
        self._found: Storage | None = None

    def target(self) -> Storage:
        """Return the storage that the URL redirects to, asking if nobody has yet.

        Raises
        ------
        StorageError
            Kind ``bad-redirect``: it does not lead to a storage.
        """
        if (found := self._found) is None:  # threads racing here ask twice, and one is dropped
            found = storage_at(destination(self._url, self._attribution), self._url)
            if self._attribution is not None:
                found = found.attributed(self._attribution)
            found = self._found = found.configured(self._settings)
        return found

    # Reading

    def get(self, key: str) -> bytes:  # noqa: D102  (as inherited)
        return self.target().get(key)

    def get_versioned(self, key: str) -> tuple[bytes, Version]:  # noqa: D102
        return self.target().get_versioned(key)

    def get_if_changed(  # noqa: D102
        self, key: str, known: Version
    ) -> tuple[bytes, Version] | None:
        return self.target().get_if_changed(key, known)

    def get_range(self, key: str, start: int, end: int) -> bytes:  # noqa: D102
        return self.target().get_range(key, start, end)

    def head(self, key: str) -> ObjectInfo:  # noqa: D102
        return self.target().head(key)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:  # noqa: D102
        return self.target().list(prefix)

    async def get_async(self, key: str) -> bytes:  # noqa: D102
        return await self.target().get_async(key)

    async def get_range_async(self, key: str, start: int, end: int) -> bytes:  # noqa: D102
        return await self.target().get_range_async(key, start, end)

    def requests_for(self, size: int, *, writing: bool = False) -> int:  # noqa: D102
        return self.target().requests_for(size, writing=writing)

    # Writing

    def put(self, key: str, data: BytesLike) -> None:  # noqa: D102
        raise self._read_only()

    def put_new(self, key: str, data: BytesLike) -> None:  # noqa: D102
        raise self._read_only()

    async def put_new_async(self, key: str, data: BytesLike) -> None:  # noqa: D102
        raise self._read_only()

    def put_if(self, key: str, data: BytesLike, expected: Version | None) -> Version:  # noqa: D102
        raise self._read_only()

    def delete(self, keys: Iterable[str]) -> None:  # noqa: D102
        raise self._read_only()

    def _read_only(self) -> ReadOnlyError:
        return ReadOnlyError(
            f"cannot write to where {self._url} redirects to: this storage is read-only",
            ErrorKind.READ_ONLY_STORAGE,
        )

    # Description

    @property
    def names_verbatim(self) -> bool:  # noqa: D102
        return self.target().names_verbatim

    def default_settings(self) -> StorageSettings:
        """Return the settings of an object store behind a network."""
        return cloud_settings()

    def configured(self, settings: StorageSettings | None) -> Storage:
        """Return this storage under other settings; None leaves it as it is."""
        if settings is None or settings == self._settings:
            return self
        return RedirectStorage(self._url, copy.deepcopy(settings), self._attribution)

    def attributed(self, attribution: Attribution) -> Storage:
        """Return this storage with its requests attributed to somebody."""
        return RedirectStorage(self._url, self._settings, attribution)

    def identity(self) -> tuple[str, ...]:
        """Name what the URL redirects to."""
        return ("redirect", self._url, *self.target().identity())

    def __reduce__(self) -> tuple[object, ...]:
        return (RedirectStorage, (self._url, self._settings, self._attribution))

    def _describe(self) -> Mapping[str, object]:
        return {"type": "redirect", "url": self._url}


def destination(url: str, attribution: Attribution | None = None) -> str:
    """Follow redirects until one names a storage, and return that URL.

    Raises
    ------
    StorageError
        Kind ``bad-redirect``: there are more than ten, or one leads nowhere, to another kind of
        place, or from https to http.
    """
    seen = url
    for _ in range(_MOST_REDIRECTS):
        location = _ask(seen, attribution)
        if location is None:
            raise _bad(url, f"{_shown(seen)} does not redirect, it has no Location")
        following = urljoin(seen, location)
        scheme = urlsplit(following).scheme
        if scheme in _STORAGES:
            return following
        if scheme not in _WEB:
            raise _bad(url, f"unknown scheme of {_shown(following)}")
        if scheme == "http" and urlsplit(seen).scheme == "https":
            raise _bad(url, f"{_shown(seen)} leads from https to http")
        seen = following
    raise _bad(url, f"more than {_MOST_REDIRECTS} redirects")


def storage_at(url: str, origin: str) -> Storage:
    """Make the storage that a URL names, without credentials."""
    try:
        parts = urlsplit(url)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        return _STORAGES[parts.scheme](parts.hostname or "", parts.path.strip("/"), query, url)
    except (IcechunkError, ValueError) as error:
        raise _bad(origin, f"{_shown(url)} names no usable storage: {error}") from None


def _s3(bucket: str, prefix: str, query: Mapping[str, str], url: str) -> Storage:
    from icechunk.storage.s3_factories import s3_storage  # these know the backends

    return s3_storage(bucket=bucket, prefix=prefix, region=query.get("region"), anonymous=True)


def _gcs(bucket: str, prefix: str, query: Mapping[str, str], url: str) -> Storage:
    from icechunk.storage.factories import gcs_storage

    return gcs_storage(bucket=bucket, prefix=prefix, anonymous=True)


def _r2(bucket: str, prefix: str, query: Mapping[str, str], url: str) -> Storage:
    from icechunk.storage.s3_factories import r2_storage

    if "account_id" not in query:
        raise ValueError("it must have an account_id query parameter")
    return r2_storage(
        bucket=bucket,
        prefix=prefix,
        region=query.get("region"),
        account_id=query["account_id"],
        anonymous=True,
    )


def _tigris(bucket: str, prefix: str, query: Mapping[str, str], url: str) -> Storage:
    from icechunk.storage.s3_factories import tigris_storage

    region = query.get("region")
    return tigris_storage(
        bucket=bucket,
        prefix=prefix,
        region=region,
        use_weak_consistency=region is None,
        anonymous=True,
    )


def _http(bucket: str, prefix: str, query: Mapping[str, str], url: str) -> Storage:
    from icechunk.storage.factories import http_storage

    scheme, _, rest = url.partition("+")
    return http_storage(f"{scheme}:{rest.partition(':')[2]}")


_STORAGES: Mapping[str, Callable[[str, str, Mapping[str, str], str], Storage]] = {
    "s3": _s3,
    "gs": _gcs,
    "gcs": _gcs,
    "r2": _r2,
    "tigris": _tigris,
    "http+icechunk": _http,
    "https+icechunk": _http,
    "http+ic": _http,
    "https+ic": _http,
}


class _Stay(urllib.request.HTTPRedirectHandler):
    """Leaves redirects to us."""

    def redirect_request(self, *arguments: Any) -> None:
        return None


def _ask(url: str, attribution: Attribution | None) -> str | None:
    """Return where a URL redirects to, None if it does not."""
    request = urllib.request.Request(url, headers={"User-Agent": user_agent_of(attribution)})
    try:
        with urllib.request.build_opener(_Stay).open(request, timeout=_TIMEOUT):
            return None
    except urllib.error.HTTPError as answer:
        with answer:
            location: str | None = answer.headers.get("Location")
            if 300 <= answer.code < 400:
                return location
            raise _bad(url, f"{_shown(url)} answered with status {answer.code}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _bad(url, f"{_shown(url)} cannot be asked: {error}") from None


def _bad(url: str, why: str) -> StorageError:
    return StorageError(
        f"cannot follow redirect {_shown(url)} to a repository: {why}", ErrorKind.BAD_REDIRECT
    )


def _shown(url: str) -> str:
    return url.partition("?")[0]

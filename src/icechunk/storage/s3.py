"""Amazon S3 and stores that speak its protocol.

Addressing style and signing. obstore also reads ``AWS_*``
environment variables for everything not set here; whatever could change what a repository relies
on is set explicitly.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit, urlunsplit

from icechunk.storage import obstore_library as library
from icechunk.storage.cloud import CloudStorage
from icechunk.storage.credentials import (
    S3Anonymous,
    S3Credentials,
    S3FromEnv,
    S3Refreshable,
    S3Static,
    S3StaticCredentials,
)
from icechunk.storage.headers import kept_at

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, S3Credential

    from icechunk.storage.sending import Pairs

_NATIVE: Final = "S3 (native)"
_PUBLIC = frozenset({"cache-control", "x-tigris-consistent", "x-tigris-regions"})
"""Headers that tell nobody anything: we add them ourselves."""
_AMAZON = ("amazonaws.com", "amazonaws.com.cn")
_DNS_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")  # a dot would break TLS certificates


@dataclass(frozen=True, slots=True)
class S3Target:
    """Which bucket, behind which server, reached how. Holds no secrets."""

    bucket: str
    prefix: str = ""
    region: str | None = None
    endpoint_url: str | None = None
    force_path_style: bool = False
    requester_pays: bool = False
    checksum_algorithm: str | None = None
    keeps_metadata: bool = True
    read_only: bool = False
    shown_as: str = _NATIVE
    config: Pairs = ()

    def names(self) -> tuple[str, ...]:
        """Name server, bucket and prefix."""
        return (self.endpoint_url or "", self.bucket, self.prefix)

    def address(self) -> tuple[str | None, bool]:
        """Return the endpoint to connect to, and whether the bucket is part of its host name.

        Host names carry the bucket unless the user, the bucket's name or the host forbids it.
        """
        virtual = not self.force_path_style and _DNS_BUCKET.fullmatch(self.bucket) is not None
        if self.endpoint_url is None:
            return None, virtual
        parts = urlsplit(self.endpoint_url.rstrip("/"))
        if not virtual or _is_bare_host(parts.hostname or ""):
            return urlunsplit(parts), False
        return urlunsplit(parts._replace(netloc=f"{self.bucket}.{parts.netloc}")), True


class S3Storage(CloudStorage[S3Target, S3Credentials]):
    """Keep objects below a prefix of an S3 bucket; `CloudStorage` describes the parameters."""

    _scheme = "s3"
    _reads_variables = "AWS_"
    _lists_in_order = True

    @property
    def names_verbatim(self) -> bool:
        """Whether it stands for the native client of the reference, which spells no names."""
        return self._target.shown_as == _NATIVE

    def _describe(self) -> Mapping[str, object]:
        target = self._target
        shown: dict[str, object] = {"type": target.shown_as, "bucket": target.bucket}
        optional = {
            "prefix": target.prefix,
            "region": target.region,
            "endpoint_url": target.endpoint_url,
            "anonymous": isinstance(self._credentials, S3Anonymous),
            "allow_http": self._sending.allow_http,
            "force_path_style": target.force_path_style,
            "requester_pays": target.requester_pays,
            "checksum_algorithm": target.checksum_algorithm,
        }
        return shown | {name: value for name, value in optional.items() if value}

    def _place(self) -> str:
        return f"s3://{self._target.bucket}/{self._target.prefix}".rstrip("/")

    def _make_client(self, *, writing: bool) -> ObjectStore:
        target, credentials = self._target, self._credentials
        endpoint, virtual = target.address()
        config: dict[str, Any] = {
            "virtual_hosted_style_request": virtual,
            # Not left to the environment: without conditions, commits would be lost.
            "conditional_put": "etag",
            "request_payer": target.requester_pays,
        }
        if endpoint is not None:
            config["endpoint"] = endpoint
        if target.region is not None:
            config["region"] = target.region
        if target.checksum_algorithm is not None:
            config["checksum_algorithm"] = target.checksum_algorithm
        if not isinstance(credentials, S3FromEnv):
            config["skip_signature"] = isinstance(credentials, S3Anonymous)
        return library.store.S3Store(
            target.bucket,
            prefix=target.prefix or None,
            config=config,  # type: ignore[arg-type]  # built up key by key
            client_options=self._client_options(writing=writing),
            retry_config=self._retry_config(),
            credential_provider=_provider(credentials),
        )

    def _client_options(self, *, writing: bool) -> ClientConfig:
        options = super()._client_options(writing=writing)
        if isinstance(self._credentials, S3FromEnv):
            return options  # with which the client asks other hosts for credentials
        endpoint, _ = self._target.address()
        hosts = _AMAZON if endpoint is None else (urlsplit(endpoint).hostname or "",)
        headers = tuple(
            pair for pair in self._sending.headers(writing=writing) if pair[0] not in _PUBLIC
        )
        return kept_at(options, headers, hosts, unless_proxied=True)


def _provider(credentials: S3Credentials) -> _Fixed | _Refreshed | None:
    match credentials:
        case S3Static(known):
            # A provider rather than config values, which a session token from the environment
            # would complete with somebody else's.
            return _Fixed(known)
        case S3Refreshable():
            return _Refreshed(credentials)
        case S3Anonymous():
            # Never sent. With it, nothing in the client can look for credentials elsewhere.
            return _Fixed(S3StaticCredentials("anonymous", "anonymous"))
    return None


@dataclass(frozen=True, slots=True)
class _Fixed:
    """Credential provider that always answers the same key."""

    known: S3StaticCredentials

    def __call__(self) -> S3Credential:
        return _as_obstore(self.known)


@dataclass(frozen=True, slots=True)
class _Refreshed:
    """Credential provider that answers what the user's function does."""

    credentials: S3Refreshable

    def __call__(self) -> S3Credential:
        return _as_obstore(self.credentials.source().value(self.credentials.current))


def _as_obstore(known: S3StaticCredentials) -> S3Credential:
    return {
        "access_key_id": known.access_key_id,
        "secret_access_key": known.secret_access_key,
        "token": known.session_token,
        "expires_at": known.expires_after,
    }


def _is_bare_host(host: str) -> bool:
    """Tell hosts below which there are no names of buckets: addresses and localhost."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True

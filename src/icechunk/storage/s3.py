"""Amazon S3 and stores that speak its protocol.

What is sent where: addressing style, signing, timeouts and retries. obstore also reads ``AWS_*``
environment variables for everything not set here; whatever could change what a repository relies
on is set explicitly.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from icechunk._debug_info import user_agent
from icechunk.storage import obstore_library as library
from icechunk.storage.credentials import (
    S3Anonymous,
    S3Credentials,
    S3Refreshable,
    S3Static,
    S3StaticCredentials,
)
from icechunk.storage.masked import secrets_of
from icechunk.storage.object_store import ObjectStorage
from icechunk.storage.tuning import Tuning

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig, S3Credential

    from icechunk.config import StorageSettings
    from icechunk.storage.base import Storage

_RETRY_BUDGET = timedelta(minutes=5)
_NO_LIMIT = timedelta(hours=24)
_DNS_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")  # a dot would break TLS certificates


@dataclass(frozen=True, slots=True)
class S3Target:
    """Which bucket, behind which server, reached how. Holds no secrets."""

    bucket: str
    prefix: str = ""
    region: str | None = None
    endpoint_url: str | None = None
    allow_http: bool = False
    force_path_style: bool = False
    network_stream_timeout_seconds: int = 60
    requester_pays: bool = False
    checksum_algorithm: str | None = None
    read_headers: tuple[tuple[str, str], ...] = ()
    write_headers: tuple[tuple[str, str], ...] = ()

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


class S3Storage(ObjectStorage):
    """Keep objects below a prefix of an S3 bucket.

    Parameters
    ----------
    target
        Bucket, prefix and server.
    credentials
        How requests are signed. Part of pickles.
    tuning
        Retries, timeouts, parallelism and storage classes.
    """

    def __init__(
        self, target: S3Target, credentials: S3Credentials, tuning: Tuning | None = None
    ) -> None:
        super().__init__(Tuning.of() if tuning is None else tuning)
        self._target = target
        self._credentials = credentials

    @property
    def prefix_is_empty(self) -> bool:
        """Whether this is the root of the bucket."""
        return not self._target.prefix

    def configured(self, settings: StorageSettings | None) -> Storage:
        """Return this storage under other settings; None leaves it as it is."""
        if settings is None:
            return self
        tuning = Tuning.of(settings)
        if tuning == self._tuning:
            return self
        return S3Storage(self._target, self._credentials, tuning)

    def identity(self) -> tuple[str, ...]:
        """Name bucket and server, and a digest of everything else, credentials included."""
        target = self._target
        rest = repr((asdict(target), _secret_facts(self._credentials), self._tuning))
        digest = hashlib.blake2b(rest.encode(), digest_size=16).hexdigest()
        return ("s3", target.endpoint_url or "", target.bucket, target.prefix, digest)

    def __reduce__(self) -> tuple[object, ...]:
        return (S3Storage, (self._target, self._credentials, self._tuning))

    def _describe(self) -> Mapping[str, object]:
        target = self._target
        shown: dict[str, object] = {"type": "S3 (native)", "bucket": target.bucket}
        optional = {
            "prefix": target.prefix,
            "region": target.region,
            "endpoint_url": target.endpoint_url,
            "allow_http": target.allow_http,
            "anonymous": isinstance(self._credentials, S3Anonymous),
            "force_path_style": target.force_path_style,
        }
        return shown | {name: value for name, value in optional.items() if value}

    def _place(self) -> str:
        return f"s3://{self._target.bucket}/{self._target.prefix}".rstrip("/")

    def _secrets(self) -> Iterable[str]:
        return secrets_of(self._credentials)

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
        provider: _Fixed | _Refreshed | None = None
        if isinstance(credentials, S3Anonymous):
            config["skip_signature"] = True
        elif isinstance(credentials, S3Static):
            config["skip_signature"] = False
            # A provider rather than config values, which a session token from the environment
            # would complete with somebody else's.
            provider = _Fixed(credentials.credentials)
        elif isinstance(credentials, S3Refreshable):
            config["skip_signature"] = False
            provider = _Refreshed(credentials)
        return library.store.S3Store(
            target.bucket,
            prefix=target.prefix or None,
            config=config,  # type: ignore[arg-type]  # built up key by key
            client_options=self._client_options(writing=writing),
            retry_config=_retry_config(self._tuning),
            credential_provider=provider,
        )

    def _client_options(self, *, writing: bool) -> ClientConfig:
        target, tuning = self._target, self._tuning
        attempt_ms = tuning.attempt_timeout_ms
        options: ClientConfig = {
            "user_agent": user_agent(),
            # A limit on the whole request, by default of 30 s, would fail large objects on
            # slow lines; stalled reads are found by the read timeout below.
            "timeout": _NO_LIMIT if attempt_ms is None else timedelta(milliseconds=attempt_ms),
        }
        if target.allow_http:
            options["allow_http"] = True
        if tuning.connect_timeout_ms is not None:
            options["connect_timeout"] = timedelta(milliseconds=tuning.connect_timeout_ms)
        stall = timedelta(seconds=target.network_stream_timeout_seconds)
        if tuning.read_timeout_ms is not None:
            stall = timedelta(milliseconds=tuning.read_timeout_ms)
        if stall and not writing:
            # Not for uploads: the client counts the time it takes to send the body.
            options["read_timeout"] = stall
        headers = dict(target.write_headers if writing else target.read_headers)
        if headers:
            options["default_headers"] = headers
        return options


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


def _retry_config(tuning: Tuning) -> RetryConfig:
    operation_ms = tuning.operation_timeout_ms
    return {
        "max_retries": tuning.max_tries - 1,
        "retry_timeout": (
            _RETRY_BUDGET if operation_ms is None else timedelta(milliseconds=operation_ms)
        ),
        "backoff": {
            "init_backoff": timedelta(milliseconds=tuning.initial_backoff_ms),
            "max_backoff": timedelta(milliseconds=tuning.max_backoff_ms),
            "base": 2,
        },
    }


def _secret_facts(credentials: S3Credentials) -> tuple[object, ...]:
    """Everything that tells two credentials apart, secrets included: only for hashing."""
    if isinstance(credentials, S3Static):
        known = credentials.credentials
        return (known.access_key_id, known.secret_access_key, known.session_token)
    if isinstance(credentials, S3Refreshable):
        return ("refreshable", credentials.pickled_function)
    return (type(credentials).__name__,)


def _is_bare_host(host: str) -> bool:
    """Tell hosts below which there are no names of buckets: addresses and localhost."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True

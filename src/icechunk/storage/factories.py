"""The functions users make storages with: arguments checked, then one constructor call.

An argument that would change behaviour and is not supported is refused, never ignored.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from icechunk.errors import ErrorKind, InvalidInputError, StorageError
from icechunk.storage.base import Storage
from icechunk.storage.credentials import S3StaticCredentials, s3_credentials
from icechunk.storage.local import LocalStorage
from icechunk.storage.memory import MemoryStorage

_CHECKSUMS = {"sha256": "sha256", "crc64_nvme": "crc64nvme", "crc64nvme": "crc64nvme"}
_TIGRIS = re.compile(r"(?:^|\.)(?:tigris\.dev|t3\.storage\.dev)$")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


def in_memory_storage() -> Storage:
    """Make a new, empty storage in the memory of this process.

    It is gone with the process, and its pickle carries no data: see
    `icechunk.storage.MemoryStorage`.
    """
    return MemoryStorage()


def local_filesystem_storage(path: str | os.PathLike[str]) -> Storage:
    """Make a storage of the files below a local directory.

    Any number of threads and processes of this machine may commit at the same time. The
    directory is created when a repository is.

    Parameters
    ----------
    path
        The directory, absolute or relative to the current one.
    """
    return LocalStorage(path)


def s3_storage(
    *,
    bucket: str,
    prefix: str | None,
    region: str | None = None,
    endpoint_url: str | None = None,
    allow_http: bool = False,
    access_key_id: str | None = None,
    secret_access_key: str | None = None,
    session_token: str | None = None,
    expires_after: datetime | None = None,
    anonymous: bool | None = None,
    from_env: bool | None = None,
    get_credentials: Callable[[], S3StaticCredentials] | None = None,
    scatter_initial_credentials: bool = False,
    force_path_style: bool = False,
    network_stream_timeout_seconds: int = 60,
    requester_pays: bool = False,
    checksum_algorithm: str | None = None,
    legacy_rooted_keys: bool | None = None,
    read_headers: Mapping[str, str] | None = None,
    write_headers: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Storage:
    """Make a storage of the objects below a prefix of an S3 bucket, or of a compatible store.

    Parameters
    ----------
    bucket
        Name of the bucket.
    prefix
        Where in the bucket the repository lives. None or empty is the bucket's root, where
        repositories can be opened but not created.
    region
        Region of the bucket. Default: ``AWS_REGION`` or ``AWS_DEFAULT_REGION``, else us-east-1.
    endpoint_url
        Server to use instead of Amazon's. Default: ``AWS_ENDPOINT_URL_S3`` or
        ``AWS_ENDPOINT_URL``.
    allow_http
        Permit connections without TLS.
    access_key_id, secret_access_key, session_token, expires_after
        A key to sign requests with; the last two for temporary ones.
    anonymous
        Send unsigned requests.
    from_env
        Find credentials in ``AWS_*`` environment variables or the services that cloud machines
        offer. This is also what happens without any credentials. Profiles in ``~/.aws`` are not
        read.
    get_credentials, scatter_initial_credentials
        A function that hands out keys; see `icechunk.s3_refreshable_credentials`.
    force_path_style
        Name the bucket in the path of URLs rather than in the host name, which many compatible
        stores need. Always done for addresses and ``localhost``.
    network_stream_timeout_seconds
        Give up a download that makes no progress for so long; 0 waits for ever.
    requester_pays
        Agree to pay for requests to somebody else's bucket.
    checksum_algorithm
        Checksum to send with uploads: ``sha256`` or ``crc64_nvme``.
    legacy_rooted_keys
        True, the key layout of some old repositories, is not supported.
    read_headers, write_headers, headers
        HTTP headers to add to reading requests, to writing ones, and to all; where both are
        given the more specific one wins.
    """
    from icechunk.storage.s3 import S3Storage, S3Target  # obstore loads slowly: only if needed

    _check_endpoint(endpoint_url)
    if not bucket:
        raise StorageError("s3_storage needs the name of a bucket", ErrorKind.STORAGE_CONFIG)
    if legacy_rooted_keys:
        if prefix:
            raise InvalidInputError(
                "legacy_rooted_keys=True is only meaningful with an empty prefix",
                ErrorKind.BAD_PREFIX,
            )
        raise InvalidInputError("legacy_rooted_keys=True is not supported", ErrorKind.UNIMPLEMENTED)
    target = S3Target(
        bucket=bucket,
        prefix=_normal_prefix(prefix),
        region=region,
        endpoint_url=endpoint_url,
        allow_http=allow_http,
        force_path_style=force_path_style,
        network_stream_timeout_seconds=network_stream_timeout_seconds,
        requester_pays=requester_pays,
        checksum_algorithm=_checksum(checksum_algorithm),
        read_headers=_headers(headers, read_headers),
        write_headers=_headers(headers, write_headers),
    )
    credentials = s3_credentials(
        access_key_id=access_key_id,
        secret_access_key=secret_access_key,
        session_token=session_token,
        expires_after=expires_after,
        anonymous=anonymous,
        from_env=from_env,
        get_credentials=get_credentials,
        scatter_initial_credentials=scatter_initial_credentials,
    )
    return S3Storage(target, credentials)


def _check_endpoint(url: str | None) -> None:
    if url is None:
        return
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise StorageError(
            f"endpoint_url {url!r} is not an http or https URL", ErrorKind.CANNOT_PARSE_URL
        )
    if parts.username is not None or parts.query or parts.fragment:
        raise StorageError(
            f"endpoint_url for host {parts.hostname} holds more than scheme, host, port and path",
            ErrorKind.CANNOT_PARSE_URL,
        )
    if _TIGRIS.search(parts.hostname):
        raise StorageError(
            f"endpoint {parts.hostname} is Tigris, whose consistency s3_storage cannot guarantee",
            ErrorKind.STORAGE_OTHER,
        )


def _normal_prefix(prefix: str | None) -> str:
    """Drop one trailing slash; refuse prefixes that stores and clients treat differently."""
    normal = (prefix or "").removesuffix("/")
    if normal and any(segment in ("", ".", "..") for segment in normal.split("/")):
        raise InvalidInputError(
            f"invalid prefix {prefix!r}: it must not start with '/' nor hold empty, '.' or '..' "
            "segments",
            ErrorKind.BAD_PREFIX,
        )
    return normal


def _checksum(name: Any) -> str | None:
    if name is None:
        return None
    text = str(getattr(name, "value", name)).lower()
    if text not in _CHECKSUMS:
        raise InvalidInputError(
            f"checksum algorithm {text!r} is not supported: choose one of {sorted(_CHECKSUMS)}",
            ErrorKind.STORAGE_CONFIG,
        )
    return _CHECKSUMS[text]


def _headers(
    common: Mapping[str, str] | None, specific: Mapping[str, str] | None
) -> tuple[tuple[str, str], ...]:
    merged = {name.lower(): value for name, value in (common or {}).items()}
    merged |= {name.lower(): value for name, value in (specific or {}).items()}
    for name, value in merged.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"invalid HTTP header {name!r}")  # without the value: often a secret
    return tuple(sorted(merged.items()))

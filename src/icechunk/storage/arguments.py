"""What the functions that make storages check about their arguments, before any client is made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

from icechunk.config import ChecksumAlgorithm
from icechunk.errors import ErrorKind, InvalidInputError, StorageError
from icechunk.storage.sending import Pairs

__all__ = [
    "checksum",
    "divided",
    "headers_of",
    "needs_name",
    "normal_prefix",
    "refuse_rooted_keys",
    "url_parts",
]

# What obstore can send of what users may ask for.
_CHECKSUMS = {"sha256": "sha256", "crc64_nvme": "crc64nvme", "crc64nvme": "crc64nvme"}
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_CLIENT_OPTIONS = frozenset(
    {
        "allow_http",
        "allow_invalid_certificates",
        "connect_timeout",
        "default_content_type",
        "http1_only",
        "http2_keep_alive_interval",
        "http2_keep_alive_timeout",
        "http2_keep_alive_while_idle",
        "http2_only",
        "pool_idle_timeout",
        "pool_max_idle_per_host",
        "proxy_ca_certificate",
        "proxy_excludes",
        "proxy_url",
        "randomize_addresses",
        "read_timeout",
        "root_certificate",
        "timeout",
        "user_agent",
    }
)


def needs_name(name: str, what: str, function: str) -> str:
    """Refuse an empty name of a bucket, container or account."""
    if not name:
        raise StorageError(f"{function} needs the name of a {what}", ErrorKind.STORAGE_CONFIG)
    return name


def normal_prefix(prefix: str | None) -> str:
    """Drop one trailing slash; refuse prefixes that stores and clients treat differently."""
    normal = (prefix or "").removesuffix("/")
    if normal and any(segment in ("", ".", "..") for segment in normal.split("/")):
        raise InvalidInputError(
            f"invalid prefix {prefix!r}: it must not start with '/' nor hold empty, '.' or '..' "
            "segments",
            ErrorKind.BAD_PREFIX,
        )
    return normal


def refuse_rooted_keys(prefix: str, legacy_rooted_keys: bool | None) -> None:
    """Refuse keys that start with a slash, which obstore cannot name."""
    if not legacy_rooted_keys:
        return
    if prefix:
        raise StorageError(
            "legacy_rooted_keys is only valid with an empty prefix", ErrorKind.STORAGE_OTHER
        )
    raise StorageError(
        "legacy_rooted_keys=True is not supported: the client cannot name keys that start with "
        "'/'; copy the repository below a prefix",
        ErrorKind.UNIMPLEMENTED,
    )


def url_parts(url: str, name: str) -> SplitResult:
    """Split an http or https URL; refuse what does not belong to the place of a server."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise StorageError(
            f"error parsing URL {name} {url!r}: {error}", ErrorKind.CANNOT_PARSE_URL
        ) from None
    if parts.username is not None or parts.query or parts.fragment:
        # Not shown: these are where secrets are.
        raise StorageError(
            f"error parsing URL: {name} for host {parts.hostname} holds more than scheme, host, "
            "port and path",
            ErrorKind.CANNOT_PARSE_URL,
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise StorageError(
            f"error parsing URL: {name} {url!r} is not an http or https URL",
            ErrorKind.CANNOT_PARSE_URL,
        )
    return parts


def checksum(name: Any) -> str | None:
    """Return the checksum to send in obstore's words."""
    if name is None:
        return None
    text = (name.name if isinstance(name, ChecksumAlgorithm) else str(name)).lower()
    if text not in _CHECKSUMS:
        raise InvalidInputError(
            f"checksum algorithm {text!r} is not supported: choose one of {sorted(_CHECKSUMS)}",
            ErrorKind.STORAGE_CONFIG,
        )
    return _CHECKSUMS[text]


def headers_of(common: Mapping[str, str] | None, specific: Mapping[str, str] | None) -> Pairs:
    """Merge headers for all requests with those for some, which win."""
    merged = {name.lower(): value for name, value in (common or {}).items()}
    merged |= {name.lower(): value for name, value in (specific or {}).items()}
    for name, value in merged.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"invalid HTTP header {name!r}")  # without the value: often a secret
    return tuple(sorted(merged.items()))


def divided(config: Mapping[str, str] | None) -> tuple[Pairs, Pairs]:
    """Tell options of the store from those of its client, both as pairs of lower-case name."""
    lower = sorted((str(name).lower(), str(value)) for name, value in (config or {}).items())
    return (
        tuple(pair for pair in lower if pair[0] not in _CLIENT_OPTIONS),
        tuple(pair for pair in lower if pair[0] in _CLIENT_OPTIONS),
    )

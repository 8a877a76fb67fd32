"""Which kind of object store holds virtual chunks, and how to talk to it.

These are descriptions, stored with the repository, so they never contain credentials. Containers
(`icechunk.config.containers`) tie them to url prefixes. Exported as `icechunk.storage`.
"""

from __future__ import annotations

import os
from abc import ABC
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, TypeAlias

from icechunk._display import Block, Part, Shown
from icechunk.config import checks, display
from icechunk.config.base import Field, Settings


class ChecksumAlgorithm(IntEnum):
    """Checksums an S3 client may attach to what it writes."""

    Crc32 = 0
    Crc32c = 1
    Crc64Nvme = 2
    Sha1 = 3
    Sha256 = 4

    def __str__(self) -> str:
        return f"ChecksumAlgorithm.{self.name}"

    def __repr__(self) -> str:
        return f"icechunk.ChecksumAlgorithm.{self.name}"


class S3Options(Settings):
    """How to reach an S3 or S3-compatible store.

    Parameters
    ----------
    region
        Region of the bucket.
    endpoint_url
        Address of the service when it is not AWS.
    allow_http
        Whether plain http will do.
    anonymous
        Whether requests go unsigned.
    force_path_style
        Whether the bucket is part of the path instead of the host name.
    network_stream_timeout_seconds
        Seconds without any byte after which a request is given up; 0 never gives up.
    requester_pays
        Whether we pay for our requests.
    checksum_algorithm
        Checksum attached to writes; by default the client decides.
    """

    __slots__ = ()
    _shown_as = "icechunk.storage.S3Options"

    region: Field[str | None] = Field(checks.text)
    endpoint_url: Field[str | None] = Field(checks.text)
    allow_http: Field[bool] = Field(checks.flag, required=True)
    anonymous: Field[bool] = Field(checks.flag, required=True)
    force_path_style: Field[bool] = Field(checks.flag, required=True)
    network_stream_timeout_seconds: Field[int | None] = Field(checks.u32)
    requester_pays: Field[bool] = Field(checks.flag, required=True)
    checksum_algorithm: Field[ChecksumAlgorithm | None] = Field(checks.instance(ChecksumAlgorithm))

    def __init__(
        self,
        region: str | None = None,
        endpoint_url: str | None = None,
        allow_http: bool = False,
        anonymous: bool = False,
        force_path_style: bool = False,
        network_stream_timeout_seconds: int | None = None,
        requester_pays: bool = False,
        checksum_algorithm: ChecksumAlgorithm | None = None,
    ) -> None:
        self.region = region
        self.endpoint_url = endpoint_url
        self.allow_http = allow_http
        self.anonymous = anonymous
        self.force_path_style = force_path_style
        self.network_stream_timeout_seconds = network_stream_timeout_seconds
        self.requester_pays = requester_pays
        self.checksum_algorithm = checksum_algorithm


class _Variant(Shown):
    """Display shared by the kinds of store."""

    __slots__ = ()

    schemes: ClassVar[tuple[str, ...]] = ()
    """Schemes of the url prefixes this kind of store can serve."""

    def __repr__(self) -> str:
        return f"{self._name()}({', '.join(map(display.literal, self._arguments()))})"

    def __str__(self) -> str:
        return self._block().text()

    def _block(self) -> Block:
        """Show the settings, values that may be secret masked."""
        return Block(self._name(), tuple(self._parts()))

    def _name(self) -> str:
        return f"icechunk.config.ObjectStoreConfig.{type(self).__name__}"

    def _arguments(self) -> tuple[object, ...]:
        return ()

    def _parts(self) -> Iterable[tuple[str, Part]]:
        return ()


@dataclass(slots=True, repr=False)
class _S3Variant(_Variant):
    options: S3Options

    def __post_init__(self) -> None:
        checks.instance(S3Options)("options", self.options)

    def _arguments(self) -> tuple[object, ...]:
        return (self.options,)

    def _parts(self) -> Iterable[tuple[str, Part]]:
        return self.options._parts()


@dataclass(slots=True, repr=False)
class _OptsVariant(_Variant):
    opts: dict[str, str] | None = None

    def __post_init__(self) -> None:
        if self.opts is not None:
            self.opts = checks.text_mapping("opts", self.opts)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._options() == other._options()

    def _options(self) -> tuple[dict[str, str], ...]:
        return (self.opts or {},)  # None and {} are stored alike

    def _arguments(self) -> tuple[object, ...]:
        return (self.opts,)

    def _parts(self) -> Iterable[tuple[str, Part]]:
        return [("config", _masked(self.opts))]


class ObjectStoreConfig(ABC):  # noqa: B024  (an ABC for `register`, not for abstractness)
    """Kinds of object store; the nested classes are the instances' types."""

    def __init__(self) -> None:
        raise TypeError("ObjectStoreConfig has no instances; use one of its nested classes")

    @dataclass(slots=True, repr=False)
    class InMemory(_Variant):
        """A store in this process's memory, for tests."""

    @dataclass(slots=True, repr=False)
    class LocalFileSystem(_Variant):
        """A directory on this machine."""

        schemes = ("file",)

        path: str

        def __post_init__(self) -> None:
            self.path = checks.text("path", os.fspath(self.path))

        def _arguments(self) -> tuple[object, ...]:
            return (self.path,)

        def _parts(self) -> Iterable[tuple[str, Part]]:
            return [("path", display.part(self.path))]

    class S3(_S3Variant):
        """Amazon S3."""

        __slots__ = ()
        schemes = ("s3",)

    class S3Compatible(_S3Variant):
        """A store that speaks the S3 protocol."""

        __slots__ = ()
        schemes = ("s3",)

    class Tigris(_S3Variant):
        """Tigris, which speaks the S3 protocol and more."""

        __slots__ = ()
        schemes = ("tigris", "s3")

    class Gcs(_OptsVariant):
        """Google Cloud Storage, with client options."""

        __slots__ = ()
        schemes = ("gs", "gcs")

    class Azure(_OptsVariant):
        """Azure Blob Storage, with client options, one of which is ``account``."""

        __slots__ = ()
        schemes = ("az", "azure", "abfs")

    @dataclass(slots=True, repr=False, eq=False)
    class Http(_OptsVariant):
        """A web server, with client options and headers to send."""

        schemes = ("http", "https")

        headers: dict[str, str] | None = None

        def __post_init__(self) -> None:
            if self.opts is not None:
                self.opts = checks.text_mapping("opts", self.opts)
            if self.headers is not None:
                self.headers = checks.text_mapping("headers", self.headers)

        def _options(self) -> tuple[dict[str, str], ...]:
            return (self.opts or {}, self.headers or {})

        def _arguments(self) -> tuple[object, ...]:
            return (self.opts, self.headers)

        def _parts(self) -> Iterable[tuple[str, Part]]:
            return [
                ("opts", _masked(self.opts)),
                ("headers", _masked(self.headers, all_of_it=True)),
            ]


AnyObjectStoreConfig: TypeAlias = (
    ObjectStoreConfig.InMemory
    | ObjectStoreConfig.LocalFileSystem
    | ObjectStoreConfig.S3
    | ObjectStoreConfig.S3Compatible
    | ObjectStoreConfig.Gcs
    | ObjectStoreConfig.Azure
    | ObjectStoreConfig.Tigris
    | ObjectStoreConfig.Http
)

ObjectStoreConfig.register(_Variant)


def s3_store(
    region: str | None = None,
    endpoint_url: str | None = None,
    allow_http: bool = False,
    anonymous: bool = False,
    s3_compatible: bool = False,
    force_path_style: bool = False,
    network_stream_timeout_seconds: int | None = 60,
    requester_pays: bool = False,
    checksum_algorithm: ChecksumAlgorithm | None = None,
) -> ObjectStoreConfig.S3 | ObjectStoreConfig.S3Compatible:
    """Describe an S3 or, with `s3_compatible`, an S3-compatible store; see `S3Options`."""
    options = S3Options(
        region=region,
        endpoint_url=endpoint_url,
        allow_http=allow_http,
        anonymous=anonymous,
        force_path_style=force_path_style,
        network_stream_timeout_seconds=network_stream_timeout_seconds,
        requester_pays=requester_pays,
        checksum_algorithm=checksum_algorithm,
    )
    if s3_compatible:
        return ObjectStoreConfig.S3Compatible(options)
    return ObjectStoreConfig.S3(options)


def gcs_store(opts: dict[str, str] | None = None) -> ObjectStoreConfig.Gcs:
    """Describe a Google Cloud Storage store with these client options."""
    return ObjectStoreConfig.Gcs(opts)


def azure_store(*, account: str, config: dict[str, str] | None = None) -> ObjectStoreConfig.Azure:
    """Describe an Azure Blob Storage account, with further client options."""
    return ObjectStoreConfig.Azure({"account": account, **(config or {})})


def http_store(
    opts: dict[str, str] | None = None, headers: dict[str, str] | None = None
) -> ObjectStoreConfig.Http:
    """Describe a web server, with client options and headers sent with every request."""
    return ObjectStoreConfig.Http(opts, headers)


def local_filesystem_store(path: str) -> ObjectStoreConfig.LocalFileSystem:
    """Describe a directory on the local disk."""
    return ObjectStoreConfig.LocalFileSystem(path)


_SECRET_WORDS = ("key", "token", "secret", "password", "credential", "signature", "sas")


def _masked(options: dict[str, str] | None, *, all_of_it: bool = False) -> str:
    """Show options with values that may be secrets replaced."""
    if options is None:
        return "None"
    return display.literal(
        {
            name: "****" if all_of_it or any(w in name.lower() for w in _SECRET_WORDS) else value
            for name, value in options.items()
        }
    )

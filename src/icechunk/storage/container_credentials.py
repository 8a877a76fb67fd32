"""Credentials by url prefix: what a reader of virtual chunks may use, and for which of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, TypeAlias

from icechunk.storage.azure_credentials import AnyAzureCredential, AzureCredentials
from icechunk.storage.credentials import AnyS3Credential, S3Credentials
from icechunk.storage.gcs_credentials import AnyGcsCredential, GcsCredentials
from icechunk.storage.masked import Masked

__all__ = [
    "AnyCredential",
    "Credentials",
    "HttpAccess",
    "LocalFileSystemAccess",
    "containers_credentials",
]


class Credentials(Masked):
    """Credentials for a container of virtual chunks.

    `S3`, `Gcs` and `Azure` hold credentials of that provider, `LocalFileSystemAccess` and
    `HttpAccess` permit what needs none.
    """

    __slots__ = ()

    S3: ClassVar[type[ContainerS3]]
    Gcs: ClassVar[type[ContainerGcs]]
    Azure: ClassVar[type[ContainerAzure]]
    LocalFileSystemAccess: ClassVar[type[ContainerLocalFileSystem]]
    HttpAccess: ClassVar[type[ContainerHttp]]

    def __new__(cls, *arguments: object, **named: object) -> Credentials:
        """Make one of the kinds."""
        if cls is Credentials:
            raise TypeError("Credentials has no instances; use one of its nested classes")
        return super().__new__(cls)


@dataclass(frozen=True, slots=True, repr=False)
class ContainerS3(Credentials):
    """Credentials for S3."""

    _name = "Credentials.S3"

    credentials: AnyS3Credential


@dataclass(frozen=True, slots=True, repr=False)
class ContainerGcs(Credentials):
    """Credentials for Google Cloud Storage."""

    _name = "Credentials.Gcs"

    credentials: AnyGcsCredential


@dataclass(frozen=True, slots=True, repr=False)
class ContainerAzure(Credentials):
    """Credentials for Azure Blob Storage."""

    _name = "Credentials.Azure"

    credentials: AnyAzureCredential


@dataclass(frozen=True, slots=True, repr=False)
class ContainerLocalFileSystem(Credentials):
    """Permission to read files of this machine."""

    _name = "Credentials.LocalFileSystemAccess"


@dataclass(frozen=True, slots=True, repr=False)
class ContainerHttp(Credentials):
    """Permission to read from a web server."""

    _name = "Credentials.HttpAccess"


Credentials.S3 = ContainerS3
Credentials.Gcs = ContainerGcs
Credentials.Azure = ContainerAzure
Credentials.LocalFileSystemAccess = ContainerLocalFileSystem
Credentials.HttpAccess = ContainerHttp

LocalFileSystemAccess: Final = ContainerLocalFileSystem()
"""Permits reading files of this machine."""
HttpAccess: Final = ContainerHttp()
"""Permits reading from a web server."""

AnyCredential: TypeAlias = (
    ContainerS3 | ContainerGcs | ContainerAzure | ContainerLocalFileSystem | ContainerHttp
)


def containers_credentials(
    m: Mapping[
        str,
        AnyS3Credential
        | AnyGcsCredential
        | AnyAzureCredential
        | ContainerLocalFileSystem
        | ContainerHttp
        | None,
    ],
) -> dict[str, AnyCredential | None]:
    """Tie credentials to url prefixes of virtual chunk containers, to authorize reading them.

    Parameters
    ----------
    m
        Prefixes and what `s3_credentials`, `gcs_credentials` or `azure_credentials` made for each,
        or `icechunk.credentials.LocalFileSystemAccess` or `HttpAccess`. None is deprecated.

    Raises
    ------
    ValueError
        If a value is none of these.
    """
    return {prefix: _wrapped(credentials) for prefix, credentials in m.items()}


def _wrapped(credentials: object) -> AnyCredential | None:
    match credentials:
        case None | ContainerLocalFileSystem() | ContainerHttp():
            return credentials
        case S3Credentials():
            return ContainerS3(credentials)  # type: ignore[arg-type]
        case GcsCredentials():
            return ContainerGcs(credentials)  # type: ignore[arg-type]
        case AzureCredentials():
            return ContainerAzure(credentials)  # type: ignore[arg-type]
    raise ValueError(f"Unknown credential type {type(credentials)}")

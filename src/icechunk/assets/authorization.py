"""Which containers of virtual chunks one user of a repository may read, and with what credentials.

Never stored with the repository: a file that somebody else wrote must not decide what is read with
one's credentials. Travels with pickles.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from icechunk.config import RepositoryConfig
from icechunk.config.containers import VirtualChunkContainer
from icechunk.config.object_stores import ObjectStoreConfig
from icechunk.errors import ErrorKind, StorageError
from icechunk.storage.container_credentials import (
    ContainerAzure,
    ContainerGcs,
    ContainerHttp,
    ContainerLocalFileSystem,
    ContainerS3,
    Credentials,
)
from icechunk.storage.credentials import S3Anonymous, S3FromEnv
from icechunk.storage.gcs_credentials import GcsAnonymous

__all__ = ["Authorization"]

_WANTED: Final[Mapping[type, type[Credentials]]] = {
    ObjectStoreConfig.S3: ContainerS3,
    ObjectStoreConfig.S3Compatible: ContainerS3,
    ObjectStoreConfig.Tigris: ContainerS3,
    ObjectStoreConfig.Gcs: ContainerGcs,
    ObjectStoreConfig.Azure: ContainerAzure,
    ObjectStoreConfig.LocalFileSystem: ContainerLocalFileSystem,
    ObjectStoreConfig.Http: ContainerHttp,
}


@dataclass(frozen=True, slots=True)
class Authorization:
    """Credentials by the url prefixes of containers."""

    given: tuple[tuple[str, Credentials | None], ...] = ()
    """As they were passed; None is deprecated."""

    @classmethod
    def of(cls, access: Mapping[str, Any] | None, config: RepositoryConfig) -> Authorization:
        """Take over what a user passed, and check it against the containers there are.

        To be called by what the user called, whose line a warning names.

        Prefixes of no container are kept: the container may come with another configuration.

        Raises
        ------
        TypeError
            A value is no `icechunk.Credentials`.
        StorageError
            Kind ``storage-other``: credentials of another kind than the container's store takes.
        """
        if access is None:
            return cls()
        if not isinstance(access, Mapping):
            raise TypeError(
                "authorize_virtual_chunk_access must map url prefixes to what "
                f"containers_credentials makes, not be {type(access).__name__}"
            )
        for prefix, credentials in access.items():
            if not isinstance(prefix, str):
                raise TypeError(f"url prefixes must be str, not {type(prefix).__name__}")
            if credentials is None:
                _deprecate_none(prefix)
            elif not isinstance(credentials, Credentials):
                # The representation of credentials shows no secret, but who knows what this is.
                raise TypeError(
                    f"credentials for {prefix} must be made by containers_credentials, not be a "
                    f"{type(credentials).__name__}"
                )
        made = cls(tuple(access.items()))
        for container in (config.virtual_chunk_containers or {}).values():
            made.find(container)
        return made

    @property
    def prefixes(self) -> set[str]:
        """The prefixes as they were passed."""
        return {prefix for prefix, _ in self.given}

    def find(self, container: VirtualChunkContainer) -> Credentials | None:
        """Return the credentials for a container; None when it may not be read.

        Raises
        ------
        StorageError
            Kind ``storage-other``: they are of another kind than its store takes.
        """
        for prefix, credentials in self.given:
            if prefix.rstrip("/") == container.url_prefix.rstrip("/"):
                return _fitting(container, credentials)
        return None


def _fitting(container: VirtualChunkContainer, credentials: Credentials | None) -> Credentials:
    store = container.store
    if credentials is None:
        credentials = _implied(container)
    wanted = _WANTED.get(type(store))
    if wanted is None or not isinstance(credentials, wanted):
        needs = "none" if wanted is None else wanted._name
        raise StorageError(
            f"the credentials for the virtual chunk container {container.url_prefix} do not match "
            f"its store, {type(store).__name__}: it takes {needs}, and was given "
            f"{'None' if credentials is None else credentials._name}",
            ErrorKind.STORAGE_OTHER,
        )
    return credentials


def _implied(container: VirtualChunkContainer) -> Credentials | None:
    """Return what None used to mean."""
    match container.store:
        case ObjectStoreConfig.Http():
            return ContainerHttp()
        case ObjectStoreConfig.LocalFileSystem():
            return ContainerLocalFileSystem()
        case ObjectStoreConfig.Gcs():
            return ContainerGcs(GcsAnonymous())
        case (
            ObjectStoreConfig.S3(options)
            | ObjectStoreConfig.S3Compatible(options)
            | ObjectStoreConfig.Tigris(options)
        ):
            return ContainerS3(S3Anonymous() if options.anonymous else S3FromEnv())
    return None


def _deprecate_none(prefix: str) -> None:
    warnings.warn(
        f"None for `{prefix}` in authorize_virtual_chunk_access is deprecated: pass credentials, "
        "or icechunk.credentials.LocalFileSystemAccess or HttpAccess where none are needed",
        DeprecationWarning,
        stacklevel=4,  # past `of`, and what called it
    )

"""How the store that a container of virtual chunks describes is reached.

One place knows all the kinds. Clients are made when first used and carry the credentials they were
given, never any they find by themselves unless those credentials say so.
"""

from __future__ import annotations

from urllib.parse import unquote

from icechunk.config import StorageSettings
from icechunk.config.containers import VirtualChunkContainer
from icechunk.config.object_stores import ObjectStoreConfig
from icechunk.errors import ErrorKind, StorageError
from icechunk.storage.base import Storage
from icechunk.storage.container_credentials import (
    ContainerAzure,
    ContainerGcs,
    ContainerS3,
    Credentials,
)
from icechunk.storage.factories import http_storage, new_azure_blob, new_gcs
from icechunk.storage.foreign import FileSource, Source
from icechunk.storage.s3_factories import new_s3, new_tigris

__all__ = ["source_for"]


def source_for(
    container: VirtualChunkContainer, credentials: Credentials, settings: StorageSettings | None
) -> Source:
    """Return where the objects of a container are read from.

    Parameters
    ----------
    container
        The container.
    credentials
        Of the kind that its store takes.
    settings
        Parallelism, retries and timeouts, as for the storage of the repository.

    Raises
    ------
    StorageError
        Kind ``storage-config``: its store cannot be reached from here.
    """
    scheme, _, rest = container.url_prefix.partition("://")
    authority, _, path = rest.partition("/")
    if isinstance(container.store, ObjectStoreConfig.LocalFileSystem):
        return FileSource("/" + unquote(path))
    from icechunk.storage.foreign_objects import ObjectSource  # obstore loads slowly
    from icechunk.storage.object_store import ObjectStorage

    storage = _storage(container, scheme.lower(), authority, credentials).configured(settings)
    assert isinstance(storage, ObjectStorage)
    # Some object stores take entity tags without quotes only; on the web they have some.
    is_web = isinstance(container.store, ObjectStoreConfig.Http)
    return ObjectSource(storage, quoted=is_web)


def _storage(
    container: VirtualChunkContainer, scheme: str, authority: str, credentials: Credentials
) -> Storage:
    """Return the bucket, container or server as a storage; nothing is written to it."""
    match container.store, credentials:
        case ObjectStoreConfig.Http(opts, headers), _:
            return http_storage(f"{scheme}://{authority}", opts, headers)
        case (
            ObjectStoreConfig.S3(options) | ObjectStoreConfig.S3Compatible(options),
            ContainerS3(key),
        ):
            return new_s3(options, authority, None, key)
        case ObjectStoreConfig.Tigris(options), ContainerS3(key):
            # Full consistency takes a region; what others wrote long ago does without.
            return new_tigris(options, authority, None, options.region is None, key)
        case ObjectStoreConfig.Gcs(opts), ContainerGcs(key):
            return new_gcs(authority, None, key, config=opts)
        case ObjectStoreConfig.Azure(opts), ContainerAzure(key):
            named = dict(opts or {})
            account = named.pop("account", "")
            return new_azure_blob(account, authority, "", key, config=named)
    raise StorageError(
        f"cannot read virtual chunks from {container.url_prefix}: stores of the kind "
        f"{type(container.store).__name__} are not supported",
        ErrorKind.STORAGE_CONFIG,
    )

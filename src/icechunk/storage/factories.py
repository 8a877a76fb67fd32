"""The functions users make storages with: arguments checked, then one constructor call.

An argument that would change behaviour and is not supported is refused, never ignored. Those for
S3 and its kin are in `icechunk.storage.s3_factories`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from icechunk.errors import ErrorKind, StorageError
from icechunk.storage import arguments
from icechunk.storage.azure_credentials import AzureCredentials, azure_credentials
from icechunk.storage.base import Storage
from icechunk.storage.gcs_credentials import GcsBearerCredential, GcsCredentials, gcs_credentials
from icechunk.storage.local import LocalStorage
from icechunk.storage.memory import MemoryStorage
from icechunk.storage.sending import Pairs, Sending

__all__ = [
    "azure_storage",
    "gcs_storage",
    "http_storage",
    "in_memory_storage",
    "local_filesystem_storage",
    "new_azure_blob",
    "new_gcs",
    "redirect_storage",
]


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


def gcs_storage(
    *,
    bucket: str,
    prefix: str | None,
    service_account_file: str | None = None,
    service_account_key: str | None = None,
    application_credentials: str | None = None,
    bearer_token: str | None = None,
    anonymous: bool | None = None,
    from_env: bool | None = None,
    config: Mapping[str, str] | None = None,
    get_credentials: Callable[[], GcsBearerCredential] | None = None,
    scatter_initial_credentials: bool = False,
    read_headers: Mapping[str, str] | None = None,
    write_headers: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Storage:
    """Make a storage of the objects below a prefix of a Google Cloud Storage bucket.

    Parameters
    ----------
    bucket
        Name of the bucket.
    prefix
        Where in the bucket the repository lives. None or empty is the bucket's root, where
        repositories can be opened but not created.
    service_account_file, service_account_key, application_credentials, bearer_token
        Credentials that stay; see `icechunk.gcs_static_credentials`.
    anonymous
        Send requests without credentials.
    from_env
        Find credentials in ``GOOGLE_*`` environment variables, well-known files or the services
        that cloud machines offer. This is also what happens without any credentials.
    config
        Settings of the client by name, such as ``base_url``, ``skip_signature``, ``allow_http``,
        ``timeout`` or ``proxy_url``. Unknown ones fail at the first request.
    get_credentials, scatter_initial_credentials
        A function that hands out tokens; see `icechunk.gcs_refreshable_credentials`.
    read_headers, write_headers, headers
        HTTP headers to add to reading requests, to writing ones, and to all; where both are
        given the more specific one wins. They are not taken along to other hosts: redirects
        there fail, but for credentials from the environment or a service account, and proxies.
    """
    return new_gcs(
        bucket,
        prefix,
        gcs_credentials(
            service_account_file=service_account_file,
            service_account_key=service_account_key,
            application_credentials=application_credentials,
            bearer_token=bearer_token,
            from_env=from_env,
            anonymous=anonymous,
            get_credentials=get_credentials,
            scatter_initial_credentials=scatter_initial_credentials,
        ),
        config=config,
        read_headers=read_headers,
        write_headers=write_headers,
        headers=headers,
    )


def azure_storage(
    *,
    account: str,
    container: str,
    prefix: str,
    access_key: str | None = None,
    sas_token: str | None = None,
    bearer_token: str | None = None,
    from_env: bool | None = None,
    anonymous: bool | None = None,
    config: Mapping[str, str] | None = None,
) -> Storage:
    """Make a storage of the blobs below a prefix of an Azure Blob Storage container.

    Parameters
    ----------
    account
        Name of the storage account.
    container
        Name of the container.
    prefix
        Where in the container the repository lives. Empty is the container's root, where
        repositories can be opened but not created.
    access_key, sas_token, bearer_token
        Credentials that stay, one of them.
    from_env
        Find credentials in ``AZURE_*`` environment variables or the services that cloud machines
        offer. This is also what happens without any credentials.
    anonymous
        Send requests without credentials.
    config
        Settings of the client by name, such as ``endpoint``, ``use_emulator``, ``allow_http``,
        ``timeout`` or ``proxy_url``. Unknown ones fail at the first request.
    """
    credentials = azure_credentials(
        access_key=access_key,
        sas_token=sas_token,
        bearer_token=bearer_token,
        from_env=from_env,
        anonymous=anonymous,
    )
    return new_azure_blob(account, container, prefix, credentials, config=config)


def http_storage(
    base_url: str,
    opts: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Storage:
    """Make a read-only storage of what a web server has below a URL.

    Parameters
    ----------
    base_url
        The URL, of a place that could hold a repository's ``repo``. Credentials go into `headers`.
    opts
        Settings of the client by name, such as ``timeout``, ``allow_invalid_certificates`` or
        ``proxy_url``. Unknown ones are ignored.
    headers
        HTTP headers to add to every request. They are sent to the host of the URL only: of a
        redirect to another host, ``Authorization`` and ``Cookie`` are left out, and with other
        headers such a redirect fails. These others cannot be combined with ``proxy_url``.

    Raises
    ------
    StorageError
        Kind ``cannot-parse-url``: this is no URL of a web server.
    """
    from icechunk.storage.headers import LEFT_BEHIND
    from icechunk.storage.http import HttpStorage, HttpTarget

    arguments.url_parts(base_url, "base_url")
    _, options = arguments.divided(opts)
    given = arguments.headers_of(headers, None)
    if any(name not in LEFT_BEHIND for name, _ in given) and "proxy_url" in dict(options):
        raise StorageError(
            "http_storage cannot keep headers from other hosts behind a proxy: leave out proxy_url "
            f"or all headers but {sorted(LEFT_BEHIND)}",
            ErrorKind.STORAGE_CONFIG,
        )
    sending = Sending(allow_http=True, read_headers=given, options=options)
    return HttpStorage(HttpTarget(base_url.rstrip("/")), None, sending)


def redirect_storage(base_url: str) -> Storage:
    """Make a read-only storage of wherever a web server redirects to.

    The URL is asked when the storage is first used. At most ten redirects are followed, until one
    names a storage: ``s3://bucket/prefix?region=...``, ``gs://`` or ``gcs://bucket/prefix``,
    ``r2://bucket/prefix?account_id=...``, ``tigris://bucket/prefix?region=...``, or a URL with the
    scheme ``http+icechunk``, ``https+icechunk``, ``http+ic`` or ``https+ic``. It is read without
    credentials. What does not lead there raises `StorageError` of kind ``bad-redirect``.

    Parameters
    ----------
    base_url
        The URL to ask.

    Raises
    ------
    StorageError
        Kind ``cannot-parse-url``: this is no URL of a web server.
    """
    from icechunk.storage.redirect import RedirectStorage

    arguments.url_parts(base_url, "base_url")
    return RedirectStorage(base_url)


# The same of credentials that are already made: `Storage.new_...`.


def new_gcs(
    bucket: str,
    prefix: str | None,
    credentials: GcsCredentials | None = None,
    *,
    config: Mapping[str, str] | None = None,
    read_headers: Mapping[str, str] | None = None,
    write_headers: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Storage:
    """Make a storage of a Google Cloud Storage bucket."""
    from icechunk.storage.gcs import GcsStorage, GcsTarget  # obstore loads slowly

    of_store, of_client = arguments.divided(config)
    of_store, unsigned = _unsigned(of_store, "google_skip_signature")
    if credentials is None or unsigned:
        credentials = gcs_credentials(anonymous=unsigned)
    if not isinstance(credentials, GcsCredentials):
        raise TypeError(f"credentials must be GcsCredentials, not {type(credentials).__name__}")
    target = GcsTarget(
        bucket=arguments.needs_name(bucket, "bucket", "gcs_storage"),
        prefix=arguments.normal_prefix(prefix),
        config=of_store,
    )
    sending = Sending(
        read_headers=arguments.headers_of(headers, read_headers),
        write_headers=arguments.headers_of(headers, write_headers),
        options=of_client,
    )
    return GcsStorage(target, credentials, sending)


def new_azure_blob(
    account: str,
    container: str,
    prefix: str,
    credentials: AzureCredentials | None = None,
    *,
    config: Mapping[str, str] | None = None,
) -> Storage:
    """Make a storage of an Azure Blob Storage container."""
    from icechunk.storage.azure import AzureStorage, AzureTarget  # obstore loads slowly

    if not isinstance(prefix, str):
        raise TypeError(f"prefix must be str, not {type(prefix).__name__}")
    of_store, of_client = arguments.divided(config)
    of_store, unsigned = _unsigned(of_store, "azure_skip_signature")
    if credentials is None or unsigned:
        credentials = azure_credentials(anonymous=unsigned)
    if not isinstance(credentials, AzureCredentials):
        raise TypeError(f"credentials must be AzureCredentials, not {type(credentials).__name__}")
    target = AzureTarget(
        account=arguments.needs_name(account, "storage account", "azure_storage"),
        container=arguments.needs_name(container, "container", "azure_storage"),
        prefix=arguments.normal_prefix(prefix),
        config=of_store,
    )
    return AzureStorage(target, credentials, Sending(options=of_client))


def _unsigned(config: Pairs, long_name: str) -> tuple[Pairs, bool]:
    """Take the option not to sign out of the others: it is a kind of credentials."""
    names = {"skip_signature", long_name}
    value = next((value for name, value in config if name in names), "false")
    unsigned = value.lower() in {"1", "true", "on", "yes", "y"}
    return tuple(pair for pair in config if pair[0] not in names), unsigned

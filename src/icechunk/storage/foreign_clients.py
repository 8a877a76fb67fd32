"""How the store that a container of virtual chunks describes is reached.

One place knows all the kinds. Clients are made when first used and carry the credentials they were
given, never any they find by themselves unless those credentials say so.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from icechunk._debug_info import user_agent
from icechunk.config import StorageSettings
from icechunk.config.containers import VirtualChunkContainer
from icechunk.config.object_stores import ObjectStoreConfig, S3Options
from icechunk.errors import ErrorKind, StorageError
from icechunk.storage import obstore_library as library
from icechunk.storage.container_credentials import ContainerS3, Credentials
from icechunk.storage.credentials import (
    S3Anonymous,
    S3Credentials,
    S3Refreshable,
    S3Static,
)
from icechunk.storage.foreign import FileSource, ObjectSource, Source
from icechunk.storage.object_store import ObjectStorage
from icechunk.storage.s3_factories import s3_storage
from icechunk.storage.tuning import Tuning

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore

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
    match container.store:
        case ObjectStoreConfig.LocalFileSystem():
            return FileSource("/" + unquote(path))
        case ObjectStoreConfig.Http() as store:
            server = WebServer(f"{scheme}://{authority}", store, Tuning.of(settings))
            return ObjectSource(server, quoted=True)
        case (
            ObjectStoreConfig.S3(options)
            | ObjectStoreConfig.S3Compatible(options)
            | ObjectStoreConfig.Tigris(options)
        ) if isinstance(credentials, ContainerS3):
            storage = _s3(authority, options, credentials.credentials).configured(settings)
            assert isinstance(storage, ObjectStorage)
            return ObjectSource(storage, quoted=False)
    raise StorageError(
        f"cannot read virtual chunks from {container.url_prefix}: stores of the kind "
        f"{type(container.store).__name__} are not supported",
        ErrorKind.STORAGE_CONFIG,
    )


def _s3(bucket: str, options: S3Options, credentials: S3Credentials) -> Any:
    return s3_storage(
        bucket=bucket,
        prefix=None,
        region=options.region,
        endpoint_url=options.endpoint_url,
        allow_http=options.allow_http,
        force_path_style=options.force_path_style,
        network_stream_timeout_seconds=options.network_stream_timeout_seconds or 0,
        requester_pays=options.requester_pays,
        **_s3_arguments(credentials),
    )


def _s3_arguments(credentials: S3Credentials) -> dict[str, Any]:
    match credentials:
        case S3Anonymous():
            return {"anonymous": True}
        case S3Static(known):
            return {
                "access_key_id": known.access_key_id,
                "secret_access_key": known.secret_access_key,
                "session_token": known.session_token,
                "expires_after": known.expires_after,
            }
        case S3Refreshable(function):
            return {"get_credentials": pickle.loads(function)}
    return {"from_env": True}


class WebServer(ObjectStorage):
    """A web server, by the part of its URLs that comes before the path.

    Follows redirects, as web servers send them; what authorizes requests does not go along to
    another server.

    Parameters
    ----------
    base_url
        Scheme, host and port.
    store
        Options and headers of requests.
    tuning
        Retries, timeouts and parallelism.
    """

    def __init__(self, base_url: str, store: ObjectStoreConfig.Http, tuning: Tuning) -> None:
        super().__init__(tuning)
        self._base_url = base_url
        self._store = store

    def identity(self) -> tuple[str, ...]:
        """Name the server."""
        return ("http", self._base_url)

    def _describe(self) -> Mapping[str, object]:
        return {"type": "HTTP", "url": self._base_url}

    def _place(self) -> str:
        return self._base_url

    def _secrets(self) -> Iterable[str]:
        return [value for value in (self._store.headers or {}).values() if len(value) > 3]

    def _make_client(self, *, writing: bool) -> ObjectStore:
        tuning = self._tuning
        options: ClientConfig = {
            "user_agent": user_agent(),
            "allow_http": True,
            "timeout": timedelta(hours=24),  # of a whole request; stalls have limits of their own
            "read_timeout": timedelta(seconds=60),
        }
        if tuning.read_timeout_ms is not None:
            options["read_timeout"] = timedelta(milliseconds=tuning.read_timeout_ms)
        if tuning.connect_timeout_ms is not None:
            options["connect_timeout"] = timedelta(milliseconds=tuning.connect_timeout_ms)
        if tuning.attempt_timeout_ms is not None:
            options["timeout"] = timedelta(milliseconds=tuning.attempt_timeout_ms)
        for name, value in (self._store.opts or {}).items():
            if name in _WEB_OPTIONS:
                options[name] = value  # type: ignore[literal-required]
        if self._store.headers:
            options["default_headers"] = dict(self._store.headers)
        budget_ms = tuning.operation_timeout_ms
        return library.store.HTTPStore(
            self._base_url,
            client_options=options,
            retry_config={
                "max_retries": tuning.max_tries - 1,
                "retry_timeout": (
                    timedelta(minutes=5) if budget_ms is None else timedelta(milliseconds=budget_ms)
                ),
                "backoff": {
                    "init_backoff": timedelta(milliseconds=tuning.initial_backoff_ms),
                    "max_backoff": timedelta(milliseconds=tuning.max_backoff_ms),
                    "base": 2,
                },
            },
        )

    # A container is only read from.

    @property
    def can_write(self) -> bool:  # type: ignore[override]
        """False."""
        return False


_WEB_OPTIONS: Final = frozenset(
    {
        "allow_invalid_certificates",
        "connect_timeout",
        "http1_only",
        "http2_only",
        "pool_idle_timeout",
        "pool_max_idle_per_host",
        "proxy_ca_certificate",
        "proxy_excludes",
        "proxy_url",
        "read_timeout",
        "timeout",
        "user_agent",
    }
)
"""Client options that mean something here; others are ignored."""

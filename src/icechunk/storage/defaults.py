"""Settings each kind of backend uses where the user has not chosen any, as one table."""

from __future__ import annotations

from icechunk.config import (
    StorageConcurrencySettings,
    StorageRetriesSettings,
    StorageSettings,
)

_NO_RETRIES = (1, 0, 0)
_LOCAL_REQUESTS = 5
_CLOUD_REQUESTS = 18
_CLOUD_REQUEST_SIZE = 12 * 1024 * 1024


def memory_settings() -> StorageSettings:
    """Return settings for a store in memory."""
    return _settings(_LOCAL_REQUESTS, 1, _NO_RETRIES, metadata=True)


def local_settings() -> StorageSettings:
    """Return settings for a local directory.

    Conditional updates are on: unlike other implementations this one compares and swaps under
    a lock, so they hold. Files carry no user metadata.
    """
    return _settings(_LOCAL_REQUESTS, 4096, _NO_RETRIES, metadata=False)


def cloud_settings() -> StorageSettings:
    """Return settings for an object store reached over a network."""
    return _settings(_CLOUD_REQUESTS, _CLOUD_REQUEST_SIZE, (10, 100, 180_000), metadata=True)


def _settings(
    requests: int, request_size: int, retries: tuple[int, int, int], *, metadata: bool
) -> StorageSettings:
    max_tries, initial_backoff_ms, max_backoff_ms = retries
    return StorageSettings(
        concurrency=StorageConcurrencySettings(
            max_concurrent_requests_for_object=requests, ideal_concurrent_request_size=request_size
        ),
        retries=StorageRetriesSettings(
            max_tries=max_tries,
            initial_backoff_ms=initial_backoff_ms,
            max_backoff_ms=max_backoff_ms,
        ),
        unsafe_use_conditional_create=True,
        unsafe_use_conditional_update=True,
        unsafe_use_metadata=metadata,
        minimum_size_for_multipart_upload=100 * 1024 * 1024,
    )

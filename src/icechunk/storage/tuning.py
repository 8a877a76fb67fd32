"""Storage settings with every gap filled, as one flat value that clients are built from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from icechunk.config import StorageTimeoutSettings
from icechunk.storage.defaults import cloud_settings

if TYPE_CHECKING:
    from icechunk.config import StorageSettings


@dataclass(frozen=True, slots=True)
class Tuning:
    """How an object store is used. Hashable: equal tunings share clients."""

    max_requests: int
    request_size: int
    max_tries: int
    initial_backoff_ms: int
    max_backoff_ms: int
    connect_timeout_ms: int | None
    read_timeout_ms: int | None
    operation_timeout_ms: int | None
    attempt_timeout_ms: int | None
    conditional_create: bool
    conditional_update: bool
    metadata: bool
    multipart_size: int
    storage_class: str | None
    metadata_class: str | None
    chunks_class: str | None

    @classmethod
    def of(cls, settings: StorageSettings | None = None) -> Tuning:
        """Overlay the defaults of cloud storage with `settings`."""
        merged = cloud_settings()
        if settings is not None:
            merged = merged.merge(settings)
        concurrency, retries = merged.concurrency, merged.retries
        timeouts = merged.timeouts or StorageTimeoutSettings()
        assert concurrency is not None
        assert retries is not None
        return cls(
            max_requests=concurrency.max_concurrent_requests_for_object or 1,
            request_size=concurrency.ideal_concurrent_request_size or 1,
            max_tries=retries.max_tries or 1,
            initial_backoff_ms=retries.initial_backoff_ms or 0,
            max_backoff_ms=retries.max_backoff_ms or 0,
            connect_timeout_ms=timeouts.connect_timeout_ms,
            read_timeout_ms=timeouts.read_timeout_ms,
            operation_timeout_ms=timeouts.operation_timeout_ms,
            attempt_timeout_ms=timeouts.operation_attempt_timeout_ms,
            conditional_create=bool(merged.unsafe_use_conditional_create),
            conditional_update=bool(merged.unsafe_use_conditional_update),
            metadata=bool(merged.unsafe_use_metadata),
            multipart_size=merged.minimum_size_for_multipart_upload or 0,
            storage_class=merged.storage_class,
            metadata_class=merged.metadata_storage_class or merged.storage_class,
            chunks_class=merged.chunks_storage_class or merged.storage_class,
        )

    def storage_class_of(self, key: str) -> str | None:
        """Return the storage class for an object, which depends on its kind."""
        folder, slash, _ = key.partition("/")
        if slash and folder == "chunks":
            return self.chunks_class
        if slash and folder in _METADATA_FOLDERS:
            return self.metadata_class
        return None if key == "config.yaml" else self.storage_class


_METADATA_FOLDERS = frozenset({"snapshots", "manifests", "transactions"})

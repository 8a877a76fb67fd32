"""How an object store is used: concurrency, retries, timeouts, conditional writes, storage classes.

Shown and exported as `icechunk.storage`. Each storage backend overlays these with defaults of its
own; the numbers here are those of cloud object stores.
"""

from __future__ import annotations

from icechunk.config import checks
from icechunk.config.base import Field, Settings


class StorageConcurrencySettings(Settings):
    """How one large object is read in parallel pieces.

    Parameters
    ----------
    max_concurrent_requests_for_object
        Most requests in flight for a single object. Default: 18.
    ideal_concurrent_request_size
        Bytes each of these requests asks for. Default: 12 MiB.
    """

    __slots__ = ()
    _shown_as = "icechunk.storage.StorageConcurrencySettings"

    max_concurrent_requests_for_object: Field[int | None] = Field(checks.positive_u16, 18)
    ideal_concurrent_request_size: Field[int | None] = Field(checks.positive_u64, 12 * 1024**2)

    def __init__(
        self,
        max_concurrent_requests_for_object: int | None = None,
        ideal_concurrent_request_size: int | None = None,
    ) -> None:
        self.max_concurrent_requests_for_object = max_concurrent_requests_for_object
        self.ideal_concurrent_request_size = ideal_concurrent_request_size


class StorageRetriesSettings(Settings):
    """How failed requests are repeated, with exponentially growing pauses.

    Parameters
    ----------
    max_tries
        Tries altogether, so 1 means no retry. Default: 10.
    initial_backoff_ms
        First pause in milliseconds. Default: 100.
    max_backoff_ms
        Longest pause in milliseconds. Default: 180,000.
    """

    __slots__ = ()
    _shown_as = "icechunk.storage.StorageRetriesSettings"

    max_tries: Field[int | None] = Field(checks.positive_u16, 10)
    initial_backoff_ms: Field[int | None] = Field(checks.u32, 100)
    max_backoff_ms: Field[int | None] = Field(checks.u32, 180_000)

    def __init__(
        self,
        max_tries: int | None = None,
        initial_backoff_ms: int | None = None,
        max_backoff_ms: int | None = None,
    ) -> None:
        self.max_tries = max_tries
        self.initial_backoff_ms = initial_backoff_ms
        self.max_backoff_ms = max_backoff_ms


class StorageTimeoutSettings(Settings):
    """How long requests may take; what is not set is left to the client library.

    Parameters
    ----------
    connect_timeout_ms
        Time to establish a connection.
    read_timeout_ms
        Time until a response arrives.
    operation_timeout_ms
        Time for an operation with all its retries.
    operation_attempt_timeout_ms
        Time for one attempt of an operation.
    """

    __slots__ = ()
    _shown_as = "icechunk.storage.StorageTimeoutSettings"

    connect_timeout_ms: Field[int | None] = Field(checks.u32)
    read_timeout_ms: Field[int | None] = Field(checks.u32)
    operation_timeout_ms: Field[int | None] = Field(checks.u32)
    operation_attempt_timeout_ms: Field[int | None] = Field(checks.u32)

    def __init__(
        self,
        connect_timeout_ms: int | None = None,
        read_timeout_ms: int | None = None,
        operation_timeout_ms: int | None = None,
        operation_attempt_timeout_ms: int | None = None,
    ) -> None:
        self.connect_timeout_ms = connect_timeout_ms
        self.read_timeout_ms = read_timeout_ms
        self.operation_timeout_ms = operation_timeout_ms
        self.operation_attempt_timeout_ms = operation_attempt_timeout_ms


class StorageSettings(Settings):
    """How a repository uses its storage.

    Parameters
    ----------
    concurrency
        Parallel reads of one object.
    retries
        Repetition of failed requests.
    unsafe_use_conditional_create, unsafe_use_conditional_update
        Whether objects are created and replaced conditionally. Without it concurrent commits may
        be lost, so switch it off only for stores that lack the feature. Default: True.
    unsafe_use_metadata
        Whether metadata is attached to objects. Default: True.
    storage_class
        Storage class of all objects, in the provider's own words.
    metadata_storage_class, chunks_storage_class
        Storage class of metadata objects and of chunks. Default: `storage_class`.
    minimum_size_for_multipart_upload
        Bytes from which an object is uploaded in parts. Default: 100 MiB.
    timeouts
        Limits on how long requests take.
    """

    __slots__ = ()
    _shown_as = "icechunk.storage.StorageSettings"

    unsafe_use_conditional_create: Field[bool | None] = Field(checks.flag, True)
    unsafe_use_conditional_update: Field[bool | None] = Field(checks.flag, True)
    unsafe_use_metadata: Field[bool | None] = Field(checks.flag, True)
    storage_class: Field[str | None] = Field(checks.text)
    metadata_storage_class: Field[str | None] = Field(checks.text)
    chunks_storage_class: Field[str | None] = Field(checks.text)
    minimum_size_for_multipart_upload: Field[int | None] = Field(checks.u64, 100 * 1024**2)
    concurrency: Field[StorageConcurrencySettings | None] = Field(
        checks.instance(StorageConcurrencySettings), StorageConcurrencySettings, merges=True
    )
    retries: Field[StorageRetriesSettings | None] = Field(
        checks.instance(StorageRetriesSettings), StorageRetriesSettings, merges=True
    )
    timeouts: Field[StorageTimeoutSettings | None] = Field(
        checks.instance(StorageTimeoutSettings), merges=True
    )

    def __init__(
        self,
        concurrency: StorageConcurrencySettings | None = None,
        retries: StorageRetriesSettings | None = None,
        unsafe_use_conditional_create: bool | None = None,
        unsafe_use_conditional_update: bool | None = None,
        unsafe_use_metadata: bool | None = None,
        storage_class: str | None = None,
        metadata_storage_class: str | None = None,
        chunks_storage_class: str | None = None,
        minimum_size_for_multipart_upload: int | None = None,
        timeouts: StorageTimeoutSettings | None = None,
    ) -> None:
        self.concurrency = concurrency
        self.retries = retries
        self.unsafe_use_conditional_create = unsafe_use_conditional_create
        self.unsafe_use_conditional_update = unsafe_use_conditional_update
        self.unsafe_use_metadata = unsafe_use_metadata
        self.storage_class = storage_class
        self.metadata_storage_class = metadata_storage_class
        self.chunks_storage_class = chunks_storage_class
        self.minimum_size_for_multipart_upload = minimum_size_for_multipart_upload
        self.timeouts = timeouts

"""Where repositories keep their objects: in memory, in local files or in an object store.

Make one with `in_memory_storage`, `local_filesystem_storage` or `s3_storage`. The settings classes
live in `icechunk.config` and are exported here as well.
"""

from icechunk.config import (
    S3Options,
    StorageConcurrencySettings,
    StorageRetriesSettings,
    StorageSettings,
    StorageTimeoutSettings,
)
from icechunk.storage.base import (
    ObjectInfo,
    ObjectNotFound,
    PreconditionFailed,
    Storage,
    StorageObjectInfo,
    Version,
    WriteOutcomeUnknown,
)
from icechunk.storage.check import StorageCheck, StorageFinding
from icechunk.storage.credentials import S3Credentials, S3StaticCredentials, s3_credentials
from icechunk.storage.factories import (
    in_memory_storage,
    local_filesystem_storage,
    s3_storage,
)
from icechunk.storage.local import LocalStorage
from icechunk.storage.memory import MemoryStorage

__all__ = [
    "LocalStorage",
    "MemoryStorage",
    "ObjectInfo",
    "ObjectNotFound",
    "PreconditionFailed",
    "S3Credentials",
    "S3Options",
    "S3StaticCredentials",
    "Storage",
    "StorageCheck",
    "StorageConcurrencySettings",
    "StorageFinding",
    "StorageObjectInfo",
    "StorageRetriesSettings",
    "StorageSettings",
    "StorageTimeoutSettings",
    "Version",
    "WriteOutcomeUnknown",
    "in_memory_storage",
    "local_filesystem_storage",
    "s3_credentials",
    "s3_storage",
]

"""Where repositories keep their objects: in memory, in local files or in an object store.

Make one with `in_memory_storage`, `local_filesystem_storage`, `s3_storage` or one of the functions
named after other providers. The settings classes and the descriptions of object stores live in
`icechunk.config` and are exported here as well.
"""

from icechunk.config import (
    ChecksumAlgorithm,
    ObjectStoreConfig,
    S3Options,
    StorageConcurrencySettings,
    StorageRetriesSettings,
    StorageSettings,
    StorageTimeoutSettings,
)
from icechunk.config.object_stores import (
    AnyObjectStoreConfig,
    azure_store,
    gcs_store,
    http_store,
    local_filesystem_store,
    s3_store,
)
from icechunk.storage.attribution import Attribution
from icechunk.storage.azure_credentials import azure_credentials
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
    azure_storage,
    gcs_storage,
    http_storage,
    in_memory_storage,
    local_filesystem_storage,
    redirect_storage,
)
from icechunk.storage.gcs_credentials import GcsBearerCredential, gcs_credentials
from icechunk.storage.local import LocalStorage
from icechunk.storage.memory import MemoryStorage
from icechunk.storage.s3_factories import (
    hf_storage,
    r2_storage,
    s3_object_store_storage,
    s3_storage,
    tigris_storage,
)

__all__ = [
    "AnyObjectStoreConfig",
    "Attribution",
    "ChecksumAlgorithm",
    "GcsBearerCredential",
    "LocalStorage",
    "MemoryStorage",
    "ObjectInfo",
    "ObjectNotFound",
    "ObjectStoreConfig",
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
    "azure_credentials",
    "azure_storage",
    "azure_store",
    "gcs_credentials",
    "gcs_storage",
    "gcs_store",
    "hf_storage",
    "http_storage",
    "http_store",
    "in_memory_storage",
    "local_filesystem_storage",
    "local_filesystem_store",
    "r2_storage",
    "redirect_storage",
    "s3_credentials",
    "s3_object_store_storage",
    "s3_storage",
    "s3_store",
    "tigris_storage",
]

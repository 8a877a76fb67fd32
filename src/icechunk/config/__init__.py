"""Configuration of repositories and storage: what users set, what it means, how it is stored.

Classes are mutable bags of checked attributes where None means "use the default"
(`base`, one module per topic). The engine reads them through `effective`, which fills in
every default. `serialize` and `yaml` hold the stored forms. Nothing here reaches storage, reads the
environment or knows the engine.
"""

from __future__ import annotations

from icechunk.config.caching import CachingConfig
from icechunk.config.compression import CompressionAlgorithm, CompressionConfig
from icechunk.config.containers import VirtualChunkContainer
from icechunk.config.manifest import (
    ManifestConfig,
    ManifestVirtualChunkLocationCompressionConfig,
)
from icechunk.config.object_stores import ChecksumAlgorithm, ObjectStoreConfig, S3Options
from icechunk.config.preload import ManifestPreloadCondition, ManifestPreloadConfig
from icechunk.config.repository import RepositoryConfig, RepoUpdateRetryConfig
from icechunk.config.split_conditions import ManifestSplitCondition, ManifestSplitDimCondition
from icechunk.config.splitting import ManifestSplittingConfig
from icechunk.config.storage_settings import (
    StorageConcurrencySettings,
    StorageRetriesSettings,
    StorageSettings,
    StorageTimeoutSettings,
)

__all__ = [
    "CachingConfig",
    "ChecksumAlgorithm",
    "CompressionAlgorithm",
    "CompressionConfig",
    "ManifestConfig",
    "ManifestPreloadCondition",
    "ManifestPreloadConfig",
    "ManifestSplitCondition",
    "ManifestSplitDimCondition",
    "ManifestSplittingConfig",
    "ManifestVirtualChunkLocationCompressionConfig",
    "ObjectStoreConfig",
    "RepoUpdateRetryConfig",
    "RepositoryConfig",
    "S3Options",
    "StorageConcurrencySettings",
    "StorageRetriesSettings",
    "StorageSettings",
    "StorageTimeoutSettings",
    "VirtualChunkContainer",
]

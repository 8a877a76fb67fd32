"""Defaults standing in for what is not set."""

from icechunk.config import (
    CachingConfig,
    ManifestConfig,
    ManifestPreloadCondition,
    ManifestPreloadConfig,
    ManifestSplittingConfig,
    RepositoryConfig,
    RepoUpdateRetryConfig,
    StorageRetriesSettings,
)
from icechunk.config.effective import (
    CacheSizes,
    LocationCompression,
    Retries,
    effective,
)
from icechunk.config.preload import default_preload_condition


def test_nothing_set() -> None:
    config = effective(RepositoryConfig())
    assert config.inline_chunk_threshold_bytes == 512
    assert config.get_partial_values_concurrency == 10
    assert config.max_concurrent_requests == 256
    assert config.max_concurrent_decodes >= 1
    assert config.num_updates_per_repo_info_file == 1000
    assert config.max_concurrent_manifest_fetches_during_commit == 16
    assert config.compression_level == 3
    assert config.caching == CacheSizes(500_000, 15_000_000, 0, 0, 0)
    assert config.location_compression == LocationCompression(1000, 100, 2048, 3)
    assert config.repo_update_retries == Retries(100, 50, 30_000)
    assert (config.preload.max_total_refs, config.preload.max_arrays_to_scan) == (10_000, 50)
    assert config.preload.preload_if == default_preload_condition()
    assert config.splitting is None
    assert config.virtual_chunk_containers == ()


def test_some_set() -> None:
    splitting = ManifestSplittingConfig(())
    config = effective(
        RepositoryConfig(
            0,
            caching=CachingConfig(0, num_bytes_chunks=7),
            manifest=ManifestConfig(
                ManifestPreloadConfig(preload_if=ManifestPreloadCondition.false()), splitting
            ),
            repo_update_retries=RepoUpdateRetryConfig(StorageRetriesSettings(3)),
        )
    )
    assert config.inline_chunk_threshold_bytes == 0
    assert config.caching == CacheSizes(0, 15_000_000, 0, 0, 7)
    assert config.preload.preload_if == ManifestPreloadCondition.false()
    assert config.splitting == splitting
    assert config.repo_update_retries == Retries(3, 100, 180_000)

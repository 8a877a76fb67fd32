"""What settings accept, how they compare, and that nested objects are live."""

import copy
from typing import Any

import pytest

from icechunk.config import (
    CachingConfig,
    CompressionAlgorithm,
    CompressionConfig,
    ManifestConfig,
    ManifestPreloadConfig,
    ManifestSplitCondition,
    ManifestSplitDimCondition,
    ManifestSplittingConfig,
    ManifestVirtualChunkLocationCompressionConfig,
    RepositoryConfig,
    RepoUpdateRetryConfig,
    S3Options,
    StorageConcurrencySettings,
    StorageRetriesSettings,
    StorageSettings,
    StorageTimeoutSettings,
    VirtualChunkContainer,
)
from icechunk.config.object_stores import ObjectStoreConfig, http_store, s3_store


def refused(error: type[Exception], cls: Any, *args: Any, **kwargs: Any) -> None:
    with pytest.raises(error):
        cls(*args, **kwargs)


@pytest.mark.parametrize(
    ("cls", "name", "largest"),
    [
        (RepositoryConfig, "inline_chunk_threshold_bytes", 2**16 - 1),
        (RepositoryConfig, "max_concurrent_decodes", 2**16 - 1),
        (CompressionConfig, "level", 2**8 - 1),
        (CachingConfig, "num_bytes_chunks", 2**64 - 1),
        (ManifestPreloadConfig, "max_total_refs", 2**32 - 1),
        (ManifestVirtualChunkLocationCompressionConfig, "compression_level", 2**31 - 1),
        (StorageRetriesSettings, "initial_backoff_ms", 2**32 - 1),
        (StorageTimeoutSettings, "read_timeout_ms", 2**32 - 1),
        (StorageSettings, "minimum_size_for_multipart_upload", 2**64 - 1),
        (S3Options, "network_stream_timeout_seconds", 2**32 - 1),
    ],
)
def test_numbers(cls: Any, name: str, largest: int) -> None:
    assert getattr(cls(**{name: largest}), name) == largest
    refused(OverflowError, cls, **{name: largest + 1})
    for wrong in ("1", 1.0, [1]):
        refused(TypeError, cls, **{name: wrong})
    smallest = -largest - 1 if name == "compression_level" else 0
    assert getattr(cls(**{name: smallest}), name) == smallest
    refused(OverflowError, cls, **{name: smallest - 1})


def test_zero_where_it_means_nothing() -> None:
    refused(ValueError, StorageRetriesSettings, 0)
    refused(ValueError, StorageConcurrencySettings, 0)
    refused(ValueError, StorageConcurrencySettings, 1, 0)


def test_other_types() -> None:
    refused(TypeError, StorageSettings, unsafe_use_metadata=1)
    refused(TypeError, StorageSettings, storage_class=1)
    refused(TypeError, StorageSettings, retries=StorageTimeoutSettings())
    refused(TypeError, RepositoryConfig, compression=3)
    refused(TypeError, CompressionConfig, "zstd")
    refused(TypeError, RepositoryConfig, virtual_chunk_containers=[1])
    refused(TypeError, RepositoryConfig, virtual_chunk_containers={"a": 1})
    refused(TypeError, RepositoryConfig, foo=1)
    refused(TypeError, S3Options, checksum_algorithm="crc32")
    refused(TypeError, S3Options, anonymous=None)
    refused(TypeError, VirtualChunkContainer, "a", "b")
    refused(TypeError, VirtualChunkContainer, None, s3_store())
    refused(TypeError, http_store, {"a": 1})
    refused(TypeError, ObjectStoreConfig.S3, None)
    refused(TypeError, ObjectStoreConfig)
    refused(TypeError, ManifestVirtualChunkLocationCompressionConfig, 1, 2)


def test_split_sizes() -> None:
    rule = (ManifestSplitCondition.AnyArray(), ((ManifestSplitDimCondition.Any(), 3),))
    assert ManifestSplittingConfig([rule]).split_sizes == (rule,)  # type: ignore[arg-type]
    for wrong in (3, "ab", [1], [(1, 2)], [(rule[0], 3)], [(rule[0], [(rule[0], 3)])]):
        refused(TypeError, ManifestSplittingConfig, wrong)
    refused(OverflowError, ManifestSplittingConfig, [(rule[0], [(rule[1][0][0], 2**32)])])


def test_splitting_as_dict() -> None:
    as_dict = {
        ManifestSplitCondition.path_matches("x"): {
            ManifestSplitDimCondition.Axis(1): 3,
            ManifestSplitDimCondition.DimensionName("a"): 4,
        },
        ManifestSplitCondition.AnyArray(): {ManifestSplitDimCondition.Any(): 5},
    }
    config = ManifestSplittingConfig.from_dict(as_dict)  # type: ignore[arg-type]
    assert config.to_dict() == as_dict
    assert ManifestSplittingConfig.from_dict(config.to_dict()) == config
    assert ManifestSplittingConfig().to_dict() == {}


def test_positional_orders() -> None:
    a, b, c, d = (
        CompressionConfig(),
        CachingConfig(),
        StorageSettings(),
        ManifestConfig(),
    )
    retries = RepoUpdateRetryConfig()
    config = RepositoryConfig(1, 2, a, 3, b, c, {}, d, retries, 4, 5)
    assert config == RepositoryConfig(
        inline_chunk_threshold_bytes=1,
        get_partial_values_concurrency=2,
        compression=a,
        max_concurrent_requests=3,
        caching=b,
        storage=c,
        virtual_chunk_containers={},
        manifest=d,
        repo_update_retries=retries,
        num_updates_per_repo_info_file=4,
        max_concurrent_decodes=5,
    )
    x, y, t = StorageConcurrencySettings(1), StorageRetriesSettings(2), StorageTimeoutSettings(3)
    assert StorageSettings(x, y, True, False, None, "a", "b", "c", 9, t) == StorageSettings(
        concurrency=x,
        retries=y,
        unsafe_use_conditional_create=True,
        unsafe_use_conditional_update=False,
        storage_class="a",
        metadata_storage_class="b",
        chunks_storage_class="c",
        minimum_size_for_multipart_upload=9,
        timeouts=t,
    )


def test_assignment_is_checked() -> None:
    config = RepositoryConfig(5)
    with pytest.raises(OverflowError, match="inline_chunk_threshold_bytes=-1 is out of range"):
        config.inline_chunk_threshold_bytes = -1
    with pytest.raises(TypeError):
        config.compression = 3  # type: ignore[assignment]
    with pytest.raises(AttributeError):
        config.foo = 1  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        del config.compression
    with pytest.raises(AttributeError, match="set_virtual_chunk_container"):
        config.virtual_chunk_containers = {}
    assert config.inline_chunk_threshold_bytes == 5
    config.inline_chunk_threshold_bytes = None
    assert config == RepositoryConfig()


def test_nested_objects_are_live() -> None:
    retries = StorageRetriesSettings(1)
    config = RepositoryConfig(storage=StorageSettings(retries=retries))
    config.storage.retries.max_tries = 42  # type: ignore[union-attr]
    assert retries.max_tries == 42
    config.storage = storage = StorageSettings()
    storage.storage_class = "X"
    assert config.storage is storage
    assert config.storage.storage_class == "X"


def test_equality_is_by_raw_value() -> None:
    assert RepositoryConfig.default() == RepositoryConfig()
    assert ManifestConfig(preload=ManifestPreloadConfig()) != ManifestConfig()
    assert CachingConfig() != CompressionConfig()
    assert CachingConfig() != 1
    assert s3_store() == s3_store()
    assert s3_store() != s3_store(s3_compatible=True)
    assert http_store() == http_store({}, {})
    assert http_store({"a": "b"}) != http_store()
    with pytest.raises(TypeError, match="unhashable"):
        hash(RepositoryConfig())


def test_copies() -> None:
    config = RepositoryConfig(1, storage=StorageSettings(storage_class="a"))
    shallow, deep = copy.copy(config), copy.deepcopy(config)
    assert shallow == deep == config
    shallow.inline_chunk_threshold_bytes = 2
    assert config.inline_chunk_threshold_bytes == 1
    assert shallow.storage is config.storage
    assert deep.storage is not config.storage


def test_compression_algorithm() -> None:
    assert CompressionAlgorithm.Zstd == 0
    assert CompressionAlgorithm.default() is CompressionAlgorithm.Zstd
    assert str(CompressionAlgorithm.Zstd) == "CompressionAlgorithm.Zstd"

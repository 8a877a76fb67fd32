"""Texts of settings, as the reference implementation shows them."""

import pytest

from icechunk.config import (
    CachingConfig,
    ChecksumAlgorithm,
    CompressionAlgorithm,
    CompressionConfig,
    ManifestConfig,
    ManifestPreloadCondition,
    ManifestSplitCondition,
    ManifestSplitDimCondition,
    ManifestSplittingConfig,
    RepositoryConfig,
    RepoUpdateRetryConfig,
    S3Options,
    StorageRetriesSettings,
    StorageSettings,
    StorageTimeoutSettings,
    VirtualChunkContainer,
)
from icechunk.config.object_stores import (
    ObjectStoreConfig,
    azure_store,
    gcs_store,
    http_store,
    local_filesystem_store,
    s3_store,
)


def test_repr_shows_what_is_set() -> None:
    assert repr(CachingConfig(1, num_bytes_chunks=5)) == (
        "icechunk.config.CachingConfig(\n"
        "    num_snapshot_nodes=1,\n"
        "    num_chunk_refs=None,\n"
        "    num_transaction_changes=None,\n"
        "    num_bytes_attributes=None,\n"
        "    num_bytes_chunks=5,\n"
        ")"
    )
    assert repr(CompressionConfig(CompressionAlgorithm.Zstd)) == (
        "icechunk.config.CompressionConfig(\n"
        "    algorithm=icechunk.config.CompressionAlgorithm.Zstd,\n"
        "    level=None,\n"
        ")"
    )


def test_str_shows_what_is_in_effect() -> None:
    assert str(CachingConfig(1, num_bytes_chunks=5)) == (
        "<icechunk.config.CachingConfig>\n"
        "num_snapshot_nodes: 1\n"
        "num_chunk_refs: 15000000 (default)\n"
        "num_transaction_changes: 0 (default)\n"
        "num_bytes_attributes: 0 (default)\n"
        "num_bytes_chunks: 5\n"
    )
    assert str(CompressionConfig(level=4)) == (
        "<icechunk.config.CompressionConfig>\nalgorithm: Zstd (default)\nlevel: 4\n"
    )
    assert str(RepoUpdateRetryConfig()) == (
        "<icechunk.config.RepoUpdateRetryConfig>\n"
        "default:\n"
        "    <icechunk.storage.StorageRetriesSettings>\n"
        "    max_tries: 100\n"
        "    initial_backoff_ms: 50\n"
        "    max_backoff_ms: 30000\n"
    )
    assert str(StorageTimeoutSettings(3)) == (
        "<icechunk.storage.StorageTimeoutSettings>\n"
        "connect_timeout_ms: 3\n"
        "read_timeout_ms: None\n"
        "operation_timeout_ms: None\n"
        "operation_attempt_timeout_ms: None\n"
    )


def test_nested_repr() -> None:
    config = RepositoryConfig(
        3,
        storage=StorageSettings(retries=StorageRetriesSettings(7), storage_class="A"),
        virtual_chunk_containers={
            "s3://a/": VirtualChunkContainer("s3://a/", local_filesystem_store("/x"), "n")
        },
    )
    assert repr(config) == (
        "icechunk.config.RepositoryConfig(\n"
        "    inline_chunk_threshold_bytes=3,\n"
        "    get_partial_values_concurrency=None,\n"
        "    max_concurrent_requests=None,\n"
        "    max_concurrent_decodes=None,\n"
        "    num_updates_per_repo_info_file=None,\n"
        "    compression=None,\n"
        "    caching=None,\n"
        "    storage=icechunk.storage.StorageSettings(\n"
        "        unsafe_use_conditional_create=None,\n"
        "        unsafe_use_conditional_update=None,\n"
        "        unsafe_use_metadata=None,\n"
        '        storage_class="A",\n'
        "        metadata_storage_class=None,\n"
        "        chunks_storage_class=None,\n"
        "        minimum_size_for_multipart_upload=None,\n"
        "        concurrency=None,\n"
        "        retries=icechunk.storage.StorageRetriesSettings(\n"
        "            max_tries=7,\n"
        "            initial_backoff_ms=None,\n"
        "            max_backoff_ms=None,\n"
        "        ),\n"
        "        timeouts=None,\n"
        "    ),\n"
        "    manifest=None,\n"
        "    repo_update_retries=None,\n"
        "    virtual_chunk_containers={\n"
        '        "s3://a/": icechunk.virtual.VirtualChunkContainer(\n'
        '            name="n",\n'
        '            url_prefix="s3://a/",\n'
        '            store=icechunk.config.ObjectStoreConfig.LocalFileSystem("/x"),\n'
        "        ),\n"
        "    },\n"
        ")"
    )


EVERYTHING_DEFAULT = """\
<icechunk.config.RepositoryConfig>
inline_chunk_threshold_bytes: 512 (default)
get_partial_values_concurrency: 10 (default)
max_concurrent_requests: 256 (default)
max_concurrent_decodes: 2 (default)
num_updates_per_repo_info_file: 1000 (default)
compression:
    <icechunk.config.CompressionConfig>
    algorithm: Zstd (default)
    level: 3 (default)
caching:
    <icechunk.config.CachingConfig>
    num_snapshot_nodes: 500000 (default)
    num_chunk_refs: 15000000 (default)
    num_transaction_changes: 0 (default)
    num_bytes_attributes: 0 (default)
    num_bytes_chunks: 0 (default)
storage: None
manifest:
    <icechunk.config.ManifestConfig>
    preload:
        <icechunk.config.ManifestPreloadConfig>
        max_total_refs: 10000 (default)
        preload_if: None
        max_arrays_to_scan: 50 (default)
    splitting:
        <icechunk.config.ManifestSplittingConfig>
        split_sizes: [(icechunk.config.ManifestSplitCondition.path_matches(".*"), \
[(icechunk.config.ManifestSplitDimCondition.any(), 4294967295)])]
    virtual_chunk_location_compression:
        <icechunk.config.ManifestVirtualChunkLocationCompressionConfig>
        min_num_chunks: 1000 (default)
        dictionary_max_training_samples: 100 (default)
        dictionary_max_size_bytes: 2048 (default)
        compression_level: 3 (default)
    max_concurrent_manifest_fetches_during_commit: 16 (default)
repo_update_retries:
    <icechunk.config.RepoUpdateRetryConfig>
    default:
        <icechunk.storage.StorageRetriesSettings>
        max_tries: 100
        initial_backoff_ms: 50
        max_backoff_ms: 30000
virtual_chunk_containers: None
"""


def test_everything_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1}, raising=False)
    assert str(RepositoryConfig()) == EVERYTHING_DEFAULT


def test_storage_block() -> None:
    shown = str(StorageSettings(storage_class="A", unsafe_use_metadata=False))
    assert 'storage_class: "A"\n' in shown
    assert "unsafe_use_metadata: False\n" in shown
    assert "minimum_size_for_multipart_upload: 104857600 (default)\n" in shown
    assert "    ideal_concurrent_request_size: 12582912 (default)\n" in shown
    assert shown.endswith("timeouts: None\n")


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        (ManifestPreloadCondition.num_refs(None, 4), "ManifestPreloadCondition.num_refs(None, 4)"),
        (ManifestPreloadCondition.true(), "ManifestPreloadCondition.true()"),
        (ManifestSplitCondition.AnyArray(), "ManifestSplitCondition.any_array()"),
        (ManifestSplitDimCondition.Axis(1), "ManifestSplitDimCondition.axis(1)"),
        (
            ManifestSplitDimCondition.DimensionName("a"),
            'ManifestSplitDimCondition.dimension_name("a")',
        ),
        (
            ManifestSplitCondition.path_matches('a"\\d'),
            r'ManifestSplitCondition.path_matches("a\"\\d")',
        ),
        (
            ManifestSplitCondition.name_matches("a") | ManifestSplitCondition.AnyArray(),
            "ManifestSplitCondition.or_conditions([icechunk.config.ManifestSplitCondition."
            'name_matches("a"), icechunk.config.ManifestSplitCondition.any_array()])',
        ),
    ],
)
def test_conditions(condition: object, text: str) -> None:
    assert repr(condition) == str(condition) == f"icechunk.config.{text}"


def test_split_sizes() -> None:
    config = ManifestSplittingConfig(
        ((ManifestSplitCondition.AnyArray(), ((ManifestSplitDimCondition.Any(), 3),)),)
    )
    sizes = (
        "[(icechunk.config.ManifestSplitCondition.any_array(), "
        "[(icechunk.config.ManifestSplitDimCondition.any(), 3)])]"
    )
    assert repr(config) == (
        f"icechunk.config.ManifestSplittingConfig(\n    split_sizes={sizes},\n)"
    )
    assert str(config) == f"<icechunk.config.ManifestSplittingConfig>\nsplit_sizes: {sizes}\n"
    assert "split_sizes: None\n" in str(ManifestConfig(splitting=ManifestSplittingConfig()))


def test_stores() -> None:
    options = S3Options("r", checksum_algorithm=ChecksumAlgorithm.Crc64Nvme)
    lines = (
        "    endpoint_url=None,\n"
        "    allow_http=False,\n"
        "    anonymous=False,\n"
        "    force_path_style=False,\n"
        "    network_stream_timeout_seconds=None,\n"
        "    requester_pays=False,\n"
        "    checksum_algorithm=icechunk.ChecksumAlgorithm.Crc64Nvme,\n"
    )
    assert repr(ObjectStoreConfig.S3(options)) == (
        'icechunk.config.ObjectStoreConfig.S3(icechunk.storage.S3Options(\n    region="r",\n'
        f"{lines}))"
    )
    assert str(s3_store("r")) == (
        '<icechunk.config.ObjectStoreConfig.S3>\nregion: "r"\nendpoint_url: None\n'
        "allow_http: False\nanonymous: False\nforce_path_style: False\n"
        "network_stream_timeout_seconds: 60\nrequester_pays: False\nchecksum_algorithm: None\n"
    )
    assert repr(gcs_store()) == "icechunk.config.ObjectStoreConfig.Gcs(None)"
    assert str(azure_store(account="a")) == (
        '<icechunk.config.ObjectStoreConfig.Azure>\nconfig: {"account": "a"}\n'
    )


def test_blocks_hide_what_may_be_secret() -> None:
    shown = str(http_store({"timeout": "5s"}, {"authorization": "Bearer x"}))
    assert 'opts: {"timeout": "5s"}\nheaders: {"authorization": "****"}\n' in shown
    shown = str(gcs_store({"service_account_key": "x", "bucket": "b"}))
    assert 'config: {"service_account_key": "****", "bucket": "b"}\n' in shown


def test_containers_block() -> None:
    config = RepositoryConfig(
        virtual_chunk_containers={
            "file:///x/": VirtualChunkContainer("file:///x/", local_filesystem_store("/x"))
        }
    )
    assert str(config).endswith(
        "virtual_chunk_containers:\n"
        "    file:///x/:\n"
        "        <icechunk.virtual.VirtualChunkContainer>\n"
        "        name: None\n"
        '        url_prefix: "file:///x/"\n'
        "        store:\n"
        "            <icechunk.config.ObjectStoreConfig.LocalFileSystem>\n"
        '            path: "/x"\n'
    )
    assert str(RepositoryConfig(virtual_chunk_containers={})).endswith(
        "virtual_chunk_containers: {}\n"
    )

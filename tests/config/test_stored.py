"""Stored forms against files of the reference implementation, and against damaged ones."""

import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icechunk.config import (
    CachingConfig,
    ChecksumAlgorithm,
    CompressionAlgorithm,
    CompressionConfig,
    ManifestConfig,
    ManifestPreloadCondition,
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
from icechunk.config.object_stores import (
    ObjectStoreConfig,
    azure_store,
    gcs_store,
    http_store,
    local_filesystem_store,
    s3_store,
)
from icechunk.config.serialize import from_dict, to_dict
from icechunk.config.yaml import config_from_yaml, config_to_yaml
from icechunk.errors import FormatError
from icechunk.format.values import decode_flexbuffer, encode_flexbuffer

DATA = Path(__file__).parent / "data"


def rich() -> RepositoryConfig:
    """Build what the script behind the fixture built."""
    preload, split, dim = (
        ManifestPreloadCondition,
        ManifestSplitCondition,
        ManifestSplitDimCondition,
    )
    config = RepositoryConfig(
        11,
        12,
        CompressionConfig(CompressionAlgorithm.Zstd, 7),
        13,
        CachingConfig(1, 2, 3, 4, 2**40),
        StorageSettings(
            StorageConcurrencySettings(1, 2),
            StorageRetriesSettings(3, 4, 5),
            True,
            False,
            False,
            "A",
            "B",
            "C",
            6,
            StorageTimeoutSettings(1, 2, 3, 4),
        ),
        None,
        ManifestConfig(
            ManifestPreloadConfig(
                5,
                preload.and_conditions(
                    [
                        preload.path_matches(r"^/a\d+$") | preload.name_matches("te'm\"p: #é"),
                        preload.num_refs(3, 9),
                        preload.num_refs(None, None),
                        preload.num_refs(None, 4),
                        preload.num_refs(3, None),
                        preload.true(),
                        preload.false(),
                    ]
                ),
                6,
            ),
            ManifestSplittingConfig(
                (
                    (
                        split.AnyArray() | (split.path_matches("a") & split.name_matches("b")),
                        ((dim.Axis(1), 2), (dim.DimensionName("x|y"), 3), (dim.Any(), 4)),
                    ),
                    (split.AnyArray(), ((dim.Any(), 5),)),
                )
            ),
            ManifestVirtualChunkLocationCompressionConfig(
                1,
                dictionary_max_training_samples=2,
                dictionary_max_size_bytes=3,
                compression_level=-4,
            ),
            2,
        ),
        RepoUpdateRetryConfig(StorageRetriesSettings(7, 8, 9)),
        21,
        22,
    )
    named = s3_store(
        "us-east-1", "http://e", True, True, False, True, 7, True, ChecksumAlgorithm.Crc64Nvme
    )
    for container in (
        VirtualChunkContainer("s3://b/", named, "named"),
        VirtualChunkContainer("s3://c/d/", s3_store(s3_compatible=True)),
        VirtualChunkContainer("tigris://t/", ObjectStoreConfig.Tigris(S3Options())),
        VirtualChunkContainer("gs://g/", gcs_store({"a": "b"})),
        VirtualChunkContainer("gcs://g/", gcs_store()),
        VirtualChunkContainer("az://z/", azure_store(account="acc", config={"k": "true"})),
        VirtualChunkContainer(
            "http://h/", http_store({"timeout": "5s"}, {"authorization": "x: y"})
        ),
        VirtualChunkContainer("https://h/", http_store({"timeout": "5"})),
        VirtualChunkContainer("file:///tmp/", local_filesystem_store("/tmp")),
    ):
        config.set_virtual_chunk_container(container)
    return config


LOCAL = StorageSettings(
    StorageConcurrencySettings(5, 4096),
    StorageRetriesSettings(1, 0, 0),
    unsafe_use_conditional_update=False,
    unsafe_use_metadata=False,
)
SMALL = RepositoryConfig(5, storage=LOCAL)
EMPTIES = RepositoryConfig(
    1,
    compression=CompressionConfig(),
    caching=CachingConfig(),
    storage=LOCAL,
    virtual_chunk_containers={},
    manifest=ManifestConfig(
        ManifestPreloadConfig(),
        ManifestSplittingConfig(),
        ManifestVirtualChunkLocationCompressionConfig(),
    ),
    repo_update_retries=RepoUpdateRetryConfig(),
)
CASES = [("rich", rich()), ("small", SMALL), ("empties", EMPTIES)]


@pytest.mark.parametrize(("name", "config"), CASES)
def test_reading_yaml(name: str, config: RepositoryConfig) -> None:
    assert config_from_yaml((DATA / f"icechunk-2.3.0-{name}.yaml").read_bytes()) == config


@pytest.mark.parametrize(("name", "config"), CASES[1:])
def test_writing_yaml(name: str, config: RepositoryConfig) -> None:
    expected = (DATA / f"icechunk-2.3.0-{name}.yaml").read_bytes()
    assert config_to_yaml(config) == expected


def test_writing_rich_yaml() -> None:
    expected = (DATA / "icechunk-2.3.0-rich.yaml").read_text().replace("5s\n", "'5s'\n")
    # The reference writes containers in no particular order.
    assert sorted(config_to_yaml(rich()).decode().splitlines()) == sorted(expected.splitlines())


def test_flexbuffers() -> None:
    stored = decode_flexbuffer((DATA / "icechunk-2.3.0-rich.flexbuffer").read_bytes(), "repo")
    assert from_dict(stored) == rich()
    assert to_dict(rich()) == stored
    assert decode_flexbuffer(encode_flexbuffer(to_dict(rich())), "repo") == stored


def test_nothing_set_is_written_as_nulls() -> None:
    assert set(to_dict(RepositoryConfig()).values()) == {None}
    assert list(to_dict(RepositoryConfig())) == [
        "inline_chunk_threshold_bytes",
        "get_partial_values_concurrency",
        "compression",
        "max_concurrent_requests",
        "max_concurrent_decodes",
        "caching",
        "storage",
        "virtual_chunk_containers",
        "manifest",
        "previous_file",
        "repo_update_retries",
        "num_updates_per_repo_info_file",
    ]


def test_missing_and_unknown_keys() -> None:
    assert from_dict({}) == from_dict(None) == RepositoryConfig()
    assert from_dict({"foo": 1, "caching": {"bar": [], "num_chunk_refs": 3}}) == RepositoryConfig(
        caching=CachingConfig(num_chunk_refs=3)
    )
    assert config_from_yaml(b"") == config_from_yaml(b"{}\n") == RepositoryConfig()


@pytest.mark.parametrize(
    ("stored", "where"),
    [
        ([], "config must be a mapping"),
        ({1: 2}, "which is no text"),
        ({"caching": 3}, "config.caching must be a mapping"),
        ({"inline_chunk_threshold_bytes": "a"}, "inline_chunk_threshold_bytes must be an integer"),
        ({"inline_chunk_threshold_bytes": True}, "must be an integer"),
        ({"inline_chunk_threshold_bytes": 1.0}, "must be an integer"),
        ({"inline_chunk_threshold_bytes": 70000}, "out of range"),
        (
            {
                "virtual_chunk_containers": {
                    "a": {"url_prefix": "gs://b/", "store": {"gcs": {"\0": "x"}}}
                }
            },
            "null character",
        ),
        ({"compression": {"algorithm": "lz4"}}, "must be one of zstd"),
        ({"compression": {"level": -1}}, "config.compression: level=-1 is out of range"),
        ({"storage": {"retries": {"max_tries": 0}}}, "config.storage.retries: max_tries"),
        ({"storage": {"unsafe_use_metadata": 1}}, "must be true or false"),
        ({"manifest": {"preload": {"preload_if": {}}}}, "must be a variant"),
        ({"manifest": {"preload": {"preload_if": True}}}, "must be a variant"),
        ({"manifest": {"preload": {"preload_if": "maybe"}}}, "unknown condition 'maybe'"),
        ({"manifest": {"preload": {"preload_if": {"or": 3}}}}, "must be a list"),
        ({"manifest": {"preload": {"preload_if": {"path_matches": {}}}}}, "lacks 'regex'"),
        ({"manifest": {"preload": {"preload_if": {"true": 1}}}}, "has content"),
        (
            {"manifest": {"preload": {"preload_if": {"num_refs": {"from": "x", "to": "y"}}}}},
            "unknown bound 'x'",
        ),
        ({"manifest": {"splitting": {"split_sizes": [["any_array"]]}}}, "must have 2 elements"),
        (
            {"manifest": {"splitting": {"split_sizes": [["any_array", [{"condition": "Any"}]]]}}},
            "lacks 'num_chunks'",
        ),
        ({"virtual_chunk_containers": {"a": {"url_prefix": "s3://b/"}}}, "lacks 'store'"),
        ({"virtual_chunk_containers": {"a": {"store": "in_memory"}}}, "lacks 'url_prefix'"),
        (
            {"virtual_chunk_containers": {"a": {"url_prefix": "s3://b/", "store": {"ftp": {}}}}},
            "unknown kind of object store",
        ),
        (
            {"virtual_chunk_containers": {"a": {"url_prefix": "s3://b/", "store": {"s3": {}}}}},
            "lacks 'anonymous'",
        ),
    ],
)
def test_refused(stored: Any, where: str) -> None:
    with pytest.raises(FormatError, match=where) as caught:
        from_dict(stored, source="config")
    assert caught.value.kind == "config-deserialization"


def test_deep_conditions_are_refused() -> None:
    condition: Any = "true"
    for _ in range(5000):
        condition = {"and": [condition]}
    with pytest.raises(FormatError, match="nested more than"):
        from_dict({"manifest": {"preload": {"preload_if": condition}}})


def test_options_that_cannot_be_stored_are_refused() -> None:
    for make in (gcs_store, http_store):
        with pytest.raises(ValueError, match="null character"):
            make({"a\0": "b"})


def test_bounds() -> None:
    def read(low: Any, high: Any) -> Any:
        condition = {"num_refs": {"from": low, "to": high}}
        config = from_dict({"manifest": {"preload": {"preload_if": condition}}})
        assert config.manifest is not None
        assert config.manifest.preload is not None
        return config.manifest.preload.preload_if

    num_refs = ManifestPreloadCondition.num_refs
    assert read("Unbounded", {"Included": 1000}) == num_refs(None, 1001)
    assert read({"Excluded": 3}, {"Excluded": 5}) == num_refs(4, 5)
    assert read({"Included": 3}, {"Included": 2**32 - 1}) == num_refs(3, None)


def test_containers_that_never_worked_are_dropped(caplog: pytest.LogCaptureFixture) -> None:
    memory = {"url_prefix": "s3://bad/", "store": "in_memory"}
    good = {"url_prefix": "gs://good", "store": {"gcs": {}}}
    with caplog.at_level(logging.WARNING, logger="icechunk"):
        config = from_dict({"virtual_chunk_containers": {"legacy": good, "bad": memory}})
    assert list(config.virtual_chunk_containers or ()) == ["gs://good/"]
    assert "'bad'" in caplog.text


# YAML


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"\xff\xfe", "no valid YAML"),
        (b"a: [", "no valid YAML"),
        (b"a: &x 1\nb: *x\n", "alias in line 2"),
        (b"a: !!python/object:os.system {}\n", "unknown tag"),
        (b"a: !!str 1\n", "unknown tag"),
        (b"a: 1\na: 2\n", "the key 'a' twice in line 2"),
        (b"{}\n---\n{}\n", "more than one document"),
        (b"? [a]\n: 1\n", "a key that is no text"),
        (b"a: " + b"9" * 5000, "5000 digits"),
        (b"[" * 100_000, "config.yaml"),
        (b"- " * 100_000, "config.yaml"),
        (b"#" * 2**21, "more than the"),
        (b"just text\n", "must be a mapping"),
        (b"inline_chunk_threshold_bytes: '5'\n", "must be an integer"),
    ],
)
def test_refused_yaml(text: bytes, problem: str) -> None:
    with pytest.raises(FormatError, match=problem):
        config_from_yaml(text)


def test_scalars_are_those_of_yaml_1_2() -> None:
    text = b"storage: {storage_class: no, metadata_storage_class: 1:30, chunks_storage_class: <<}"
    storage = config_from_yaml(text).storage
    assert storage is not None
    assert (storage.storage_class, storage.metadata_storage_class) == ("no", "1:30")
    assert storage.chunks_storage_class == "<<"
    assert config_from_yaml(b"inline_chunk_threshold_bytes: 0x10\n") == RepositoryConfig(16)
    assert config_from_yaml(b"inline_chunk_threshold_bytes: 010\n") == RepositoryConfig(10)
    assert config_from_yaml(b"inline_chunk_threshold_bytes:\n") == RepositoryConfig()


def test_overlong_key_is_not_written() -> None:
    config = RepositoryConfig()
    prefix = f"s3://{'x' * 2000}/"
    config.set_virtual_chunk_container(VirtualChunkContainer(prefix, s3_store()))
    with pytest.raises(FormatError, match="longer than 1000 characters"):
        config_to_yaml(config)


RICH_YAML = (DATA / "icechunk-2.3.0-rich.yaml").read_bytes()


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(RICH_YAML)), st.integers(0, 6), st.binary(max_size=3) | st.just(b"!")
        ),
        min_size=1,
        max_size=3,
    )
)
def test_damaged_yaml(edits: list[tuple[int, int, bytes]]) -> None:
    text = RICH_YAML
    for start, length, replacement in edits:
        text = text[:start] + replacement + text[start + length :]
    try:
        config = config_from_yaml(text)
    except FormatError:
        return
    assert isinstance(config, RepositoryConfig)

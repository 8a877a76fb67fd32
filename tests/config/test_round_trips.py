"""Any configuration survives texts, copies and stored forms; merging follows its rule."""

import copy
import pickle
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import icechunk
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
    ObjectStoreConfig,
    RepositoryConfig,
    RepoUpdateRetryConfig,
    S3Options,
    StorageConcurrencySettings,
    StorageRetriesSettings,
    StorageSettings,
    StorageTimeoutSettings,
    VirtualChunkContainer,
)
from icechunk.config.serialize import from_dict, to_dict
from icechunk.config.yaml import config_from_yaml, config_to_yaml

# Text that tempts: quotes, escapes, other scripts, and words YAML has opinions about.
TEMPTING = ["", "no", "null", "~", "true", "1", "0o7", "1e3", ".5", "2001-01-01", "1:30", "- a"]
TEMPTING += ["a: b", "#x", "a #b", "'", '"', "!a", "&a", "*a", "?", "|", "x\ny", "\u2028", "\x85"]
TEXT = st.text(max_size=8) | st.sampled_from([*TEMPTING, "\ufeff", "\x7f", "🧊"])


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def number(bits: int, low: int = 0) -> st.SearchStrategy[int | None]:
    return maybe(st.integers(low, 2**bits - 1))


def build(cls: Any, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(cls, **fields)


OPTIONS = build(
    S3Options,
    region=maybe(TEXT),
    endpoint_url=maybe(TEXT),
    allow_http=st.booleans(),
    anonymous=st.booleans(),
    force_path_style=st.booleans(),
    network_stream_timeout_seconds=number(32),
    requester_pays=st.booleans(),
    checksum_algorithm=maybe(st.sampled_from(ChecksumAlgorithm)),
)
OPTS = st.none() | st.dictionaries(TEXT, TEXT, max_size=3)
HTTP_OPTS = st.none() | st.dictionaries(TEXT.filter(lambda k: k != "headers"), TEXT, max_size=3)
STORES = st.one_of(
    OPTIONS.map(lambda o: ("s3", ObjectStoreConfig.S3(o))),
    OPTIONS.map(lambda o: ("s3", ObjectStoreConfig.S3Compatible(o))),
    OPTIONS.map(lambda o: ("tigris", ObjectStoreConfig.Tigris(o))),
    OPTS.map(lambda o: ("gs", ObjectStoreConfig.Gcs(o))),
    OPTS.map(lambda o: ("az", ObjectStoreConfig.Azure(o))),
    st.builds(lambda o, h: ("http", ObjectStoreConfig.Http(o, h)), HTTP_OPTS, OPTS),
    TEXT.map(lambda p: ("file", ObjectStoreConfig.LocalFileSystem(p))),
)


def _container(store: Any, host: str, name: str | None) -> VirtualChunkContainer:
    return VirtualChunkContainer(f"{store[0]}://{host}/", store[1], name)


CONTAINERS = st.lists(
    st.builds(
        _container,
        STORES,
        st.sampled_from(["b", "c", "d/x y", "e/é"]),
        maybe(TEXT.filter(lambda name: name and "/" not in name)),
    ),
    max_size=4,
).map(lambda found: {c.url_prefix: c for c in found})

RETRIES = build(
    StorageRetriesSettings,
    max_tries=number(16, 1),
    initial_backoff_ms=number(32),
    max_backoff_ms=number(32),
)
STORAGE = build(
    StorageSettings,
    concurrency=maybe(
        build(
            StorageConcurrencySettings,
            max_concurrent_requests_for_object=number(16, 1),
            ideal_concurrent_request_size=number(64, 1),
        )
    ),
    retries=maybe(RETRIES),
    timeouts=maybe(
        build(StorageTimeoutSettings, connect_timeout_ms=number(32), read_timeout_ms=number(32))
    ),
    unsafe_use_metadata=maybe(st.booleans()),
    unsafe_use_conditional_create=maybe(st.booleans()),
    storage_class=maybe(TEXT),
    minimum_size_for_multipart_upload=number(64),
)


def conditions(family: Any, leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def combined(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        some = st.lists(inner, max_size=3)
        return some.map(family.or_conditions) | some.map(family.and_conditions)

    regexes = TEXT.map(family.path_matches) | TEXT.map(family.name_matches)
    return st.recursive(leaves | regexes, combined, max_leaves=4)


PRELOAD_IF = conditions(
    ManifestPreloadCondition,
    st.just(ManifestPreloadCondition.true())
    | st.just(ManifestPreloadCondition.false())
    | st.builds(ManifestPreloadCondition.num_refs, number(32), number(32)),
)
ARRAYS = conditions(ManifestSplitCondition, st.just(ManifestSplitCondition.AnyArray()))
DIMS = st.one_of(
    st.integers(0, 2**64 - 1).map(ManifestSplitDimCondition.Axis),
    TEXT.map(ManifestSplitDimCondition.DimensionName),
    st.just(ManifestSplitDimCondition.Any()),
)
SPLIT_SIZES = st.lists(
    st.tuples(ARRAYS, st.lists(st.tuples(DIMS, st.integers(0, 2**32 - 1)), max_size=2)), max_size=2
)
MANIFEST = build(
    ManifestConfig,
    preload=maybe(
        build(
            ManifestPreloadConfig,
            max_total_refs=number(32),
            preload_if=maybe(PRELOAD_IF),
            max_arrays_to_scan=number(32),
        )
    ),
    splitting=maybe(build(ManifestSplittingConfig, split_sizes=maybe(SPLIT_SIZES))),
    virtual_chunk_location_compression=maybe(
        build(
            ManifestVirtualChunkLocationCompressionConfig,
            min_num_chunks=number(16),
            compression_level=maybe(st.integers(-(2**31), 2**31 - 1)),
        )
    ),
    max_concurrent_manifest_fetches_during_commit=number(16),
)
CONFIGS = build(
    RepositoryConfig,
    inline_chunk_threshold_bytes=number(16),
    num_updates_per_repo_info_file=number(16),
    max_concurrent_decodes=number(16),
    compression=maybe(
        build(
            CompressionConfig,
            algorithm=maybe(st.sampled_from(CompressionAlgorithm)),
            level=number(8),
        )
    ),
    caching=maybe(build(CachingConfig, num_chunk_refs=number(64), num_bytes_chunks=number(64))),
    storage=maybe(STORAGE),
    virtual_chunk_containers=maybe(CONTAINERS),
    manifest=maybe(MANIFEST),
    repo_update_retries=maybe(build(RepoUpdateRetryConfig, default=maybe(RETRIES))),
)

NAMES = {"icechunk": icechunk}


@settings(deadline=None)
@given(CONFIGS)
def test_repr_evaluates_to_an_equal_object(config: RepositoryConfig) -> None:
    assert eval(repr(config), NAMES) == config
    assert str(config).startswith("<icechunk.config.RepositoryConfig>\n")


@settings(deadline=None)
@given(CONFIGS)
def test_copies_are_equal_and_apart(config: RepositoryConfig) -> None:
    for same in (pickle.loads(pickle.dumps(config)), copy.copy(config), copy.deepcopy(config)):
        assert same == config
        assert repr(same) == repr(config)
        same.get_partial_values_concurrency = 1
        assert same != config


@settings(deadline=None)
@given(CONFIGS)
def test_stored_forms(config: RepositoryConfig) -> None:
    assert from_dict(to_dict(config)) == config
    assert config_from_yaml(config_to_yaml(config)) == config


# Which settings merging goes into; all others are replaced whole.
MERGED_INSIDE = {
    "compression",
    "caching",
    "storage",
    "concurrency",
    "retries",
    "timeouts",
    "manifest",
    "virtual_chunk_location_compression",
    "repo_update_retries",
    "default",
}


def overlay(base: Any, top: Any) -> dict[str, Any]:
    """Merge in ten obvious lines, on nested dicts."""
    merged = dict(base)
    for key, value in top.items():
        if value is None:
            continue
        if key in MERGED_INSIDE and base[key] is not None:
            merged[key] = overlay(base[key], value)
        else:
            merged[key] = value
    return merged


@settings(deadline=None)
@given(CONFIGS, CONFIGS)
def test_merge_against_the_obvious_way(base: RepositoryConfig, top: RepositoryConfig) -> None:
    before = copy.deepcopy((base, top))
    merged = base.merge(top)
    assert to_dict(merged) == overlay(to_dict(base), to_dict(top))
    merged.clear_virtual_chunk_containers()
    for part in (merged.storage, merged.caching):
        for name in part._fields if part is not None else ():
            setattr(part, name, None)
    assert (base, top) == before


def test_merge_replaces_some_objects_whole() -> None:
    base = RepositoryConfig(
        1,
        manifest=ManifestConfig(
            ManifestPreloadConfig(1, None, 2),
            ManifestSplittingConfig(()),
            ManifestVirtualChunkLocationCompressionConfig(1),
        ),
    )
    top = RepositoryConfig(
        manifest=ManifestConfig(
            ManifestPreloadConfig(None, None, 3),
            ManifestSplittingConfig(),
            ManifestVirtualChunkLocationCompressionConfig(compression_level=1),
        )
    )
    assert base.merge(top) == RepositoryConfig(
        1,
        manifest=ManifestConfig(
            ManifestPreloadConfig(None, None, 3),
            ManifestSplittingConfig(),
            ManifestVirtualChunkLocationCompressionConfig(1, compression_level=1),
        ),
    )
    containers = {"s3://a/": VirtualChunkContainer("s3://a/", ObjectStoreConfig.S3(S3Options()))}
    full = RepositoryConfig(virtual_chunk_containers=containers)
    assert full.merge(RepositoryConfig()) == full
    empty = RepositoryConfig(virtual_chunk_containers={})
    assert full.merge(empty).virtual_chunk_containers == {}

"""Stored form of a repository's configuration: a logical map and back.

Spec version 2 keeps the map as FlexBuffers in the repository's entry point, version 1 as YAML
(`icechunk.config.yaml`). Icechunk spec, 'Repository configuration'. The tables list every key in
the order in which YAML shows them; all are written, null where nothing is set.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from icechunk.config import containers, object_stores
from icechunk.config.caching import CachingConfig
from icechunk.config.codecs import (
    BOOL,
    INT,
    TEXT,
    TEXT_MAP,
    Codec,
    Tagged,
    enum_codec,
    made,
    mapping,
    record,
    refuse,
    required,
    tag_of,
)
from icechunk.config.compression import CompressionAlgorithm, CompressionConfig
from icechunk.config.containers import VirtualChunkContainer
from icechunk.config.manifest import (
    ManifestConfig,
    ManifestVirtualChunkLocationCompressionConfig,
)
from icechunk.config.object_stores import ChecksumAlgorithm, ObjectStoreConfig, S3Options
from icechunk.config.preload import ManifestPreloadConfig
from icechunk.config.repository import RepositoryConfig, RepoUpdateRetryConfig
from icechunk.config.serialize_conditions import PRELOAD_CONDITION, SPLIT_SIZES
from icechunk.config.splitting import ManifestSplittingConfig, default_splitting
from icechunk.config.storage_settings import (
    StorageConcurrencySettings,
    StorageRetriesSettings,
    StorageSettings,
    StorageTimeoutSettings,
)

_log = logging.getLogger(__name__)

ALGORITHM = enum_codec({CompressionAlgorithm.Zstd: "zstd"})

CHECKSUM = enum_codec(
    {
        ChecksumAlgorithm.Crc32: "crc32",
        ChecksumAlgorithm.Crc32c: "crc32c",
        ChecksumAlgorithm.Crc64Nvme: "crc64_nvme",
        ChecksumAlgorithm.Sha1: "sha1",
        ChecksumAlgorithm.Sha256: "sha256",
    }
)

COMPRESSION = record(CompressionConfig, {"algorithm": ALGORITHM, "level": INT})

CACHING = record(
    CachingConfig,
    {
        "num_snapshot_nodes": INT,
        "num_chunk_refs": INT,
        "num_transaction_changes": INT,
        "num_bytes_attributes": INT,
        "num_bytes_chunks": INT,
    },
)

RETRIES = record(
    StorageRetriesSettings,
    {"max_tries": INT, "initial_backoff_ms": INT, "max_backoff_ms": INT},
)

STORAGE = record(
    StorageSettings,
    {
        "concurrency": record(
            StorageConcurrencySettings,
            {"max_concurrent_requests_for_object": INT, "ideal_concurrent_request_size": INT},
        ),
        "retries": RETRIES,
        "timeouts": record(
            StorageTimeoutSettings,
            {
                "connect_timeout_ms": INT,
                "read_timeout_ms": INT,
                "operation_timeout_ms": INT,
                "operation_attempt_timeout_ms": INT,
            },
        ),
        "unsafe_use_conditional_update": BOOL,
        "unsafe_use_conditional_create": BOOL,
        "unsafe_use_metadata": BOOL,
        "storage_class": TEXT,
        "metadata_storage_class": TEXT,
        "chunks_storage_class": TEXT,
        "minimum_size_for_multipart_upload": INT,
    },
)

MANIFEST = record(
    ManifestConfig,
    {
        "preload": record(
            ManifestPreloadConfig,
            {
                "max_total_refs": INT,
                "preload_if": PRELOAD_CONDITION,
                "max_arrays_to_scan": INT,
            },
        ),
        "splitting": record(ManifestSplittingConfig, {"split_sizes": SPLIT_SIZES}),
        "virtual_chunk_location_compression": record(
            ManifestVirtualChunkLocationCompressionConfig,
            {
                "min_num_chunks": INT,
                "dictionary_max_training_samples": INT,
                "dictionary_max_size_bytes": INT,
                "compression_level": INT,
            },
        ),
        "max_concurrent_manifest_fetches_during_commit": INT,
    },
)

_S3_OPTIONS = record(
    S3Options,
    {
        "region": TEXT,
        "endpoint_url": TEXT,
        "anonymous": BOOL,
        "allow_http": BOOL,
        "force_path_style": BOOL,
        "network_stream_timeout_seconds": INT,
        "requester_pays": BOOL,
        "checksum_algorithm": CHECKSUM,
    },
)


def _decode_s3_options(value: Any, where: str) -> S3Options:
    fields = mapping(value, where)
    for key in ("anonymous", "allow_http"):
        required(fields, key, where)
    options: S3Options = _S3_OPTIONS.decode(value, where)
    return options


def _encode_store(store: Any) -> Any:
    match store:
        case ObjectStoreConfig.InMemory():
            return "in_memory"
        case ObjectStoreConfig.LocalFileSystem():
            return Tagged(local_file_system=store.path)
        case ObjectStoreConfig.Http():
            headers = {"headers": dict(store.headers)} if store.headers else {}
            return Tagged(http={**(store.opts or {}), **headers})
        case ObjectStoreConfig.S3Compatible():
            return Tagged(s3_compatible=_S3_OPTIONS.encode(store.options))
        case ObjectStoreConfig.S3():
            return Tagged(s3=_S3_OPTIONS.encode(store.options))
        case ObjectStoreConfig.Tigris():
            return Tagged(tigris=_S3_OPTIONS.encode(store.options))
        case ObjectStoreConfig.Gcs():
            return Tagged(gcs=dict(store.opts or {}))
        case ObjectStoreConfig.Azure():
            return Tagged(azure=dict(store.opts or {}))
    raise TypeError(f"not an object store: {store!r}")


def _decode_store(value: Any, where: str) -> object_stores.AnyObjectStoreConfig:
    tag, content = tag_of(value, where)
    where = f"{where}.{tag}"
    match tag:
        case "in_memory" if content is None:
            return ObjectStoreConfig.InMemory()
        case "local_file_system":
            return ObjectStoreConfig.LocalFileSystem(TEXT.decode(content, where))
        case "http":
            opts = dict(mapping(content, where))
            headers = opts.pop("headers", None)
            return ObjectStoreConfig.Http(
                TEXT_MAP.decode(opts, where),
                None if headers is None else TEXT_MAP.decode(headers, f"{where}.headers"),
            )
        case "s3_compatible":
            return ObjectStoreConfig.S3Compatible(_decode_s3_options(content, where))
        case "s3":
            return ObjectStoreConfig.S3(_decode_s3_options(content, where))
        case "tigris":
            return ObjectStoreConfig.Tigris(_decode_s3_options(content, where))
        case "gcs":
            return ObjectStoreConfig.Gcs(TEXT_MAP.decode(content, where))
        case "azure":
            return ObjectStoreConfig.Azure(TEXT_MAP.decode(content, where))
    return refuse(where, "is an unknown kind of object store")


STORE = Codec(_encode_store, _decode_store)


def _encode_containers(value: Mapping[str, VirtualChunkContainer]) -> dict[str, Any]:
    return {
        prefix: {
            "name": container.name,
            "url_prefix": container.url_prefix,
            "store": STORE.encode(container.store),
        }
        for prefix, container in value.items()
    }


def _decode_containers(value: Any, where: str) -> dict[str, VirtualChunkContainer]:
    # A repository must not become unreadable through a container that never worked, so
    # containers that make no sense are left out; what is no container at all is an error.
    found = {}
    for key, item in mapping(value, where).items():
        fields = mapping(item, f"{where}.{key}")
        prefix = TEXT.decode(required(fields, "url_prefix", f"{where}.{key}"), f"{where}.{key}")
        name = fields.get("name")
        container = made(
            f"{where}.{key}",
            VirtualChunkContainer,
            prefix if prefix.endswith("/") else f"{prefix}/",
            STORE.decode(required(fields, "store", f"{where}.{key}"), f"{where}.{key}.store"),
            None if name is None else TEXT.decode(name, f"{where}.{key}.name"),
        )
        try:
            containers.validate(container)
        except ValueError as error:
            _log.warning("ignoring virtual chunk container %r of the repository: %s", key, error)
        else:
            found[container.url_prefix] = container
    return found


REPOSITORY = record(
    RepositoryConfig,
    {
        "inline_chunk_threshold_bytes": INT,
        "get_partial_values_concurrency": INT,
        "compression": COMPRESSION,
        "max_concurrent_requests": INT,
        "max_concurrent_decodes": INT,
        "caching": CACHING,
        "storage": STORAGE,
        "virtual_chunk_containers": Codec(_encode_containers, _decode_containers),
        "manifest": MANIFEST,
        "repo_update_retries": record(RepoUpdateRetryConfig, {"default": RETRIES}),
        "num_updates_per_repo_info_file": INT,
    },
)

_BEFORE = "repo_update_retries"
_UNUSED = "previous_file"
"""Reserved by the format, always null."""


def to_dict(config: RepositoryConfig) -> dict[str, Any]:
    """Return the logical map that stands for `config` in a repository."""
    stored: dict[str, Any] = {}
    for key, value in REPOSITORY.encode(config).items():
        if key == _BEFORE:
            stored[_UNUSED] = None
        stored[key] = value
    return stored


def splitting_to_dict(splitting: ManifestSplittingConfig | None) -> dict[str, Any]:
    """Return the plain map that stands for splitting rules, those in effect when None are set."""
    rules = splitting if splitting is not None and splitting.split_sizes else default_splitting()
    return dict(MANIFEST.encode(ManifestConfig(splitting=rules))["splitting"])


def from_dict(stored: object, *, source: str = "repository configuration") -> RepositoryConfig:
    """Return the configuration a logical map stands for.

    Unknown keys are ignored. Virtual chunk containers that cannot serve any location are left
    out with a logged warning.

    Parameters
    ----------
    stored
        What was decoded from FlexBuffers or YAML; None stands for an empty map.
    source
        Key of the object it came from, for error messages.

    Raises
    ------
    FormatError
        When a value has a wrong type or is out of range.
    """
    config: RepositoryConfig = REPOSITORY.decode({} if stored is None else stored, source)
    return config

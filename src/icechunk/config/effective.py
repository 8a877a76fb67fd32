"""The configuration as the engine uses it: every number present, nothing to look up.

`effective` resolves a `RepositoryConfig` once, when a repository or session is opened. Storage
settings are not part of it: backends bring defaults of their own, so the storage layer fills them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from icechunk.config.base import Settings
from icechunk.config.containers import VirtualChunkContainer
from icechunk.config.preload import ManifestPreloadCondition, default_preload_condition
from icechunk.config.repository import RepositoryConfig
from icechunk.config.splitting import ManifestSplittingConfig


@dataclass(frozen=True, slots=True)
class Retries:
    """Tries altogether, and the pauses between them."""

    max_tries: int
    initial_backoff_ms: int
    max_backoff_ms: int


@dataclass(frozen=True, slots=True)
class CacheSizes:
    """What each cache may hold, in the unit of its name."""

    num_snapshot_nodes: int
    num_chunk_refs: int
    num_transaction_changes: int
    num_bytes_attributes: int
    num_bytes_chunks: int


@dataclass(frozen=True, slots=True)
class Preload:
    """Which manifests to load early, and when to stop."""

    max_total_refs: int
    max_arrays_to_scan: int
    preload_if: ManifestPreloadCondition


@dataclass(frozen=True, slots=True)
class LocationCompression:
    """Numbers for compressing virtual chunk locations."""

    min_num_chunks: int
    dictionary_max_training_samples: int
    dictionary_max_size_bytes: int
    compression_level: int


@dataclass(frozen=True, slots=True)
class EffectiveConfig:
    """A repository configuration without anything left open."""

    inline_chunk_threshold_bytes: int
    get_partial_values_concurrency: int
    max_concurrent_requests: int
    max_concurrent_decodes: int
    num_updates_per_repo_info_file: int
    max_concurrent_manifest_fetches_during_commit: int
    compression_level: int
    caching: CacheSizes
    preload: Preload
    splitting: ManifestSplittingConfig | None
    """Splitting rules, None when nothing is to be split."""
    location_compression: LocationCompression
    repo_update_retries: Retries
    virtual_chunk_containers: tuple[VirtualChunkContainer, ...]


def effective(config: RepositoryConfig) -> EffectiveConfig:
    """Return what `config` means once defaults stand in for everything unset."""
    top = _filled(config)
    manifest = _filled(top["manifest"])
    preload = _filled(manifest["preload"])
    return EffectiveConfig(
        inline_chunk_threshold_bytes=top["inline_chunk_threshold_bytes"],
        get_partial_values_concurrency=top["get_partial_values_concurrency"],
        max_concurrent_requests=top["max_concurrent_requests"],
        max_concurrent_decodes=top["max_concurrent_decodes"],
        num_updates_per_repo_info_file=top["num_updates_per_repo_info_file"],
        max_concurrent_manifest_fetches_during_commit=manifest[
            "max_concurrent_manifest_fetches_during_commit"
        ],
        compression_level=_filled(top["compression"])["level"],
        caching=CacheSizes(**_filled(top["caching"])),
        preload=Preload(
            max_total_refs=preload["max_total_refs"],
            max_arrays_to_scan=preload["max_arrays_to_scan"],
            preload_if=preload["preload_if"] or default_preload_condition(),
        ),
        splitting=config.manifest.splitting if config.manifest is not None else None,
        location_compression=LocationCompression(
            **_filled(manifest["virtual_chunk_location_compression"])
        ),
        repo_update_retries=update_retries(config),
        virtual_chunk_containers=tuple((config.virtual_chunk_containers or {}).values()),
    )


def update_retries(config: RepositoryConfig) -> Retries:
    """Return how often updates of the repository's entry point are tried."""
    retries = _filled(config)["repo_update_retries"]
    return Retries(**_filled(_filled(retries)["default"]))


# Values are typed by the fields they come from, which a dict cannot tell the type checker.
def _filled(settings: Settings) -> dict[str, Any]:
    return {name: field.effective(settings) for name, field in settings._fields.items()}

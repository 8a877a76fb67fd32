"""The part of the configuration that saving and keeping objects depends on, as one value."""

from __future__ import annotations

from dataclasses import dataclass

from icechunk.config import RepositoryConfig
from icechunk.config.effective import effective
from icechunk.format.locations import LocationCompression

__all__ = ["AssetSettings", "CacheSizes"]


@dataclass(frozen=True, slots=True)
class CacheSizes:
    """How much of each kind of object is kept in memory; 0 keeps nothing."""

    snapshot_nodes: int = 500_000
    chunk_refs: int = 15_000_000
    transaction_changes: int = 0
    chunk_bytes: int = 0


@dataclass(frozen=True, slots=True)
class AssetSettings:
    """How objects are encoded and kept."""

    caches: CacheSizes = CacheSizes()
    max_concurrent_requests: int = 256
    """Requests that may be under way at once."""
    compression_level: int | None = None
    """Zstd level of all files; None where the configuration leaves it open."""
    location_compression: LocationCompression | None = None
    """How virtual chunk locations are compressed one by one; None leaves that to the whole file."""
    spec_version: int = 2
    """Version of the format that files are written in; those of both are read."""

    @classmethod
    def from_config(cls, config: RepositoryConfig, spec_version: int = 2) -> AssetSettings:
        """Read what matters here from a repository configuration.

        Locations are compressed with a dictionary only where the configuration asks for it: the
        file as a whole is compressed anyway, which is faster and gives files of the same size.
        """
        chosen = effective(config)
        locations = chosen.location_compression
        asked = config.manifest and config.manifest.virtual_chunk_location_compression
        return cls(
            caches=CacheSizes(
                snapshot_nodes=chosen.caching.num_snapshot_nodes,
                chunk_refs=chosen.caching.num_chunk_refs,
                transaction_changes=chosen.caching.num_transaction_changes,
                chunk_bytes=chosen.caching.num_bytes_chunks,
            ),
            max_concurrent_requests=chosen.max_concurrent_requests,
            compression_level=config.compression.level if config.compression else None,
            location_compression=LocationCompression(
                min_num_chunks=locations.min_num_chunks,
                dictionary_max_training_samples=locations.dictionary_max_training_samples,
                dictionary_max_size_bytes=locations.dictionary_max_size_bytes,
                compression_level=locations.compression_level,
            )
            if asked
            else None,
            spec_version=spec_version,
        )

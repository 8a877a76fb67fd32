"""How manifests are written and read: splitting, preloading, compressed locations."""

from __future__ import annotations

from icechunk.config import checks
from icechunk.config.base import Field, Settings
from icechunk.config.preload import ManifestPreloadConfig
from icechunk.config.splitting import ManifestSplittingConfig, default_splitting


class ManifestVirtualChunkLocationCompressionConfig(Settings):
    """Compression of the locations of virtual chunks with a dictionary trained on them.

    Parameters
    ----------
    min_num_chunks
        Virtual chunks a manifest needs before its locations are compressed. Default: 1,000.
    dictionary_max_training_samples
        Locations the dictionary is trained on. Default: 100.
    dictionary_max_size_bytes
        Default: 2,048.
    compression_level
        Default: 3.
    """

    __slots__ = ()
    _shown_as = "icechunk.config.ManifestVirtualChunkLocationCompressionConfig"

    min_num_chunks: Field[int | None] = Field(checks.u16, 1000)
    dictionary_max_training_samples: Field[int | None] = Field(checks.u16, 100)
    dictionary_max_size_bytes: Field[int | None] = Field(checks.u32, 2048)
    compression_level: Field[int | None] = Field(checks.i32, 3)

    def __init__(
        self,
        min_num_chunks: int | None = None,
        *,
        dictionary_max_training_samples: int | None = None,
        dictionary_max_size_bytes: int | None = None,
        compression_level: int | None = None,
    ) -> None:
        self.min_num_chunks = min_num_chunks
        self.dictionary_max_training_samples = dictionary_max_training_samples
        self.dictionary_max_size_bytes = dictionary_max_size_bytes
        self.compression_level = compression_level


class ManifestConfig(Settings):
    """How chunk references are laid out in manifests and fetched from them.

    Parameters
    ----------
    preload
        Manifests to load when a session starts.
    splitting
        Rules for the number of manifests of an array.
    virtual_chunk_location_compression
        Compression of virtual chunk locations.
    max_concurrent_manifest_fetches_during_commit
        Manifests fetched at once by a commit to an object store. Default: 16, as many as are
        written at once; fewer bound the memory of commits that touch many large manifests.
    """

    __slots__ = ()
    _shown_as = "icechunk.config.ManifestConfig"

    preload: Field[ManifestPreloadConfig | None] = Field(
        checks.instance(ManifestPreloadConfig), ManifestPreloadConfig
    )
    splitting: Field[ManifestSplittingConfig | None] = Field(
        checks.instance(ManifestSplittingConfig), default_splitting
    )
    virtual_chunk_location_compression: Field[
        ManifestVirtualChunkLocationCompressionConfig | None
    ] = Field(
        checks.instance(ManifestVirtualChunkLocationCompressionConfig),
        ManifestVirtualChunkLocationCompressionConfig,
        merges=True,
    )
    max_concurrent_manifest_fetches_during_commit: Field[int | None] = Field(checks.u16, 16)

    def __init__(
        self,
        preload: ManifestPreloadConfig | None = None,
        splitting: ManifestSplittingConfig | None = None,
        virtual_chunk_location_compression: (
            ManifestVirtualChunkLocationCompressionConfig | None
        ) = None,
        max_concurrent_manifest_fetches_during_commit: int | None = None,
    ) -> None:
        self.preload = preload
        self.splitting = splitting
        self.virtual_chunk_location_compression = virtual_chunk_location_compression
        self.max_concurrent_manifest_fetches_during_commit = (
            max_concurrent_manifest_fetches_during_commit
        )

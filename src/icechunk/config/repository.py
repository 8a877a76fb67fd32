"""The configuration of a repository, and how two of them combine."""

from __future__ import annotations

import copy
import os
from typing import Any

from icechunk.config import checks
from icechunk.config.base import Field, Settings
from icechunk.config.caching import CachingConfig
from icechunk.config.compression import CompressionConfig
from icechunk.config.containers import VirtualChunkContainer, validate
from icechunk.config.manifest import ManifestConfig
from icechunk.config.storage_settings import StorageRetriesSettings, StorageSettings


def _default_update_retries() -> StorageRetriesSettings:
    return StorageRetriesSettings(max_tries=100, initial_backoff_ms=50, max_backoff_ms=30_000)


class RepoUpdateRetryConfig(Settings):
    """How often a commit tries again to swap the repository's entry point.

    Parameters
    ----------
    default
        Retries of every kind of update. Default: 100 tries, pauses from 50 ms to 30 s.
    """

    __slots__ = ()
    _shown_as = "icechunk.config.RepoUpdateRetryConfig"

    default: Field[StorageRetriesSettings | None] = Field(
        checks.instance(StorageRetriesSettings), _default_update_retries, merges=True
    )

    def __init__(self, default: StorageRetriesSettings | None = None) -> None:
        self.default = default


def cpu_count() -> int:
    """Return the number of CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _containers(name: str, value: Any) -> dict[str, VirtualChunkContainer]:
    if not isinstance(value, dict):
        raise TypeError(f"{name} must be a dict, not {type(value).__name__}")
    for key, container in value.items():
        checks.text(f"key of {name}", key)
        checks.instance(VirtualChunkContainer)(f"{name}[{key!r}]", container)
    return dict(value)


class _ContainersField(Field[dict[str, VirtualChunkContainer] | None]):
    """Containers by prefix: read as a copy and changed by methods only, which validate."""

    __slots__ = ()

    def __get__(self, settings: Any, owner: type) -> Any:
        value = super().__get__(settings, owner)
        return dict(value) if isinstance(value, dict) else value

    def __set__(self, settings: Settings, value: Any) -> None:
        raise AttributeError(
            f"{self.name} cannot be assigned; use set_virtual_chunk_container "
            "or clear_virtual_chunk_containers"
        )


class RepositoryConfig(Settings):
    """Everything that can be configured about a repository.

    What is None has its default, which may come from the repository's stored configuration.

    Parameters
    ----------
    inline_chunk_threshold_bytes
        Chunks up to this size are kept in manifests. Default: 512.
    get_partial_values_concurrency
        Concurrent requests of one call asking for several values. Default: 10.
    compression
        Compression of metadata files.
    max_concurrent_requests
        Requests in flight for the whole repository. Default: 256.
    caching
        Sizes of the caches.
    storage
        Use of the storage; backends have defaults of their own.
    virtual_chunk_containers
        Containers by url prefix.
    manifest
        Layout and loading of manifests.
    repo_update_retries
        Retries of commits and other updates.
    num_updates_per_repo_info_file
        Entries of the operations log kept in one file. Default: 1,000.
    max_concurrent_decodes
        Metadata files decoded at once. Default: number of CPUs.
    """

    __slots__ = ()
    _shown_as = "icechunk.config.RepositoryConfig"

    inline_chunk_threshold_bytes: Field[int | None] = Field(checks.u16, 512)
    get_partial_values_concurrency: Field[int | None] = Field(checks.u16, 10)
    max_concurrent_requests: Field[int | None] = Field(checks.u16, 256)
    max_concurrent_decodes: Field[int | None] = Field(checks.u16, cpu_count)
    num_updates_per_repo_info_file: Field[int | None] = Field(checks.u16, 1000)
    compression: Field[CompressionConfig | None] = Field(
        checks.instance(CompressionConfig), CompressionConfig, merges=True
    )
    caching: Field[CachingConfig | None] = Field(
        checks.instance(CachingConfig), CachingConfig, merges=True
    )
    storage: Field[StorageSettings | None] = Field(checks.instance(StorageSettings), merges=True)
    manifest: Field[ManifestConfig | None] = Field(
        checks.instance(ManifestConfig), ManifestConfig, merges=True
    )
    repo_update_retries: Field[RepoUpdateRetryConfig | None] = Field(
        checks.instance(RepoUpdateRetryConfig), RepoUpdateRetryConfig, merges=True
    )
    virtual_chunk_containers = _ContainersField(_containers)

    def __init__(
        self,
        inline_chunk_threshold_bytes: int | None = None,
        get_partial_values_concurrency: int | None = None,
        compression: CompressionConfig | None = None,
        max_concurrent_requests: int | None = None,
        caching: CachingConfig | None = None,
        storage: StorageSettings | None = None,
        virtual_chunk_containers: dict[str, VirtualChunkContainer] | None = None,
        manifest: ManifestConfig | None = None,
        repo_update_retries: RepoUpdateRetryConfig | None = None,
        num_updates_per_repo_info_file: int | None = None,
        max_concurrent_decodes: int | None = None,
    ) -> None:
        self.inline_chunk_threshold_bytes = inline_chunk_threshold_bytes
        self.get_partial_values_concurrency = get_partial_values_concurrency
        self.compression = compression
        self.max_concurrent_requests = max_concurrent_requests
        self.caching = caching
        self.storage = storage
        self._store_containers(virtual_chunk_containers)
        self.manifest = manifest
        self.repo_update_retries = repo_update_retries
        self.num_updates_per_repo_info_file = num_updates_per_repo_info_file
        self.max_concurrent_decodes = max_concurrent_decodes

    @staticmethod
    def default() -> RepositoryConfig:
        """Return a configuration with nothing set, which means the defaults."""
        return RepositoryConfig()

    def set_virtual_chunk_container(self, cont: VirtualChunkContainer) -> None:
        """Add a container, replacing those of the same url prefix or the same name.

        Raises
        ------
        ValueError
            When the container cannot serve any location.
        """
        validate(checks.instance(VirtualChunkContainer)("cont", cont))
        kept = {
            prefix: other
            for prefix, other in (self.virtual_chunk_containers or {}).items()
            if cont.name is None or other.name != cont.name
        }
        # A copy: what was validated must not change behind our back.
        self._store_containers({**kept, cont.url_prefix: copy.deepcopy(cont)})

    def get_virtual_chunk_container(self, name: str) -> VirtualChunkContainer | None:
        """Return the container registered for the url prefix `name`, or None."""
        return (self.virtual_chunk_containers or {}).get(name)

    def clear_virtual_chunk_containers(self) -> None:
        """Remove all containers, which also overrides those of the stored configuration."""
        self._store_containers({})

    def _store_containers(self, containers: dict[str, VirtualChunkContainer] | None) -> None:
        type(self)._fields["virtual_chunk_containers"].store(self, containers)

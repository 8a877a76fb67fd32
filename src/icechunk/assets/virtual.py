"""Virtual chunks: from the reference, through its container, to the bytes.

Which container is responsible is decided by `icechunk.config.locations`, whether it may be read by
`icechunk.assets.authorization`, and how by `icechunk.storage`; here they come together. One source
per container, made when first used and shared by everything opened from one repository.
"""

from __future__ import annotations

from icechunk.assets.authorization import Authorization
from icechunk.assets.manager import AssetManager
from icechunk.chunks import ChunkRef
from icechunk.config import RepositoryConfig, StorageSettings
from icechunk.config.containers import VirtualChunkContainer
from icechunk.config.locations import Containers, Target
from icechunk.config.object_stores import ObjectStoreConfig
from icechunk.errors import ErrorKind, InvalidInputError
from icechunk.storage.foreign import Requirement, Source
from icechunk.storage.foreign_clients import source_for

__all__ = ["VirtualChunks"]

CacheKey = tuple[bytes, int, int]


class VirtualChunks:
    """Reads virtual chunks for one user of a repository. Safe to use from any thread.

    Parameters
    ----------
    assets
        Whose chunk cache and limit on requests are used.
    config
        Says which containers there are.
    authorization
        Says which of them may be read.
    """

    __slots__ = ("_assets", "_settings", "_sources", "authorization", "containers", "is_local")

    def __init__(
        self, assets: AssetManager, config: RepositoryConfig, authorization: Authorization
    ) -> None:
        self._assets = assets
        self._settings = _chosen(config.storage, assets.storage.default_settings())
        self._sources: dict[str, Source] = {}
        self.authorization = authorization
        self.containers = Containers(config.virtual_chunk_containers)
        self.is_local = all(
            isinstance(container.store, ObjectStoreConfig.LocalFileSystem)
            for container in (config.virtual_chunk_containers or {}).values()
        )
        """Whether every chunk that can be read at all is in a file of this machine."""

    def read(self, ref: ChunkRef, start: int, end: int) -> bytes:
        """Return the bytes ``[start, end)`` of a virtual chunk.

        Raises
        ------
        InvalidInputError
            Kind ``no-container-for-virtual-chunk``, ``unauthorized-virtual-chunk-container``,
            ``invalid-virtual-ref``.
        StorageError
            Kind ``virtual-chunk-fetch``, ``virtual-chunk-modified``, ``invalid-object-size``; see
            `icechunk.storage.foreign.Source.get_range`.
        """
        target, source = self._find(ref)
        start, end = ref.offset + start, ref.offset + end
        if start == end:
            return b""
        key = self._cache_key(target, ref, start, end)
        cache = self._assets.caches.chunks
        found = None if key is None else cache.peek(key)
        if found is not None:
            return found
        requirement = Requirement(ref.etag, ref.last_modified)
        if source.is_local:
            data = source.get_range(target.path, start, end, requirement, target.location)
        else:
            with self._assets.requests.hold(source.requests_for(end - start)):
                data = source.get_range(target.path, start, end, requirement, target.location)
        if key is not None:
            cache.put(key, data)
        return data

    async def read_async(self, ref: ChunkRef, start: int, end: int) -> bytes:
        """Do as `read` does, awaiting what is far away."""
        target, source = self._find(ref)
        if source.is_local:
            return self.read(ref, start, end)
        start, end = ref.offset + start, ref.offset + end
        if start == end:
            return b""
        key = self._cache_key(target, ref, start, end)
        cache = self._assets.caches.chunks
        found = None if key is None else cache.peek(key)
        if found is not None:
            return found
        requirement = Requirement(ref.etag, ref.last_modified)
        async with self._assets.requests.hold_async(source.requests_for(end - start)):
            data = await source.get_range_async(
                target.path, start, end, requirement, target.location
            )
        if key is not None:
            cache.put(key, data)
        return data

    def _find(self, ref: ChunkRef) -> tuple[Target, Source]:
        assert ref.location is not None
        target = self.containers.target(ref.location)
        prefix = target.container.url_prefix
        source = self._sources.get(prefix)
        if source is None:  # threads racing here make two, and one is dropped
            source = self._sources[prefix] = self._connect(target.container)
        return target, source

    def _connect(self, container: VirtualChunkContainer) -> Source:
        credentials = self.authorization.find(container)
        if credentials is None:
            raise InvalidInputError(
                f"a virtual chunk is in the container {container.url_prefix}, which this "
                "repository was not allowed to read: authorize it by the argument "
                "authorize_virtual_chunk_access of Repository.open",
                ErrorKind.UNAUTHORIZED_VIRTUAL_CHUNK_CONTAINER,
            )
        return source_for(container, credentials, self._settings)

    def _cache_key(self, target: Target, ref: ChunkRef, start: int, end: int) -> CacheKey | None:
        """Name bytes in the cache of chunks, where those of others have 12-byte ids."""
        if not self._assets.settings.caches.chunk_bytes:
            return None
        facts = (target.container.url_prefix, target.path, ref.etag, ref.last_modified)
        return repr(facts).encode(), start, end


def _chosen(settings: StorageSettings | None, defaults: StorageSettings) -> StorageSettings:
    """Return how to send requests, but for what merely suits the storage of the repository."""
    if settings is None:
        return StorageSettings()
    names = ("concurrency", "retries", "timeouts")
    return StorageSettings(
        **{
            name: getattr(settings, name)
            for name in names
            if getattr(settings, name) != getattr(defaults, name)
        }
    )

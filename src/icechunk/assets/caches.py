"""The caches of one repository, and how copies of it in one process come to share them."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final
from weakref import WeakValueDictionary

from icechunk.assets.cache import WeightedCache, process_lock
from icechunk.assets.settings import CacheSizes
from icechunk.assets.weights import (
    weigh_chunk,
    weigh_manifest,
    weigh_snapshot,
    weigh_transaction_log,
)
from icechunk.format.manifest import Manifest
from icechunk.format.snapshot import Snapshot
from icechunk.format.transaction_log import TransactionLog

__all__ = ["AssetCaches", "caches_of", "publish"]

#: Repositories whose caches outlive their last user, for the next fork that arrives.
KEPT: Final = 8

Key = tuple[tuple[str, ...], CacheSizes]


class AssetCaches:
    """What one process remembers of one repository's immutable objects."""

    __slots__ = (
        "__weakref__",
        "chunks",
        "manifests",
        "preloaded",
        "sizes",
        "snapshots",
        "transaction_logs",
    )

    def __init__(self, sizes: CacheSizes) -> None:
        self.sizes = sizes
        self.preloaded: bytes | None = None
        """The snapshot whose manifests were preloaded last."""
        self.snapshots: WeightedCache[bytes, Snapshot] = WeightedCache(
            "snapshot",
            sizes.snapshot_nodes,
            weigh_snapshot,
            setting="caching.num_snapshot_nodes",
            # Readers of history and time travellers have several in use at once.
            heavy_part=5,
        )
        self.manifests: WeightedCache[bytes, Manifest] = WeightedCache(
            "manifest", sizes.chunk_refs, weigh_manifest, setting="caching.num_chunk_refs"
        )
        self.transaction_logs: WeightedCache[bytes, TransactionLog] = WeightedCache(
            "transaction log",
            sizes.transaction_changes,
            weigh_transaction_log,
            setting="caching.num_transaction_changes",
        )
        self.chunks: WeightedCache[tuple[bytes, int, int], bytes] = WeightedCache(
            "chunk", sizes.chunk_bytes, weigh_chunk, setting="caching.num_bytes_chunks"
        )


def publish(identity: tuple[str, ...], caches: AssetCaches) -> None:
    """Offer caches to whoever asks for that storage from now on, in place of older ones."""
    with process_lock():
        _keep((identity, caches.sizes), caches)


def caches_of(identity: tuple[str, ...], sizes: CacheSizes) -> AssetCaches:
    """Return the caches last published for a storage, new ones if there are none."""
    new = AssetCaches(sizes)
    with process_lock():
        return _keep((identity, sizes), _in_use.get((identity, sizes), new))


def _keep(key: Key, caches: AssetCaches) -> AssetCaches:
    """Note the use of caches; the lock is held."""
    _in_use[key] = caches
    _recent[key] = caches
    _recent.move_to_end(key)
    while len(_recent) > KEPT:
        _recent.popitem(last=False)
    return caches


_in_use: WeakValueDictionary[Key, AssetCaches] = WeakValueDictionary()
_recent: OrderedDict[Key, AssetCaches] = OrderedDict()

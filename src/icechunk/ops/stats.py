"""How much storage the chunks of a repository take.

What counts are the snapshots that some branch or tag leads to. Their manifests are found from the
snapshots' own lists, each manifest once, and read in batches that fit the memory allowed; of a
manifest only the keys and lengths of its chunks stay, until they are known to be new or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import numpy as np
import numpy.typing as npt

from icechunk.assets.manager import AssetManager
from icechunk.assets.workers import MAX_THREADS, Workers
from icechunk.chunks import ChunkKind, ChunkTable
from icechunk.chunks.ragged import RaggedBytes
from icechunk.format.ids import OBJECT_ID_SIZE, sortable
from icechunk.format.manifest import Manifest
from icechunk.ops.distinct import DistinctKeys, Keys
from icechunk.ops.reachable import reachable_snapshots
from icechunk.ops.scan import DistinctManifests, ScanLimits, read_manifests
from icechunk.repo.state import RepoState
from icechunk.stats import ChunkStorageStats

__all__ = ["Contents", "chunk_storage", "contents_of"]

DIGEST_SIZE: Final = 16

_VIRTUAL_KEY: Final = np.dtype([("place", f"V{DIGEST_SIZE}"), ("offset", "u8"), ("length", "u8")])


def chunk_storage(assets: AssetManager, info: RepoState, limits: ScanLimits) -> ChunkStorageStats:
    """Add up the chunks of all snapshots that a branch or tag leads to.

    Raises
    ------
    StorageError, FormatError
        A snapshot or manifest cannot be read.
    """
    with Workers(assets.storage.is_local, "icechunk-stats") as workers:
        found = workers.map(
            lambda snapshot_id: assets.snapshot(snapshot_id, keep=False).manifest_files,
            reachable_snapshots(info),
            min(limits.snapshots_at_once, MAX_THREADS),
        )
        manifests = DistinctManifests()
        for files in found:
            manifests.add(files)
        count = _Count()
        for _, contents in read_manifests(
            workers,
            manifests.files,
            limits,
            lambda file: contents_of(assets.manifest(file.id, file.size_bytes, keep=False)),
        ):
            count.add(contents)
    return count.stats


@dataclass(frozen=True, slots=True)
class Contents:
    """What counts of an array in a manifest: keys of chunks that others may have, and lengths."""

    node_id: bytes
    native: tuple[Keys, npt.NDArray[np.uint64]]
    virtual: tuple[Keys, npt.NDArray[np.uint64]]
    inlined: int
    """How many chunks are inlined."""
    inlined_bytes: int


def contents_of(manifest: Manifest) -> list[Contents]:
    """Reduce the arrays of a manifest to what counts of them."""
    return [_contents(node_id, manifest.table(node_id)) for node_id in manifest.node_ids]


def _contents(node_id: bytes, table: ChunkTable) -> Contents:
    native = np.flatnonzero(table.kinds == ChunkKind.NATIVE)
    virtual = np.flatnonzero(table.kinds == ChunkKind.VIRTUAL)
    is_inline = table.kinds == ChunkKind.INLINE
    return Contents(
        node_id,
        (_native_keys(table, native), table.lengths[native]),
        (_virtual_keys(table, virtual), table.lengths[virtual]),
        int(is_inline.sum()),
        int(table.lengths[is_inline].sum(dtype=np.uint64)),
    )


def _native_keys(table: ChunkTable, rows: npt.NDArray[np.intp]) -> Keys:
    if table.ids is None:
        return np.zeros(0, f"S{OBJECT_ID_SIZE}")
    return sortable(table.ids[rows]).copy()


def _virtual_keys(table: ChunkTable, rows: npt.NDArray[np.intp]) -> Keys:
    """Location, as a digest, offset and length of virtual chunks, side by side."""
    if table.locations is None or not len(rows):
        return np.zeros(0, f"S{_VIRTUAL_KEY.itemsize}")
    places = table.locations.take(rows)
    # The chunks of one file mostly follow each other: one digest serves them all.
    is_first = np.ones(len(rows), np.bool_)
    is_first[1:] = ~places.slice(0, len(rows) - 1).equal_rows(places.slice(1, len(rows)))
    digests = _digests(places.take(np.flatnonzero(is_first)))
    keys = np.zeros(len(rows), _VIRTUAL_KEY)
    keys["place"] = digests[np.cumsum(is_first) - 1]
    keys["offset"] = 0 if table.offsets is None else table.offsets[rows]
    keys["length"] = table.lengths[rows]
    return keys.view(f"S{keys.itemsize}")


def _digests(places: RaggedBytes) -> npt.NDArray[np.void]:
    data = b"".join(blake2b(place, digest_size=DIGEST_SIZE).digest() for place in places)
    return np.frombuffer(data, f"V{DIGEST_SIZE}")


class _Count:
    """Running totals over manifests."""

    def __init__(self) -> None:
        self.stats = ChunkStorageStats()
        self._native = DistinctKeys()
        self._virtual = DistinctKeys()

    def add(self, contents: list[Contents]) -> None:
        for array in contents:
            self.stats += ChunkStorageStats(
                native_bytes=_new_bytes(self._native, *array.native),
                virtual_bytes=_new_bytes(self._virtual, *array.virtual),
                inlined_bytes=array.inlined_bytes,
            )


def _new_bytes(seen: DistinctKeys, keys: Keys, lengths: npt.NDArray[np.uint64]) -> int:
    return int(lengths[seen.add(keys)].sum(dtype=np.uint64))

"""Whether manifests of an array that overlap say the same where they do.

Readers look into the first manifest whose extents cover a chunk, and into no other. Icechunk up to
1.1 leaves such manifests behind when an array is changed after its manifests were split in another
way: what is in the second stands in the first as well, and nothing is lost.
"""

from __future__ import annotations

import numpy as np

from icechunk.chunks import ChunkTable
from icechunk.errors import FormatError, StorageError
from icechunk.format.snapshot import ManifestRef, Snapshot
from icechunk.ops.verify.tour import Tour

__all__ = ["hides_nothing"]


def hides_nothing(tour: Tour, snapshot: Snapshot, path: str) -> bool:
    """Whether every reference of an array is found, or another one that is equal.

    Reads all manifests of the array, which are in memory together. False if one cannot be read.
    """
    node = snapshot.nodes.find(path)
    if node is None or node.array is None:
        return False
    before: list[tuple[ManifestRef, ChunkTable]] = []
    for ref in node.array.manifests:
        try:
            manifest, _ = tour.open_manifest(ref.id)
            table = manifest.table(node.id, len(node.array.shape))
        except (FormatError, StorageError):
            return False
        if table.rank != len(node.array.shape) or not _is_found(table, before):
            return False
        before.append((ref, table))
    return True


def _is_found(table: ChunkTable, before: list[tuple[ManifestRef, ChunkTable]]) -> bool:
    """Whether references agree with what stands in the manifests before that cover them."""
    rest = np.arange(len(table))
    for ref, other in before:
        coords = table.coords[rest]
        is_covered = np.ones(len(rest), np.bool_)
        for axis, (low, high) in enumerate(ref.extents):
            is_covered &= (coords[:, axis] >= low) & (coords[:, axis] < high)
        covered, rest = rest[is_covered], rest[~is_covered]
        if not len(covered):
            continue
        rows = other.locate(table.coords[covered])
        if (rows < 0).any() or table.take(covered).to_bytes() != other.take(rows).to_bytes():
            return False
    return True

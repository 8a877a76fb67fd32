"""What snapshots claim about manifests, each claim once, as columns.

A claim is: in this snapshot, an array with this id and this chunk grid has chunks in this manifest,
inside this box. Snapshots share most of theirs. Whatever was first to make a claim stands for all:
it names the snapshot in messages, so snapshots that branches lead to come first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from icechunk.format.ids import NODE_ID_SIZE, OBJECT_ID_SIZE, sortable
from icechunk.format.manifest_files import ManifestFiles
from icechunk.format.nodes import NodeColumns
from icechunk.format.rows import counts_of, gather_rows
from icechunk.ops.distinct import DistinctKeys

__all__ = ["Claims", "ClaimsOfNode", "FileClaim", "FileClaims"]

_GRID_AT: Final = OBJECT_ID_SIZE + NODE_ID_SIZE
_COUNT_SIZE: Final = 4
_RANGE_SIZE: Final = 8

Bytes = npt.NDArray[np.uint8]


class ClaimsOfNode(NamedTuple):
    """All claims about one array in one manifest."""

    node_id: bytes
    rank: int
    grids: npt.NDArray[np.uint32]  # (n, rank) chunks along each axis
    boxes: npt.NDArray[np.uint32]  # (n, rank, 2) half-open ranges
    snapshots: npt.NDArray[np.int64]  # (n,) number of the first snapshot that claims it


class _Group:
    """Claims of one rank, with a box or without."""

    __slots__ = ("_fresh", "_seen", "_snapshots", "has_box", "keys", "manifests", "rank", "snaps")

    def __init__(self, rank: int, has_box: bool) -> None:
        self.rank = rank
        self.has_box = has_box
        self._seen = DistinctKeys()
        self._fresh: list[npt.NDArray[np.bytes_]] = []
        self._snapshots: list[npt.NDArray[np.int64]] = []

    def add(self, rows: Bytes, snapshot: int) -> None:
        keys = sortable(rows)
        fresh = self._seen.add(keys)
        if len(fresh):
            self._fresh.append(keys[fresh])
            self._snapshots.append(np.full(len(fresh), snapshot, np.int64))

    def close(self) -> None:
        self._seen = DistinctKeys()
        keys = np.concatenate(self._fresh)
        order = np.argsort(keys, kind="stable")
        self.keys = keys[order].view(np.uint8).reshape(len(keys), -1)
        self.snaps = np.concatenate(self._snapshots)[order]
        self.manifests = sortable(self.keys[:, :OBJECT_ID_SIZE])
        self._fresh, self._snapshots = [], []

    def of(self, manifest_id: bytes) -> Iterator[ClaimsOfNode]:
        wanted = np.array(manifest_id, dtype=f"S{OBJECT_ID_SIZE}")
        first = int(np.searchsorted(self.manifests, wanted))
        last = int(np.searchsorted(self.manifests, wanted, side="right"))
        keys, snapshots = self.keys[first:last], self.snaps[first:last]
        if not len(keys):
            return
        nodes = sortable(keys[:, OBJECT_ID_SIZE:_GRID_AT])
        begins = np.append(np.flatnonzero(np.append(True, nodes[1:] != nodes[:-1])), len(nodes))
        for start, stop in zip(begins[:-1].tolist(), begins[1:].tolist(), strict=True):
            yield self._node(keys[start:stop], snapshots[start:stop])

    def _node(self, keys: Bytes, snapshots: npt.NDArray[np.int64]) -> ClaimsOfNode:
        count, rank = len(keys), self.rank
        box_at = _GRID_AT + _COUNT_SIZE * rank
        grids = np.ascontiguousarray(keys[:, _GRID_AT:box_at]).view("<u4").reshape(count, rank)
        if self.has_box:
            boxes = np.ascontiguousarray(keys[:, box_at:]).view("<u4").reshape(count, rank, 2)
        else:
            boxes = np.zeros((count, rank, 2), np.uint32)
            boxes[:, :, 1] = 2**32 - 1
        node_id = keys[0, OBJECT_ID_SIZE:_GRID_AT].tobytes()
        return ClaimsOfNode(node_id, rank, grids, boxes, snapshots)


class Claims:
    """The distinct claims of many snapshots. Filled, then closed, then asked."""

    def __init__(self) -> None:
        self._groups: dict[tuple[int, bool], _Group] = {}

    def add(self, nodes: NodeColumns, snapshot: int) -> None:
        """Add the claims of the snapshot of that number."""
        ref_counts = counts_of(nodes.ref_starts)
        owners = np.repeat(np.arange(len(nodes)), ref_counts)  # (refs,) rows of nodes
        ranks = counts_of(nodes.dim_starts)[owners]
        has_box = (counts_of(nodes.extent_starts) > 0) | (ranks == 0)
        for rank, boxed in np.unique(np.stack([ranks, has_box], axis=1), axis=0).tolist():
            refs = np.flatnonzero((ranks == rank) & (has_box == bool(boxed)))
            _, dims = gather_rows(nodes.dim_starts, owners[refs])
            parts = [
                nodes.ref_ids[refs],
                nodes.ids[owners[refs]],
                _as_bytes(nodes.num_chunks[dims], len(refs), _COUNT_SIZE * rank),
            ]
            if boxed:
                _, ranges = gather_rows(nodes.extent_starts, refs)
                parts.append(_as_bytes(nodes.extents[ranges], len(refs), _RANGE_SIZE * rank))
            group = self._groups.setdefault((rank, bool(boxed)), _Group(rank, bool(boxed)))
            group.add(np.concatenate(parts, axis=1), snapshot)

    def close(self) -> None:
        """Sort the claims by manifest, once all are there."""
        for group in self._groups.values():
            group.close()

    def of(self, manifest_id: bytes) -> list[ClaimsOfNode]:
        """Return what is claimed about a manifest, by array."""
        return [claims for group in self._groups.values() for claims in group.of(manifest_id)]


def _as_bytes(column: npt.NDArray[np.uint32], rows: int, width: int) -> Bytes:
    return np.ascontiguousarray(column, "<u4").view(np.uint8).reshape(rows, width)


class FileClaim(NamedTuple):
    """What a snapshot records of a manifest file."""

    id: bytes
    size: int
    """0 where it is not recorded."""
    num_refs: int
    """Number of references, -1 where it is not recorded."""
    snapshot: int
    """Number of the first snapshot that records it so."""


class FileClaims:
    """Records of manifest files, each distinct one once; asked when all are there."""

    def __init__(self) -> None:
        self._seen = DistinctKeys()
        self._parts: list[tuple[Bytes, npt.NDArray[np.int64]]] = []

    def add(self, files: ManifestFiles, snapshot: int) -> None:
        """Add the records of the snapshot of that number."""
        sizes = np.minimum(files.sizes, 2**63 - 1).astype(np.int64)
        self._add(files.ids, np.stack([sizes, files.counts.astype(np.int64)], axis=1), snapshot)

    def add_unlisted(self, ids: npt.NDArray[np.uint8], snapshot: int) -> None:
        """Add manifests that a snapshot refers to and records nothing of."""
        self._add(ids, np.tile(np.array([0, -1], np.int64), (len(ids), 1)), snapshot)

    def _add(self, ids: Bytes, numbers: npt.NDArray[np.int64], snapshot: int) -> None:
        rows = np.concatenate([ids, numbers.view(np.uint8).reshape(len(ids), 16)], axis=1)
        fresh = self._seen.add(sortable(rows))
        if len(fresh):
            self._parts.append((rows[fresh], np.full(len(fresh), snapshot, np.int64)))

    def by_manifest(self) -> Iterator[list[FileClaim]]:
        """Yield the records of each manifest, in the order of their ids."""
        if not self._parts:
            return
        rows = np.concatenate([part for part, _ in self._parts])
        snapshots = np.concatenate([part for _, part in self._parts])
        # Of one manifest the record of the first snapshot comes first.
        order = np.lexsort([snapshots, sortable(rows[:, :OBJECT_ID_SIZE])])
        found: list[FileClaim] = []
        for row in order.tolist():
            size, count = rows[row, OBJECT_ID_SIZE:].view(np.int64).tolist()
            claim = FileClaim(
                rows[row, :OBJECT_ID_SIZE].tobytes(), size, count, int(snapshots[row])
            )
            if found and found[0].id != claim.id:
                yield found
                found = []
            found.append(claim)
        yield found

    def ids(self) -> npt.NDArray[np.uint8]:
        """Return the ids of all manifests, which may repeat."""
        if not self._parts:
            return np.zeros((0, OBJECT_ID_SIZE), np.uint8)
        return np.concatenate([part[:, :OBJECT_ID_SIZE] for part, _ in self._parts])

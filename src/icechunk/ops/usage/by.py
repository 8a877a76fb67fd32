"""Storage by array, by snapshot and by ref, and by array what one set of snapshots has alone.

Snapshots are read first, each once, then their manifests, each once, within the limits of a scan.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from icechunk.assets.manager import AssetManager
from icechunk.assets.workers import MAX_THREADS, Workers
from icechunk.format.ids import encode_id, ids_of_column, sortable
from icechunk.format.manifest_files import ManifestFile, ManifestFiles
from icechunk.format.nodes import NodeColumns
from icechunk.format.snapshot_table import SnapshotTable
from icechunk.ops.distinct import DistinctKeys
from icechunk.ops.reachable import reachable_rows, reachable_snapshots
from icechunk.ops.scan import DistinctManifests, ScanLimits, read_manifests
from icechunk.ops.stats import Contents, contents_of
from icechunk.ops.usage.tally import Bits, Tally, all_of, only
from icechunk.repo.state import History, RepoState
from icechunk.stats import StorageTable

__all__ = ["by_array", "by_ref", "by_snapshot", "difference"]


def by_array(assets: AssetManager, state: RepoState, limits: ScanLimits) -> StorageTable:
    """Tell what each array takes, over all snapshots that branches and tags lead to."""
    return difference(assets, state, reachable_snapshots(state), [], limits, with_empty=True)


def difference(
    assets: AssetManager,
    state: RepoState,
    snapshots: Sequence[bytes],
    others: Sequence[bytes],
    limits: ScanLimits,
    *,
    with_empty: bool = False,
) -> StorageTable:
    """Tell by array what some snapshots refer to and others do not.

    Parameters
    ----------
    assets, state
        The repository.
    snapshots, others
        Ids of snapshots it knows.
    limits
        What reading may take.
    with_empty
        Whether to list arrays that have nothing, too.

    Raises
    ------
    StorageError, FormatError
        A snapshot or manifest cannot be read.
    """
    with Workers(assets.storage.is_local, "icechunk-usage") as workers:
        scan = _Scan(assets, workers, limits)
        arrays = _Arrays()
        wanted, counted = DistinctManifests(), DistinctManifests()
        for files, nodes in scan.snapshots(_newest_first(state.snapshots, snapshots)):
            arrays.see(nodes)
            wanted.add(files)
        for files, _ in scan.snapshots(others):
            counted.add(files)
        tally = Tally()
        kept = {file.id for file in counted.files}
        added = [file for file in wanted.files if file.id not in kept]
        for file, contents in scan.manifests(added):
            tally.add(file, contents, arrays.group)
        if added:
            for _, contents in scan.manifests(counted.files):
                tally.discount(contents)
    if with_empty:
        arrays.group_all()
    names = arrays.names()
    total, exclusive = (tally.columns(len(names), select) for select in (all_of, only))
    order = [
        row
        for row in sorted(range(len(names)), key=names.__getitem__)
        if with_empty or total.has_any(row)
    ]
    return StorageTable(
        "array",
        tuple(names[row][0] for row in order),
        tuple(names[row][1] for row in order),
        *tally.whole(),
        total.take(order),
        exclusive.take(order),
    )


def by_snapshot(assets: AssetManager, state: RepoState, limits: ScanLimits) -> StorageTable:
    """Tell what each snapshot takes, of those that branches and tags lead to, newest first."""
    tips = {*state.branches.values(), *state.tags.values()}
    table = state.snapshots.table_of(tips)
    ids = _newest_first(table, ids_of_column(table.ids[reachable_rows(table, tips)]))
    tally = _by_groups(assets, ids, [1 << row for row in range(len(ids))], limits)
    row_of = {snapshot_id: row for row, snapshot_id in enumerate(ids)}
    rows = [table.row(snapshot_id) for snapshot_id in ids]
    parents = np.array([row_of.get(table.parent_id(row) or b"", -1) for row in rows], np.int64)

    def added(bits: Bits) -> Bits:
        nobody = np.zeros((len(bits), 1), np.bool_)
        of_parents: Bits = np.concatenate([bits, nobody], axis=1)[:, parents]
        return np.logical_and(bits, ~of_parents)

    return StorageTable(
        "snapshot",
        tuple(table.messages[row].decode() for row in rows),
        tuple(map(encode_id, ids)),
        *tally.whole(),
        tally.columns(len(ids), all_of),
        tally.columns(len(ids), only),
        tally.columns(len(ids), added),
    )


def by_ref(assets: AssetManager, state: RepoState, kind: str, limits: ScanLimits) -> StorageTable:
    """Tell what each branch, or each tag, takes with all of its history.

    What only one ref leads to is what neither other branches nor tags lead to.
    """
    refs = [*sorted(state.branches.items()), *sorted(state.tags.items())]
    tips = [tip for _, tip in refs]
    table = state.snapshots.table_of(tips)
    masks = _reach(table, tips)
    ids = [table.id(row) for row in masks]
    tally = _by_groups(assets, ids, list(masks.values()), limits)
    count = len(state.branches)
    rows = list(range(count) if kind == "branch" else range(count, len(refs)))
    return StorageTable(
        kind,
        tuple(refs[row][0] for row in rows),
        tuple(encode_id(refs[row][1]) for row in rows),
        *tally.whole(),
        tally.columns(len(refs), all_of).take(rows),
        tally.columns(len(refs), only).take(rows),
    )


def _by_groups(
    assets: AssetManager, snapshots: Sequence[bytes], masks: Sequence[int], limits: ScanLimits
) -> Tally:
    """Tally what snapshots refer to, each of which belongs to some groups."""
    with Workers(assets.storage.is_local, "icechunk-usage") as workers:
        scan = _Scan(assets, workers, limits)
        seen = DistinctManifests()
        groups: dict[bytes, int] = {}
        for mask, (files, _) in zip(masks, scan.snapshots(snapshots), strict=True):
            seen.add(files)
            for manifest_id in ids_of_column(files.ids):
                groups[manifest_id] = groups.get(manifest_id, 0) | mask
        tally = Tally()
        for file, contents in scan.manifests(seen.files):
            mask = groups[file.id]
            tally.add(file, contents, lambda _, mask=mask: mask)  # type: ignore[misc]
    return tally


def _reach(table: SnapshotTable, tips: Sequence[bytes]) -> dict[int, int]:
    """Tell which of some tips lead to each row of the history: bit i for tip i."""
    masks: dict[int, int] = {}
    for i, tip in enumerate(tips):
        row = table.row(tip)
        masks[row] = masks.get(row, 0) | 1 << i
    waiting: dict[int, int] = {}  # children that have not been seen
    stack = list(masks)
    seen = set(stack)
    while stack:
        parent = int(table.parents[stack.pop()])
        if parent >= 0:
            waiting[parent] = waiting.get(parent, 0) + 1
            if parent not in seen:
                seen.add(parent)
                stack.append(parent)
    ready = [row for row in seen if row not in waiting]
    while ready:
        row = ready.pop()
        parent = int(table.parents[row])
        if parent >= 0:
            masks[parent] = masks.get(parent, 0) | masks[row]
            waiting[parent] -= 1
            if not waiting[parent]:
                ready.append(parent)
    return masks


def _newest_first(history: History, ids: Iterable[bytes]) -> list[bytes]:
    def when(snapshot_id: bytes) -> tuple[int, bytes]:
        return history.time(history.row(snapshot_id)), snapshot_id

    return sorted(ids, key=when, reverse=True)


class _Scan:
    """Reads snapshots and manifests, within limits."""

    def __init__(self, assets: AssetManager, workers: Workers, limits: ScanLimits) -> None:
        self._assets = assets
        self._workers = workers
        self._limits = limits

    def snapshots(self, ids: Sequence[bytes]) -> Iterator[tuple[ManifestFiles, NodeColumns]]:
        """Yield the manifests and the nodes of each snapshot, in order."""

        def read(snapshot_id: bytes) -> tuple[ManifestFiles, NodeColumns]:
            snapshot = self._assets.snapshot(snapshot_id, keep=False)
            return snapshot.manifest_files, snapshot.nodes.columns

        at_once = min(self._limits.snapshots_at_once, MAX_THREADS)
        return self._workers.map(read, ids, at_once)

    def manifests(
        self, files: Sequence[ManifestFile]
    ) -> Iterator[tuple[ManifestFile, list[Contents]]]:
        """Yield what counts of each manifest, in order."""

        def read(file: ManifestFile) -> list[Contents]:
            return contents_of(self._assets.manifest(file.id, file.size_bytes, keep=False))

        return read_manifests(self._workers, files, self._limits, read)


class _Arrays:
    """Arrays as groups, by node id, and the path where each was last."""

    def __init__(self) -> None:
        self._seen = DistinctKeys()
        self._paths: dict[bytes, str] = {}
        self._groups: dict[bytes, int] = {}

    def see(self, nodes: NodeColumns) -> None:
        """Note the paths of arrays that newer snapshots did not have."""
        rows = np.flatnonzero(nodes.is_array)
        for row in rows[self._seen.add(sortable(nodes.ids[rows]))].tolist():
            self._paths[nodes.ids[row].tobytes()] = nodes.paths[row].decode()

    def group(self, node_id: bytes) -> int:
        """Return an array as a set of one group."""
        return 1 << self._groups.setdefault(node_id, len(self._groups))

    def group_all(self) -> None:
        """Make a group of every array seen."""
        for node_id in self._paths:
            self.group(node_id)

    def names(self) -> list[tuple[str, str]]:
        """Path and id of every group; no path if no snapshot has the array."""
        return [(self._paths.get(node_id, ""), encode_id(node_id)) for node_id in self._groups]

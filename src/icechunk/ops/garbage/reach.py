"""What the snapshots that stay refer to: manifests, each read once, and the ids of their chunks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from icechunk.assets.manager import AssetManager
from icechunk.assets.workers import MAX_THREADS, Workers
from icechunk.format.ids import ids_of_column, sortable
from icechunk.format.manifest_files import ManifestFile
from icechunk.ops.distinct import DistinctKeys
from icechunk.ops.garbage.tell import Tell
from icechunk.ops.id_sets import Ids, SortedIds
from icechunk.ops.scan import ScanLimits, read_manifests

__all__ = ["chunks_of", "ids_of", "manifests_of"]


def manifests_of(
    assets: AssetManager,
    workers: Workers,
    snapshots: Ids,
    limits: ScanLimits,
    tell: Tell,
    known: SortedIds | None = None,
) -> list[ManifestFile]:
    """List the manifests that snapshots refer to, each once, but those `known` already.

    Raises
    ------
    StorageError, FormatError
        A snapshot cannot be read: what it refers to cannot be told from garbage.
    """
    seen = DistinctKeys()
    if known is not None:
        seen.add(sortable(known.column))
    files: list[ManifestFile] = []
    found = workers.map(
        assets.snapshot_manifests,
        ids_of_column(snapshots),
        min(limits.snapshots_at_once, MAX_THREADS),
    )
    for done, manifests in enumerate(found, 1):
        listed = manifests.files
        files += [listed[row] for row in seen.add(sortable(listed.ids)).tolist()]
        unlisted = manifests.unlisted
        fresh = unlisted[seen.add(sortable(unlisted))]
        files += [ManifestFile(manifest_id, 0, 0) for manifest_id in ids_of_column(fresh)]
        tell("snapshots", done, len(snapshots))
    return files


def chunks_of(
    assets: AssetManager,
    workers: Workers,
    files: Sequence[ManifestFile],
    limits: ScanLimits,
    tell: Tell,
) -> Iterator[Ids]:
    """Yield the ids of the native chunks of each manifest, as ``(k, 12)`` columns.

    Raises
    ------
    StorageError, FormatError
        A manifest cannot be read: its chunks cannot be told from garbage.
    """
    found = read_manifests(
        workers,
        files,
        limits,
        lambda file: assets.manifest(file.id, file.size_bytes, keep=False).native_ids(),
    )
    for done, (_, ids) in enumerate(found, 1):
        yield ids
        tell("manifests", done, len(files))


def ids_of(files: Sequence[ManifestFile]) -> SortedIds:
    """Gather the ids of manifests."""
    return SortedIds.of([file.id for file in files])

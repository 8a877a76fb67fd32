"""The step of a walk through all manifests: each read once, in batches that fit the memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from icechunk.assets.workers import Workers
from icechunk.chunks import ChunkTable
from icechunk.errors import FormatError, IcechunkError, StorageError
from icechunk.format.layout import manifest_key
from icechunk.format.manifest import Manifest
from icechunk.format.manifest_files import ManifestFile
from icechunk.ops.scan import read_manifests
from icechunk.ops.verify.chunks import Owner
from icechunk.ops.verify.claims import Claims, FileClaim, FileClaims
from icechunk.ops.verify.manifests import (
    ManifestProblem,
    check_claims,
    check_record,
    decoded_tables,
)
from icechunk.ops.verify.tour import Tour
from icechunk.ops.verify.visit_chunks import ChunkVisits
from icechunk.verification import FaultKind

__all__ = ["visit_manifests"]


class _Opened(NamedTuple):
    """A manifest that was read."""

    manifest: Manifest
    size: int
    tables: dict[bytes, ChunkTable]
    problems: list[ManifestProblem]


def visit_manifests(
    tour: Tour, workers: Workers, claims: Claims, files: FileClaims, chunks: ChunkVisits
) -> None:
    """Check every manifest that snapshots refer to, and hand its references on to `chunks`."""
    records: dict[bytes, list[FileClaim]] = {}
    limits = tour.options.limits
    opened = read_manifests(
        workers, _files(files, records), limits, lambda file: _open(tour, file.id)
    )
    for file, found in opened:
        record = records.pop(file.id)
        if isinstance(found, IcechunkError):
            _unreadable(tour, claims, record, found)
        else:
            _check(tour, claims, record, found, chunks, workers)
        tour.count["manifests"] += 1
        tour.tell("manifests", tour.count["manifests"])


def _files(files: FileClaims, records: dict[bytes, list[FileClaim]]) -> Iterator[ManifestFile]:
    """Yield each manifest once; what was recorded of it goes to `records` until it is read."""
    for record in files.by_manifest():
        first = record[0]
        records[first.id] = record
        yield ManifestFile(first.id, first.size, max(first.num_refs, 0))


def _open(tour: Tour, manifest_id: bytes) -> _Opened | IcechunkError:
    try:
        manifest, size = tour.open_manifest(manifest_id)
        return _Opened(manifest, size, *decoded_tables(manifest))
    except (FormatError, StorageError) as error:
        return error


def _unreadable(
    tour: Tour, all_claims: Claims, record: Sequence[FileClaim], error: IcechunkError
) -> None:
    first = record[0]
    recorded = tour.visited[first.snapshot].recorded
    claims = all_claims.of(first.id)
    path, others = None, 0
    if claims:
        path = tour.path_of(int(claims[0].snapshots.min()), claims[0].node_id)
        others = len({claim.node_id for claim in claims}) - 1
    owner = f" of {path}" if path else ""
    more = f" and {others} other arrays" if others else ""
    lost = f": {first.num_refs} chunks are lost" if first.num_refs > 0 else ""
    tour.findings.add_error(
        error,
        manifest_key(first.id),
        missing=(FaultKind.MANIFEST_MISSING, f"the manifest{owner}{more} is not there{lost}"),
        path=path,
        snapshot_id=recorded.id,
        is_needed=recorded.is_needed,
    )


def _check(
    tour: Tour,
    all_claims: Claims,
    record: Sequence[FileClaim],
    opened: _Opened,
    chunks: ChunkVisits,
    workers: Workers,
) -> None:
    manifest = opened.manifest
    claims = all_claims.of(manifest.id)
    owners = {claim.node_id: int(claim.snapshots.min()) for claim in claims}
    tour.count["references"] += manifest.num_refs()
    for problem in (
        *opened.problems,
        *check_record(record, opened.size, manifest.num_refs()),
        *check_claims(manifest, opened.tables, claims),
    ):
        snapshot = problem.snapshot
        if snapshot is None:
            snapshot = record[0].snapshot
            if problem.node_id is not None:
                snapshot = owners.get(problem.node_id, snapshot)
        tour.fault_of_array(
            problem.kind,
            manifest.key,
            problem.message,
            snapshot,
            problem.node_id,
            severity=problem.severity,
        )
    for node_id, table in opened.tables.items():
        chunks.visit(table, Owner(manifest.id, node_id, owners.get(node_id)), workers)

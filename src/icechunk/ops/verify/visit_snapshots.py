"""The step of a walk through all snapshots of a state."""

from __future__ import annotations

from icechunk.assets.workers import MAX_THREADS, Workers
from icechunk.errors import IcechunkError
from icechunk.format.layout import snapshot_key
from icechunk.format.snapshot import Snapshot
from icechunk.format.snapshot_manifests import SnapshotManifests
from icechunk.ops.verify.claims import Claims, FileClaims
from icechunk.ops.verify.hidden import hides_nothing
from icechunk.ops.verify.history import Recorded
from icechunk.ops.verify.logs import fingerprint
from icechunk.ops.verify.snapshots import SnapshotChecks
from icechunk.ops.verify.tour import Tour, Visited
from icechunk.verification import FaultKind, FaultSeverity

__all__ = ["visit_snapshots"]


def visit_snapshots(tour: Tour, workers: Workers) -> tuple[Claims, FileClaims]:
    """Check every snapshot, and return what they claim about manifests."""
    claims, files, checks = Claims(), FileClaims(), SnapshotChecks()
    at_once = min(tour.options.limits.snapshots_at_once, MAX_THREADS)
    frontier = tour.source.first()
    total = len(frontier)
    while frontier:
        found: list[Recorded] = []
        opened = workers.map(lambda item: tour.open_snapshot(item.id), frontier, at_once)
        for recorded, snapshot in zip(frontier, opened, strict=True):
            if isinstance(snapshot, IcechunkError):
                _unreadable(tour, recorded, snapshot)
                tour.visited.append(Visited(recorded, None, 0))
            else:
                _visit(tour, checks, recorded, snapshot)
                _claim(claims, files, snapshot, len(tour.visited) - 1)
                found += tour.source.after(snapshot, recorded)
            tour.tell("snapshots", len(tour.visited), total + len(found))
        frontier = found
        total += len(found)
    tour.source.finish(tour.findings)
    claims.close()
    tour.count["snapshots"] = len(tour.visited)
    return claims, files


def _unreadable(tour: Tour, recorded: Recorded, error: IcechunkError) -> None:
    reason = f"; {recorded.reason}" if recorded.reason else ""
    tour.findings.add_error(
        error,
        snapshot_key(recorded.id),
        missing=(recorded.if_missing, f"the snapshot file is not there{reason}"),
        snapshot_id=recorded.id,
        is_needed=recorded.is_needed,
    )


def _visit(tour: Tour, checks: SnapshotChecks, recorded: Recorded, snapshot: Snapshot) -> None:
    for problem in checks.check(snapshot):
        severity, message, path = problem.severity, problem.message, problem.path
        is_overlap = problem.kind is FaultKind.EXTENTS_OVERLAP
        if path is not None and is_overlap and hides_nothing(tour, snapshot, path):
            severity, message = FaultSeverity.NOTE, f"{message}, but the same is in the first"
        tour.findings.add(
            problem.kind,
            snapshot_key(recorded.id),
            message,
            path=path,
            snapshot_id=recorded.id,
            is_needed=recorded.is_needed,
            severity=severity,
        )
    tour.source.compare(snapshot, tour.findings, recorded)
    columns = snapshot.nodes.columns
    tour.count["nodes"] += len(columns)
    tour.visited.append(Visited(recorded, fingerprint(columns.ids), snapshot.spec_version))


def _claim(claims: Claims, files: FileClaims, snapshot: Snapshot, number: int) -> None:
    claims.add(snapshot.nodes.columns, number)
    files.add(snapshot.manifest_files, number)
    unlisted = SnapshotManifests.of(snapshot).unlisted
    if len(unlisted):
        files.add_unlisted(unlisted, number)

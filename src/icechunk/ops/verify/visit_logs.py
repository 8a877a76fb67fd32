"""The step of a walk through all transaction logs, pruned ones included."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from icechunk.assets.workers import MAX_THREADS, Workers
from icechunk.errors import FormatError, IcechunkError, StorageError
from icechunk.format.damage import require_id
from icechunk.format.envelope import FileKind
from icechunk.format.layout import transaction_key
from icechunk.format.transaction_log import decode_transaction_log
from icechunk.ops.verify.logs import WORD, difference, net_change
from icechunk.ops.verify.tour import Tour, Visited
from icechunk.storage.base import ObjectNotFound
from icechunk.verification import FaultKind, FaultSeverity

__all__ = ["visit_logs"]

_MISSING: Final = (FaultKind.TRANSACTION_LOG_MISSING, "the transaction log is not there")


def visit_logs(tour: Tour, workers: Workers) -> list[bytes]:
    """Check the logs of all snapshots that were visited, and return the ids of those in use."""
    roots: dict[bytes, int] = {}
    named = []
    for visited in tour.visited:
        snapshot_id = visited.recorded.id
        history = tour.source.history(snapshot_id)
        named += [*history.pruned, snapshot_id]
        if history.parent_id is None:
            roots[snapshot_id] = visited.spec_version
    ids = list(dict.fromkeys(named))
    changes: dict[bytes, int] = {}
    at_once = min(tour.options.limits.snapshots_at_once, MAX_THREADS)
    opened = workers.map(lambda log_id: _open(tour, log_id), ids, at_once)
    for number, (log_id, change) in enumerate(zip(ids, opened, strict=True)):
        if not isinstance(change, IcechunkError):
            changes[log_id] = change
        else:
            _unreadable(tour, log_id, change, roots.get(log_id))
        tour.tell("transaction logs", number + 1, len(ids))
    tour.count["transaction_logs"] = len(changes)
    _compare(tour, changes)
    return ids


def _unreadable(tour: Tour, log_id: bytes, error: IcechunkError, root_of: int | None) -> None:
    """Record a log that cannot be had; `root_of` is the spec version of a root of the history."""
    severity = FaultSeverity.WARNING
    if root_of is not None and isinstance(error, ObjectNotFound):
        if root_of < 2:
            return  # which has none for its first snapshot
        severity = FaultSeverity.NOTE  # nobody asks what was changed before there was anything
    tour.findings.add_error(
        error,
        transaction_key(log_id),
        missing=_MISSING,
        snapshot_id=log_id,
        severity=severity,
    )


def _open(tour: Tour, snapshot_id: bytes) -> int | IcechunkError:
    """Read a log, and return by how much it changes the fingerprint of a snapshot."""
    try:
        data, key = tour.assets.file(FileKind.TRANSACTION_LOG, snapshot_id)
        log = decode_transaction_log(data, key)
        require_id(key, log.id, snapshot_id)
    except (FormatError, StorageError) as error:
        return error
    return net_change(log)


def _compare(tour: Tour, changes: Mapping[bytes, int]) -> None:
    """Hold what logs say was created and deleted against what snapshots show."""
    by_id = {visited.recorded.id: visited for visited in tour.visited}
    for visited in tour.visited:
        snapshot_id = visited.recorded.id
        history = tour.source.history(snapshot_id)
        parent = by_id.get(history.parent_id) if history.parent_id else None
        if parent is None or parent.fingerprint is None or visited.fingerprint is None:
            continue
        logs = [changes.get(log_id) for log_id in (*history.pruned, snapshot_id)]
        known = [log for log in logs if log is not None]
        shown = (visited.fingerprint - parent.fingerprint) % WORD
        if len(known) < len(logs) or sum(known) % WORD == shown:
            continue
        # Before spec 2.1 expiration left no trace of the ancestors it dropped.
        is_first = tour.source.history(parent.recorded.id).parent_id is None
        may_be_expired = is_first and not history.pruned
        if not may_be_expired or visited.spec_version > 1:
            _disagrees(tour, visited, parent, may_be_expired)


def _disagrees(tour: Tour, visited: Visited, parent: Visited, may_be_expired: bool) -> None:
    before = tour.open_snapshot(parent.recorded.id)
    after = tour.open_snapshot(visited.recorded.id)
    if isinstance(before, IcechunkError) or isinstance(after, IcechunkError):
        return
    seen = difference(before.nodes.columns.ids, after.nodes.columns.ids)
    message = f"since the parent the snapshot shows {seen}, the log says something else"
    if may_be_expired:
        message += "; an expiration that kept no record may have dropped what was in between"
    tour.findings.add(
        FaultKind.TRANSACTION_LOG_DISAGREES,
        transaction_key(visited.recorded.id),
        message,
        snapshot_id=visited.recorded.id,
        severity=FaultSeverity.NOTE if may_be_expired else None,
    )

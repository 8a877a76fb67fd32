"""Deleting garbage: the history first, then the objects, what refers to others first.

::

    found ---> history without what goes --- took effect --> snapshots, logs, manifests, chunks
      ^                   |
      |                   +--- a snapshot stays that was not looked at
      +--- spare what it needs <---+

The history is changed in one update, whose outcome is computed from the state that it replaces.
Every snapshot of that state either goes with it, or was read before, so that nothing it needs is
garbage. After the update nobody can lead to what went: a commit follows a branch, and whatever else
names a snapshot must find it in the history. So objects are deleted only then, and a collection
that stops anywhere leaves objects that nothing needs, never a history that needs what is not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Final

import numpy as np

from icechunk.errors import ConflictError, ErrorKind
from icechunk.format.ids import encode_ids
from icechunk.format.layout import CHUNKS, MANIFESTS, SNAPSHOTS, TRANSACTIONS
from icechunk.format.ops_log import GCRan, UpdateKind
from icechunk.format.repo_info import RepoInfo
from icechunk.ops.garbage.delete import DeleteLimits, Deleter
from icechunk.ops.garbage.find import FOLDERS, Garbage, spare
from icechunk.ops.garbage.kept import rows_to_keep, state_with
from icechunk.ops.garbage.objects import GarbageObjects
from icechunk.ops.garbage.rule import Limits
from icechunk.ops.garbage.source import WHAT, Stays, stays_of
from icechunk.ops.garbage.source_v1 import RefsSource
from icechunk.ops.garbage.summary import GCSummary
from icechunk.ops.garbage.tell import Tell
from icechunk.ops.id_sets import Ids, SortedIds
from icechunk.repo.context import RepoContext
from icechunk.repo.entry_v1 import EntryPointV1
from icechunk.repo.preconditions import Precondition
from icechunk.storage.base import ObjectNotFound

__all__ = ["delete_garbage", "summary_of"]

PATIENCE_SECONDS: Final = 20.0
"""How long to stand in line with commits for a turn; then it is tried out of turn."""
MAX_ROUNDS: Final = 1000
MAX_LOOKS: Final = 10

_PHASES: Final = {
    TRANSACTIONS: "transaction_logs",
    MANIFESTS: "manifests",
    CHUNKS: "chunks",
}


class _NotLookedAt(Exception):  # noqa: N818  (not an error: it is looked at then)
    """A snapshot stays that is not known to need nothing of the garbage."""

    def __init__(self, snapshots: Ids) -> None:
        super().__init__(encode_ids(snapshots))
        self.snapshots = snapshots


@dataclass(frozen=True, slots=True)
class DropSnapshots:
    """Take snapshots out of the history, but those that something leads to by now."""

    dropped: SortedIds
    looked_at: SortedIds
    """Those that may stay."""

    @property
    def preconditions(self) -> Sequence[Precondition]:
        """None but those of every change: what may not go any more stays."""
        return ()

    def edit(self, info: RepoInfo) -> RepoInfo:
        """Drop them, and have others inherit their logs; raises for a snapshot to look at."""
        ids = info.snapshots.ids
        keeps = rows_to_keep(info, ~self.dropped.has(ids))
        is_new = keeps & ~self.looked_at.has(ids)
        if is_new.any():
            raise _NotLookedAt(ids[is_new])
        return state_with(info, keeps)

    def log_entry(self, info: RepoInfo) -> UpdateKind:
        """Record that garbage was collected, also when there was none."""
        return GCRan()


def delete_garbage(
    context: RepoContext,
    garbage: Garbage,
    limits: Limits,
    deletes: DeleteLimits,
    tell: Tell,
) -> GCSummary:
    """Delete what was found, but what came to be needed meanwhile.

    Raises
    ------
    ReadOnlyError, ConflictError
        The history could not be changed; nothing was deleted.
    StorageError
        The same, or kind ``gc-deletes-failing``: too many deletions failed in a row.
    """
    stays, garbage = _settle(context, garbage, limits, tell)
    objects = {
        **garbage.objects,
        SNAPSHOTS: _but(garbage.objects[SNAPSHOTS], stays.snapshots),
        TRANSACTIONS: _but(garbage.objects[TRANSACTIONS], stays.logs),
    }
    return _delete(context, replace(garbage, objects=objects), deletes, tell)


def _settle(
    context: RepoContext, garbage: Garbage, limits: Limits, tell: Tell
) -> tuple[Stays, Garbage]:
    """See to it that nothing can need the garbage; return what stays, and what is garbage still."""
    if isinstance(context.entry, EntryPointV1):
        return _look_again(context, RefsSource(context, context.entry), garbage, limits, tell)
    info, garbage = _drop_snapshots(context, garbage, limits, tell)
    return stays_of(info, np.ones(len(info.snapshots), np.bool_)), garbage


def _look_again(
    context: RepoContext, source: RefsSource, garbage: Garbage, limits: Limits, tell: Tell
) -> tuple[Stays, Garbage]:
    """Take what refs lead to by now out of the garbage.

    Spec version 1 has no history to change first. Whoever points a ref to a snapshot that is being
    deleted loses it; the moment for that is as short as can be.
    """
    for _ in range(MAX_LOOKS):
        stays = source.look(garbage.rule)
        new = stays.snapshots.column[~garbage.kept_snapshots.has(stays.snapshots.column)]
        if not len(new):
            break
        garbage = spare(context.assets, garbage, new, limits, tell)
    return stays, garbage


def _drop_snapshots(
    context: RepoContext, garbage: Garbage, limits: Limits, tell: Tell
) -> tuple[RepoInfo, Garbage]:
    """Change the history, and return it with what is garbage after that."""
    dropped = SortedIds.of([entry.id for entry in garbage.stays.dropped])
    with context.storage.turn(PATIENCE_SECONDS):
        for _ in range(MAX_ROUNDS):
            try:
                change = DropSnapshots(dropped, garbage.kept_snapshots)
                return context.update_info(change, WHAT), garbage
            except _NotLookedAt as found:
                new = found.snapshots
            try:
                garbage = spare(context.assets, garbage, new, limits, tell)
            except ObjectNotFound:
                # Who collects garbage, too, may have dropped it again.
                if (context.info(WHAT).snapshots.locate(new) >= 0).all():
                    raise
    raise ConflictError(
        message=f"garbage cannot be collected: others have committed {MAX_ROUNDS} times while it"
        " was looked at what they need: try again later",
        kind=ErrorKind.UPDATE_ATTEMPTS_EXHAUSTED,
    )


def _but(objects: GarbageObjects, kept: SortedIds) -> GarbageObjects:
    return objects.keep(~kept.has(objects.id_bytes))


def _delete(context: RepoContext, garbage: Garbage, deletes: DeleteLimits, tell: Tell) -> GCSummary:
    """Delete kind after kind, until something of one cannot be deleted."""
    deleter = Deleter(context.storage, deletes, context.world)
    total = sum(map(len, garbage.objects.values())) + len(garbage.backups)
    begun = 0
    deleted = dict.fromkeys(FOLDERS, 0)
    num_bytes = failed = num_backups = 0
    skipped: list[str] = []

    def done(count: int) -> None:
        tell("deleting", begun + count, total)

    for folder, found in garbage.objects.items():
        if failed:
            skipped.append(_PHASES[folder])
            continue
        gone = deleter.delete(len(found), found.keys_of, done)
        begun += len(found)
        deleted[folder] = int(gone.sum())
        num_bytes += found.keep(gone).num_bytes
        failed = len(found) - deleted[folder]
    backups = garbage.backups
    if backups and failed:
        skipped.append("backups")
    elif backups:
        keys = [info.key for info in backups]
        gone = deleter.delete(len(keys), lambda a, b: keys[a:b], done, in_order=True)
        num_backups = int(gone.sum())
        num_bytes += sum(info.size for info in compress(backups, gone.tolist()))
        failed = len(keys) - num_backups
    return replace(
        _counted(deleted, num_bytes, num_backups),
        objects_failed_to_delete=failed,
        throttled_batches=deleter.throttled_batches,
        delete_errors=deleter.messages,
        skipped_phases=skipped,
    )


def summary_of(objects: Iterable[GarbageObjects], num_backups: int, backup_bytes: int) -> GCSummary:
    """Say what deleting all of it would amount to."""
    found = {item.folder: item for item in objects}
    return _counted(
        {folder: len(found[folder]) for folder in FOLDERS},
        sum(item.num_bytes for item in found.values()) + backup_bytes,
        num_backups,
    )


def _counted(deleted: Mapping[str, int], num_bytes: int, num_backups: int) -> GCSummary:
    return GCSummary(
        bytes_deleted=num_bytes,
        chunks_deleted=deleted[CHUNKS],
        manifests_deleted=deleted[MANIFESTS],
        snapshots_deleted=deleted[SNAPSHOTS],
        transaction_logs_deleted=deleted[TRANSACTIONS],
        backups_deleted=num_backups,
    )

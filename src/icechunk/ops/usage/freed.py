"""What an expiration would leave to garbage collection, told beforehand from its plan."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from icechunk.assets.manager import AssetManager
from icechunk.format.ids import OBJECT_ID_SIZE, decode_id, encode_ids, ids_of_column
from icechunk.format.layout import SNAPSHOTS, TRANSACTIONS
from icechunk.format.snapshot_table import SnapshotTable
from icechunk.ops.expiration_plan import ExpirationPlan
from icechunk.ops.garbage.kept import logs_of
from icechunk.ops.id_sets import SortedIds
from icechunk.ops.reachable import reachable_rows
from icechunk.ops.scan import ScanLimits
from icechunk.ops.usage.by import difference
from icechunk.repo.state import RepoState
from icechunk.stats import FreedStorage
from icechunk.storage.base import Storage

__all__ = ["freed_by"]


def freed_by(
    assets: AssetManager, state: RepoState, plan: ExpirationPlan, limits: ScanLimits
) -> FreedStorage:
    """Tell what branches and tags lead to now, and would not once a plan was carried out.

    What they do not lead to now is garbage already, and not told.

    Raises
    ------
    StorageError, FormatError
        A snapshot or manifest cannot be read.
    """
    tips = {*state.branches.values(), *state.tags.values()}
    stay = {
        tip
        for refs, gone in ((state.branches, plan.branches), (state.tags, plan.tags))
        for name, tip in refs.items()
        if name not in gone
    }
    before = state.snapshots.table_of(tips)
    after = _as_planned(before, plan)
    was, remains = reachable_rows(before, tips), reachable_rows(after, stay)
    goes, stays = before.ids[was & ~remains], before.ids[remains]
    logs = _logs(before, was).column
    logs = logs[~_logs(after, remains).has(logs)]
    _, snapshot_bytes = _stored(assets.storage, SNAPSHOTS, SortedIds.of(goes))
    log_count, log_bytes = _stored(assets.storage, TRANSACTIONS, SortedIds.of(logs))
    return FreedStorage(
        older_than=plan.older_than,
        snapshots=tuple(encode_ids(goes)),
        snapshot_bytes=snapshot_bytes,
        transaction_logs=log_count,
        transaction_log_bytes=log_bytes,
        arrays=difference(assets, state, ids_of_column(goes), ids_of_column(stays), limits),
    )


def _as_planned(table: SnapshotTable, plan: ExpirationPlan) -> SnapshotTable:
    """Give snapshots the parents that a plan says, as far as the table has them."""
    edits: dict[bytes, tuple[bytes | None, tuple[bytes, ...]]] = {}
    for item in plan.reparented:
        own, parent = _id(item.id), _id(item.new_parent_id)
        if own in table and parent in table:
            edits[own] = parent, tuple(map(_id, item.inherited_logs))
    return table.reparent(edits)


def _logs(table: SnapshotTable, stays: npt.NDArray[np.bool_]) -> SortedIds:
    """Return the transaction logs that some snapshots need, among whom are all their ancestors."""
    return logs_of(table.revise(stays, table.parents, {}))


def _stored(storage: Storage, folder: str, ids: SortedIds) -> tuple[int, int]:
    """List some objects of a folder: how many there are, and their bytes."""
    count = size = 0
    if len(ids):
        for batch in storage.list_where(folder, lambda names: ids.has_named(names).tolist()):
            count += len(batch)
            size += sum(info.size for info in batch)
    return count, size


def _id(text: str) -> bytes:
    return decode_id(text, OBJECT_ID_SIZE)

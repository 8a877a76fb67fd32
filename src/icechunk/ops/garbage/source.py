"""Where a collection begins: the history, and what of it stays."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from icechunk.format.layout import SNAPSHOTS
from icechunk.format.repo_info import RepoInfo
from icechunk.format.snapshot_table import SnapshotEntry
from icechunk.ops.garbage.kept import Mask, logs_of, rows_to_keep, state_with
from icechunk.ops.garbage.listing import is_young
from icechunk.ops.garbage.rule import Rule
from icechunk.ops.garbage.version_1 import needed_beside
from icechunk.ops.id_sets import SortedIds
from icechunk.repo.context import RepoContext
from icechunk.storage.base import Storage

__all__ = ["WHAT", "Source", "StateSource", "Stays", "stays_of"]

WHAT = "garbage collection"


class Stays(NamedTuple):
    """What of a history stays, and what goes."""

    snapshots: SortedIds
    logs: SortedIds
    """Transaction logs that these need."""
    dropped: tuple[SnapshotEntry, ...]
    """What leaves the history, oldest first."""
    made_from_us: int | None
    """Time of the last update of the history, microseconds; None where nothing tells it."""


class Source(Protocol):
    """The history of a repository as it is stored."""

    def look(self, rule: Rule) -> Stays:
        """Look at it as it is now."""
        ...

    def has_lost_some(self) -> bool:
        """Whether somebody has collected garbage since the last look."""
        ...


class StateSource:
    """The history of a repository of spec version 2: all of it is in its state."""

    def __init__(self, context: RepoContext) -> None:
        self._context = context
        self._info: RepoInfo | None = None

    def look(self, rule: Rule) -> Stays:
        """Look at the state stored now, and at what version 1 may have gone on to beside it."""
        self._info = info = self._context.info(WHAT)
        keeps = rows_to_keep(info, _young_rows(self._context.storage, info, rule))
        stays = stays_of(info, keeps)
        others = SortedIds.of(needed_beside(self._context, info))
        return stays._replace(snapshots=stays.snapshots | others, logs=stays.logs | others)

    def has_lost_some(self) -> bool:
        """Whether the state knows fewer snapshots by now."""
        assert self._info is not None
        now = self._context.info(WHAT).snapshots
        return bool((now.locate(self._info.snapshots.ids) < 0).any())


def stays_of(info: RepoInfo, keeps: Mask) -> Stays:
    """Say what stays of a state, given which rows of its table do."""
    table = info.snapshots
    rows = np.flatnonzero(~keeps)
    rows = rows[np.argsort(table.flushed_at[rows], kind="stable")]
    return Stays(
        SortedIds.of(table.ids[keeps]),
        logs_of(state_with(info, keeps).snapshots),
        tuple(map(table.entry, rows.tolist())),
        info.updates[0].updated_at if len(info.updates) else None,
    )


def _young_rows(storage: Storage, info: RepoInfo, rule: Rule) -> Mask:
    """Tell which snapshots stay for their age, or as nobody has agreed to their going."""
    table = info.snapshots
    stays = np.zeros(len(table), np.bool_)
    rows = np.flatnonzero(~rows_to_keep(info, stays))
    stays[rows] = is_young(storage, SNAPSHOTS, table.ids[rows], rule.older_than_us)
    if rule.bounds is not None:
        stays |= ~rule.bounds.dropped.has(table.ids)
    return stays

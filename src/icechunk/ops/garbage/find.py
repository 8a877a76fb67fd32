"""Finding garbage: the state, what it leads to, and the rest of what is stored.

The state is taken first and folders are listed after it, so whoever commits meanwhile only adds
what is too young to go. What becomes reachable meanwhile without being young is found when the
history is changed, see `run`. Who else collects garbage meanwhile removes what the state still
names: then it is looked for once more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from icechunk.assets.manager import AssetManager
from icechunk.assets.workers import Workers
from icechunk.format.layout import CHUNKS, MANIFESTS, SNAPSHOTS, TRANSACTIONS
from icechunk.format.repo_info import RepoInfo
from icechunk.ops.garbage.kept import logs_of, rows_to_keep, state_with
from icechunk.ops.garbage.listing import Unused, is_young, old_backups, unused
from icechunk.ops.garbage.objects import GarbageObjects
from icechunk.ops.garbage.reach import chunks_of, ids_of, manifests_of
from icechunk.ops.garbage.rule import Limits, Rule
from icechunk.ops.garbage.tell import Tell
from icechunk.ops.id_sets import END, GrowingIds, Ids, SortedIds
from icechunk.storage.base import ObjectInfo, ObjectNotFound, Storage

__all__ = ["FOLDERS", "Garbage", "find_garbage", "spare"]

#: In the order of deletion: what refers to others first.
FOLDERS: Final = (SNAPSHOTS, TRANSACTIONS, MANIFESTS, CHUNKS)
#: How often it is looked for at most while others collect garbage.
MAX_WALKS: Final = 3


@dataclass(frozen=True, slots=True, eq=False)
class Garbage:
    """What was found in one state of a repository, and what was known of the rest."""

    rule: Rule
    state: RepoInfo
    dropped: SortedIds
    """Snapshots to leave the history."""
    objects: dict[str, GarbageObjects]
    """By folder, in the order of deletion."""
    backups: tuple[ObjectInfo, ...]
    """Former states, oldest first."""
    young: int
    """Objects that nothing needs and that are too young."""
    young_bytes: int
    kept_snapshots: SortedIds
    """Snapshots whose objects are among none of those above."""
    kept_manifests: SortedIds
    """The same of manifests."""

    @property
    def state_us(self) -> int:
        """Time of the last update of the state, microseconds; 0 for a state without a log."""
        return self.state.updates[0].updated_at if len(self.state.updates) else 0


def find_garbage(
    assets: AssetManager, load: Callable[[], RepoInfo], rule: Rule, limits: Limits, tell: Tell
) -> Garbage:
    """Find what may be deleted. Writes nothing.

    Parameters
    ----------
    assets
        Over the storage.
    load
        Returns the state stored now.
    rule
        What is garbage.
    limits
        What that may take.
    tell
        Told how far it has come.

    Raises
    ------
    StorageError, FormatError
        Something that is needed cannot be read; then garbage cannot be told from what it needs.
    """
    for walk in range(MAX_WALKS):
        info = load()
        try:
            return _find(assets, info, rule, limits, tell)
        except ObjectNotFound as error:
            now = load().snapshots
            if walk + 1 == MAX_WALKS or (now.locate(info.snapshots.ids) >= 0).all():
                error.add_note("while looking for what must be kept; `verify` tells more")
                raise
    raise AssertionError("unreachable")


def _find(assets: AssetManager, info: RepoInfo, rule: Rule, limits: Limits, tell: Tell) -> Garbage:
    storage, table = assets.storage, info.snapshots
    keeps = rows_to_keep(info, _young_rows(storage, info, rule))
    snapshots = SortedIds.of(table.ids[keeps])
    dropped = SortedIds.of(table.ids[~keeps])
    logs = logs_of(state_with(info, keeps).snapshots)
    found = {folder: Unused(folder) for folder in FOLDERS}
    listed = 0

    def collect(folder: str, kept: SortedIds, covers: Callable[[Ids], _Mask] = _everything) -> None:
        nonlocal listed
        before = listed

        def seen(count: int) -> None:
            nonlocal listed
            listed = before + count
            tell("listing", listed)

        unused(storage, kept, rule, found[folder], covers, seen)

    with Workers(storage.is_local, "icechunk-garbage") as workers:
        files = manifests_of(assets, workers, table.ids[keeps], limits.scan, tell)
        manifests = ids_of(files)
        begin = 0
        while begin < END:
            chunks = GrowingIds(limits.max_ids, begin)
            for ids in chunks_of(assets, workers, files, limits.scan, tell):
                chunks.add(ids)
            collect(CHUNKS, chunks.sorted(), chunks.covers)
            begin = chunks.end
    collect(MANIFESTS, manifests)
    collect(TRANSACTIONS, logs)
    collect(SNAPSHOTS, snapshots)
    return Garbage(
        rule,
        info,
        dropped,
        {folder: found[folder].objects() for folder in FOLDERS},
        tuple(old_backups(storage, rule)),
        sum(item.young for item in found.values()),
        sum(item.young_bytes for item in found.values()),
        snapshots,
        manifests,
    )


_Mask = np.ndarray[tuple[int], np.dtype[np.bool_]]


def _everything(ids: Ids) -> _Mask:
    return np.ones(len(ids), np.bool_)


def _young_rows(storage: Storage, info: RepoInfo, rule: Rule) -> _Mask:
    """Tell which snapshots stay for their age, or as nobody has agreed to their going."""
    table = info.snapshots
    stays = np.zeros(len(table), np.bool_)
    rows = np.flatnonzero(~rows_to_keep(info, stays))
    stays[rows] = is_young(storage, SNAPSHOTS, table.ids[rows], rule.older_than_us)
    if rule.bounds is not None:
        stays |= ~rule.bounds.dropped.has(table.ids)
    return stays


def spare(
    assets: AssetManager, garbage: Garbage, snapshots: Ids, limits: Limits, tell: Tell
) -> Garbage:
    """Return the garbage without what these snapshots need, which came to stay meanwhile.

    Raises as `find_garbage` does.
    """
    with Workers(assets.storage.is_local, "icechunk-garbage") as workers:
        files = manifests_of(assets, workers, snapshots, limits.scan, tell, garbage.kept_manifests)
        manifests = ids_of(files)
        objects = dict(garbage.objects)
        objects[MANIFESTS] = _without(objects[MANIFESTS], manifests.column)
        chunks = SortedIds.of(objects[CHUNKS].id_bytes)
        is_needed = np.zeros(len(chunks), np.bool_)
        for ids in chunks_of(assets, workers, files, limits.scan, tell):
            rows = chunks.locate(ids)
            is_needed[rows[rows >= 0]] = True
        objects[CHUNKS] = objects[CHUNKS].keep(~is_needed)
    return replace(
        garbage,
        objects=objects,
        dropped=SortedIds.of(
            garbage.dropped.column[~SortedIds.of(snapshots).has(garbage.dropped.column)]
        ),
        kept_snapshots=garbage.kept_snapshots | SortedIds.of(snapshots),
        kept_manifests=garbage.kept_manifests | manifests,
    )


def _without(objects: GarbageObjects, ids: Ids) -> GarbageObjects:
    return objects.keep(~SortedIds.of(ids).has(objects.id_bytes))

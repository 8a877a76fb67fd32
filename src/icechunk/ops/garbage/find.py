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
from icechunk.errors import SnapshotNotFoundError
from icechunk.format.layout import CHUNKS, MANIFESTS, SNAPSHOTS, TRANSACTIONS
from icechunk.ops.garbage.kept import Mask
from icechunk.ops.garbage.listing import Unused, old_backups, unused
from icechunk.ops.garbage.objects import GarbageObjects
from icechunk.ops.garbage.reach import chunks_of, ids_of, manifests_of
from icechunk.ops.garbage.rule import Limits, Rule
from icechunk.ops.garbage.source import Source, Stays
from icechunk.ops.garbage.tell import Tell
from icechunk.ops.id_sets import END, GrowingIds, Ids, SortedIds
from icechunk.storage.base import ObjectInfo, ObjectNotFound

__all__ = ["FOLDERS", "Garbage", "find_garbage", "spare"]

#: In the order of deletion: what refers to others first.
FOLDERS: Final = (SNAPSHOTS, TRANSACTIONS, MANIFESTS, CHUNKS)
#: How often it is looked for at most while others collect garbage.
MAX_WALKS: Final = 3


@dataclass(frozen=True, slots=True, eq=False)
class Garbage:
    """What was found, and what was known of the rest."""

    rule: Rule
    stays: Stays
    """The history as it was when it was looked for."""
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


def find_garbage(
    assets: AssetManager, source: Source, rule: Rule, limits: Limits, tell: Tell
) -> Garbage:
    """Find what may be deleted. Writes nothing.

    Parameters
    ----------
    assets
        Over the storage.
    source
        Where the history is.
    rule
        What is garbage.
    limits
        What that may take.
    tell
        Told how far it has come.

    Raises
    ------
    StorageError, FormatError, SnapshotNotFoundError
        Something that is needed cannot be read; then garbage cannot be told from what it needs.
    """
    for walk in range(MAX_WALKS):
        try:
            return _find(assets, source.look(rule), rule, limits, tell)
        except (ObjectNotFound, SnapshotNotFoundError) as error:
            if walk + 1 == MAX_WALKS or not source.has_lost_some():
                error.add_note("while looking for what must be kept; `verify` tells more")
                raise
    raise AssertionError("unreachable")


def _find(assets: AssetManager, stays: Stays, rule: Rule, limits: Limits, tell: Tell) -> Garbage:
    storage = assets.storage
    found = {folder: Unused(folder) for folder in FOLDERS}
    listed = 0

    def collect(folder: str, kept: SortedIds, covers: Callable[[Ids], Mask] = _everything) -> None:
        nonlocal listed
        before = listed

        def seen(count: int) -> None:
            nonlocal listed
            listed = before + count
            tell("listing", listed)

        unused(storage, kept, rule, found[folder], covers, seen, limits.listings)

    with Workers(storage.is_local, "icechunk-garbage") as workers:
        files = manifests_of(assets, workers, stays.snapshots.column, limits.scan, tell)
        manifests = ids_of(files)
        begin = 0
        while begin < END:
            chunks = GrowingIds(limits.max_ids, begin)
            for ids in chunks_of(assets, workers, files, limits.scan, tell):
                chunks.add(ids)
            collect(CHUNKS, chunks.sorted(), chunks.covers)
            begin = chunks.end
    collect(MANIFESTS, manifests)
    collect(TRANSACTIONS, stays.logs)
    collect(SNAPSHOTS, stays.snapshots)
    return Garbage(
        rule,
        stays,
        {folder: found[folder].objects() for folder in FOLDERS},
        tuple(old_backups(storage, rule)),
        sum(item.young for item in found.values()),
        sum(item.young_bytes for item in found.values()),
        stays.snapshots,
        manifests,
    )


def _everything(ids: Ids) -> Mask:
    return np.ones(len(ids), np.bool_)


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
        kept_snapshots=garbage.kept_snapshots | SortedIds.of(snapshots),
        kept_manifests=garbage.kept_manifests | manifests,
    )


def _without(objects: GarbageObjects, ids: Ids) -> GarbageObjects:
    return objects.keep(~SortedIds.of(ids).has(objects.id_bytes))

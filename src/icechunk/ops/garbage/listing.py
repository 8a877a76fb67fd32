"""What is stored and not kept: listings, held against sorted ids by the batch.

Object stores tell times that are cut to whole seconds, some of them: what was stored half a second
after the time given seems to have been stored half a second before it. So there all must be a
second older than that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from icechunk.format.ids import OBJECT_ID_SIZE, decode_ids
from icechunk.format.layout import OVERWRITTEN, backup_time_us
from icechunk.ops.garbage.objects import GarbageObjects
from icechunk.ops.garbage.rule import Rule
from icechunk.ops.id_sets import Ids, SortedIds, no_ids
from icechunk.storage.base import ObjectInfo, Storage

__all__ = ["Unused", "is_young", "old_backups", "unused", "young_ids"]

Mask = npt.NDArray[np.bool_]

#: How much younger an object of an object store may be than its time says, microseconds.
CUT_OFF_US: Final = 1_000_000


class Unused:
    """Objects that nothing needs: those old enough to go, and how many are not."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.young = 0
        self.young_bytes = 0
        self._parts: list[GarbageObjects] = []

    def add(self, batch: Sequence[ObjectInfo], deadline_us: int) -> None:
        """Add what was listed and is not kept."""
        found = _columns(self.folder, batch)
        is_old = found.modified_us < deadline_us
        self._parts.append(found.keep(is_old))
        self.young += int((~is_old).sum())
        self.young_bytes += found.keep(~is_old).num_bytes

    def objects(self) -> GarbageObjects:
        """Return those to go, sorted."""
        return GarbageObjects.joined(self.folder, self._parts)


def unused(
    storage: Storage,
    kept: SortedIds,
    rule: Rule,
    into: Unused,
    covers: Callable[[Ids], Mask],
    seen: Callable[[int], object],
    at_once: int,
) -> None:
    """List a folder, and add what is not kept.

    Parameters
    ----------
    storage
        Where to look.
    kept
        Ids of the objects to keep.
    rule
        How old they must be, and which may go at all.
    into
        Where to add what was found; names the folder.
    covers
        Which ids `kept` has all of.
    seen
        Told from time to time how many objects have been listed.
    at_once
        Listings at once.
    """
    bounds = None if rule.bounds is None else rule.bounds.objects[into.folder]
    count = 0

    def is_wanted(names: Sequence[str]) -> list[bool]:
        nonlocal count
        ids, is_id = decode_ids(names, OBJECT_ID_SIZE)
        wanted = is_id & covers(ids) & ~kept.has(ids)
        if bounds is not None:
            wanted &= bounds.has(ids)
        count += len(names)
        seen(count)
        found: list[bool] = wanted.tolist()
        return found

    deadline_us = _deadline(storage, rule.older_than_us)
    for batch in storage.list_where(into.folder, is_wanted, at_once):
        into.add(batch, deadline_us)


def is_young(storage: Storage, folder: str, ids: Ids, older_than_us: int) -> Mask:
    """Tell which of some objects are not older than that, or are not there."""
    old = np.zeros(len(ids), np.bool_)
    if not len(ids):
        return ~old
    asked = SortedIds.of(ids)
    deadline_us = _deadline(storage, older_than_us)

    for batch in storage.list_where(folder, lambda names: asked.has_named(names).tolist()):
        found = _columns(folder, batch)
        found = found.keep(found.modified_us < deadline_us)
        old |= SortedIds.of(found.id_bytes).has(ids)
    return ~old


def young_ids(storage: Storage, folder: str, older_than_us: int) -> Ids:
    """Return the ids of all objects of a folder that are not older than that."""

    def is_wanted(names: Sequence[str]) -> list[bool]:
        found: list[bool] = decode_ids(names, OBJECT_ID_SIZE)[1].tolist()
        return found

    deadline_us = _deadline(storage, older_than_us)
    parts = [no_ids()]
    for batch in storage.list_where(folder, is_wanted):
        found = _columns(folder, batch)
        parts.append(found.id_bytes[found.modified_us >= deadline_us])
    return np.concatenate(parts)


def old_backups(storage: Storage, rule: Rule) -> list[ObjectInfo]:
    """List the former states that are too old, oldest first.

    A log is continued in them, so only the oldest ones of a source go: none that is older than one
    that stays. Old are those whose name and whose object both say so.
    """
    if rule.backups_older_than_us is None:
        return []
    by_source: dict[str, list[tuple[int, ObjectInfo]]] = {}
    for info in storage.list(OVERWRITTEN + "/"):
        name = info.key[len(OVERWRITTEN) + 1 :]
        made_us = backup_time_us(name)
        if made_us is not None:
            by_source.setdefault(name.rsplit(".", 2)[0], []).append((made_us, info))
    found: list[ObjectInfo] = []
    for backups in by_source.values():
        for made_us, info in sorted(backups, key=lambda item: (item[0], item[1].key)):
            if max(made_us, info.last_modified_us) >= rule.backups_older_than_us:
                break
            found.append(info)
    if rule.bounds is None:
        return found
    return [info for info in found if info.key[len(OVERWRITTEN) + 1 :] in rule.bounds.backups]


def _deadline(storage: Storage, older_than_us: int) -> int:
    """Time before which an object must seem to be stored, to be sure that it was."""
    return older_than_us if storage.is_local else older_than_us - CUT_OFF_US


def _columns(folder: str, batch: Sequence[ObjectInfo]) -> GarbageObjects:
    ids, _ = decode_ids([info.key[len(folder) + 1 :] for info in batch], OBJECT_ID_SIZE)
    sizes = np.array([info.size for info in batch], np.uint64)
    times = np.array([info.last_modified_us for info in batch], np.int64)
    return GarbageObjects(folder, ids, sizes, times)

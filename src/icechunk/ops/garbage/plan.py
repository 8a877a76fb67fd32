"""What a garbage collection would delete, as a value to print, keep as JSON, and run later.

A plan is made from one state of a repository and one look at what is stored, and names all that
goes. Whoever runs it later agrees to that and to nothing more: garbage is looked for again, within
these bounds. So a plan may come from anywhere and be of any age; it deletes nothing that is needed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Self

import numpy as np

from icechunk._display import Block, Shown, datetime_text, some_of
from icechunk.format.ids import OBJECT_ID_SIZE, decode_ids, encode_id
from icechunk.format.layout import CHUNKS, MANIFESTS, OVERWRITTEN, SNAPSHOTS, TRANSACTIONS
from icechunk.ops.garbage.find import Garbage
from icechunk.ops.garbage.objects import GarbageObjects
from icechunk.ops.garbage.rule import Bounds, Rule
from icechunk.ops.garbage.run import summary_of
from icechunk.ops.garbage.summary import GCSummary
from icechunk.ops.id_sets import SortedIds
from icechunk.ops.plan_parts import (
    checked,
    id_text,
    named_ids,
    optional_time,
    plan_from_json,
    plan_to_json,
    time,
)
from icechunk.repo.times import from_datetime, to_datetime

__all__ = ["DroppedSnapshot", "GarbagePlan", "OldBackup", "plan_of", "rule_of"]

FORMAT: Final = "icechunk garbage plan"
VERSION: Final = 1

_FOLDERS: Final = {
    "snapshots": SNAPSHOTS,
    "transaction_logs": TRANSACTIONS,
    "manifests": MANIFESTS,
    "chunks": CHUNKS,
}


@dataclass(frozen=True, slots=True)
class DroppedSnapshot:
    """A snapshot that no branch or tag leads to, and that leaves the history."""

    id: str
    written_at: datetime
    message: str


@dataclass(frozen=True, slots=True)
class OldBackup:
    """A former state of the repository."""

    name: str
    size_bytes: int
    stored_at: datetime


@dataclass(frozen=True, slots=True, repr=False)
class GarbagePlan(Shown):
    """What a garbage collection deletes; made by `Repository.plan_garbage_collection`.

    Objects come as `GarbageObjects`: columns of ids, sizes and times, with ``keys`` and
    ``num_bytes``.

    Parameters
    ----------
    older_than
        Only objects stored before this go, by the clock of the store.
    made_from
        Time of the last update of the repository that the plan knows of; None in spec version 1.
    dropped
        Snapshots that no branch or tag leads to and that leave the history, oldest first. None in
        spec version 1, where files are all there is of a history.
    snapshots
        Files of snapshots that leave the history or never were in it.
    transaction_logs
        Those of such snapshots that no snapshot that stays has inherited.
    manifests
        Those that no snapshot that stays refers to.
    chunks
        Those that no manifest of a snapshot that stays refers to.
    backups_older_than
        Former states stored before this go; None for none.
    backups
        Former states that go, oldest first.
    young_objects, young_bytes
        What nothing needs either, and stays for its age: perhaps a session is about to commit it.
    """

    older_than: datetime
    made_from: datetime | None = None
    dropped: tuple[DroppedSnapshot, ...] = ()
    snapshots: GarbageObjects = field(default_factory=lambda: GarbageObjects.none(SNAPSHOTS))
    transaction_logs: GarbageObjects = field(
        default_factory=lambda: GarbageObjects.none(TRANSACTIONS)
    )
    manifests: GarbageObjects = field(default_factory=lambda: GarbageObjects.none(MANIFESTS))
    chunks: GarbageObjects = field(default_factory=lambda: GarbageObjects.none(CHUNKS))
    backups_older_than: datetime | None = None
    backups: tuple[OldBackup, ...] = ()
    young_objects: int = 0
    young_bytes: int = 0

    __hash__ = None  # type: ignore[assignment]

    @property
    def objects(self) -> tuple[GarbageObjects, ...]:
        """What goes besides backups, in the order in which it is deleted."""
        return self.snapshots, self.transaction_logs, self.manifests, self.chunks

    @property
    def num_objects(self) -> int:
        """Number of objects that go."""
        return sum(map(len, self.objects)) + len(self.backups)

    @property
    def num_bytes(self) -> int:
        """Bytes of all objects that go."""
        return self.summary().bytes_deleted

    def summary(self) -> GCSummary:
        """Return what running the plan tells when nothing comes in between."""
        return summary_of(
            self.objects,
            len(self.backups),
            sum(backup.size_bytes for backup in self.backups),
        )

    def to_json(self) -> str:
        """Write the plan as JSON, which `from_json` reads."""
        fields = {
            "older_than": self.older_than,
            "made_from": self.made_from,
            "dropped": [
                {"id": item.id, "written_at": item.written_at, "message": item.message}
                for item in self.dropped
            ],
            **{name: _to_columns(getattr(self, name)) for name in _FOLDERS},
            "backups_older_than": self.backups_older_than,
            "backups": [
                {"name": item.name, "size_bytes": item.size_bytes, "stored_at": item.stored_at}
                for item in self.backups
            ],
            "young_objects": self.young_objects,
            "young_bytes": self.young_bytes,
        }
        return plan_to_json(FORMAT, VERSION, fields)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a plan that `to_json` wrote.

        Raises
        ------
        FormatError
            Kind ``deserialization``: it is no such plan, or of another version of this library.
        """
        return plan_from_json(text, FORMAT, VERSION, lambda value: cls(**_fields(value)))

    def _block(self) -> Block:
        until = self.backups_older_than
        return Block.of(
            "icechunk.ops.GarbagePlan",
            {
                "older_than": datetime_text(self.older_than),
                "made_from": "None" if self.made_from is None else datetime_text(self.made_from),
                "dropped": some_of("snapshots that nothing leads to", self.dropped, _line),
                **{name: getattr(self, name).text() for name in _FOLDERS},
                "backups_older_than": "None" if until is None else datetime_text(until),
                "backups": len(self.backups) or "none",
                "bytes": self.num_bytes,
                "too young": f"{self.young_objects}, {self.young_bytes} bytes",
            },
        )


def plan_of(garbage: Garbage) -> GarbagePlan:
    """Put in words what was found."""
    made_from_us = garbage.stays.made_from_us
    start = len(OVERWRITTEN) + 1
    until = garbage.rule.backups_older_than_us
    return GarbagePlan(
        older_than=to_datetime(garbage.rule.older_than_us),
        made_from=None if made_from_us is None else to_datetime(made_from_us),
        dropped=tuple(
            DroppedSnapshot(encode_id(item.id), to_datetime(item.flushed_at), item.message)
            for item in garbage.stays.dropped
        ),
        **{name: garbage.objects[folder] for name, folder in _FOLDERS.items()},
        backups_older_than=None if until is None else to_datetime(until),
        backups=tuple(
            OldBackup(info.key[start:], info.size, to_datetime(info.last_modified_us))
            for info in garbage.backups
        ),
        young_objects=garbage.young,
        young_bytes=garbage.young_bytes,
    )


def rule_of(plan: GarbagePlan) -> Rule:
    """Return what is garbage when the plan is run: by the same times, and at most this.

    Raises
    ------
    InvalidInputError
        Kind ``invalid-snapshot-id``: somebody has written the plan by hand, and an id is none.
    """
    until = plan.backups_older_than
    return Rule(
        from_datetime(plan.older_than),
        None if until is None else from_datetime(until),
        Bounds(
            SortedIds.of(named_ids(item.id for item in plan.dropped)),
            {found.folder: SortedIds.of(found.id_bytes) for found in plan.objects},
            frozenset(backup.name for backup in plan.backups),
        ),
    )


def _line(item: DroppedSnapshot) -> str:
    return f"{item.id} written {item.written_at:%Y-%m-%d %H:%M:%S}, {item.message!r}"


def _to_columns(found: GarbageObjects) -> dict[str, Any]:
    return {
        "ids": found.ids,
        "sizes": found.sizes.tolist(),
        "modified_us": found.modified_us.tolist(),
    }


def _fields(value: dict[str, Any]) -> dict[str, Any]:
    """Take the fields of a plan out of its JSON."""
    return {
        "older_than": time(value.pop("older_than")),
        "made_from": optional_time(value.pop("made_from")),
        "dropped": tuple(map(_dropped, checked(value.pop("dropped"), list))),
        **{name: _of_columns(folder, value.pop(name)) for name, folder in _FOLDERS.items()},
        "backups_older_than": optional_time(value.pop("backups_older_than")),
        "backups": tuple(map(_backup, checked(value.pop("backups"), list))),
        "young_objects": checked(value.pop("young_objects"), int),
        "young_bytes": checked(value.pop("young_bytes"), int),
    }


def _dropped(value: Any) -> DroppedSnapshot:
    return DroppedSnapshot(
        id_text(value["id"]), time(value["written_at"]), checked(value["message"], str)
    )


def _backup(value: Any) -> OldBackup:
    return OldBackup(
        checked(value["name"], str), checked(value["size_bytes"], int), time(value["stored_at"])
    )


def _of_columns(folder: str, value: Any) -> GarbageObjects:
    texts = [checked(text, str) for text in checked(value["ids"], list)]
    ids, is_id = decode_ids(texts, OBJECT_ID_SIZE)
    if not is_id.all():
        raise ValueError(f"{texts[int(np.argmin(is_id))]!r} is no id")
    sizes, times = (
        [checked(number, int) for number in checked(value[name], list)]
        for name in ("sizes", "modified_us")
    )
    if not len(sizes) == len(times) == len(texts):
        raise ValueError(f"columns of {folder} differ in length")
    try:
        return GarbageObjects.of(folder, ids, np.array(sizes, np.uint64), np.array(times, np.int64))
    except OverflowError as error:
        raise ValueError(f"a number of {folder} is out of range: {error}") from error

"""The operations log as columns.

A repo info object holds up to a thousand of the newest operations, of which an update of the
repository looks at one. So the log stays columns from file to file, with one wide layout for all
kinds of operation, and makes an `UpdateEntry` for a row on access.
Icechunk spec, "Operations log".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from icechunk.chunks.ragged import RaggedBytes
from icechunk.format.ids import OBJECT_ID_SIZE, id_column
from icechunk.format.ops_log import (
    UPDATE_NUMBERS,
    UPDATE_RECORDS,
    RepoStatus,
    UnknownUpdate,
    UpdateEntry,
    UpdateKind,
)

__all__ = ["FIELD_COLUMNS", "OpsLog"]

_NO_ID = bytes(OBJECT_ID_SIZE)
_NO_STATUS = RepoStatus()

#: The column, and the place within it, that holds each field of the records but `status`.
FIELD_COLUMNS = {
    "name": ("names", None),
    "branch": ("names", None),
    "previous_snap_id": ("previous_ids", None),
    "new_snap_id": ("new_ids", None),
    "from_version": ("numbers", 0),
    "to_version": ("numbers", 1),
    "id": ("numbers", 0),
    "new_value": ("numbers", 1),
    "is_set": ("numbers", 2),
}


@dataclass(frozen=True, slots=True, eq=False)
class OpsLog(Sequence[UpdateEntry]):
    """Operations, newest first. Immutable; columns a kind of operation does not use are zero."""

    kinds: npt.NDArray[np.uint8]  # (n,) discriminants, possibly unknown ones
    updated_at: npt.NDArray[np.uint64]  # (n,) microseconds
    has_backup: npt.NDArray[np.bool_]  # (n,)
    backups: RaggedBytes  # n, UTF-8
    names: RaggedBytes  # n, UTF-8: branch or tag
    previous_ids: npt.NDArray[np.uint8]  # (n, 12)
    new_ids: npt.NDArray[np.uint8]  # (n, 12)
    numbers: npt.NDArray[np.uint16]  # (n, 3)
    availability: npt.NDArray[np.uint8]  # (n,)
    set_at: npt.NDArray[np.uint64]  # (n,)
    has_reason: npt.NDArray[np.bool_]  # (n,)
    reasons: RaggedBytes  # n, UTF-8

    @classmethod
    def from_entries(cls, entries: Iterable[UpdateEntry]) -> OpsLog:
        """Lay out entries, newest first, as columns."""
        rows = list(entries)
        kinds = [entry.kind for entry in rows]
        statuses = [getattr(kind, "status", _NO_STATUS) for kind in kinds]
        names: list[str] = [getattr(kind, "name", getattr(kind, "branch", "")) for kind in kinds]
        return cls(
            kinds=np.array([_number(kind) for kind in kinds], dtype=np.uint8),
            updated_at=np.array([entry.updated_at for entry in rows], dtype=np.uint64),
            has_backup=np.array([entry.backup_path is not None for entry in rows], dtype=bool),
            backups=RaggedBytes.from_list([(entry.backup_path or "").encode() for entry in rows]),
            names=RaggedBytes.from_list([name.encode() for name in names]),
            previous_ids=_ids([getattr(kind, "previous_snap_id", _NO_ID) for kind in kinds]),
            new_ids=_ids([getattr(kind, "new_snap_id", _NO_ID) for kind in kinds]),
            numbers=np.array([_numbers(kind) for kind in kinds], dtype=np.uint16).reshape(-1, 3),
            availability=np.array([status.availability for status in statuses], dtype=np.uint8),
            set_at=np.array([status.set_at for status in statuses], dtype=np.uint64),
            has_reason=np.array([status.reason is not None for status in statuses], dtype=bool),
            reasons=RaggedBytes.from_list([(status.reason or "").encode() for status in statuses]),
        )

    def __len__(self) -> int:
        return len(self.kinds)

    @overload
    def __getitem__(self, row: int) -> UpdateEntry: ...
    @overload
    def __getitem__(self, row: slice) -> OpsLog: ...
    def __getitem__(self, row: int | slice) -> UpdateEntry | OpsLog:
        if isinstance(row, slice):
            start, stop, step = row.indices(len(self))
            if step == 1:
                return self._slice(start, max(start, stop))
            return self._take(np.arange(len(self))[row])
        row = range(len(self))[row]
        backup = self.backups[row].decode() if self.has_backup[row] else None
        return UpdateEntry(self._kind(row), int(self.updated_at[row]), backup)

    def __iter__(self) -> Iterator[UpdateEntry]:
        return (self[row] for row in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, OpsLog | tuple | list):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def push(
        self, kind: UpdateKind, updated_at: int, head_backup: str | None, limit: int
    ) -> tuple[OpsLog, str | None]:
        """Add the newest operation, and cut off what belongs into an older file.

        Parameters
        ----------
        kind, updated_at
            The operation and its time.
        head_backup
            Name of the backup made of the repo info object that ends with the present newest
            entry; that entry gets it. None when the log is empty.
        limit
            Entries to keep in this file. An entry without a backup cannot be the first that is
            cut, since nothing would lead to it; it is kept beyond the limit.

        Returns
        -------
        tuple
            The new log, and the name of the backup where the rest continues if something was cut.
        """
        entries = [UpdateEntry(kind, updated_at)]
        if len(self):
            entries.append(replace(self[0], backup_path=head_backup))
        joined = OpsLog.from_entries(entries)._concat(self[1:])
        beyond = np.flatnonzero(joined.has_backup[limit:])
        if not len(beyond):
            return joined, None
        cut = limit + int(beyond[0])
        return joined[:cut], joined.backups[cut].decode()

    def _kind(self, row: int) -> UpdateKind:
        number = int(self.kinds[row])
        record = UPDATE_RECORDS.get(number)
        if record is None:
            return UnknownUpdate(number)
        values: dict[str, Any] = {item.name: self._value(item.name, row) for item in fields(record)}
        return record(**values)

    def _value(self, name: str, row: int) -> Any:
        if name == "status":
            reason = self.reasons[row].decode() if self.has_reason[row] else None
            return RepoStatus(int(self.availability[row]), int(self.set_at[row]), reason)
        column, place = FIELD_COLUMNS[name]
        if column == "names":
            return self.names[row].decode()
        if place is None:
            return getattr(self, column)[row].tobytes()
        number = int(self.numbers[row, place])
        return bool(number) if name in ("new_value", "is_set") else number

    def _slice(self, start: int, stop: int) -> OpsLog:
        """Return some adjacent rows without copying them."""
        taken = {}
        for item in fields(self):
            column = getattr(self, item.name)
            is_ragged = isinstance(column, RaggedBytes)
            taken[item.name] = column.slice(start, stop) if is_ragged else column[start:stop]
        return OpsLog(**taken)

    def _take(self, rows: npt.NDArray[np.intp]) -> OpsLog:
        taken = {}
        for item in fields(self):
            column = getattr(self, item.name)
            is_ragged = isinstance(column, RaggedBytes)
            taken[item.name] = column.take(rows) if is_ragged else column[rows]
        return OpsLog(**taken)

    def _concat(self, other: OpsLog) -> OpsLog:
        joined: dict[str, Any] = {}
        for item in fields(self):
            pair = [getattr(self, item.name), getattr(other, item.name)]
            is_ragged = isinstance(pair[0], RaggedBytes)
            joined[item.name] = RaggedBytes.concat(pair) if is_ragged else np.concatenate(pair)
        return OpsLog(**joined)


def _number(kind: UpdateKind) -> int:
    return kind.discriminant if isinstance(kind, UnknownUpdate) else UPDATE_NUMBERS[type(kind)]


def _numbers(kind: UpdateKind) -> list[int]:
    numbers = [0, 0, 0]
    for item in fields(kind):
        column, place = FIELD_COLUMNS.get(item.name, ("", None))
        if column == "numbers" and place is not None:
            numbers[place] = int(getattr(kind, item.name))
    return numbers


def _ids(ids: list[bytes]) -> npt.NDArray[np.uint8]:
    return id_column(ids, OBJECT_ID_SIZE)

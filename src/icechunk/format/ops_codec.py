"""The operations log of a repo info file to `OpsLog` and back, one numpy call per kind and field.

Icechunk spec, "Operations log".
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from icechunk.chunks.ragged import RaggedBytes
from icechunk.errors import ErrorKind, FormatError
from icechunk.format import schema
from icechunk.format.flatbuf import Children, Maybe, Rows, Tables, Union
from icechunk.format.ids import OBJECT_ID_SIZE
from icechunk.format.ops_log import RepoStatus
from icechunk.format.ops_table import FIELD_COLUMNS, OpsLog

__all__ = ["ops_of", "ops_to", "status_of", "status_to"]


def ops_of(updates: Rows) -> OpsLog:
    """Read the log; operations of unknown kinds keep their number and nothing else."""
    count = len(updates)
    kinds = updates.discriminant("update_type")
    if not kinds.all():
        updates.buffer.fail("Update.update_type", "an operation has no type")
    names = _Scattered(count)
    reasons = _Scattered(count)
    columns: dict[str, Any] = {
        "previous_ids": np.zeros((count, OBJECT_ID_SIZE), dtype=np.uint8),
        "new_ids": np.zeros((count, OBJECT_ID_SIZE), dtype=np.uint8),
        "numbers": np.zeros((count, 3), dtype=np.uint16),
        "availability": np.zeros(count, dtype=np.uint8),
        "set_at": np.zeros(count, dtype=np.uint64),
        "has_reason": np.zeros(count, dtype=bool),
    }
    for kind in np.unique(kinds).tolist():
        if kind not in schema.UPDATE_TYPE:
            continue
        at, payloads = updates.member("update_type", kind)
        for name in payloads.table.fields:
            if name == "status":
                status = payloads.child("status")
                columns["availability"][at] = status.scalar("availability")
                columns["set_at"][at] = status.scalar("set_at")
                columns["has_reason"][at] = status.present("limited_availability_reason")
                reasons.add(at, _texts(status, "limited_availability_reason"))
                continue
            column, place = FIELD_COLUMNS[name]
            if column == "names":
                names.add(at, _texts(payloads, name))
            elif place is None:
                columns[column][at] = payloads.struct(name)
            else:
                columns[column][at, place] = payloads.scalar(name)
    return OpsLog(
        kinds=np.array(kinds),
        updated_at=updates.scalar("updated_at"),
        has_backup=np.array(updates.present("backup_path")),
        backups=_texts(updates, "backup_path"),
        names=names.column(),
        reasons=reasons.column(),
        **columns,
    )


def ops_to(log: OpsLog) -> Children:
    """Lay out the log as the column of a repo info.

    Raises
    ------
    FormatError
        When an operation is of an unknown kind, whose content was not read and would be lost.
    """
    members = {}
    for kind in np.unique(log.kinds).tolist():
        table = schema.UPDATE_TYPE.get(kind)
        if table is None:
            raise FormatError(
                f"repo: the operations log holds an operation of the unknown kind {kind}, which "
                "would be lost; upgrade the library to change this repository",
                ErrorKind.SERIALIZATION,
            )
        at = np.flatnonzero(log.kinds == kind)
        columns = {name: _column(log, name, at) for name in table.fields}
        members[kind] = Tables(len(at), columns)
    columns = {
        "update_type": Union(log.kinds, members),
        "updated_at": log.updated_at,
        "backup_path": Maybe(log.has_backup, log.backups),
    }
    return Children([len(log)], Tables(len(log), columns))


def _column(log: OpsLog, name: str, at: npt.NDArray[np.intp]) -> Any:
    """Values of one field of the operations at some rows."""
    if name == "status":
        reasons = Maybe(log.has_reason[at], log.reasons.take(at))
        return Tables(
            len(at),
            {
                "availability": log.availability[at],
                "set_at": log.set_at[at],
                "limited_availability_reason": reasons,
            },
        )
    column, place = FIELD_COLUMNS[name]
    if column == "names":
        return log.names.take(at)
    values = getattr(log, column)[at]
    return values if place is None else values[:, place]


def status_of(rows: Rows) -> RepoStatus:
    """Read the one status of a repo info."""
    return RepoStatus(
        availability=int(rows.scalar("availability")[0]),
        set_at=int(rows.scalar("set_at")[0]),
        reason=rows.texts("limited_availability_reason")[0],
    )


def status_to(status: RepoStatus) -> Tables:
    """Lay out the one status of a repo info."""
    columns = {
        "availability": [status.availability],
        "set_at": [status.set_at],
        "limited_availability_reason": None if status.reason is None else [status.reason],
    }
    return Tables(1, columns)


class _Scattered:
    """Collects the strings of some rows at a time into a column of all rows."""

    def __init__(self, count: int) -> None:
        self._index = np.zeros(count, dtype=np.int64)  # string 0 is empty: rows never set
        self._parts = [RaggedBytes.empty(1)]
        self._total = 1

    def add(self, rows: npt.NDArray[Any], texts: RaggedBytes) -> None:
        self._index[rows] = np.arange(self._total, self._total + len(texts))
        self._total += len(texts)
        self._parts.append(texts)

    def column(self) -> RaggedBytes:
        return RaggedBytes.concat(self._parts).take(self._index)


def _texts(rows: Rows, name: str) -> RaggedBytes:
    texts = rows.byte_strings(name)
    if not texts.is_utf8():
        rows.buffer.fail(f"{rows.table.name}.{name}", "text is not UTF-8")
    return texts

"""The snapshots that a repository knows, as one table of columns sorted by id.

The repo info object lists every snapshot with its parent, time, message and metadata; history is
read from here alone. Parents are row numbers in this very table, so adding or dropping a row
renumbers the others, which `SnapshotTable` does by column. Metadata stays encoded until asked for.
Icechunk spec, "Repo info file".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from icechunk.chunks.ragged import RaggedBytes
from icechunk.errors import ErrorKind, FormatError, SnapshotNotFoundError
from icechunk.format.ids import OBJECT_ID_SIZE, encode_id, id_column, ids_of_column, sortable
from icechunk.format.rows import Int64s, counts_of, gather_rows, starts_of
from icechunk.format.values import decode_flexbuffer, encode_flexbuffer

__all__ = ["SnapshotEntry", "SnapshotTable"]

_NO_PARENT = -1


@dataclass(frozen=True, slots=True)
class SnapshotEntry:
    """What a repository records of one snapshot."""

    id: bytes
    parent_id: bytes | None
    flushed_at: int
    """Microseconds since the epoch."""
    message: str
    metadata: dict[str, Any] = field(default_factory=dict)
    pruned: tuple[bytes, ...] = ()
    """Transaction logs of dropped ancestors between this snapshot and its parent, oldest first."""


@dataclass(frozen=True, slots=True, eq=False)
class SnapshotTable:
    """Snapshots sorted by id, each once; parents are rows of the same table. Immutable."""

    ids: npt.NDArray[np.uint8]  # (n, 12)
    parents: npt.NDArray[np.int32]  # (n,) row of the parent, -1 for none
    flushed_at: npt.NDArray[np.uint64]  # (n,) microseconds
    messages: RaggedBytes  # n, UTF-8
    metadata_starts: Int64s  # (n + 1,) into the next two
    metadata_names: RaggedBytes  # items
    metadata_values: RaggedBytes  # items, FlexBuffers
    pruned_starts: Int64s  # (n + 1,) into the next
    pruned_ids: npt.NDArray[np.uint8]  # (logs, 12)

    @classmethod
    def from_entries(cls, entries: Iterable[SnapshotEntry]) -> SnapshotTable:
        """Build a table; every parent must be among the entries.

        Raises
        ------
        FormatError
            For a repeated id, or SnapshotNotFoundError for an unknown parent.
        """
        rows = sorted(entries, key=lambda entry: entry.id)
        row_of = {entry.id: row for row, entry in enumerate(rows)}
        if len(row_of) != len(rows):
            repeated = next(a.id for a, b in pairwise(rows) if a.id == b.id)
            raise _duplicate(repeated)
        items = [sorted(entry.metadata.items()) for entry in rows]
        parents = []
        for entry in rows:
            if entry.parent_id is not None and entry.parent_id not in row_of:
                raise _unknown(entry.parent_id)
            parents.append(_NO_PARENT if entry.parent_id is None else row_of[entry.parent_id])
        return cls(
            ids=id_column([entry.id for entry in rows], OBJECT_ID_SIZE),
            parents=np.array(parents, dtype=np.int32),
            flushed_at=np.array([entry.flushed_at for entry in rows], dtype=np.uint64),
            messages=RaggedBytes.from_list([entry.message.encode() for entry in rows]),
            metadata_starts=starts_of([len(group) for group in items]),
            metadata_names=RaggedBytes.from_list([k.encode() for group in items for k, _ in group]),
            metadata_values=RaggedBytes.from_list(
                [encode_flexbuffer(v) for group in items for _, v in group]
            ),
            pruned_starts=starts_of([len(entry.pruned) for entry in rows]),
            pruned_ids=id_column([log for e in rows for log in e.pruned], OBJECT_ID_SIZE),
        )

    def __len__(self) -> int:
        return len(self.parents)

    def __iter__(self) -> Iterator[SnapshotEntry]:
        return (self.entry(row) for row in range(len(self)))

    def __contains__(self, snapshot_id: object) -> bool:
        return isinstance(snapshot_id, bytes) and self.find(snapshot_id) >= 0

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SnapshotTable):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def find(self, snapshot_id: bytes) -> int:
        """Find the row of a snapshot, -1 when it is not known."""
        if len(snapshot_id) != OBJECT_ID_SIZE or not len(self):
            return -1
        row = int(np.searchsorted(sortable(self.ids), np.array(snapshot_id, dtype="S12")))
        is_here = row < len(self) and self.ids[row].tobytes() == snapshot_id
        return row if is_here else -1

    def row(self, snapshot_id: bytes) -> int:
        """Find the row of a snapshot; raises SnapshotNotFoundError when it is not known."""
        row = self.find(snapshot_id)
        if row < 0:
            raise _unknown(snapshot_id)
        return row

    def id(self, row: int) -> bytes:
        """Id of the snapshot at a row."""
        snapshot_id: bytes = self.ids[row].tobytes()
        return snapshot_id

    def time(self, row: int) -> int:
        """When the snapshot at a row was written, in microseconds since the epoch."""
        return int(self.flushed_at[row])

    def parent_id(self, row: int) -> bytes | None:
        """Id of the parent of the snapshot at a row."""
        parent = int(self.parents[row])
        return None if parent == _NO_PARENT else self.id(parent)

    def metadata(self, row: int) -> dict[str, Any]:
        """Decode the metadata of the snapshot at a row."""
        first, last = self.metadata_starts[row : row + 2].tolist()
        if first == last:
            return {}
        try:
            return {
                (name := self.metadata_names[i].decode()): decode_flexbuffer(
                    self.metadata_values[i], f"metadata {name!r}"
                )
                for i in range(first, last)
            }
        except FormatError as error:
            # The id is spelled out only here: a long history decodes thousands of these.
            raise FormatError(
                f"repo: snapshot {encode_id(self.id(row))}: {error}", ErrorKind.DESERIALIZATION
            ) from None

    def pruned(self, row: int) -> tuple[bytes, ...]:
        """Ids of the pruned transaction logs of the snapshot at a row, oldest first."""
        first, last = self.pruned_starts[row : row + 2].tolist()
        return tuple(ids_of_column(self.pruned_ids[first:last])) if first < last else ()

    def entry(self, row: int) -> SnapshotEntry:
        """Make the record of one row."""
        return SnapshotEntry(
            id=self.id(row),
            parent_id=self.parent_id(row),
            flushed_at=int(self.flushed_at[row]),
            message=self.messages[row].decode(),
            metadata=self.metadata(row),
            pruned=self.pruned(row),
        )

    def locate(self, snapshot_ids: npt.NDArray[np.uint8]) -> Int64s:
        """Find the rows of a ``(k, 12)`` column of ids, -1 for those not known."""
        mine, wanted = sortable(self.ids), sortable(snapshot_ids)
        if not len(mine):
            return np.full(len(wanted), -1, dtype=np.int64)
        rows = np.minimum(np.searchsorted(mine, wanted), len(mine) - 1)
        return np.where(mine[rows] == wanted, rows, -1)

    def info(self, snapshot_id: bytes) -> SnapshotEntry:
        """Make the record of a snapshot; raises SnapshotNotFoundError when it is not known."""
        return self.entry(self.row(snapshot_id))

    def ancestry(self, snapshot_id: bytes) -> Iterator[int]:
        """Walk the rows from a snapshot, itself included, to the root of its history.

        Raises
        ------
        SnapshotNotFoundError
            At the call, when the snapshot is not known.
        """
        return self._walk(self.row(snapshot_id))

    def recent(self, snapshot_id: bytes) -> Iterator[int]:
        """Do as `ancestry` does: all of it is in memory."""
        return self.ancestry(snapshot_id)

    def table_of(self, tips: Iterable[bytes]) -> SnapshotTable:
        """Return the table itself, which has all that any snapshots lead to."""
        return self

    def _walk(self, row: int) -> Iterator[int]:
        parents = self.parents
        while row != _NO_PARENT:  # ends: decoding refuses cycles, and no operation makes one
            yield row
            row = int(parents[row])

    def insert(self, entry: SnapshotEntry) -> SnapshotTable:
        """Add a snapshot whose parent is known.

        Raises
        ------
        FormatError
            Of kind ``duplicate-snapshot-id`` when the id is already here.
        SnapshotNotFoundError
            When the parent is not.
        """
        slot = int(np.searchsorted(sortable(self.ids), np.array(entry.id, dtype="S12")))
        if slot < len(self) and self.id(slot) == entry.id:
            raise _duplicate(entry.id)
        parent = _NO_PARENT if entry.parent_id is None else self.row(entry.parent_id)
        new = SnapshotTable.from_entries([replace(entry, parent_id=None)])
        new = replace(new, parents=np.array([parent], dtype=np.int32))
        before, after = self._slice(0, slot), self._slice(slot, len(self))
        joined = self._join([before, new, after])
        return replace(joined, parents=joined.parents + (joined.parents >= slot).astype(np.int32))

    def reparent(
        self, edits: Mapping[bytes, tuple[bytes | None, tuple[bytes, ...]]]
    ) -> SnapshotTable:
        """Give snapshots, by id, another parent and another list of pruned logs."""
        parents = self.parents.copy()
        ids = list(edits)
        rows = self._rows_of(ids).tolist()
        for row, (parent_id, _) in zip(rows, edits.values(), strict=True):
            parents[row] = _NO_PARENT if parent_id is None else self.row(parent_id)
        logs = [id_column(logs, OBJECT_ID_SIZE) for _, logs in edits.values()]
        return self.revise(
            np.ones(len(self), dtype=bool), parents, dict(zip(rows, logs, strict=True))
        )

    def revise(
        self,
        stays: npt.NDArray[np.bool_],
        parents: npt.NDArray[np.int32],
        logs: Mapping[int, npt.NDArray[np.uint8]],
    ) -> SnapshotTable:
        """Drop snapshots, and give others another parent and other pruned logs, all at once.

        Parameters
        ----------
        stays
            Which rows stay.
        parents
            The parent of every row, as a row of this table; those of dropped rows do not matter.
        logs
            ``(k, 12)`` columns of pruned logs by row, oldest first; others keep theirs.

        Raises
        ------
        FormatError
            When a snapshot that stays would have a dropped parent, or be its own ancestor.
        """
        is_orphan = stays & (parents >= 0) & ~stays[parents]
        if is_orphan.any():
            orphan = encode_id(self.id(int(np.argmax(is_orphan))))
            raise FormatError(
                f"cannot drop the parent of snapshot {orphan}, which stays", ErrorKind.SERIALIZATION
            )
        if parents is not self.parents and has_cycle(np.where(stays, parents, _NO_PARENT)):
            raise FormatError(
                "cannot change parents so that a snapshot descends from itself",
                ErrorKind.SERIALIZATION,
            )
        return replace(self, parents=parents)._with_logs(logs)._take(np.flatnonzero(stays))

    def _rows_of(self, snapshot_ids: Sequence[bytes]) -> Int64s:
        """Find the rows of snapshots; raises SnapshotNotFoundError for one that is not known."""
        rows = self.locate(id_column(list(snapshot_ids), OBJECT_ID_SIZE))
        if (rows < 0).any():
            raise _unknown(snapshot_ids[int(np.argmax(rows < 0))])
        return rows

    def _with_logs(self, logs: Mapping[int, npt.NDArray[np.uint8]]) -> SnapshotTable:
        """Exchange the pruned logs of some rows."""
        if not logs:
            return self
        counts = counts_of(self.pruned_starts)
        parts, done = [], 0
        for row, column in sorted(logs.items()):  # what lies between two of them, and then it
            parts += [self.pruned_ids[self.pruned_starts[done] : self.pruned_starts[row]], column]
            counts[row] = len(column)
            done = row + 1
        parts.append(self.pruned_ids[self.pruned_starts[done] :])
        return replace(self, pruned_starts=starts_of(counts), pruned_ids=np.concatenate(parts))

    def _slice(self, start: int, stop: int) -> SnapshotTable:
        """Return some adjacent rows without copying them; parents are taken as they are."""
        items = slice(self.metadata_starts[start], self.metadata_starts[stop])
        logs = slice(self.pruned_starts[start], self.pruned_starts[stop])
        return SnapshotTable(
            ids=self.ids[start:stop],
            parents=self.parents[start:stop],
            flushed_at=self.flushed_at[start:stop],
            messages=self.messages.slice(start, stop),
            metadata_starts=self.metadata_starts[start : stop + 1] - items.start,
            metadata_names=self.metadata_names.slice(items.start, items.stop),
            metadata_values=self.metadata_values.slice(items.start, items.stop),
            pruned_starts=self.pruned_starts[start : stop + 1] - logs.start,
            pruned_ids=self.pruned_ids[logs],
        )

    @staticmethod
    def _join(parts: Sequence[SnapshotTable]) -> SnapshotTable:
        """Put rows one after the other; parents are taken as they are."""

        def stacked(name: str) -> npt.NDArray[Any]:
            return np.concatenate([getattr(part, name) for part in parts])

        def strings(name: str) -> RaggedBytes:
            return RaggedBytes.concat([getattr(part, name) for part in parts])

        def starts(name: str) -> Int64s:
            return starts_of(np.concatenate([counts_of(getattr(part, name)) for part in parts]))

        return SnapshotTable(
            ids=stacked("ids"),
            parents=stacked("parents"),
            flushed_at=stacked("flushed_at"),
            messages=strings("messages"),
            metadata_starts=starts("metadata_starts"),
            metadata_names=strings("metadata_names"),
            metadata_values=strings("metadata_values"),
            pruned_starts=starts("pruned_starts"),
            pruned_ids=stacked("pruned_ids"),
        )

    def _take(self, rows: npt.NDArray[np.intp]) -> SnapshotTable:
        """Copy rows in the order given, renumbering parents."""
        new_row = np.full(len(self) + 1, _NO_PARENT, dtype=np.int32)  # [-1] serves "no parent"
        new_row[rows] = np.arange(len(rows), dtype=np.int32)
        metadata_starts, items = gather_rows(self.metadata_starts, rows)
        pruned_starts, logs = gather_rows(self.pruned_starts, rows)
        return SnapshotTable(
            ids=self.ids[rows],
            parents=new_row[self.parents[rows]],
            flushed_at=self.flushed_at[rows],
            messages=self.messages.take(rows),
            metadata_starts=metadata_starts,
            metadata_names=self.metadata_names.take(items),
            metadata_values=self.metadata_values.take(items),
            pruned_starts=pruned_starts,
            pruned_ids=self.pruned_ids[logs],
        )


def has_cycle(parents: npt.NDArray[np.int32]) -> bool:
    """Tell whether following parents from some row never ends, by doubling the steps taken."""
    jumps = np.append(parents, _NO_PARENT)  # jumps[-1] is -1: no parent stays no parent
    for _ in range(len(parents).bit_length()):
        jumps = jumps[jumps]
    return bool((jumps != _NO_PARENT).any())


def _unknown(snapshot_id: bytes) -> SnapshotNotFoundError:
    return SnapshotNotFoundError(
        f"snapshot {encode_id(snapshot_id)} does not exist in this repository",
        ErrorKind.SNAPSHOT_NOT_FOUND,
    )


def _duplicate(snapshot_id: bytes) -> FormatError:
    return FormatError(
        f"snapshot {encode_id(snapshot_id)} is already part of this repository",
        ErrorKind.DUPLICATE_SNAPSHOT_ID,
    )

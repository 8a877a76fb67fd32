"""The history of a repository of spec version 1, read out of snapshot files as it is walked.

Each file names its parent, so a step costs one request, the first time. What was read stays in
memory, without the nodes. Only expiration changes what a file says, and it only shortens histories:
who has read a longer one may go on seeing it until the expired snapshots are collected. That is
noticed by asking for the oldest of them whenever a history is known to its end.
Icechunk spec, "Spec version 1 differences".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from icechunk._fork import new_lock
from icechunk.assets.manager import AssetManager
from icechunk.assets.workers import Workers
from icechunk.errors import ErrorKind, FormatError, IcechunkError, SnapshotNotFoundError
from icechunk.format.ids import encode_id
from icechunk.format.layout import snapshot_key
from icechunk.format.snapshot_table import SnapshotEntry, SnapshotTable
from icechunk.storage.base import ObjectNotFound

__all__ = ["FileHistory"]

WALKS_AT_ONCE: Final = 16


class FileHistory:
    """What the snapshot files of a repository say of their histories.

    Safe to use from any thread, and after a fork. Rows are numbered as snapshots become known.

    Parameters
    ----------
    assets
        Reads the files; those that were read lately are not read again.
    """

    __slots__ = ("_assets", "_entries", "_lock", "_outdated", "_rows")

    def __init__(self, assets: AssetManager) -> None:
        self._assets = assets
        self._entries: list[SnapshotEntry] = []
        self._rows: dict[bytes, int] = {}
        self._outdated: set[bytes] = set()  # not to be taken from a cache
        self._lock = new_lock()

    def __contains__(self, snapshot_id: object) -> bool:
        return isinstance(snapshot_id, bytes) and self.find(snapshot_id) >= 0

    def find(self, snapshot_id: bytes) -> int:
        """Find the row of a snapshot, -1 when there is no file of it."""
        return self._find(snapshot_id, keep=True)

    def row(self, snapshot_id: bytes) -> int:
        """Find the row of a snapshot; raises SnapshotNotFoundError when there is no file of it."""
        row = self.find(snapshot_id)
        if row < 0:
            raise SnapshotNotFoundError(
                f"snapshot id not found `{encode_id(snapshot_id)}`: there is no object"
                f" {snapshot_key(snapshot_id)}",
                ErrorKind.SNAPSHOT_NOT_FOUND,
            )
        return row

    def id(self, row: int) -> bytes:
        """Id of the snapshot at a row."""
        return self._entries[row].id

    def parent_id(self, row: int) -> bytes | None:
        """Id of the parent of the snapshot at a row."""
        return self._entries[row].parent_id

    def time(self, row: int) -> int:
        """When the snapshot at a row was written, in microseconds since the epoch."""
        return self._entries[row].flushed_at

    def pruned(self, row: int) -> tuple[bytes, ...]:
        """Return nothing: no file tells what expired before the snapshot at a row."""
        return ()

    def entry(self, row: int) -> SnapshotEntry:
        """Return the record of one row."""
        return self._entries[row]

    def info(self, snapshot_id: bytes) -> SnapshotEntry:
        """Return the record of a snapshot; raises as `row` does."""
        return self._entries[self.row(snapshot_id)]

    def ancestry(self, snapshot_id: bytes) -> Iterator[int]:
        """Walk the rows from a snapshot, itself included, to the root of its history.

        Raises
        ------
        SnapshotNotFoundError
            At the call when there is no file of the snapshot, later when there is none of a parent.
        FormatError
            A snapshot descends from itself.
        """
        row = self.row(snapshot_id)
        known = list(self.recent(snapshot_id))
        if len(known) > 2 and self.parent_id(known[-1]) is None:
            oldest = self.id(known[-2])
            if not self._assets.storage.exists(snapshot_key(oldest)):
                self._forget(self.id(number) for number in known)
                row = self.row(snapshot_id)
        return self._walk(row)

    def recent(self, snapshot_id: bytes) -> Iterator[int]:
        """Walk like `ancestry`, but no further than what is in memory."""
        row = self._rows.get(snapshot_id)
        seen: set[int] = set()
        while row is not None and row not in seen:
            yield row
            seen.add(row)
            parent_id = self._entries[row].parent_id
            row = None if parent_id is None else self._rows.get(parent_id)

    def table_of(self, tips: Iterable[bytes]) -> SnapshotTable:
        """Read all that some snapshots lead to; several histories at once if storage is far away.

        Raises as `ancestry` does.
        """

        def walk(tip: bytes) -> list[int]:
            return list(self.ancestry(tip))

        with Workers(self._assets.storage.is_local, "icechunk-history") as workers:
            walks = workers.map(walk, sorted(set(tips)), WALKS_AT_ONCE)
            ids = {self.id(row) for walked in walks for row in walked}
        # Some may have been read anew by a later walk, with other parents: the last word counts.
        return SnapshotTable.from_entries(self._entries[self.row(found)] for found in ids)

    def read_ahead(self, snapshot_ids: Sequence[bytes], at_once: int) -> None:
        """Read many files at once, which is quicker than one after the other.

        Those that cannot be read are passed over: that is an error only if something leads there.
        """

        def read(snapshot_id: bytes) -> SnapshotEntry | None:
            try:
                return self._assets.snapshot_head(snapshot_id)
            except IcechunkError:
                return None

        with Workers(self._assets.storage.is_local, "icechunk-history") as workers:
            for entry in workers.map(read, snapshot_ids, at_once):
                if entry is not None:
                    self.remember(entry)

    def remember(self, entry: SnapshotEntry) -> int:
        """Take over what a snapshot file says; what was known of it before is forgotten."""
        with self._lock:
            row = self._rows.get(entry.id)
            if row is None:
                self._entries.append(entry)
                row = self._rows[entry.id] = len(self._entries) - 1
            else:
                self._entries[row] = entry
        return row

    def reparent(self, parents: Mapping[bytes, bytes]) -> None:
        """Note that snapshot files have other parents now."""
        with self._lock:
            for snapshot_id, parent_id in parents.items():
                row = self._rows.get(snapshot_id)
                if row is not None:
                    self._entries[row] = replace(self._entries[row], parent_id=parent_id)

    def _find(self, snapshot_id: bytes, *, keep: bool) -> int:
        row = self._rows.get(snapshot_id)
        if row is not None:
            return row
        try:
            return self.remember(self._read(snapshot_id, keep=keep))
        except ObjectNotFound:
            return -1

    def _read(self, snapshot_id: bytes, *, keep: bool) -> SnapshotEntry:
        is_good = snapshot_id not in self._outdated
        if keep and is_good:
            return self._assets.snapshot(snapshot_id).head
        return self._assets.snapshot_head(snapshot_id, cached=is_good)

    def _forget(self, snapshot_ids: Iterable[bytes]) -> None:
        """Read files anew when they are asked for next; walks under way go on as they began."""
        with self._lock:
            for snapshot_id in snapshot_ids:
                self._outdated.add(snapshot_id)
                self._rows.pop(snapshot_id, None)

    def _walk(self, row: int) -> Iterator[int]:
        seen: set[int] = set()
        while row not in seen:
            yield row
            seen.add(row)
            parent_id = self._entries[row].parent_id
            if parent_id is None:
                return
            # Few ask for the nodes of old snapshots: they would only displace others.
            parent = self._find(parent_id, keep=False)
            if parent < 0:
                # It may have been expired and collected since its child was read.
                self._forget([self.id(row)])
                parent_id = self.entry(self.row(self.id(row))).parent_id
                if parent_id is None:
                    return
                parent = self.row(parent_id)
            row = parent
        raise FormatError(
            f"{snapshot_key(self.id(row))}: the snapshot descends from itself; verify the"
            " repository, and point its branches and tags to snapshots with a sound history",
            ErrorKind.INVALID_FILE_FORMAT,
        )

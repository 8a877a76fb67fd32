"""Public records about snapshots: one entry of a history, a manifest file, a difference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final

import numpy as np

from icechunk._display import Block, Shown, datetime_text
from icechunk.changes.diff import Diff
from icechunk.format.ids import encode_id, encode_ids
from icechunk.format.snapshot import ManifestFile
from icechunk.format.snapshot_table import SnapshotEntry, SnapshotTable
from icechunk.repo.state import History
from icechunk.repo.times import to_datetime

__all__ = ["Diff", "ManifestFileInfo", "SnapshotInfo"]

FIRST_BATCH: Final = 8
LAST_BATCH: Final = 1024


@dataclass(frozen=True, slots=True, repr=False)
class SnapshotInfo(Shown):
    """What the history knows about one snapshot."""

    id: str
    """Id of the snapshot, the one commits return."""
    parent_id: str | None
    """Id of the snapshot it was made from; None at the root of the history."""
    written_at: datetime
    """When it was written, in UTC."""
    message: str
    """Message given to the commit."""
    metadata: dict[str, Any]
    """Metadata given to the commit."""

    @classmethod
    def _of_rows(cls, history: History, rows: Iterator[int]) -> Iterator[SnapshotInfo]:
        """Describe rows of a history in turn, no further ahead than costs nothing."""
        if isinstance(history, SnapshotTable):
            return cls._of_table(history, rows)
        return (cls._of(history.entry(row)) for row in rows)

    @classmethod
    def _of_table(cls, table: SnapshotTable, rows: Iterator[int]) -> Iterator[SnapshotInfo]:
        """Describe rows of a table in turn; made by the batch, from a few to many at a time."""
        size = FIRST_BATCH
        while batch := list(islice(rows, size)):
            parents = table.parents[batch]
            names = zip(encode_ids(table.ids[parents]), (parents >= 0).tolist(), strict=True)
            yield from map(
                cls,
                encode_ids(table.ids[batch]),
                [name if has_parent else None for name, has_parent in names],
                map(to_datetime, table.flushed_at[batch].tolist()),
                map(bytes.decode, table.messages.take(np.array(batch))),
                map(table.metadata, batch),
            )
            size = min(2 * size, LAST_BATCH)

    @classmethod
    def _of(cls, entry: SnapshotEntry) -> SnapshotInfo:
        return cls(
            id=encode_id(entry.id),
            parent_id=None if entry.parent_id is None else encode_id(entry.parent_id),
            written_at=to_datetime(entry.flushed_at),
            message=entry.message,
            metadata=dict(entry.metadata),
        )

    def _block(self) -> Block:
        return Block.of(
            "icechunk.snapshots.SnapshotInfo",
            {
                "id": self.id,
                "parent_id": self.parent_id,
                "written_at": datetime_text(self.written_at),
                "message": self.message,
                "metadata": self.metadata,
            },
        )


@dataclass(frozen=True, slots=True, repr=False)
class ManifestFileInfo(Shown):
    """One manifest file that a snapshot refers to."""

    id: str
    """Id of the manifest."""
    size_bytes: int
    """Size of the file."""
    num_chunk_refs: int
    """How many chunk references it holds."""

    @classmethod
    def _of(cls, file: ManifestFile) -> ManifestFileInfo:
        return cls(encode_id(file.id), file.size_bytes, file.num_chunk_refs)

    def _block(self) -> Block:
        return Block.of(
            "icechunk.snapshots.ManifestFileInfo",
            {
                "id": self.id,
                "size_bytes": self.size_bytes,
                "num_chunk_refs": self.num_chunk_refs,
            },
        )

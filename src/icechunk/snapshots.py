"""Public records about snapshots: one entry of a history, a manifest file, a difference."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from icechunk._display import Block, Shown, datetime_text
from icechunk.changes.diff import Diff
from icechunk.format.ids import encode_id
from icechunk.format.snapshot import ManifestFile
from icechunk.format.snapshot_table import SnapshotEntry
from icechunk.repo.times import to_datetime

__all__ = ["Diff", "ManifestFileInfo", "SnapshotInfo"]


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

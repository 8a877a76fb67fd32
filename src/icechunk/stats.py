"""Public records of statistics about a repository."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from icechunk._display import Block, Lines, Shown, datetime_text
from icechunk._plain import first_line, shortened, width

__all__ = ["ChunkStorageStats", "FreedStorage", "StorageColumns", "StorageTable"]

#: Rows that a table shows.
SHOWN: Final = 20
NAME_COLUMNS: Final = 40


@dataclass(frozen=True, slots=True, repr=False)
class ChunkStorageStats(Shown):
    """How many bytes the chunks of a repository take, by where they are; sums with ``+``."""

    native_bytes: int = 0
    """In chunk objects of the repository, each counted once."""
    virtual_bytes: int = 0
    """In files elsewhere; each range of a file is counted once."""
    inlined_bytes: int = 0
    """In manifests, counted in every manifest that has them."""

    def non_virtual_bytes(self) -> int:
        """Return the bytes that are in the repository itself: native and inlined."""
        return self.native_bytes + self.inlined_bytes

    def total_bytes(self) -> int:
        """Return the bytes of all chunks, wherever they are."""
        return self.native_bytes + self.virtual_bytes + self.inlined_bytes

    def __add__(self, other: ChunkStorageStats) -> ChunkStorageStats:
        if not isinstance(other, ChunkStorageStats):
            return NotImplemented
        return ChunkStorageStats(
            self.native_bytes + other.native_bytes,
            self.virtual_bytes + other.virtual_bytes,
            self.inlined_bytes + other.inlined_bytes,
        )

    def _block(self) -> Block:
        return Block.of(
            "icechunk.stats.ChunkStorageStats",
            {
                "native_bytes": self.native_bytes,
                "virtual_bytes": self.virtual_bytes,
                "inlined_bytes": self.inlined_bytes,
            },
        )


Column = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False)
class StorageColumns:
    """Storage of each row of a table: columns of ``n`` numbers, uint64."""

    native_bytes: Column
    """In chunk objects of the repository."""
    native_chunks: Column
    virtual_bytes: Column
    """In files elsewhere."""
    virtual_chunks: Column
    inlined_bytes: Column
    """Of chunks inside manifests, as they are before the manifest is compressed."""
    inlined_chunks: Column
    manifest_bytes: Column
    """Of manifest files, which hold the inlined chunks."""
    manifests: Column

    def stored_bytes(self) -> Column:
        """Return the bytes of objects in the repository: native chunks and manifests."""
        return self.native_bytes + self.manifest_bytes

    def take(self, rows: Sequence[int]) -> StorageColumns:
        """Select rows."""
        at = np.array(rows, np.intp)
        return StorageColumns(*(getattr(self, item.name)[at] for item in fields(self)))

    def has_any(self, row: int) -> bool:
        """Whether a row has anything at all."""
        return any(getattr(self, item.name)[row] for item in fields(self))

    def __len__(self) -> int:
        return len(self.native_bytes)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class StorageTable(Shown):
    """Storage by array, by snapshot, by branch or by tag; ``len()`` is the number of rows.

    Within a row each chunk counts once, however many snapshots refer to it. Rows may share chunks,
    so they add up to more than there is: `whole` has each chunk once, `exclusive` what belongs to
    one row alone.
    """

    KINDS: ClassVar = ("array", "snapshot", "branch", "tag")

    by: str
    """What the rows are: ``array``, ``snapshot``, ``branch`` or ``tag``."""
    names: tuple[str, ...]
    """Path of each array, where it was last; message of each snapshot; name of each ref."""
    ids: tuple[str, ...]
    """Id of the node, of the snapshot, or of the snapshot that the ref points to."""
    whole: ChunkStorageStats
    """Everything that was looked at, each chunk once."""
    manifests: int
    """Manifests of all rows, each once."""
    manifest_bytes: int
    total: StorageColumns
    """What each row refers to."""
    exclusive: StorageColumns
    """What no other row refers to; for branches and tags no other ref, be it branch or tag."""
    added: StorageColumns | None = None
    """By snapshot alone: what the parent does not refer to."""

    def __len__(self) -> int:
        return len(self.names)

    def row(self, name_or_id: str) -> int:
        """Find a row by its id, or else the first one of a name.

        Raises
        ------
        KeyError
            There is none.
        """
        for texts in (self.ids, self.names):
            if name_or_id in texts:
                return texts.index(name_or_id)
        raise KeyError(f"no {self.by} {name_or_id!r} in a table of {len(self)} rows")

    def stats(self, name_or_id: str) -> ChunkStorageStats:
        """Return the chunks of one row; raises KeyError as `row` does."""
        row, total = self.row(name_or_id), self.total
        return ChunkStorageStats(
            int(total.native_bytes[row]),
            int(total.virtual_bytes[row]),
            int(total.inlined_bytes[row]),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return all columns by name, as ``pandas.DataFrame`` takes them.

        Those of `exclusive` and `added` get these words before their names.
        """
        columns: dict[str, Any] = {self.by: list(self.names), "id": list(self.ids)}
        for prefix, part in (
            ("", self.total),
            ("exclusive_", self.exclusive),
            ("added_", self.added),
        ):
            if part is not None:
                columns |= {prefix + item.name: getattr(part, item.name) for item in fields(part)}
        return columns

    def _block(self) -> Block:
        parts: dict[str, object] = {"by": self.by}
        parts |= asdict(self.whole)
        parts["manifest_bytes"] = self.manifest_bytes
        parts["rows"] = Lines(tuple(self._lines())) if len(self) else "none"
        return Block.of("icechunk.stats.StorageTable", parts)

    def _label(self, row: int) -> str:
        name = shortened(first_line(self.names[row]), NAME_COLUMNS)
        if self.by == "snapshot":
            return f"{self.ids[row]} {name}"
        return name or self.ids[row]

    def _lines(self) -> list[str]:
        columns = {
            "native": self.total.native_bytes,
            "chunks": self.total.native_chunks,
            "virtual": self.total.virtual_bytes,
            "inlined": self.total.inlined_bytes,
            "manifests": self.total.manifest_bytes,
            "exclusive": self.exclusive.stored_bytes(),
        }
        if self.added is not None:
            columns["added"] = self.added.stored_bytes()
        names = [self._label(row) for row in range(min(len(self), SHOWN))]
        lines = [[self.by, *columns]]
        for row, name in enumerate(names):
            lines.append([name, *(f"{int(column[row]):,}" for column in columns.values())])
        widths = [max(map(width, cells)) for cells in zip(*lines, strict=True)]
        shown = [
            "  ".join(
                (cell + pad) if place == 0 else (pad + cell)
                for place, (cell, pad) in enumerate(
                    (cell, " " * (room - width(cell)))
                    for cell, room in zip(cells, widths, strict=True)
                )
            )
            for cells in lines
        ]
        more = len(self) - SHOWN
        return [*shown, f"... and {more} more"] if more > 0 else shown


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class FreedStorage(Shown):
    """What an expiration leaves to garbage collection: all that only expired snapshots need."""

    older_than: datetime
    snapshots: tuple[str, ...]
    """Ids of the snapshots that branches and tags lead to now, and would not then, sorted."""
    snapshot_bytes: int
    """Bytes of their files."""
    transaction_logs: int
    """Their logs, but for those that snapshots inherit that stay."""
    transaction_log_bytes: int
    arrays: StorageTable
    """What they refer to and no snapshot that stays does, by array; in ``arrays.whole`` and
    ``arrays.manifest_bytes`` each chunk and manifest once."""

    @property
    def num_bytes(self) -> int:
        """Bytes of all objects that become garbage: snapshots, logs, manifests and chunks."""
        metadata = self.snapshot_bytes + self.transaction_log_bytes + self.arrays.manifest_bytes
        return metadata + self.arrays.whole.native_bytes

    def _block(self) -> Block:
        return Block.of(
            "icechunk.stats.FreedStorage",
            {
                "older_than": datetime_text(self.older_than),
                "num_bytes": self.num_bytes,
                "snapshots": len(self.snapshots),
                "snapshot_bytes": self.snapshot_bytes,
                "transaction_logs": self.transaction_logs,
                "transaction_log_bytes": self.transaction_log_bytes,
                "arrays": self.arrays,
            },
        )

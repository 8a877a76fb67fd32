"""What changed between two points, in terms of paths: the public `Diff`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from icechunk._display import Block, Group, Lines, Shown
from icechunk.format.transaction_log import TransactionLog

SHOWN_CHUNKS: Final = 10


@dataclass(slots=True)
class Diff(Shown):
    """Difference between two snapshots, or between a session and its base snapshot.

    An array whose chunks were written without a change of its metadata appears only in
    `updated_chunks`; one that was deleted and created again appears in both sets.
    """

    new_groups: set[str] = field(default_factory=set)
    new_arrays: set[str] = field(default_factory=set)
    deleted_groups: set[str] = field(default_factory=set)
    deleted_arrays: set[str] = field(default_factory=set)
    updated_groups: set[str] = field(default_factory=set)
    updated_arrays: set[str] = field(default_factory=set)
    updated_chunks: dict[str, list[list[int]]] = field(default_factory=dict)
    """Array path to the sorted chunk coordinates that were written or deleted."""
    moved_nodes: list[tuple[str, str]] = field(default_factory=list)

    def is_empty(self) -> bool:
        """Whether nothing changed."""
        return not any(getattr(self, name) for name in self.__slots__)

    def __repr__(self) -> str:
        """Show the sections alone, one below the other; nothing for no difference."""
        return "\n".join(Group((section,)).text() for section in self._block().fields)

    def _block(self) -> Block:
        sections: list[tuple[str, list[str]]] = [
            ("Groups created", sorted(self.new_groups)),
            ("Arrays created", sorted(self.new_arrays)),
            ("Group definitions updated", sorted(self.updated_groups)),
            ("Array definitions updated", sorted(self.updated_arrays)),
            ("Groups deleted", sorted(self.deleted_groups)),
            ("Arrays deleted", sorted(self.deleted_arrays)),
            ("Chunks updated", list(self._chunk_lines())),
            ("Nodes moved/renamed", [f"{a} -> {b}" for a, b in self.moved_nodes]),
        ]
        return Block(
            "icechunk.snapshots.Diff",
            tuple((title, Lines(tuple(lines))) for title, lines in sections if lines),
        )

    def _chunk_lines(self) -> Iterable[str]:
        for path in sorted(self.updated_chunks):
            coords = self.updated_chunks[path]
            yield f"{path}:"
            yield from (f"    {c}" for c in coords[:SHOWN_CHUNKS])
            if len(coords) > SHOWN_CHUNKS:
                yield f"    ... {len(coords) - SHOWN_CHUNKS} more"


def diff_of(log: TransactionLog, path_of: Callable[[bytes], str | None]) -> Diff:
    """Name what a transaction log records; ids that no path is known for are left out."""

    def paths(column: np.ndarray) -> set[str]:
        names = (path_of(row.tobytes()) for row in column)
        return {name for name in names if name is not None}

    chunks = {}
    for node_id, coords in log.updated_chunks.items():
        path = path_of(node_id)
        if path is not None:
            chunks[path] = coords.tolist()
    return Diff(
        new_groups=paths(log.new_groups),
        new_arrays=paths(log.new_arrays),
        deleted_groups=paths(log.deleted_groups),
        deleted_arrays=paths(log.deleted_arrays),
        updated_groups=paths(log.updated_groups),
        updated_arrays=paths(log.updated_arrays),
        updated_chunks=chunks,
        moved_nodes=[(move.from_path, move.to_path) for move in log.moves],
    )

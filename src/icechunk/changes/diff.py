"""What changed between two points, in terms of paths: the public `Diff`.

Chunk coordinates stay columns until somebody asks for them: as lists they take twenty times the
space, and longer to make than everything else about a comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from icechunk._display import Block, Group, Lines, Shown
from icechunk.chunks.arrays import Coords
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
    _columns: Mapping[bytes, Coords] = field(default_factory=dict, init=False, compare=False)
    """What `updated_chunks` is made of when it is first asked for; nothing if it was given."""
    _arrays: Mapping[str, bytes] = field(default_factory=dict, init=False, compare=False)
    """Which of these columns, by path."""

    if not TYPE_CHECKING:  # the one attribute that this finds has a type already

        def __getattr__(self, name: str) -> Any:
            if name != "updated_chunks":
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            # Two threads that ask at the same time make equal lists, and the last ones stay.
            columns, arrays = self._columns, self._arrays
            made = {path: columns[node_id].tolist() for path, node_id in arrays.items()}
            self.updated_chunks = made
            return made

    def is_empty(self) -> bool:
        """Whether nothing changed."""
        nodes = (
            self.new_groups,
            self.new_arrays,
            self.deleted_groups,
            self.deleted_arrays,
            self.updated_groups,
            self.updated_arrays,
            self.moved_nodes,
        )
        return not (any(nodes) or self._arrays or self.updated_chunks)

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


def diff_of(
    log: TransactionLog,
    path_of: Callable[[bytes], str | None],
    *,
    preferred: Container[bytes] = (),
) -> Diff:
    """Name what a transaction log records; ids that no path is known for are left out.

    Of two arrays with one path the chunks of the one among the `preferred` ids are listed.
    """

    def paths(column: np.ndarray) -> set[str]:
        names = (path_of(row.tobytes()) for row in column)
        return {name for name in names if name is not None}

    arrays: dict[str, bytes] = {}
    for node_id in log.updated_chunks:
        path = path_of(node_id)
        if path is not None and (path not in arrays or node_id in preferred):
            arrays[path] = node_id
    diff = Diff(
        new_groups=paths(log.new_groups),
        new_arrays=paths(log.new_arrays),
        deleted_groups=paths(log.deleted_groups),
        deleted_arrays=paths(log.deleted_arrays),
        updated_groups=paths(log.updated_groups),
        updated_arrays=paths(log.updated_arrays),
        moved_nodes=[(move.from_path, move.to_path) for move in log.moves],
    )
    diff._columns, diff._arrays = log.updated_chunks, arrays
    del diff.updated_chunks
    return diff

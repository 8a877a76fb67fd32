"""Which conflicts a rebase finds, and what the solvers make of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from model.edits import Edits, Log
from model.values import Coords, Nodes, Path, absolute, ancestors

NEW_ON_EXISTING = "New node conflicts with existing node"
NEW_IN_ARRAY = "New node in invalid group"
BOTH_UPDATED = "Zarr metadata double update"
UPDATED_DELETED_ARRAY = "Zarr metadata update of deleted array"
UPDATED_DELETED_GROUP = "Zarr metadata update of deleted group"
BOTH_WROTE = "Chunk double update"
WROTE_DELETED = "Chunks updated in deleted array"
WROTE_UPDATED = "Chunks updated in updated array"
DELETED_UPDATED_ARRAY = "Delete of updated array"
DELETED_UPDATED_GROUP = "Delete of updated group"
MOVED = "Move operation cannot be rebased"


@dataclass(frozen=True)
class Solver:
    """`ConflictDetector` when ``on_chunks`` is None, else `BasicConflictSolver`."""

    on_chunks: str | None = None
    fail_on_array: bool = False
    fail_on_group: bool = False

    def accepts(self, kind: str) -> bool:
        if self.on_chunks is None:
            return False
        return {
            BOTH_WROTE: self.on_chunks != "Fail",
            DELETED_UPDATED_ARRAY: not self.fail_on_array,
            DELETED_UPDATED_GROUP: not self.fail_on_group,
        }.get(kind, False)


@dataclass(frozen=True)
class Conflict:
    kind: str
    path: str
    coords: frozenset[Coords] | None = None

    @property
    def record(self) -> list[object]:
        coords = None if self.coords is None else sorted(map(list, self.coords))
        return [self.kind, self.path, coords]


def detect(edits: Edits, base: Nodes, log: Log, theirs: Nodes) -> list[Conflict]:
    """Compare edits on ``base`` with one commit; in order of kind, then of path."""
    if log.moved:
        return [Conflict(MOVED, "")]
    names = {node.born: path for path, node in edits.on(base).items()}
    arrays = {node.born for node in edits.on(base).values() if node.is_array}

    def at(kind: str, borns: set[int]) -> Iterator[Conflict]:
        for path in sorted(names[born] for born in borns if born in names):
            yield Conflict(kind, absolute(path))

    wrote = set(edits.written)
    found = list(_new_nodes(edits, theirs))
    found += at(BOTH_UPDATED, edits.updated & log.updated & arrays)
    found += at(BOTH_UPDATED, (edits.updated & log.updated) - arrays)
    found += at(UPDATED_DELETED_ARRAY, edits.updated & log.deleted & arrays)
    found += at(UPDATED_DELETED_GROUP, (edits.updated & log.deleted) - arrays)
    found += at(WROTE_DELETED, wrote & log.deleted)
    found += at(WROTE_UPDATED, wrote & log.updated)
    for born in sorted(wrote & log.written.keys() & names.keys(), key=lambda born: names[born]):
        if both := log.written[born] & edits.written[born].keys():
            found.append(Conflict(BOTH_WROTE, absolute(names[born]), both))
    found += _deletions(edits, log, theirs)
    return found


def _new_nodes(edits: Edits, theirs: Nodes) -> Iterator[Conflict]:
    for path in sorted(edits.created):
        if path in theirs and theirs[path].born not in edits.deleted:
            yield Conflict(NEW_ON_EXISTING, absolute(path))
    # one for each new node, so that an array may be named twice
    inside = [_array_above(path, theirs, edits) for path in edits.created]
    for path in sorted(array for array in inside if array is not None):
        yield Conflict(NEW_IN_ARRAY, absolute(path))


def _array_above(path: Path, nodes: Nodes, edits: Edits) -> Path | None:
    """Find the nearest array above a place, but for those that the session deleted."""
    arrays = (above for above in ancestors(path) if above in nodes and nodes[above].is_array)
    return next((above for above in arrays if nodes[above].born not in edits.deleted), None)


def _deletions(edits: Edits, log: Log, theirs: Nodes) -> Iterator[Conflict]:
    there = {node.born for node in theirs.values()}
    edited = log.updated | log.written.keys()
    for is_array, kind in ((True, DELETED_UPDATED_ARRAY), (False, DELETED_UPDATED_GROUP)):
        for born, (path, was_array) in sorted(edits.deleted.items(), key=lambda item: item[1]):
            if was_array == is_array and born in there and born in edited:
                yield Conflict(kind, absolute(path))


def patched(edits: Edits, conflicts: list[Conflict], log: Log, solver: Solver) -> Edits:
    """Apply what the solver decided about chunks that both wrote."""
    result = edits.copy()
    if solver.on_chunks == "UseTheirs" and any(found.kind == BOTH_WROTE for found in conflicts):
        for born in edits.written.keys() & log.written.keys():
            for coords in log.written[born]:
                result.written[born].pop(coords, None)
            if not result.written[born]:
                del result.written[born]
    return result

"""What can clash between the edits of a session and a commit that somebody else made first.

One pure function per kind of conflict. Each compares columns: node ids and chunk coordinates are
intersected, never looped over. `find_conflicts` asks them all, in the order in which conflicts are
reported. What to do about conflicts is decided in `solvers`, and carried out in `rebase`.

Node ids are compared, not paths: an array that was deleted and created again is another array.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

import numpy as np
import numpy.typing as npt

from icechunk._display import Block, Shown
from icechunk.changes.change_set import ChangeSet, NodeEdit
from icechunk.chunks import ChunkTable
from icechunk.chunks.arrays import Coords, Mask
from icechunk.format.ids import NODE_ID_SIZE, encode_id, id_column
from icechunk.format.nodes import NodeTable
from icechunk.format.paths import ancestors
from icechunk.format.transaction_log import TransactionLog

__all__ = [
    "Clash",
    "Comparison",
    "Conflict",
    "ConflictType",
    "OurChunks",
    "OurEdits",
    "find_conflicts",
]


class ConflictType(Enum):
    """Kinds of conflict between our edits and a commit made by somebody else.

    ``int()`` gives the number, ``str()`` a description.
    """

    NewNodeConflictsWithExistingNode = 1
    """We created a node where they now have one."""
    NewNodeInInvalidGroup = 2
    """We created a node below an array of theirs."""
    ZarrMetadataDoubleUpdate = 3
    """Both changed the metadata of a node, be it alike."""
    ZarrMetadataUpdateOfDeletedArray = 4
    """We changed the metadata of an array they deleted."""
    ZarrMetadataUpdateOfDeletedGroup = 5
    """We changed the metadata of a group they deleted."""
    ChunkDoubleUpdate = 6
    """Both wrote or deleted the same chunks."""
    ChunksUpdatedInDeletedArray = 7
    """We wrote chunks of an array they deleted."""
    ChunksUpdatedInUpdatedArray = 8
    """We wrote chunks of an array whose metadata they changed."""
    DeleteOfUpdatedArray = 9
    """We deleted an array whose metadata or chunks they changed."""
    DeleteOfUpdatedGroup = 10
    """We deleted a group whose metadata they changed."""
    MoveOperationCannotBeRebased = 11
    """They moved nodes: edits cannot follow."""

    def __int__(self) -> int:
        return int(self.value)

    def __str__(self) -> str:
        return _DESCRIPTIONS[self]

    def __repr__(self) -> str:
        return self.name


_DESCRIPTIONS: Final = {
    ConflictType.NewNodeConflictsWithExistingNode: "New node conflicts with existing node",
    ConflictType.NewNodeInInvalidGroup: "New node in invalid group",
    ConflictType.ZarrMetadataDoubleUpdate: "Zarr metadata double update",
    ConflictType.ZarrMetadataUpdateOfDeletedArray: "Zarr metadata update of deleted array",
    ConflictType.ZarrMetadataUpdateOfDeletedGroup: "Zarr metadata update of deleted group",
    ConflictType.ChunkDoubleUpdate: "Chunk double update",
    ConflictType.ChunksUpdatedInDeletedArray: "Chunks updated in deleted array",
    ConflictType.ChunksUpdatedInUpdatedArray: "Chunks updated in updated array",
    ConflictType.DeleteOfUpdatedArray: "Delete of updated array",
    ConflictType.DeleteOfUpdatedGroup: "Delete of updated group",
    ConflictType.MoveOperationCannotBeRebased: "Move operation cannot be rebased",
}


@dataclass(frozen=True, slots=True, repr=False)
class Conflict(Shown):
    """One conflict, as reported to users."""

    conflict_type: ConflictType
    """What clashed."""
    path: str
    """The node it is about; empty when it is about the whole commit."""
    conflicted_chunks: list[list[int]] | None = None
    """Sorted coordinates of the chunks that both wrote, for ``ChunkDoubleUpdate``."""

    def _block(self) -> Block:
        fields: dict[str, object] = {"conflict_type": self.conflict_type.name, "path": self.path}
        if self.conflicted_chunks is not None:
            fields["conflicted_chunks"] = self.conflicted_chunks
        return Block.of("icechunk.conflicts.Conflict", fields)


@dataclass(frozen=True, slots=True)
class Clash:
    """One conflict, as solvers see it: chunk coordinates are columns."""

    kind: ConflictType
    path: str
    node_id: bytes = b""
    coords: Coords | None = None
    """Chunks that both wrote, `(n, rank)` in order."""

    def public(self) -> Conflict:
        """Return the record for users."""
        chunks = None if self.coords is None else self.coords.tolist()
        return Conflict(self.kind, self.path, chunks)


NodeIds = npt.NDArray[np.uint8]


@dataclass(slots=True)
class OurChunks:
    """What we wrote or deleted in one array, and how much of that we still stand by."""

    table: ChunkTable
    kept: Mask = field(init=False)
    """Rows that no solver has taken back."""

    def __post_init__(self) -> None:
        self.kept = np.ones(len(self.table), np.bool_)

    def shared_with(self, coords: Coords) -> Coords:
        """Return those of the sorted coordinates at which we have something too."""
        if not len(coords) or not self._meets(coords):
            return coords[:0]
        rows = self.table.locate(coords)
        is_shared = rows >= 0
        is_shared[is_shared] = self.kept[rows[is_shared]]
        return coords[is_shared]

    def _meets(self, coords: Coords) -> bool:
        """Whether the sorted coordinates reach into ours at all, by the first axis alone."""
        if not self.table.rank:
            return True
        low, high = self.table.bounds()[0]
        return bool(coords[0, 0] < high and coords[-1, 0] >= low)

    def take_back(self, coords: Coords) -> None:
        """Stand no longer by what is at the coordinates."""
        self.kept[self.table.locate(coords)] = False


@dataclass(frozen=True, slots=True)
class OurEdits:
    """The edits of a session by kind, in order of paths; gathered once for a whole rebase."""

    changes: ChangeSet
    updated_arrays: Mapping[bytes, NodeEdit]
    updated_groups: Mapping[bytes, NodeEdit]
    deleted_arrays: Mapping[bytes, str]
    """Paths by node id, of nodes of the base snapshot."""
    deleted_groups: Mapping[bytes, str]
    chunks: dict[bytes, OurChunks]
    """What was written or deleted, by the id of an array of the base snapshot."""
    paths: Callable[[bytes], str | None]
    """Path of an array of the base snapshot."""

    @classmethod
    def of(cls, changes: ChangeSet, base: NodeTable) -> OurEdits:
        """Sort the edits of a change set on a base snapshot by kind."""

        def path_of(node_id: bytes) -> str | None:
            node = base.find_id(node_id)
            return None if node is None else node.path

        # in order of paths, and so are conflicts of one kind
        updated = sorted(changes.updated.values(), key=lambda edit: edit.path)
        deleted = sorted(changes.deleted.values(), key=lambda node: node.path)
        created = {edit.id for edit in changes.created.values()}
        written = [
            (node_id, table)
            for node_id, table in changes.tables()
            if len(table) and node_id not in created
        ]
        written.sort(key=lambda item: path_of(item[0]) or "")
        return cls(
            changes=changes,
            updated_arrays={edit.id: edit for edit in updated if edit.grid is not None},
            updated_groups={edit.id: edit for edit in updated if edit.grid is None},
            deleted_arrays={node.id: node.path for node in deleted if node.is_array},
            deleted_groups={node.id: node.path for node in deleted if not node.is_array},
            chunks={node_id: OurChunks(table) for node_id, table in written},
            paths=path_of,
        )

    def take_back(self, node_id: bytes, coords: Coords) -> None:
        """Forget that we wrote some chunks of an array."""
        chunks = self.chunks[node_id]
        chunks.take_back(coords)
        if not chunks.kept.any():
            del self.chunks[node_id]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Our edits beside one transaction log of theirs."""

    ours: OurEdits
    theirs: TransactionLog
    nodes: Callable[[], NodeTable] = field(repr=False)
    """The nodes after their commit; costs a snapshot the first time."""

    def path_of(self, node_id: bytes) -> str:
        """Name an array whose chunks we wrote."""
        return self.ours.paths(node_id) or encode_id(node_id)


Rule = Callable[[Comparison], Iterator[Clash]]


def new_nodes_on_existing_ones(both: Comparison) -> Iterator[Clash]:
    """Find created nodes whose path is taken, unless by a node that we deleted ourselves."""
    changes = both.ours.changes
    for path in sorted(changes.created):
        node = both.nodes().find(path)
        if node is not None and node.id not in changes.deleted:
            yield Clash(ConflictType.NewNodeConflictsWithExistingNode, path, node.id)


def new_nodes_below_arrays(both: Comparison) -> Iterator[Clash]:
    """Find created nodes that are below an array of theirs, and name the nearest such array.

    One for each created node. A missing ancestor is fine.
    """
    changes = both.ours.changes
    for path in sorted(changes.created):
        for above in ancestors(path):  # nearest first
            node = both.nodes().find(above)
            if node is not None and node.array is not None and node.id not in changes.deleted:
                yield Clash(ConflictType.NewNodeInInvalidGroup, above, node.id)
                break


def metadata_updated_twice(both: Comparison) -> Iterator[Clash]:
    """Find nodes whose metadata both changed: first arrays, then groups."""
    for ours, theirs in (
        (both.ours.updated_arrays, both.theirs.updated_arrays),
        (both.ours.updated_groups, both.theirs.updated_groups),
    ):
        for node_id in _shared(ours, theirs):
            yield Clash(ConflictType.ZarrMetadataDoubleUpdate, ours[node_id].path, node_id)


def metadata_of_deleted_arrays(both: Comparison) -> Iterator[Clash]:
    """Find arrays that they deleted while we changed their metadata."""
    ours = both.ours.updated_arrays
    for node_id in _shared(ours, both.theirs.deleted_arrays):
        yield Clash(ConflictType.ZarrMetadataUpdateOfDeletedArray, ours[node_id].path, node_id)


def metadata_of_deleted_groups(both: Comparison) -> Iterator[Clash]:
    """Find groups that they deleted while we changed their metadata."""
    ours = both.ours.updated_groups
    for node_id in _shared(ours, both.theirs.deleted_groups):
        yield Clash(ConflictType.ZarrMetadataUpdateOfDeletedGroup, ours[node_id].path, node_id)


def chunks_in_deleted_arrays(both: Comparison) -> Iterator[Clash]:
    """Find arrays that they deleted while we wrote chunks."""
    for node_id in _shared(both.ours.chunks, both.theirs.deleted_arrays):
        yield Clash(ConflictType.ChunksUpdatedInDeletedArray, both.path_of(node_id), node_id)


def chunks_in_updated_arrays(both: Comparison) -> Iterator[Clash]:
    """Find arrays whose metadata they changed while we wrote chunks.

    The reverse is no conflict, unless we changed the number of axes: their chunks would have no
    place then.
    """
    for node_id in _shared(both.ours.chunks, both.theirs.updated_arrays):
        yield Clash(ConflictType.ChunksUpdatedInUpdatedArray, both.path_of(node_id), node_id)
    for node_id, edit in both.ours.updated_arrays.items():
        coords = both.theirs.updated_chunks.get(node_id)
        if coords is not None and edit.grid and coords.shape[1] != len(edit.grid.num_chunks):
            yield Clash(ConflictType.ChunksUpdatedInUpdatedArray, edit.path, node_id)


def chunks_updated_twice(both: Comparison) -> Iterator[Clash]:
    """Find the chunks that both wrote or deleted."""
    for node_id, ours in both.ours.chunks.items():
        coords = both.theirs.updated_chunks.get(node_id)
        if coords is None or coords.shape[1] != ours.table.rank:
            continue
        shared = ours.shared_with(coords)
        if len(shared):
            path = both.path_of(node_id)
            yield Clash(ConflictType.ChunkDoubleUpdate, path, node_id, shared)


def deletes_of_updated_arrays(both: Comparison) -> Iterator[Clash]:
    """Find arrays that we deleted while they changed metadata or chunks, and still have them."""
    theirs = both.theirs
    ours = both.ours.deleted_arrays
    changed = {*_shared(ours, theirs.updated_arrays), *(ours.keys() & theirs.updated_chunks.keys())}
    for node_id in sorted(changed - {*_shared(ours, theirs.deleted_arrays)}, key=ours.__getitem__):
        yield Clash(ConflictType.DeleteOfUpdatedArray, ours[node_id], node_id)


def deletes_of_updated_groups(both: Comparison) -> Iterator[Clash]:
    """Find groups that we deleted while they changed metadata, and still have them."""
    ours = both.ours.deleted_groups
    gone = {*_shared(ours, both.theirs.deleted_groups)}
    for node_id in _shared(ours, both.theirs.updated_groups):
        if node_id not in gone:
            yield Clash(ConflictType.DeleteOfUpdatedGroup, ours[node_id], node_id)


RULES: Final[tuple[Rule, ...]] = (
    new_nodes_on_existing_ones,
    new_nodes_below_arrays,
    metadata_updated_twice,
    metadata_of_deleted_arrays,
    metadata_of_deleted_groups,
    chunks_in_deleted_arrays,
    chunks_in_updated_arrays,
    chunks_updated_twice,
    deletes_of_updated_arrays,
    deletes_of_updated_groups,
)
"""All rules, in the order in which conflicts are reported."""


def find_conflicts(both: Comparison) -> list[Clash]:
    """Return every conflict between our edits and one commit of theirs, in order of kinds.

    When they moved nodes, that is the only conflict: paths then mean something else, and nothing
    more can be said.
    """
    if both.theirs.moves:
        return [Clash(ConflictType.MoveOperationCannotBeRebased, "")]
    return [clash for rule in RULES for clash in rule(both)]


def _shared(ours: Iterable[bytes], theirs: NodeIds) -> list[bytes]:
    """Return the node ids that are in both, in the order of ours."""
    mine = list(ours)
    if not mine or not len(theirs):
        return []
    rows = id_column(mine, NODE_ID_SIZE).view(np.uint64).reshape(-1)
    found = np.isin(rows, np.ascontiguousarray(theirs).view(np.uint64).reshape(-1))
    return [mine[row] for row in np.flatnonzero(found)]

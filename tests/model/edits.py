"""What a session did, as dictionaries; what it amounts to on a snapshot; how two of them merge."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from model.values import (
    Chunk,
    Coords,
    Document,
    FailedError,
    Node,
    Nodes,
    Path,
    absolute,
    ancestors,
    by_component,
    is_below,
    renamed,
)


class Move(NamedTuple):
    born: int
    source: Path
    target: Path


Written = dict[int, dict[Coords, Chunk | None]]


@dataclass(frozen=True)
class Log:
    """What a commit did, by identity of nodes."""

    new: frozenset[int] = frozenset()
    deleted: frozenset[int] = frozenset()
    updated: frozenset[int] = frozenset()
    written: Mapping[int, frozenset[Coords]] = field(default_factory=dict)
    moved: Mapping[int, tuple[Path, Path]] = field(default_factory=dict)

    @property
    def changes_tree(self) -> bool:
        return bool(self.new or self.deleted or self.moved)

    def then(self, later: Log) -> Log:
        """Describe what two commits did together."""
        borns = self.written.keys() | later.written.keys()
        none = frozenset[Coords]()
        moved = dict(self.moved)
        for born, (source, target) in later.moved.items():
            moved[born] = (moved[born][0] if born in moved else source, target)
        return Log(
            self.new | later.new,
            self.deleted | later.deleted,
            self.updated | later.updated,
            {born: self.written.get(born, none) | later.written.get(born, none) for born in borns},
            {born: move for born, move in moved.items() if move[0] != move[1]},
        )

    def named(self, before: Nodes, after: Nodes) -> dict[str, Any]:
        """Tell it in paths, as a `Diff` does; nodes that neither side has are left out."""
        found = {
            node.born: (path, node.is_array)
            for nodes in (before, after)
            for path, node in nodes.items()
        }

        def paths(borns: Iterable[int], is_array: bool) -> list[str]:
            known = [found[born] for born in borns if born in found]
            return sorted({absolute(path) for path, kind in known if kind == is_array})

        # of two arrays with one path, the one that is still there
        present = {node.born for node in after.values()}
        moves = sorted(self.moved.values(), key=lambda move: by_component(move[1]))
        return {
            "new_groups": paths(self.new, False),
            "new_arrays": paths(self.new, True),
            "deleted_groups": paths(self.deleted, False),
            "deleted_arrays": paths(self.deleted, True),
            "updated_groups": paths(self.updated, False),
            "updated_arrays": paths(self.updated, True),
            "updated_chunks": {
                absolute(found[born][0]): sorted(map(list, self.written[born]))
                for born in sorted(self.written, key=lambda born: born in present)
                if born in found
            },
            "moved_nodes": [[absolute(source), absolute(target)] for source, target in moves],
        }


@dataclass
class Edits:
    """Uncommitted edits of one session.

    `stamps` says when each document, deletion and chunk was edited, on a clock that ticks with
    every step: merging asks whether a fork could see an edit.
    """

    created: dict[Path, int] = field(default_factory=dict)
    documents: dict[int, Document] = field(default_factory=dict)
    """Of created and of updated nodes."""
    deleted: dict[int, tuple[Path, bool]] = field(default_factory=dict)
    """Where the node was, and whether it is an array."""
    written: Written = field(default_factory=dict)
    moves: list[Move] = field(default_factory=list)
    stamps: dict[Any, int] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        return not (self.created or self.documents or self.deleted or self.written or self.moves)

    @property
    def new(self) -> set[int]:
        return set(self.created.values())

    @property
    def updated(self) -> set[int]:
        return set(self.documents) - self.new

    def copy(self) -> Edits:
        return deepcopy(self)

    # --- recording -----------------------------------------------------------------------------

    def create(self, path: Path, born: int, document: Document, now: int) -> None:
        self.created[path] = born
        self.put(born, document, now)

    def put(self, born: int, document: Document, now: int) -> None:
        self.documents[born] = document
        self.stamps[born] = now

    def delete(self, path: Path, node: Node) -> None:
        self.forget(node.born)
        if self.created.get(path) == node.born:
            del self.created[path]
        else:
            self.deleted[node.born] = (path, node.is_array)

    def forget(self, born: int) -> None:
        """Drop what was done to a node."""
        self.documents.pop(born, None)
        self.written.pop(born, None)

    def write(self, born: int, coords: Coords, chunk: Chunk | None, now: int) -> None:
        self.written.setdefault(born, {})[coords] = chunk
        self.stamps[born, coords] = now

    # --- meaning -------------------------------------------------------------------------------

    def on(self, base: Nodes) -> dict[Path, Node]:
        """Show a snapshot with these edits."""
        nodes = {path: node for path, node in base.items() if node.born not in self.deleted}
        for path, born in self.created.items():
            nodes[path] = Node(born, self.documents[born])
        for path, node in nodes.items():
            chunks = {**node.chunks, **self.written.get(node.born, {})}
            nodes[path] = Node(
                node.born,
                self.documents.get(node.born, node.document),
                {coords: chunk for coords, chunk in chunks.items() if chunk is not None},
            )
        for _, source, target in self.moves:
            nodes = {renamed(path, source, target): node for path, node in nodes.items()}
        return nodes

    def log(self, base: Nodes) -> Log:
        """Say what a commit on this base does."""
        origin = {node.born: path for path, node in base.items()}
        place = {node.born: path for path, node in self.on(base).items()} if self.moves else {}
        return Log(
            frozenset(self.new),
            frozenset(self.deleted),
            frozenset(self.updated),
            {born: frozenset(chunks) for born, chunks in self.written.items()},
            {born: (origin[born], path) for born, path in place.items() if origin[born] != path},
        )


def moved(nodes: Nodes, source: Path, target: Path) -> Nodes:
    """Move a node with all below it."""
    above = ancestors(target)[0] if target else ""
    places = {path: renamed(path, source, target) for path in nodes}
    taken = target in nodes or len(set(places.values())) < len(nodes)
    for holds, class_name, kind in (
        (source in nodes, "NodeNotFoundError", "node-not-found"),
        (not is_below(target, source), "SessionStateError", "move-into-self-or-descendant"),
        (target not in nodes, "AlreadyExistsError", "move-wont-overwrite"),
        (above in nodes, "SessionStateError", "move-destination-parent-missing"),
        (
            above in nodes and not nodes[above].is_array,
            "SessionStateError",
            "move-destination-parent-not-group",
        ),
        (not taken, "AlreadyExistsError", "move-wont-overwrite"),
    ):
        if not holds:
            raise FailedError(class_name, kind)
    return {places[path]: node for path, node in nodes.items()}


class MergeRefusedError(Exception):
    """Two writers' edits exclude each other."""


def merged(mine: Edits, other: Edits, base: Nodes, seen: int, now: int) -> Edits:
    """Take over another writer's edits.

    An edit of mine stamped later than ``seen`` is one that the other could not see. ``base`` is
    what my edits are on.
    """
    draft = mine.copy()
    known = {node.born for node in base.values()}
    places = {path: node.born for path, node in base.items()}

    def unseen(*key: Any) -> bool:
        return mine.stamps.get(key if len(key) > 1 else key[0], -1) > seen

    def require(holds: bool, reason: str) -> None:
        if not holds:
            raise MergeRefusedError(reason)

    def take_document(born: int) -> None:
        document = other.documents[born]
        same = draft.documents.get(born, document) == document
        require(same or not unseen(born), "updated twice")
        draft.put(born, document, now)

    for born, (path, is_array) in other.deleted.items():
        require(not (born in draft.documents and unseen(born)), "deleted and updated")
        written = draft.written.get(born, {})
        require(not any(unseen(born, coords) for coords in written), "deleted and written")
        draft.forget(born)
        if born in draft.new:
            draft.created = {p: other for p, other in draft.created.items() if other != born}
        elif born in known:
            draft.deleted[born] = (path, is_array)
    for path, born in other.created.items():
        below = None if path in draft.created else places.get(path)
        require(below is None or below in draft.deleted, "created what the base has")
        require(draft.created.get(path, born) == born, "created twice")
        require(born not in draft.deleted, "deleted and updated")
        take_document(born)
        draft.created[path] = born
    for born in other.updated:
        require(born not in draft.deleted, "deleted and updated")
        require(born in draft.new or born in known, "unknown node")
        take_document(born)
    for born, chunks in other.written.items():
        require(born not in draft.deleted, "deleted and written")
        require(born in draft.new or born in known, "unknown node")
        for coords, chunk in chunks.items():
            before = draft.written.get(born, {})
            clash = coords in before and before[coords] != chunk
            require(not (clash and unseen(born, coords)), "overlap")
            draft.write(born, coords, chunk, now)
    return draft

"""The node tree a session sees: its base snapshot with the change set on top.

Answers questions about nodes and records edits of nodes; chunks are `workspace`'s business.
Lookup order: nodes created in the session by path, then the base snapshot unless the node was
deleted, with updated documents overlaid.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from icechunk._fork import new_rlock
from icechunk.changes.change_set import ChangeSet, NodeEdit
from icechunk.changes.documents import ArrayGrid, parse_document
from icechunk.changes.extents import ManifestFinder
from icechunk.errors import AlreadyExistsError, ErrorKind, InvalidInputError, NodeNotFoundError
from icechunk.format.ids import encode_id
from icechunk.format.paths import ROOT, ancestors, is_same_or_descendant, name, parent
from icechunk.format.snapshot import ManifestRef, Node, Snapshot


@dataclass(frozen=True, slots=True)
class NodeState:
    """One node as the session sees it."""

    id: bytes
    path: str
    user_data: bytes
    grid: ArrayGrid | None
    """Chunk grid of an array; None for a group."""
    manifests: tuple[ManifestRef, ...]
    """Committed manifests of an array, in the order readers try them."""
    is_new: bool
    """Created in this session: not in the base snapshot."""
    finder: ManifestFinder = field(init=False, repr=False, compare=False)
    """Tells which of the manifests holds a chunk."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "finder", ManifestFinder(self.manifests))

    @property
    def is_array(self) -> bool:
        """Whether the node is an array."""
        return self.grid is not None


class NodeView:
    """Nodes of a base snapshot overlaid with a change set; edits go to the change set.

    Safe for concurrent use by threads.
    """

    def __init__(self, base: Snapshot, changes: ChangeSet) -> None:
        self.base = base
        self.changes = changes
        self._cache: dict[str, NodeState] = {}
        self._created_children: dict[str, set[str]] | None = None
        self._lock = new_rlock()

    # --- questions -----------------------------------------------------------------------------

    def find(self, path: str) -> NodeState | None:
        """Return the node at ``path`` or None."""
        state = self._cache.get(path)
        if state is not None:
            return state
        with self._lock:
            state = self._load(path)
            if state is not None:
                self._cache[path] = state
            return state

    def get(self, path: str) -> NodeState:
        """Return the node at ``path``.

        Raises
        ------
        NodeNotFoundError
            Kind ``node-not-found``: there is none.
        """
        state = self.find(path)
        if state is None:
            raise NodeNotFoundError(
                f"node not found at `{path}` in snapshot {encode_id(self.base.id)}",
                ErrorKind.NODE_NOT_FOUND,
            )
        return state

    def get_array(self, path: str) -> NodeState:
        """Return the array at ``path``.

        Raises
        ------
        NodeNotFoundError
            Kind ``node-not-found``: there is no node.
        InvalidInputError
            Kind ``not-an-array``: the node is a group.
        """
        state = self.get(path)
        if state.grid is None:
            raise InvalidInputError(
                f"the node at `{path}` is a group, not an array", ErrorKind.NOT_AN_ARRAY
            )
        return state

    def subtree(self, path: str) -> Iterator[NodeState]:
        """Iterate over the node at ``path`` and its descendants.

        Nodes of the base snapshot come first, in the snapshot's order, then created ones by path.
        """
        with self._lock:
            created = sorted(p for p in self.changes.created if is_same_or_descendant(p, path))
        committed = self.base.nodes
        top = committed.row(path)
        for row in (*([] if top is None else [top]), *committed.subtree(path)):
            node = committed[row]
            if node.id not in self.changes.deleted:
                state = self.find(node.path)
                if state is not None and state.id == node.id:
                    yield state
        for created_path in created:
            state = self.find(created_path)
            if state is not None and state.is_new:
                yield state

    def child_names(self, path: str) -> list[str]:
        """Names of the direct children of a group, sorted."""
        deleted = self.changes.deleted
        with self._lock:
            committed = self.base.nodes.children(path)
            names = {child for child, node_id in committed.items() if node_id not in deleted}
            names |= self._children_index().get(path, set())
        return sorted(names)

    def nearest_array(self, path: str) -> NodeState | None:
        """Return the closest ancestor of ``path`` that exists, when it is an array."""
        for above in ancestors(path):
            state = self.find(above)
            if state is not None:
                return state if state.is_array else None
        return None

    # --- edits ---------------------------------------------------------------------------------

    def put_document(self, path: str, user_data: bytes, new_id: bytes) -> None:
        """Create the node at ``path`` with id ``new_id``, or replace the document of the one there.

        An identical document is no change.

        Raises
        ------
        InvalidInputError
            Kind ``bad-metadata``: see `parse_document`.
        AlreadyExistsError
            Kind ``node-already-exists``: an array document for a group or the reverse.
        """
        grid = parse_document(user_data, path)
        with self.changes.lock, self._lock:
            self.changes.require_open()
            state = self.find(path)
            if state is None:
                self.changes.put_document(new_id, path, user_data, grid, is_new=True)
                self._created_children = None
            elif (state.grid is None) != (grid is None):
                is_, new = ("array", "group") if state.is_array else ("group", "array")
                raise AlreadyExistsError(
                    f"cannot write a {new} document at `{path}`: an {is_} exists there; "
                    "delete it first",
                    ErrorKind.NODE_ALREADY_EXISTS,
                )
            elif state.user_data != user_data:
                self._check_rank(state, grid)
                self.changes.put_document(state.id, path, user_data, grid, is_new=state.is_new)
            self._cache.pop(path, None)

    def delete(self, path: str) -> None:
        """Delete the node at ``path`` and all its descendants; nothing there is no error.

        What is below a place without a node has nothing to do with it, and stays.
        """
        with self.changes.lock, self._lock:
            self.changes.require_open()
            if self.find(path) is not None:
                self._delete_subtree(path)

    def clear(self) -> None:
        """Delete every node, whether there is a root or not."""
        with self.changes.lock, self._lock:
            self.changes.require_open()
            self._delete_subtree(ROOT)

    def _delete_subtree(self, path: str) -> None:
        for state in list(self.subtree(path)):
            self.changes.delete(state.id, state.path, is_array=state.is_array)
            self._cache.pop(state.path, None)
        self._created_children = None

    def forget(self) -> None:
        """Drop what was derived from the change set, after it was edited from outside."""
        with self._lock:
            self._cache.clear()
            self._created_children = None

    # --- inside --------------------------------------------------------------------------------

    def _load(self, path: str) -> NodeState | None:
        edit = self.changes.created.get(path)
        if edit is not None:
            return _created_state(edit)
        node = self.base.nodes.find(path)
        if node is None or node.id in self.changes.deleted:
            return None
        return _base_state(node, self.changes.updated.get(node.id))

    def _check_rank(self, state: NodeState, grid: ArrayGrid | None) -> None:
        """Refuse to change the rank of an array whose chunks would lose their meaning."""
        if grid is None or state.grid is None or len(grid.shape) == len(state.grid.shape):
            return
        if state.manifests or self.changes.chunks.get(state.id):
            raise InvalidInputError(
                f"bad metadata for node `{state.path}`: the array has chunks of rank "
                f"{len(state.grid.shape)} and cannot become one of rank {len(grid.shape)}; "
                "delete the array first",
                ErrorKind.BAD_METADATA,
            )

    def _children_index(self) -> dict[str, set[str]]:
        """Names of created nodes by parent path."""
        if self._created_children is None:
            index: dict[str, set[str]] = {}
            for path in self.changes.created:
                above = parent(path)
                if above is not None:
                    index.setdefault(above, set()).add(name(path))
            self._created_children = index
        return self._created_children


def _created_state(edit: NodeEdit) -> NodeState:
    return NodeState(edit.id, edit.path, edit.user_data, edit.grid, (), is_new=True)


def _base_state(node: Node, edit: NodeEdit | None) -> NodeState:
    manifests = node.array.manifests if node.array is not None else ()
    if edit is not None:
        return NodeState(node.id, node.path, edit.user_data, edit.grid, manifests, is_new=False)
    grid = None
    if node.array is not None:
        array = node.array
        grid = ArrayGrid(array.shape, array.num_chunks, array.dimension_names)
    return NodeState(node.id, node.path, node.user_data, grid, manifests, is_new=False)

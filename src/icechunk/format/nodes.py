"""The nodes of a snapshot, as one table of columns sorted by path.

A snapshot may hold tens of thousands of arrays of which a commit touches one. So the table is
columns from the file to the next file; a `Node` object is made for a row when somebody asks for
it, and `NodeTable.replace` copies all other rows without looking at them.
Icechunk spec, "Snapshot files".
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from icechunk.chunks.ragged import RaggedBytes
from icechunk.format.ids import NODE_ID_SIZE, OBJECT_ID_SIZE, id_column, ids_of_column, sortable
from icechunk.format.rows import Int64s, concat_starts, gather_rows, starts_of

__all__ = ["ArrayData", "ManifestRef", "Node", "NodeColumns", "NodeTable"]


@dataclass(frozen=True, slots=True)
class ManifestRef:
    """A manifest that holds chunks of an array, and the box of coordinates it covers."""

    id: bytes
    extents: tuple[tuple[int, int], ...]
    """One half-open range per dimension; empty covers everything."""


@dataclass(frozen=True, slots=True)
class ArrayData:
    """What a snapshot knows of an array besides its ``zarr.json``."""

    shape: tuple[int, ...]
    num_chunks: tuple[int, ...]
    """Number of chunks along each dimension."""
    dimension_names: tuple[str | None, ...] | None = None
    """None where ``zarr.json`` names no dimensions at all."""
    manifests: tuple[ManifestRef, ...] = ()


@dataclass(frozen=True, slots=True)
class Node:
    """A group or array of a snapshot."""

    id: bytes
    """8 bytes, kept for life: through moves and changes of metadata."""
    path: str
    user_data: bytes
    """The ``zarr.json`` document, byte for byte."""
    array: ArrayData | None = None
    """None for groups."""


@dataclass(frozen=True, slots=True, eq=False)
class NodeColumns:
    """The columns of `n` nodes, in any order; groups have empty array columns."""

    paths: RaggedBytes  # n
    ids: npt.NDArray[np.uint8]  # (n, 8)
    user_data: RaggedBytes  # n
    is_array: npt.NDArray[np.bool_]  # (n,)
    dim_starts: Int64s  # (n + 1,) into the next two
    array_lengths: npt.NDArray[np.uint64]  # (dims,)
    num_chunks: npt.NDArray[np.uint32]  # (dims,)
    has_names: npt.NDArray[np.bool_]  # (n,) whether dimension names are given at all
    name_starts: Int64s  # (n + 1,) into the next two
    name_is_given: npt.NDArray[np.bool_]  # (names,) False: unnamed dimension
    names: RaggedBytes  # names
    ref_starts: Int64s  # (n + 1,) into the next two
    ref_ids: npt.NDArray[np.uint8]  # (refs, 12)
    extent_starts: Int64s  # (refs + 1,) into the next
    extents: npt.NDArray[np.uint32]  # (ranges, 2), half-open

    def __len__(self) -> int:
        return len(self.is_array)

    def take(self, rows: npt.NDArray[np.intp]) -> NodeColumns:
        """Copy some rows, in the order given."""
        dim_starts, dims = gather_rows(self.dim_starts, rows)
        name_starts, names = gather_rows(self.name_starts, rows)
        ref_starts, refs = gather_rows(self.ref_starts, rows)
        extent_starts, ranges = gather_rows(self.extent_starts, refs)
        return NodeColumns(
            paths=self.paths.take(rows),
            ids=self.ids[rows],
            user_data=self.user_data.take(rows),
            is_array=self.is_array[rows],
            dim_starts=dim_starts,
            array_lengths=self.array_lengths[dims],
            num_chunks=self.num_chunks[dims],
            has_names=self.has_names[rows],
            name_starts=name_starts,
            name_is_given=self.name_is_given[names],
            names=self.names.take(names),
            ref_starts=ref_starts,
            ref_ids=self.ref_ids[refs],
            extent_starts=extent_starts,
            extents=self.extents[ranges],
        )

    def concat(self, other: NodeColumns) -> NodeColumns:
        """Append the rows of `other`."""
        joined: dict[str, Any] = {}
        for column in fields(self):
            mine, theirs = getattr(self, column.name), getattr(other, column.name)
            if isinstance(mine, RaggedBytes):
                joined[column.name] = RaggedBytes.concat([mine, theirs])
            elif column.name.endswith("_starts"):
                joined[column.name] = concat_starts(mine, theirs)
            else:
                joined[column.name] = np.concatenate([mine, theirs])
        return NodeColumns(**joined)

    @classmethod
    def of(cls, nodes: list[Node]) -> NodeColumns:
        """Lay out some nodes as columns; the only place with a loop per node."""
        arrays = [node.array or _NOT_AN_ARRAY for node in nodes]
        names = [array.dimension_names or () for array in arrays]
        flat_names = [name for group in names for name in group]
        refs = [ref for array in arrays for ref in array.manifests]
        return cls(
            paths=RaggedBytes.from_list([node.path.encode() for node in nodes]),
            ids=id_column([node.id for node in nodes], NODE_ID_SIZE),
            user_data=RaggedBytes.from_list([node.user_data for node in nodes]),
            is_array=np.array([node.array is not None for node in nodes], dtype=bool),
            dim_starts=starts_of([len(array.shape) for array in arrays]),
            array_lengths=np.array([n for a in arrays for n in a.shape], dtype=np.uint64),
            num_chunks=np.array([n for a in arrays for n in a.num_chunks], dtype=np.uint32),
            has_names=np.array([a.dimension_names is not None for a in arrays], dtype=bool),
            name_starts=starts_of([len(group) for group in names]),
            name_is_given=np.array([name is not None for name in flat_names], dtype=bool),
            names=RaggedBytes.from_list([(name or "").encode() for name in flat_names]),
            ref_starts=starts_of([len(array.manifests) for array in arrays]),
            ref_ids=id_column([ref.id for ref in refs], OBJECT_ID_SIZE),
            extent_starts=starts_of([len(ref.extents) for ref in refs]),
            extents=np.array(
                [pair for ref in refs for pair in ref.extents], dtype=np.uint32
            ).reshape(-1, 2),
        )

    def node(self, row: int) -> Node:
        """Make the object of one row."""
        path = self.paths[row].decode()
        array = self._array(row) if self.is_array[row] else None
        return Node(self.ids[row].tobytes(), path, self.user_data[row], array)

    def _array(self, row: int) -> ArrayData:
        dims = slice(self.dim_starts[row], self.dim_starts[row + 1])
        dimension_names = None
        if self.has_names[row]:
            dimension_names = tuple(
                self.names[i].decode() if self.name_is_given[i] else None
                for i in range(self.name_starts[row], self.name_starts[row + 1])
            )
        return ArrayData(
            shape=tuple(self.array_lengths[dims].tolist()),
            num_chunks=tuple(self.num_chunks[dims].tolist()),
            dimension_names=dimension_names,
            manifests=tuple(
                self._ref(i) for i in range(self.ref_starts[row], self.ref_starts[row + 1])
            ),
        )

    def _ref(self, ref: int) -> ManifestRef:
        ranges = self.extents[self.extent_starts[ref] : self.extent_starts[ref + 1]].tolist()
        return ManifestRef(self.ref_ids[ref].tobytes(), tuple((low, high) for low, high in ranges))


_NOT_AN_ARRAY = ArrayData(shape=(), num_chunks=())


@dataclass(frozen=True, slots=True, eq=False)
class NodeTable:
    """Nodes sorted by the bytes of their paths, each path once. Immutable.

    Rows become `Node` objects on access, and stay; lookups are binary searches.
    """

    columns: NodeColumns
    _made: dict[int, Node] = field(default_factory=dict, init=False, repr=False)
    _found: dict[str, int] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def from_nodes(cls, nodes: Iterable[Node]) -> NodeTable:
        """Build a table; of several nodes with one path the last counts."""
        by_path = {node.path: node for node in nodes}
        # Code points sort like UTF-8 bytes.
        return cls(NodeColumns.of([by_path[path] for path in sorted(by_path)]))

    @classmethod
    def empty(cls) -> NodeTable:
        """Build the table of a repository's first snapshot, which has not even a root group."""
        return cls.from_nodes(())

    def __len__(self) -> int:
        return len(self.columns)

    def __iter__(self) -> Iterator[Node]:
        return (self[row] for row in range(len(self)))

    def __getitem__(self, row: int) -> Node:
        node = self._made.get(row)
        if node is None:
            if not -len(self) <= row < len(self):
                raise IndexError(f"row {row} of a table of {len(self)} nodes")
            row %= len(self)
            node = self._made[row] = self.columns.node(row)
        return node

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, NodeTable):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def row(self, path: str) -> int | None:
        """Find the row of a path."""
        row = self._found.get(path)
        if row is None:
            encoded = path.encode(errors="surrogatepass")
            row = self._bisect(encoded)
            if row == len(self) or self.columns.paths[row] != encoded:
                return None
            self._found[path] = row
        return row

    def find(self, path: str) -> Node | None:
        """Look up a node by path."""
        row = self.row(path)
        return None if row is None else self[row]

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str) and self.row(path) is not None

    def find_id(self, node_id: bytes) -> Node | None:
        """Look up a node by id: a scan of the id column, microseconds for thousands of nodes."""
        wanted = np.frombuffer(node_id, dtype=np.uint64)
        rows = np.flatnonzero(_as_numbers(self.columns.ids) == wanted)
        return self[int(rows[0])] if len(rows) else None

    def locate_ids(self, ids: npt.NDArray[np.uint8]) -> Int64s:
        """Find the rows of a ``(k, 8)`` column of ids, -1 for those of no node here."""
        mine, wanted = _as_numbers(self.columns.ids), _as_numbers(ids)
        rows = np.full(len(wanted), -1, dtype=np.int64)
        if len(mine):
            order = np.argsort(mine, kind="stable")
            slots = np.minimum(np.searchsorted(mine, wanted, sorter=order), len(mine) - 1)
            candidates = order[slots]
            is_here = mine[candidates] == wanted
            rows[is_here] = candidates[is_here]
        return rows

    def subtree(self, path: str) -> range:
        """Rows strictly below `path`: they are adjacent, since all start with the same bytes."""
        prefix = b"/" if path == "/" else path.encode() + b"/"
        start = self._bisect(prefix)
        if path == "/" and start < len(self) and self.columns.paths[start] == prefix:
            start += 1
        return range(start, self._bisect(_after(prefix)))

    def children(self, path: str) -> dict[str, bytes]:
        """Names and ids of the nodes directly below `path`, in path order; makes no nodes."""
        ids = self.columns.ids
        return {name: ids[row].tobytes() for name, row in self._child_rows(path)}

    def replace(self, removed: Iterable[str], upserts: Iterable[Node]) -> NodeTable:
        """Build the table without the `removed` paths, and with `upserts` added or exchanged.

        Unknown removed paths are ignored. The cost per unchanged row is that of copying its bytes.
        """
        changed = NodeTable.from_nodes(upserts)
        gone = {self.row(path) for path in removed} | {self.row(node.path) for node in changed}
        gone.discard(None)
        if not gone and not len(changed):
            return self
        kept = np.delete(np.arange(len(self)), sorted(row for row in gone if row is not None))
        # An upsert belongs before the row that its path would push aside.
        slots = np.array([self._bisect(path) for path in changed.columns.paths], dtype=np.int64)
        order = np.argsort(np.concatenate([kept * 2 + 1, slots * 2]), kind="stable")
        rows = np.concatenate([kept, len(self) + np.arange(len(changed))])[order]
        return NodeTable(self.columns.concat(changed.columns).take(rows))

    def manifest_ids(self) -> list[bytes]:
        """List the distinct manifests that any array refers to, sorted."""
        distinct = np.unique(sortable(self.columns.ref_ids))
        return ids_of_column(distinct.view(np.uint8).reshape(-1, OBJECT_ID_SIZE))

    def _bisect(self, path: bytes) -> int:
        return bisect_left(self.columns.paths, path)

    def _child_rows(self, path: str) -> Iterator[tuple[str, int]]:
        """Yield name and row of each child that is a node itself."""
        below = self.subtree(path)
        prefix = b"/" if path == "/" else path.encode() + b"/"
        row = below.start
        while row < below.stop:
            name, slash, _ = self.columns.paths[row][len(prefix) :].partition(b"/")
            if slash:
                # Content of a child: skip the rest of it, which can be most of the table.
                row = self._bisect(_after(prefix + name + b"/"))
            else:
                yield name.decode(), row
                row += 1


def _after(prefix: bytes) -> bytes:
    """First byte string after all those that start with `prefix`, which ends with a slash."""
    return prefix[:-1] + b"0"


def _as_numbers(ids: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """View a ``(n, 8)`` id column as one number per row, for comparing."""
    return np.ascontiguousarray(ids).view(np.uint64).reshape(-1)

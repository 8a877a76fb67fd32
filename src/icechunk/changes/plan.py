"""Planning the manifests of a commit.

For every array that a session touched: which committed manifests stay as they are, and which
tables of references go into new ones (spec, 'Snapshot files': manifest references). The chunk grid
is cut into *cells* by the splitting configuration; a cell gets a new manifest when the session
wrote in it, or when an old manifest straddles its border. Pure but for ``load``, which fetches the
references of an old manifest; a manifest that stays is never loaded, and one whose references lie
in one cell only when that cell's new manifest is really built. So an attempt that finds the
manifest written by an earlier one costs nothing, see `icechunk.changes.written`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple

from icechunk.chunks import ChunkKind, ChunkTable, cell_around, in_grid, overlay, partition
from icechunk.format.snapshot import ManifestRef

Cell = tuple[int, ...]
Extents = tuple[tuple[int, int], ...]
SplitSizes = tuple[int | None, ...]
"""Chunks per cell along each axis; None leaves an axis uncut."""


EDIT_MIN_REFS: Final = 10_000
"""Smaller manifests are quickly written anew, which keeps them tidy."""
EDIT_MAX_SHARE: Final = 1 / 64
"""How much of a manifest may change before it is written anew."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A few rows on top of the one old manifest that holds the rest of their cell.

    Its file can be made from the old one without decoding it, see
    `icechunk.format.manifest_patch`.
    """

    old: ManifestRef
    rows: ChunkTable
    cell: Cell = ()

    @property
    def identity(self) -> Identity:
        """Equal for equal content, see `Piece.identity`."""
        return ("edit", self.cell, (self.old.id,))

    @property
    def extents(self) -> Extents:
        """Bounding box of old and new rows; nothing is deleted, so it is as tight as the old."""
        return tuple(
            (min(low, first), max(high, end))
            for (low, high), (first, end) in zip(self.old.extents, self.rows.bounds(), strict=True)
        )


Identity = tuple[str, Cell, tuple[bytes, ...]]


@dataclass(frozen=True, slots=True)
class Piece:
    """The references of one cell, for a new manifest; put together when asked for."""

    cell: Cell
    sources: tuple[bytes, ...]
    """Ids of the old manifests whose rows in this cell are part of it, lowest layer first."""
    is_written: bool
    """Whether the session wrote in the cell; else old rows only change their manifest."""
    build: Callable[[], ChunkTable] = field(repr=False)
    """Returns the rows, without tombstones; none at all when everything was deleted."""

    @property
    def identity(self) -> Identity:
        """Equal for equal content, as long as what the session wrote, grid and split stay."""
        return ("piece" if self.is_written else "moved", self.cell, self.sources)


@dataclass(frozen=True, slots=True)
class ManifestPlan:
    """Manifests of one array after a commit."""

    kept: tuple[ManifestRef, ...]
    """Committed manifests that stay as they are."""
    pieces: tuple[Piece, ...]
    """New manifests, one each unless they turn out empty."""
    edits: tuple[Edit, ...] = ()
    """New manifests that differ little from an old one."""


def plan_manifests(
    num_chunks: Sequence[int],
    old: Sequence[ManifestRef],
    written: ChunkTable,
    split: SplitSizes,
    load: Callable[[ManifestRef], ChunkTable],
    count: Callable[[ManifestRef], int] = lambda ref: 0,
    *,
    rewrite: bool = False,
) -> ManifestPlan:
    """Decide which manifests an array has after a commit.

    Parameters
    ----------
    num_chunks
        The new chunk grid. References outside it are dropped for good.
    old
        Manifests of the base snapshot.
    written
        What the session wrote or deleted.
    split
        Chunks per cell along each axis.
    load
        Fetches the references that an old manifest holds for this array.
    count
        Tells how many references an old manifest holds, without fetching it.
    rewrite
        Write every manifest anew, so that there is one per cell.
    """
    fresh = dict(partition(_inside(written, num_chunks), split))  # cell -> rows just written
    below: dict[Cell, list[_Source]] = {cell: [] for cell in fresh}  # what lies under them
    kept: list[ManifestRef] = []
    moved: list[Piece] = []  # old rows of untouched cells whose manifest is cut up
    homes = {ref: None if rewrite else _home(ref, num_chunks, split) for ref in old}
    edits = {} if rewrite else _edits(homes, fresh, count)
    for ref, cell in homes.items():
        if cell is not None and cell in edits:
            del fresh[cell], below[cell]
        elif cell is not None and cell not in fresh:
            kept.append(ref)
        elif cell is not None:
            below[cell].append(_Source(ref.id, _rows_of(ref, cell, num_chunks, split, load)))
        elif _meets_grid(ref, num_chunks):
            for home, rows in partition(_inside(load(ref), num_chunks), split):
                source = _Source(ref.id, partial(_same, rows))
                if rewrite or home in fresh:
                    below.setdefault(home, []).append(source)
                else:
                    moved.append(Piece(home, (ref.id,), is_written=False, build=source.rows))
    merged = [
        Piece(
            cell,
            tuple(source.manifest for source in sources),
            is_written=True,
            build=partial(_merged, sources, fresh.get(cell)),
        )
        for cell, sources in below.items()
        if cell in fresh or sources
    ]
    return ManifestPlan(tuple(kept), (*moved, *merged), tuple(edits.values()))


def manifests_to_read(
    num_chunks: Sequence[int],
    old: Sequence[ManifestRef],
    split: SplitSizes,
    *,
    rewrite: bool = False,
) -> list[ManifestRef]:
    """List the old manifests that `plan_manifests` loads at once, for the same arguments.

    Those that lie in one cell are loaded later, if at all.
    """
    return [
        ref
        for ref in dict.fromkeys(old)
        if (rewrite or _home(ref, num_chunks, split) is None) and _meets_grid(ref, num_chunks)
    ]


class _Source(NamedTuple):
    """Rows of one cell that an old manifest holds."""

    manifest: bytes
    rows: Callable[[], ChunkTable]


def _same(rows: ChunkTable) -> ChunkTable:
    return rows


def _rows_of(
    ref: ManifestRef,
    cell: Cell,
    num_chunks: Sequence[int],
    split: SplitSizes,
    load: Callable[[ManifestRef], ChunkTable],
) -> Callable[[], ChunkTable]:
    """Return a function that loads the rows of a manifest that lie in its one cell."""

    def rows() -> ChunkTable:
        table = _inside(load(ref), num_chunks)
        return dict(partition(table, split)).get(cell, ChunkTable.empty(len(num_chunks)))

    return rows


def _merged(sources: Sequence[_Source], written: ChunkTable | None) -> ChunkTable:
    layers = [source.rows() for source in sources]
    if written is not None:
        layers.append(written)
    return overlay(layers[0], *layers[1:], drop_deleted=True)


def _edits(
    homes: dict[ManifestRef, Cell | None],
    fresh: dict[Cell, ChunkTable],
    count: Callable[[ManifestRef], int],
) -> dict[Cell, Edit]:
    """Find the touched cells whose one old manifest needs little change.

    None when a manifest straddles a border: only reading tells which cells have rows in it.
    """
    if None in homes.values():
        return {}
    tenants = Counter(homes.values())
    edits: dict[Cell, Edit] = {}
    for ref, cell in homes.items():
        if cell is None or cell not in fresh or tenants[cell] > 1:
            continue
        rows, size = fresh[cell], count(ref)
        is_deleting = bool((rows.kinds == ChunkKind.DELETED).any())
        if not is_deleting and size >= EDIT_MIN_REFS and len(rows) <= size * EDIT_MAX_SHARE:
            edits[cell] = Edit(ref, rows, cell)
    return edits


def _inside(table: ChunkTable, num_chunks: Sequence[int]) -> ChunkTable:
    inside = in_grid(table, num_chunks)
    return table if inside.all() else table.take(inside)


def _home(ref: ManifestRef, num_chunks: Sequence[int], split: SplitSizes) -> Cell | None:
    """Return the one cell that holds the whole manifest; None when it straddles a border.

    Extents without ranges, for an array with axes, cover everything: only reading can tell.
    """
    if len(ref.extents) != len(num_chunks) or not all(
        low < high <= n for (low, high), n in zip(ref.extents, num_chunks, strict=True)
    ):
        return None
    return cell_around(ref.extents, split)


def _meets_grid(ref: ManifestRef, num_chunks: Sequence[int]) -> bool:
    return all(low < n for (low, _), n in zip(ref.extents, num_chunks, strict=False))


def extents_of(table: ChunkTable) -> Extents:
    """Tight half-open bounding box of the coordinates of a non-empty table."""
    return tuple((int(low), int(high)) for low, high in table.bounds())

"""Changing a few references of a large manifest without decoding and laying out all of it.

The offsets of a flatbuffer are relative and, except for those to vtables, point forward. So new
references are laid out as a small manifest of their own, which is appended, and the old vector of
references is made to point into it; nothing else of the old payload has to change::

    head | refs vector          | old tables, strings        |
    head | refs vector + k, pad | old tables, strings, as is | small manifest | trailer
         ^ V                    ^ P: all behind it moves by the same multiple of 8 bytes

What was replaced, and the small manifest's own root, stay behind as garbage that no reader
follows. The trailer, which no reader follows either, says how large the payload was before its
first patch. Once a payload would exceed `MAX_GROWTH` times that, it is not patched any more and
has to be rebuilt, which drops garbage and trailer. Icechunk spec, "Manifest files".
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from icechunk.chunks.kinds import ChunkKind
from icechunk.chunks.table import ChunkTable
from icechunk.format import schema
from icechunk.format.flatbuf import Buffer, Rows
from icechunk.format.flatbuf_columns import Mask, Positions
from icechunk.format.flatbuf_write import MAX_PAYLOAD
from icechunk.format.manifest import Manifest, manifest_payload
from icechunk.format.payload import memory

MIN_REFS_PER_CHANGE = 16
"""With fewer references per changed one, rebuilding is about as fast and leaves no garbage."""

MAX_GROWTH = 1.25
"""Size of a patched payload, relative to what it was when it was last laid out as a whole."""

_TRAILER = Struct("<8sQ")
_TRAILER_MARK = b"IchkPtch"

_ROOT_WIDTHS = {0: 12, 1: 4, 3: 1}
_ARRAY_WIDTHS = {0: 8, 1: 4}
"""Bytes that the slots of Manifest and ArrayManifest take inside the table: id, arrays, algorithm;
node id, refs. Any other slot might be an offset to something that moves."""


@dataclass(frozen=True, slots=True)
class PatchedManifest:
    """The content of a manifest file that was made from another one."""

    payload: memoryview
    """The flatbuffer, to be wrapped in an envelope."""
    num_refs: int
    """Number of references it holds."""


class _Head(NamedTuple):
    """Where the few things before the references are."""

    tables: tuple[int, int]
    """The root and its only ArrayManifest."""
    id: int
    vector: int
    """V, the count of the vector of references; its offsets follow."""
    refs: int

    @property
    def first(self) -> int:
        """Position of the first offset."""
        return self.vector + 4

    @property
    def end(self) -> int:
        """P, where the vector ends."""
        return self.first + 4 * self.refs


def patched_manifest(
    manifest: Manifest, new_id: bytes, node_id: bytes, changed: ChunkTable
) -> PatchedManifest | None:
    """Lay references over those of a manifest, for little more than a copy of its payload.

    Parameters
    ----------
    manifest
        The manifest to start from; it stays as it is.
    new_id
        Id of the resulting manifest, 12 bytes.
    node_id
        The array that `changed` belongs to.
    changed
        References to replace or to insert.

    Returns
    -------
    PatchedManifest | None
        What `overlay` of the manifest's table and `changed` would be encoded to, in another layout.
        None if the manifest has to be rebuilt instead: it does not hold exactly this array, uses
        a location dictionary, has grown by patches too much, or has an unusual layout; or the
        changes delete references, are many, have another rank, or concern a reference that is
        repeated.

    Raises
    ------
    FormatError
        The manifest is damaged. Only what is touched is looked at: damage elsewhere is carried
        over, for readers of the new manifest to find.
    """
    buffer = manifest._buffer
    head = _head(buffer, node_id)
    if (
        head is None
        or len(changed) * MIN_REFS_PER_CHANGE > head.refs
        or not (changed.kinds != ChunkKind.DELETED).all()
    ):
        return None
    positions = _positions(buffer, head)
    found = None if positions is None else _lower_bounds(buffer, positions, changed.coords)
    if positions is None or found is None:
        return None
    points, is_old = found
    if _repeats(buffer, positions, points[is_old]):
        return None

    inserted = int(len(changed) - is_old.sum())
    gap = -(-4 * inserted // 8) * 8
    tail_end = buffer.size + gap
    base = -(-tail_end // 8) * 8
    patch = (
        bytes(manifest_payload(new_id, [(node_id, changed)]).to_memory()) if len(changed) else b""
    )
    original = _original_size(buffer.data)
    size = base + len(patch) + _TRAILER.size if patch else tail_end
    if patch and size > min(MAX_GROWTH * original, MAX_PAYLOAD):
        return None
    moves = _vtable_moves(buffer, head, positions, gap)
    if moves is None:
        return None

    out = memory(size).data
    with memoryview(buffer.data) as old:
        out[: head.end] = old[: head.end]
        out[head.end + gap : tail_end] = old[head.end :]
        out[head.id : head.id + 12] = new_id
        if patch:
            out[base : base + len(patch)] = patch
            _TRAILER.pack_into(out, base + len(patch), _TRAILER_MARK, original)
    if patch:
        _write_moves(out, moves)
        targets = base + _refs(Buffer(patch, manifest.key)).positions
        _write_vector(out, head, _merged(positions + gap, targets, points, is_old))
    return PatchedManifest(out, head.refs + inserted)


def _head(buffer: Buffer, node_id: bytes) -> _Head | None:
    """Find what comes before the references; None unless all of it really does."""
    root = buffer.root(schema.MANIFEST)
    arrays, _ = root.tables("arrays")
    if len(arrays) != 1 or arrays.struct("node_id")[0].tobytes() != node_id:
        return None
    root.struct("id")  # checked to be there
    starts, counts = arrays.spans("refs")
    tables = int(root.positions[0]), int(arrays.positions[0])
    slots = [_slots(buffer, table) for table in tables]
    head = _Head(tables, tables[0] + slots[0][0], int(starts[0]) - 4, int(counts[0]))

    ends = [int(root.spans("arrays")[0][0]) + 4]
    for table, has, widths in zip(tables, slots, (_ROOT_WIDTHS, _ARRAY_WIDTHS), strict=True):
        used = {number: at for number, at in enumerate(has) if at}
        if table < 8 or min(used.values()) < 4 or not used.keys() <= widths.keys():
            return None
        ends += [table + at + widths[number] for number, at in used.items()]
    is_aligned = not any(position % 4 for position in (*tables, head.vector))
    return head if is_aligned and max(ends) <= head.vector else None


def _slots(buffer: Buffer, table: int) -> list[int]:
    """Slots of a table whose vtable is known to lie in the payload."""
    vtable = table - int.from_bytes(buffer.data[table : table + 4], "little", signed=True)
    size = int.from_bytes(buffer.data[vtable : vtable + 2], "little")
    slots: list[int] = np.frombuffer(buffer.data, "<u2", (size - 4) // 2, vtable + 4).tolist()
    return slots


def _refs(buffer: Buffer) -> Rows:
    """All references of a manifest."""
    arrays, _ = buffer.root(schema.MANIFEST).tables("arrays")
    return arrays.tables("refs")[0]


def _positions(buffer: Buffer, head: _Head) -> Positions | None:
    """Positions of the tables of references; None unless all lie behind the vector, aligned."""
    offsets = np.frombuffer(buffer.data, "<u4", head.refs, head.first)
    positions = np.arange(head.first, head.end, 4)
    positions += offsets
    if not len(positions):
        return positions
    if int(np.bitwise_or.reduce(offsets)) % 4 or int(positions.min()) < head.end:
        return None
    return buffer.bounded(positions, 4, "ArrayManifest.refs")


def _lower_bounds(
    buffer: Buffer, positions: Positions, wanted: NDArray[np.uint32]
) -> tuple[Positions, Mask] | None:
    """Bisect for all wanted coordinates at once: how many references are less, and who is there.

    None if a reference on the way has another rank.
    """
    rows, rank = wanted.shape
    low, high = np.zeros(rows, np.int64), np.full(rows, len(positions))
    is_there = np.zeros(rows, np.bool_)
    while (active := np.flatnonzero(low < high)).size:
        middle = (low[active] + high[active]) >> 1
        index = Rows(buffer, schema.CHUNK_REF, positions[middle]).vectors("index")
        if not (index.counts == rank).all():
            return None
        coords = index.values.reshape(len(active), rank)
        is_less, is_equal = _compared(coords, wanted[active])
        is_there[active] |= is_equal
        low[active] = np.where(is_less, middle + 1, low[active])
        high[active] = np.where(is_less, high[active], middle)
    return low, is_there


def _repeats(buffer: Buffer, positions: Positions, points: Positions) -> bool:
    """Whether the reference behind any of these has the same coordinates."""
    points = points[points + 1 < len(positions)]
    if not len(points):
        return False
    pairs = Rows(buffer, schema.CHUNK_REF, positions[np.concatenate([points, points + 1])])
    index = pairs.vectors("index")
    if not (index.counts == index.counts[0]).all():
        return False  # damaged, which readers of the new manifest find
    left, right = index.values.reshape(2, len(points), -1)
    return bool((left == right).all(axis=1).any())


def _compared(left: NDArray[Any], right: NDArray[Any]) -> tuple[Mask, Mask]:
    """Which rows are lexicographically less, and which are equal."""
    is_less, is_equal = np.zeros(len(right), np.bool_), np.ones(len(right), np.bool_)
    for axis in range(right.shape[1]):
        is_less |= is_equal & (left[:, axis] < right[:, axis])
        is_equal &= left[:, axis] == right[:, axis]
    return is_less, is_equal


def _vtable_moves(
    buffer: Buffer, head: _Head, positions: Positions, gap: int
) -> tuple[Positions, Positions] | None:
    """Where which offsets to vtables must stand, since one of table and vtable moves by `gap`.

    None if a vtable is not entirely on one side of the vector. Real files have all vtables of
    references behind it, and at most those of the two tables in front to correct.
    """
    nothing = np.zeros(0, np.int64)
    if not gap:
        return nothing, nothing
    words = np.frombuffer(buffer.data, "<i4", buffer.size // 4)
    crossing, corrected = [], []
    for tables, is_behind in ((np.array(head.tables), False), (positions, True)):
        offsets = words[tables >> 2]
        vtables = tables - offsets
        if int(vtables.min()) < 0 or int(vtables.max()) + 4 > buffer.size:
            return None
        rows = np.flatnonzero((vtables < head.end) if is_behind else (vtables >= head.end))
        before = vtables[vtables < head.end]
        if before.size:
            distinct = np.unique(before)
            if int((distinct + buffer.read(distinct, schema.U16)).max()) > head.vector:
                return None
        crossing.append(tables[rows] + (gap if is_behind else 0))
        corrected.append(offsets[rows].astype(np.int64) + (gap if is_behind else -gap))
    return np.concatenate(crossing), np.concatenate(corrected)


def _write_moves(payload: memoryview, moves: tuple[Positions, Positions]) -> None:
    positions, offsets = moves
    np.frombuffer(payload, "<i4", len(payload) // 4)[positions >> 2] = offsets


def _merged(old: Positions, new: Positions, points: Positions, is_old: Mask) -> Positions:
    """Positions of all tables in order, after replacing and inserting; reuses `old`."""
    old[points[is_old]] = new[is_old]
    return old if is_old.all() else np.insert(old, points[~is_old], new[~is_old])


def _write_vector(payload: memoryview, head: _Head, targets: Positions) -> None:
    vector = np.frombuffer(payload, "<u4", 1 + len(targets), head.vector)
    vector[0] = len(targets)
    np.subtract(
        targets,
        np.arange(head.first, head.first + 4 * len(targets), 4),
        out=vector[1:],
        casting="unsafe",
    )


def _original_size(data: bytes) -> int:
    """Size of the payload before its first patch."""
    if len(data) >= _TRAILER.size:
        mark, size = _TRAILER.unpack_from(data, len(data) - _TRAILER.size)
        if mark == _TRAILER_MARK:
            return min(int(size), len(data))
    return len(data)

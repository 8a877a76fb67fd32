"""The chunk references one session has written for one array.

A small dictionary takes single writes and serves read-your-writes; past `SEAL_ROWS` it turns into
a sorted `ChunkTable`, so a million uncommitted references cost some 45 bytes each. Tables form
layers, newest last. Neighbours of similar size are merged (as in a log-structured merge tree), so
a lookup meets a handful of layers however many writes there were.

Every layer carries the *epoch* of the session in which it was written. Forking begins a new epoch,
which tells afterwards what a fork could have seen of its parent and what it could not.
"""

from __future__ import annotations

from itertools import count
from typing import Final, NamedTuple

from icechunk._fork import new_lock
from icechunk.chunks import ChunkKind, ChunkRef, ChunkTable, concat_many, difference
from icechunk.chunks.arrays import Coords as CoordRows

SEAL_ROWS: Final = 16_384

Coords = tuple[int, ...]

TOMBSTONE: Final = ChunkRef(ChunkKind.DELETED)

_revisions = count(1)


class Layer(NamedTuple):
    """A sealed table and the epoch it was written in."""

    epoch: int
    table: ChunkTable


class ChunkLog:
    """Chunk writes of one array: single ones in a buffer, many in sorted layers.

    Safe for concurrent use by threads. References of kind ``DELETED`` are tombstones.
    """

    __slots__ = ("_layers", "_lock", "_pending", "epoch", "rank", "revision")

    def __init__(self, rank: int, epoch: int = 0) -> None:
        self.rank = rank
        self.epoch = epoch
        self.revision = next(_revisions)
        """Another number after every change: in this process, equal numbers mean equal content."""
        self._pending: dict[Coords, ChunkRef] = {}
        self._layers: list[Layer] = []
        self._lock = new_lock()

    def __bool__(self) -> bool:
        return bool(self._pending) or bool(self._layers)

    def put(self, coords: Coords, ref: ChunkRef) -> None:
        """Record one reference; a later one for the same coordinates replaces it."""
        with self._lock:
            self.revision = next(_revisions)
            self._pending[coords] = ref
            if len(self._pending) >= SEAL_ROWS:
                self._seal()

    def put_table(self, table: ChunkTable) -> None:
        """Record many references at once, on top of what is there."""
        with self._lock:
            self.revision = next(_revisions)
            self._seal()
            self._push(Layer(self.epoch, table))

    def drop(self, coords: CoordRows) -> None:
        """Forget what was written at the `(n, rank)` coordinates, as if it had never been."""
        with self._lock:
            self.revision = next(_revisions)
            self._seal()
            layers = [Layer(layer.epoch, difference(layer.table, coords)) for layer in self._layers]
            self._layers = [layer for layer in layers if len(layer.table)]

    def get(self, coords: Coords) -> ChunkRef | None:
        """Return the newest reference, a tombstone included, or None when never written."""
        ref = self._pending.get(coords)
        if ref is not None or not self._layers:
            return ref
        with self._lock:
            ref = self._pending.get(coords)
            layers = tuple(self._layers)
        if ref is not None:
            return ref
        for layer in reversed(layers):
            ref = layer.table.get(coords)
            if ref is not None:
                return ref
        return None

    def table(self, *, since: int | None = None) -> ChunkTable:
        """Everything written, as one table; with ``since`` only what is newer than that epoch."""
        with self._lock:
            self._seal()
            if since is None and len(self._layers) > 1:
                # Reading everything happens once, at a commit or a merge: keep the result.
                merged = concat_many([layer.table for layer in self._layers])
                if self._layers[0].epoch == self._layers[-1].epoch:
                    self._layers = [Layer(self._layers[0].epoch, merged)]
                return merged
            tables = [layer.table for layer in self._layers if since is None or layer.epoch > since]
        if not tables:
            return ChunkTable.empty(self.rank)
        return tables[0] if len(tables) == 1 else concat_many(tables)

    def copy(self) -> ChunkLog:
        """Return an independent log with the same content."""
        copied = ChunkLog(self.rank, self.epoch)
        with self._lock:
            copied._pending = dict(self._pending)
            copied._layers = list(self._layers)
            copied.revision = self.revision
        return copied

    def begin_epoch(self, epoch: int) -> None:
        """Seal what is there and write everything later under ``epoch``."""
        with self._lock:
            self._seal()
            self.epoch = epoch

    def _seal(self) -> None:
        if self._pending:
            table = ChunkTable.from_refs(self.rank, self._pending)
            # The layer is in place before the buffer goes, so a reader without the lock that
            # misses in the buffer finds the layer: see `get`.
            self._push(Layer(self.epoch, table))
            self._pending = {}

    def _push(self, layer: Layer) -> None:
        layers = [*self._layers, layer]
        while len(layers) > 1:
            below, above = layers[-2:]
            if below.epoch != above.epoch or len(below.table) > 2 * len(above.table):
                break
            layers[-2:] = [Layer(above.epoch, concat_many([below.table, above.table]))]
        self._layers = layers

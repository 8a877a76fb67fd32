"""The step of a walk to the bytes of chunks: what is there, and, if asked for, what is in it."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Final

import numpy as np

from icechunk.assets.virtual import VirtualChunks
from icechunk.assets.workers import MAX_THREADS, Workers
from icechunk.chunks import ChunkKind, ChunkTable
from icechunk.format.layout import chunk_key, manifest_key
from icechunk.ops.id_sets import Rows
from icechunk.ops.verify.chunks import ChunkCheck, Owner, read_whole
from icechunk.ops.verify.inventory import Inventory
from icechunk.ops.verify.tour import Tour
from icechunk.ops.verify.virtual import VirtualCheck
from icechunk.verification import FaultKind

__all__ = ["ChunkDecoder", "ChunkVisits", "Decoder"]

#: Decodes the chunk at some coordinates, and returns what is wrong with it.
ChunkDecoder = Callable[[tuple[int, ...]], str | None]
#: Makes one for an array, by snapshot and path, or says why none of its chunks can be decoded.
Decoder = Callable[[bytes, str], ChunkDecoder | str]

_DIGEST: Final = 16


class ChunkVisits:
    """Takes the references of one array after the other, then settles what needs a second look.

    Parameters
    ----------
    tour
        The walk.
    listed
        The objects of chunks.
    virtual
        Reads virtual chunks; None does not look at them.
    decoder
        Decodes native and inline chunks; None does not.
    """

    def __init__(
        self,
        tour: Tour,
        listed: Inventory,
        virtual: VirtualChunks | None,
        decoder: Decoder | None,
    ) -> None:
        self._tour = tour
        self._listed = listed
        self._virtual = virtual
        self._decoder = decoder
        self._check = ChunkCheck(listed)
        self._files = VirtualCheck()
        self._decoded: set[bytes] = set()

    @property
    def is_used(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Of each object listed, whether anything refers to it."""
        return self._check.is_used

    def visit(self, table: ChunkTable, owner: Owner, workers: Workers) -> None:
        """Check the references of an array in a manifest."""
        fresh = self._check.add(table, owner)
        if self._virtual is not None:
            self._files.add(table, owner)
        if self._decoder is not None and owner.snapshot is not None:
            self._decode(self._decoder, table, fresh, owner, owner.snapshot)
        elif self._tour.options.read_chunks or self._decoder is not None:
            self._read(table, fresh, owner, workers)

    def settle(self, workers: Workers) -> None:
        """Look again at what was not there, and ask for the files of virtual chunks."""
        tour = self._tour
        for fault in self._check.faults(tour.storage, workers):
            self._fault(fault.kind, chunk_key(fault.chunk_id), fault.message, fault.owner)
        tour.count["chunk_objects"] = int(self.is_used.sum())
        tour.count["chunk_bytes"] = int(self._listed.sizes[self.is_used].sum(dtype=np.uint64))
        if self._virtual is None:
            return
        with Workers(self._virtual.is_local, "icechunk-verify-virtual") as readers:
            for found in self._files.faults(self._virtual, readers):
                tour.count["virtual_objects"] += 1
                tour.tell("virtual chunks", tour.count["virtual_objects"], len(self._files))
                if found is not None:
                    self._fault(found.kind, found.location, found.message, found.owner)

    def _read(self, table: ChunkTable, rows: Rows, owner: Owner, workers: Workers) -> None:
        if not len(rows):
            return
        assert table.ids is not None
        tour = self._tour
        ids = [table.ids[row].tobytes() for row in rows.tolist()]
        problems = workers.map(lambda item: read_whole(tour.storage, item), ids, MAX_THREADS)
        for row, chunk_id, problem in zip(rows.tolist(), ids, problems, strict=True):
            tour.count["chunks_read"] += 1
            tour.tell("chunks", tour.count["chunks_read"])
            if problem is not None:
                coords = tuple(table.coords[row].tolist())
                message = f"the chunk {coords} cannot be read: {problem}"
                self._fault(FaultKind.CHUNK_UNREADABLE, chunk_key(chunk_id), message, owner)

    def _decode(
        self, decoder: Decoder, table: ChunkTable, fresh: Rows, owner: Owner, snapshot: int
    ) -> None:
        tour = self._tour
        rows = np.sort(np.concatenate([fresh, self._new_inline(table, owner)]))
        path = tour.path_of(snapshot, owner.node_id)
        if not len(rows) or path is None:
            return
        decode = decoder(tour.visited[snapshot].recorded.id, path)
        if isinstance(decode, str):
            message = f"its chunks were not decoded: {decode}"
            key = manifest_key(owner.manifest_id)
            self._fault(FaultKind.ARRAY_NOT_DECODED, key, message, owner)
            return
        for row in rows.tolist():
            coords = tuple(table.coords[row].tolist())
            problem = decode(coords)
            tour.count["chunks_decoded"] += 1
            tour.tell("chunks", tour.count["chunks_decoded"])
            if problem is None:
                continue
            key = manifest_key(owner.manifest_id)
            if table.ids is not None and table.kinds[row] == ChunkKind.NATIVE:
                key = chunk_key(table.ids[row].tobytes())
            message = f"the chunk {coords} cannot be decoded: {problem}"
            self._fault(FaultKind.CHUNK_UNDECODABLE, key, message, owner)

    def _new_inline(self, table: ChunkTable, owner: Owner) -> Rows:
        """Rows of inline chunks whose bytes were not met at this place before."""
        rows = []
        for row in np.flatnonzero(table.kinds == ChunkKind.INLINE).tolist():
            assert table.inline is not None
            digest = blake2b(owner.node_id + table.coords[row].tobytes(), digest_size=_DIGEST)
            digest.update(table.inline[row])
            if digest.digest() not in self._decoded:
                self._decoded.add(digest.digest())
                rows.append(row)
        return np.array(rows, np.int64)

    def _fault(self, kind: FaultKind, key: str, message: str, owner: Owner) -> None:
        self._tour.fault_of_array(kind, key, message, owner.snapshot, owner.node_id)

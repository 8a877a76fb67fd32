"""Whether the files of virtual chunks are there, long enough, and what they were.

One request per distinct file and state of it, for the last byte that any reference needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from icechunk.assets.virtual import VirtualChunks
from icechunk.assets.workers import MAX_THREADS, Workers
from icechunk.chunks import ChunkKind, ChunkRef, ChunkTable
from icechunk.chunks.ragged import RaggedBytes
from icechunk.errors import ErrorKind, IcechunkError
from icechunk.ops.verify.chunks import Owner
from icechunk.ops.verify.rules import text_of
from icechunk.verification import FaultKind

__all__ = ["VirtualCheck", "VirtualFault"]

_UNCHECKED: Final = (
    ErrorKind.NO_CONTAINER_FOR_VIRTUAL_CHUNK,
    ErrorKind.UNAUTHORIZED_VIRTUAL_CHUNK_CONTAINER,
)


class VirtualFault(NamedTuple):
    """A file of virtual chunks that is not as references say."""

    kind: FaultKind
    location: str
    message: str
    owner: Owner


class _Needed(NamedTuple):
    end: int
    owner: Owner


class VirtualCheck:
    """Gathers what references need of files, and asks for it. Some 300 bytes per distinct file."""

    def __init__(self) -> None:
        self._needed: dict[tuple[bytes, bytes, int], _Needed] = {}

    def __len__(self) -> int:
        return len(self._needed)

    def add(self, table: ChunkTable, owner: Owner) -> None:
        """Note what the virtual references of an array need."""
        rows = np.flatnonzero((table.kinds == ChunkKind.VIRTUAL) & (table.lengths > 0))
        if not len(rows):
            return
        assert table.locations is not None
        places = table.locations.take(rows)
        etags = RaggedBytes.empty(len(rows)) if table.etags is None else table.etags.take(rows)
        times = np.zeros(len(rows), np.uint32)
        if table.last_modified is not None:
            times = table.last_modified[rows]
        ends = table.lengths[rows].copy()
        if table.offsets is not None:
            ends += table.offsets[rows]
        # The chunks of one file mostly follow each other.
        is_first = np.ones(len(rows), np.bool_)
        for column in (places, etags):
            is_first[1:] &= column.slice(0, len(rows) - 1).equal_rows(column.slice(1, len(rows)))
        is_first[1:] = ~(is_first[1:] & (times[1:] == times[:-1]))
        starts = np.flatnonzero(is_first)
        for place, etag, time, end in zip(
            places.take(starts),
            etags.take(starts),
            times[starts].tolist(),
            np.maximum.reduceat(ends, starts).tolist(),
            strict=True,
        ):
            key = (place, etag, time)
            known = self._needed.get(key)
            if known is None or known.end < end:
                self._needed[key] = _Needed(end, owner if known is None else known.owner)

    def faults(self, chunks: VirtualChunks, workers: Workers) -> Iterator[VirtualFault | None]:
        """Ask for every file, and yield what is at fault; None for what is not."""

        def ask(item: tuple[tuple[bytes, bytes, int], _Needed]) -> VirtualFault | None:
            (place, etag, time), needed = item
            location = place.decode()
            ref = ChunkRef(
                int(ChunkKind.VIRTUAL),
                offset=needed.end - 1,
                length=1,
                location=location,
                etag=etag.decode() or None,
                last_modified=time,
            )
            try:
                chunks.read(ref, 0, 1)
            except IcechunkError as error:
                return VirtualFault(_kind_of(error), location, text_of(error), needed.owner)
            return None

        yield from workers.map(ask, list(self._needed.items()), MAX_THREADS)


def _kind_of(error: IcechunkError) -> FaultKind:
    if error.kind in _UNCHECKED:
        return FaultKind.VIRTUAL_CHUNK_UNCHECKED
    if error.kind == ErrorKind.VIRTUAL_CHUNK_MODIFIED:
        return FaultKind.VIRTUAL_CHUNK_MODIFIED
    return FaultKind.VIRTUAL_CHUNK_UNREADABLE

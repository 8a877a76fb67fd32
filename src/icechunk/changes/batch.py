"""Many reads at once: which transfers bring the wanted parts of many chunks.

Pure planning. Parts of one object that lie near each other, whichever chunks they belong to, come
with one request. That is what reads of sharded arrays are made of, and virtual chunks of one file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from icechunk.chunks import ChunkRef
from icechunk.storage.ranges import MAX_GAP, MAX_TOGETHER, coalesce


class Part(NamedTuple):
    """Bytes ``[start, stop)`` of a chunk that is kept in an object."""

    position: int
    """Where the asker wants them."""
    ref: ChunkRef
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Transfer:
    """Bytes ``[start, stop)`` of a reference to fetch, and the parts to cut them into."""

    ref: ChunkRef
    start: int
    stop: int
    cuts: tuple[tuple[int, int, int], ...]
    """Position, and begin and end within what is fetched."""

    def cut(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield every part, by position; copied, so that it does not keep the rest alive."""
        for position, begin, end in self.cuts:
            yield position, data[begin:end]


def plan_transfers(
    parts: Iterable[Part], *, max_gap: int = MAX_GAP, max_together: int = MAX_TOGETHER
) -> list[Transfer]:
    """Plan the fewest transfers; see `icechunk.storage.ranges.coalesce` for the limits."""
    by_object: dict[ChunkRef, list[Part]] = {}
    for part in parts:
        by_object.setdefault(part.ref._replace(offset=0, length=0), []).append(part)
    transfers = []
    for source, group in by_object.items():
        if len(group) == 1:
            (part,) = group
            cut = (part.position, 0, part.stop - part.start)
            transfers.append(Transfer(part.ref, part.start, part.stop, (cut,)))
            continue
        spans = [(part.ref.offset + part.start, part.ref.offset + part.stop) for part in group]
        for fetch in coalesce(spans, max_gap=max_gap, max_together=max_together):
            cuts = tuple(
                (group[i].position, spans[i][0] - fetch.start, spans[i][1] - fetch.start)
                for i in fetch.wanted
            )
            whole = source._replace(length=fetch.end)
            transfers.append(Transfer(whole, fetch.start, fetch.end, cuts))
    return transfers

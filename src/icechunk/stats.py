"""Public records of statistics about a repository."""

from __future__ import annotations

from dataclasses import dataclass

from icechunk._display import Block, Shown

__all__ = ["ChunkStorageStats"]


@dataclass(frozen=True, slots=True, repr=False)
class ChunkStorageStats(Shown):
    """How many bytes the chunks of a repository take, by where they are; sums with ``+``."""

    native_bytes: int = 0
    """In chunk objects of the repository, each counted once."""
    virtual_bytes: int = 0
    """In files elsewhere; each range of a file is counted once."""
    inlined_bytes: int = 0
    """In manifests, counted in every manifest that has them."""

    def non_virtual_bytes(self) -> int:
        """Return the bytes that are in the repository itself: native and inlined."""
        return self.native_bytes + self.inlined_bytes

    def total_bytes(self) -> int:
        """Return the bytes of all chunks, wherever they are."""
        return self.native_bytes + self.virtual_bytes + self.inlined_bytes

    def __add__(self, other: ChunkStorageStats) -> ChunkStorageStats:
        if not isinstance(other, ChunkStorageStats):
            return NotImplemented
        return ChunkStorageStats(
            self.native_bytes + other.native_bytes,
            self.virtual_bytes + other.virtual_bytes,
            self.inlined_bytes + other.inlined_bytes,
        )

    def _block(self) -> Block:
        return Block.of(
            "icechunk.stats.ChunkStorageStats",
            {
                "native_bytes": self.native_bytes,
                "virtual_bytes": self.virtual_bytes,
                "inlined_bytes": self.inlined_bytes,
            },
        )

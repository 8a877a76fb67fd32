"""How much of each kind of metadata a repository keeps in memory."""

from __future__ import annotations

from icechunk.config import checks
from icechunk.config.base import Field, Settings


class CachingConfig(Settings):
    """Sizes of a repository's caches, so that repeated reads skip the object store.

    What is counted also stands for memory: 4096 bytes per node, 128 per chunk reference, 64 per
    change. Objects that need more than that for their number count for more.

    Parameters
    ----------
    num_snapshot_nodes
        Groups and arrays of cached snapshots. Default: 500,000.
    num_chunk_refs
        Chunk references of cached manifests. Default: 15,000,000.
    num_transaction_changes
        Changes of cached transaction logs. Default: 0.
    num_bytes_attributes
        Bytes of cached attributes. Default: 0. Without effect here: attributes are part of nodes.
    num_bytes_chunks
        Bytes of cached chunks, with 256 bytes more for each. Default: 0.
    """

    __slots__ = ()
    _shown_as = "icechunk.config.CachingConfig"

    num_snapshot_nodes: Field[int | None] = Field(checks.u64, 500_000)
    num_chunk_refs: Field[int | None] = Field(checks.u64, 15_000_000)
    num_transaction_changes: Field[int | None] = Field(checks.u64, 0)
    num_bytes_attributes: Field[int | None] = Field(checks.u64, 0)
    num_bytes_chunks: Field[int | None] = Field(checks.u64, 0)

    def __init__(
        self,
        num_snapshot_nodes: int | None = None,
        num_chunk_refs: int | None = None,
        num_transaction_changes: int | None = None,
        num_bytes_attributes: int | None = None,
        num_bytes_chunks: int | None = None,
    ) -> None:
        self.num_snapshot_nodes = num_snapshot_nodes
        self.num_chunk_refs = num_chunk_refs
        self.num_transaction_changes = num_transaction_changes
        self.num_bytes_attributes = num_bytes_attributes
        self.num_bytes_chunks = num_bytes_chunks

    @staticmethod
    def default() -> CachingConfig:
        """Return a configuration with nothing set, which means the defaults."""
        return CachingConfig()

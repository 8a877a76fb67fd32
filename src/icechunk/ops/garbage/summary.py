"""What a garbage collection did, under the names of the reference implementation."""

from __future__ import annotations

from dataclasses import dataclass, field

from icechunk._display import Block, Shown

__all__ = ["GCSummary"]


@dataclass(frozen=True, slots=True, repr=False)
class GCSummary(Shown):
    """What a garbage collection deleted, or what it would delete."""

    bytes_deleted: int = 0
    """Bytes of all objects deleted."""
    chunks_deleted: int = 0
    manifests_deleted: int = 0
    snapshots_deleted: int = 0
    """Files of snapshots."""
    attributes_deleted: int = 0
    """Always 0: there are no such objects any more."""
    transaction_logs_deleted: int = 0
    objects_failed_to_delete: int = 0
    """They remain, for the next collection to delete."""
    throttled_batches: int = 0
    """Requests that the store asked to send later, and that were."""
    delete_errors: list[str] = field(default_factory=list)
    """What went wrong with deletions, each message once, ten at most."""
    skipped_phases: list[str] = field(default_factory=list)
    """What was not begun as something before could not be deleted: ``transaction_logs``,
    ``manifests``, ``chunks``, ``backups``."""
    backups_deleted: int = 0
    """Former states of the repository, if asked for."""

    __hash__ = None  # type: ignore[assignment]

    def _block(self) -> Block:
        fields = {name: getattr(self, name) for name in self.__slots__}
        if not self.backups_deleted:
            del fields["backups_deleted"]
        return Block.of("icechunk.ops.GCSummary", fields)

"""What a walk knows of a snapshot before its file is opened, and of how snapshots follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from icechunk.format.snapshot import Snapshot
from icechunk.ops.verify.findings import Findings
from icechunk.storage.base import Storage
from icechunk.verification import FaultKind

__all__ = ["History", "Recorded", "Source", "pointed_to_by"]


class Recorded(NamedTuple):
    """What is known of a snapshot before its file is opened."""

    id: bytes
    is_needed: bool
    """Whether a branch or tag leads to it."""
    reason: str
    """What led here, for messages; empty if nothing but the history did."""
    if_missing: FaultKind = FaultKind.SNAPSHOT_MISSING
    """What it is called when the file is not there."""


def pointed_to_by(refs: Sequence[str]) -> str:
    """Say which refs point to a snapshot."""
    return f"{', '.join(refs)} point{'s' * (len(refs) == 1)} to it" if refs else ""


class History(NamedTuple):
    """How a snapshot and its parent belong together."""

    parent_id: bytes | None
    pruned: tuple[bytes, ...]
    """Transaction logs between the two, oldest first."""


class Source(Protocol):
    """The state that is verified; there is one of each spec version."""

    @property
    def spec_version(self) -> int:
        """Version of the spec."""

    @property
    def key(self) -> str:
        """Key of the object, or folder, that holds it."""

    @property
    def changed_us(self) -> int:
        """When it was last changed, by the storage's clock."""

    @property
    def operations(self) -> int:
        """How many operations its log has."""

    @property
    def backups(self) -> int:
        """How many former states the log names."""

    def first(self) -> list[Recorded]:
        """List the snapshots to begin with."""

    def after(self, snapshot: Snapshot, recorded: Recorded) -> list[Recorded]:
        """List the snapshots that another one leads to, and that were not listed yet."""

    def compare(self, snapshot: Snapshot, findings: Findings, recorded: Recorded) -> None:
        """Hold a snapshot file against what the state records of it."""

    def finish(self, findings: Findings) -> None:
        """Say what could not be said before all snapshots were seen."""

    def history(self, snapshot_id: bytes) -> History:
        """Tell the parent of a snapshot that was walked."""

    def has_lost_snapshots(self, storage: Storage) -> bool:
        """Whether snapshots of this state may have been removed from the stored one meanwhile."""

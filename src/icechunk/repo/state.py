"""What can be asked of the state of a repository, whatever version of the format it follows.

Spec version 2 has all of it in one object, `icechunk.format.repo_info.RepoInfo`. In spec version 1
it is spread over many, which are read when they are asked for: see `icechunk.repo.state_v1`.
Rows of a history are mere numbers of its snapshots, good for as long as it exists.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Protocol

from icechunk.format.ops_log import RepoStatus
from icechunk.format.snapshot_table import SnapshotEntry, SnapshotTable

__all__ = ["History", "RepoState"]


class History(Protocol):
    """The snapshots of a repository and how they descend from each other."""

    def __contains__(self, snapshot_id: object) -> bool: ...

    def find(self, snapshot_id: bytes) -> int:
        """Find the row of a snapshot, -1 when it is not known."""
        ...

    def row(self, snapshot_id: bytes) -> int:
        """Find the row of a snapshot; raises SnapshotNotFoundError when it is not known."""
        ...

    def id(self, row: int) -> bytes:
        """Id of the snapshot at a row."""
        ...

    def parent_id(self, row: int) -> bytes | None:
        """Id of the parent of the snapshot at a row."""
        ...

    def time(self, row: int) -> int:
        """When the snapshot at a row was written, in microseconds since the epoch."""
        ...

    def pruned(self, row: int) -> tuple[bytes, ...]:
        """Ids of the transaction logs of expired snapshots before the one at a row."""
        ...

    def entry(self, row: int) -> SnapshotEntry:
        """Make the record of one row."""
        ...

    def info(self, snapshot_id: bytes) -> SnapshotEntry:
        """Make the record of a snapshot; raises SnapshotNotFoundError when it is not known."""
        ...

    def ancestry(self, snapshot_id: bytes) -> Iterator[int]:
        """Walk the rows from a snapshot, itself included, to the root of its history.

        Raises SnapshotNotFoundError at the call, when the snapshot is not known.
        """
        ...

    def recent(self, snapshot_id: bytes) -> Iterator[int]:
        """Walk like `ancestry`, but stop where storage would have to be asked."""
        ...

    def table_of(self, tips: Iterable[bytes]) -> SnapshotTable:
        """Make a table of all that some snapshots lead to, and maybe more."""
        ...


class RepoState(Protocol):
    """The state of a repository, with refs as ids."""

    @property
    def snapshots(self) -> History:
        """All snapshots."""
        ...

    @property
    def branches(self) -> Mapping[str, bytes]:
        """Snapshot id of each branch."""
        ...

    @property
    def tags(self) -> Mapping[str, bytes]:
        """Snapshot id of each tag."""
        ...

    @property
    def deleted_tags(self) -> Collection[str]:
        """Names that no tag may have again."""
        ...

    @property
    def status(self) -> RepoStatus:
        """Whether it takes changes."""
        ...

    @property
    def enabled_feature_flags(self) -> tuple[int, ...] | None:
        """Numbers of the features that were switched on."""
        ...

    @property
    def disabled_feature_flags(self) -> tuple[int, ...] | None:
        """Numbers of the features that were switched off."""
        ...

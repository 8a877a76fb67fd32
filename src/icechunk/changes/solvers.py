"""What to do about conflicts: policies that a session is rebased with.

A solver looks at the conflicts with one commit and either gives up or says which of our edits to
take back. It changes nothing itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from icechunk.changes.conflicts import Clash, ConflictType
from icechunk.chunks.arrays import Coords

__all__ = [
    "BasicConflictSolver",
    "ConflictDetector",
    "ConflictSolver",
    "Resolution",
    "VersionSelection",
]


class VersionSelection(Enum):
    """Whose version of a chunk to keep when both wrote it. ``int()`` gives the number."""

    Fail = 0
    """Neither: let the rebase fail."""
    UseOurs = 1
    """The one of the session that is rebased."""
    UseTheirs = 2
    """The one that is committed already."""

    def __int__(self) -> int:
        return int(self.value)

    def __repr__(self) -> str:
        return f"VersionSelection.{self.name}"

    __str__ = __repr__


@dataclass(frozen=True, slots=True)
class Resolution:
    """How conflicts are solved: our edits stay, but for these."""

    dropped_chunks: tuple[tuple[bytes, Coords], ...] = ()
    """Node ids and coordinates of chunks that we take back."""


class ConflictSolver(ABC):
    """Base of the policies that sessions are rebased with."""

    @abstractmethod
    def resolve(self, conflicts: Sequence[Clash]) -> Resolution | None:
        """Solve the conflicts with one commit, None when that cannot be done."""


@dataclass(frozen=True)
class ConflictDetector(ConflictSolver):
    """Solve nothing: any conflict lets the rebase fail, and all of them are reported."""

    def resolve(self, conflicts: Sequence[Clash]) -> Resolution | None:
        """Accept a commit that our edits do not conflict with."""
        return None if conflicts else Resolution()

    def __repr__(self) -> str:
        return "icechunk.ConflictDetector()"


_ALWAYS_FATAL: Final = frozenset(
    {
        ConflictType.NewNodeConflictsWithExistingNode,
        ConflictType.NewNodeInInvalidGroup,
        ConflictType.ZarrMetadataDoubleUpdate,
        ConflictType.ZarrMetadataUpdateOfDeletedArray,
        ConflictType.ZarrMetadataUpdateOfDeletedGroup,
        ConflictType.ChunksUpdatedInDeletedArray,
        ConflictType.ChunksUpdatedInUpdatedArray,
        ConflictType.MoveOperationCannotBeRebased,
    }
)


@dataclass(frozen=True, kw_only=True)
class BasicConflictSolver(ConflictSolver):
    """Choose a version of chunks that both wrote, and let deletions of changed nodes stand.

    Everything else cannot be decided by a rule and lets the rebase fail, with all conflicts of
    that commit in the error.

    Parameters
    ----------
    on_chunk_conflict
        Whose version of a chunk to keep.
    fail_on_delete_of_updated_array
        Fail when we deleted an array that they changed; else it is deleted.
    fail_on_delete_of_updated_group
        Fail when we deleted a group whose metadata they changed; else it is deleted.
    """

    on_chunk_conflict: VersionSelection = VersionSelection.UseOurs
    fail_on_delete_of_updated_array: bool = False
    fail_on_delete_of_updated_group: bool = False
    _fatal: frozenset[ConflictType] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.on_chunk_conflict, VersionSelection):
            raise TypeError(
                "on_chunk_conflict must be a VersionSelection, not "
                f"{type(self.on_chunk_conflict).__name__}"
            )
        chosen = {
            ConflictType.ChunkDoubleUpdate: self.on_chunk_conflict is VersionSelection.Fail,
            ConflictType.DeleteOfUpdatedArray: self.fail_on_delete_of_updated_array,
            ConflictType.DeleteOfUpdatedGroup: self.fail_on_delete_of_updated_group,
        }
        fatal = _ALWAYS_FATAL | {kind for kind, is_fatal in chosen.items() if is_fatal}
        object.__setattr__(self, "_fatal", fatal)

    def resolve(self, conflicts: Sequence[Clash]) -> Resolution | None:
        """Apply the choices."""
        if any(clash.kind in self._fatal for clash in conflicts):
            return None
        if self.on_chunk_conflict is not VersionSelection.UseTheirs:
            return Resolution()
        return Resolution(
            tuple((clash.node_id, clash.coords) for clash in conflicts if clash.coords is not None)
        )

    def __repr__(self) -> str:
        return (
            f"icechunk.BasicConflictSolver(on_chunk_conflict=icechunk.{self.on_chunk_conflict!r}, "
            f"fail_on_delete_of_updated_array={self.fail_on_delete_of_updated_array}, "
            f"fail_on_delete_of_updated_group={self.fail_on_delete_of_updated_group})"
        )

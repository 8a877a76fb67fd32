"""Conflicts between sessions, and what to do about them: public names."""

from icechunk.changes.conflicts import Conflict, ConflictType
from icechunk.changes.solvers import (
    BasicConflictSolver,
    ConflictDetector,
    ConflictSolver,
    VersionSelection,
)

__all__ = [
    "BasicConflictSolver",
    "Conflict",
    "ConflictDetector",
    "ConflictSolver",
    "ConflictType",
    "VersionSelection",
]

"""Small aliases shared by every layer and by user code; no behaviour lives here."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

CommitMethod: TypeAlias = Literal["new_commit", "amend"]
"""How a commit lands: as a child of the branch tip, or in its place."""

ChunkCoords: TypeAlias = tuple[int, ...]
"""Position of a chunk in its array's chunk grid."""

NodePath: TypeAlias = str
"""Absolute path of a group or array, such as ``/`` or ``/model/temperature``."""

JsonValue: TypeAlias = Any
"""None, bool, int, float, str, or a list or str-keyed dict of such values."""

__all__ = ["ChunkCoords", "CommitMethod", "JsonValue", "NodePath"]

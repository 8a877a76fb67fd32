"""Administration of a repository: the log of what was done to it, drawings of its history."""

from icechunk.ops.graph import AncestryGraph
from icechunk.ops.log import Update, UpdateType

__all__ = ["AncestryGraph", "Update", "UpdateType"]

"""Administration of a repository: the log of what was done to it."""

from icechunk.ops.log import Update, UpdateType

__all__ = ["Update", "UpdateType"]

"""Administration of a repository: its log, drawings of its history, plans to shorten it."""

from icechunk.ops.expiration_plan import ExpirationPlan, ExpiredSnapshot, ReparentedSnapshot
from icechunk.ops.graph import AncestryGraph
from icechunk.ops.log import Update, UpdateType

__all__ = [
    "AncestryGraph",
    "ExpirationPlan",
    "ExpiredSnapshot",
    "ReparentedSnapshot",
    "Update",
    "UpdateType",
]

"""Administration of a repository: its log, drawings of its history, expiration, garbage."""

from icechunk.ops.expiration_plan import ExpirationPlan, ExpiredSnapshot, ReparentedSnapshot
from icechunk.ops.garbage.objects import GarbageObjects
from icechunk.ops.garbage.plan import DroppedSnapshot, GarbagePlan, OldBackup
from icechunk.ops.garbage.summary import GCSummary
from icechunk.ops.garbage.tell import GarbageProgress
from icechunk.ops.graph import AncestryGraph
from icechunk.ops.log import Update, UpdateType
from icechunk.ops.upgrade_plan import UpgradePlan

__all__ = [
    "AncestryGraph",
    "DroppedSnapshot",
    "ExpirationPlan",
    "ExpiredSnapshot",
    "GCSummary",
    "GarbageObjects",
    "GarbagePlan",
    "GarbageProgress",
    "OldBackup",
    "ReparentedSnapshot",
    "Update",
    "UpdateType",
    "UpgradePlan",
]

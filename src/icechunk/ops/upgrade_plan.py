"""What an upgrade to spec version 2 would do, as a value to print."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from icechunk._display import Block, Shown, some_of
from icechunk.ops.plan_parts import ref_line

__all__ = ["UpgradePlan"]


@dataclass(frozen=True, slots=True, repr=False)
class UpgradePlan(Shown):
    """What an upgrade does to a repository; made by `Repository.plan_upgrade`.

    No snapshot, manifest, transaction log or chunk is written or deleted.

    Parameters
    ----------
    branches
        Branches, with the snapshots they are at.
    tags
        Tags, with the snapshots they stand for.
    deleted_tags
        Names of deleted tags, which stay taken.
    snapshots
        How many snapshots branches and tags lead to. Others are garbage already, and stay that.
    log_entries
        How many operations the log will list: what has happened, as far as version 1 tells.
    has_config
        Whether a stored configuration is taken over.
    writes_state
        Whether the object ``repo`` is written. If not, an earlier upgrade has done so already, and
        all that is left to do is to delete files.
    resumes
        Whether an earlier upgrade was interrupted before it took effect.
    deletes
        Keys of the files of version 1 that are deleted, in this order.
    stays
        Keys among the files of version 1 that belong to no branch and no tag: they are left alone.
    """

    branches: Mapping[str, str]
    tags: Mapping[str, str]
    deleted_tags: tuple[str, ...] = ()
    snapshots: int = 0
    log_entries: int = 0
    has_config: bool = False
    writes_state: bool = True
    resumes: bool = False
    deletes: tuple[str, ...] = ()
    stays: tuple[str, ...] = field(default=())

    def _block(self) -> Block:
        shown: dict[str, object] = {"writes_state": self.writes_state, "resumes": self.resumes}
        if self.writes_state:
            shown |= {
                "branches": some_of("branches", self.branches.items(), ref_line),
                "tags": some_of("tags", self.tags.items(), ref_line),
                "deleted_tags": some_of("tags", self.deleted_tags),
                "snapshots": self.snapshots,
                "log_entries": self.log_entries,
                "has_config": self.has_config,
            }
        shown["deletes"] = some_of("files", self.deletes)
        shown["stays"] = some_of("files", self.stays)
        return Block.of("icechunk.ops.UpgradePlan", shown)

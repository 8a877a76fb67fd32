"""What files of spec version 1 lead to: whole histories, as far as there are files.

They may be beside a repository of version 2, where a migration was to leave them. Then somebody may
have gone on with version 1, of which version 2 knows nothing, and which needs the same objects.
"""

from __future__ import annotations

from collections.abc import Iterator

from icechunk.errors import FormatError
from icechunk.format.ops_log import NewCommit
from icechunk.format.repo_info import RepoInfo
from icechunk.ops.census_v1 import take_census
from icechunk.ops.expire_v1 import as_stored
from icechunk.repo.context import RepoContext
from icechunk.repo.entry_v1 import MAIN_KEY
from icechunk.repo.log import read_log
from icechunk.repo.state import History

__all__ = ["led_to", "needed_beside"]


def led_to(history: History, snapshot_id: bytes) -> Iterator[bytes]:
    """Follow parents as far as there are files that can be read."""
    at: bytes | None = snapshot_id
    seen: set[bytes] = set()
    while at is not None and at not in seen:
        seen.add(at)
        try:
            row = history.find(at)
        except FormatError:
            return
        if row < 0:
            return
        yield at
        at = history.parent_id(row)


def needed_beside(context: RepoContext, info: RepoInfo) -> set[bytes]:
    """Find the snapshots that version 1 needs beside version 2.

    None if nobody has gone on with it: then its files tell what a migration has taken over, and
    what became of that is for version 2 to say. Costs one request where there are no such files.

    Raises
    ------
    StorageError, FormatError
        A file of a branch or tag cannot be read.
    """
    if not context.storage.exists(MAIN_KEY):
        return set()
    refs = take_census(context.storage).refs
    tips = {
        item.snapshot
        for item in refs
        if item.snapshot is not None and not item.is_deleted and not item.is_retired
    }
    unknown = {tip for tip in tips if tip not in info.snapshots}
    if unknown:
        # Those that have left the history of version 2 are in its log still.
        for entry in read_log(info, context.entry.whole("garbage collection").load_backup):
            if isinstance(entry.kind, NewCommit):
                unknown.discard(entry.kind.new_snap_id)
    if not unknown:
        return set()
    history = as_stored(context).snapshots
    return {snapshot_id for tip in tips for snapshot_id in led_to(history, tip)}

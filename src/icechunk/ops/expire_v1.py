"""Expiration in a repository of spec version 1: rewrite snapshot files in place, delete refs.

Every rewrite leaves a repository in which all refs have a history that ends at the same root, so
they may stop after any of them; doing it again does the rest. Refs are deleted by updates of their
own, afterwards: nothing that is rewritten depends on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from icechunk.assets.manager import AssetManager
from icechunk.assets.workers import Workers
from icechunk.format.envelope import FileKind
from icechunk.format.ids import encode_id
from icechunk.format.snapshot import decode_snapshot
from icechunk.ops.expiration import Rule
from icechunk.ops.expiration_plan import ExpirationPlan, plan_of_refs
from icechunk.ops.expiration_v1 import find_expired_refs
from icechunk.repo.context import RepoContext
from icechunk.repo.entry_v1 import EntryPointV1
from icechunk.repo.state import RepoState
from icechunk.repo.updates import DeleteBranch, DeleteTag

__all__ = ["as_stored", "expire_refs", "plan_refs", "rewrite_parents"]

REWRITES_AT_ONCE = 8


def rewrite_parents(assets: AssetManager, parents: Mapping[bytes, bytes]) -> None:
    """Store snapshots anew, each with another parent and otherwise as they are.

    The file is read from storage, not from the cache: what is written back is what is there.

    Raises
    ------
    StorageError, FormatError
        A snapshot cannot be read or written; any of the others may have been written.
    """

    def rewrite(snapshot_id: bytes) -> None:
        data, key = assets.file(FileKind.SNAPSHOT, snapshot_id)
        snapshot = decode_snapshot(data, key)
        if snapshot.parent_id != parents[snapshot_id]:
            assets.replace_snapshot(replace(snapshot, parent_id=parents[snapshot_id]))

    with Workers(assets.storage.is_local, "icechunk-expire") as workers:
        for _ in workers.map(rewrite, list(parents), REWRITES_AT_ONCE):
            pass
    assets.storage.flush()


def expire_refs(context: RepoContext, entry: EntryPointV1, rule: Rule) -> set[str]:
    """Shorten the history of every ref, and delete refs, as the rule has it.

    Refs that were moved since they were looked at are not deleted.

    Returns
    -------
    set of str
        Ids of the snapshots that the history of some ref does not have any more.

    Raises
    ------
    ReadOnlyError
        Of kind ``read-only-storage``.
    SessionStateError
        Of kind ``invalid-repository-migration`` when the repository is of version 2 by now.
    StorageError, FormatError
        Storage failed, or a snapshot cannot be read. A part may have been done: repeat it.
    """
    context.require_writable()
    entry.require_not_migrated()
    found = find_expired_refs(as_stored(context), rule)
    entry.require_not_migrated()  # reading all of it takes a while
    rewrite_parents(context.assets, found.parents)
    entry.history.reparent(found.parents)
    for tag, target in found.tags.items():
        if context.state().tags.get(tag) == target:
            context.update(DeleteTag(tag))
    for branch, tip in found.branches.items():
        if context.state().branches.get(branch) == tip:
            context.update(DeleteBranch(branch))
    return {encode_id(snapshot_id) for snapshot_id in found.released}


def plan_refs(context: RepoContext, rule: Rule) -> ExpirationPlan:
    """Say what `expire_refs` would do."""
    state = as_stored(context)
    return plan_of_refs(state, rule, find_expired_refs(state, rule))


def as_stored(context: RepoContext) -> RepoState:
    """Return the state with nothing in memory: others may have shortened histories, too."""
    assets = AssetManager(context.storage, context.assets.settings)
    return EntryPointV1(context.storage, assets).state()

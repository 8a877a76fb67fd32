"""Expiration in a repository of either version: say what it would do, and do it.

In version 2 it is one atomic change of the state: find, then edit, in every attempt anew. What it
is in version 1 is in `icechunk.ops.expire_v1`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from icechunk.format.ids import encode_ids
from icechunk.format.ops_log import ExpirationRan, UpdateKind
from icechunk.format.repo_info import RepoInfo
from icechunk.ops.expiration import Rule, find_expired, state_after
from icechunk.ops.expiration_plan import ExpirationPlan, plan_of
from icechunk.ops.expire_v1 import expire_refs, plan_refs
from icechunk.repo.context import RepoContext
from icechunk.repo.entry_v1 import EntryPointV1
from icechunk.repo.preconditions import Precondition

__all__ = ["ExpireSnapshots", "expire", "planned"]


@dataclass(slots=True)
class ExpireSnapshots:
    """Release what has expired by a rule, as of the state that the change takes effect on."""

    rule: Rule
    released: set[str] = field(default_factory=set, init=False)
    """What the last edit released. Attempts are made one after the other until one takes effect,
    so after `run_update` this is what the update did."""

    @property
    def preconditions(self) -> Sequence[Precondition]:
        """None: whatever others changed, there is an answer to what has expired."""
        return ()

    def edit(self, info: RepoInfo) -> RepoInfo:
        """Drop what has expired, shorten histories, delete refs."""
        found = find_expired(info, self.rule)
        self.released = set(encode_ids(info.snapshots.ids[found.released]))
        return state_after(info, found)

    def log_entry(self, info: RepoInfo) -> UpdateKind:
        """Record that it happened, also when nothing had expired."""
        return ExpirationRan()


def expire(context: RepoContext, rule: Rule) -> set[str]:
    """Expire what the rule says; return the ids of the snapshots that were released."""
    if isinstance(context.entry, EntryPointV1):
        return expire_refs(context, context.entry, rule)
    change = ExpireSnapshots(rule)
    context.update(change)
    return change.released


def planned(context: RepoContext, rule: Rule) -> ExpirationPlan:
    """Say what `expire` would do now."""
    if isinstance(context.entry, EntryPointV1):
        return plan_refs(context, rule)
    info = context.info()
    return plan_of(info, rule, find_expired(info, rule))

"""Garbage collection as users ask for it: find, say, run."""

from __future__ import annotations

from icechunk.ops.garbage.delete import DeleteLimits
from icechunk.ops.garbage.find import Garbage, find_garbage
from icechunk.ops.garbage.rule import Limits, Rule
from icechunk.ops.garbage.run import delete_garbage
from icechunk.ops.garbage.source import Source, StateSource
from icechunk.ops.garbage.source_v1 import RefsSource
from icechunk.ops.garbage.summary import GCSummary
from icechunk.ops.garbage.tell import Tell
from icechunk.repo.context import RepoContext
from icechunk.repo.entry_v1 import EntryPointV1

__all__ = ["collect", "find"]


def find(context: RepoContext, rule: Rule, limits: Limits, tell: Tell) -> Garbage:
    """Find the garbage of a repository; see `find_garbage`."""
    source: Source = StateSource(context)
    if isinstance(context.entry, EntryPointV1):
        source = RefsSource(context, context.entry)
    return find_garbage(context.assets, source, rule, limits, tell)


def collect(
    context: RepoContext, rule: Rule, limits: Limits, deletes: DeleteLimits, tell: Tell
) -> GCSummary:
    """Find the garbage of a repository, and delete it; see `delete_garbage`."""
    context.check()
    return delete_garbage(context, find(context, rule, limits, tell), limits, deletes, tell)

"""Garbage collection as users ask for it: find, say, run."""

from __future__ import annotations

from datetime import datetime, timedelta

from icechunk.ops.garbage.delete import DeleteLimits
from icechunk.ops.garbage.find import Garbage, find_garbage
from icechunk.ops.garbage.plan import GarbagePlan, rule_of
from icechunk.ops.garbage.rule import Limits, Rule
from icechunk.ops.garbage.run import delete_garbage
from icechunk.ops.garbage.source import Source, StateSource
from icechunk.ops.garbage.source_v1 import RefsSource
from icechunk.ops.garbage.summary import GCSummary
from icechunk.ops.garbage.tell import Tell
from icechunk.repo.context import RepoContext
from icechunk.repo.entry_v1 import EntryPointV1
from icechunk.repo.surroundings import Surroundings
from icechunk.repo.times import from_datetime

__all__ = ["collect", "find", "garbage_rule", "run_plan"]


def garbage_rule(world: Surroundings, older_than: datetime, retention: timedelta | None) -> Rule:
    """Say what is garbage, in the unit of stored times.

    Parameters
    ----------
    world
        What tells the time.
    older_than
        Only objects stored before this go.
    retention
        Age from which former states go; None for never.

    Raises
    ------
    TypeError
        A time or an age is none, or has no time zone.
    ValueError
        The age is negative.
    """
    backups_older_than = None
    if retention is not None:
        if not isinstance(retention, timedelta):
            raise TypeError(f"expected a timedelta, not {type(retention).__name__}")
        if retention < timedelta(0):
            raise ValueError(f"backup_retention must not be negative, not {retention}")
        age = retention // timedelta(microseconds=1)
        backups_older_than = max(world.now_us() - age, 0)
    return Rule(from_datetime(older_than), backups_older_than)


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


def run_plan(
    context: RepoContext, plan: GarbagePlan, limits: Limits, deletes: DeleteLimits, tell: Tell
) -> GCSummary:
    """Do what a plan says, as far as it is garbage still."""
    return collect(context, rule_of(plan), limits, deletes, tell)

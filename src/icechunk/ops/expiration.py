"""What expires, and what history looks like afterwards: pure functions of the state.

Snapshots written before some moment are released, except where a branch or a tag is. A snapshot
that stays and whose parent goes descends from the root of its history from then on, and inherits
the transaction logs of everything in between: of what a tag or a branch keeps, too, since it is not
an ancestor any more. So differences and rebases still find every log. Objects are not deleted here.
Icechunk spec, "Repo info file": pruned transaction logs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from icechunk.format.ids import OBJECT_ID_SIZE, id_column
from icechunk.format.repo_info import RepoInfo
from icechunk.format.snapshot_table import SnapshotTable
from icechunk.ops.inheritance import Inherited, inherit, without

__all__ = ["Bounds", "Expired", "Rule", "find_expired", "state_after"]

MAIN = "main"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What may go at most: the snapshots and refs that somebody has agreed to."""

    snapshots: frozenset[bytes]
    branches: Mapping[str, bytes]
    """Where each was; one that points elsewhere now may not go."""
    tags: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Rule:
    """What is to expire."""

    older_than_us: int
    """Snapshots written before this have expired, microseconds since the epoch."""
    delete_expired_branches: bool = False
    delete_expired_tags: bool = False
    bounds: Bounds | None = None
    """None for no other bounds than the time."""


@dataclass(frozen=True, slots=True, eq=False)
class Expired:
    """What goes from a state, and what changes for what stays; rows are those of its table."""

    is_old: npt.NDArray[np.bool_]
    """Which snapshots have expired; some of them stay."""
    released: npt.NDArray[np.bool_]
    """Which snapshots go."""
    inherited: tuple[Inherited, ...]
    branches: tuple[str, ...]
    """Names of those that go, in order."""
    tags: tuple[str, ...]


def find_expired(info: RepoInfo, rule: Rule) -> Expired:
    """Say what goes by a rule, and what changes for what stays.

    Takes 3 ms for 10,000 snapshots, 20 ms with a hundred tags among them; reads nothing.
    """
    table = info.snapshots
    # A root has no history to shorten: it never goes, nor do refs to it.
    is_old = (table.flushed_at < max(rule.older_than_us, 0)) & (table.parents >= 0)
    bounds = rule.bounds
    branches = _expired_refs(
        table,
        is_old,
        {name: tip for name, tip in info.branches.items() if name != MAIN},
        rule.delete_expired_branches,
        None if bounds is None else bounds.branches,
    )
    tags = _expired_refs(
        table,
        is_old,
        info.tags,
        rule.delete_expired_tags,
        None if bounds is None else bounds.tags,
    )
    released = is_old.copy() if bounds is None else is_old & _among(table, bounds.snapshots)
    kept = [tip for name, tip in info.branches.items() if name not in branches]
    kept += [tip for name, tip in info.tags.items() if name not in tags]
    released[table.locate(id_column(kept, OBJECT_ID_SIZE))] = False
    inherited = inherit(table, released, is_end=table.parents < 0)
    return Expired(is_old, released, inherited, tuple(branches), tuple(tags))


def state_after(info: RepoInfo, expired: Expired) -> RepoInfo:
    """Return the state without what expired."""
    return replace(
        info,
        snapshots=without(info.snapshots, expired.released, expired.inherited),
        branches={n: tip for n, tip in info.branches.items() if n not in expired.branches},
        tags={n: tip for n, tip in info.tags.items() if n not in expired.tags},
        deleted_tags=tuple(sorted({*info.deleted_tags, *expired.tags})),
    )


def _expired_refs(
    table: SnapshotTable,
    is_old: npt.NDArray[np.bool_],
    refs: Mapping[str, bytes],
    is_wanted: bool,
    agreed: Mapping[str, bytes] | None,
) -> dict[str, bytes]:
    """Find the refs to expired snapshots, if they are to go; in order of their names."""
    if not is_wanted or not refs:
        return {}
    names = sorted(refs)
    rows = table.locate(id_column([refs[name] for name in names], OBJECT_ID_SIZE))
    return {
        name: refs[name]
        for name, goes in zip(names, is_old[rows].tolist(), strict=True)
        if goes and (agreed is None or agreed.get(name) == refs[name])
    }


def _among(table: SnapshotTable, snapshots: Iterable[bytes]) -> npt.NDArray[np.bool_]:
    found = np.zeros(len(table) + 1, dtype=bool)
    found[table.locate(id_column(list(snapshots), OBJECT_ID_SIZE))] = True  # unknown ones: the last
    return found[:-1]

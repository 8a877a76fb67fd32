"""What expires in a repository of spec version 1: one ref after the other, each by itself.

There, history is in the snapshot files, and no list of pruned logs. The oldest snapshot of a ref
that stays is rewritten to descend from the root of its history. That changes the history of other
refs that share it, so they are looked at in a fixed order, tags first, each as the ones before have
left things. Icechunk spec, "Spec version 1 differences".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from icechunk.ops.expiration import MAIN, Rule
from icechunk.repo.state import RepoState

__all__ = ["ExpiredRefs", "find_expired_refs"]


@dataclass(frozen=True, slots=True)
class ExpiredRefs:
    """What changes, ref by ref; all by ids, since nothing numbers the snapshots."""

    released: frozenset[bytes]
    """Snapshots that the history of some ref does not have any more. Others may lead to them yet,
    and a ref may even point to one: its tip has expired, and it was not to be deleted."""
    parents: Mapping[bytes, bytes]
    """Snapshots to rewrite, with their new parents."""
    branches: Mapping[str, bytes]
    """Branches to delete, and where they were."""
    tags: Mapping[str, bytes]


def find_expired_refs(info: RepoState, rule: Rule) -> ExpiredRefs:
    """Say what goes by a rule, and what is rewritten.

    Notes
    -----
    Reads the snapshot files of all histories, as far as `info` does not know them.
    """
    bounds = rule.bounds
    released: set[bytes] = set()
    parents: dict[bytes, bytes] = {}
    gone: dict[str, dict[str, bytes]] = {"tag": {}, "branch": {}}
    for kind, refs, is_wanted, agreed in (
        ("tag", info.tags, rule.delete_expired_tags, None if bounds is None else bounds.tags),
        (
            "branch",
            info.branches,
            rule.delete_expired_branches,
            None if bounds is None else bounds.branches,
        ),
    ):
        for name in sorted(refs):
            tip = refs[name]
            history = _history(info, tip, parents)
            found = _expired_part(history, rule.older_than_us)
            # A history is shortened in one piece or not at all.
            if found is not None and (bounds is None or found.released <= bounds.snapshots):
                released |= found.released
                parents[found.editable] = found.root
            is_main = kind == "branch" and name == MAIN
            is_agreed = agreed is None or agreed.get(name) == tip
            if is_wanted and is_agreed and history[0][1] < rule.older_than_us and not is_main:
                gone[kind][name] = tip
    return ExpiredRefs(frozenset(released), parents, gone["branch"], gone["tag"])


@dataclass(frozen=True, slots=True)
class _Part:
    editable: bytes
    root: bytes
    released: frozenset[bytes]


def _history(
    info: RepoState, tip: bytes, parents: Mapping[bytes, bytes]
) -> list[tuple[bytes, int]]:
    """Walk from a tip to the root, by way of the new parents; ids and times, newest first."""
    table = info.snapshots
    found: list[tuple[bytes, int]] = []
    for row in table.ancestry(tip):
        found.append((table.id(row), table.time(row)))
        root = parents.get(found[-1][0])
        if root is not None:
            found.append((root, table.time(table.row(root))))
            break
    return found


def _expired_part(history: list[tuple[bytes, int]], older_than_us: int) -> _Part | None:
    """Find what to cut out of a history; None for nothing."""
    root = history[-1][0]
    expired = [snapshot for snapshot, time in history[:-1] if time < older_than_us]
    fresh = [at for at, (_, time) in enumerate(history) if time >= older_than_us]
    at = fresh[-1] if fresh else 0
    if not expired or at + 2 >= len(history):
        return None  # the root itself is to be kept, or follows already
    return _Part(history[at][0], root, frozenset(expired))

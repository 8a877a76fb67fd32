"""What an expiration would do, as a value to print, keep as JSON, and carry out later.

A plan is made from one state of a repository, and names all that goes. Whoever runs it later agrees
to that and to nothing more: see `rule_of`.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final, Self

import numpy as np

from icechunk._display import Block, Shown, datetime_text, some_of
from icechunk.format.ids import encode_id, encode_ids
from icechunk.format.repo_info import RepoInfo
from icechunk.format.snapshot_table import SnapshotEntry
from icechunk.ops.expiration import Bounds, Expired, Rule
from icechunk.ops.expiration_v1 import ExpiredRefs
from icechunk.ops.plan_parts import (
    checked,
    id_text,
    named_ids,
    plan_from_json,
    plan_to_json,
    ref_line,
    time,
)
from icechunk.ops.reachable import reachable_snapshots
from icechunk.repo.state import RepoState
from icechunk.repo.times import from_datetime, to_datetime

__all__ = [
    "ExpirationPlan",
    "ExpiredSnapshot",
    "ReparentedSnapshot",
    "plan_of",
    "plan_of_refs",
    "rule_of",
]

FORMAT: Final = "icechunk expiration plan"
VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class ExpiredSnapshot:
    """A snapshot that was written before the time given."""

    id: str
    written_at: datetime
    message: str
    is_reachable: bool = True
    """Whether it is in the history of a branch or a tag; if not, it was left behind by a reset, an
    amended commit or a deleted ref, or it never was on a branch."""
    kept_by: tuple[str, ...] = ()
    """Branches and tags at it that stay, so that it stays, as ``branch NAME`` or ``tag NAME``."""


@dataclass(frozen=True, slots=True)
class ReparentedSnapshot:
    """A snapshot that stays, and whose history gets shorter."""

    id: str
    parent_id: str
    """Its parent as it was; it goes."""
    new_parent_id: str
    """The root of its history."""
    inherited_logs: tuple[str, ...] = ()
    """Transaction logs that lead from the new parent to it, besides its own; oldest first. None in
    spec version 1, which forgets what expired snapshots changed."""


@dataclass(frozen=True, slots=True, repr=False)
class ExpirationPlan(Shown):
    """What an expiration does to a repository; made by `Repository.plan_expiration`.

    Nothing here deletes an object: what is released can be collected as garbage afterwards.

    Parameters
    ----------
    older_than
        Snapshots written before this have expired.
    delete_expired_branches, delete_expired_tags
        Whether branches and tags at expired snapshots are deleted.
    released
        Snapshots that leave the repository, oldest first.
    held
        Snapshots that are as old and stay all the same, oldest first.
    reparented
        Snapshots that stay, and whose histories get shorter.
    branches
        Branches that are deleted, with the snapshots they are at.
    tags
        Tags that are deleted, with the snapshots they stand for; their names stay taken.
    """

    older_than: datetime
    delete_expired_branches: bool = False
    delete_expired_tags: bool = False
    released: tuple[ExpiredSnapshot, ...] = ()
    held: tuple[ExpiredSnapshot, ...] = ()
    reparented: tuple[ReparentedSnapshot, ...] = ()
    branches: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Write the plan as JSON, which `from_json` reads."""
        return plan_to_json(FORMAT, VERSION, asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a plan that `to_json` wrote.

        Raises
        ------
        FormatError
            Kind ``deserialization``: it is no such plan, or of another version of this library.
        """
        return plan_from_json(text, FORMAT, VERSION, lambda value: cls(**_fields(value)))

    def _block(self) -> Block:
        return Block.of(
            "icechunk.ops.ExpirationPlan",
            {
                "older_than": datetime_text(self.older_than),
                "delete_expired_branches": self.delete_expired_branches,
                "delete_expired_tags": self.delete_expired_tags,
                "released": some_of("snapshots", self.released, _line),
                "held": some_of("snapshots", self.held, _line),
                "reparented": some_of("snapshots", self.reparented, _reparented_line),
                "branches": some_of("branches", self.branches.items(), ref_line),
                "tags": some_of("tags", self.tags.items(), ref_line),
            },
        )


def plan_of(info: RepoInfo, rule: Rule, found: Expired) -> ExpirationPlan:
    """Put in words what was found in a state."""
    table = info.snapshots
    reachable = set(reachable_snapshots(info))
    stays = _staying(info, found.branches, found.tags)

    def described(row: int) -> ExpiredSnapshot:
        return _described(table.entry(row), stays, is_reachable=table.id(row) in reachable)

    by_age = np.argsort(table.flushed_at, kind="stable")
    is_old = found.is_old[by_age]
    goes = found.released[by_age]
    return ExpirationPlan(
        older_than=to_datetime(rule.older_than_us),
        delete_expired_branches=rule.delete_expired_branches,
        delete_expired_tags=rule.delete_expired_tags,
        released=tuple(map(described, by_age[goes].tolist())),
        held=tuple(map(described, by_age[is_old & ~goes].tolist())),
        reparented=tuple(
            ReparentedSnapshot(
                encode_id(table.id(item.row)),
                encode_id(table.id(int(table.parents[item.row]))),
                encode_id(table.id(item.parent)),
                tuple(encode_ids(item.logs)),
            )
            for item in found.inherited
        ),
        branches={name: encode_id(info.branches[name]) for name in found.branches},
        tags={name: encode_id(info.tags[name]) for name in found.tags},
    )


def plan_of_refs(state: RepoState, rule: Rule, found: ExpiredRefs) -> ExpirationPlan:
    """Put in words what was found in a state of spec version 1.

    There a snapshot that some ref has no more in its history may be where another one is.
    """
    table = state.snapshots.table_of({*state.branches.values(), *state.tags.values()})
    stays = _staying(state, found.branches, found.tags)
    by_age = sorted(table, key=lambda entry: entry.flushed_at)
    old = [e for e in by_age if e.parent_id is not None and e.flushed_at < rule.older_than_us]
    return ExpirationPlan(
        older_than=to_datetime(rule.older_than_us),
        delete_expired_branches=rule.delete_expired_branches,
        delete_expired_tags=rule.delete_expired_tags,
        released=tuple(_described(entry, stays) for entry in old if entry.id in found.released),
        held=tuple(_described(entry, stays) for entry in old if entry.id not in found.released),
        reparented=tuple(
            ReparentedSnapshot(
                encode_id(entry.id), encode_id(entry.parent_id), encode_id(found.parents[entry.id])
            )
            for entry in by_age
            if entry.parent_id is not None and entry.id in found.parents
        ),
        branches={name: encode_id(tip) for name, tip in found.branches.items()},
        tags={name: encode_id(tip) for name, tip in found.tags.items()},
    )


def _staying(
    state: RepoState, branches: Container[str], tags: Container[str]
) -> dict[bytes, list[str]]:
    """Say of every snapshot which branches and tags at it stay, given those that go."""
    stays: dict[bytes, list[str]] = {}
    for what, refs, gone in (("branch", state.branches, branches), ("tag", state.tags, tags)):
        for name in sorted(refs):
            if name not in gone:
                stays.setdefault(refs[name], []).append(f"{what} {name}")
    return stays


def _described(
    entry: SnapshotEntry, stays: Mapping[bytes, Sequence[str]], *, is_reachable: bool = True
) -> ExpiredSnapshot:
    return ExpiredSnapshot(
        encode_id(entry.id),
        to_datetime(entry.flushed_at),
        entry.message,
        is_reachable,
        tuple(stays.get(entry.id, ())),
    )


def rule_of(plan: ExpirationPlan) -> Rule:
    """Return what is to expire when the plan is run: by the same time, and at most this.

    What the plan does not name stays, be it old or not; what somebody has named by a branch or
    a tag since the plan was made stays, too; and a ref that was moved since is not deleted.

    Raises
    ------
    InvalidInputError
        Kind ``invalid-snapshot-id``: somebody has written the plan by hand, and an id is none.
    """
    return Rule(
        from_datetime(plan.older_than),
        plan.delete_expired_branches,
        plan.delete_expired_tags,
        Bounds(
            frozenset(named_ids(item.id for item in plan.released)),
            dict(zip(plan.branches, named_ids(plan.branches.values()), strict=True)),
            dict(zip(plan.tags, named_ids(plan.tags.values()), strict=True)),
        ),
    )


def _line(item: ExpiredSnapshot) -> str:
    kept = f", kept by {', '.join(item.kept_by)}" if item.kept_by else ""
    left = "" if item.is_reachable else ", in no history"
    return f"{item.id} written {item.written_at:%Y-%m-%d %H:%M:%S}, {item.message!r}{kept}{left}"


def _reparented_line(item: ReparentedSnapshot) -> str:
    return (
        f"{item.id}: from {item.parent_id} to {item.new_parent_id},"
        f" logs inherited: {len(item.inherited_logs)}"
    )


def _fields(value: dict[str, Any]) -> dict[str, Any]:
    """Take the fields of a plan out of its JSON."""

    def items(name: str, build: Callable[[Any], object]) -> tuple[object, ...]:
        return tuple(map(build, checked(value.pop(name), list)))

    return {
        "older_than": time(value.pop("older_than")),
        "delete_expired_branches": checked(value.pop("delete_expired_branches"), bool),
        "delete_expired_tags": checked(value.pop("delete_expired_tags"), bool),
        "released": items("released", _expired),
        "held": items("held", _expired),
        "reparented": items("reparented", _reparented),
        "branches": _refs(value.pop("branches")),
        "tags": _refs(value.pop("tags")),
    }


def _expired(value: Any) -> ExpiredSnapshot:
    return ExpiredSnapshot(
        id=id_text(value["id"]),
        written_at=time(value["written_at"]),
        message=checked(value["message"], str),
        is_reachable=checked(value["is_reachable"], bool),
        kept_by=tuple(checked(name, str) for name in checked(value["kept_by"], list)),
    )


def _reparented(value: Any) -> ReparentedSnapshot:
    return ReparentedSnapshot(
        id=id_text(value["id"]),
        parent_id=id_text(value["parent_id"]),
        new_parent_id=id_text(value["new_parent_id"]),
        inherited_logs=tuple(map(id_text, checked(value["inherited_logs"], list))),
    )


def _refs(value: Any) -> dict[str, str]:
    return {name: id_text(tip) for name, tip in checked(value, dict).items()}

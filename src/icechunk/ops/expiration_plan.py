"""What an expiration would do, as a value to print, keep as JSON, and carry out later.

A plan is made from one state of a repository, and names all that goes. Whoever runs it later agrees
to that and to nothing more: see `rule_of`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final, Self, TypeVar

import numpy as np

from icechunk._display import Block, Lines, Shown, datetime_text
from icechunk.errors import ErrorKind, FormatError
from icechunk.format.ids import OBJECT_ID_SIZE, decode_id, encode_id, encode_ids
from icechunk.format.repo_info import RepoInfo
from icechunk.ops.expiration import Bounds, Expired, Rule
from icechunk.repo.times import from_datetime, to_datetime

__all__ = ["ExpirationPlan", "ExpiredSnapshot", "ReparentedSnapshot", "plan_of", "rule_of"]

FORMAT: Final = "icechunk expiration plan"
VERSION: Final = 1
SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class ExpiredSnapshot:
    """A snapshot that was written before the time given."""

    id: str
    written_at: datetime
    message: str
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
    inherited_logs: tuple[str, ...]
    """Transaction logs that lead from the new parent to it, besides its own; oldest first."""


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
        value = {"format": FORMAT, "version": VERSION, **asdict(self)}
        return json.dumps(value, indent=1, default=datetime.isoformat)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a plan that `to_json` wrote.

        Raises
        ------
        FormatError
            Kind ``deserialization``: it is no such plan, or of a later version of this library.
        """
        try:
            value = json.loads(text)
            if (found := (value.pop("format"), value.pop("version"))) != (FORMAT, VERSION):
                raise ValueError(f"it says format {found[0]!r}, version {found[1]!r}")
            plan = cls(
                older_than=_time(value.pop("older_than")),
                delete_expired_branches=_checked(value.pop("delete_expired_branches"), bool),
                delete_expired_tags=_checked(value.pop("delete_expired_tags"), bool),
                released=tuple(map(_expired, value.pop("released"))),
                held=tuple(map(_expired, value.pop("held"))),
                reparented=tuple(map(_reparented, value.pop("reparented"))),
                branches=_refs(value.pop("branches")),
                tags=_refs(value.pop("tags")),
            )
            if value:
                raise ValueError(f"it has unknown fields: {', '.join(sorted(value))}")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise FormatError(
                f"this is not a plan that `ExpirationPlan.to_json` wrote, or a newer version of"
                f" this library did: {error}",
                ErrorKind.DESERIALIZATION,
            ) from error
        return plan

    def _block(self) -> Block:
        return Block.of(
            "icechunk.ops.ExpirationPlan",
            {
                "older_than": datetime_text(self.older_than),
                "delete_expired_branches": self.delete_expired_branches,
                "delete_expired_tags": self.delete_expired_tags,
                "released": _some("snapshots", [_line(item) for item in self.released]),
                "held": _some("snapshots", [_line(item) for item in self.held]),
                "reparented": _some(
                    "snapshots",
                    [
                        f"{item.id}: from {item.parent_id} to {item.new_parent_id},"
                        f" inherits {len(item.inherited_logs)} logs"
                        for item in self.reparented
                    ],
                ),
                "branches": _some(
                    "branches", [f"{n} at {tip}" for n, tip in self.branches.items()]
                ),
                "tags": _some("tags", [f"{name} at {tip}" for name, tip in self.tags.items()]),
            },
        )


def plan_of(info: RepoInfo, rule: Rule, found: Expired) -> ExpirationPlan:
    """Put in words what was found in a state."""
    table = info.snapshots
    stays: dict[bytes, list[str]] = {}
    for what, refs, gone in (
        ("branch", info.branches, found.branches),
        ("tag", info.tags, found.tags),
    ):
        for name in sorted(refs):
            if name not in gone:
                stays.setdefault(refs[name], []).append(f"{what} {name}")

    def described(row: int) -> ExpiredSnapshot:
        return ExpiredSnapshot(
            encode_id(table.id(row)),
            to_datetime(int(table.flushed_at[row])),
            table.messages[row].decode(),
            tuple(stays.get(table.id(row), ())),
        )

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
                encode_id(table.id(item.root)),
                tuple(encode_ids(item.logs)),
            )
            for item in found.inherited
        ),
        branches={name: encode_id(info.branches[name]) for name in found.branches},
        tags={name: encode_id(info.tags[name]) for name in found.tags},
    )


def rule_of(plan: ExpirationPlan) -> Rule:
    """Return what is to expire when the plan is run: by the same time, and at most this.

    What the plan does not name stays, be it old or not; what somebody has named by a branch or
    a tag since the plan was made stays, too; and a ref that was moved since is not deleted.
    """

    def refs(names: Mapping[str, str]) -> dict[str, bytes]:
        return {name: decode_id(tip, OBJECT_ID_SIZE) for name, tip in names.items()}

    return Rule(
        from_datetime(plan.older_than),
        plan.delete_expired_branches,
        plan.delete_expired_tags,
        Bounds(
            frozenset(decode_id(item.id, OBJECT_ID_SIZE) for item in plan.released),
            refs(plan.branches),
            refs(plan.tags),
        ),
    )


def _line(item: ExpiredSnapshot) -> str:
    kept = f", kept by {', '.join(item.kept_by)}" if item.kept_by else ""
    return f"{item.id} written {item.written_at:%Y-%m-%d %H:%M:%S}, {item.message!r}{kept}"


def _some(what: str, lines: list[str]) -> str | Lines:
    """Show how many there are, and the first few."""
    if not lines:
        return f"0 {what}"
    more = [f"... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return Lines((f"{len(lines)} {what}", *lines[:SHOWN], *more))


def _expired(value: Any) -> ExpiredSnapshot:
    return ExpiredSnapshot(
        id=_id(value["id"]),
        written_at=_time(value["written_at"]),
        message=_checked(value["message"], str),
        kept_by=tuple(_checked(name, str) for name in value["kept_by"]),
    )


def _reparented(value: Any) -> ReparentedSnapshot:
    return ReparentedSnapshot(
        id=_id(value["id"]),
        parent_id=_id(value["parent_id"]),
        new_parent_id=_id(value["new_parent_id"]),
        inherited_logs=tuple(map(_id, value["inherited_logs"])),
    )


def _refs(value: Any) -> dict[str, str]:
    return {name: _id(tip) for name, tip in _checked(value, dict).items()}


def _id(value: Any) -> str:
    return encode_id(decode_id(_checked(value, str), OBJECT_ID_SIZE))


def _time(value: Any) -> datetime:
    return to_datetime(from_datetime(datetime.fromisoformat(_checked(value, str))))


T = TypeVar("T")


def _checked(value: Any, kind: type[T]) -> T:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value

"""Whether a repository takes changes: the public record of its status."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum

from icechunk._display import Block, Shown, datetime_text
from icechunk.format.ops_log import Availability
from icechunk.format.ops_log import RepoStatus as StoredStatus
from icechunk.repo.times import from_datetime, to_datetime

__all__ = ["RepoAvailability", "RepoStatus", "public_status", "stored_status"]


class RepoAvailability(IntEnum):
    """What a repository can be used for."""

    online = 0
    read_only = 1

    def __repr__(self) -> str:
        return f"RepoAvailability.{self.name}"

    __str__ = __repr__


_AVAILABILITY_TEXT = {RepoAvailability.online: "Online", RepoAvailability.read_only: "ReadOnly"}


@dataclass(frozen=True, slots=True, repr=False)
class RepoStatus(Shown):
    """Availability of a repository, since when and why.

    Parameters
    ----------
    availability
        What the repository can be used for.
    set_at
        When this was decided; now, if left out.
    limited_availability_reason
        Why it is not fully available, for the people it stops.

    Raises
    ------
    TypeError
        An argument is of another type, or `set_at` has no time zone.
    """

    availability: RepoAvailability
    set_at: datetime | None = None
    limited_availability_reason: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.availability, RepoAvailability):
            raise TypeError(f"availability must be RepoAvailability, not {self.availability!r}")
        reason = self.limited_availability_reason
        if reason is not None and not isinstance(reason, str):
            raise TypeError(f"the reason must be str or None, not {type(reason).__name__}")
        if self.set_at is None:
            object.__setattr__(self, "set_at", datetime.now(UTC))
        else:
            object.__setattr__(self, "set_at", to_datetime(from_datetime(self.set_at)))

    def _block(self) -> Block:
        when = self.set_at
        return Block.of(
            "icechunk.repository.RepoStatus",
            {
                "availability": _AVAILABILITY_TEXT[self.availability],
                "set_at": None if when is None else datetime_text(when),
                "limited_availability_reason": self.limited_availability_reason,
            },
        )


def stored_status(status: RepoStatus) -> StoredStatus:
    """Translate a status for files."""
    is_online = status.availability is RepoAvailability.online
    assert status.set_at is not None  # set when the object was made
    return StoredStatus(
        Availability.ONLINE if is_online else Availability.READ_ONLY,
        from_datetime(status.set_at),
        status.limited_availability_reason,
    )


def public_status(status: StoredStatus) -> RepoStatus:
    """Translate a status from files; what is not online counts as read-only."""
    availability = RepoAvailability.online if status.is_online else RepoAvailability.read_only
    return RepoStatus(availability, to_datetime(status.set_at), status.reason)

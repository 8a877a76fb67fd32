"""Whether a repository takes changes: the public record of its status."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum

from icechunk._display import block, datetime_text

__all__ = ["RepoAvailability", "RepoStatus"]


class RepoAvailability(IntEnum):
    """What a repository can be used for."""

    online = 0
    read_only = 1

    def __repr__(self) -> str:
        return f"RepoAvailability.{self.name}"

    __str__ = __repr__


_AVAILABILITY_TEXT = {RepoAvailability.online: "Online", RepoAvailability.read_only: "ReadOnly"}


@dataclass(frozen=True, slots=True, repr=False)
class RepoStatus:
    """Availability of a repository, since when and why.

    Parameters
    ----------
    availability
        What the repository can be used for.
    set_at
        When this was decided; now, if left out.
    limited_availability_reason
        Why it is not fully available, for the people it stops.
    """

    availability: RepoAvailability
    set_at: datetime | None = None
    limited_availability_reason: str | None = None

    def __post_init__(self) -> None:
        if self.set_at is None:
            object.__setattr__(self, "set_at", datetime.now(UTC))

    def _fields(self) -> dict[str, object]:
        when = self.set_at
        return {
            "availability": _AVAILABILITY_TEXT[self.availability],
            "set_at": None if when is None else datetime_text(when),
            "limited_availability_reason": self.limited_availability_reason,
        }

    def __repr__(self) -> str:
        return block("icechunk.repository.RepoStatus", self._fields())

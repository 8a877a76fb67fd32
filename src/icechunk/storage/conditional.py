"""What became of a conditional write whose answer was bad, or did not come.

A request may be carried out and its response lost. The client then repeats it, and the repetition
is refused because of our own first attempt. So after any refusal or transport failure the object
is read again and compared with what we tried to write. Every attempt carries a fresh write id as
user metadata; where the store keeps no metadata, the bytes decide, which is sound for content
that holds unique ids, as every ``repo`` object does.

Pure rules; the reading is done by the storage.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from icechunk.storage.base import Version

WRITE_ID = "icechunkwriteid"
"""Name of the user metadata field; the same one other implementations use."""


class Outcome(Enum):
    """What is known about a write after reading the object again."""

    LANDED = "the object is the one we wrote"
    LOST = "the object is in a state in which our write can no longer be accepted"
    UNKNOWN = "our write was not seen, but may still be under way"


@dataclass(frozen=True, slots=True)
class Attempt:
    """A conditional write as it was sent."""

    data: bytes
    expected: Version | None
    write_id: str | None


@dataclass(frozen=True, slots=True)
class Found:
    """The object as it was found afterwards."""

    data: bytes
    version: Version
    write_id: str | None


def classify(attempt: Attempt, found: Found | None, *, refused: bool) -> Outcome:
    """Tell what became of an attempt, given the object now (None: absent).

    `refused` says that the server itself reported a failed precondition. Without that, an object
    still in the expected state proves nothing: the request may arrive yet.
    """
    if found is not None and _is_ours(attempt, found):
        return Outcome.LANDED
    version = None if found is None else found.version
    if refused or version != attempt.expected:
        return Outcome.LOST
    return Outcome.UNKNOWN


def _is_ours(attempt: Attempt, found: Found) -> bool:
    if attempt.write_id is not None and found.write_id is not None:
        return attempt.write_id == found.write_id
    return attempt.data == found.data

"""What a commit asks of its storage, request by request, and the rounds that makes.

Ours only. A round is one try to get a commit in: it starts at the state of the repository that the
commit is based on, and ends when the exchange of that state succeeds, is refused, or turns out to
be in vain before it is tried. In between is the window in which somebody else's commit costs us
the round.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

from icechunk.storage.base import PreconditionFailed
from icechunk.testing import StorageWrapper

REPO = "repo"
UPLOADS = frozenset({"put", "put_new", "put_if"})

READ, NEWS, UPLOAD, COPY, DELETE, REFUSED, WON = (
    "read",  # the state of the repository is asked for
    "news",  # and is another one than before
    "upload",
    "copy",
    "delete",
    "refused",  # somebody exchanged the state before us
    "won",
)


class Event(NamedTuple):
    """Something that happened between a commit and its storage."""

    at: float
    what: str
    kind: str
    """First segment of the key: what sort of object it is about."""


class TracingStorage(StorageWrapper):
    """Write down what is asked for; everything since `events` was last cleared."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.events: list[Event] = []

    def _note(self, what: str, key: str) -> None:
        self.events.append(Event(time.monotonic(), what, key.partition("/")[0]))

    def _before(self, operation: str, key: str) -> None:
        if operation in UPLOADS:
            self._note(UPLOAD, key)
        elif operation == "copy":
            self._note(COPY, key)
        elif operation == "delete":
            self._note(DELETE, key)
        elif key == REPO:
            self._note(READ, key)

    def get_versioned(self, key: str) -> Any:
        answer = super().get_versioned(key)
        self._note(NEWS, key)
        return answer

    def get_if_changed(self, key: str, known: Any) -> Any:
        answer = super().get_if_changed(key, known)
        if answer is not None:
            self._note(NEWS, key)
        return answer

    def put_if(self, key: str, data: Any, expected: Any) -> Any:
        try:
            version = super().put_if(key, data, expected)
        except PreconditionFailed:
            self._note(REFUSED, key)
            raise
        self._note(WON, key)
        return version


@dataclass
class Round:
    """One try of a commit."""

    began: float
    """When the state it is based on was asked for."""
    checked: float
    """When that state was last asked for before the round ended."""
    ended: float = 0
    outcome: str = ""
    """`WON`, `REFUSED`, or `NEWS` when it was in vain before the exchange."""
    uploads: Counter[str] = field(default_factory=Counter)
    steps: list[tuple[str, float]] = field(default_factory=list)
    """What was begun, or found out, and the seconds from there to the next one."""


def rounds_of(events: Iterable[Event], began: float) -> list[Round]:
    """Cut the events of one commit into its rounds.

    News before anything was uploaded are no lost round: they cost nothing.
    """
    rounds: list[Round] = []
    current = Round(began, began)

    def close(event: Event) -> Round:
        current.ended, current.outcome = event.at, event.what
        rounds.append(current)
        return Round(event.at, event.at)

    for event, following in pairwise([*events, None]):
        assert event is not None
        if event.what == READ and not current.uploads:
            current.steps.clear()  # what was before is waiting, not the round
        if following is not None and event.what not in (WON, REFUSED):
            step = f"{event.what} {event.kind}"
            current.steps.append((step, following.at - event.at))
        if event.what == UPLOAD:
            current.uploads[event.kind] += 1
        elif event.what == READ:
            if not current.uploads:
                current.began = event.at
            current.checked = event.at
        elif event.what in (WON, REFUSED) or (event.what == NEWS and current.uploads):
            checked = current.checked
            current = close(event)
            if event.what == NEWS:  # what ended the round is what the next one starts from
                current.began = current.checked = checked
    return rounds


def as_numbers(events: list[Event], began: float) -> dict[str, Any]:
    """Sum one commit up as JSON values."""
    rounds = rounds_of(events, began)
    return {
        "uploads": dict(Counter(event.kind for event in events if event.what == UPLOAD)),
        "copies": sum(event.what == COPY for event in events),
        "deletes": sum(event.what == DELETE for event in events),
        "rounds": [
            {
                "outcome": round_.outcome,
                "uploads": round_.uploads.total(),
                "window": round_.ended - round_.began,
                "exchange": round_.ended - round_.checked,
                "waited": round_.began - before,
                "steps": round_.steps,
            }
            for round_, before in zip(
                rounds, [began, *(round_.ended for round_ in rounds)], strict=False
            )
        ],
    }

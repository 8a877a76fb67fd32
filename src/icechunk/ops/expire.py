"""Expiration as one atomic change of the state: find, then edit, in every attempt anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from icechunk.format.ids import encode_ids
from icechunk.format.ops_log import ExpirationRan, UpdateKind
from icechunk.format.repo_info import RepoInfo
from icechunk.ops.expiration import Rule, find_expired, state_after
from icechunk.repo.preconditions import Precondition

__all__ = ["ExpireSnapshots"]


@dataclass(slots=True)
class ExpireSnapshots:
    """Release what has expired by a rule, as of the state that the change takes effect on."""

    rule: Rule
    released: set[str] = field(default_factory=set, init=False)
    """What the last edit released. Attempts are made one after the other until one takes effect,
    so after `run_update` this is what the update did."""

    @property
    def preconditions(self) -> Sequence[Precondition]:
        """None: whatever others changed, there is an answer to what has expired."""
        return ()

    def edit(self, info: RepoInfo) -> RepoInfo:
        """Drop what has expired, shorten histories, delete refs."""
        found = find_expired(info, self.rule)
        self.released = set(encode_ids(info.snapshots.ids[found.released]))
        return state_after(info, found)

    def log_entry(self, info: RepoInfo) -> UpdateKind:
        """Record that it happened, also when nothing had expired."""
        return ExpirationRan()

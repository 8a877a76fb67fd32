"""Carry one change into the stored state by compare-and-swap, as often as it takes.

::

    load -> check and apply -> back up -> flush -> swap --- took effect --> done
     ^                                              |
     |                                              +------ refused ------> somebody was faster
     |                                              |                          |
     +---- wait --- drop our backup <---------------|--------------------------+
                                                    +------ no answer ----> look for our mark

The name of the backup is fresh in every round, and the new state names it in its log. So it is our
mark: whether a swap took effect is read from the log that is stored afterwards, no matter what
became of the store's answer. A rule that no longer holds (a branch that moved, say) ends the loop
at once. Icechunk spec, "Repo info file": concurrent updates.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from itertools import repeat
from typing import Final

from icechunk.errors import ConflictError, ErrorKind, IcechunkError, StorageError
from icechunk.format.layout import backup_name
from icechunk.format.repo_info import RepoInfo, encode_repo_info
from icechunk.repo.entry_v2 import EntryPoint, Loaded
from icechunk.repo.log import read_log
from icechunk.repo.surroundings import REAL, Surroundings
from icechunk.repo.updates import Change, apply
from icechunk.storage.base import PreconditionFailed, WriteOutcomeUnknown

__all__ = ["Committed", "Lost", "Outcome", "UpdatePolicy", "attempt", "delays_ms", "run_update"]

log = logging.getLogger(__name__)

IMMEDIATE_RETRIES: Final = 5


@dataclass(frozen=True, slots=True)
class UpdatePolicy:
    """How often to try, and how to write."""

    max_tries: int = 100
    initial_backoff_ms: int = 50
    max_backoff_ms: int = 30_000
    max_log_entries: int = 1000
    compression_level: int = 3


@dataclass(frozen=True, slots=True)
class Committed:
    """The change is in the stored state."""

    info: RepoInfo


@dataclass(frozen=True, slots=True)
class Lost:
    """Somebody else's update came first, and ours did not and will not take effect."""


Outcome = Committed | Lost


def run_update(
    entry: EntryPoint, change: Change, policy: UpdatePolicy, world: Surroundings = REAL
) -> RepoInfo:
    """Apply a change to the stored state of a repository.

    Returns
    -------
    RepoInfo
        The state as of the change.

    Raises
    ------
    IcechunkError
        The error of a precondition that does not hold; nothing was changed.
    ConflictError
        Of kind ``update-attempts-exhausted`` when others were faster every time; nothing was
        changed.
    WriteOutcomeUnknown
        When the store gave no answer: the change may have taken effect, or may yet. Whatever it
        would have made reachable must be kept.
    StorageError
        Any other: storage failed, nothing was changed.
    """
    tries = 0
    for delay in delays_ms(policy, world):
        if delay:
            world.sleep(delay / 1000)
        tries += 1
        outcome = attempt(entry, change, policy, world)
        if isinstance(outcome, Committed):
            return outcome.info
        log.debug("somebody else updated the repository first (attempt %d)", tries)
    raise exhausted(tries)


def exhausted(tries: int) -> ConflictError:
    """Error for who was never fast enough."""
    return ConflictError(
        message=f"the repository cannot be updated after {tries} attempts, others were faster every"
        " time: try again later, or raise repo_update_retries in the configuration",
        kind=ErrorKind.UPDATE_ATTEMPTS_EXHAUSTED,
    )


def delays_ms(policy: UpdatePolicy, world: Surroundings) -> Iterator[float]:
    """Yield how long to wait before each attempt: not at all, then twice as long each time.

    Up to as much again is added by chance, so that those who lost together do not meet again.
    """
    yield from repeat(0.0, 1 + IMMEDIATE_RETRIES)
    delay = float(policy.initial_backoff_ms)
    for _ in range(policy.max_tries - IMMEDIATE_RETRIES):
        capped = min(delay, policy.max_backoff_ms)
        yield capped * (1 + world.uniform())
        delay = capped * 2


def attempt(
    entry: EntryPoint, change: Change, policy: UpdatePolicy, world: Surroundings
) -> Outcome:
    """Go once through the loop; raises as `run_update` does."""
    before = entry.load()
    now = world.now_us()
    backup = backup_name(now, world.random_id())
    after = apply(
        before.info, change, now, backup_name=backup, max_log_entries=policy.max_log_entries
    )
    data = encode_repo_info(after, level=policy.compression_level)
    try:
        # What is stored now, which is `before` or newer. If newer, the swap below is refused, since
        # no state ever comes back, and the backup is dropped with the round.
        entry.back_up(backup)
        entry.require_swaps(backup, before)
        # Before the swap: once `repo` names them, snapshots and backup must outlive a power
        # failure.
        entry.flush()
    except StorageError:
        _drop(entry, backup)
        raise
    try:
        return Committed(entry.swap(after, data, before.version))
    except PreconditionFailed as error:
        fate = _fate(entry, before, backup, error)
        if fate is Fate.LANDED:
            return Committed(after)  # our answer got lost, and the store asked again by itself
    except StorageError as error:
        fate = _fate(entry, before, backup, error)
        if fate is Fate.LANDED:
            return Committed(after)
        if fate is not Fate.OVERTAKEN:
            if fate is Fate.PENDING and entry.answers_are_final:
                _drop(entry, backup)
                raise
            raise _unknown(error) from error
    # Overtaken, or refused: the version we expected is gone for good, so our swap cannot happen any
    # more, and the backup it would have named is nobody's. Unless the log cannot tell: then it
    # stays.
    if fate is not Fate.UNTOLD:
        _drop(entry, backup)
    return Lost()


class Fate(Enum):
    """What the stored log says about a swap."""

    LANDED = auto()
    """Our entry follows the state we started from."""
    OVERTAKEN = auto()
    """Somebody else's does."""
    PENDING = auto()
    """Nothing does: the stored state is still the one we started from."""
    UNTOLD = auto()
    """The state we started from is in no log that is left."""


def fate_of_swap(
    info: RepoInfo, before: RepoInfo, backup: str, entry: EntryPoint | None = None
) -> Fate:
    """Find our mark in the log that is stored now.

    The newest entry of the state we started from is stamped with the name of the backup that the
    next update made. Times are strictly increasing within a log, so they tell the entry.
    """
    if not len(before.updates):
        return Fate.UNTOLD  # a damaged state, whose next update nothing can be stamped by
    started_at = before.updates[0].updated_at
    for update in read_log(info, entry.load_backup if entry is not None else lambda _: None):
        if update.updated_at < started_at:
            break
        if update.updated_at == started_at:
            if update.backup_path is None:
                return Fate.PENDING
            return Fate.LANDED if update.backup_path == backup else Fate.OVERTAKEN
    return Fate.UNTOLD


def _fate(entry: EntryPoint, before: Loaded, backup: str, cause: StorageError) -> Fate:
    try:
        return fate_of_swap(entry.load().info, before.info, backup, entry)
    except IcechunkError as error:
        error.add_note("while finding out whether an update of the repository took effect")
        raise _unknown(cause) from error


def _unknown(cause: StorageError) -> WriteOutcomeUnknown:
    return WriteOutcomeUnknown(
        "the object store did not say whether the update of the repository took effect: look at the"
        f" branch before trying again ({cause.message})"
    )


def _drop(entry: EntryPoint, backup: str) -> None:
    """Remove the backup of a round that came to nothing; garbage if that fails, never damage."""
    try:
        entry.drop_backup(backup)
    except StorageError as error:
        log.debug("left an unused backup %s behind: %s", backup, error.message)

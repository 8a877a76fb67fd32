"""The commit protocol: from edits to the new tip of a branch, as often as it takes.

::

    look at the tip -> write manifests, log, snapshot -> swap the repository object --> done
          |                                                      |
          +--- the branch has moved: the race is lost <----------+
          |
          +--> give up, or rebase, wait and try again

Nothing of a lost attempt can be reached by anybody, so it is deleted, or used again by the next one
where the winner did not touch it: see `icechunk.changes.written`. A swap without an answer is
different: what it might have made reachable stays.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from icechunk.changes.rebase import rebase
from icechunk.changes.snapshot_writer import write_snapshot
from icechunk.changes.solvers import ConflictSolver
from icechunk.changes.workspace import Workspace
from icechunk.errors import (
    ConflictError,
    ErrorKind,
    SessionStateError,
    StorageError,
)
from icechunk.format.ids import encode_id, ids_of_column
from icechunk.format.layout import manifest_key, snapshot_key, transaction_key
from icechunk.format.snapshot import Snapshot
from icechunk.format.snapshot_table import SnapshotEntry
from icechunk.format.transaction_log import TransactionLog
from icechunk.repo.pace import Traffic
from icechunk.repo.preconditions import NotRoot, Precondition
from icechunk.repo.state import RepoState
from icechunk.repo.updates import (
    COMMIT_MOVES,
    AddDetachedSnapshot,
    AddSnapshot,
    AmendSnapshot,
    Change,
)

__all__ = ["CommitOrder", "commit", "commit_detached", "with_ours"]

log = logging.getLogger(__name__)

PATIENCE_SECONDS: Final = 20.0
"""How long to stand in line for a turn; then it is tried out of turn."""

OURS: Final = "__icechunk"
"""Key of commit metadata that belong to the library."""


@dataclass(frozen=True, slots=True)
class CommitOrder:
    """What to commit, and where."""

    branch: str
    message: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    amend: bool = False
    """Take the place of the tip instead of following it."""
    rewrite: bool = False
    """Write all manifests anew."""


def commit(
    workspace: Workspace,
    order: CommitOrder,
    solver: ConflictSolver | None = None,
    tries: int = 0,
) -> Snapshot:
    """Commit the edits of a workspace; the lock of its change set is held.

    Parameters
    ----------
    workspace
        Base snapshot and edits. Its base moves when it has to be rebased, else it is unchanged.
    order
        What to commit.
    solver
        Rebase with this when the branch has moved, instead of giving up.
    tries
        How often to rebase at most.

    Raises
    ------
    ConflictError
        The branch has moved, and there is no solver or no try left.
    RebaseFailedError
        The solver could not solve the conflicts.
    IcechunkError
        What the update of the repository or the snapshot writer raise.
    """
    storage = workspace.context.storage
    run = _Run(workspace, order)
    log.info("committing to %r after %s", order.branch, encode_id(workspace.snapshot_id))
    # Where all writers meet on one machine they can queue: then nobody loses.
    queue: AbstractContextManager[bool] = nullcontext(False)
    if solver is not None:
        queue = storage.turn(PATIENCE_SECONDS)
    try:
        with queue as in_turn:
            # Others have gone on when a pause is over: rebase after it, right before the attempt.
            is_racing = solver is not None and tries > 0 and not in_turn
            if solver is not None and is_racing and run.pause():
                rebase(workspace, order.branch, solver)
            for attempt in count():
                try:
                    snapshot = run.attempt(None if solver is None else attempt)
                except ConflictError:
                    if solver is None or attempt >= tries:
                        raise
                    log.info("branch %r has moved: rebasing the commit", order.branch)
                else:
                    log.info("committed snapshot %s to %r", encode_id(snapshot.id), order.branch)
                    return snapshot
                if is_racing and run.has_lost_work:
                    run.pause()
                rebase(workspace, order.branch, solver)
    finally:
        run.drop_debris()
    raise AssertionError("unreachable")


def commit_detached(workspace: Workspace, message: str, metadata: Mapping[str, Any]) -> Snapshot:
    """Write the edits of a workspace as a snapshot that no branch points to, but history knows."""
    rules = _rules(workspace)
    workspace.context.check(*rules)
    snapshot = write_snapshot(workspace, message, metadata)
    workspace.written.share()  # before anything can go wrong: from here on it may be known
    entry = _entry(snapshot, workspace.snapshot_id)
    workspace.context.update(AddDetachedSnapshot(entry, rules))
    return snapshot


class _Run:
    """The attempts of one commit, and what those that were lost left behind."""

    def __init__(self, workspace: Workspace, order: CommitOrder) -> None:
        self._workspace = workspace
        self._order = order
        self._debris: list[str] = []
        self.has_lost_work = False
        """Whether the last attempt had written something before it found the race lost."""

    def pause(self) -> bool:
        """Wait as long as the contention of the past asks for; False when that is not at all."""
        context = self._workspace.context
        delay = context.pace.delay(context.world.uniform())
        if delay:
            context.world.sleep(delay)
        return bool(delay)

    def attempt(self, number: int | None) -> Snapshot:
        """Try once; raises ConflictError when others were faster."""
        workspace, order = self._workspace, self._order
        context = workspace.context
        started = context.world.now_us()
        metadata = order.metadata
        if number is not None:
            metadata = with_ours(metadata, rebase_attempts=number)
        parent = workspace.snapshot_id
        rules = _rules(workspace)
        self.has_lost_work = False
        context.check_tip(order.branch, parent, *rules, *([NotRoot(parent)] if order.amend else []))
        amended = self._amended_log() if order.amend else None
        snapshot = write_snapshot(
            workspace, order.message, metadata, rewrite=order.rewrite, amended=amended
        )
        entry = _entry(snapshot, parent)
        change: Change = AddSnapshot(order.branch, entry, parent, rules)
        if order.amend:
            change = AmendSnapshot(order.branch, _entry(snapshot, None), parent, rules)
        try:
            state = context.update(change)
        except ConflictError:
            # What is about to be deleted must not be known to anybody, whatever the loop believes.
            state = context.state()
            if not context.entry.has_committed(order.branch, entry):
                if context.entry.can_forget_losers:
                    self._debris += [snapshot_key(snapshot.id), transaction_key(snapshot.id)]
                self.has_lost_work = True
                context.pace.lost(*self._experience(state, started))
                raise
        except BaseException:
            workspace.written.share()  # it may have taken effect, or may yet
            raise
        context.pace.remember(snapshot.id)
        context.pace.won(*self._experience(state, started))
        used = set(ids_of_column(snapshot.manifest_files.ids))
        unused = workspace.written.take_unused(used)
        if context.entry.can_forget_losers:
            self._debris += map(manifest_key, unused)
        return snapshot

    def _experience(self, state: RepoState, started: int) -> tuple[float, Traffic]:
        """Return how long the attempt took and what else was going on."""
        context = self._workspace.context
        now = context.world.now_us()
        return (now - started) / 1e6, context.pace.traffic(state, self._order.branch, now)

    def _amended_log(self) -> TransactionLog:
        base = self._workspace.snapshot_id
        amended = self._workspace.context.assets.transaction_log(base)
        if amended.moves and not self._workspace.changes.is_rearranging:
            raise SessionStateError(
                f"cannot amend snapshot {encode_id(base)} with edits, it moved nodes: commit "
                "instead, or amend it in a session of Repository.rearrange_session",
                ErrorKind.REARRANGE_SESSION_ONLY,
            )
        return amended

    def drop_debris(self) -> None:
        """Delete what lost attempts wrote; garbage if that fails, never damage."""
        debris, self._debris = self._debris, []
        if not debris:
            return
        try:
            self._workspace.context.storage.delete(debris)
        except StorageError as error:
            log.debug("left %d objects of lost commits behind: %s", len(debris), error.message)


def _rules(workspace: Workspace) -> tuple[Precondition, ...]:
    """Return what must hold for these edits besides what must for all."""
    return (COMMIT_MOVES,) if workspace.changes.is_rearranging else ()


def with_ours(metadata: Mapping[str, Any], **ours: Any) -> dict[str, Any]:
    """Add properties of the library's own to the metadata of a commit."""
    mine = metadata.get(OURS)
    kept = mine if isinstance(mine, dict) else {}
    return {**metadata, OURS: {**kept, **ours}}


def _entry(snapshot: Snapshot, parent_id: bytes | None) -> SnapshotEntry:
    return SnapshotEntry(
        id=snapshot.id,
        parent_id=parent_id,
        flushed_at=snapshot.flushed_at,
        message=snapshot.message,
        metadata=snapshot.metadata,
    )

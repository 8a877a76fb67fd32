"""The model, its driver and the machine with two more steps: `expire` and `collect`.

A released snapshot is unknown from then on, and its log counts for the snapshot that inherits it.
So is one that was collected as garbage.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import rule
from model.conflicts import Solver, detect, patched
from model.driver import Driver
from model.edits import Log
from model.machine import EDITING, RepositoryMachine, solvers
from model.repository import Model, Session, _clashing_moves
from model.values import FailedError

import icechunk
from icechunk.testing.reachable import reachable_keys


class ExpiringModel(Model):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.gone: set[int] = set()
        self.pruned: dict[int, tuple[int, ...]] = {}
        """Snapshots whose logs come before that of a snapshot, oldest first."""

    def expire(self, snapshot: int, branches_go: bool, tags_go: bool) -> list[int]:
        """Release what is older than a snapshot; the numbers tell the age."""
        self._require_online()
        known = [number for number in range(len(self.snapshots)) if number not in self.gone]
        old = {n for n in known if n < snapshot and self.snapshots[n].parent is not None}
        for name, tip in list(self.branches.items()):
            if branches_go and tip in old and name != "main":
                del self.branches[name]
        if tags_go:
            self.tags = {name: tip for name, tip in self.tags.items() if tip not in old}
        released = old - {*self.branches.values(), *self.tags.values()}
        changes = {}
        for number in set(known) - released:
            if self.snapshots[number].parent not in released:
                continue
            *above, root = list(self.history(number))[1:]
            logs = [log for n in reversed(above) for log in (*self.pruned.get(n, ()), n)]
            changes[number] = root, (*logs, *self.pruned.get(number, ()))
        for number, (root, logs_of) in changes.items():
            self.snapshots[number] = replace(self.snapshots[number], parent=root)
            self.pruned[number] = logs_of
        self.gone |= released
        self._record("ExpirationRan")
        return sorted(released)

    def collect(self) -> list[int]:
        """Let go of whatever no branch or tag leads to."""
        self._require_online()
        dropped = self.garbage()
        self.gone |= dropped
        self._record("GCRan")
        return sorted(dropped)

    def garbage(self) -> set[int]:
        return set(range(len(self.snapshots))) - self.gone - self.reachable()

    def reachable(self) -> set[int]:
        tips = {*self.branches.values(), *self.tags.values()}
        return {number for tip in tips for number in self.history(tip)}

    def _require_known(self, *snapshots: int | None) -> None:
        if self.gone & set(snapshots):
            raise FailedError("SnapshotNotFoundError", "snapshot-not-found")

    # --- what names a snapshot -----------------------------------------------------------------

    def look_back(self, snapshot: int) -> dict[str, Any]:
        self._require_known(snapshot)
        return super().look_back(snapshot)

    def create_branch(self, name: str, snapshot: int) -> None:
        self._require_online()
        self._require_known(snapshot)
        super().create_branch(name, snapshot)

    def reset_branch(self, name: str, snapshot: int, expected: int | None) -> None:
        self._require_online()
        if name in self.branches:
            self._require_known(snapshot)
        super().reset_branch(name, snapshot, expected)

    def create_tag(self, name: str, snapshot: int) -> None:
        self._require_online()
        self._require_known(snapshot)
        super().create_tag(name, snapshot)

    def flush(self, session: int, message: str, metadata: dict[str, Any] | None) -> int:
        work = self.sessions[session]
        if work.mode != "fork":
            self._require_online()
            self._require_known(work.base)
        return super().flush(session, message, metadata)

    # --- what reads logs -----------------------------------------------------------------------

    def amend(
        self, session: int, message: str, metadata: dict[str, Any] | None, allow_empty: bool
    ) -> int:
        replaced = self.sessions[session].base
        new = super().amend(session, message, metadata, allow_empty)
        self.pruned[new] = self.pruned.get(replaced or 0, ())
        return new

    def diff(self, start: int, end: int) -> dict[str, Any]:
        self._require_known(start, end)
        chain = list(self.history(end))
        if start == end or start not in chain:
            raise FailedError("InvalidInputError", "bad-snapshot-chain-for-diff")
        log = Log()
        for number in reversed(chain[: chain.index(start)]):
            for logged in (*self.pruned.get(number, ()), number):
                log = log.then(self.snapshots[logged].log)
        return log.named(self.snapshots[start].nodes, self.snapshots[end].nodes)

    def _unseen(self, work: Session) -> tuple[list[tuple[int, list[int]]], bool]:
        """What a session has not seen, as snapshots with their logs; and whether that is all."""
        assert work.branch is not None
        seen = set(self.history(work.base)) if work.base not in self.gone else set()
        found = []
        for number in self.history(self.branches[work.branch]):
            if number in seen:
                return found[::-1], number == work.base
            logs = [*self.pruned.get(number, ()), number]
            if work.base in logs:
                found.append((number, logs[logs.index(work.base) + 1 :]))
                return found[::-1], True
            found.append((number, logs))
        return found[::-1], False

    def is_continuation(self, work: Session) -> bool:
        return self._unseen(work)[1]

    def _rebase(self, work: Session, solver: Solver) -> None:
        assert work.branch is not None
        if work.branch not in self.branches or self.branches[work.branch] == work.base:
            return
        tip = self.branches[work.branch]
        commits, is_continuation = self._unseen(work)
        if is_continuation:
            for number, logs in commits:
                self._follow_all(work, number, logs, solver)
            return
        draft = replace(work)
        for number, logs in commits:
            self._follow_all(draft, number, logs, solver)
        self._require_nodes(draft, self.snapshots[tip].nodes)
        self._follow(draft, tip, solver, Log(new=frozenset({0})))
        work.edits, work.base, work.nodes = draft.edits, tip, self.snapshots[tip].nodes

    def _follow_all(self, work: Session, number: int, logs: list[int], solver: Solver) -> None:
        """Go past all logs of a snapshot, or stay in front of all."""
        theirs, edits = self.snapshots[number], work.edits
        for logged in logs:
            log = self.snapshots[logged].log
            conflicts = detect(edits, work.nodes, log, theirs.nodes)
            if not conflicts and log.changes_tree:
                conflicts = _clashing_moves(edits, theirs.nodes)
            if not all(solver.accepts(conflict.kind) for conflict in conflicts):
                records = [conflict.record for conflict in conflicts]
                raise FailedError(
                    "RebaseFailedError", "rebase-failed", snapshot=number, conflicts=records
                )
            edits = patched(edits, conflicts, log, solver)
        work.edits, work.base, work.nodes = edits, number, theirs.nodes


class ExpiringDriver(Driver):
    """See the module."""

    def __init__(self, storage: icechunk.Storage) -> None:
        super().__init__(storage)
        self._times: list[datetime] = []

    def _new(self, snapshot_id: str) -> int:
        self._times.append(self._repo.lookup_snapshot(snapshot_id).written_at)
        return super()._new(snapshot_id)

    def expire(self, snapshot: int, branches_go: bool, tags_go: bool) -> list[int | None]:
        released = self._repo.expire_snapshots(
            self._times[snapshot],
            delete_expired_branches=branches_go,
            delete_expired_tags=tags_go,
        )
        return sorted(self._number(snapshot_id) for snapshot_id in released)

    def collect(self) -> list[int | None]:
        plan = self._repo.plan_garbage_collection(datetime.max.replace(tzinfo=UTC))
        summary = self._repo.run_garbage_collection(plan)
        assert summary == plan.summary()
        assert kept_keys(self._storage) == reachable_keys(self._storage)
        return sorted(self._number(item.id) for item in plan.dropped)


def kept_keys(storage: icechunk.Storage) -> set[str]:
    """Keys of all objects that are garbage if nothing needs them."""
    folders = ("snapshots/", "transactions/", "manifests/", "chunks/")
    return {info.key for info in storage.list() if info.key.startswith(folders)}


class ExpiringMachine(RepositoryMachine):
    """See the module."""

    model: ExpiringModel

    def __init__(self) -> None:
        super().__init__()
        self.model = ExpiringModel()

    def make_system(self) -> ExpiringDriver:
        return ExpiringDriver(icechunk.in_memory_storage())

    @rule(data=st.data(), branches_go=st.booleans(), tags_go=st.booleans())
    def expire(self, data, branches_go, tags_go):
        snapshot = self._snapshot(data)
        self.do("expire", snapshot=snapshot, branches_go=branches_go, tags_go=tags_go)

    @rule(data=st.data(), edits=st.integers(1, 3), is_reset=st.booleans())
    def collect(self, data, edits, is_reset):
        """Leave a snapshot behind, and collect all garbage, once no session needs any of it."""
        branch = data.draw(st.sampled_from(sorted(self.model.branches)))
        before = self.model.branches[branch]
        number = self._open("writable", branch)
        self._change(data, number, edits)
        if number in self.model.sessions and is_reset:
            self._commit(number)
            self.do("reset_branch", name=branch, snapshot=before, expected=None)
        elif number in self.model.sessions:
            self.do("flush", session=number, message=f"left {self._fresh()}", metadata=None)
        reachable = self.model.reachable()
        for number, work in list(self.model.sessions.items()):
            if work.base not in reachable or work.mode == "fork" or not work.edits.is_empty:
                self.do("forget_session", session=number)
        self.do("collect")

    @rule(data=st.data(), edits=st.integers(1, 3), commits=st.integers(2, 3), solver=solvers)
    def expiring_race(self, data, edits, commits, solver):
        """Edit in a session while others commit, and while these commits expire; then rebase."""
        branch = data.draw(st.sampled_from(sorted(self.model.branches)))
        slow = self._open(data.draw(st.sampled_from(EDITING)), branch)
        self._change(data, slow, edits)
        self._others_commit(data, branch, edits, commits)
        newest = len(self.model.snapshots) - 1
        self.do("expire", snapshot=newest, branches_go=False, tags_go=False)
        if slow in self.model.sessions:
            self.do("rebase", session=slow, solver=solver)
            self._commit(slow)

"""A repository and its sessions as plain dictionaries: what every call should do.

`Model.apply` takes a step, a dictionary with the operation and its arguments, and answers with what
must come of it: ``{"done": result}``, or the class and code of the error. A step that fails changes
nothing, but a failed rebase keeps the commits it got past. Snapshots and sessions are numbers.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from model.conflicts import NEW_ON_EXISTING, Conflict, Solver, detect, patched
from model.edits import Edits, Log, MergeRefusedError, Move, merged, moved
from model.values import (
    Chunk,
    Coords,
    Document,
    FailedError,
    Node,
    Nodes,
    Path,
    absolute,
    contents,
    is_below,
)

Step = dict[str, Any]
Outcome = dict[str, Any]
NEWEST = 2
"""How many operations `Model.seen` lists: reading all of them may take a file for each few."""
ROOT_METADATA = {"__icechunk": {"is_root": True}}


@dataclass(frozen=True)
class Snapshot:
    parent: int | None
    message: str
    metadata: dict[str, Any]
    nodes: Nodes
    log: Log


@dataclass
class Session:
    mode: str
    """``readonly``, ``writable``, ``rearrange`` or ``fork``."""
    base: int | None
    """Number of the snapshot; None below a fork of uncommitted edits."""
    nodes: Nodes
    """What that snapshot holds."""
    branch: str | None = None
    edits: Edits = field(default_factory=Edits)
    threshold: int = 512
    defaults: dict[str, Any] = field(default_factory=dict)
    lineage: dict[int, int] = field(default_factory=dict)
    """The sessions this fork comes from, and when each was forked."""

    @property
    def view(self) -> dict[Path, Node]:
        return self.edits.on(self.nodes)

    @property
    def is_read_only(self) -> bool:
        return self.mode == "readonly"


class Model:
    """See the module."""

    def __init__(self) -> None:
        self.snapshots = [Snapshot(None, "Repository initialized", ROOT_METADATA, {}, Log())]
        self.branches = {"main": 0}
        self.tags: dict[str, int] = {}
        self.used_tags: set[str] = set()
        self._operations: list[list[Any]] = [["RepoInitialized", {}]]
        self.metadata: dict[str, Any] = {}
        self.is_online = True
        self.threshold = 512
        self.defaults: dict[str, Any] = {}
        self.sessions: dict[int, Session] = {}
        self._numbers = itertools.count(1)
        self._now = 0

    def apply(self, step: Step) -> Outcome:
        """Do one step and tell what must come of it."""
        self._now += 1
        arguments = {name: value for name, value in step.items() if name != "op"}
        try:
            return {"done": getattr(self, step["op"])(**arguments)}
        except FailedError as failure:
            return failure.record

    def seen(self, numbers: list[int]) -> dict[str, Any]:
        """Tell what must be found in the repository, and in some sessions."""
        return {
            "branches": dict(self.branches),
            "tags": dict(self.tags),
            "histories": {
                name: [
                    [number, self.snapshots[number].message, self.snapshots[number].metadata]
                    for number in self.history(tip)
                ]
                for name, tip in self.branches.items()
            },
            "sessions": {str(number): self._session_seen(number) for number in numbers},
            **self._of_repository(),
        }

    def _of_repository(self) -> dict[str, Any]:
        """Tell what is of the repository as a whole."""
        return {
            "operations": self.operations(NEWEST),
            "metadata": self.metadata,
            "online": self.is_online,
        }

    def _session_seen(self, number: int) -> dict[str, Any]:
        session = self.sessions[number]
        view = session.view
        return {
            "mode": "readonly" if session.mode == "fork" else session.mode,
            "read_only": session.is_read_only,
            "branch": session.branch,
            "snapshot": session.base,
            "changed": not session.edits.is_empty,
            "status": session.edits.log(session.nodes).named(session.nodes, view),
            "contents": contents(view),
        }

    def history(self, number: int | None) -> Iterator[int]:
        """Walk from a snapshot to the first one."""
        while number is not None:
            yield number
            number = self.snapshots[number].parent

    # --- opening -------------------------------------------------------------------------------

    def create(self, threshold: int, split: int | None, page: int | None) -> None:
        self.threshold = threshold

    def reopen(self, threshold: int, split: int | None, how: str) -> None:
        self.threshold = threshold
        if how != "pickle":
            self.defaults = {}

    def open_session(self, session: int, mode: str, branch: str) -> int:
        if mode != "readonly":
            self._require_online()
        if branch not in self.branches:
            raise FailedError("RefNotFoundError", "ref-not-found")
        tip = self.branches[branch]
        on = None if mode == "readonly" else branch
        self.sessions[session] = Session(
            mode, tip, self.snapshots[tip].nodes, on, Edits(), self.threshold, dict(self.defaults)
        )
        return tip

    def forget_session(self, session: int) -> None:
        del self.sessions[session]

    def look_back(self, snapshot: int) -> dict[str, Any]:
        """Every snapshot stays what it was."""
        return contents(self.snapshots[snapshot].nodes)

    # --- edits ---------------------------------------------------------------------------------

    def put(self, session: int, path: Path, attribute: int, grid: list[int] | None) -> None:
        work = self._editable(session, "read-only-store")
        document = Document(attribute, None if grid is None else tuple(grid))
        node = work.view.get(path)
        if node is None:
            work.edits.create(path, next(self._numbers), document, self._now)
        elif node.is_array != (grid is not None):
            raise FailedError("AlreadyExistsError", "node-already-exists")
        elif node.document != document:
            work.edits.put(node.born, document, self._now)

    def delete(self, session: int, path: Path, by_directory: bool) -> None:
        work, view = self.sessions[session], self.sessions[session].view
        found = {other: node for other, node in view.items() if is_below(other, path)}
        if path not in view and not (path == "" and by_directory):
            found = {}
        if found or work.is_read_only:
            self._editable(session, "read-only-store" if by_directory else "read-only-session")
        for other, node in found.items():
            work.edits.delete(other, node)

    def write(self, session: int, path: Path, coords: list[int], value: list[int]) -> None:
        work = self._editable(session, "read-only-store")
        place, node = tuple(coords), self._array(work, path)
        size, byte = value
        is_inline = size <= work.threshold
        chunk = Chunk((size, byte), None if is_inline else next(self._numbers))
        work.edits.write(node.born, place, chunk, self._now)

    def erase(self, session: int, path: Path, coords: list[int], by_directory: bool) -> None:
        """Delete one chunk, there or not; or the directory of those that begin like this."""
        place, node = tuple(coords), self._array(self.sessions[session], path)
        work = self.sessions[session]
        found = {other for other in node.inside() if other[: len(place)] == place}
        gone = found if by_directory else {place}
        if gone or work.is_read_only:
            self._editable(session, "read-only-store" if by_directory else "read-only-session")
        for other in gone:
            work.edits.write(node.born, other, None, self._now)

    def shift(self, session: int, path: Path, offset: list[int]) -> None:
        work = self._editable(session, "read-only-session")
        node = self._array(work, path)
        there = node.inside()
        targets = {
            coords: tuple(c + o for c, o in zip(coords, offset, strict=True)) for coords in there
        }
        grid = node.document.grid or ()
        arrived: dict[Coords, Chunk | None] = {
            target: there[source]
            for source, target in targets.items()
            if all(0 <= c < n for c, n in zip(target, grid, strict=True))
        }
        for coords, chunk in (dict.fromkeys(there) | arrived).items():
            work.edits.write(node.born, coords, chunk, self._now)

    def move(self, session: int, source: Path, target: Path) -> None:
        work = self.sessions[session]
        view = work.view
        moved(view, source, target)
        self._require_writable(work)
        if work.mode != "rearrange":
            raise FailedError("SessionStateError", "non-rearrange-session")
        work.edits.moves.append(Move(view[source].born, source, target))

    def discard(self, session: int) -> None:
        work = self.sessions[session]
        self._require_writable(work)
        work.edits = Edits()

    # --- forks ---------------------------------------------------------------------------------

    def fork(self, session: int, new: int, pickled: bool) -> None:
        work = self.sessions[session]
        if work.is_read_only:
            raise FailedError("SessionStateError", "cannot-fork-read-only-session")
        is_clean = work.edits.is_empty
        nodes = work.nodes if is_clean else _committed(work.view)
        base = work.base if is_clean else None
        lineage = {**work.lineage, session: self._now}
        self.sessions[new] = Session(
            "fork", base, nodes, None, Edits(), work.threshold, lineage=lineage
        )

    def merge(self, session: int, others: list[int], pickled: bool) -> None:
        work = self.sessions[session]
        self._require_writable(work)
        forks = [self.sessions[number] for number in others]
        if work.mode == "fork" and any(fork.branch for fork in forks):
            raise FailedError("SessionStateError", "merge-not-allowed")
        if any(other.mode == "rearrange" for other in (work, *forks)):
            raise FailedError("SessionStateError", "rearrange-session-only")
        try:
            work.edits = self.merged(session, others)
        except MergeRefusedError:
            raise FailedError("SessionStateError", "merge-failed") from None

    def merged(self, session: int, others: list[int], *, is_blind: bool = False) -> Edits:
        """Merge; when blind, without asking which edits a fork could see."""
        work = self.sessions[session]
        edits = work.edits
        for number in others:
            other = self.sessions[number]
            seen = -1 if is_blind else other.lineage.get(session, -1)
            edits = merged(edits, other.edits, work.nodes, seen, self._now)
        return edits

    # --- commits -------------------------------------------------------------------------------

    def commit(
        self,
        session: int,
        message: str,
        metadata: dict[str, Any] | None,
        allow_empty: bool,
        solver: dict[str, Any] | None,
        tries: int,
    ) -> int:
        work = self.sessions[session]
        branch = self._require_commit(work, allow_empty)
        extra: dict[str, Any] = {}
        if solver is not None:
            behind = branch in self.branches and self.branches[branch] != work.base
            extra = {"__icechunk": {"rebase_attempts": int(behind and tries > 0)}}
        self._require_online()
        if solver is not None and tries > 0:
            self._rebase(work, Solver(**solver))
        self._require_tip(work, branch)
        assert work.base is not None
        log = work.edits.log(work.nodes)
        properties = {**work.defaults, **(metadata or {}), **extra}
        new = self._write(work, work.base, message, properties, log)
        self.branches[branch] = new
        self._record("NewCommit", branch=branch, new_snap_id=new)
        return new

    def amend(
        self, session: int, message: str, metadata: dict[str, Any] | None, allow_empty: bool
    ) -> int:
        work = self.sessions[session]
        branch = self._require_commit(work, allow_empty)
        self._require_online()
        self._require_tip(work, branch)
        if work.base == 0:
            raise FailedError("SessionStateError", "no-amend-for-initial-commit")
        assert work.base is not None
        replaced = self.snapshots[work.base]
        if replaced.log.moved and work.mode != "rearrange":
            raise FailedError("SessionStateError", "rearrange-session-only")
        previous = work.base
        assert replaced.parent is not None
        log = replaced.log.then(work.edits.log(work.nodes))
        properties = {**work.defaults, **(metadata or {})}
        new = self._write(work, replaced.parent, message, properties, log)
        self.branches[branch] = new
        self._record("CommitAmended", branch=branch, previous_snap_id=previous, new_snap_id=new)
        return new

    def flush(self, session: int, message: str, metadata: dict[str, Any] | None) -> int:
        work = self.sessions[session]
        if work.mode == "fork":
            raise FailedError("IcechunkError", "unknown")
        self._require_online()
        assert work.base is not None
        properties = {**work.defaults, **(metadata or {})}
        log = work.edits.log(work.nodes)
        new = self._write(work, work.base, message, properties, log)
        self._record("NewDetachedSnapshot", new_snap_id=new)
        return new

    def rebase(self, session: int, solver: dict[str, Any]) -> None:
        work = self.sessions[session]
        if work.branch is None:
            raise FailedError("SessionStateError", "commit-not-allowed")
        self._rebase(work, Solver(**solver))

    def _rebase(self, work: Session, solver: Solver) -> None:
        """Go on from the tip: commit by commit, or at once when the base was left behind."""
        assert work.branch is not None
        if work.branch not in self.branches or self.branches[work.branch] == work.base:
            return
        tip = self.branches[work.branch]
        seen = set(self.history(work.base))
        commits = list(itertools.takewhile(lambda number: number not in seen, self.history(tip)))
        if self.is_continuation(work):
            for number in reversed(commits):
                self._follow(work, number, solver)
            return
        draft = replace(work)
        for number in reversed(commits):
            self._follow(draft, number, solver)
        self._require_nodes(draft, self.snapshots[tip].nodes)
        # what was deleted only on the history left behind is there again, and no log tells
        self._follow(draft, tip, solver, Log(new=frozenset({0})))
        work.edits, work.base, work.nodes = draft.edits, tip, self.snapshots[tip].nodes

    def is_continuation(self, work: Session) -> bool:
        """Whether the tip of a session's branch still comes after its base."""
        return work.base in self.history(self.branches[work.branch or ""])

    def _follow(
        self, work: Session, number: int, solver: Solver, special_log: Log | None = None
    ) -> None:
        theirs = self.snapshots[number]
        log = special_log or theirs.log
        conflicts = detect(work.edits, work.nodes, log, theirs.nodes)
        if not conflicts and log.changes_tree:
            conflicts = _clashing_moves(work.edits, theirs.nodes)
        if not all(solver.accepts(conflict.kind) for conflict in conflicts):
            records = [conflict.record for conflict in conflicts]
            raise FailedError(
                "RebaseFailedError", "rebase-failed", snapshot=number, conflicts=records
            )
        work.edits = patched(work.edits, conflicts, log, solver)
        work.base, work.nodes = number, theirs.nodes

    def _require_nodes(self, work: Session, nodes: Nodes) -> None:
        """Refuse to go where there is nothing to edit."""
        edited = (work.edits.updated | work.edits.written.keys()) - work.edits.new
        if not edited <= {node.born for node in nodes.values()}:
            raise FailedError("NodeNotFoundError", "node-not-found")

    def _write(
        self, work: Session, parent: int, message: str, metadata: dict[str, Any], log: Log
    ) -> int:
        new = len(self.snapshots)
        self.snapshots.append(Snapshot(parent, message, metadata, _committed(work.view), log))
        work.mode, work.branch, work.edits = "readonly", None, Edits()
        work.base, work.nodes = new, self.snapshots[new].nodes
        return new

    # --- refs and the repository ---------------------------------------------------------------

    def create_branch(self, name: str, snapshot: int) -> None:
        self._require_online()
        if name in self.branches:
            raise FailedError("AlreadyExistsError", "branch-already-exists")
        self.branches[name] = snapshot
        self._record("BranchCreated", name=name)

    def reset_branch(self, name: str, snapshot: int, expected: int | None) -> None:
        self._require_online()
        if name not in self.branches:
            kind = "ref-not-found" if expected is None else "branch-not-found"
            raise FailedError("RefNotFoundError", kind)
        previous = self.branches[name]
        if expected not in (None, previous):
            raise _conflict("branch-update-conflict", expected, previous)
        self.branches[name] = snapshot
        self._record("BranchReset", name=name, previous_snap_id=previous)

    def delete_branch(self, name: str) -> None:
        self._require_online()
        if name == "main":
            raise FailedError("SessionStateError", "cannot-delete-main")
        if name not in self.branches:
            raise FailedError("RefNotFoundError", "ref-not-found")
        previous = self.branches[name]
        del self.branches[name]
        self._record("BranchDeleted", name=name, previous_snap_id=previous)

    def create_tag(self, name: str, snapshot: int) -> None:
        self._require_online()
        if name in self.used_tags:
            kind = "tag-already-exists" if name in self.tags else "tag-previously-deleted"
            raise FailedError("AlreadyExistsError", kind)
        self.tags[name] = snapshot
        self.used_tags.add(name)
        self._record("TagCreated", name=name)

    def delete_tag(self, name: str) -> None:
        self._require_online()
        if name not in self.tags:
            raise FailedError("RefNotFoundError", "ref-not-found")
        self._record("TagDeleted", name=name, previous_snap_id=self.tags.pop(name))

    def set_metadata(self, values: dict[str, Any]) -> None:
        self._require_online()
        self.metadata = dict(values)
        self._record("MetadataChanged")

    def update_metadata(self, values: dict[str, Any]) -> dict[str, Any]:
        self._require_online()
        self.metadata = {**self.metadata, **values}
        self._record("MetadataChanged")
        return self.metadata

    def set_online(self, online: bool) -> None:
        self.is_online = online
        self._record("RepoStatusChanged")

    def set_defaults(self, values: dict[str, Any]) -> None:
        self.defaults = dict(values)

    def diff(self, start: int, end: int) -> dict[str, Any]:
        chain = list(self.history(end))
        if start == end or start not in chain:
            raise FailedError("InvalidInputError", "bad-snapshot-chain-for-diff")
        log = Log()
        for number in reversed(chain[: chain.index(start)]):
            log = log.then(self.snapshots[number].log)
        return log.named(self.snapshots[start].nodes, self.snapshots[end].nodes)

    def operations(self, count: int | None) -> list[list[Any]]:
        """List the operations, newest first."""
        return self._operations[::-1][:count]

    # --- rules ---------------------------------------------------------------------------------

    def _record(self, operation: str, **fields: Any) -> None:
        self._operations.append([operation, fields])

    def _require_online(self) -> None:
        if not self.is_online:
            raise FailedError("ReadOnlyError", "read-only-repository")

    def _require_writable(self, work: Session) -> None:
        if work.is_read_only:
            raise FailedError("ReadOnlyError", "read-only-session")

    def _editable(self, session: int, kind: str) -> Session:
        work = self.sessions[session]
        if work.is_read_only:
            raise FailedError("ReadOnlyError", kind)
        if work.mode == "rearrange":
            raise FailedError("SessionStateError", "rearrange-session-only")
        return work

    def _array(self, work: Session, path: Path) -> Node:
        node = work.view.get(path)
        if node is None:
            raise FailedError("NodeNotFoundError", "node-not-found")
        if not node.is_array:
            raise FailedError("InvalidInputError", "not-an-array")
        return node

    def _require_commit(self, work: Session, allow_empty: bool) -> str:
        if work.branch is None:
            raise FailedError("SessionStateError", "commit-not-allowed")
        if work.edits.is_empty and not allow_empty:
            raise FailedError("SessionStateError", "no-changes-to-commit")
        return work.branch

    def _require_tip(self, work: Session, branch: str) -> None:
        if branch not in self.branches:
            raise FailedError("RefNotFoundError", "branch-not-found")
        if self.branches[branch] != work.base:
            raise _conflict("commit-conflict", work.base, self.branches[branch])


def _committed(nodes: Nodes) -> Nodes:
    """Forget the chunks outside the grids, for good."""
    return {path: node.trimmed() for path, node in nodes.items()}


def _clashing_moves(edits: Edits, nodes: Nodes) -> list[Conflict]:
    """Find what the moves of a session would overwrite; a source that is gone raises."""
    for born, source, target in edits.moves:
        if source in nodes and nodes[source].born != born:
            raise FailedError("NodeNotFoundError", "node-not-found")
        try:
            nodes = moved(nodes, source, target)
        except FailedError as failure:
            if failure.record["kind"] != "move-wont-overwrite":
                raise
            return [Conflict(NEW_ON_EXISTING, absolute(target))]
    return []


def _conflict(kind: str, expected: int | None, actual: int | None) -> FailedError:
    return FailedError("ConflictError", kind, expected=expected, actual=actual)

"""Random steps, chosen so that sessions get in each other's way; every outcome is compared.

A rule draws a step from what the model holds at the moment and does it on the model and on the
system under test. After every step all that can be seen of both must be equal.
"""

from __future__ import annotations

import itertools
from typing import Any, Protocol

import hypothesis.strategies as st
from hypothesis import event, note
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from model.repository import Model, Outcome, Session, Step
from model.values import Path, differences

PATHS = ["", "a", "a/b", "b", "g", "g/a", "g/a.b", "g/h/é i"]
START: dict[Path, list[int] | None] = {"": None, "a": [3], "g": None, "g/a": [2, 2]}
"""Groups and arrays of the first commit."""
BRANCHES = ["main", "x", "y"]
TAGS = ["t", "u"]
TARGETS = [*PATHS[1:], "m", "m/n", "g/m"]
EDITING = ["writable"] * 4 + ["rearrange"]
ON_ANY = ["edit", "move", "fork", "merge", "discard", "commit", "flush", "rebase"]
MODES = [*EDITING, "readonly"]
MOST_SESSIONS = 5

grids = st.one_of(st.none(), st.just([3]), st.just([2, 2]), st.lists(st.integers(1, 3), max_size=2))
attributes = st.integers(0, 2)
values = st.tuples(st.sampled_from([1, 4, 600]), st.integers(1, 250)).map(list)
thresholds = st.sampled_from([0, 3, 512])
splits = st.sampled_from([None, 1, 2])
properties = st.dictionaries(st.sampled_from(["k", "l"]), st.integers(0, 3), max_size=2)
solvers = st.one_of(
    st.just({"on_chunks": None}),
    st.fixed_dictionaries(
        {
            "on_chunks": st.sampled_from(["UseOurs", "UseTheirs", "Fail"]),
            "fail_on_array": st.booleans(),
            "fail_on_group": st.booleans(),
        }
    ),
)


class System(Protocol):
    """What the model is compared with."""

    def apply(self, step: Step) -> Outcome: ...

    def seen(self, numbers: list[int]) -> dict[str, Any]: ...


class RepositoryMachine(RuleBasedStateMachine):
    """See the module; a subclass says what the system is."""

    least_length = 0
    """Shortest axis that arrays are resized to."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.system = self.make_system()
        self._counter = itertools.count(1)
        self._focus: list[Path] = []

    def make_system(self) -> System:
        raise NotImplementedError

    def may(self, step: Step) -> bool:
        """Whether this system is to do a step at all."""
        return True

    # --- doing and comparing -------------------------------------------------------------------

    def do(self, op: str, **arguments: Any) -> Any:
        """Do a step on both sides, compare, and return its result (None after a failure)."""
        step = {"op": op, **arguments}
        if not self.may(step):
            event(f"{op}: not done")
            return None
        note(f"step {step}")
        expected = self.model.apply(step)
        self._tell(op, expected)
        outcome = self.system.apply(step)
        self._require_equal(outcome, expected, step)
        self.compare()
        return expected.get("done")

    def compare(self) -> None:
        numbers = list(self.model.sessions)
        self._require_equal(self.system.seen(numbers), self.model.seen(numbers), "what is seen")

    def _require_equal(self, found: object, expected: object, what: object) -> None:
        lines = differences(found, expected)
        assert not lines, "\n".join([f"{what}:", *lines])

    def _tell(self, op: str, outcome: Outcome) -> None:
        event(f"{op}: {outcome.get('kind', 'done')}")
        for kind, *_ in outcome.get("conflicts", ()):
            event(f"conflict: {kind}")

    # --- drawing -------------------------------------------------------------------------------

    def _fresh(self) -> int:
        return next(self._counter)

    def _session(self, data: st.DataObject, *modes: str) -> int:
        """Draw a session, of some modes if there are such, else of any."""
        numbers = [n for n, session in self.model.sessions.items() if session.mode in modes]
        return data.draw(st.sampled_from(numbers or list(self.model.sessions)), label="session")

    def _path(self, data: st.DataObject, session: Session, *, array: bool = False) -> Path | None:
        view = session.view
        found = sorted(path for path, node in view.items() if node.is_array or not array)
        return self._draw_path(data, found) if found else None

    def _draw_path(self, data: st.DataObject, paths: list[Path]) -> Path:
        favoured = paths + [path for path in paths if path in self._focus] * len(paths)
        return data.draw(st.sampled_from(favoured), label="path")

    def _snapshot(self, data: st.DataObject) -> int:
        newest = len(self.model.snapshots) - 1
        return newest - data.draw(st.integers(0, newest), label="snapshots back")

    def _open(self, mode: str, branch: str) -> int | None:
        if len(self.model.sessions) >= MOST_SESSIONS:
            self.do("forget_session", session=min(self.model.sessions))
        number = self._fresh()
        self.do("open_session", session=number, mode=mode, branch=branch)
        return number if number in self.model.sessions else None

    def _sessions(self, *modes: str) -> bool:
        return any(session.mode in modes for session in self.model.sessions.values())

    # --- opening -------------------------------------------------------------------------------

    @initialize(data=st.data(), threshold=thresholds, split=splits, page=st.sampled_from([None, 3]))
    def begin(self, data, threshold, split, page):
        """Create a repository with something in it."""
        self.do("create", threshold=threshold, split=split, page=page)
        number = self._open("writable", "main")
        for path, grid in START.items():
            self.do("put", session=number, path=path, attribute=0, grid=grid)
        for _ in range(data.draw(st.integers(0, 6))):
            self._edit(data, number)
        self._commit(number)

    @rule(threshold=thresholds, split=splits, how=st.sampled_from(["open", "reopen", "pickle"]))
    def reopen(self, threshold, split, how):
        if how == "pickle":  # keeps the configuration
            threshold = self.model.threshold
        self.do("reopen", threshold=threshold, split=split, how=how)

    @rule(mode=st.sampled_from(MODES), branch=st.sampled_from(["main"] * 4 + BRANCHES))
    def open_session(self, mode, branch):
        self._open(mode, branch)

    # --- edits ---------------------------------------------------------------------------------

    has_session = precondition(lambda self: self.model.sessions)
    has_writer = precondition(lambda self: self._sessions("writable", "fork"))
    has_mover = precondition(lambda self: self._sessions("rearrange"))
    has_fork = precondition(lambda self: self._sessions("fork"))
    has_committer = precondition(lambda self: self._sessions("writable", "rearrange"))

    @has_writer
    @rule(data=st.data(), how_many=st.integers(1, 4))
    def edit(self, data, how_many):
        number = self._session(data, "writable", "fork")
        for _ in range(how_many):
            self._edit(data, number)

    def _edit(self, data: st.DataObject, number: int) -> None:
        arrays = [node for node in self.model.sessions[number].view.values() if node.is_array]
        edits = [self._create, *[self._describe, self._delete] * 2]
        if arrays:
            edits += [self._write] * 4 + [self._erase, self._resize, self._shift]
        data.draw(st.sampled_from(edits))(data, number)

    def _create(self, data: st.DataObject, number: int) -> None:
        """Create a node, perhaps in place of another; or try to make an array of a group."""
        path = self._draw_path(data, PATHS)
        grid = data.draw(grids, label="grid")
        node = self.model.sessions[number].view.get(path)
        if node is not None and (node.is_array or grid is None or data.draw(st.booleans())):
            self.do("delete", session=number, path=path, by_directory=True)
        node = self.model.sessions[number].view.get(path)
        if node is None or not node.is_array:
            attribute = data.draw(attributes)
            self.do("put", session=number, path=path, attribute=attribute, grid=grid)

    def _describe(self, data: st.DataObject, number: int) -> None:
        """Change the attributes of a node, or write the same again."""
        session = self.model.sessions[number]
        if (path := self._path(data, session)) is not None:
            grid = session.view[path].document.grid
            shape = None if grid is None else list(grid)
            attribute = data.draw(attributes)
            self.do("put", session=number, path=path, attribute=attribute, grid=shape)

    def _resize(self, data: st.DataObject, number: int) -> None:
        session = self.model.sessions[number]
        if (path := self._path(data, session, array=True)) is not None:
            document = session.view[path].document
            grid = [data.draw(st.integers(self.least_length, 4)) for _ in document.grid]
            self.do("put", session=number, path=path, attribute=document.attribute, grid=grid)

    def _delete(self, data: st.DataObject, number: int) -> None:
        path = self._draw_path(data, PATHS[1:] * 3 + PATHS)
        self.do("delete", session=number, path=path, by_directory=data.draw(st.booleans()))

    def _coords(self, data: st.DataObject, number: int, path: Path) -> list[int] | None:
        grid = self.model.sessions[number].view[path].document.grid
        if grid is None or 0 in grid:
            return None
        # the first chunks more often, so that writers meet
        return [data.draw(st.one_of(st.just(0), st.integers(0, n - 1))) for n in grid]

    def _write(self, data: st.DataObject, number: int) -> None:
        path = self._path(data, self.model.sessions[number], array=True)
        if path is not None and (coords := self._coords(data, number, path)) is not None:
            value = data.draw(values)
            self.do("write", session=number, path=path, coords=coords, value=value)

    def _erase(self, data: st.DataObject, number: int) -> None:
        path = self._path(data, self.model.sessions[number], array=True)
        if path is not None and (coords := self._coords(data, number, path)) is not None:
            kept = data.draw(st.integers(0, len(coords)))
            directory = kept < len(coords)
            at = coords[:kept]
            self.do("erase", session=number, path=path, coords=at, by_directory=directory)

    def _shift(self, data: st.DataObject, number: int) -> None:
        path = self._path(data, self.model.sessions[number], array=True)
        if path is not None:
            grid = self.model.sessions[number].view[path].document.grid
            offset = [data.draw(st.integers(-2, 2)) for _ in grid]
            self.do("shift", session=number, path=path, offset=offset)

    @has_mover
    @rule(data=st.data(), how_many=st.integers(1, 3))
    def move(self, data, how_many):
        number = self._session(data, "rearrange")
        for _ in range(how_many):
            self._move(data, number)

    def _move(self, data: st.DataObject, number: int) -> None:
        source = self._path(data, self.model.sessions[number])
        source = source or data.draw(st.sampled_from(PATHS), label="source")
        target = data.draw(st.sampled_from(TARGETS), label="target")
        self.do("move", session=number, source=source, target=target)

    @has_session
    @rule(data=st.data(), what=st.sampled_from(ON_ANY))
    def try_on_any_session(self, data, what):
        """Do something in whatever session, also where it is refused."""
        number = self._session(data)
        others = [other for other in self.model.sessions if other != number]
        if what == "edit":
            self._edit(data, number)
        elif what == "move":
            self._move(data, number)
        elif what == "fork":
            self._fork(data, number)
        elif what == "discard":
            self.do("discard", session=number)
        elif what == "commit":
            self._commit(number, allow_empty=False)
        elif what == "flush":
            self.do("flush", session=number, message=f"flush {self._fresh()}", metadata=None)
        elif what == "rebase":
            self.do("rebase", session=number, solver={"on_chunks": "UseOurs"})
        elif others:
            self._merge(data, number, [data.draw(st.sampled_from(others))])

    # --- forks ---------------------------------------------------------------------------------

    @has_writer
    @rule(data=st.data())
    def fork(self, data):
        self._fork(data, self._session(data, "writable", "fork"))

    def _fork(self, data: st.DataObject, number: int) -> int:
        new = self._fresh()
        self.do("fork", session=number, new=new, pickled=data.draw(st.booleans(), label="pickled"))
        return new

    @has_fork
    @rule(data=st.data())
    def merge(self, data):
        """Merge sessions into one, mostly forks into where they come from."""
        number = self._session(data, "writable")
        numbers = [other for other in self.model.sessions if other != number]
        forks = [other for other in numbers if number in self.model.sessions[other].lineage]
        if forks or numbers:
            others = data.draw(st.lists(st.sampled_from(forks or numbers), min_size=1, unique=True))
            self._merge(data, number, others)

    def _merge(self, data: st.DataObject, number: int, others: list[int]) -> None:
        # a session that is not a fork cannot travel
        forks = all(self.model.sessions[other].mode == "fork" for other in others)
        pickled = forks and data.draw(st.booleans(), label="pickled")
        self.do("merge", session=number, others=others, pickled=pickled)

    @has_writer
    @rule(data=st.data(), how_many=st.integers(1, 3), edits=st.integers(1, 3))
    def distribute(self, data, how_many, edits):
        """Fork, edit in the forks and perhaps meanwhile, merge them."""
        number = self._session(data, "writable", "fork")
        forks = [self._fork(data, number) for _ in range(how_many)]
        for fork in forks:
            for _ in range(edits):
                self._edit(data, fork)
        if data.draw(st.booleans(), label="edit meanwhile"):
            self._edit(data, number)
        self._merge(data, number, data.draw(st.permutations(forks)))
        for fork in forks:
            self.do("forget_session", session=fork)

    # --- commits -------------------------------------------------------------------------------

    @has_committer
    @rule(data=st.data(), metadata=st.none() | properties, solver=st.none() | solvers)
    def commit(self, data, metadata, solver):
        self._commit(
            self._session(data, "writable", "rearrange"),
            metadata=metadata,
            allow_empty=data.draw(st.booleans(), label="allow empty"),
            solver=solver,
            tries=data.draw(st.sampled_from([1000, 0, 1])),
        )

    def _commit(self, number: int, **special: Any) -> None:
        arguments = {
            "metadata": None,
            "allow_empty": True,
            "solver": None,
            "tries": 1000,
            **special,
        }
        self.do("commit", session=number, message=f"commit {self._fresh()}", **arguments)

    @has_committer
    @rule(data=st.data(), metadata=st.none() | properties, allow_empty=st.booleans())
    def amend(self, data, metadata, allow_empty):
        """Replace the tip; or make a snapshot beside the branch."""
        number = self._session(data, "writable", "rearrange")
        common = {"session": number, "metadata": metadata}
        if data.draw(st.integers(0, 2), label="flush"):
            self.do("amend", message=f"amend {self._fresh()}", allow_empty=allow_empty, **common)
        else:
            self.do("flush", message=f"flush {self._fresh()}", **common)

    @has_committer
    @rule(data=st.data(), solver=solvers)
    def rebase(self, data, solver):
        self.do("rebase", session=self._session(data, "writable", "rearrange"), solver=solver)

    def _others_commit(self, data, branch, edits, commits):
        """Commit to a branch from sessions opened one after the other."""
        for _ in range(commits):
            fast = self._open(data.draw(st.sampled_from(EDITING)), branch)
            self._change(data, fast, edits)
            if fast is not None:
                self._commit(fast)

    @rule(data=st.data(), edits=st.integers(1, 4), commits=st.integers(1, 2), solver=solvers)
    def race(self, data, edits, commits, solver):
        """Edit in a session while others commit to its branch; then rebase, perhaps to commit."""
        branch = data.draw(st.sampled_from(sorted(self.model.branches)))
        self._focus = data.draw(st.lists(st.sampled_from(PATHS), max_size=2), label="focus")
        slow = self._open(data.draw(st.sampled_from(EDITING)), branch)
        self._change(data, slow, edits)
        self._others_commit(data, branch, edits, commits)
        self._focus = []
        if slow not in self.model.sessions:
            return
        if data.draw(st.booleans(), label="commit"):
            self._commit(slow, solver=solver)
        else:
            self.do("rebase", session=slow, solver=solver)

    def _change(self, data: st.DataObject, number: int | None, edits: int) -> None:
        for _ in range(edits if number is not None else 0):
            is_mover = self.model.sessions[number].mode == "rearrange"
            (self._move if is_mover else self._edit)(data, number)

    # --- refs and the repository ---------------------------------------------------------------

    @rule(data=st.data(), name=st.sampled_from(BRANCHES), how=st.integers(0, 4))
    def branch(self, data, name, how):
        if how == 4:
            self.do("delete_branch", name=name)
        elif name not in self.model.branches or how == 3:
            self.do("create_branch", name=name, snapshot=self._snapshot(data))
        else:
            guesses = [None, None, self.model.branches[name], 0]
            expected = data.draw(st.sampled_from(guesses), label="expected")
            self.do("reset_branch", name=name, snapshot=self._snapshot(data), expected=expected)

    @rule(data=st.data(), what=st.integers(0, 7), name=st.sampled_from(TAGS), values=properties)
    def administer(self, data, what, name, values):
        if not self.model.is_online:
            self.do("set_online", online=True)
        elif what == 0:
            self.do("set_online", online=False)
        elif what == 1:
            self.do("delete_tag", name=name)
        elif what <= 3:
            self.do("create_tag", name=name, snapshot=self._snapshot(data))
        elif what == 4:
            self.do("set_defaults", values=values)
        else:
            self.do("set_metadata" if what == 5 else "update_metadata", values=values)

    @rule(data=st.data(), what=st.sampled_from(["operations", "look back", "diff", "diff", "diff"]))
    def look(self, data, what):
        if what == "operations":
            self.do("operations", count=None)
        elif what == "look back":
            self.do("look_back", snapshot=self._snapshot(data))
        else:
            end = self._snapshot(data)
            line = list(self.model.history(end))
            start = data.draw(st.sampled_from([*line[1:], *line[1:], self._snapshot(data)]))
            self.do("diff", start=start, end=end)

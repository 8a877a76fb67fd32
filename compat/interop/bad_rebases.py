"""Rebases by kind of conflict and by solver, and those that cannot be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import icechunk
from interop.misuse import (
    GROUP,
    INITIAL,
    Call,
    Surroundings,
    array_document,
)
from interop.places import storage_at

SOLVERS: dict[str, Callable[[], Any]] = {
    "detector": lambda: icechunk.ConflictDetector(),
    "solver": lambda: icechunk.BasicConflictSolver(),
    "strict solver": lambda: icechunk.BasicConflictSolver(
        on_chunk_conflict=icechunk.VersionSelection.Fail,
        fail_on_delete_of_updated_array=True,
        fail_on_delete_of_updated_group=True,
    ),
    "giving solver": lambda: icechunk.BasicConflictSolver(
        on_chunk_conflict=icechunk.VersionSelection.UseTheirs
    ),
}


def conflicts() -> dict[str, Call]:
    """What ours and theirs did, for each kind of conflict, and what each solver makes of it."""
    edits: dict[str, Callable[[Surroundings, icechunk.Session], Any]] = {
        "new array": lambda s, x: s.set("new/zarr.json", array_document(), x),
        "new group": lambda s, x: s.set("new/zarr.json", GROUP, x),
        "new below new": lambda s, x: s.set("new/below/zarr.json", array_document(), x),
        "new below group": lambda s, x: s.set("group/below/zarr.json", array_document(), x),
        "array updated": lambda s, x: s.set("native/zarr.json", array_document(shape=[1800]), x),
        "group updated": lambda s, x: s.set("group/zarr.json", GROUP, x),
        "group updated too": lambda s, x: s.set("group/zarr.json", GROUP + b" ", x),
        "chunk written": lambda s, x: s.set("array/c/1/1", b"x" * 16, x),
        "other chunk written": lambda s, x: s.set("array/c/3/1", b"x" * 16, x),
        "chunk deleted": lambda s, x: s.do("delete", "array/c/1/1", session=x),
        "native chunk": lambda s, x: s.set("native/c/0", b"y" * 900, x),
        "array deleted": lambda s, x: s.do("delete_dir", "array", session=x),
        "native deleted": lambda s, x: s.do("delete_dir", "native", session=x),
        "group deleted": lambda s, x: s.do("delete_dir", "group", session=x),
        "array replaced": lambda s, x: (
            s.do("delete_dir", "array", session=x),
            s.set("array/zarr.json", array_document(), x),
        ),
        "array replaced by a group": lambda s, x: (
            s.do("delete_dir", "array", session=x),
            s.set("array/zarr.json", GROUP, x),
        ),
    }
    pairs = [
        ("new array", "new array"), ("new array", "new group"), ("new group", "new group"),
        ("new below new", "new array"), ("new below new", "new group"),
        ("new below group", "group deleted"), ("group deleted", "new below group"),
        ("array updated", "array updated"), ("array updated", "native chunk"),
        ("native chunk", "array updated"), ("array updated", "native deleted"),
        ("native deleted", "array updated"), ("native deleted", "native chunk"),
        ("native chunk", "native deleted"), ("native deleted", "native deleted"),
        ("group updated", "group updated too"), ("group updated", "group updated"),
        ("group updated", "group deleted"), ("group deleted", "group updated"),
        ("chunk written", "chunk written"), ("chunk written", "other chunk written"),
        ("chunk written", "chunk deleted"), ("chunk deleted", "chunk deleted"),
        ("chunk written", "array deleted"), ("array deleted", "chunk written"),
        ("array deleted", "other chunk written"), ("chunk written", "new array"),
        ("chunk written", "array replaced"), ("array deleted", "array replaced"),
        ("array replaced", "chunk written"), ("array replaced", "array deleted"),
        ("array replaced", "array replaced"), ("array replaced", "array replaced by a group"),
    ]  # fmt: skip

    def run(s: Surroundings, ours: str, theirs: str, solver: str) -> Any:
        session, other = s.session(), s.session()
        edits[ours](s, session)
        edits[theirs](s, other)
        tip = other.commit("theirs")
        try:
            session.rebase(SOLVERS[solver]())
        except icechunk.RebaseFailedError as error:
            found = [
                [str(one.conflict_type), one.path, one.conflicted_chunks] for one in error.conflicts
            ]
            return [error.snapshot == tip, session.snapshot_id == s.first, found]
        return ["solved", session.snapshot_id == tip]

    def moves(s: Surroundings, solver: str) -> Any:
        session = s.changed()
        other = s.repo.rearrange_session("main")
        other.move("/array", "/moved")
        other.commit("theirs")
        return session.rebase(SOLVERS[solver]())

    def taken(s: Surroundings, solver: str) -> Any:
        session, other = s.repo.rearrange_session("main"), s.session()
        session.move("/array", "/group/array")
        s.set("group/array/zarr.json", GROUP, other)
        other.commit("theirs")
        return session.rebase(SOLVERS[solver]())

    def away(s: Surroundings, solver: str) -> Any:
        session, other = s.repo.rearrange_session("main"), s.session()
        session.move("/array", "/group/array")
        s.do("delete_dir", "array", session=other)
        other.commit("theirs")
        session.rebase(SOLVERS[solver]())
        session.commit("ours")

    table: dict[str, Call] = {
        f"{solver}: {ours}, theirs {theirs}": lambda s, a=ours, b=theirs, c=solver: run(s, a, b, c)
        for solver in SOLVERS
        for ours, theirs in pairs
    }
    return table | {
        f"{solver}: {name}": lambda s, f=function, c=solver: f(s, c)
        for solver in SOLVERS
        for name, function in (
            ("moves of theirs", moves),
            ("destination of ours taken", taken),
            ("source of ours deleted", away),
        )
    }


def rebases() -> dict[str, Call]:
    """Return rebases, and commits with a solver."""

    def conflicting(s: Surroundings) -> icechunk.Session:
        session, other = s.session(), s.session()
        s.set("array/c/1/1", b"x" * 16, session)
        s.set("array/c/1/1", b"y" * 16, other)
        other.commit("theirs")
        return session

    def committing(solver: str, **options: Any) -> Call:
        return lambda s: bool(conflicting(s).commit("x", rebase_with=SOLVERS[solver](), **options))

    def reset_below(s: Surroundings) -> None:
        session = s.session()
        s.set("array/c/1/1", b"x" * 16, session)
        s.repo.reset_branch("main", INITIAL)
        session.rebase(SOLVERS["detector"]())

    def branch_gone(s: Surroundings) -> None:
        session = s.repo.writable_session("branch")
        s.set("group/zarr.json", GROUP, session)
        s.repo.delete_branch("branch")
        session.rebase(SOLVERS["detector"]())
        session.commit("late")

    def log_gone(s: Surroundings) -> None:
        session = s.changed()
        other = s.session()
        s.set("new/zarr.json", GROUP, other)
        tip = other.commit("theirs")
        (s.path / "transactions" / tip).unlink()
        icechunk.Repository.open(storage_at(str(s.path)))
        session.rebase(SOLVERS["detector"]())

    def committed(s: Surroundings) -> icechunk.Session:
        session = s.changed()
        session.commit("done")
        return session

    def detector() -> Any:
        return SOLVERS["detector"]()

    return {
        "rebase read-only": lambda s: s.repo.readonly_session("main").rebase(detector()),
        "rebase of a fork": lambda s: s.session().fork().rebase(detector()),
        "rebase after commit": lambda s: committed(s).rebase(detector()),
        "rebase on nothing": lambda s: s.changed().rebase(detector()),
        "rebase without edits": lambda s: (s.session(), s.other_commits())[0].rebase(detector()),
        "rebase with text": lambda s: s.changed().rebase("x"),  # type: ignore[arg-type]
        "rebase with a class": lambda s: s.changed().rebase(
            icechunk.BasicConflictSolver  # type: ignore[arg-type]
        ),
        "rebase with nothing": lambda s: s.changed().rebase(None),  # type: ignore[arg-type]
        "rebase on a deleted branch": branch_gone,
        "rebase below the edited array": reset_below,
        "rebase over a missing log": log_gone,
        "commit with a detector": committing("detector"),
        "commit with a solver": committing("solver"),
        "commit with a strict solver": committing("strict solver"),
        "commit without tries": committing("solver", rebase_tries=0),
        "commit with one try": committing("solver", rebase_tries=1),
        "commit with negative tries": committing("solver", rebase_tries=-1),
        "commit with text": lambda s: s.changed().commit(
            "x",
            rebase_with="ours",  # type: ignore[arg-type]
        ),
        "commit of nothing with a solver": lambda s: s.session().commit(
            "x", rebase_with=detector()
        ),
    }

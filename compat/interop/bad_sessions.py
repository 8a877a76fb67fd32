"""Sessions that take no writes, and commits, merges and transactions that are refused."""

from __future__ import annotations

import asyncio
from typing import Any

import icechunk
from interop.misuse import (
    GROUP,
    INITIAL,
    PROTOTYPE,
    Call,
    Surroundings,
    array_document,
)


def _read_only(method: str, *arguments: Any) -> Call:
    return lambda s: s.do(method, *arguments, session=s.repo.readonly_session("main"))


def sessions() -> dict[str, Call]:
    """Return calls that sessions refuse."""
    value = PROTOTYPE.buffer.from_bytes(b"x")

    def committed(s: Surroundings) -> icechunk.Session:
        session = s.changed()
        session.commit("done")
        return session

    def conflict(s: Surroundings) -> None:
        session = s.changed()
        s.other_commits()
        session.commit("late")

    def deleted_branch(s: Surroundings) -> None:
        session = s.repo.writable_session("branch")
        s.set("group/zarr.json", GROUP, session)
        s.repo.delete_branch("branch")
        session.commit("late")

    def merge_same_array(s: Surroundings) -> None:
        session = s.session()
        forks = [session.fork(), session.fork()]
        for fork in forks:
            s.set("made/zarr.json", array_document(), fork)
        session.merge(*forks)

    def merge_deleted(s: Surroundings) -> None:
        session = s.session()
        one, two = session.fork(), session.fork()
        s.set("array/c/0/0", b"x" * 16, one)
        s.do("delete", "array/zarr.json", session=two)
        session.merge(one, two)

    return {
        "read-only set of a chunk": _read_only("set", "array/c/0/0", value),
        "read-only set of a document": _read_only("set", "group/zarr.json", value),
        "read-only set of an invalid key": _read_only("set", "foo", value),
        "read-only delete": _read_only("delete", "array/c/0/0"),
        "read-only delete of a node": _read_only("delete", "array/zarr.json"),
        "read-only delete_dir": _read_only("delete_dir", "array"),
        "read-only clear": _read_only("clear"),
        "read-only commit": lambda s: s.repo.readonly_session("main").commit("x"),
        "read-only discard": lambda s: s.repo.readonly_session("main").discard_changes(),
        "read-only fork": lambda s: s.repo.readonly_session("main").fork() and None,
        "read-only merge": lambda s: s.repo.readonly_session("main").merge(s.session().fork()),
        "commit of nothing": lambda s: s.session().commit("x"),
        "commit twice": lambda s: committed(s).commit("x"),
        "set after commit": lambda s: s.set("group/zarr.json", b"{}", committed(s)),
        "delete after commit": lambda s: s.do("delete", "array/c/0/0", session=committed(s)),
        "discard after commit": lambda s: committed(s).discard_changes(),
        "fork after commit": lambda s: committed(s).fork() and None,
        "commit conflict": conflict,
        "commit to a deleted branch": deleted_branch,
        "commit of a fork": lambda s: s.session().fork().commit("x"),
        "merge of a branch session into a fork": lambda s: s.session().fork().merge(s.changed()),
        "merge of nothing": lambda s: s.session().merge(),
        "merge of no session": lambda s: s.session().merge("x"),  # type: ignore[arg-type]
        "merge of the same array": merge_same_array,
        "merge of deleted and written": merge_deleted,
        "metadata no mapping": lambda s: s.changed().commit("x", "text"),  # type: ignore[arg-type]
        "metadata of objects": lambda s: s.changed().commit("x", {"a": object()}),
        "metadata of sets": lambda s: s.changed().commit("x", {"a": {1}}),
        "metadata keys no text": lambda s: s.changed().commit("x", {1: 2}) and None,
        "message no text": lambda s: s.changed().commit(5),  # type: ignore[arg-type]
    }


def ways_to_commit() -> dict[str, Call]:
    """Return amendments, flushes, transactions and rewrites that are refused."""

    def on_the_first(s: Surroundings) -> icechunk.Session:
        s.repo.create_branch("start", INITIAL)
        return s.repo.writable_session("start")

    def first(s: Surroundings) -> None:
        session = on_the_first(s)
        s.set("group/zarr.json", GROUP, session)
        session.amend("x")

    def moved(s: Surroundings) -> None:
        session = s.repo.rearrange_session("main")
        session.move("/array", "/moved")
        session.commit("moved")
        s.changed().amend("x")

    def amend_conflict(s: Surroundings) -> None:
        session = s.changed()
        s.other_commits()
        session.amend("late")

    def transaction(s: Surroundings, branch: str = "main", key: str = "", **options: Any) -> None:
        with s.repo.transaction(branch, message="x", **options) as store:
            if key:
                asyncio.run(store.set(key, PROTOTYPE.buffer.from_bytes(GROUP)))

    def failing(s: Surroundings) -> None:
        with s.repo.transaction("main", message="x") as store:
            asyncio.run(store.set("new/zarr.json", PROTOTYPE.buffer.from_bytes(GROUP)))
            raise LookupError("inside")

    def rewrite(branch: str = "main", **options: Any) -> Call:
        return lambda s: bool(s.repo.rewrite_manifests("x", branch=branch, **options))

    def rewrite_first(s: Surroundings) -> None:
        on_the_first(s)
        s.repo.rewrite_manifests("x", branch="start", commit_method="amend")

    def closed_flush(s: Surroundings) -> None:
        session = s.changed()
        s.repo.set_status(icechunk.RepoStatus(icechunk.RepoAvailability.read_only))
        session.flush("x")

    return {
        "amend of nothing": lambda s: s.session().amend("x"),
        "amend read-only": lambda s: s.repo.readonly_session("main").amend("x"),
        "amend of a fork": lambda s: s.session().fork().amend("x"),
        "amend of the first snapshot": first,
        "amend of the first snapshot by nothing": lambda s: on_the_first(s).amend("x"),
        "amend of moves": moved,
        "amend conflict": amend_conflict,
        "amend with metadata of objects": lambda s: s.changed().amend(
            "x", metadata={"a": object()}
        ),
        "amend with metadata in place": lambda s: s.changed().amend("x", {}),  # type: ignore[misc]
        "flush of nothing": lambda s: bool(s.session().flush("x")),
        "flush read-only": lambda s: bool(s.repo.readonly_session("main").flush("x")),
        "flush of a fork": lambda s: s.session().fork().flush("x"),
        "flush with metadata of objects": lambda s: s.changed().flush(
            "x", metadata={"a": object()}
        ),
        "flush to a closed repository": closed_flush,
        "transaction on no branch": lambda s: transaction(s, "no"),
        "transaction of nothing": lambda s: transaction(s),
        "transaction with metadata of objects": lambda s: transaction(
            s, key="new/zarr.json", metadata={"a": object()}
        ),
        "transaction with text": lambda s: transaction(s, key="new/zarr.json", rebase_with="ours"),
        "transaction that fails": failing,
        "rewrite by an unknown method": rewrite(commit_method="rebase"),
        "rewrite on no branch": rewrite("no"),
        "rewrite on a tag": rewrite("tag"),
        "rewrite of the first snapshot": rewrite_first,
        "rewrite with metadata of objects": rewrite(metadata={"a": object()}),
    }

"""Sessions that stay open between calls, so that the two sides can get in each other's way."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import zarr

import icechunk
from interop.describe import diff_fields, open_repository

_open: dict[int, icechunk.Session] = {}
_numbers = itertools.count()


@functools.cache
def _repository(path: str) -> icechunk.Repository:
    """Open a repository once and keep it, so that what it remembers can become outdated."""
    return open_repository(path)


def begin(path: str, branch: str = "main") -> int:
    """Open a writable session and return its handle."""
    handle = next(_numbers)
    _open[handle] = _repository(path).writable_session(branch)
    return handle


def make_branch(path: str, name: str) -> None:
    """Make a branch at the tip of main."""
    repo = _repository(path)
    repo.create_branch(name, repo.lookup_branch("main"))


def begin_rearranging(path: str, branch: str = "main") -> int:
    """Open a session that moves nodes and return its handle."""
    handle = next(_numbers)
    _open[handle] = _repository(path).rearrange_session(branch)
    return handle


def move(handle: int, source: str, target: str) -> None:
    """Move a node."""
    _open[handle].move(source, target)


def shift(handle: int, name: str, offset: list[int]) -> None:
    """Shift the chunks of an array."""
    _open[handle].shift_array("/" + name, offset)


def node_id(handle: int, path: str) -> str:
    """Return the id of a node."""
    return _open[handle].get_node_id(path)


def make_array(handle: int, name: str, shape: list[int], chunks: list[int]) -> None:
    """Create an array of integers."""
    zarr.create_array(
        _open[handle].store, name=name, shape=shape, chunks=chunks, dtype="int64", fill_value=0
    )


def write(handle: int, name: str, start: int, stop: int, value: int) -> None:
    """Write a range of rows of an array."""
    zarr.open_array(_open[handle].store, path=name)[start:stop] = value


def read(handle: int, name: str) -> Any:
    """Read an array."""
    return zarr.open_array(_open[handle].store, path=name, mode="r")[...].tolist()


def set_attribute(handle: int, name: str, key: str, value: Any) -> None:
    """Change the metadata of a node."""
    zarr.open(_open[handle].store, path=name, mode="r+").attrs[key] = value


def delete_node(handle: int, name: str) -> None:
    """Delete a node with all below it."""
    del zarr.open_group(_open[handle].store, mode="r+")[name]


def status(handle: int) -> Any:
    """Describe the uncommitted changes."""
    return diff_fields(_open[handle].status())


def commit(handle: int, message: str) -> str:
    """Commit; the handle stays readable."""
    return _open[handle].commit(message)


def try_commit(handle: int, message: str) -> Any:
    """Commit, or tell what the conflict says."""
    try:
        return _open[handle].commit(message)
    except icechunk.ConflictError as error:
        return {
            "kind": str(getattr(error, "kind", None)),  # none before version 2
            "expected": error.expected_parent,
            "actual": error.actual_parent,
        }


def rebase(handle: int) -> list[Any]:
    """Rebase with the detector of conflicts; return the conflicts that it found."""
    try:
        _open[handle].rebase(icechunk.ConflictDetector())
    except icechunk.RebaseFailedError as error:
        return [
            [str(conflict.conflict_type), conflict.path, conflict.conflicted_chunks]
            for conflict in error.conflicts
        ]
    return []


def rebase_keeping_ours(handle: int) -> None:
    """Rebase, our version of a chunk winning."""
    _open[handle].rebase(icechunk.BasicConflictSolver())


def end(handle: int) -> None:
    """Forget a session."""
    del _open[handle]


def append_row(path: str, name: str, value: int) -> str:
    """Open, append one row to an array, commit: what a concurrent writer does."""
    session = _repository(path).writable_session("main")
    array = zarr.open_array(session.store, path=name)
    array.resize((array.shape[0] + 1,))
    array[-1] = value
    return session.commit(f"append {value}")


def refusal(path: str, attempt: str) -> list[str | None]:
    """Try something that must be refused; return the class and kind of the error."""
    repo = open_repository(path)
    tip = repo.lookup_branch("main")
    attempts: dict[str, Callable[[], object]] = {
        "write": lambda: repo.writable_session("main"),
        "branch": lambda: repo.create_branch("new", tip),
        "tag": lambda: repo.create_tag("new", tip),
        "untag": lambda: repo.delete_tag("t"),
    }
    try:
        attempts[attempt]()
    except icechunk.IcechunkError as error:
        return [type(error).__name__, str(error.kind)]
    return ["nothing", None]

"""Calls that must fail, and what they fail with: the same tables, run by both implementations."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import icechunk
from interop import bad_keys, bad_moves, bad_places, bad_rebases, bad_refs, bad_sessions
from interop.misuse import Call, Surroundings, build

TABLES = (
    *(bad_keys.keys, bad_keys.values),
    *(bad_sessions.sessions, bad_sessions.ways_to_commit),
    *(bad_refs.refs, bad_refs.diffs, bad_refs.state),
    *(bad_moves.moves, bad_moves.renumberings, bad_moves.touches, bad_moves.chunks),
    *(bad_rebases.conflicts, bad_rebases.rebases),
    bad_places.lifecycle,
)


def table() -> dict[str, Call]:
    """Return all calls by name."""
    found: dict[str, Call] = {}
    for part in TABLES:
        calls = part()
        assert not found.keys() & calls.keys(), "two calls of one name"
        found |= calls
    return found


def outcomes() -> dict[str, Any]:
    """Make every call on a repository of its own and tell what came of it."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        template = Path(folder) / "template"
        first = build(template)
        for number, (name, call) in enumerate(table().items()):
            surroundings = Surroundings(template, Path(folder) / str(number), first)
            found[name] = _outcome(call, surroundings)
    return found


def _outcome(call: Call, surroundings: Surroundings) -> Any:
    try:
        return {"returns": call(surroundings)}
    except BaseException as error:
        return {"raises": _public_name(type(error)), "kind": getattr(error, "kind", None)}


def _public_name(error: type[BaseException]) -> str:
    """Name the nearest class that users can catch."""
    for base in error.__mro__:
        if base.__module__ == "builtins" or getattr(icechunk, base.__name__, None) is base:
            return base.__name__
    raise AssertionError(f"{error} is no exception")

"""Helpers for writers that work apart: take the session from an array, merge many forks into one.

Any scheduler can use these; `icechunk.dask` is built on them. The rules of a merge, and what counts
as an overlap of two writers, are those of `Session.merge`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from icechunk.session import ForkSession, Session

if TYPE_CHECKING:
    import zarr

    from icechunk.changes.merge import OverlapPolicy

__all__ = ["extract_session", "merge_sessions"]


def extract_session(zarray: zarr.Array[Any], axis: Any = None, keepdims: Any = None) -> Session:
    """Return the session that a Zarr array reads and writes through.

    Parameters
    ----------
    zarray : zarr.Array
        An array that was opened on the store of a session.
    axis, keepdims
        Ignored; they let this function serve as the ``chunk`` step of an array reduction.

    Returns
    -------
    Session
        The session itself, not a copy.

    Raises
    ------
    TypeError
        If the array lives on another kind of store.
    """
    session = getattr(zarray.store, "session", None)
    if not isinstance(session, Session):
        raise TypeError(
            f"array {zarray.path!r} lives on a {type(zarray.store).__name__}, not on the store of "
            "an Icechunk session"
        )
    return session


def merge_sessions(*sessions: Any, overlap: OverlapPolicy = "raise") -> ForkSession:
    """Merge forks, given one by one or in nested lists, into the first of them.

    Parameters
    ----------
    *sessions : ForkSession or nested lists of them
        At least one. The first is changed and returned, the others are left as they are.
    overlap : {"raise", "last"}
        What to do when two forks wrote the same chunk: raise, or let the later argument win.

    Returns
    -------
    ForkSession
        The first fork, now with the changes of all.

    Raises
    ------
    TypeError
        If anything but a fork is given.
    ValueError
        If no fork is given.
    SessionStateError
        Of kind ``merge-failed``, if two forks cannot be merged.
    """
    forks: list[ForkSession] = []
    for session in flatten(sessions):
        if not isinstance(session, ForkSession):
            raise TypeError(
                "merge_sessions only accepts ForkSession objects. "
                f"Received {type(session).__name__!r} instead. "
                "To gather forks in a writable session, call session.merge(*forks)."
            )
        forks.append(session)
    if not forks:
        raise ValueError("merge_sessions needs at least one ForkSession")
    first, *rest = forks
    first.merge(*rest, overlap=overlap)
    return first


def flatten(items: Any) -> Iterator[Any]:
    """Iterate over the leaves of nested lists and tuples."""
    for item in items:
        if isinstance(item, list | tuple):
            yield from flatten(item)
        else:
            yield item

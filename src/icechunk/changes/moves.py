"""Moving nodes: what may be moved where, and where everything is afterwards.

A session that rearranges keeps the list of moves it was asked for; an `Arrangement` is a snapshot's
node table with such a list applied. Only paths change: ids, documents and manifests stay, so
reading, listing and committing work on the arranged table as on any other. Pure; knows of no
session. Icechunk spec, "Transaction logs": moves.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from icechunk.chunks import RaggedBytes
from icechunk.errors import AlreadyExistsError, ErrorKind, NodeNotFoundError, SessionStateError
from icechunk.format.ids import encode_id
from icechunk.format.paths import is_same_or_descendant, parent, segment_order_key
from icechunk.format.snapshot import NodeTable
from icechunk.format.transaction_log import Move

__all__ = ["Arrangement", "RequestedMove", "arrange", "check_move"]


@dataclass(frozen=True, slots=True)
class RequestedMove:
    """One move as it was asked for: the node, with all below it, from one path to another."""

    node_id: bytes
    """The node that was at `source`, so that another one there later is not taken for it."""
    source: str
    target: str


class Arrangement:
    """The nodes of a base table, each at the path that moves have given it.

    A move costs the nodes it moves, plus shifting two lists of references; `table` makes columns
    again. Not safe for concurrent use by threads.

    Parameters
    ----------
    base
        The nodes of the snapshot the moves start from.
    """

    __slots__ = ("_before", "_paths", "_rows", "base", "moves")

    def __init__(self, base: NodeTable) -> None:
        self.base = base
        self.moves: list[RequestedMove] = []
        self._before = base.columns.paths.to_list()
        self._paths = self._before.copy()  # sorted; the node at _paths[i] is row _rows[i] of base
        self._rows = list(range(len(base)))

    def is_array(self, path: str) -> bool | None:
        """Tell what is at a path: True for an array, False for a group, None for nothing."""
        row = self._row(path)
        return None if row is None else bool(self.base.columns.is_array[row])

    def node_id(self, path: str) -> bytes | None:
        """Return the id of the node at a path."""
        row = self._row(path)
        return None if row is None else self.base.columns.ids[row].tobytes()

    def move(self, source: str, target: str) -> RequestedMove:
        """Move the node at `source`, with all below it, to `target`, and return the record of it.

        Raises
        ------
        NodeNotFoundError, SessionStateError, AlreadyExistsError
            See `check_move`. Nothing has changed then.
        """
        check_move(source, target, self.is_array)
        old, new = source.encode(), target.encode()
        above = new.removesuffix(b"/")  # empty for the root
        top = bisect_left(self._paths, old)
        below = _range_below(self._paths, old)
        gone = [old, *self._paths[below]]
        paths = [new, *(above + path[len(old) :] for path in gone[1:])]
        rows = [self._rows[top], *self._rows[below]]
        strays = set(self._paths[_range_below(self._paths, above)]).difference(gone)
        if strays:
            # A parent group is not needed for a node to exist, so the new places may be taken
            # although there is nothing at the target itself.
            self._require_free(strays.intersection(paths), source, target)
        for column in (self._paths, self._rows):
            del column[below]
            del column[top]  # before the slice: a path comes before those below it
        if strays:
            order = sorted(zip(self._paths + paths, self._rows + rows, strict=True))
            self._paths, self._rows = [path for path, _ in order], [row for _, row in order]
        else:
            for block in (slice(1, None), slice(1)):
                if paths[block]:
                    at = bisect_left(self._paths, paths[block][0])
                    self._paths[at:at] = paths[block]
                    self._rows[at:at] = rows[block]
        move = RequestedMove(self.base.columns.ids[rows[0]].tobytes(), source, target)
        self.moves.append(move)
        return move

    def replay(self, move: RequestedMove) -> None:
        """Do a move that was recorded on a table which may be another; raises what `arrange` does.

        Nothing has changed then.
        """
        found = self.node_id(move.source)
        if found is not None and found != move.node_id:
            raise NodeNotFoundError(
                f"cannot move `{move.source}` to `{move.target}`: the node that was there "
                f"({encode_id(move.node_id)}) was replaced by another one ({encode_id(found)})",
                ErrorKind.NODE_NOT_FOUND,
            )
        self.move(move.source, move.target)

    def table(self) -> NodeTable:
        """Return the node table with everything where it is now."""
        if not self.moves:
            return self.base
        columns = self.base.columns.take(np.array(self._rows, np.intp))
        return NodeTable(replace(columns, paths=RaggedBytes.from_list(self._paths)))

    def net_moves(self) -> tuple[Move, ...]:
        """Return where each node came from and is now, by final path; nodes at home left out.

        One entry per node, descendants of a moved group included.
        """
        columns = self.base.columns
        moves = (
            Move(
                self._before[row].decode(),
                path.decode(),
                columns.ids[row].tobytes(),
                bool(columns.is_array[row]),
            )
            for path, row in zip(self._paths, self._rows, strict=True)
            if self._before[row] != path
        )
        return tuple(sorted(moves, key=lambda move: segment_order_key(move.to_path)))

    def _row(self, path: str) -> int | None:
        encoded = path.encode()
        at = bisect_left(self._paths, encoded)
        is_here = at < len(self._paths) and self._paths[at] == encoded
        return self._rows[at] if is_here else None

    def _require_free(self, taken: set[bytes], source: str, target: str) -> None:
        if taken:
            raise _overwriting(source, target, min(taken).decode())


def arrange(moves: Iterable[RequestedMove], nodes: NodeTable) -> Arrangement:
    """Apply recorded moves to a table of nodes, which need not be the one they were recorded on.

    What others added below a moved group in the meantime moves along.

    Raises
    ------
    NodeNotFoundError
        Kind ``node-not-found``: the node of a move is gone, or another one is in its place.
    AlreadyExistsError
        Kind ``move-wont-overwrite``: a destination is taken; the message names it.
    SessionStateError
        The parent of a destination is gone (kind ``move-destination-parent-missing``) or has become
        an array (kind ``move-destination-parent-not-group``).
    """
    arrangement = Arrangement(nodes)
    for move in moves:
        arrangement.replay(move)
    return arrangement


def check_move(source: str, target: str, is_array: Callable[[str], bool | None]) -> None:
    """Refuse a move that makes no sense.

    Parameters
    ----------
    source, target
        Legal node paths.
    is_array
        Tells what is at a path: True for an array, False for a group, None for nothing.

    Raises
    ------
    NodeNotFoundError
        Kind ``node-not-found``: nothing is at `source`.
    SessionStateError
        Kind ``move-into-self-or-descendant``, ``move-destination-parent-missing`` or
        ``move-destination-parent-not-group``.
    AlreadyExistsError
        Kind ``move-wont-overwrite``: `target` is taken.
    """
    if is_array(source) is None:
        raise NodeNotFoundError(
            f"cannot move `{source}` to `{target}`: node not found at `{source}`",
            ErrorKind.NODE_NOT_FOUND,
        )
    if is_same_or_descendant(target, source):
        raise SessionStateError(
            f"cannot move `{source}` into itself or its own descendant `{target}`; to put its "
            f"content one level deeper, create a group elsewhere first and move that in between",
            ErrorKind.MOVE_INTO_SELF_OR_DESCENDANT,
        )
    if is_array(target) is not None:
        raise _overwriting(source, target, target)
    above = parent(target)
    if above is None:
        return
    what = is_array(above)
    if what is None:
        raise SessionStateError(
            f"cannot move `{source}` to `{target}`: the destination's parent group `{above}` does "
            "not exist; create it in a writable session and commit, then move",
            ErrorKind.MOVE_DESTINATION_PARENT_MISSING,
        )
    if what:
        raise SessionStateError(
            f"cannot move `{source}` to `{target}`: the destination's parent `{above}` is an "
            "array, not a group",
            ErrorKind.MOVE_DESTINATION_PARENT_NOT_GROUP,
        )


def _overwriting(source: str, target: str, taken: str) -> AlreadyExistsError:
    return AlreadyExistsError(
        f"cannot move `{source}` to `{target}`: the move would overwrite existing node at "
        f"`{taken}`; delete that one first, in a writable session",
        ErrorKind.MOVE_WONT_OVERWRITE,
    )


def _range_below(paths: list[bytes], path: bytes) -> slice:
    """Slice of the sorted paths strictly below one given without a trailing slash."""
    start = bisect_left(paths, path + b"/")
    if not path and start < len(paths) and paths[start] == b"/":
        start += 1  # the root itself
    return slice(start, bisect_left(paths, path + b"0"))

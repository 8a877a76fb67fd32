"""Moves and renumberings: those refused, and what the others touch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import icechunk
from interop.misuse import (
    GROUP,
    PROTOTYPE,
    Call,
    Surroundings,
    array_document,
    awaited,
)


def moves() -> dict[str, Call]:
    """Return moves, and what sessions that rearrange refuse."""
    paths = {
        "elsewhere": ("/array", "/new"),
        "of nothing": ("/no", "/new"),
        "onto itself": ("/array", "/array"),
        "below itself": ("/group", "/group/x"),
        "of the root": ("/", "/x"),
        "onto a node": ("/array", "/group"),
        "onto the root": ("/array", "/"),
        "below nothing": ("/array", "/no/x"),
        "below an array": ("/array", "/native/x"),
        "of a relative path": ("array", "/x"),
        "to a relative path": ("/array", "x"),
        "of no path": ("", "/x"),
        "to a path with dots": ("/array", "/a/../b"),
    }
    sessions: dict[str, Callable[[Surroundings], icechunk.Session]] = {
        "rearranging": lambda s: s.repo.rearrange_session("main"),
        "writable": lambda s: s.session(),
        "read-only": lambda s: s.repo.readonly_session("main"),
        "fork": lambda s: s.session().fork(),
    }
    table: dict[str, Call] = {
        f"{kind} move {name}": lambda s, a=source, b=target, o=opened: o(s).move(a, b)
        for kind, opened in sessions.items()
        for name, (source, target) in paths.items()
    }
    unusual = {
        "of a path that ends with a slash": ("/array/", "/x"),
        "to a path that ends with a slash": ("/array", "/x/"),
        "to a path with an empty name": ("/array", "/a//b"),
    }
    table |= {
        f"rearranging move {name}": lambda s, a=source, b=target: s.repo.rearrange_session(
            "main"
        ).move(a, b)
        for name, (source, target) in unusual.items()
    }
    value = PROTOTYPE.buffer.from_bytes(b"x" * 16)

    def disabled(s: Surroundings) -> None:
        session = s.repo.rearrange_session("main")
        session.move("/array", "/new")
        s.repo.set_feature_flag("move_node", False)
        session.commit("moved")

    def disabled_before(s: Surroundings) -> None:
        s.repo.set_feature_flag("move_node", False)
        s.repo.rearrange_session("main")

    def moved(s: Surroundings) -> icechunk.Session:
        session = s.repo.rearrange_session("main")
        session.move("/array", "/new")
        return session

    def conflict(s: Surroundings) -> None:
        session = moved(s)
        s.other_commits()
        session.commit("late")

    def merge_fork(s: Surroundings) -> None:
        session = moved(s)
        session.merge(s.changed().fork())

    return table | {
        "rearranging chunk": lambda s: s.do("set", "array/c/0/0", value, session=moved(s)),
        "rearranging document": lambda s: s.set("group/zarr.json", GROUP, moved(s)),
        "rearranging new document": lambda s: s.set("more/zarr.json", GROUP, moved(s)),
        "rearranging deletion": lambda s: s.do("delete", "native/zarr.json", session=moved(s)),
        "rearranging deletion of a chunk": lambda s: s.do("delete", "native/c/0", session=moved(s)),
        "rearranging deletion of nothing": lambda s: s.do("delete", "no/c/0", session=moved(s)),
        "rearranging deletion of a directory": lambda s: s.do(
            "delete_dir", "group", session=moved(s)
        ),
        "rearranging clear": lambda s: s.do("clear", session=moved(s)),
        "rearranging shift": lambda s: moved(s).shift_array("/native", (1,)),
        "rearranging reindex": lambda s: moved(s).reindex_array("/native", lambda place: place),
        "rearranging commit of nothing": lambda s: s.repo.rearrange_session("main").commit("x"),
        "rearranging no branch": lambda s: s.repo.rearrange_session("no") and None,
        "rearranging conflict": conflict,
        "rearranging merge": merge_fork,
        "merge of moves": lambda s: s.session().merge(moved(s)),
        "move in a fork of moves": lambda s: moved(s).fork().move("/new", "/newer"),
        "move of what moved away": lambda s: moved(s).move("/array", "/newer"),
        "moves disabled": disabled_before,
        "moves disabled before the commit": disabled,
    }


def renumberings() -> dict[str, Call]:
    """Return renumberings and questions about chunks that are refused."""

    def failing(_: list[int]) -> list[int]:
        raise RuntimeError("no place")

    def uneven(s: Surroundings) -> icechunk.Session:
        grid = {"kind": "inline", "chunk_shapes": [[1, 3]]}
        session = s.session()
        document = array_document(chunk_grid={"name": "rectilinear", "configuration": grid})
        s.set("uneven/zarr.json", document, session)
        return session

    def reindex(path: str, *functions: Any) -> Call:
        return lambda s: s.session().reindex_array(path, *functions)

    def same(place: list[int]) -> list[int]:
        return place

    def read_only(s: Surroundings) -> icechunk.Session:
        return s.repo.readonly_session("main")

    return {
        "reindex of nothing": reindex("/no", same),
        "reindex of a group": reindex("/group", same),
        "reindex of a relative path": reindex("array", same),
        "reindex without function": reindex("/array", 5),
        "reindex beyond the grid": reindex("/array", lambda place: [99, 0]),
        "reindex before the grid": reindex("/array", lambda place: [-1, 0]),
        "reindex to too few coordinates": reindex("/array", lambda place: place[:1]),
        "reindex to too many coordinates": reindex("/array", lambda place: [*place, 0]),
        "reindex to text": reindex("/array", lambda place: "ab"),
        "reindex fails": reindex("/array", failing),
        "reindex fails backwards": reindex("/array", lambda place: [0, 0], failing),
        "reindex of uneven chunks": lambda s: uneven(s).reindex_array("/uneven", same),
        "read-only reindex": lambda s: read_only(s).reindex_array("/array", same),
        "shift of nothing": lambda s: s.session().shift_array("/no", (1, 0)),
        "shift of a group": lambda s: s.session().shift_array("/group", (1, 0)),
        "shift of a relative path": lambda s: s.session().shift_array("array", (1, 0)),
        "shift along too few axes": lambda s: s.session().shift_array("/array", (1,)),
        "shift along too many axes": lambda s: s.session().shift_array("/array", (1, 0, 0)),
        "shift of uneven chunks": lambda s: uneven(s).shift_array("/uneven", (1,)),
        "read-only shift": lambda s: read_only(s).shift_array("/array", (1, 0)),
        "chunk type of nothing": lambda s: s.session().chunk_type("/no", [0]) and None,
        "chunk type in a group": lambda s: s.session().chunk_type("/group", [0]) and None,
        "chunk type, relative": lambda s: s.session().chunk_type("array", [0, 0]) and None,
        "chunk type, wrong rank": lambda s: int(s.session().chunk_type("/array", [0])),
        "chunk type, outside": lambda s: int(s.session().chunk_type("/array", [99, 0])),
        "chunk type, missing": lambda s: int(s.session().chunk_type("/array", [3, 0])),
        "chunk coordinates of nothing": lambda s: awaited(s.session().chunk_coordinates("/no")),
        "chunk coordinates of a group": lambda s: awaited(s.session().chunk_coordinates("/group")),
        "node id of nothing": lambda s: s.session().get_node_id("/no"),
        "node id, relative": lambda s: s.session().get_node_id("group"),
    }


def touches() -> dict[str, Call]:
    """What moves and renumberings that are allowed, or half-way so, leave in a session."""

    def moves(*pairs: tuple[str, str]) -> Call:
        def call(s: Surroundings) -> Any:
            session = s.repo.rearrange_session("main")
            try:
                for pair in pairs:
                    session.move(*pair)
            except icechunk.IcechunkError as error:
                return [str(error.kind), _touched(session)]
            return _touched(session)

        return call

    def renumbering(act: Callable[[icechunk.Session], object]) -> Call:
        def call(s: Surroundings) -> Any:
            session = s.session()
            try:
                act(session)
            except icechunk.IcechunkError as error:
                return [str(error.kind), _touched(session)]
            return _touched(session)

        return call

    def fail(at: object) -> None:
        raise ValueError("on purpose")

    shifts = {
        "nowhere": (0, 0),
        "down": (1, 0),
        "up and right": (-1, 1),
        "far": (99, 0),
        "a float": (1.0, 0),
        "a text": ("1", 0),
    }
    functions: dict[str, tuple[Any, ...]] = {
        "itself": (lambda at: at,),
        "nothing": (lambda at: None,),
        "nothing, both ways": (lambda at: None, lambda at: None),
        "one place": (lambda at: [3, 1],),
        "tuples": (lambda at: tuple(at),),
        "an integer": (lambda at: 3,),
        "floats": (lambda at: [0.0, 0.0],),
        "a failure backward": (lambda at: [3, 1], fail),
        "backward beyond the grid": (lambda at: [3, 1], lambda at: [9, 9]),
        "backward below the grid": (lambda at: [3, 1], lambda at: [-1, 0]),
    }
    return {
        "moves into what was moved": moves(("/group", "/new"), ("/array", "/new/array")),
        "moves into where it was": moves(("/group", "/new"), ("/array", "/group/array")),
        "moves to a place left": moves(("/group", "/new"), ("/array", "/group")),
        "moves there and back": moves(("/group", "/new"), ("/new", "/group")),
        "moves on": moves(("/group", "/new"), ("/new", "/newer")),
        "moves, one refused": moves(("/group", "/new"), ("/array", "/new")),
        **{
            f"shift {name}": renumbering(lambda session, by=by: session.shift_array("/array", by))
            for name, by in shifts.items()
        },
        **{
            f"reindex to {name}": renumbering(
                lambda session, how=how: session.reindex_array("/array", *how)
            )
            for name, how in functions.items()
        },
    }


def _touched(session: icechunk.Session) -> Any:
    status = session.status()
    return [
        session.has_uncommitted_changes,
        [list(move) for move in status.moved_nodes],
        {path: sorted(map(list, coords)) for path, coords in status.updated_chunks.items()},
    ]


def chunks() -> dict[str, Call]:
    """Return questions about chunks."""
    table: dict[str, Call] = {
        "type of a native chunk": lambda s: int(s.session().chunk_type("/native", [0])),
        "type of an inline chunk": lambda s: int(s.session().chunk_type("/array", (0, 0))),
        "type of a chunk of text": lambda s: int(s.session().chunk_type("/array", "00")),
        "coordinates": lambda s: awaited(s.session().chunk_coordinates("/array")),
        "coordinates, relative": lambda s: awaited(s.session().chunk_coordinates("array")),
        "length of an id": lambda s: len(s.session().get_node_id("/array")),
        "locations": lambda s: s.session().all_virtual_chunk_locations(),
    }
    for path in ("/array", "array", "/no", "/group"):
        table[f"references of {path}"] = lambda s, path=path: [
            [batch[0].tolist(), batch[1].tolist(), batch[3].tolist(), batch[4].tolist()]
            + [[row, data.hex()] for row, data in sorted(batch[5].items())]
            for batch in s.session().store.array_chunk_iterator(path, batch_size=3)
        ]
    return table

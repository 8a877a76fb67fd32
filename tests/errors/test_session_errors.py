"""Moves, renumberings and questions that a session refuses."""

import asyncio

import pytest

from icechunk import (
    AlreadyExistsError,
    IcechunkError,
    InvalidInputError,
    NodeNotFoundError,
    ReadOnlyError,
    RefNotFoundError,
    SessionStateError,
)


def rearranging(world):
    """Look at a session that rearranges; it has one move already."""
    session = world.use(world.repo.rearrange_session("main"))
    session.move("/group/inner", "/outer")
    return session


def move(world, source, target):
    world.session.move(source, target)


def move_async(world, source, target):
    asyncio.run(world.session.move_async(source, target))


@pytest.fixture(params=[move, move_async], ids=["call", "coroutine"])
def moving(request):
    return request.param


MOVES = {
    "nothing there": (
        "/no", "/new", NodeNotFoundError, "node-not-found", "`/no`",
    ),
    "moved away": (
        "/group/inner", "/new", NodeNotFoundError, "node-not-found", "`/group/inner`",
    ),
    "onto itself": (
        "/array", "/array", SessionStateError, "move-into-self-or-descendant",
        "into itself or its own descendant", "`/array`",
    ),
    "below itself": (
        "/group", "/group/x", SessionStateError, "move-into-self-or-descendant",
        "`/group`", "`/group/x`",
    ),
    "the root": (
        "/", "/x", SessionStateError, "move-into-self-or-descendant", "`/`", "`/x`",
    ),
    "onto another node": (
        "/array", "/group", AlreadyExistsError, "move-wont-overwrite",
        "overwrite existing node", "`/array`", "`/group`",
    ),
    "onto a moved node": (
        "/array", "/outer", AlreadyExistsError, "move-wont-overwrite", "`/array`", "`/outer`",
    ),
    "onto the root": (
        "/array", "/", AlreadyExistsError, "move-wont-overwrite", "`/array`", "`/`",
    ),
    "below nothing": (
        "/array", "/no/such/x", SessionStateError, "move-destination-parent-missing",
        "destination's parent group", "`/no/such`",
    ),
    "below a node that moved away": (
        "/array", "/group/inner/x", SessionStateError, "move-destination-parent-missing",
        "`/group/inner`",
    ),
    "below an array": (
        "/group", "/array/x", SessionStateError, "move-destination-parent-not-group",
        "is an array, not a group", "`/array`",
    ),
    "a relative path": (
        "array", "/x", InvalidInputError, "invalid-path", "'array'",
    ),
    "to a relative path": (
        "/array", "x", InvalidInputError, "invalid-path", "'x'",
    ),
    "no path": (
        "", "/x", InvalidInputError, "invalid-path", "''",
    ),
    "a slash at the end": (
        "/array", "/x/", InvalidInputError, "invalid-path", "'/x/'",
    ),
    "two slashes": (
        "/array", "/a//b", InvalidInputError, "invalid-path", "'/a//b'",
    ),
    "dots": (
        "/array", "/group/../x", InvalidInputError, "invalid-path", "'/group/../x'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MOVES)
def test_refused_moves(world, refused, moving, name):
    source, target, *expected = MOVES[name]
    session = rearranging(world)
    refused(world, lambda w: moving(w, source, target), *expected)
    session.move("/array", "/group/array")
    session.commit("moved")


@pytest.mark.parametrize("edited", [False, True], ids=["clean", "edited"])
@pytest.mark.parametrize("which", ["writable", "fork", "fork of a rearranging session"])
def test_only_rearrange_sessions_move(world, refused, moving, which, edited):
    if which == "fork":
        world.use(world.session.fork())
    elif which == "fork of a rearranging session":
        world.use(rearranging(world).fork())
    if edited:
        world.set("new/zarr.json", world.array())
    refused(
        world,
        lambda w: moving(w, "/array", "/x"),
        SessionStateError,
        "non-rearrange-session",
        "`/array`",
        "`/x`",
        "rearrange_session",
    )


def test_read_only_sessions_do_not_move(world, refused, moving):
    world.use(world.repo.readonly_session("main"))
    refused(
        world, lambda w: moving(w, "/array", "/x"), ReadOnlyError, "read-only-session", "{first}"
    )
    # a wrong move is wrong first of all
    refused(world, lambda w: moving(w, "/no", "/x"), NodeNotFoundError, "node-not-found", "`/no`")


def test_a_committed_session_does_not_move(world, refused, moving):
    world.later = rearranging(world).commit("moved")
    refused(
        world, lambda w: moving(w, "/array", "/x"), ReadOnlyError, "read-only-session", "{later}"
    )


EDITS = {
    "chunk": lambda w: w.set("array/c/0/0", b"1" * 16),
    "large chunk": lambda w: w.set("array/c/0/0", b"1" * 1000),
    "document": lambda w: w.set("group/zarr.json", w.group(new=1)),
    "new node": lambda w: w.set("new/zarr.json", w.array()),
    "deletion of a chunk": lambda w: w.do("delete", "array/c/0/0"),
    "deletion of a node": lambda w: w.do("delete", "array/zarr.json"),
    "deletion of a moved node": lambda w: w.do("delete", "outer/zarr.json"),
    "deletion of a directory": lambda w: w.do("delete_dir", "group"),
    "clearing": lambda w: w.do("clear"),
    "shift": lambda w: w.session.shift_array("/array", (1, 0)),
    "renumbering": lambda w: w.session.reindex_array("/array", lambda place: place),
    "merge of a fork": lambda w: w.session.merge(w.edit(w.repo.writable_session("main").fork())),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_session_that_rearranges_does_nothing_else(world, refused, name):
    rearranging(world)
    refused(world, EDITS[name], SessionStateError, "rearrange-session-only", "rearrange")
    world.session.commit("moved")


def test_moves_are_not_merged(world, refused):
    rearranged = rearranging(world)
    world.edit(world.use(world.repo.writable_session("main")))
    refused(
        world, lambda w: w.session.merge(rearranged), SessionStateError, "rearrange-session-only"
    )


def test_a_fork_of_a_session_that_rearranges_is_not_merged_back(world, refused):
    fork = rearranging(world).fork()
    world.set("outer/zarr.json", world.group(new=1), fork)
    refused(world, lambda w: w.session.merge(fork), SessionStateError, "rearrange-session-only")


def test_no_branch_to_rearrange(world, refused):
    refused(
        world,
        lambda w: w.repo.rearrange_session("no"),
        RefNotFoundError,
        "ref-not-found",
        "`no`",
    )


def test_a_feature_flag_forbids_moves(world, refused):
    rearranging(world)
    world.repo.set_feature_flag("move_node", False)
    for call in (
        lambda w: w.repo.rearrange_session("main"),
        lambda w: w.session.commit("moved"),
    ):
        refused(
            world,
            call,
            SessionStateError,
            "feature-flag-disabled",
            "move_node",
            leaves_garbage=True,
        )
    world.repo.set_feature_flag("move_node", None)
    world.session.commit("moved")


def out_of_reach(place):
    raise RuntimeError(f"cannot map {place}")


RENUMBERINGS = {
    "no array": (
        lambda w: w.session.reindex_array("/no", lambda place: place),
        NodeNotFoundError, "node-not-found", "`/no`",
    ),
    "a group": (
        lambda w: w.session.reindex_array("/group", lambda place: place),
        InvalidInputError, "not-an-array", "`/group`",
    ),
    "a relative path": (
        lambda w: w.session.reindex_array("array", lambda place: place),
        InvalidInputError, "invalid-path", "'array'",
    ),
    "no function": (
        lambda w: w.session.reindex_array("/array", 5),
        TypeError, None, "5",
    ),
    "no inverse function": (
        lambda w: w.session.reindex_array("/array", lambda place: place, "x"),
        TypeError, None, "'x'",
    ),
    "beyond the grid": (
        lambda w: w.session.reindex_array("/array", lambda place: [place[0] + 3, place[1]]),
        InvalidInputError, "invalid-chunk-index", "[4, 0]", "path=/array",
    ),
    "before the grid": (
        lambda w: w.session.reindex_array("/array", lambda place: [place[0] - 1, place[1]]),
        InvalidInputError, "invalid-chunk-index", "grid", "path=/array",
    ),
    "too few coordinates": (
        lambda w: w.session.reindex_array("/array", lambda place: place[:1]),
        InvalidInputError, "invalid-chunk-index", "2 axes", "path=/array",
    ),
    "no coordinates": (
        lambda w: w.session.reindex_array("/array", lambda _: "ab"),
        IcechunkError, "unknown", "reindex_array", "path=/array",
    ),
    "a failing function": (
        lambda w: w.session.reindex_array("/array", out_of_reach),
        IcechunkError, "unknown", "cannot map [0, 0]", "path=/array",
    ),
    "a failing inverse": (
        lambda w: w.session.reindex_array("/array", lambda _: [0, 0], out_of_reach),
        IcechunkError, "unknown", "cannot map", "path=/array",
    ),
    "shift of no array": (
        lambda w: w.session.shift_array("/no", (1, 0)),
        NodeNotFoundError, "node-not-found", "`/no`",
    ),
    "shift of a group": (
        lambda w: w.session.shift_array("/group", (1, 0)),
        InvalidInputError, "not-an-array", "`/group`",
    ),
    "shift of a relative path": (
        lambda w: w.session.shift_array("array", (1, 0)),
        InvalidInputError, "invalid-path", "'array'",
    ),
    "shift along too few axes": (
        lambda w: w.session.shift_array("/array", (1,)),
        InvalidInputError, "invalid-chunk-index", "`/array`", "[1]", "2 axes",
    ),
    "shift by a half": (
        lambda w: w.session.shift_array("/array", (0.5, 0)),
        TypeError, None, "float",
    ),
}  # fmt: skip


@pytest.mark.parametrize("edited", [False, True], ids=["clean", "edited"])
@pytest.mark.parametrize("name", RENUMBERINGS)
def test_refused_renumberings(world, refused, name, edited):
    if edited:
        world.set("array/c/0/1", b"1" * 16)
        world.set("array/c/3/1", b"1" * 16)
    refused(world, *RENUMBERINGS[name])


def test_only_regular_grids_are_renumbered(world, refused):
    grid = {"kind": "inline", "chunk_shapes": [[1, 3]]}
    document = world.array(chunk_grid={"name": "rectilinear", "configuration": grid})
    world.set("uneven/zarr.json", document)
    world.set("uneven/c/0", b"1")
    for call in (
        lambda w: w.session.shift_array("/uneven", (1,)),
        lambda w: w.session.reindex_array("/uneven", lambda place: place),
    ):
        refused(world, call, IcechunkError, "unknown", "/uneven", "rectilinear", "chunk grid")


@pytest.mark.parametrize("name", ["shift", "renumbering"])
def test_read_only_sessions_are_not_renumbered(world, refused, name):
    world.use(world.repo.readonly_session("main"))
    refused(world, EDITS[name], ReadOnlyError, "read-only-session", "{first}")


def coordinates(world, path, **options):
    return list(world.session.chunk_coordinates(path, **options))


QUESTIONS = {
    "kind of a chunk of nothing": (
        lambda w: w.session.chunk_type("/no", [0, 0]),
        NodeNotFoundError, "node-not-found", "`/no`",
    ),
    "kind of a chunk of a group": (
        lambda w: w.session.chunk_type("/group", [0, 0]),
        InvalidInputError, "not-an-array", "`/group`",
    ),
    "kind of a chunk at a relative path": (
        lambda w: w.session.chunk_type("array", [0, 0]),
        InvalidInputError, "invalid-path", "'array'",
    ),
    "kind of a chunk, awaited": (
        lambda w: asyncio.run(w.session.chunk_type_async("/no", [0, 0])),
        NodeNotFoundError, "node-not-found", "`/no`",
    ),
    "chunks of nothing": (
        lambda w: coordinates(w, "/no"),
        NodeNotFoundError, "node-not-found", "`/no`",
    ),
    "chunks of a group": (
        lambda w: coordinates(w, "/group"),
        InvalidInputError, "not-an-array", "`/group`",
    ),
    "id of nothing": (
        lambda w: w.session.get_node_id("/no"),
        NodeNotFoundError, "node-not-found", "`/no`",
    ),
    "id of nothing, awaited": (
        lambda w: asyncio.run(w.session.get_node_id_async("/no")),
        NodeNotFoundError, "node-not-found", "`/no`",
    ),
    "id at a relative path": (
        lambda w: w.session.get_node_id("group"),
        InvalidInputError, "invalid-path", "'group'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("edited", [False, True], ids=["clean", "edited"])
@pytest.mark.parametrize("name", QUESTIONS)
def test_refused_questions(world, refused, name, edited):
    if edited:
        world.edit()
    refused(world, *QUESTIONS[name])


@pytest.mark.parametrize("which", ["read-only", "committed", "rearranged"])
def test_nothing_to_discard_in_a_read_only_session(world, refused, which):
    if which == "read-only":
        world.use(world.repo.readonly_session("main"))
        world.later = world.first
    elif which == "committed":
        world.later = world.edit().commit("done")
    else:
        world.later = rearranging(world).commit("done")
    refused(
        world,
        lambda w: w.session.discard_changes(),
        ReadOnlyError,
        "read-only-session",
        "{later}",
    )

"""Rearrange sessions: what others see, what is refused, and what a commit records."""

import asyncio
import pickle

import numpy as np
import pytest
import zarr
from zarr.core.buffer import default_buffer_prototype

import icechunk
from icechunk.changes.moves import arrange
from icechunk.errors import (
    AlreadyExistsError,
    ConflictError,
    InvalidInputError,
    NodeNotFoundError,
    ReadOnlyError,
    RefNotFoundError,
    SessionStateError,
)

PROTOTYPE = default_buffer_prototype()
DATA = np.arange(12).reshape(4, 3)


@pytest.fixture
def tree(repo):
    """A repository with `/`, `/group`, `/group/array`, `/group/inner` and `/plain`."""
    session = repo.writable_session("main")
    root = zarr.create_group(session.store)
    group = root.create_group("group", attributes={"name": "group"})
    group.create_array("array", shape=(4, 3), chunks=(2, 2), dtype="i4", fill_value=-1)[:] = DATA
    group.create_group("inner")
    root.create_array("plain", shape=(4,), chunks=(1,), dtype="i4", fill_value=-1)[:2] = 5
    session.commit("made")
    return repo


def keys(session):
    return sorted(session.store.list())


def values(session):
    store = session.store

    async def read():
        return {key: (await store.get(key, PROTOTYPE)).to_bytes() for key in keys(session)}

    return asyncio.run(read())


def put(session, key, data):
    asyncio.run(session.store.set(key, PROTOTYPE.buffer.from_bytes(data)))


def test_a_session_that_rearranges_says_so(tree):
    session = tree.rearrange_session("main")
    assert (session.mode, session.read_only, session.branch) == (
        icechunk.SessionMode.rearrange,
        False,
        "main",
    )
    assert not session.has_uncommitted_changes
    assert session.status().is_empty()
    with pytest.raises(ValueError, match="You must opt-in to pickle writable sessions"):
        pickle.dumps(session)
    with pytest.raises(RefNotFoundError):
        tree.rearrange_session("nope")


def test_content_is_the_same_before_and_after_the_commit(tree):
    original = values(tree.readonly_session("main"))
    session = tree.rearrange_session("main")
    store = session.store
    session.move("/group", "/moved")
    session.move("/moved/array", "/moved/inner/data")
    session.move("/plain", "/moved/plain")
    expected = {
        key.replace("group/array/", "moved/inner/data/")
        .replace("group/", "moved/")
        .replace("plain/", "moved/plain/"): value
        for key, value in original.items()
    }
    assert values(session) == expected
    assert sorted(store.list_dir("moved")) == ["inner", "plain", "zarr.json"]
    assert list(store.list_dir("group")) == []
    root = zarr.open_group(store, mode="r")
    np.testing.assert_array_equal(root["moved/inner/data"][...], DATA)
    assert root["moved"].attrs["name"] == "group"
    assert "group" not in root
    snapshot_id = session.commit("moved")
    assert (session.mode, session.read_only) == (icechunk.SessionMode.readonly, True)
    assert values(session) == expected
    fresh = tree.readonly_session(snapshot_id=snapshot_id)
    assert values(fresh) == expected
    again = icechunk.Repository.open(tree._storage).readonly_session("main")
    assert values(again) == expected
    assert values(
        tree.readonly_session(snapshot_id=tree.lookup_snapshot(snapshot_id).parent_id)
    ) == (original)


def test_others_see_moves_after_the_commit(tree):
    session = tree.rearrange_session("main")
    session.move("/plain", "/other")
    assert "plain/zarr.json" in keys(tree.readonly_session("main"))
    session.commit("moved")
    assert "other/zarr.json" in keys(tree.readonly_session("main"))


def test_moved_arrays_are_edited_on(tree):
    session = tree.rearrange_session("main")
    session.move("/group", "/g")
    session.commit("moved")
    session = tree.writable_session("main")
    array = zarr.open_array(session.store, path="g/array")
    array[0, 0] = 100
    array.resize((6, 3))
    assert session.status().updated_arrays == {"/g/array"}
    session.commit("edited")
    array = zarr.open_array(tree.readonly_session("main").store, path="g/array", mode="r")
    assert array.shape == (6, 3)
    assert array[0, 0] == 100
    np.testing.assert_array_equal(array[1:4], DATA[1:])


def test_status_lists_every_node_by_its_final_path(tree):
    session = tree.rearrange_session("main")
    session.move("/plain", "/group/inner/plain")
    session.move("/group", "/0")
    assert session.status().moved_nodes == [
        ("/group", "/0"),
        ("/group/array", "/0/array"),
        ("/group/inner", "/0/inner"),
        ("/plain", "/0/inner/plain"),
    ]
    assert "Nodes moved/renamed:\n    /group -> /0\n" in repr(session.status())
    snapshot_id = session.commit("moved")
    log = tree._context.assets.transaction_log(icechunk.format.ids.decode_id(snapshot_id))
    assert [(move.from_path, move.to_path, move.is_array) for move in log.moves] == [
        ("/group", "/0", False),
        ("/group/array", "/0/array", True),
        ("/group/inner", "/0/inner", False),
        ("/plain", "/0/inner/plain", True),
    ]
    nodes = tree._context.assets.snapshot(icechunk.format.ids.decode_id(snapshot_id)).nodes
    assert [move.node_id for move in log.moves] == [
        nodes.find(move.to_path).id for move in log.moves
    ]


def test_node_ids_survive_moves(tree):
    before = tree.readonly_session("main")
    ids = {path: before.get_node_id(path) for path in ("/", "/group", "/group/array", "/plain")}
    session = tree.rearrange_session("main")
    session.move("/group", "/g")
    session.move("/plain", "/g/plain")
    moved = {"/": "/", "/group": "/g", "/group/array": "/g/array", "/plain": "/g/plain"}
    assert {old: session.get_node_id(new) for old, new in moved.items()} == ids
    session.commit("moved")
    fresh = tree.readonly_session("main")
    assert {old: fresh.get_node_id(new) for old, new in moved.items()} == ids
    assert len(ids["/"]) == 13


@pytest.mark.parametrize(
    "moves",
    [
        [("/0", "/0_0")],
        [("/0/1", "/0/0"), ("/0", "/1")],
        [("/0", "/2"), ("/2/1", "/0"), ("/0", "/2/1"), ("/2", "/0")],
    ],
)
def test_names_that_start_alike(repo, moves):
    session = repo.writable_session("main")
    root = zarr.create_group(session.store)
    root.create_group("0").create_array("1", shape=(2,), dtype="i4")[:] = 7
    session.commit("made")
    session = repo.rearrange_session("main")
    expected = {"0", "0/1"}
    for source, target in moves:
        session.move(source, target)
        old, new = source[1:], target[1:]
        expected = {
            new + p[len(old) :] if p == old or p.startswith(old + "/") else p for p in expected
        }
    assert {name for name, _ in zarr.open_group(session.store).members(max_depth=None)} == expected
    session.commit("moved")
    root = zarr.open_group(repo.readonly_session("main").store, mode="r")
    assert {name for name, _ in root.members(max_depth=None)} == expected


def test_moves_that_cancel_out_count_as_a_change(tree):
    original = values(tree.readonly_session("main"))
    session = tree.rearrange_session("main")
    session.move("/group", "/g")
    session.move("/g", "/group")
    assert session.has_uncommitted_changes
    assert session.status().is_empty()
    session.commit("there and back")
    assert values(tree.readonly_session("main")) == original


def test_an_empty_commit_needs_permission(tree):
    session = tree.rearrange_session("main")
    with pytest.raises(SessionStateError) as caught:
        session.commit("nothing")
    assert caught.value.kind == "no-changes-to-commit"
    session.commit("nothing", allow_empty=True)


REFUSED_MOVES = [
    ("/no", "/x", NodeNotFoundError, "node-not-found", "/no"),
    ("/", "/x", SessionStateError, "move-into-self-or-descendant", "into itself or its own"),
    ("/group", "/group", SessionStateError, "move-into-self-or-descendant", "descendant"),
    ("/group", "/group/x", SessionStateError, "move-into-self-or-descendant", "own descendant"),
    ("/group", "/plain", AlreadyExistsError, "move-wont-overwrite", "overwrite existing node"),
    (
        "/group",
        "/no/x",
        SessionStateError,
        "move-destination-parent-missing",
        "destination's parent group",
    ),
    (
        "/group",
        "/plain/x",
        SessionStateError,
        "move-destination-parent-not-group",
        "is an array, not a group",
    ),
    ("group", "/x", InvalidInputError, "invalid-path", "must start with"),
    ("/group", "x", InvalidInputError, "invalid-path", "must start with"),
    ("/group/", "/x", InvalidInputError, "invalid-path", "segment"),
    ("/group", "/x/", InvalidInputError, "invalid-path", "segment"),
    ("/group", "/x//y", InvalidInputError, "invalid-path", "segment"),
    ("/group/../plain", "/x", InvalidInputError, "invalid-path", "segment"),
    ("", "/x", InvalidInputError, "invalid-path", "must start with"),
]


@pytest.mark.parametrize(("source", "target", "error", "kind", "fragment"), REFUSED_MOVES)
def test_a_refused_move_changes_nothing(tree, source, target, error, kind, fragment):
    for session in (tree.rearrange_session("main"), tree.writable_session("main")):
        before = values(session)
        with pytest.raises(error, match=fragment) as caught:
            session.move(source, target)
        assert caught.value.kind == kind
        assert not session.has_uncommitted_changes
        assert session.status().is_empty()
        assert values(session) == before


def test_a_refused_move_keeps_the_earlier_ones(tree):
    session = tree.rearrange_session("main")
    session.move("/group", "/g")
    status = session.status()
    with pytest.raises(NodeNotFoundError):
        session.move("/group", "/x")
    assert session.status() == status


def test_only_a_session_that_rearranges_moves(tree):
    writable = tree.writable_session("main")
    for session in (writable, writable.fork(), tree.rearrange_session("main").fork()):
        with pytest.raises(SessionStateError, match="rearrange_session") as caught:
            session.move("/group", "/g")
        assert caught.value.kind == "non-rearrange-session"
        assert not session.has_uncommitted_changes
    committed = tree.rearrange_session("main")
    committed.move("/plain", "/p")
    committed.commit("moved")
    for session in (tree.readonly_session("main"), committed):
        with pytest.raises(ReadOnlyError) as caught:
            session.move("/group", "/g")
        assert caught.value.kind == "read-only-session"
        with pytest.raises(NodeNotFoundError):
            session.move("/no", "/g")


GROUP = b'{"zarr_format": 3, "node_type": "group", "attributes": {"new": 1}}'
EDITS = {
    "create": lambda s: put(s, "new/zarr.json", GROUP),
    "update": lambda s: put(s, "group/zarr.json", GROUP),
    "inline chunk": lambda s: put(s, "plain/c/0", b"abcd"),
    "native chunk": lambda s: put(s, "plain/c/0", bytes(1000)),
    "attributes": lambda s: zarr.open_group(s.store, path="group").attrs.put({"a": 1}),
    "data": lambda s: zarr.open_array(s.store, path="plain").__setitem__(0, 1),
    "delete chunk": lambda s: asyncio.run(s.store.delete("plain/c/0")),
    "delete missing chunk": lambda s: asyncio.run(s.store.delete("plain/c/3")),
    "delete node": lambda s: asyncio.run(s.store.delete("plain/zarr.json")),
    "delete_dir": lambda s: asyncio.run(s.store.delete_dir("group")),
    "delete chunks": lambda s: asyncio.run(s.store.delete_dir("plain/c")),
    "clear": lambda s: asyncio.run(s.store.clear()),
    "sync clear": lambda s: s.store.sync_clear(),
    "shift": lambda s: s.shift_array("/plain", (1,)),
    "reindex": lambda s: s.reindex_array("/plain", lambda coords: None),
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("has_moves", [False, True])
def test_edits_are_refused(tree, edit, has_moves):
    session = tree.rearrange_session("main")
    if has_moves:
        session.move("/group/inner", "/inner")
    before, status = values(session), session.status()
    objects = {item.key for item in tree._storage.list_objects_metadata()}
    with pytest.raises(SessionStateError, match="rearrange") as caught:
        EDITS[edit](session)
    assert caught.value.kind == "rearrange-session-only"
    assert values(session) == before
    assert session.status() == status
    assert session.has_uncommitted_changes == has_moves
    assert {item.key for item in tree._storage.list_objects_metadata()} == objects


def test_deleting_what_is_not_there_is_no_edit(tree):
    session = tree.rearrange_session("main")
    asyncio.run(session.store.delete("no/zarr.json"))
    asyncio.run(session.store.delete_dir("no"))
    asyncio.run(session.store.set_if_not_exists("plain/c/0", PROTOTYPE.buffer.from_bytes(b"x")))
    assert not session.has_uncommitted_changes


def test_nothing_is_merged_from_or_into_it(tree):
    writable, rearranging = tree.writable_session("main"), tree.rearrange_session("main")
    fork = writable.fork()
    put(fork, "new/zarr.json", GROUP)
    rearranging.move("/plain", "/p")
    for target, other in (
        (writable, rearranging),
        (rearranging, writable),
        (rearranging, fork),
        (rearranging, rearranging.fork()),
    ):
        before = target.status()
        with pytest.raises(SessionStateError) as caught:
            target.merge(other)
        assert caught.value.kind == "rearrange-session-only"
        assert target.status() == before
    rearranging.merge()


def test_a_fork_sees_the_moved_hierarchy_and_edits_it(tree):
    session = tree.rearrange_session("main")
    session.move("/group", "/g")
    fork = session.fork()
    assert not fork.has_uncommitted_changes
    assert values(fork) == values(session)
    put(fork, "g/new/zarr.json", GROUP)
    copy = pickle.loads(pickle.dumps(fork))
    assert copy.status().new_groups == {"/g/new"}
    session.move("/g", "/h")
    session.commit("moved")
    assert "h/zarr.json" in keys(tree.readonly_session("main"))


def test_discarding_forgets_moves_and_takes_new_ones(tree):
    session = tree.rearrange_session("main")
    original = values(session)
    session.move("/group", "/g")
    session.discard_changes()
    assert not session.has_uncommitted_changes
    assert session.mode is icechunk.SessionMode.rearrange
    assert values(session) == original
    session.move("/group", "/h")
    assert session.status().moved_nodes[0] == ("/group", "/h")


def test_the_feature_can_be_switched_off(tree):
    late = tree.rearrange_session("main")
    late.move("/group", "/g")
    tree.set_feature_flag("move_node", False)
    with pytest.raises(SessionStateError, match="move_node") as caught:
        tree.rearrange_session("main")
    assert caught.value.kind == "feature-flag-disabled"
    tip, objects = tree.lookup_branch("main"), set(storage_keys(tree))
    with pytest.raises(SessionStateError, match="move_node") as caught:
        late.commit("too late")
    assert caught.value.kind == "feature-flag-disabled"
    assert tree.lookup_branch("main") == tip
    assert set(storage_keys(tree)) == objects
    assert late.has_uncommitted_changes
    edited = tree.writable_session("main")
    put(edited, "new/zarr.json", GROUP)
    edited.commit("edits are another matter")
    tree.reset_branch("main", tip)
    tree.set_feature_flag("move_node", None)
    late.commit("now")
    assert "g/zarr.json" in keys(tree.readonly_session("main"))


def storage_keys(repo):
    return [item.key for item in repo._storage.list_objects_metadata()]


def test_the_feature_is_checked_again_when_the_branch_moves(tree):
    """Between the first look and the swap, somebody may have switched it off."""
    from icechunk.repo.updates import COMMIT_MOVES, AddSnapshot

    tree.set_feature_flag("move_node", False)
    info = tree._context.info()
    entry = next(iter(info.snapshots))
    rules = AddSnapshot("main", entry, info.branches["main"], (COMMIT_MOVES,)).preconditions
    assert COMMIT_MOVES in rules
    with pytest.raises(SessionStateError, match="commit rearrange session is disabled"):
        COMMIT_MOVES.check(info)


def test_a_lost_race_leaves_the_moves_to_be_replayed(tree):
    session = tree.rearrange_session("main")
    session.move("/group", "/g")
    other = tree.writable_session("main")
    put(other, "group/new/zarr.json", GROUP)
    other.commit("first")
    with pytest.raises(ConflictError):
        session.commit("second")
    assert session.status().moved_nodes[0] == ("/group", "/g")
    assert (
        "/g/new" in arrange(session._workspace.changes.moves, other._workspace.base.nodes).table()
    )
    session.rebase(icechunk.ConflictDetector())
    assert session.mode is icechunk.SessionMode.rearrange
    assert ("/group/new", "/g/new") in session.status().moved_nodes
    session.commit("second")
    assert "g/new/zarr.json" in keys(tree.readonly_session("main"))


def test_a_rebase_finds_what_is_in_the_way(tree):
    moving = {name: tree.rearrange_session("main") for name in ("onto", "gone", "moved")}
    moving["onto"].move("/group", "/new")
    moving["gone"].move("/plain", "/p")
    moving["moved"].move("/group", "/new")
    for name, act in (
        ("onto", lambda s: put(s, "new/zarr.json", GROUP)),
        ("gone", lambda s: s.store.delete_sync("plain/zarr.json")),
        ("moved", None),
    ):
        base = tree.lookup_branch("main")
        if act is None:
            other = tree.rearrange_session("main")
            other.move("/group/inner", "/inner")
        else:
            other = tree.writable_session("main")
            act(other)
        other.commit(name)
        session = moving[name]
        status = session.status()
        error = NodeNotFoundError if name == "gone" else icechunk.RebaseFailedError
        with pytest.raises(error) as caught:
            session.rebase(icechunk.BasicConflictSolver())
        if name == "onto":
            assert [conflict.path for conflict in caught.value.conflicts] == ["/new"]
        assert session.status() == status
        tree.reset_branch("main", base)


def test_moves_are_flushed_and_amended(tree):
    session = tree.rearrange_session("main")
    session.move("/group", "/g")
    snapshot_id = session.flush("aside")
    assert "g/zarr.json" in keys(tree.readonly_session(snapshot_id=snapshot_id))
    assert "group/zarr.json" in keys(tree.readonly_session("main"))
    for source, target in (("/group", "/g"), ("/g", "/h")):
        session = tree.rearrange_session("main")
        session.move(source, target)
        if target == "/g":
            parent = session.snapshot_id
            session.commit("moved")
        else:
            amended = session.amend("moved on")
    assert tree.lookup_snapshot(amended).parent_id == parent
    diff = tree.diff(from_snapshot_id=parent, to_branch="main")
    assert ("/group", "/h") in diff.moved_nodes
    edit = tree.writable_session("main")
    put(edit, "new/zarr.json", GROUP)
    with pytest.raises(SessionStateError) as caught:
        edit.amend("edited")
    assert caught.value.kind == "rearrange-session-only"
    for act in ("flush", "amend"):
        session = tree.rearrange_session("main")
        session.move("/plain", "/p")
        tree.set_feature_flag("move_node", False)
        with pytest.raises(SessionStateError, match="move_node") as caught:
            getattr(session, act)("too late")
        assert caught.value.kind == "feature-flag-disabled"
        tree.set_feature_flag("move_node", None)


def test_an_error_inside_takes_moves_back(tree):
    session = tree.rearrange_session("main")
    session.move("/plain", "/p")
    status = session.status()

    def fail():
        with session._workspace.undone_on_error():
            session.move("/group", "/g")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert session.status() == status
    session.move("/group", "/h")
    assert "h/zarr.json" in keys(session)


def test_a_root_can_be_made_of_a_group(repo):
    session = repo.writable_session("main")
    put(session, "top/zarr.json", GROUP)
    put(session, "top/in/zarr.json", GROUP)
    session.commit("no root")
    session = repo.rearrange_session("main")
    session.move("/top", "/")
    session.commit("moved")
    assert keys(repo.readonly_session("main")) == ["in/zarr.json", "zarr.json"]


def test_moving_without_blocking(tree):
    async def run():
        session = await tree.rearrange_session_async("main")
        await session.move_async("/group", "/g")
        with pytest.raises(NodeNotFoundError):
            await session.move_async("/group", "/h")
        return session

    assert asyncio.run(run()).status().moved_nodes[0] == ("/group", "/g")


def test_threads_move_and_read_at_once(tree):
    from concurrent.futures import ThreadPoolExecutor

    session = tree.writable_session("main")
    for number in range(20):
        put(session, f"n{number}/zarr.json", GROUP)
    session.commit("many")
    session = tree.rearrange_session("main")

    def rename(number):
        session.move(f"/n{number}", f"/m{number}")
        return f"m{number}/zarr.json" in keys(session)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(rename, range(20)))
    session.commit("renamed")
    found = keys(tree.readonly_session("main"))
    assert {f"m{number}/zarr.json" for number in range(20)} <= set(found)
    assert not any(key.startswith("n") for key in found)

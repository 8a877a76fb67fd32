"""Rebasing sessions: every kind of conflict, every policy, histories that are no straight line."""

import json

import pytest
from zarr.core.buffer import cpu

import icechunk
from icechunk import (
    BasicConflictSolver,
    ConflictDetector,
    ConflictError,
    ConflictType,
    RebaseFailedError,
    Repository,
    VersionSelection,
)
from icechunk.errors import NodeNotFoundError, SessionStateError
from icechunk.testing import CountingStorage

T = ConflictType


def array(n=4, rank=1, **attributes):
    grid = {"name": "regular", "configuration": {"chunk_shape": [1] * rank}}
    return {
        "node_type": "array",
        "shape": [n] * rank,
        "chunk_grid": grid,
        "attributes": attributes,
    }


def group(**attributes):
    return {"node_type": "group", "attributes": attributes}


class Edit:
    """Edits of a session by short names: what a test does, and others do before it."""

    def __init__(self, session):
        self.session = session
        self.store = session.store

    def node(self, path, document):
        data = cpu.Buffer.from_bytes(json.dumps(document).encode())
        self.store.set_sync(f"{path}/zarr.json".lstrip("/"), data)

    def delete(self, path):
        self.store.delete_sync(f"{path}/zarr.json")

    def write(self, path, *coords, data=b"x"):
        for c in coords:
            index = "/".join(map(str, c if isinstance(c, tuple) else (c,)))
            self.store.set_sync(f"{path}/c/{index}", cpu.Buffer.from_bytes(data))

    def clear(self, path, index):
        self.store.delete_sync(f"{path}/c/{index}")


def keys(session):
    return {key: session.store.get_sync(key).to_bytes() for key in session.store.list()}


@pytest.fixture
def repo(storage):
    repo = Repository.create(storage)
    edit = Edit(repo.writable_session("main"))
    edit.node("", group())
    edit.node("g", group())
    edit.node("g/a", array())
    edit.write("g/a", 0, 1, 2, data=b"base")
    edit.node("b", array())
    edit.node("empty", array())
    edit.session.commit("base")
    return repo


def others(repo, *edits):
    """Commit as somebody else, once per function."""
    for edit in edits:
        session = repo.writable_session("main")
        edit(Edit(session))
        session.commit("theirs")


def conflicts_of(repo, ours, *theirs, solver=None):
    """Return what a rebase reports: types, paths and chunks."""
    session = repo.writable_session("main")
    ours(Edit(session))
    others(repo, *theirs)
    before = session.status()
    with pytest.raises(RebaseFailedError) as caught:
        session.rebase(solver or ConflictDetector())
    assert caught.value.snapshot in {entry.id for entry in repo.ancestry(branch="main")}
    assert session.status() == before
    return [(c.conflict_type, c.path, c.conflicted_chunks) for c in caught.value.conflicts]


def recreate(path, document):
    def edit(e):
        e.delete(path)
        e.node(path, document)

    return edit


NAMED = {
    "same new path": (
        lambda e: e.node("g/new", array()),
        lambda e: e.node("g/new", group()),
        [(T.NewNodeConflictsWithExistingNode, "/g/new", None)],
    ),
    "both recreate a path": (
        recreate("b", array(9)),
        recreate("b", array(7)),
        [(T.NewNodeConflictsWithExistingNode, "/b", None)],
    ),
    "new below their array": (
        lambda e: e.node("g/deep/er/new", group()),
        lambda e: e.node("g/deep", array()),
        [(T.NewNodeInInvalidGroup, "/g/deep", None)],
    ),
    "several new nodes below arrays": (
        lambda e: [e.node("g/a/x", group()), e.node("g/a/y", group()), e.node("g/a/x/z", group())],
        lambda e: [e.delete("b"), e.node("g/a/x", array())],
        [
            (T.NewNodeConflictsWithExistingNode, "/g/a/x", None),
            (T.NewNodeInInvalidGroup, "/g/a", None),
            (T.NewNodeInInvalidGroup, "/g/a/x", None),
            (T.NewNodeInInvalidGroup, "/g/a", None),
        ],
    ),
    "metadata of an array": (
        lambda e: e.node("b", array(x=1)),
        lambda e: e.node("b", array(x=1)),
        [(T.ZarrMetadataDoubleUpdate, "/b", None)],
    ),
    "metadata of arrays, then groups": (
        lambda e: [e.node("g", group(x=1)), e.node("b", array(x=1))],
        lambda e: [e.node("b", array(x=2)), e.node("g", group(x=2))],
        [(T.ZarrMetadataDoubleUpdate, "/b", None), (T.ZarrMetadataDoubleUpdate, "/g", None)],
    ),
    "metadata of a deleted array": (
        lambda e: e.node("b", array(x=1)),
        lambda e: e.delete("b"),
        [(T.ZarrMetadataUpdateOfDeletedArray, "/b", None)],
    ),
    "metadata of a deleted group": (
        lambda e: e.node("g", group(x=1)),
        lambda e: e.delete("g"),
        [(T.ZarrMetadataUpdateOfDeletedGroup, "/g", None)],
    ),
    "same chunks": (
        lambda e: [e.write("g/a", 3, 1), e.clear("g/a", 2), e.write("b", 0)],
        lambda e: [e.write("g/a", 2), e.clear("g/a", 1)],
        [(T.ChunkDoubleUpdate, "/g/a", [[1], [2]])],
    ),
    "chunks of a deleted array": (
        lambda e: e.write("b", 0),
        recreate("b", array()),
        [(T.ChunksUpdatedInDeletedArray, "/b", None)],
    ),
    "chunks of an updated array": (
        lambda e: e.write("b", 0),
        lambda e: e.node("b", array(9)),
        [(T.ChunksUpdatedInUpdatedArray, "/b", None)],
    ),
    "another rank below their chunks": (
        lambda e: e.node("empty", array(2, rank=2)),
        lambda e: e.write("empty", 3),
        [(T.ChunksUpdatedInUpdatedArray, "/empty", None)],
    ),
    "delete of an array with new chunks": (
        lambda e: e.delete("b"),
        lambda e: e.write("b", 0),
        [(T.DeleteOfUpdatedArray, "/b", None)],
    ),
    "delete of an array with new metadata": (
        lambda e: e.delete("g"),
        lambda e: [e.node("g", group(x=1)), e.node("g/a", array(x=1))],
        [(T.DeleteOfUpdatedArray, "/g/a", None), (T.DeleteOfUpdatedGroup, "/g", None)],
    ),
    "everything at once, in order": (
        lambda e: [
            e.node("n", group()),
            e.node("b", array(x=1)),
            e.write("b", 0, 1),
            e.write("g/a", 0),
            e.delete("empty"),
        ],
        lambda e: [
            e.node("n", array()),
            e.node("b", array(x=2)),
            e.write("b", 1),
            e.write("g/a", 0),
            e.write("empty", 0),
        ],
        [
            (T.NewNodeConflictsWithExistingNode, "/n", None),
            (T.ZarrMetadataDoubleUpdate, "/b", None),
            (T.ChunksUpdatedInUpdatedArray, "/b", None),
            (T.ChunkDoubleUpdate, "/b", [[1]]),
            (T.ChunkDoubleUpdate, "/g/a", [[0]]),
            (T.DeleteOfUpdatedArray, "/empty", None),
        ],
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_conflicts_are_named(repo, name):
    ours, theirs, expected = NAMED[name]
    assert conflicts_of(repo, ours, theirs) == expected


HARMLESS = {
    "disjoint chunks": (lambda e: e.write("b", 0), lambda e: e.write("b", 1)),
    "both delete": (lambda e: e.delete("g"), lambda e: e.delete("g/a")),
    "new attributes over their chunks": (
        lambda e: e.node("b", array(x=1)),
        lambda e: e.write("b", 0),
    ),
    "parents may be missing": (lambda e: e.node("p/q", group()), lambda e: e.node("p", group())),
    "a child of a group they delete": (
        lambda e: e.node("g/new", group()),
        lambda e: e.delete("g"),
    ),
    "recreated by us, untouched by them": (
        recreate("b", array(9)),
        lambda e: e.write("g/a", 0),
    ),
    "below an array that we replaced by a group": (
        lambda e: [e.delete("b"), e.node("b", group()), e.node("b/new", array())],
        lambda e: e.node("elsewhere", group()),
    ),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_edits_that_do_not_meet_pass(repo, name):
    ours, theirs = HARMLESS[name]
    session = repo.writable_session("main")
    ours(Edit(session))
    others(repo, theirs)
    tip = repo.lookup_branch("main")
    session.rebase(ConflictDetector())
    assert session.snapshot_id == tip
    seen = keys(session)
    session.commit("ours")
    assert keys(repo.readonly_session("main")) == seen
    assert [entry.message for entry in repo.ancestry(branch="main")][:2] == ["ours", "theirs"]


def test_a_deletion_takes_only_the_node_it_was_made_for(repo):
    session = repo.writable_session("main")
    Edit(session).delete("g")
    others(repo, lambda e: e.delete("g/a"), lambda e: e.node("g/a", array(2)))
    session.rebase(ConflictDetector())
    session.commit("ours")
    names = set(keys(repo.readonly_session("main")))
    assert "g/a/zarr.json" in names  # another array, which we have never seen
    assert "g/zarr.json" not in names


def test_a_rebase_goes_commit_by_commit_and_stays_where_it_fails(repo):
    session = repo.writable_session("main")
    edit = Edit(session)
    edit.write("b", 0, 1, 2)
    others(
        repo,
        lambda e: e.write("b", 3),
        lambda e: e.write("g/a", 0),
        lambda e: e.write("b", 1),
        lambda e: e.write("b", 2),
    )
    last, failing, fitting, *_ = [entry.id for entry in repo.ancestry(branch="main")]
    with pytest.raises(RebaseFailedError) as caught:
        session.rebase(ConflictDetector())
    assert caught.value.snapshot == failing
    assert caught.value.kind == "rebase-failed"
    assert isinstance(caught.value, ConflictError)
    assert session.snapshot_id == fitting
    assert session.has_uncommitted_changes
    assert session.store.get_sync("b/c/3").to_bytes() == b"x"  # theirs
    session.rebase(BasicConflictSolver())
    assert session.snapshot_id == last
    session.commit("ours")


@pytest.mark.parametrize("choice", list(VersionSelection))
def test_a_policy_chooses_the_version_of_chunks(repo, choice):
    session = repo.writable_session("main")
    Edit(session).write("b", 0, 1, 2, data=b"ours")
    others(repo, lambda e: e.write("b", 1, data=b"theirs"), lambda e: e.write("b", 2, data=b"2"))
    solver = BasicConflictSolver(on_chunk_conflict=choice)
    if choice is VersionSelection.Fail:
        with pytest.raises(RebaseFailedError):
            session.commit("ours", rebase_with=solver)
        return
    session.commit("ours", rebase_with=solver)
    found = keys(repo.readonly_session("main"))
    ours = choice is VersionSelection.UseOurs
    assert [found[f"b/c/{i}"] for i in range(3)] == [
        b"ours",
        b"ours" if ours else b"theirs",
        b"ours" if ours else b"2",
    ]
    # and the log says only what this commit did
    log = repo.inspect_transaction_log(repo.lookup_branch("main"))
    assert [array["chunks"] for array in log["updated_chunks"]] == [
        [[0], [1], [2]] if ours else [[0]]
    ]


@pytest.mark.parametrize(
    ("flag", "ours", "theirs"),
    [
        ("fail_on_delete_of_updated_array", lambda e: e.delete("b"), lambda e: e.write("b", 0)),
        (
            "fail_on_delete_of_updated_group",
            lambda e: e.delete("g"),
            lambda e: e.node("g", group(x=1)),
        ),
    ],
)
def test_a_policy_decides_about_deletions(repo, flag, ours, theirs):
    session = repo.writable_session("main")
    ours(Edit(session))
    others(repo, theirs)
    with pytest.raises(RebaseFailedError):
        session.rebase(BasicConflictSolver(**{flag: True}))
    session.commit("gone", rebase_with=BasicConflictSolver())
    prefix = "b/" if flag.endswith("array") else "g/"
    assert not any(key.startswith(prefix) for key in keys(repo.readonly_session("main")))


def test_a_failing_policy_reports_all_conflicts_of_the_commit(repo):
    found = conflicts_of(
        repo,
        lambda e: [e.node("b", array(x=1)), e.write("g/a", 0)],
        lambda e: [e.node("b", array(x=2)), e.write("g/a", 0)],
        solver=BasicConflictSolver(),
    )
    assert [kind for kind, _, _ in found] == [T.ZarrMetadataDoubleUpdate, T.ChunkDoubleUpdate]


def test_moves_of_others_cannot_be_followed(repo):
    session = repo.writable_session("main")
    Edit(session).write("b", 0)
    mover = repo.rearrange_session("main")
    mover.move("/g", "/h")
    mover.commit("move")
    with pytest.raises(RebaseFailedError) as caught:
        session.rebase(BasicConflictSolver())
    (conflict,) = caught.value.conflicts
    assert (conflict.conflict_type, conflict.path) == (T.MoveOperationCannotBeRebased, "")
    assert conflict.conflicted_chunks is None


def test_moves_follow_edits(repo):
    mover = repo.rearrange_session("main")
    mover.move("/g", "/h")
    others(repo, lambda e: [e.write("g/a", 3), e.node("g/new", group())])
    mover.commit("move", rebase_with=ConflictDetector())
    names = set(keys(repo.readonly_session("main")))
    assert {"h/zarr.json", "h/a/c/3", "h/new/zarr.json"} <= names
    assert not any(name.startswith("g/") for name in names)


def test_a_destination_they_have_taken_is_a_conflict(repo):
    mover = repo.rearrange_session("main")
    mover.move("/g", "/h")
    others(repo, lambda e: e.node("h", group()))
    with pytest.raises(RebaseFailedError) as caught:
        mover.rebase(ConflictDetector())
    (conflict,) = caught.value.conflicts
    assert (conflict.conflict_type, conflict.path) == (T.NewNodeConflictsWithExistingNode, "/h")
    assert mover.status().moved_nodes == [("/g", "/h"), ("/g/a", "/h/a")]


def test_a_moved_node_they_have_deleted_is_missed(repo):
    mover = repo.rearrange_session("main")
    mover.move("/g", "/h")
    others(repo, lambda e: e.delete("g"))
    with pytest.raises(NodeNotFoundError):
        mover.rebase(ConflictDetector())
    assert mover.has_uncommitted_changes


def test_nothing_to_do(repo):
    session = repo.writable_session("main")
    session.rebase(ConflictDetector())
    others(repo, lambda e: e.write("b", 0))
    session.rebase(ConflictDetector())  # without edits it just follows
    assert session.snapshot_id == repo.lookup_branch("main")
    assert not session.has_uncommitted_changes


def test_a_deleted_branch_is_left_to_the_commit(repo, caplog):
    repo.create_branch("b", repo.lookup_branch("main"))
    session = repo.writable_session("b")
    Edit(session).write("b", 0)
    repo.delete_branch("b")
    session.rebase(ConflictDetector())
    assert "was deleted" in caplog.text
    with pytest.raises(icechunk.RefNotFoundError) as caught:
        session.commit("late", rebase_with=ConflictDetector())
    assert caught.value.kind == "branch-not-found"


def test_after_a_reset_behind_the_base_edits_of_missing_nodes_are_not_lost_silently(repo):
    root = [entry.id for entry in repo.ancestry(branch="main")][-1]
    session = repo.writable_session("main")
    Edit(session).write("b", 0)
    base = session.snapshot_id
    repo.reset_branch("main", root)
    with pytest.raises(NodeNotFoundError) as caught:
        session.commit("lost", rebase_with=ConflictDetector())
    assert "/b" in caught.value.message
    assert session.snapshot_id == base
    assert session.has_uncommitted_changes


def test_after_a_reset_edits_that_fit_are_kept(repo):
    session = repo.writable_session("main")
    Edit(session).write("b", 0)
    base = session.snapshot_id
    others(repo, lambda e: e.write("b", 0), lambda e: e.write("b", 1))
    late = repo.writable_session("main")
    Edit(late).write("b", 2)
    repo.reset_branch("main", base)
    late.commit("late", rebase_with=ConflictDetector())
    found = keys(repo.readonly_session("main"))
    assert "b/c/2" in found
    assert "b/c/1" not in found


def test_after_a_reset_a_new_node_does_not_take_the_place_of_one_that_is_back(repo):
    before = repo.lookup_branch("main")
    others(repo, lambda e: e.delete("b"))
    session = repo.writable_session("main")
    Edit(session).node("b", group())
    base = session.snapshot_id
    repo.reset_branch("main", before)
    with pytest.raises(RebaseFailedError) as caught:
        session.rebase(BasicConflictSolver())
    found = [(c.conflict_type, c.path) for c in caught.value.conflicts]
    assert found == [(T.NewNodeConflictsWithExistingNode, "/b")]
    assert caught.value.snapshot == before
    assert session.snapshot_id == base


def test_after_a_reset_moves_that_do_not_work_any_more_are_refused(repo):
    before = repo.lookup_branch("main")
    others(repo, lambda e: [e.delete("b"), e.node("late", group())])
    over, gone = repo.rearrange_session("main"), repo.rearrange_session("main")
    over.move("/empty", "/b")
    gone.move("/late", "/later")
    repo.reset_branch("main", before)
    with pytest.raises(RebaseFailedError) as caught:
        over.rebase(ConflictDetector())
    found = [(c.conflict_type, c.path) for c in caught.value.conflicts]
    assert found == [(T.NewNodeConflictsWithExistingNode, "/b")]
    with pytest.raises(NodeNotFoundError):
        gone.rebase(ConflictDetector())
    assert "later/zarr.json" in keys(gone)


def test_after_a_reset_chunks_beyond_the_grid_are_not_lost_silently(repo):
    base = repo.lookup_branch("main")
    others(repo, lambda e: e.node("b", array(9)))
    session = repo.writable_session("main")
    Edit(session).write("b", 0, 7)
    repo.reset_branch("main", base)
    with pytest.raises(RebaseFailedError) as caught:
        session.commit("lost", rebase_with=BasicConflictSolver())
    (conflict,) = caught.value.conflicts
    assert (conflict.conflict_type, conflict.path) == (T.ChunksUpdatedInUpdatedArray, "/b")
    assert "b/c/7" in keys(session)
    Edit(session).clear("b", 7)
    session.commit("what fits", rebase_with=BasicConflictSolver())
    assert "b/c/0" in keys(repo.readonly_session("main"))


def test_an_amended_tip_is_compared_as_one_commit(repo):
    others(repo, lambda e: e.write("b", 0))
    session = repo.writable_session("main")
    Edit(session).write("b", 1)
    amender = repo.writable_session("main")
    Edit(amender).write("b", 2)
    amender.amend("theirs, amended")
    session.commit("ours", rebase_with=ConflictDetector())
    assert [entry.message for entry in repo.ancestry(branch="main")][:3] == [
        "ours",
        "theirs, amended",
        "base",
    ]
    assert {"b/c/0", "b/c/1", "b/c/2"} <= set(keys(repo.readonly_session("main")))
    clashing = repo.writable_session("main")
    Edit(clashing).write("b", 1, 3)
    amender = repo.writable_session("main")
    Edit(amender).write("b", 3)
    amender.amend("again")
    with pytest.raises(RebaseFailedError):
        clashing.rebase(ConflictDetector())


@pytest.mark.parametrize("make", ["readonly", "fork", "committed"])
def test_only_sessions_on_a_branch_can_be_rebased(repo, make):
    if make == "readonly":
        session = repo.readonly_session("main")
    else:
        session = repo.writable_session("main")
        Edit(session).write("b", 0)
        if make == "fork":
            session = session.fork()
        else:
            session.commit("done")
    with pytest.raises(SessionStateError) as caught:
        session.rebase(ConflictDetector())
    assert caught.value.kind == "commit-not-allowed"


def test_solvers_are_checked(repo):
    session = repo.writable_session("main")
    Edit(session).write("b", 0)
    for wrong in ("detector", ConflictDetector, None):
        with pytest.raises(TypeError):
            session.rebase(wrong)
    with pytest.raises(TypeError):
        session.commit("x", rebase_with=1)
    with pytest.raises(OverflowError):
        session.commit("x", rebase_with=ConflictDetector(), rebase_tries=-1)
    with pytest.raises(TypeError):
        BasicConflictSolver(on_chunk_conflict="ours")
    assert session.has_uncommitted_changes


def test_tries_are_counted(repo):
    session = repo.writable_session("main")
    Edit(session).write("b", 0)
    others(repo, lambda e: e.write("b", 1))
    with pytest.raises(ConflictError) as caught:
        session.commit("x", rebase_with=ConflictDetector(), rebase_tries=0)
    assert not isinstance(caught.value, RebaseFailedError)
    session.commit("x", {"a": 1, "__icechunk": {"b": 2}}, rebase_with=ConflictDetector())
    assert next(repo.ancestry(branch="main")).metadata == {
        "a": 1,
        "__icechunk": {"b": 2, "rebase_attempts": 1},
    }


def test_it_reads_one_log_per_commit_and_writes_nothing(storage):
    counted = CountingStorage(storage)
    repo = Repository.create(counted)
    edit = Edit(repo.writable_session("main"))
    edit.node("b", array(100))
    edit.session.commit("base")
    repo = Repository.open(counted)
    session = repo.writable_session("main")
    Edit(session).write("b", 99)
    others(Repository.open(counted), *(lambda e, n=n: e.write("b", n) for n in range(20)))
    counted.reset()
    session.rebase(ConflictDetector())
    assert counted.writes() == 0
    assert dict(counted.counts) == {("get", "transactions"): 20, ("get_if_changed", "repo"): 1}


def test_a_log_that_is_gone_stops_the_rebase(storage):
    repo = Repository.create(storage)
    edit = Edit(repo.writable_session("main"))
    edit.node("b", array())
    edit.session.commit("base")
    session = repo.writable_session("main")
    Edit(session).write("b", 0)
    others(repo, lambda e: e.write("b", 1))
    tip = repo.lookup_branch("main")
    storage.delete([f"transactions/{tip}"])
    with pytest.raises(SessionStateError) as caught:
        session.rebase(ConflictDetector())
    assert caught.value.kind == "rebase-tx-log-pruned"
    assert tip in caught.value.message
    assert session.has_uncommitted_changes


def test_records_show_themselves():
    assert [int(kind) for kind in ConflictType] == list(range(1, 12))
    assert str(T.ChunkDoubleUpdate) == "Chunk double update"
    assert T.ChunkDoubleUpdate != 6
    assert [int(choice) for choice in VersionSelection] == [0, 1, 2]
    assert repr(VersionSelection.UseOurs) == str(VersionSelection.UseOurs)
    assert eval(repr(BasicConflictSolver())) == BasicConflictSolver()
    assert eval(repr(ConflictDetector())) == ConflictDetector()
    conflict = icechunk.Conflict(T.ChunkDoubleUpdate, "/a", [[0, 1]])
    assert repr(conflict).splitlines() == [
        "<icechunk.conflicts.Conflict>",
        "conflict_type: ChunkDoubleUpdate",
        "path: /a",
        "conflicted_chunks: [[0, 1]]",
    ]

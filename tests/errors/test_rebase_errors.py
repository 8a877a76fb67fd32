"""Rebases that fail, alone and within a commit: whatever the conflict, nothing of ours is lost."""

import asyncio

import pytest

from icechunk import (
    BasicConflictSolver,
    ConflictDetector,
    ConflictError,
    ConflictType,
    NodeNotFoundError,
    ReadOnlyError,
    RebaseFailedError,
    RepoAvailability,
    RepoStatus,
    SessionStateError,
    VersionSelection,
)


def rebase(world, solver):
    world.session.rebase(solver)


def rebase_async(world, solver):
    asyncio.run(world.session.rebase_async(solver))


def commit(world, solver):
    world.session.commit("late", rebase_with=solver)


def commit_async(world, solver):
    asyncio.run(world.session.commit_async("late", rebase_with=solver, rebase_tries=3))


WAYS = [rebase, rebase_async, commit, commit_async]


def strict():
    """A solver that solves nothing, but is no mere detector."""
    return BasicConflictSolver(
        on_chunk_conflict=VersionSelection.Fail,
        fail_on_delete_of_updated_array=True,
        fail_on_delete_of_updated_group=True,
    )


def put(key, value):
    return lambda w, s: w.set(key, value(w) if callable(value) else value, s)


def drop(path):
    return lambda w, s: w.do("delete_dir", path, session=s)


def resized(rows):
    return lambda w: w.array(
        shape=[rows, 4],
        data_type="int32",
        chunk_grid={"name": "regular", "configuration": {"chunk_shape": [2, 2]}},
    )


CHUNK = b"1" * 16
# What we did, what they committed, what is found, and whether no policy can solve it.
CONFLICTS = {
    "both create an array": (
        put("new/zarr.json", lambda w: w.array()), put("new/zarr.json", lambda w: w.array()),
        ConflictType.NewNodeConflictsWithExistingNode, "/new", None, True,
    ),
    "both create a group": (
        put("new/zarr.json", lambda w: w.group()), put("new/zarr.json", lambda w: w.group()),
        ConflictType.NewNodeConflictsWithExistingNode, "/new", None, True,
    ),
    "created below an array": (
        put("new/x/zarr.json", lambda w: w.array()), put("new/zarr.json", lambda w: w.array()),
        ConflictType.NewNodeInInvalidGroup, "/new", None, True,
    ),
    "both update an array": (
        put("array/zarr.json", resized(10)), put("array/zarr.json", resized(12)),
        ConflictType.ZarrMetadataDoubleUpdate, "/array", None, True,
    ),
    "both update a group": (
        put("group/zarr.json", lambda w: w.group(by=1)),
        put("group/zarr.json", lambda w: w.group(by=2)),
        ConflictType.ZarrMetadataDoubleUpdate, "/group", None, True,
    ),
    "updated a deleted array": (
        put("array/zarr.json", resized(10)), drop("array"),
        ConflictType.ZarrMetadataUpdateOfDeletedArray, "/array", None, True,
    ),
    "updated a deleted group": (
        put("group/zarr.json", lambda w: w.group(by=1)), drop("group"),
        ConflictType.ZarrMetadataUpdateOfDeletedGroup, "/group", None, True,
    ),
    "both write a chunk": (
        put("array/c/1/1", CHUNK), put("array/c/1/1", b"2" * 16),
        ConflictType.ChunkDoubleUpdate, "/array", [[1, 1]], False,
    ),
    "wrote chunks of a deleted array": (
        put("array/c/1/1", CHUNK), drop("array"),
        ConflictType.ChunksUpdatedInDeletedArray, "/array", None, True,
    ),
    "wrote chunks of an updated array": (
        put("array/c/1/1", CHUNK), put("array/zarr.json", resized(10)),
        ConflictType.ChunksUpdatedInUpdatedArray, "/array", None, True,
    ),
    "deleted an updated array": (
        drop("array"), put("array/zarr.json", resized(10)),
        ConflictType.DeleteOfUpdatedArray, "/array", None, False,
    ),
    "deleted an array that was written to": (
        drop("array"), put("array/c/1/1", CHUNK),
        ConflictType.DeleteOfUpdatedArray, "/array", None, False,
    ),
    "deleted an updated group": (
        drop("group"), put("group/zarr.json", lambda w: w.group(by=2)),
        ConflictType.DeleteOfUpdatedGroup, "/group", None, False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CONFLICTS)
def test_conflicts(world, refused, name, way):
    ours, theirs, conflict_type, path, chunks, is_final = CONFLICTS[name]
    ours(world, world.session)
    other = world.repo.writable_session("main")
    theirs(world, other)
    world.later = other.commit("theirs")
    solvers = [ConflictDetector(), strict()]
    if is_final:
        solvers.append(BasicConflictSolver())
    for solver in solvers:
        error = refused(
            world,
            lambda w, s=solver: way(w, s),
            RebaseFailedError,
            "rebase-failed",
            "Rebase failed on snapshot {later}",
            "1 conflicts found",
        )
        assert error.snapshot == world.later
        [conflict] = error.conflicts
        assert conflict.conflict_type == conflict_type
        assert conflict.path == path
        assert conflict.conflicted_chunks == chunks
    # the edits are still there, and land where nobody interferes
    world.repo.reset_branch("main", world.first)
    world.session.commit("ours")


@pytest.mark.parametrize("way", WAYS)
def test_moves_of_others(world, refused, way):
    world.set("array/c/1/1", CHUNK)
    other = world.repo.rearrange_session("main")
    other.move("/group", "/moved")
    world.later = other.commit("moved")
    for solver in (ConflictDetector(), strict(), BasicConflictSolver()):
        error = refused(
            world,
            lambda w, s=solver: way(w, s),
            RebaseFailedError,
            "rebase-failed",
            "{later}",
        )
        [conflict] = error.conflicts
        assert conflict.conflict_type == ConflictType.MoveOperationCannotBeRebased
        assert conflict.path == ""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("theirs", ["source deleted", "parent deleted", "destination taken"])
def test_moves_of_ours(world, refused, way, theirs):
    session = world.use(world.repo.rearrange_session("main"))
    session.move("/array", "/group/inner/array")
    other = world.repo.writable_session("main")
    if theirs == "destination taken":
        world.set("group/inner/array/zarr.json", world.group(), other)
        expected = RebaseFailedError, "rebase-failed", "Rebase failed"
    elif theirs == "source deleted":
        world.do("delete_dir", "array", session=other)
        expected = NodeNotFoundError, "node-not-found", "`/array`"
    else:
        world.do("delete_dir", "group/inner", session=other)
        expected = SessionStateError, "move-destination-parent-missing", "`/group/inner`"
    other.commit("theirs")
    refused(world, lambda w: way(w, ConflictDetector()), *expected)
    world.repo.reset_branch("main", world.first)
    session.commit("ours")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("which", ["read-only", "committed", "fork"])
def test_sessions_without_branch(world, refused, way, which):
    if which == "fork":
        world.edit(world.use(world.session.fork()))
    elif which == "committed":
        world.edit().commit("done")
    else:
        world.use(world.repo.readonly_session("main"))
    refused(
        world,
        lambda w: way(w, ConflictDetector()),
        SessionStateError,
        "commit-not-allowed",
        "commits are not allowed",
        "writable_session",
    )


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("edited", [False, True], ids=["clean", "edited"])
def test_solvers_must_be_solvers(world, refused, way, edited):
    if edited:
        world.edit()
    world.others_commit()
    for thing in ("ours", BasicConflictSolver, 5):
        refused(world, lambda w, t=thing: way(w, t), TypeError, None, "ConflictSolver")


def test_a_solver_is_needed(world, refused):
    world.edit()
    refused(world, lambda w: rebase(w, None), TypeError, None, "ConflictSolver")


def test_tries_are_counted_from_zero(world, refused):
    world.edit()
    refused(
        world,
        lambda w: w.session.commit("x", rebase_with=ConflictDetector(), rebase_tries=-1),
        OverflowError,
        None,
        "rebase_tries",
    )


def test_without_tries_a_conflict_stays_one(world, refused):
    world.edit()
    world.others_commit()
    error = refused(
        world,
        lambda w: w.session.commit("x", rebase_with=ConflictDetector(), rebase_tries=0),
        ConflictError,
        "commit-conflict",
        "{first}",
        "{later}",
    )
    assert (error.expected_parent, error.actual_parent) == (world.first, world.later)


@pytest.mark.parametrize("way", WAYS)
def test_a_branch_that_was_reset_below_the_edited_nodes(world, refused, way):
    world.set("array/c/1/1", CHUNK)
    world.repo.reset_branch("main", world.root)
    refused(
        world,
        lambda w: way(w, ConflictDetector()),
        NodeNotFoundError,
        "node-not-found",
        "`/array`",
        "{root}",
    )


@pytest.mark.parametrize("way", WAYS)
def test_a_log_that_is_gone(world, refused, way):
    world.edit()
    world.others_commit()
    world.storage.delete([f"transactions/{world.later}"])
    refused(
        world,
        lambda w: way(w, ConflictDetector()),
        SessionStateError,
        "rebase-tx-log-pruned",
        "{later}",
    )


@pytest.mark.parametrize("way", [commit, commit_async])
def test_a_closed_repository(world, refused, way):
    world.edit()
    world.repo.set_status(
        RepoStatus(RepoAvailability.read_only, limited_availability_reason="moving house")
    )
    refused(
        world,
        lambda w: way(w, ConflictDetector()),
        ReadOnlyError,
        "read-only-repository",
        "moving house",
    )


def test_the_session_stays_on_the_last_commit_without_conflict(world, refused):
    world.set("array/c/1/1", CHUNK)
    harmless = world.others_commit()
    world.others_commit("array/c/1/1", b"2" * 16)
    with pytest.raises(RebaseFailedError):
        world.session.rebase(ConflictDetector())
    assert world.session.snapshot_id == harmless
    assert world.get("array/c/1/1") == CHUNK
    assert world.get("others/zarr.json") == world.group()
    # and does not move from there, however often it is tried
    refused(
        world,
        lambda w: w.session.rebase(ConflictDetector()),
        RebaseFailedError,
        "rebase-failed",
        "{later}",
    )
    world.session.rebase(BasicConflictSolver())
    world.session.commit("ours")

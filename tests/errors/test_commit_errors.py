"""Commits that are refused: by the session, by the branch, or by the repository.

After each of them the session has what it had, and can be committed once the reason is gone.
"""

import asyncio

import pytest

from icechunk import (
    ConflictError,
    ReadOnlyError,
    RefNotFoundError,
    RepoAvailability,
    RepoStatus,
    SessionStateError,
)


def commit(world, *arguments, **named):
    return world.session.commit(*arguments, **named)


def commit_async(world, *arguments, **named):
    return asyncio.run(world.session.commit_async(*arguments, **named))


@pytest.fixture(params=[commit, commit_async], ids=["call", "coroutine"])
def committing(request):
    return request.param


def test_nothing_to_commit(world, refused, committing):
    refused(
        world,
        lambda w: committing(w, "nothing"),
        SessionStateError,
        "no-changes-to-commit",
        "cannot commit",
        "`main`",
        "no changes made to the session",
        "allow_empty",
    )
    committing(world, "nothing", allow_empty=True)


@pytest.mark.parametrize("allow_empty", [False, True])
@pytest.mark.parametrize("which", ["branch", "tag", "committed", "fork"])
def test_a_session_without_branch(world, refused, committing, which, allow_empty):
    if which == "fork":
        world.edit(world.use(world.session.fork()))
    elif which == "committed":
        world.edit()
        world.session.commit("done")
    else:
        where = {"branch": "main"} if which == "branch" else {"tag": "tag"}
        world.use(world.repo.readonly_session(**where))
    refused(
        world,
        lambda w: committing(w, "late", allow_empty=allow_empty),
        SessionStateError,
        "commit-not-allowed",
        "commits are not allowed",
        "writable_session",
    )


@pytest.mark.parametrize("edited", [False, True], ids=["clean", "edited"])
def test_somebody_else_was_faster(world, refused, committing, edited):
    if edited:
        world.edit()
    later = world.others_commit()
    error = refused(
        world,
        lambda w: committing(w, "late", allow_empty=True),
        ConflictError,
        "commit-conflict",
        'expected parent: Some("{first}")',
        'actual parent: Some("{later}")',
    )
    assert (error.expected_parent, error.actual_parent) == (world.first, later)

    world.repo.reset_branch("main", world.first)
    committing(world, "now", allow_empty=True)


def test_the_branch_was_reset(world, refused, committing):
    world.edit()
    world.repo.reset_branch("main", world.root)
    error = refused(
        world,
        lambda w: committing(w, "late"),
        ConflictError,
        "commit-conflict",
        "{first}",
        "{root}",
    )
    assert (error.expected_parent, error.actual_parent) == (world.first, world.root)


def test_the_branch_is_gone(world, refused, committing):
    world.edit(world.use(world.repo.writable_session("branch")))
    world.repo.delete_branch("branch")
    refused(
        world, lambda w: committing(w, "late"), RefNotFoundError, "branch-not-found", "`branch`"
    )
    world.repo.create_branch("branch", world.first)
    committing(world, "now")


def test_the_repository_is_closed(world, refused, committing):
    world.edit()
    world.repo.set_status(
        RepoStatus(RepoAvailability.read_only, limited_availability_reason="moving house")
    )
    refused(
        world,
        lambda w: committing(w, "late"),
        ReadOnlyError,
        "read-only-repository",
        "moving house",
    )
    world.repo.set_status(RepoStatus(RepoAvailability.online))
    committing(world, "now")


ARGUMENTS = {
    "metadata no mapping": (("x", "text"), "metadata"),
    "metadata of objects": (("x", {"a": object()}), "metadata"),
    "metadata of sets": (("x", {"a": {1}}), "metadata"),
    "metadata of bytes": (("x", {"a": b"b"}), "metadata"),
    "nested metadata": (("x", {"a": [{"b": object()}]}), "metadata"),
    "message no text": ((5,), "message"),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_that_cannot_be_stored(world, refused, committing, name):
    world.edit()
    arguments, mention = ARGUMENTS[name]
    refused(world, lambda w: committing(w, *arguments), TypeError, None, mention)
    committing(world, "now", {"a": 1})

"""Commits, amendments and flushes that are refused: by session, branch, or repository.

After each of them the session has what it had, and can be committed once the reason is gone.
"""

import asyncio
from dataclasses import replace

import pytest

from icechunk import (
    ConflictError,
    FormatError,
    IcechunkError,
    ReadOnlyError,
    RefNotFoundError,
    RepoAvailability,
    Repository,
    RepositoryConfig,
    RepoStatus,
    SessionStateError,
)
from icechunk.config import RepoUpdateRetryConfig, StorageRetriesSettings
from icechunk.repo.surroundings import REAL
from icechunk.repo.times import now_us
from icechunk.storage.base import PreconditionFailed
from icechunk.testing.wrapper import StorageWrapper


def commit(world, message, metadata=None, **named):
    return world.session.commit(message, metadata, **named)


def commit_async(world, message, metadata=None, **named):
    return asyncio.run(world.session.commit_async(message, metadata, **named))


def amend(world, message, metadata=None, **named):
    return world.session.amend(message, metadata=metadata, **named)


def amend_async(world, message, metadata=None, **named):
    return asyncio.run(world.session.amend_async(message, metadata=metadata, **named))


@pytest.fixture(params=[commit, commit_async, amend, amend_async])
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


@pytest.mark.parametrize("amending", [amend, amend_async])
def test_the_first_snapshot_is_not_amended(world, refused, amending):
    world.repo.create_branch("start", world.root)
    world.use(world.repo.writable_session("start"))
    refused(world, lambda w: amending(w, "x"), SessionStateError, "no-changes-to-commit", "`start`")
    world.set("new/zarr.json", world.group())
    refused(
        world,
        lambda w: amending(w, "x"),
        SessionStateError,
        "no-amend-for-initial-commit",
        "{root}",
    )
    world.session.commit("so be it")


@pytest.mark.parametrize("amending", [amend, amend_async])
def test_edits_do_not_amend_moves(world, refused, amending):
    session = world.repo.rearrange_session("main")
    session.move("/array", "/moved")
    world.later = session.commit("moved")
    world.use(world.repo.writable_session("main"))
    world.set("new/zarr.json", world.group())
    refused(
        world, lambda w: amending(w, "x"), SessionStateError, "rearrange-session-only", "{later}"
    )
    world.session.commit("on top")


def flush(world, message, metadata=None):
    return world.session.flush(message, metadata=metadata)


def flush_async(world, message, metadata=None):
    return asyncio.run(world.session.flush_async(message, metadata=metadata))


@pytest.mark.parametrize("flushing", [flush, flush_async])
class TestFlush:
    @pytest.mark.parametrize("edited", [False, True], ids=["clean", "edited"])
    def test_a_fork(self, world, refused, flushing, edited):
        world.use(world.session.fork())
        if edited:
            world.edit()
        refused(
            world,
            lambda w: flushing(w, "x"),
            IcechunkError,
            "unknown",
            "cannot flush a forked session",
        )

    @pytest.mark.parametrize("name", ARGUMENTS)
    def test_arguments_that_cannot_be_stored(self, world, refused, flushing, name):
        world.edit()
        arguments, mention = ARGUMENTS[name]
        refused(world, lambda w: flushing(w, *arguments), TypeError, None, mention)
        flushing(world, "now", {"a": 1})

    def test_a_closed_repository(self, world, refused, flushing):
        world.edit()
        world.repo.set_status(
            RepoStatus(RepoAvailability.read_only, limited_availability_reason="moving house")
        )
        refused(
            world,
            lambda w: flushing(w, "x"),
            ReadOnlyError,
            "read-only-repository",
            "moving house",
        )
        world.repo.set_status(RepoStatus(RepoAvailability.online))
        flushing(world, "now")


def transaction(branch="main", edit=None, error=None, **named):
    def run(world):
        with world.repo.transaction(branch, **({"message": "x"} | named)) as store:
            if edit is not None:
                edit(world, store.session)
            if error is not None:
                raise error

    return run


TRANSACTIONS = {
    "nothing written": (
        transaction(),
        SessionStateError, "no-changes-to-commit", "`main`",
    ),
    "no branch": (
        transaction("no"),
        RefNotFoundError, "ref-not-found", "`no`",
    ),
    "an error inside": (
        transaction(edit=lambda w, s: w.edit(s), error=RuntimeError("stop")),
        RuntimeError, None, "stop",
    ),
    "metadata that cannot be stored": (
        transaction(edit=lambda w, s: w.edit(s), metadata={"a": object()}),
        TypeError, None, "metadata",
    ),
    "no solver": (
        transaction(edit=lambda w, s: w.edit(s), rebase_with="ours"),
        TypeError, None, "ConflictSolver",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TRANSACTIONS)
def test_transactions(world, refused, name):
    refused(world, *TRANSACTIONS[name])


def test_an_overtaken_transaction(world):
    overtaken = transaction(edit=lambda w, session: w.edit(session) and w.others_commit())
    with pytest.raises(ConflictError) as caught:
        overtaken(world)
    assert (caught.value.expected_parent, caught.value.actual_parent) == (world.first, world.later)
    assert world.repo.lookup_branch("main") == world.later


REWRITES = {
    "unknown method": (
        {"branch": "main", "commit_method": "rebase"},
        ValueError, None, "Invalid commit method", "'rebase'",
    ),
    "no branch": (
        {"branch": "no"},
        RefNotFoundError, "ref-not-found", "`no`",
    ),
    "a tag": (
        {"branch": "tag"},
        RefNotFoundError, "ref-not-found", "`tag`",
    ),
    "the first snapshot": (
        {"branch": "start", "commit_method": "amend"},
        SessionStateError, "no-amend-for-initial-commit", "{root}",
    ),
    "metadata that cannot be stored": (
        {"branch": "main", "metadata": {"a": object()}},
        TypeError, None, "metadata",
    ),
}  # fmt: skip


@pytest.mark.parametrize("twin", [False, True], ids=["call", "coroutine"])
@pytest.mark.parametrize("name", REWRITES)
def test_rewriting_manifests(world, refused, name, twin):
    world.repo.create_branch("start", world.root)
    named, *expected = REWRITES[name]

    def rewrite(w):
        if twin:
            return asyncio.run(w.repo.rewrite_manifests_async("x", **named))
        return w.repo.rewrite_manifests("x", **named)

    refused(world, rewrite, *expected)


@pytest.mark.parametrize("action", ["commit", "amend", "flush"])
def test_a_clock_that_went_back(world, refused, action):
    world.edit()
    context = world.session._workspace.context
    a_year_ago = replace(context.world, now_us=lambda: now_us() - 365 * 86_400 * 1_000_000)
    context.world = a_year_ago
    refused(
        world,
        lambda w: getattr(w.session, action)("x"),
        FormatError,
        "snapshot-timestamp",
        "clock",
        leaves_garbage=True,
    )
    context.world = REAL
    getattr(world.session, action)("now")


class CrowdedStorage(StorageWrapper):
    """Somebody else is always faster."""

    is_crowded = True

    def put_if(self, key, data, expected):
        if self.is_crowded:
            raise PreconditionFailed(key)
        return super().put_if(key, data, expected)


UPDATES = {
    "commit": lambda w: w.session.commit("x"),
    "amend": lambda w: w.session.amend("x"),
    "flush": lambda w: w.session.flush("x"),
    "branch": lambda w: w.repo.create_branch("new", w.first),
    "tag": lambda w: w.repo.create_tag("new", w.first),
    "metadata": lambda w: w.repo.set_metadata({"a": 1}),
}


@pytest.mark.parametrize("name", UPDATES)
def test_others_are_always_faster(world, refused, name):
    crowded = CrowdedStorage(world.storage)
    retries = StorageRetriesSettings(max_tries=1, initial_backoff_ms=1, max_backoff_ms=2)
    config = RepositoryConfig(repo_update_retries=RepoUpdateRetryConfig(default=retries))
    world.repo = Repository.open(crowded, config)
    world.edit(world.use(world.repo.writable_session("main")))
    error = refused(
        world,
        UPDATES[name],
        ConflictError,
        "update-attempts-exhausted",
        "6 attempts",
        leaves_garbage=True,
    )
    assert (error.expected_parent, error.actual_parent) == (None, None)
    crowded.is_crowded = False
    UPDATES[name](world)

"""Forks and merges that are refused, and sessions that do not travel."""

import asyncio
import copy
import pickle

import pytest

from icechunk import InvalidInputError, ReadOnlyError, SessionStateError


def merge(session, *others):
    session.merge(*others)


def merge_async(session, *others):
    asyncio.run(session.merge_async(*others))


@pytest.fixture(params=[merge, merge_async], ids=["call", "coroutine"])
def merging(request):
    return request.param


def test_a_read_only_session_has_no_forks(world, refused):
    world.use(world.repo.readonly_session("main"))
    refused(
        world,
        lambda w: w.session.fork(),
        SessionStateError,
        "cannot-fork-read-only-session",
        "cannot fork a read-only session",
        "{first}",
    )


def test_a_committed_session_has_no_forks(world, refused):
    world.edit()
    world.later = world.session.commit("done")
    refused(
        world,
        lambda w: w.session.fork(),
        SessionStateError,
        "cannot-fork-read-only-session",
        "{later}",
    )


def test_nothing_is_merged_into_a_read_only_session(world, refused, merging):
    fork = world.edit(world.session.fork())
    world.use(world.repo.readonly_session("main"))
    refused(
        world, lambda w: merging(w.session, fork), ReadOnlyError, "read-only-session", "{first}"
    )


def test_nothing_is_merged_into_a_committed_session(world, refused, merging):
    fork = world.session.fork()
    world.set("forked/zarr.json", world.group(), fork)
    world.edit()
    world.later = world.session.commit("too early")
    refused(
        world, lambda w: merging(w.session, fork), ReadOnlyError, "read-only-session", "{later}"
    )


@pytest.mark.parametrize("edited", [False, True], ids=["clean", "edited"])
def test_a_branch_session_is_not_merged_into_a_fork(world, refused, merging, edited):
    branch = world.edit()
    fork = world.use(branch.fork())
    if edited:
        world.set("forked/zarr.json", world.group(), fork)
    refused(
        world,
        lambda w: merging(w.session, branch),
        SessionStateError,
        "merge-not-allowed",
        "cannot merge a branch session into a fork session",
    )


def test_what_is_no_session(world, refused, merging):
    world.edit()
    fork = world.session.fork()
    world.set("forked/zarr.json", world.group(), fork)
    refused(world, lambda w: merging(w.session, fork, "no session"), AttributeError, None)


# What two sides did, and what the message says about it.
CLASHES = {
    "both created an array": (
        lambda w, s: w.set("made/zarr.json", w.array(), s),
        lambda w, s: w.set("made/zarr.json", w.array(), s),
        "Multiple writers created the same arrays", "/made",
    ),
    "both created a group": (
        lambda w, s: w.set("made/zarr.json", w.group(), s),
        lambda w, s: w.set("made/zarr.json", w.group(), s),
        "Multiple writers created the same groups", "/made",
    ),
    "both updated a group": (
        lambda w, s: w.set("group/zarr.json", w.group(by=1), s),
        lambda w, s: w.set("group/zarr.json", w.group(by=2), s),
        "Multiple writers updated the same groups", "/group",
    ),
    "both updated an array": (
        lambda w, s: w.set("array/zarr.json", resized(w, 6), s),
        lambda w, s: w.set("array/zarr.json", resized(w, 10), s),
        "Multiple writers updated the same arrays", "/array",
    ),
    "one deleted an array that the other wrote": (
        lambda w, s: w.do("delete", "array/zarr.json", session=s),
        lambda w, s: w.set("array/c/1/1", b"1" * 16, s),
        "Arrays were both deleted and modified", "/array",
    ),
    "one deleted an array that the other updated": (
        lambda w, s: w.do("delete", "array/zarr.json", session=s),
        lambda w, s: w.set("array/zarr.json", resized(w, 10), s),
        "Arrays were both deleted and modified", "/array",
    ),
    "one deleted a group that the other updated": (
        lambda w, s: w.do("delete_dir", "group", session=s),
        lambda w, s: w.set("group/zarr.json", w.group(by=2), s),
        "Groups were both deleted and modified", "/group",
    ),
    "both wrote a chunk": (
        lambda w, s: w.set("array/c/1/1", b"1" * 16, s),
        lambda w, s: w.set("array/c/1/1", b"2" * 16, s),
        "/array", "[1, 1]",
    ),
}  # fmt: skip


def resized(world, rows):
    """The document of `array` with another number of rows."""
    return world.array(
        shape=[rows, 4],
        data_type="int32",
        chunk_grid={"name": "regular", "configuration": {"chunk_shape": [2, 2]}},
    )


@pytest.mark.parametrize("swapped", [False, True], ids=["in order", "swapped"])
@pytest.mark.parametrize("name", CLASHES)
def test_two_forks_that_clash(world, refused, merging, name, swapped):
    one, other, *mentions = CLASHES[name]
    harmless, first, second = (world.session.fork() for _ in range(3))
    world.set("harmless/zarr.json", world.group(), harmless)
    one(world, first)
    other(world, second)
    if swapped:
        first, second = second, first
    # nothing of the forks before the clash is taken over either
    refused(
        world,
        lambda w: merging(w.session, harmless, first, second),
        SessionStateError,
        "merge-failed",
        *mentions,
    )


@pytest.mark.parametrize("swapped", [False, True], ids=["in order", "swapped"])
@pytest.mark.parametrize("name", CLASHES)
def test_a_fork_that_clashes_with_its_session(world, refused, merging, name, swapped):
    mine, forks, *mentions = CLASHES[name]
    if swapped:
        mine, forks = forks, mine
    fork = world.session.fork()
    mine(world, world.session)
    forks(world, fork)
    refused(world, lambda w: merging(w.session, fork), SessionStateError, "merge-failed", *mentions)


def test_an_inner_fork_needs_the_outer_one(world, refused, merging):
    outer = world.session.fork()
    world.set("made/zarr.json", world.array(), outer)
    inner = outer.fork()
    world.set("made/c/0", b"12", inner)
    refused(world, lambda w: merging(w.session, inner), SessionStateError, "merge-failed")
    merging(outer, inner)
    merging(world.session, outer)


def test_an_unknown_policy(world, refused):
    fork = world.edit(world.session.fork())
    refused(
        world,
        lambda w: w.session.merge(fork, overlap="first"),
        InvalidInputError,
        "unknown",
        "'first'",
    )


@pytest.mark.parametrize("edited", [False, True], ids=["clean", "edited"])
@pytest.mark.parametrize("take", [pickle.dumps, copy.deepcopy])
@pytest.mark.parametrize("what", ["session", "store"])
def test_a_writable_session_does_not_travel(world, refused, what, take, edited):
    if edited:
        world.edit()
    refused(
        world,
        lambda w: take(w.session if what == "session" else w.session.store),
        ValueError,
        None,
        "You must opt-in to pickle writable sessions",
    )

"""Fail at every effect of a change of spec version 1: what is stored is as before or as wanted."""

from contextlib import suppress

import pytest

import icechunk
from icechunk import ConflictDetector, ConflictError, Repository, RepositoryConfig, StorageError
from icechunk.errors import AlreadyExistsError, IcechunkError, RefNotFoundError
from icechunk.storage.base import WriteOutcomeUnknown
from icechunk.testing import FaultyStorage

NEVER = 10**9


def commit(repo, message, branch="main", **options):
    return repo.writable_session(branch).commit(message, allow_empty=True, **options)


def prepared():
    """Two commits on main, a branch, a tag, and a stored configuration."""
    storage = icechunk.in_memory_storage()
    repo = Repository.create(storage, spec_version=1)
    first = commit(repo, "first")
    commit(repo, "second")
    repo.create_branch("dev", first)
    repo.create_tag("t", first)
    repo.save_config()
    return storage


def observed(storage):
    """All that counts: refs by the messages they lead to, and the configuration."""
    repo = Repository.open(storage)
    return {
        "branches": {
            name: [entry.message for entry in repo.ancestry(branch=name)]
            for name in repo.list_branches()
        },
        "tags": {name: next(iter(repo.ancestry(tag=name))).message for name in repo.list_tags()},
        "inline": repo.config.inline_chunk_threshold_bytes,
    }


def expire(repo):
    second = repo.lookup_snapshot(repo.lookup_branch("main"))
    flags = {"delete_expired_branches": True, "delete_expired_tags": True}
    repo.expire_snapshots(second.written_at, **flags)


CHANGES = {
    "commit": lambda repo: commit(repo, "third"),
    "create branch": lambda repo: repo.create_branch("new", repo.lookup_branch("dev")),
    "reset branch": lambda repo: repo.reset_branch("dev", repo.lookup_branch("main")),
    "delete branch": lambda repo: repo.delete_branch("dev"),
    "create tag": lambda repo: repo.create_tag("new", repo.lookup_branch("main")),
    "delete tag": lambda repo: repo.delete_tag("t"),
    "save config": lambda repo: repo.reopen(
        RepositoryConfig(inline_chunk_threshold_bytes=3)
    ).save_config(),
}
MANY = {"expire": expire}
"""Changes of several objects, which may stop anywhere and are completed by repeating them."""


def run(change, fail_at, *, after=False, sticky=False, remote=False):
    """Make a change on a storage that fails once; return what it raised, and what is stored."""
    inner = prepared()
    storage = FaultyStorage(inner, sticky=sticky)
    storage.is_local = not remote
    repo = Repository.open(storage)
    storage.effects.clear()
    storage.after, storage.fail_at = after, fail_at
    error = None
    try:
        change(repo)
    except IcechunkError as caught:
        error = caught
    storage.fail_at, storage._dead = None, False
    return error, inner, storage


@pytest.mark.slow
@pytest.mark.parametrize("change", {**CHANGES, **MANY}.values(), ids=[*CHANGES, *MANY])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("place", ["local", "remote"])
def test_every_effect(change, after, place):
    remote = place == "remote"
    old = observed(prepared())
    error, inner, storage = run(change, NEVER, remote=remote)
    assert error is None
    new = observed(inner)
    assert new != old
    effects = len(storage.effects)
    assert effects > 0
    for fail_at in range(effects):
        for sticky in (False, True):
            error, inner, storage = run(change, fail_at, after=after, sticky=sticky, remote=remote)
            found = observed(inner)
            where = fail_at, storage.effects
            if change not in MANY.values():
                assert found in (old, new), where
            if error is None:
                assert found == new, where
            else:
                assert isinstance(error, StorageError), where
            assert Repository.open(inner).verify().is_clean, where
            if found != new:  # nothing stands in the way of another attempt
                change(Repository.open(inner))
                assert observed(inner) == new, where


class Rival:
    """A storage on which somebody else does something right before the k-th conditional write."""

    def __init__(self, inner, deeds, *, lose_answer=False):
        self.storage = FaultyStorage(inner, operations=frozenset({"put_if"}))
        self.inner = inner
        self.deeds = dict(deeds)
        self.lose_answer = lose_answer
        real_before, real_after = self.storage._before, self.storage._after
        self.count = 0

        def before(operation, key):
            if operation == "put_if":
                deed = self.deeds.pop(("before", self.count), None)
                if deed:
                    deed(Repository.open(inner))
            real_before(operation, key)

        def after(operation, key):
            if operation == "put_if":
                deed = self.deeds.pop(("after", self.count), None)
                self.count += 1
                if deed:
                    deed(Repository.open(inner))
                    raise StorageError("no answer")
            real_after(operation, key)

        self.storage._before, self.storage._after = before, after


def rival(deeds):
    inner = prepared()
    return inner, Repository.open(Rival(inner, deeds).storage)


def test_a_lost_race():
    inner, repo = rival({("before", 0): lambda other: commit(other, "theirs")})
    with pytest.raises(ConflictError) as caught:
        commit(repo, "ours")
    assert caught.value.kind == "commit-conflict"
    assert caught.value.actual_parent == Repository.open(inner).lookup_branch("main")
    known = {entry.id for entry in Repository.open(inner).ancestry(branch="main")}
    snapshots = {item.key.removeprefix("snapshots/") for item in inner.list("snapshots")}
    assert snapshots == known  # what was lost is gone
    assert observed(inner)["branches"]["main"][0] == "theirs"


def test_a_lost_race_is_rebased():
    inner, repo = rival({("before", 0): lambda other: commit(other, "theirs")})
    session = repo.writable_session("main")
    session.commit("ours", allow_empty=True, rebase_with=ConflictDetector())
    assert observed(inner)["branches"]["main"][:2] == ["ours", "theirs"]


def test_an_answer_is_lost_and_somebody_goes_on():
    """Our commit is in the history of the branch, though not its tip."""
    inner, repo = rival({("after", 0): lambda other: commit(other, "theirs")})
    commit(repo, "ours")
    assert observed(inner)["branches"]["main"][:2] == ["theirs", "ours"]


def test_an_answer_is_lost_and_the_branch_is_reset():
    """Nobody can tell any more whether our commit has been there."""

    def reset(other):
        first = next(e.id for e in other.ancestry(branch="main") if e.message == "first")
        other.reset_branch("main", first)

    inner, repo = rival({("after", 0): reset})
    with pytest.raises((ConflictError, WriteOutcomeUnknown, StorageError)):
        commit(repo, "ours")
    assert observed(inner)["branches"]["main"][0] == "first"


def test_a_branch_is_deleted_meanwhile():
    inner, repo = rival({("before", 0): lambda other: other.delete_branch("dev")})
    with pytest.raises(RefNotFoundError) as caught:
        commit(repo, "ours", branch="dev")
    assert caught.value.kind == "branch-not-found"
    assert set(observed(inner)["branches"]) == {"main"}


def test_a_reset_goes_over_what_others_did():
    inner, repo = rival({("before", 0): lambda other: commit(other, "theirs", branch="dev")})
    repo.reset_branch("dev", repo.lookup_branch("main"))
    assert observed(inner)["branches"]["dev"][0] == "second"


def test_a_careful_reset_does_not():
    inner, repo = rival({("before", 0): lambda other: commit(other, "theirs", branch="dev")})
    with pytest.raises(ConflictError) as caught:
        repo.reset_branch(
            "dev", repo.lookup_branch("main"), from_snapshot_id=repo.lookup_branch("dev")
        )
    assert caught.value.kind == "branch-update-conflict"
    assert observed(inner)["branches"]["dev"][0] == "theirs"


def test_two_create_the_same():
    def create(other):
        other.create_branch("new", other.lookup_branch("main"))
        other.create_tag("new", other.lookup_branch("main"))

    inner, repo = rival({("before", 0): create})
    with pytest.raises(ConflictError):
        repo.create_branch("new", repo.lookup_branch("dev"))
    inner, repo = rival({("before", 0): create})
    with pytest.raises(AlreadyExistsError):
        repo.create_tag("new", repo.lookup_branch("dev"))
    assert observed(inner)["tags"]["new"] == "second"


def test_two_delete_the_same():
    _, repo = rival({("before", 0): lambda other: other.delete_tag("t")})
    with pytest.raises(RefNotFoundError):
        repo.delete_tag("t")


def test_two_save_a_configuration():
    def save(other):
        other.reopen(RepositoryConfig(inline_chunk_threshold_bytes=5)).save_config()

    inner, repo = rival({("before", 0): save})
    with pytest.raises(ConflictError) as caught:
        repo.reopen(RepositoryConfig(inline_chunk_threshold_bytes=3)).save_config()
    assert caught.value.kind == "config-updated"
    assert observed(inner)["inline"] == 5
    assert len(list(inner.list("overwritten"))) == 1


def test_refs_that_move_while_others_expire():
    """What was to be deleted points to something new by then."""
    inner = prepared()
    storage = FaultyStorage(inner)
    repo = Repository.open(storage)
    moved = []
    real = storage._after

    def after(operation, key):
        real(operation, key)
        if operation == "put" and not moved:
            moved.append(commit(Repository.open(inner), "moved", branch="dev"))

    storage._after = after
    expire(repo)
    assert moved
    found = observed(inner)
    assert found["branches"]["dev"][0] == "moved"
    assert found["tags"] == {}


def test_a_creation_that_fails(tmp_path):
    config = RepositoryConfig(inline_chunk_threshold_bytes=3)
    probe = FaultyStorage(icechunk.in_memory_storage())
    Repository.create(probe, config, spec_version=1)
    for fail_at in range(len(probe.effects)):
        for after in (False, True):
            inner = icechunk.in_memory_storage()
            with suppress(StorageError):
                Repository.create(
                    FaultyStorage(inner, fail_at=fail_at, after=after), config, spec_version=1
                )
            again = Repository.open_or_create(inner, config, create_version=1)
            assert again.spec_version == 1
            assert Repository.open(inner).config.inline_chunk_threshold_bytes == 3

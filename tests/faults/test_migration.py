"""Fail at every effect of a migration, and commit between any two of its requests.

At any time the repository opens, as one of version 1 or of version 2, with all that was there; and
another run ends as the first would have.
"""

from dataclasses import replace

import pytest
import zarr

import icechunk
from icechunk import (
    ConflictError,
    ErrorKind,
    Repository,
    RepositoryConfig,
    SessionStateError,
    StorageError,
)
from icechunk.assets.manager import AssetManager
from icechunk.format.ids import INITIAL_SNAPSHOT_ID
from icechunk.format.layout import CONFIG, REPO
from icechunk.format.refs_v1 import decode_ref, encode_ref, ref_key
from icechunk.format.repo_info import decode_repo_info
from icechunk.ops.census_v1 import take_census
from icechunk.ops.migrate import Migration, is_draft
from icechunk.repo.opening import find_spec_version
from icechunk.storage.base import ObjectNotFound, PreconditionFailed
from icechunk.testing import FaultyStorage
from icechunk.testing.wrapper import StorageWrapper
from icechunk.verification import FaultKind

MAIN = ref_key("branch", "main")
NOTED = {FaultKind.UNREFERENCED_OBJECTS, FaultKind.TRANSACTION_LOG_MISSING}


def migration(storage, **options):
    return Migration(AssetManager.fresh(storage, RepositoryConfig(), 1), **options)


def contents(storage):
    return {item.key: storage.get(item.key) for item in storage.list()}


def timeless(state):
    """All of a state but when it was migrated."""
    newest = state.updates[0]
    return replace(state, updates=[replace(newest, updated_at=0), *state.updates[1:]])


def stored(storage):
    return decode_repo_info(storage.get(REPO))


@pytest.fixture(scope="module")
def migrated(old_repository):
    """What there is after a migration that nothing has disturbed."""
    storage = old_repository()
    migration(storage).run()
    return contents(storage)


def check_opens(storage, before, seen):
    """All refs are there, in one version or the other; nothing is damaged."""
    shape = tuple(contents(storage)), REPO in contents(storage) and is_draft(stored(storage))
    if shape in seen:
        return
    seen.add(shape)
    pointers = before.pointers("branch"), before.pointers("tag")
    if find_spec_version(storage) == 1:
        census = take_census(storage)
        assert (census.pointers("branch"), census.pointers("tag")) == pointers
        assert census.deleted_tags == before.deleted_tags
    else:
        state = stored(storage)
        assert (state.branches, state.tags) == pointers
        assert state.deleted_tags == tuple(sorted(before.deleted_tags))
        repo = Repository.open(storage)
        assert repo.config.inline_chunk_threshold_bytes == 7
        for name in repo.list_branches():
            history = list(repo.ancestry(branch=name))
            assert history[-1].message == "Repository initialized"
            store = repo.readonly_session(branch=name).store
            assert dict(zarr.open_group(store, mode="r").members(max_depth=None))
    report = Repository.verify_storage(storage, read_chunks=True)
    assert {fault.kind for fault in report.faults} <= NOTED, report


@pytest.mark.slow
@pytest.mark.parametrize("delete", [True, False], ids=["delete", "keep"])
@pytest.mark.parametrize(
    ("after", "sticky"),
    [(False, True), (True, True), (True, False)],
    ids=["before", "after", "once after"],
)
def test_a_failing_migration_can_be_run_again(old_repository, migrated, after, sticky, delete):
    before = take_census(old_repository())
    storage = FaultyStorage(old_repository())
    migration(storage, delete_files=delete).run()
    effects, versions, seen = len(storage.effects), set(), set()
    for fail_at in range(effects):
        inner = old_repository()
        storage = FaultyStorage(inner, fail_at=fail_at, after=after, sticky=sticky)
        try:
            migration(storage, delete_files=delete).run()
            failed = False
        except StorageError:
            failed = True
        check_opens(inner, before, seen)
        versions.add(find_spec_version(inner))
        if failed:
            if find_spec_version(inner) == 1 or is_draft(stored(inner)):
                migration(inner, delete_files=delete).run()
            elif delete and contents(inner).keys() != migrated.keys():
                migration(inner).run()
        check_opens(inner, before, seen)
        assert not is_draft(stored(inner))
        assert timeless(stored(inner)) == timeless(decode_repo_info(migrated[REPO]))
        with pytest.raises(SessionStateError, match="nothing to upgrade"):
            migration(inner, delete_files=delete).run()
        found = contents(inner)
        kept = contents(old_repository()) if not delete else {}
        assert found.keys() == migrated.keys() | kept.keys()
        assert {key: found[key] for key in kept} == kept
    assert versions == {1, 2}
    assert effects == (13 if delete else 3)


class Meddling(StorageWrapper):
    """Have somebody else do something before the k-th request; `outcome` is what became of it."""

    def __init__(self, inner, at, meddle):
        super().__init__(inner)
        self.at = at
        self.meddle = meddle
        self.requests = 0
        self.outcome = None

    def _before(self, operation, key):
        if self.requests == self.at:
            self.outcome = self.meddle(self.inner)
        self.requests += 1


def commit(storage):
    """Move main like somebody who knows version 1 alone; the new snapshot is one that there is."""
    try:
        data, version = storage.get_versioned(MAIN)
        decode_ref(data, MAIN)
        storage.put_if(MAIN, encode_ref(INITIAL_SNAPSHOT_ID), version)
    except (icechunk.FormatError, ObjectNotFound, PreconditionFailed):
        return False
    return True


def late_commit():
    """Do it in two steps, the migration going on between them."""
    seen = []

    def meddle(storage):
        if not seen:
            seen.append(storage.get_versioned(MAIN))
            return None
        try:
            storage.put_if(MAIN, encode_ref(INITIAL_SNAPSHOT_ID), seen[0][1])
        except PreconditionFailed:
            return False
        return True

    return meddle


@pytest.mark.parametrize("delete", [True, False], ids=["delete", "keep"])
def test_a_commit_is_found_or_does_not_take_effect(old_repository, delete):
    at, outcomes = 0, set()
    while True:
        inner = old_repository()
        storage = Meddling(inner, at, commit)
        try:
            migration(storage, delete_files=delete).run()
            refused = False
        except ConflictError:
            refused = True
            assert find_spec_version(inner) == 1
            assert take_census(inner).pointers("branch")["main"] == INITIAL_SNAPSHOT_ID
        if storage.outcome is None:
            break
        outcomes.add((storage.outcome, refused))
        is_in_version_2 = not refused and stored(inner).branches["main"] == INITIAL_SNAPSHOT_ID
        if delete:
            assert storage.outcome == (refused or is_in_version_2), at
        at += 1
    if delete:
        assert outcomes == {(True, True), (True, False), (False, False)}
    else:  # who goes on with version 1 when version 2 is complete has a repository of his own
        assert outcomes == {(True, True), (True, False)}


def test_a_commit_begun_before_and_ended_after(old_repository):
    """Whoever has read the branch before it was retired cannot move it afterwards."""
    inner = old_repository()
    meddle = late_commit()
    meddle(inner)
    at = 0
    while True:
        storage = Meddling(inner, at, meddle)
        try:
            migration(storage).run()
        except ConflictError:
            pass
        else:
            moved = stored(inner).branches["main"] == INITIAL_SNAPSHOT_ID
            if storage.outcome is None:
                break
            assert moved == storage.outcome
        inner, at = old_repository(), at + 1
        meddle = late_commit()
        meddle(inner)


def new_branch(storage):
    storage.put(ref_key("branch", "new"), encode_ref(INITIAL_SNAPSHOT_ID))


def new_tag(storage):
    storage.put(ref_key("tag", "new"), encode_ref(INITIAL_SNAPSHOT_ID))


def no_tag(storage):
    storage.put("refs/tag.v1/ref.json.deleted", b"")


def no_branch(storage):
    storage.delete([ref_key("branch", "side")])


def other_config(storage):
    storage.put(CONFIG, b"inline_chunk_threshold_bytes: 3\n")


@pytest.mark.parametrize("delete", [True, False], ids=["delete", "keep"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (new_branch, "branch `new`"),
        (new_tag, "tag `new`"),
        (no_tag, "tag `v1`"),
        (no_branch, "branch `side`"),
        (other_config, CONFIG),
    ],
)
def test_other_changes_are_found(old_repository, change, said, delete):
    inner = old_repository()
    change(inner)
    changed = contents(inner)

    class Once(StorageWrapper):
        def _before(self, operation, key):
            if (operation, key) == ("put_if", REPO) and not self.inner.exists(REPO):
                change(self.inner)

    inner = old_repository()
    with pytest.raises(ConflictError, match=said) as caught:
        migration(Once(inner), delete_files=delete).run()
    assert caught.value.kind == ErrorKind.REPO_INFO_UPDATED
    assert contents(inner) == changed
    migration(inner).run()
    assert find_spec_version(inner) == 2


def test_two_migrations_at_once(old_repository, migrated):
    """One of them wins, or they stop each other and leave what there was."""
    at, won = 0, set()
    while True:
        inner = old_repository()

        def other(storage):
            try:
                migration(storage).run()
            except (ConflictError, SessionStateError):
                return False
            return True

        storage = Meddling(inner, at, other)
        try:
            migration(storage).run()
            ours = True
        except (ConflictError, SessionStateError):
            ours = False
        if storage.outcome is None:
            break
        won.add((ours, storage.outcome))
        assert ours or storage.outcome
        assert timeless(stored(inner)) == timeless(decode_repo_info(migrated[REPO]))
        at += 1
    assert (False, True) in won
    assert contents(inner).keys() == migrated.keys()

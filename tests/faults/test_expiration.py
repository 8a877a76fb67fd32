"""Fail at every effect of an expiration, before and after it lands: old state or new, no third."""

import itertools
from datetime import UTC, datetime

import pytest
import zarr

import icechunk
from icechunk import Repository, StorageError
from icechunk.format.ids import decode_id
from icechunk.format.layout import transaction_key
from icechunk.format.repo_info import decode_repo_info
from icechunk.ops.expiration import Rule, find_expired, state_after
from icechunk.testing import FaultyStorage

FUTURE = datetime(2200, 1, 1, tzinfo=UTC)
FLAGS = [{}, {"delete_expired_branches": True, "delete_expired_tags": True}]


def prepare(storage):
    """Make main with four commits, a branch that leaves it at the second, tags at the others."""
    repo = Repository.create(storage)
    session = repo.writable_session("main")
    zarr.create_array(session.store, name="x", shape=(5,), chunks=(1,), dtype="i8", fill_value=-1)
    ids = [session.commit("start")]
    for row in range(1, 4):
        session = repo.writable_session("main")
        zarr.open_array(session.store, path="x")[row] = row
        ids.append(session.commit(f"row {row}"))
        if row == 1:
            repo.create_branch("side", ids[1])
    session = repo.writable_session("side")
    zarr.open_array(session.store, path="x")[4] = 40
    session.commit("aside")
    repo.create_tag("t", ids[2])


def shape(storage):
    """All of the stored state but the log."""
    info = decode_repo_info(storage.get("repo"))
    return (list(info.snapshots), dict(info.branches), dict(info.tags), info.deleted_tags)


def check_readable(storage):
    """Every ref resolves, all its history is known, its data and the logs on the way are there."""
    repo = Repository.open(storage)
    refs = [{"branch": name} for name in repo.list_branches()]
    refs += [{"tag": name} for name in repo.list_tags()]
    found = {}
    for ref in refs:
        history = list(repo.ancestry(**ref))
        assert history[-1].message == "Repository initialized"
        for entry in history:
            session = repo.readonly_session(snapshot_id=entry.id)
            if entry.parent_id is not None:
                values = zarr.open_array(session.store, path="x", mode="r")[:].tolist()
                found[entry.message] = values
                assert storage.exists(transaction_key(decode_id(entry.id)))
        repo.diff(
            from_snapshot_id=history[-1].id, **{f"to_{what}": name for what, name in ref.items()}
        )
    return found


@pytest.fixture(scope="module")
def template():
    """A prepared repository, to be copied."""
    storage = icechunk.in_memory_storage()
    prepare(storage)
    return storage


@pytest.fixture(params=["memory", "local"])
def copies(request, tmp_path, template):
    """Function copying the template into one storage after the other."""
    numbers = itertools.count()

    def copy():
        if request.param == "memory":
            storage = icechunk.in_memory_storage()
        else:
            storage = icechunk.local_filesystem_storage(str(tmp_path / str(next(numbers))))
        for found in template.list(""):
            storage.put(found.key, template.get(found.key))
        return storage

    return copy


class Case:
    """One expiration on a storage that fails at one effect."""

    def __init__(self, storage, flags, fail_at, *, after, sticky):
        self.inner = storage
        self.old = shape(storage)
        self.storage = FaultyStorage(storage, sticky=sticky, after=after)
        repo = Repository.open(self.storage)
        self.new = expected(repo, flags)
        self.storage.effects.clear()
        self.storage.fail_at = fail_at
        try:
            repo.expire_snapshots(FUTURE, **flags)
            self.failed = False
        except StorageError:
            self.failed = True


@pytest.mark.slow
@pytest.mark.parametrize("flags", FLAGS, ids=["keep refs", "delete refs"])
@pytest.mark.parametrize("sticky", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_failing_expiration_leaves_old_or_new(copies, flags, after, sticky):
    data = check_readable(copies())
    effects = len(Case(copies(), flags, None, after=after, sticky=sticky).storage.effects)
    assert effects >= 3
    outcomes = set()
    for fail_at in range(effects):
        case = Case(copies(), flags, fail_at, after=after, sticky=sticky)
        assert shape(case.inner) in (case.old, case.new)
        outcomes.add(shape(case.inner) == case.new)
        assert case.failed or shape(case.inner) == case.new
        assert check_readable(case.inner).items() <= data.items()
        again = Repository.open(case.inner)
        again.expire_snapshots(FUTURE, **flags)  # somebody tries again, and once more
        assert again.expire_snapshots(FUTURE, **flags) == set()
        assert shape(case.inner) == case.new
        assert check_readable(case.inner).items() <= data.items()
    assert outcomes == ({False, True} if after else {False})


def expected(repo, flags):
    """The shape that is to come, by the pure function."""
    before = repo._context.info()
    info = state_after(before, find_expired(before, Rule(2**62, **flags)))
    return (list(info.snapshots), dict(info.branches), dict(info.tags), info.deleted_tags)

"""`Repository.expire_snapshots`, its plans, and what still works over an expired stretch."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
import zarr

import icechunk
from icechunk import (
    ConflictDetector,
    ExpirationPlan,
    InvalidInputError,
    ReadOnlyError,
    RebaseFailedError,
    RefNotFoundError,
    RepoAvailability,
    Repository,
    RepoStatus,
    SnapshotNotFoundError,
)
from icechunk.format.ids import encode_id
from icechunk.format.repo_info import decode_repo_info

FUTURE = datetime(2200, 1, 1, tzinfo=UTC)
BOTH = {"delete_expired_branches": True, "delete_expired_tags": True}


def write(session, row, value):
    zarr.open_array(session.store, path="x")[row] = value


def commit(repo, row, branch="main"):
    session = repo.writable_session(branch)
    write(session, row, row)
    return session.commit(f"row {row}")


def messages(repo, **selector):
    return [info.message for info in repo.ancestry(**(selector or {"branch": "main"}))]


def time_of(repo, snapshot):
    return repo.lookup_snapshot(snapshot).written_at


def log_of(repo):
    return [type(update.kind).__name__.strip("_") for update in repo.ops_log()]


def values(repo, **selector):
    session = repo.readonly_session(**(selector or {"branch": "main"}))
    return zarr.open_array(session.store, path="x", mode="r")[:].tolist()


@pytest.fixture
def storage(request, tmp_path):
    """In memory, unless a test asks for a local disk."""
    if getattr(request, "param", "memory") == "memory":
        return icechunk.in_memory_storage()
    return icechunk.local_filesystem_storage(str(tmp_path / "repo"))


@pytest.fixture
def commits(repo):
    """Ids of: start, and six commits that each write a row of x; a tag at 2, a branch at 3."""
    session = repo.writable_session("main")
    zarr.create_array(session.store, name="x", shape=(8,), chunks=(1,), dtype="i8", fill_value=-1)
    ids = [session.commit("start")]
    ids += [commit(repo, row) for row in range(1, 7)]
    repo.create_tag("t", ids[2])
    repo.create_branch("side", ids[3])
    return ids


def test_histories_end_earlier(repo, commits):
    before = values(repo)
    assert repo.expire_snapshots(time_of(repo, commits[5])) == {commits[at] for at in (0, 1, 4)}
    assert messages(repo) == ["row 6", "row 5", "Repository initialized"]
    assert messages(repo, tag="t") == ["row 2", "Repository initialized"]
    assert messages(repo, branch="side") == ["row 3", "row 2", "Repository initialized"]
    assert values(repo) == before
    assert values(repo, tag="t") == [-1, 1, 2, *[-1] * 5]
    assert log_of(repo)[0] == "ExpirationRan"
    with pytest.raises(SnapshotNotFoundError):
        repo.readonly_session(snapshot_id=commits[4])


def test_refs_are_deleted_if_wanted(repo, commits):
    repo.expire_snapshots(time_of(repo, commits[5]), **BOTH)
    assert (repo.list_branches(), repo.list_tags()) == ({"main"}, set())
    with pytest.raises(icechunk.AlreadyExistsError) as caught:
        repo.create_tag("t", commits[6])
    assert caught.value.kind == "tag-previously-deleted"
    with pytest.raises(RefNotFoundError):
        repo.lookup_branch("side")
    assert log_of(repo)[:2] == ["ExpirationRan", "BranchCreated"]


def test_everything_has_expired(repo, commits):
    assert repo.expire_snapshots(FUTURE, **BOTH) == set(commits[:6])
    assert messages(repo) == ["row 6", "Repository initialized"]
    commit(repo, 7)
    assert values(repo) == [-1, *range(1, 8)]


def test_nothing_has_expired_and_it_is_logged(repo, storage, commits):
    before = decode_repo_info(storage.get("repo"))
    for _ in range(2):
        assert repo.expire_snapshots(time_of(repo, commits[0]), **BOTH) == set()
    after = decode_repo_info(storage.get("repo"))
    assert after.snapshots == before.snapshots
    assert (after.branches, after.tags) == (before.branches, before.tags)
    assert log_of(repo)[:3] == ["ExpirationRan", "ExpirationRan", "BranchCreated"]


def test_time_zones(repo, commits):
    when = time_of(repo, commits[3]).astimezone(timezone(timedelta(hours=-7)))
    assert repo.expire_snapshots(when) == {commits[0], commits[1]}


@pytest.mark.parametrize("when", [datetime(2100, 1, 1), "2100-01-01", 5, None])
def test_times_have_zones(repo, when):
    for method in (repo.expire_snapshots, repo.plan_expiration):
        with pytest.raises(TypeError, match="datetime"):
            method(when)
    assert log_of(repo) == ["RepoInitialized"]


def test_a_closed_repository(repo, commits):
    repo.set_status(RepoStatus(RepoAvailability.read_only))
    plan = repo.plan_expiration(FUTURE)
    for attempt in (lambda: repo.expire_snapshots(FUTURE), lambda: repo.run_expiration(plan)):
        with pytest.raises(ReadOnlyError) as caught:
            attempt()
        assert caught.value.kind == "read-only-repository"
    assert len(messages(repo)) == 8


def test_a_storage_that_is_only_read(repo, storage, commits):
    reader = Repository.open(storage)
    reader.storage.can_write = False
    storage.can_write = False
    plan = reader.plan_expiration(FUTURE)
    for attempt in (lambda: reader.expire_snapshots(FUTURE), lambda: reader.run_expiration(plan)):
        with pytest.raises(ReadOnlyError) as caught:
            attempt()
        assert caught.value.kind == "read-only-storage"


def test_coroutines(repo, commits):
    plan = asyncio.run(repo.plan_expiration_async(FUTURE))
    assert asyncio.run(repo.run_expiration_async(plan)) == {s.id for s in plan.released}
    assert asyncio.run(repo.expire_snapshots_async(FUTURE)) == set()


@pytest.mark.parametrize("flags", [{}, BOTH], ids=["keep refs", "delete refs"])
def test_nothing_is_wrong_with_what_is_left(repo, commits, flags):
    for older_than in (time_of(repo, commits[5]), FUTURE):
        assert repo.expire_snapshots(older_than, **flags)
        report = repo.verify(decode_chunks=True)
        assert report.is_clean, report


class TestPlans:
    def test_a_plan_changes_nothing(self, repo, storage, commits):
        before = storage.get("repo")
        plan = repo.plan_expiration(time_of(repo, commits[5]), **BOTH)
        assert storage.get("repo") == before
        assert {item.id for item in plan.released} == set(commits[:5])
        assert plan.branches == {"side": commits[3]}
        assert plan.tags == {"t": commits[2]}
        assert [item.id for item in plan.reparented] == [commits[5]]
        assert list(plan.reparented[0].inherited_logs) == commits[:5]

    def test_what_was_named_since_stays(self, repo, commits):
        plan = repo.plan_expiration(FUTURE, **BOTH)
        repo.create_tag("late", commits[1])
        repo.reset_branch("side", commits[4])
        assert repo.run_expiration(plan) == {commits[at] for at in (0, 2, 3, 5)}
        assert repo.list_branches() == {"main", "side"}
        assert repo.list_tags() == {"late"}
        assert values(repo, tag="late") == [-1, 1, *[-1] * 6]

    def test_what_was_left_since_stays(self, repo, commits):
        """A plan made while a branch kept its tip does not release it once the branch is gone."""
        plan = repo.plan_expiration(FUTURE)
        repo.delete_branch("side")
        assert commits[3] not in repo.run_expiration(plan)
        assert commits[3] in repo.expire_snapshots(FUTURE)

    def test_later_commits_stay(self, repo, commits):
        plan = ExpirationPlan.from_json(repo.plan_expiration(FUTURE).to_json())
        later = commit(repo, 7)
        assert repo.run_expiration(plan) == {commits[at] for at in (0, 1, 4, 5)}
        assert messages(repo)[:2] == ["row 7", "row 6"]
        assert repo.lookup_branch("main") == later

    def test_run_twice(self, repo, commits):
        plan = repo.plan_expiration(FUTURE)
        assert repo.run_expiration(plan)
        assert repo.run_expiration(plan) == set()

    def test_something_else_is_no_plan(self, repo):
        with pytest.raises(TypeError, match="ExpirationPlan"):
            repo.run_expiration(FUTURE)


class TestExpiredStretches:
    @pytest.fixture
    def shortened(self, repo, commits):
        """Everything between the root and row 5 is gone from main."""
        repo.expire_snapshots(time_of(repo, commits[5]))
        return commits

    def test_difference(self, repo, commits):
        root = list(repo.ancestry(branch="main"))[-1].id
        before = repo.diff(from_snapshot_id=root, to_branch="main")
        repo.expire_snapshots(time_of(repo, commits[5]))
        assert repo.diff(from_snapshot_id=root, to_branch="main") == before
        assert before.updated_chunks["/x"] == [[row] for row in range(1, 7)]

    def test_difference_from_what_is_no_ancestor_any_more(self, repo, shortened):
        with pytest.raises(InvalidInputError) as caught:
            repo.diff(from_tag="t", to_branch="main")
        assert caught.value.kind == "bad-snapshot-chain-for-diff"

    def test_transaction_log(self, repo, shortened):
        found = repo.inspect_transaction_log(shortened[5])
        assert found["synthetic_composite"]["merged_pruned_ancestor_tx_logs"] == shortened[:5]

    def test_expired_twice(self, repo, shortened):
        repo.expire_snapshots(time_of(repo, shortened[6]))
        assert messages(repo) == ["row 6", "Repository initialized"]
        root = list(repo.ancestry(branch="main"))[-1].id
        assert repo.diff(from_snapshot_id=root, to_branch="main").updated_chunks["/x"] == [
            [row] for row in range(1, 7)
        ]

    @pytest.mark.parametrize("at", [0, 2, 3], ids=["released", "tagged", "at a branch"])
    def test_rebase_of_a_session_from_there(self, repo, storage, commits, at):
        """Its base is not an ancestor any more; what was committed since is found all the same."""
        clean, clashing = (self.session_at(repo, commits[at]) for _ in range(2))
        write(clean, 7, 70)
        write(clashing, 4, 40)
        repo.expire_snapshots(time_of(repo, commits[5]))
        with pytest.raises(RebaseFailedError) as caught:
            clashing.rebase(ConflictDetector())
        assert [(c.path, c.conflicted_chunks) for c in caught.value.conflicts] == [("/x", [[4]])]
        clean.commit("rebased", rebase_with=ConflictDetector())
        assert values(repo) == [-1, 1, 2, 3, 4, 5, 6, 70]

    @staticmethod
    def session_at(repo, snapshot):
        """Open a session on main as if main had been there."""
        tip = repo.lookup_branch("main")
        repo.reset_branch("main", snapshot)
        session = repo.writable_session("main")
        repo.reset_branch("main", tip)
        return session

    def test_sessions_on_what_was_released_go_on_reading(self, repo, commits):
        session = repo.readonly_session(snapshot_id=commits[1])
        repo.expire_snapshots(FUTURE)
        assert zarr.open_array(session.store, path="x", mode="r")[:2].tolist() == [-1, 1]

    def test_time_travel_and_graph(self, repo, shortened):
        when = time_of(repo, shortened[5])
        assert repo.readonly_session("main", as_of=when).snapshot_id == shortened[5]
        early = repo.readonly_session("main", as_of=when - timedelta(microseconds=1))
        assert messages(repo, snapshot_id=early.snapshot_id) == ["Repository initialized"]
        assert "row 5" in str(repo.ancestry_graph(plain=True))


@pytest.mark.parametrize("storage", ["memory", "local"], indirect=True)
def test_while_others_commit(storage, commits):
    """Nothing that is committed meanwhile is lost, and every round sees what is there."""
    per_writer, writers = 8, 2
    failures = []
    repo = Repository.open(storage)
    for number in range(writers):
        repo.create_branch(f"b{number}", commits[6])

    def write_all(number):
        try:
            own = Repository.open(storage)
            for turn in range(per_writer):
                session = own.writable_session(f"b{number}")
                write(session, turn, 100 * number + turn)
                session.commit(f"{number} {turn}")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=write_all, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    released = set()
    for _ in range(15):
        released |= repo.expire_snapshots(datetime.now(UTC) - timedelta(milliseconds=20))
    for thread in threads:
        thread.join()
    assert not failures
    root = list(repo.ancestry(branch="main"))[-1].id
    for number in range(writers):
        expected = np.arange(8) + 100 * number
        assert values(repo, branch=f"b{number}") == expected.tolist()
        changed = repo.diff(from_snapshot_id=root, to_branch=f"b{number}").updated_chunks["/x"]
        assert changed == [[row] for row in range(8)]
    repo.expire_snapshots(FUTURE)
    info = decode_repo_info(storage.get("repo"))
    kept = {*info.branches.values(), *info.tags.values()}
    assert {entry.id for entry in info.snapshots} - kept == {
        entry.id for entry in info.snapshots if entry.parent_id is None
    }
    assert not released & {encode_id(tip) for tip in kept}

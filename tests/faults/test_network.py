"""Everything that can go wrong between us and a store, at every request of what sessions do.

Servers that are not of this process have theirs in `tests/servers/test_faults.py`.
"""

import asyncio
import itertools
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

import icechunk
from icechunk import IcechunkError, Repository, SessionStateError
from icechunk.storage import WriteOutcomeUnknown
from icechunk.testing.s3_stub import STALL_SECONDS, S3Stub

sys.path.append(str(Path(__file__).parent))  # for the helper beside this file

from wire import (
    EDITS,
    FAULTS,
    NEW,
    OLD,
    PROTOTYPE,
    STALLS,
    attempt_commit,
    check_error,
    config,
    each_request,
    make_old,
    named,
    put,
    stored,
    sweep_commits,
    values,
)

ENOUGH = 14
"""Requests, and more, of a commit that one of them is repeated in."""


@pytest.fixture(scope="module")
def server():
    with S3Stub() as stub:
        for version in (1, 2):
            make_old(storage_in(stub, f"template-{version}"), 3, version)
        yield stub


@pytest.fixture
def place(server):
    """Make repositories like the first one, by number."""
    numbers = itertools.count()

    def fresh(version=2):
        prefix = f"case-{next(numbers)}"
        server.clone(f"template-{version}", prefix)
        return storage_in(server, prefix), prefix

    yield fresh
    server.disarm()
    for key in [key for key in server.objects if key.startswith("case-")]:
        del server.objects[key]


def storage_in(server, prefix):
    return icechunk.s3_storage(
        bucket=server.bucket,
        prefix=prefix,
        region="us-east-1",
        endpoint_url=server.endpoint,
        allow_http=True,
        force_path_style=True,
        access_key_id="a-key",
        secret_access_key="a-secret",
    )


@pytest.mark.slow
@pytest.mark.parametrize("fault", named(FAULTS))
def test_no_commit_is_lost_or_doubled(server, place, fault):
    outcomes = sweep_commits(server, place, fault, 1)
    assert "committed" in outcomes  # at least when the fault comes too late
    if fault.drop or fault.status is not None:
        assert "failed" in outcomes
        assert ("unknown" in outcomes) is fault.before


@pytest.mark.slow
@pytest.mark.parametrize("fault", named([*FAULTS[:3], *FAULTS[7:9], *FAULTS[10:], STALLS[1]]))
def test_no_commit_of_version_1_is_lost_or_doubled(server, place, fault):
    outcomes = sweep_commits(server, partial(place, 1), fault, 1)
    assert "committed" in outcomes
    if fault.drop or fault.status is not None:
        assert "failed" in outcomes


@pytest.mark.slow
@pytest.mark.parametrize("fault", named(f for f in FAULTS if "as if" not in f.name))
def test_one_fault_is_survived_where_requests_are_repeated(server, place, fault):
    outcomes = sweep_commits(server, place, fault, 3)
    if fault.drop or fault.status is not None:
        assert outcomes == {"committed"}
    else:
        assert outcomes <= {"committed", "failed"}


@pytest.mark.slow
@pytest.mark.parametrize("fault", named([FAULTS[0], FAULTS[1], FAULTS[3], FAULTS[5]]))
def test_a_store_that_goes_away_for_good(server, place, fault):
    sweep_commits(server, place, fault, 1, often=True)


@pytest.mark.parametrize("fault", named(STALLS))
def test_a_commit_does_not_wait_for_ever(server, place, fault):
    sweep_commits(server, place, fault, 1)


@pytest.mark.parametrize("fault", named(STALLS))
def test_stalls_are_waited_out_by_default(fault, effort):
    """All at the same time, on servers of their own: a deep run waits as long as a stall can be."""

    def commit(number):
        with S3Stub(stall_seconds=1 if 1 * effort == 1 else STALL_SECONDS) as stub:
            place = storage_in(stub, "case"), "case"
            make_old(place[0], None)
            outcome = attempt_commit(
                stub, lambda: place, fault, None, lambda: stub.arm(fault, number)
            )
            return outcome, number < len(stub.requests)

    with ThreadPoolExecutor(ENOUGH) as pool:
        outcomes, stalled = zip(*pool.map(commit, range(ENOUGH)), strict=True)
    assert set(outcomes) == {"committed"}
    assert stalled[0]
    assert not stalled[-1]  # no request of a commit was left out


@pytest.mark.parametrize("fault", named([*FAULTS[:2], FAULTS[3], *FAULTS[8:11]]))
def test_an_upgrade_can_be_run_again(server, place, fault):
    history = ["old", "Repository initialized"]
    outcomes = set()
    for _, arm in each_request(server, fault):
        storage, _ = place(1)
        repo = Repository.open(storage, config(1))
        arm()
        try:
            icechunk.upgrade_icechunk_repository(repo, dry_run=False)
            outcomes.add("upgraded")
        except IcechunkError:
            outcomes.add("failed")
        requests = len(server.requests)
        server.heal()
        assert stored(storage) == (history, OLD)
        with suppress(SessionStateError):  # of one that was upgraded after all
            icechunk.upgrade_icechunk_repository(Repository.open(storage), dry_run=False)
        assert stored(storage) == (history, OLD)
        whole = Repository.open(storage)
        assert whole.status.availability == icechunk.RepoAvailability.online
        keys = {item.key for item in storage.list()}
        assert not any(key.startswith(("refs/", "config")) for key in keys)
        assert "repo" in keys
        del server.requests[requests:]
    assert "upgraded" in outcomes
    assert "failed" in outcomes


@pytest.mark.parametrize("fault", named([*FAULTS, STALLS[1]]))
@pytest.mark.parametrize("tries", [1, 3])
def test_nothing_wrong_is_read(server, place, fault, tries):
    storage, prefix = place()
    for _, arm in each_request(server, fault):
        arm()
        try:
            repo = Repository.open(storage, config(tries, fault))
            store = repo.readonly_session("main").store
            assert values(store) == OLD
            for key, data in OLD.items():
                assert asyncio.run(store.get(key, PROTOTYPE)).to_bytes() == data
        except IcechunkError as error:
            check_error(error, prefix, fault)
            requests = len(server.requests)
            server.heal()
            assert stored(storage) == (["old", "Repository initialized"], OLD)
            del server.requests[requests:]


ALIKE = ("429", "503 with Retry-After", "500 after")
"""Refusals that a client which repeats no request takes for the other ones."""


@pytest.mark.slow
@pytest.mark.parametrize("fault", named([f for f in FAULTS if f.name not in ALIKE]))
def test_forks_come_back_whole_or_not_at_all(server, place, fault):
    for _, arm in each_request(server, fault):
        storage, prefix = place()
        session = Repository.open(storage, config(1)).writable_session("main")
        put(session.store, "b/zarr.json", EDITS["b/zarr.json"])
        arm()
        steps, doubtful = 0, []
        fork = back = None
        for _ in range(2):  # as a user would: what failed is tried again, with the store well
            try:
                if fork is None:
                    fork = session.fork()
                    back = pickle.loads(pickle.dumps(fork))
                    steps = 1
                if steps == 1:
                    for key, data in EDITS.items():
                        put(back.store, key, data)
                    steps = 2
                if steps == 2:
                    session.merge(pickle.loads(pickle.dumps(back)))
                    steps = 3
                session.commit("new")
                break
            except IcechunkError as error:
                check_error(error, prefix, fault)
                requests = len(server.requests)
                server.heal()
                history, found = stored(storage)
                assert found == (NEW if history[0] == "new" else OLD)
                if history[0] == "new":
                    doubtful.append(error)
                    break
        else:
            raise AssertionError("a second try failed on a store that is well")
        assert all(isinstance(error, WriteOutcomeUnknown) for error in doubtful)
        requests = len(server.requests)
        server.heal()
        assert stored(storage) == (["new", "old", "Repository initialized"], NEW)
        del server.requests[requests:]

"""Faults on the way to real servers: what they answer to a request that comes a second time.

`tests/faults/test_network.py` has all faults at all requests, on a server of our own making. Here
are the requests of a commit whose answers are lost, and more at the one that exchanges `repo`:
there each provider has conditions, refusals and versions of its own.
"""

import itertools
import sys
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from icechunk import Repository

sys.path += [str(Path(__file__).parent), str(Path(__file__).parent.parent / "faults")]

from faulty_proxy import FaultyProxy
from wire import EDITS, FAULTS, attempt_commit, config, make_old, named, put, sweep_commits

LOST = next(fault for fault in FAULTS if fault.name == "reset after")


@pytest.fixture(scope="module", params=["s3_server", "azure_server", "gcs_server"])
def server(request):
    """A real server that is reached without faults."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def proxy(server):
    with FaultyProxy(server.endpoint) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def template(server):
    """All objects of a repository, by key."""
    storage = server.storage()
    make_old(storage, 3)
    return {info.key: storage.get(info.key) for info in storage.list()}


@pytest.fixture
def place(server, proxy, template):
    """Make repositories like the first one, by number, that are reached through the proxy."""
    run, numbers = uuid.uuid4().hex, itertools.count()
    reached = replace(server, endpoint=proxy.address)

    def fresh():
        prefix = f"case-{run}-{next(numbers)}"
        direct = server.storage(prefix)
        for key, data in template.items():
            direct.put(key, data)
        return reached.storage(prefix), prefix

    yield fresh
    proxy.disarm()


@pytest.mark.slow
@pytest.mark.parametrize("tries", [1, 3])
def test_lost_answers(proxy, place, tries):
    outcomes = sweep_commits(proxy, place, LOST, tries)
    assert outcomes == ({"committed"} if tries == 3 else {"committed", "failed"})


@pytest.fixture
def exchange(proxy, place):
    """Number of the request that exchanges `repo`, of those of a commit."""
    storage, prefix = place()
    session = Repository.open(storage, config(1)).writable_session("main")
    for key, data in EDITS.items():
        put(session.store, key, data)
    proxy.disarm()
    session.commit("new")
    (number,) = (
        number
        for number, (verb, key) in enumerate(proxy.requests)
        if verb == "PUT" and key.endswith(f"{prefix}/repo")
    )
    return number


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", named(f for f in FAULTS if f.drop or f.status is not None or f.etag is not None)
)
def test_faults_at_the_exchange(proxy, place, exchange, fault):
    outcome = attempt_commit(proxy, place, fault, 1, lambda: proxy.arm(fault, exchange))
    assert outcome in (("failed", "unknown") if fault.before else ("committed",))

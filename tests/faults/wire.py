"""What goes wrong on the wire, and commits that it happens to, whatever the server behind it.

Whatever happens to a request: nothing wrong is read, no commit is lost or made twice, the error
names the object, and trying again gets there.
"""

import asyncio
import json

import pytest
from zarr.core.buffer import cpu, default_buffer_prototype

import icechunk
from icechunk import IcechunkError, Repository, RepositoryConfig, StorageSettings
from icechunk.config import StorageRetriesSettings, StorageTimeoutSettings
from icechunk.storage import WriteOutcomeUnknown
from icechunk.testing.s3_stub import Fault

PROTOTYPE = default_buffer_prototype()
MOST_REQUESTS = 60
"""More than anything here makes: a test that gets there does not end by itself."""

FAULTS = [
    Fault("reset before", before=True, drop=True),
    Fault("reset after", drop=True),
    Fault("503 before", before=True, status=503),
    Fault("503 after", status=503),
    Fault("500 after", status=500),
    Fault("429", before=True, status=429),
    Fault("503 with Retry-After", before=True, status=503, headers={"Retry-After": "0"}),
    Fault("half a body", keep=0.5),
    Fault("half a body as if whole", shorten=0.5),
    Fault("nothing as if whole", shorten=0.0),
    Fault("wrong entity tag", etag="0123456789abcdef0123456789abcdef"),
    Fault("an hour ahead", ahead_seconds=3600),
]
STALLS = [Fault("stall before", before=True, stall=True), Fault("stall after", stall=True)]


FOLDERS = ("refs/", "snapshots/", "manifests/", "chunks/")


PATIENCE_MS = 10_000
"""Of clients whose requests are not held up: a busy machine must not look like a stall."""
IMPATIENCE_MS = 250


def settings(tries, patience_ms):
    return StorageSettings(
        retries=StorageRetriesSettings(max_tries=tries, initial_backoff_ms=1, max_backoff_ms=2),
        timeouts=StorageTimeoutSettings(
            connect_timeout_ms=10_000,
            read_timeout_ms=patience_ms,
            operation_timeout_ms=20_000,
            operation_attempt_timeout_ms=patience_ms,
        ),
    )


def document(n):
    grid = {"name": "regular", "configuration": {"chunk_shape": [1]}}
    return json.dumps({"node_type": "array", "shape": [n], "chunk_grid": grid}).encode()


def put(store, key, data):
    asyncio.run(store.set(key, cpu.Buffer.from_bytes(data)))


OLD = {"a/zarr.json": document(4)} | {f"a/c/{i}": f"old value {i}".encode() * 9 for i in range(4)}
EDITS = {f"a/c/{i}": f"new value {i}".encode() * 8 for i in (1, 3)} | {"b/zarr.json": document(2)}
EDITS |= {"b/c/0": b"in a new array" * 9}
NEW = OLD | EDITS


def config(tries, fault=None):
    """Make a configuration; without a number of tries, one that waits as long as by default."""
    if tries is None:
        return RepositoryConfig(inline_chunk_threshold_bytes=16)
    patience_ms = IMPATIENCE_MS if fault is not None and fault.stall else PATIENCE_MS
    return RepositoryConfig(inline_chunk_threshold_bytes=16, storage=settings(tries, patience_ms))


def make_old(storage, tries, spec_version=2):
    """Make the repository that everything here happens to, with the configuration it keeps."""
    repo = Repository.create(storage, config(tries), spec_version=spec_version)
    session = repo.writable_session("main")
    for key, data in OLD.items():
        put(session.store, key, data)
    session.commit("old")


def values(store):
    keys = list(store.list())
    found = asyncio.run(store.get_partial_values(PROTOTYPE, [(key, None) for key in keys]))
    return {key: value.to_bytes() for key, value in zip(keys, found, strict=True)}


def stored(storage):
    """Look as somebody else does, while all is well: messages of the branch, and all values."""
    repo = Repository.open(storage, config(1))
    history = [entry.message for entry in repo.ancestry(branch="main")]
    return history, values(repo.readonly_session("main").store)


def check_error(error, prefix, fault):
    """An error says what it was about and is none of Python's or of a library."""
    text = str(error)
    if fault.shorten is None:
        assert prefix in text or "snapshots/" in text, text
    else:
        assert any(name in text for name in (*FOLDERS, "repo", prefix))
    if isinstance(error, icechunk.StorageError) and fault.shorten is None:
        assert "try again" in text or "before trying again" in text, text
    assert "a-secret" not in text
    if "ahead" in fault.name:
        assert "set the clock" in text
    if isinstance(error, WriteOutcomeUnknown):
        assert any(part in text for part in ("look at the branch", "unknown", "may yet", "may be"))


def each_request(server, fault, *, often=False):
    """Arm a fault at request 0, 1, 2... until there is no such request any more."""
    for number in range(MOST_REQUESTS):
        yield number, lambda number=number: server.arm(fault, number, often=often)
        if len(server.requests) <= number:
            return
        server.disarm()
    raise AssertionError("it never ends")


def named(faults):
    return [pytest.param(fault, id=fault.name) for fault in faults]


def attempt_commit(server, place, fault, tries, arm):
    """Commit to a fresh repository with a fault, look what became of it, and tell."""
    storage, prefix = place()
    session = Repository.open(storage, config(tries, fault)).writable_session("main")
    for key, data in EDITS.items():
        put(session.store, key, data)
    arm()
    try:
        session.commit("new")
        outcome = "committed"
    except WriteOutcomeUnknown as error:
        check_error(error, prefix, fault)
        outcome = "unknown"
    except IcechunkError as error:
        check_error(error, prefix, fault)
        outcome = "failed"
    requests = len(server.requests)
    server.heal()
    history, found = stored(storage)
    if outcome == "committed":
        assert history == ["new", "old", "Repository initialized"]
    elif outcome == "failed":
        assert history == ["old", "Repository initialized"], fault
    assert found == (NEW if history[0] == "new" else OLD)
    if history[0] != "new":  # whoever is not sure looks, as here, and tries again
        session.commit("new")
        assert stored(storage) == (["new", "old", "Repository initialized"], NEW)
    del server.requests[requests:]
    return outcome


def sweep_commits(server, place, fault, tries, *, often=False):
    """Have a fault happen to each request of a commit; return what became of the commits."""
    return {
        attempt_commit(server, place, fault, tries, arm)
        for _, arm in each_request(server, fault, often=often)
    }

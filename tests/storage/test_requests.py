"""What goes over the wire to an object store: how many requests, in which parts, at once."""

import asyncio
import os
import threading

import numpy as np
import pytest
import zarr
from zarr.core.buffer import default_buffer_prototype

import icechunk
from icechunk import Repository, RepositoryConfig, StorageError, StorageSettings
from icechunk.config import StorageConcurrencySettings
from icechunk.testing.s3_stub import S3Stub

MIB = 1024 * 1024


def storage_in(server, prefix="here", **settings):
    storage = icechunk.s3_storage(
        bucket=server.bucket,
        prefix=prefix,
        region="us-east-1",
        endpoint_url=server.endpoint,
        allow_http=True,
        force_path_style=True,
        access_key_id="a-key",
        secret_access_key="a-secret",
    )
    return storage.configured(StorageSettings(**settings)) if settings else storage


@pytest.fixture
def server():
    with S3Stub() as stub:
        yield stub


@pytest.mark.parametrize("how", ["get_range", "get_range_async"])
def test_large_ranges_are_read_in_pieces(server, how):
    concurrency = StorageConcurrencySettings(4, 1000)
    storage = storage_in(server, concurrency=concurrency)
    data = os.urandom(10_000)
    storage.put_new("chunks/a", data)
    server.requests.clear()
    read = getattr(storage, how)("chunks/a", 100, 9_100)
    found = asyncio.run(read) if asyncio.iscoroutine(read) else read
    assert found == data[100:9_100]
    assert len(server.requests) == 4 == storage.requests_for(9_000)
    assert storage.requests_for(1000) == 1


def test_large_objects_are_uploaded_in_parts(server):
    concurrency = StorageConcurrencySettings(3, MIB)
    storage = storage_in(server, concurrency=concurrency, minimum_size_for_multipart_upload=6 * MIB)
    large, small = os.urandom(11 * MIB), os.urandom(5 * MIB)
    storage.put_new("chunks/large", large)
    assert [verb for verb, _ in server.requests] == ["POST", "PUT", "PUT", "PUT", "POST"]
    server.requests.clear()
    asyncio.run(storage.put_new_async("chunks/small", small))
    assert [verb for verb, _ in server.requests] == ["PUT"]
    assert storage.get("chunks/large") == large
    assert storage.get("chunks/small") == small
    assert storage.requests_for(11 * MIB, writing=True) == 3
    assert storage.requests_for(5 * MIB, writing=True) == 1


def test_conditional_writes_are_never_in_parts(server):
    storage = storage_in(server, minimum_size_for_multipart_upload=1)
    version = storage.put_if("repo", b"x" * (6 * MIB), None)
    storage.put_if("repo", b"y" * (6 * MIB), version)
    assert [verb for verb, _ in server.requests] == ["PUT", "PUT"]


def test_the_bound_holds_on_the_wire_and_is_reached(server):
    server.latency_ms = 5
    storage = storage_in(server)
    concurrency = StorageConcurrencySettings(4, 100)  # a chunk is read in four requests
    config = RepositoryConfig(
        inline_chunk_threshold_bytes=0,
        max_concurrent_requests=6,
        storage=StorageSettings(concurrency=concurrency),
    )
    session = Repository.create(storage, config).writable_session("main")
    data = np.arange(4000, dtype="i8")
    array = zarr.create_array(
        session.store, name="a", shape=4000, dtype="i8", chunks=50, compressors=None, fill_value=-1
    )
    server.most_busy = 0
    with zarr.config.set({"async.concurrency": 40}):
        array[:] = data
    assert server.most_busy == 6
    session.commit("data")
    server.most_busy = 0
    found = []

    def read():
        repo = Repository.open(storage)
        store = repo.readonly_session("main").store

        async def gather():
            prototype = default_buffer_prototype()
            return await asyncio.gather(*(store.get(f"a/c/{i}", prototype) for i in range(80)))

        found.append(b"".join(value.to_bytes() for value in asyncio.run(gather())))

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [data.tobytes()] * 3
    assert server.most_busy <= 6 + 3, "each thread may be asking for `repo` besides"


ODD = [
    ({}, {}, "Safe: any"),
    ({"ignore_create": True}, {"create if absent": False, "one winner": False}, "Not safe"),
    ({"ignore_update": True}, {"replace if unchanged": False}, "Not safe"),
    ({"unquoted_only": True}, {"quoted entity tags": False}, "Safe: any"),
    ({"drop_metadata": True}, {"metadata": False}, "Safe: any"),
    ({"no_copies": True}, {"copy": False}, "Safe: any"),
    ({"ahead_seconds": 3600}, {"clock": False}, "Commits are refused"),
    ({"ahead_seconds": 60}, {}, "Safe: any"),
]


@pytest.mark.parametrize(("odd", "findings", "verdict"), ODD)
def test_a_check_finds_what_is_odd_about_a_server(odd, findings, verdict):
    with S3Stub(**odd) as server:
        storage = storage_in(server)
        found = Repository.check_storage(storage)
        assert server.objects == {}
        assert len(server.requests) < 40
        if "unquoted_only" not in odd and not odd.get("ignore_update"):
            assert found["quoted entity tags"].holds
        assert {f.name for f in found.findings if f.holds is False} == set(findings)
        assert found.verdict.startswith(verdict)
        ahead = odd.get("ahead_seconds", 0)
        assert ahead - 5 < found.clock_difference_seconds < ahead + 5
        if "ignore_create" in odd or "ignore_update" in odd:
            with pytest.raises(StorageError, match="would be lost without notice") as caught:
                Repository.create(storage)
            assert caught.value.kind == "storage-config"
            assert "s3" in str(caught.value).lower()
            assert server.objects == {}
        else:
            server.requests.clear()
            Repository.create(storage)
            assert len(server.requests) == 8


def test_the_first_commit_of_a_process_finds_a_careless_server(server):
    repo = Repository.create(storage_in(server, "one"))
    server.clone("one", "two")
    repo = Repository.open(storage_in(server, "two"))
    before = set(server.objects)
    server.ignore_update = True
    with pytest.raises(StorageError, match="ignores If-Match"):
        repo.create_branch("b", repo.lookup_branch("main"))
    assert repo.list_branches() == {"main"}
    assert set(server.objects) == before

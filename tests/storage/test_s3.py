"""The object store backend against a server that speaks S3, on loopback."""

import asyncio
import os
import pickle
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import pytest

from icechunk.config import (
    StorageConcurrencySettings,
    StorageRetriesSettings,
    StorageSettings,
    StorageTimeoutSettings,
)
from icechunk.errors import ErrorKind, StorageError
from icechunk.storage import ObjectNotFound, PreconditionFailed, WriteOutcomeUnknown, s3_storage
from icechunk.testing import StorageContract
from icechunk.testing.storage_contract import increment

if "ICECHUNK_TEST_S3_ENDPOINT" not in os.environ:
    pytest.importorskip(
        "moto.server", reason="OBJECT STORES ARE NOT TESTED: pip install 'moto[server]' to do so"
    )

IMPATIENT = StorageSettings(
    retries=StorageRetriesSettings(max_tries=1, initial_backoff_ms=1, max_backoff_ms=1),
    timeouts=StorageTimeoutSettings(connect_timeout_ms=500, operation_timeout_ms=500),
)


class TestS3(StorageContract):
    threads = 4
    increments = 5

    @pytest.fixture
    def storage(self, s3_server):
        return s3_server.storage()


def test_no_update_is_lost_without_metadata(s3_server):
    storage = s3_server.storage().configured(StorageSettings(unsafe_use_metadata=False))
    storage.put("repo", b"0")
    with ThreadPoolExecutor(3) as pool:
        for run in [pool.submit(increment, storage, "repo", 3) for _ in range(3)]:
            run.result()
    assert storage.get("repo").split()[0] == b"9"


@pytest.mark.parametrize("span", [(0, 11), (9, 11), (10, 12), (50, 60), (5, 2**40)])
def test_split_reads_past_the_end(s3_server, span):
    settings = StorageSettings(concurrency=StorageConcurrencySettings(4, 3))
    storage = s3_server.storage().configured(settings)
    storage.put_new("chunks/A", b"0123456789")

    def wait():
        return asyncio.run(storage.get_range_async("chunks/A", *span))

    for read in (lambda: storage.get_range("chunks/A", *span), wait):
        with pytest.raises(StorageError, match="chunks/A") as caught:
            read()
        assert caught.value.kind == ErrorKind.INVALID_OBJECT_SIZE


def test_multipart_upload(s3_server):
    settings = StorageSettings(
        concurrency=StorageConcurrencySettings(3, 5 * 2**20),
        minimum_size_for_multipart_upload=2**20,
    )
    storage = s3_server.storage().configured(settings)
    data = os.urandom(11 * 2**20)
    storage.put_new("chunks/A", data)
    assert storage.get("chunks/A") == data
    assert storage.get_range("chunks/A", 5, len(data) - 3) == data[5:-3]


def test_large_reads_are_split(s3_server, monkeypatch):
    import obstore

    requests = []
    real = obstore.get_range

    def watching(store, key, *, start, end):
        requests.append(end - start)
        return real(store, key, start=start, end=end)

    monkeypatch.setattr(obstore, "get_range", watching)
    settings = StorageSettings(concurrency=StorageConcurrencySettings(4, 1000))
    storage = s3_server.storage().configured(settings)
    data = os.urandom(10_000)
    storage.put_new("chunks/A", data)
    assert storage.get_range("chunks/A", 0, 2001) == data[:2001]
    assert storage.get_range("chunks/A", 0, 10_000) == data
    assert sorted(requests) == [667, 667, 667, 2500, 2500, 2500, 2500]


def test_the_prefix_contains_everything(s3_server):
    outer = s3_server.storage()
    prefix = outer._target.prefix
    inner = s3_server.storage(prefix=f"{prefix}/inner/")
    inner.put("repo", b"x")
    assert [info.key for info in outer.list()] == ["inner/repo"]
    assert [info.key for info in inner.list()] == ["repo"]
    assert not outer.exists("repo")


def test_empty_prefix(s3_server):
    assert not s3_server.storage().prefix_is_empty
    root = s3_server.storage(prefix="/")
    assert root.prefix_is_empty
    with pytest.raises(ObjectNotFound):
        root.get("repo")


@pytest.mark.parametrize("land_first", [True, False])
@pytest.mark.parametrize("metadata", [True, False])
def test_a_lost_response_is_recovered(s3_server, monkeypatch, land_first, metadata):
    """The write lands, its response is lost: a repetition is refused, or the connection breaks."""
    import obstore

    storage = s3_server.storage().configured(StorageSettings(unsafe_use_metadata=metadata))
    version = storage.put_if("repo", b"first", None)
    real = obstore.put

    def losing(*args, **kwargs):
        real(*args, **kwargs)
        if land_first:
            return real(*args, **kwargs)
        raise obstore.exceptions.GenericError("connection reset")

    monkeypatch.setattr(obstore, "put", losing)
    landed = storage.put_if("repo", b"second", version)
    monkeypatch.undo()
    assert storage.get_versioned("repo") == (b"second", landed)


def test_a_lost_creation_is_recovered(s3_server, monkeypatch):
    import obstore

    real = obstore.put

    def losing(*args, **kwargs):
        real(*args, **kwargs)
        return real(*args, **kwargs)

    monkeypatch.setattr(obstore, "put", losing)
    storage = s3_server.storage()
    assert storage.put_if("repo", b"first", None) == storage.get_versioned("repo")[1]


def test_equal_bytes_of_somebody_else_are_a_lost_race(s3_server):
    storage = s3_server.storage()
    storage.put_if("refs/tag.a/ref.json", b"{}", None)
    with pytest.raises(PreconditionFailed):
        storage.put_if("refs/tag.a/ref.json", b"{}", None)


def test_an_unseen_write_is_reported_as_unknown(s3_server, monkeypatch):
    import obstore

    storage = s3_server.storage()
    version = storage.put_if("repo", b"first", None)

    def broken(*args, **kwargs):
        raise obstore.exceptions.GenericError("connection reset")

    monkeypatch.setattr(obstore, "put", broken)
    with pytest.raises(WriteOutcomeUnknown, match=r"'repo'.*connection reset"):
        storage.put_if("repo", b"second", version)
    monkeypatch.setattr(obstore, "get", broken)
    with pytest.raises(WriteOutcomeUnknown, match="reading it again failed"):
        storage.put_if("repo", b"second", version)


def test_a_broken_write_overtaken_by_another_is_lost(s3_server, monkeypatch):
    import obstore

    storage, other = (s3_server.storage("tests/overtaken") for _ in range(2))
    storage.delete(["repo"])
    version = storage.put_if("repo", b"first", None)
    real = obstore.put

    def overtaken(*args, **kwargs):
        monkeypatch.undo()
        other.put("repo", b"somebody else's")
        raise obstore.exceptions.GenericError("connection reset")

    monkeypatch.setattr(obstore, "put", overtaken)
    with pytest.raises(PreconditionFailed):
        storage.put_if("repo", b"second", version)
    assert obstore.put is real


def test_conditions_can_be_switched_off(s3_server):
    off = StorageSettings(unsafe_use_conditional_create=False, unsafe_use_conditional_update=False)
    storage = s3_server.storage().configured(off)
    first = storage.put_if("repo", b"first", None)
    storage.put_if("repo", b"second", None)
    third = storage.put_if("repo", b"third", first)
    assert storage.get_versioned("repo") == (b"third", third)


def test_missing_bucket_is_not_a_missing_object(s3_server):
    storage = s3_server.storage(bucket="no-such-bucket")
    for attempt in (
        lambda: storage.get("repo"),
        lambda: storage.put_if("repo", b"", None),
        lambda: list(storage.list()),
    ):
        with pytest.raises(StorageError, match=r"no-such-bucket.*bucket does not exist") as caught:
            attempt()
        assert caught.value.kind == ErrorKind.OBJECT_STORE


def test_http_must_be_allowed(s3_server):
    storage = s3_server.storage(allow_http=False).configured(IMPATIENT)
    with pytest.raises(StorageError, match="allow_http=True"):
        storage.get("repo")
    with pytest.raises(StorageError, match="allow_http=True") as caught:
        storage.put_if("repo", b"", None)
    assert not isinstance(caught.value, WriteOutcomeUnknown)


def test_wrong_credentials(s3_server):
    if not s3_server.checks_signatures:
        pytest.skip("this server does not check signatures")
    for changes in (
        {"secret_access_key": "wrong-secret"},
        {"access_key_id": None, "secret_access_key": None, "anonymous": True},
    ):
        storage = s3_server.storage(**changes)
        with pytest.raises(StorageError, match="check the credentials") as caught:
            storage.put_if("repo", b"x", None)
        assert not isinstance(caught.value, WriteOutcomeUnknown)
        assert "wrong-secret" not in str(caught.value)


def test_given_keys_are_not_mixed_with_the_environment(s3_server, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "another-token")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    storage = s3_server.storage()
    version = storage.put_if("repo", b"x", None)
    with pytest.raises(PreconditionFailed):
        storage.put_if("repo", b"x", None)
    storage.put_if("repo", b"y", version)


def test_everything_from_the_environment(s3_server, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    storage = s3_storage(
        bucket=s3_server.bucket,
        prefix="tests/environment",
        from_env=True,
        allow_http=True,
        force_path_style=True,
    )
    storage.put("repo", b"x")
    assert storage.get("repo") == b"x"


def test_headers_and_requester_pays_are_sent(s3_server):
    storage = s3_server.storage(
        headers={"X-Common": "1"}, write_headers={"X-Write": "2"}, requester_pays=True
    )
    storage.put("repo", b"x")
    assert storage.get("repo") == b"x"


@pytest.mark.parametrize("name", ["sha256", "crc64_nvme"])
def test_checksums(s3_server, name):
    storage = s3_server.storage(checksum_algorithm=name)
    storage.put_if("repo", b"x", None)
    assert storage.get("repo") == b"x"


def test_storage_classes_by_kind_of_object(s3_server, monkeypatch):
    import obstore

    seen = {}
    real = obstore.put

    def watching(store, key, data, *, attributes, **kwargs):
        seen[key] = attributes.get("Storage-Class")
        return real(store, key, data, **kwargs)

    monkeypatch.setattr(obstore, "put", watching)
    settings = StorageSettings(
        storage_class="A", metadata_storage_class="B", chunks_storage_class="C"
    )
    storage = s3_server.storage().configured(settings)
    for key in ("chunks/x", "snapshots/x", "manifests/x", "transactions/x", "overwritten/x"):
        storage.put_new(key, b"x")
    storage.put("config.yaml", b"x")
    storage.put_if("repo", b"x", None)
    storage.copy("repo", "overwritten/y")  # uploaded: copies made by the server lose the class
    assert seen.pop("overwritten/y") == "A"
    assert seen == {
        "chunks/x": "C",
        "snapshots/x": "B",
        "manifests/x": "B",
        "transactions/x": "B",
        "overwritten/x": "A",
        "config.yaml": None,
        "repo": "A",
    }


def test_the_server_copies(s3_server, monkeypatch):
    import obstore

    storage = s3_server.storage()
    storage.put("repo", b"x" * 1000)
    with monkeypatch.context() as patch:
        patch.setattr(obstore, "put", None)
        patch.setattr(obstore, "get", None)
        storage.copy("repo", "overwritten/one")
    assert storage.get("overwritten/one") == b"x" * 1000


@pytest.mark.parametrize(
    "answer", ["status code: 501 Not Implemented: x", "status code: 405: x", "<Code>NotImplemented"]
)
def test_servers_that_cannot_copy(s3_server, monkeypatch, answer):
    import obstore
    from obstore.exceptions import GenericError

    def refuse(store, source, target):
        raise GenericError(f"Generic S3 error: Server returned non-2xx {answer}")

    storage = s3_server.storage()
    storage.put("repo", b"x")
    monkeypatch.setattr(obstore, "copy", refuse)
    storage.copy("repo", "overwritten/one")
    assert storage.get("overwritten/one") == b"x"


def test_copies_that_fail_are_not_tried_otherwise(s3_server, monkeypatch):
    import obstore
    from obstore.exceptions import GenericError

    def refuse(store, source, target):
        raise GenericError("Generic S3 error: status code: 503 Slow Down")

    storage = s3_server.storage()
    storage.put("repo", b"x")
    monkeypatch.setattr(obstore, "copy", refuse)
    with pytest.raises(StorageError, match="could not copy object 'repo'") as caught:
        storage.copy("repo", "overwritten/one")
    assert caught.value.kind == "throttled"
    assert not storage.exists("overwritten/one")


@pytest.mark.parametrize("bucket_is_there", [True, False])
def test_servers_that_complain_of_what_is_gone(s3_server, monkeypatch, bucket_is_there):
    """Google's and Azure's delete one by one, in any order, and stop at what is not there."""
    import obstore

    storage = s3_server.storage()
    keys = [f"chunks/{number}" for number in range(5)]
    for key in keys:
        storage.put(key, b"x")
    real = obstore.delete

    def one_by_one(store, paths):
        for path in [paths] if isinstance(paths, str) else paths:
            if not bucket_is_there:
                raise FileNotFoundError("404 Not Found: The specified bucket does not exist")
            if path == "chunks/gone":
                raise FileNotFoundError("Object at location chunks/gone not found: 404 Not Found")
            real(store, path)

    monkeypatch.setattr(obstore, "delete", one_by_one)
    if not bucket_is_there:
        with pytest.raises(StorageError, match="the bucket does not exist"):
            storage.delete(["chunks/gone", *keys])
        return
    storage.delete([keys[0], "chunks/gone", *keys[1:4]])
    assert [info.key for info in storage.list()] == [keys[4]]


def test_pickles_hold_no_client(s3_server):
    storage = s3_server.storage()
    storage.put("repo", b"x")
    assert len(pickle.dumps(storage)) < 2000
    copy = pickle.loads(pickle.dumps(storage))
    assert copy.identity() == storage.identity()
    assert copy.get("repo") == b"x"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_child_connects_anew(s3_server):
    """In a process of its own, since pytest's has threads."""
    arguments = {
        "bucket": s3_server.bucket,
        "prefix": "tests/fork",
        "region": "us-east-1",
        "endpoint_url": s3_server.endpoint,
        "allow_http": True,
        "force_path_style": True,
        "access_key_id": s3_server.key,
        "secret_access_key": s3_server.secret,
    }
    program = f"""
        import os
        from icechunk.storage import s3_storage
        storage = s3_storage(**{arguments!r})

        def child():
            storage.put("repo", b"x")
            return int(storage.get("repo") != b"x")

        def fork():
            pid = os.fork()
            if pid == 0:
                os._exit(child())
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

        print(fork(), child(), fork())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout.split() == ["0", "0", "0"], done.stderr

"""Repositories read through a web server and through redirects; what goes to which host."""

import pickle
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest
import zarr

from icechunk import Attribution, Repository, local_filesystem_storage
from icechunk.config import StorageConcurrencySettings, StorageRetriesSettings, StorageSettings
from icechunk.errors import ErrorKind, ReadOnlyError, StorageError
from icechunk.storage import ObjectNotFound, http_storage, redirect_storage
from icechunk.storage.redirect import RedirectStorage, destination, storage_at

sys.path.append(str(Path(__file__).parent))  # for the helper beside this file

from recording import Answer, running, serving

ONCE = StorageSettings(retries=StorageRetriesSettings(max_tries=1))
SECRET = "very-secret-thing"


class Files(SimpleHTTPRequestHandler):
    """Serves files, and ranges of them."""

    protocol_version = "HTTP/1.1"

    def send_head(self):
        wanted = self.headers.get("range")
        path = Path(self.translate_path(self.path))
        if wanted is None or not path.is_file():
            return super().send_head()
        data = path.read_bytes()
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last) + 1, len(data))
        self.send_response(206)
        self.send_header("content-range", f"bytes {start}-{end - 1}/{len(data)}")
        self.send_header("content-length", str(end - start))
        self.send_header("last-modified", self.date_time_string())
        self.end_headers()
        self.wfile.write(data[start:end])
        return None

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Directory of a repository with an array of a thousand numbers."""
    folder = tmp_path_factory.mktemp("web")
    repo = Repository.create(local_filesystem_storage(str(folder / "a" / "numbers")))
    session = repo.writable_session("main")
    zarr.create_array(session.store, name="x", data=np.arange(1000), chunks=(250,))
    session.commit("numbers")
    return folder


@pytest.fixture
def web(written):
    with running(partial(Files, directory=str(written))) as url:
        yield url


def check(repo):
    array = zarr.open_array(repo.readonly_session("main").store, path="x", mode="r")
    np.testing.assert_array_equal(array[:], np.arange(1000))
    assert next(iter(repo.ancestry(branch="main"))).message == "numbers"


def moved(location, status=302):
    return lambda request: Answer(status, {"location": location})


# Through a web server


@pytest.mark.parametrize("ending", ["", "/"])
def test_a_repository_is_read(web, ending):
    storage = http_storage(f"{web}/a/numbers{ending}")
    check(Repository.open(storage))
    check(pickle.loads(pickle.dumps(Repository.open(storage))))
    assert Repository.exists(storage)
    assert not Repository.exists(http_storage(f"{web}/a"))


def test_large_objects_are_read_in_pieces(web):
    settings = StorageSettings(concurrency=StorageConcurrencySettings(4, 10))
    storage = http_storage(f"{web}/a/numbers").configured(settings)
    whole = storage.get("repo")
    assert storage.get_range("repo", 3, 50) == whole[3:50]
    assert storage.head("repo").size == len(whole)


def test_nothing_is_written(web, written):
    before = sorted(path for path in written.rglob("*") if path.is_file())
    storage = http_storage(f"{web}/a/numbers")
    repo = Repository.open(storage)
    for write in (
        lambda: Repository.create(http_storage(f"{web}/b")),
        lambda: repo.create_branch("b", repo.lookup_branch("main")),
        lambda: storage.put("x", b""),
        lambda: storage.put_new("chunks/x", b""),
        lambda: storage.put_if("repo", b"", None),
        lambda: storage.delete(["repo"]),
    ):
        with pytest.raises(ReadOnlyError) as caught:
            write()
        assert caught.value.kind == ErrorKind.READ_ONLY_STORAGE
    assert sorted(path for path in written.rglob("*") if path.is_file()) == before


def test_missing_objects_and_servers(web):
    with pytest.raises(ObjectNotFound, match="nothing"):
        http_storage(web).get("nothing")
    with pytest.raises(StorageError, match=r"127\.0\.0\.1:1"):
        http_storage("http://127.0.0.1:1/x").configured(ONCE).get("repo")


def test_headers_are_sent_to_their_host():
    with serving(lambda request: Answer(200, {"last-modified": LAST}, b"x")) as server:
        storage = http_storage(server.url, headers={"Authorization": SECRET, "X-Key": SECRET})
        assert pickle.loads(pickle.dumps(storage)).get("repo") == b"x"
        assert SECRET not in repr(storage) + repr(storage.identity())
    assert server.sent("authorization") == server.sent("x-key") == [SECRET]


LAST = "Tue, 24 Nov 2026 07:40:00 GMT"


def test_credentials_are_not_sent_to_another_host():
    with serving(lambda request: Answer(200, {"last-modified": LAST}, b"x")) as other:
        elsewhere = other.url.replace("127.0.0.1", "localhost") + "/repo"
        with serving(moved(elsewhere)) as server:
            usual = http_storage(server.url, headers={"Authorization": SECRET, "Cookie": SECRET})
            assert usual.configured(ONCE).get("repo") == b"x"
            unusual = http_storage(server.url, headers={"X-Key": SECRET}).configured(ONCE)
            with pytest.raises(StorageError) as caught:
                unusual.get("repo")
    assert SECRET not in str(caught.value)
    assert server.sent("x-key")[-1] == SECRET
    assert len(other.requests) == 1
    assert SECRET not in other.requests[0].headers.values()


def test_secrets_that_a_server_repeats_are_not_told():
    with serving(lambda request: Answer(400, {}, SECRET.encode())) as server:
        storage = http_storage(server.url, headers={"X-Key": SECRET}).configured(ONCE)
        with pytest.raises(StorageError) as caught:
            storage.get("repo")
    assert SECRET not in str(caught.value) + repr(caught.value)


# Through redirects


def test_a_repository_is_found(web):
    target = web.replace("http://", "http+icechunk://") + "/a/numbers"

    def answer(request):
        if request.path == "/stable":
            return Answer(301, {"location": "/next"})
        return Answer(307, {"location": target})

    with serving(answer) as server:
        storage = redirect_storage(f"{server.url}/stable")
        assert not server.requests, "making it asks nobody"
        repo = Repository.open(storage, attribution=Attribution(client="app/1"))
        check(repo)
        asked = len(server.requests)
        check(repo)
        assert len(server.requests) == asked, "the answer is remembered"
        assert all(agent.startswith("app/1 ") for agent in server.sent("user-agent"))
        with pytest.raises(ReadOnlyError):
            repo.create_branch("b", repo.lookup_branch("main"))
        with pytest.raises(ReadOnlyError):
            storage.put("x", b"")
        copy = pickle.loads(pickle.dumps(storage))
        assert copy.identity() == storage.identity()
        assert copy.configured(ONCE).identity() != storage.identity()
        check(pickle.loads(pickle.dumps(repo)))


@pytest.mark.parametrize(
    ("url", "lines"),
    [
        (
            "s3://bucket/a/b?region=eu-west-1",
            ["type: S3 (native)", "bucket: bucket", "prefix: a/b", "region: eu-west-1"],
        ),
        ("gs://bucket/a/b", ["type: GCS", "bucket: bucket", "prefix: a/b"]),
        ("gcs://bucket/a/b/", ["type: GCS", "bucket: bucket", "prefix: a/b"]),
        (
            "r2://bucket/a?account_id=acc",
            [
                "type: S3 (native)",
                "bucket: bucket",
                "prefix: a",
                "region: auto",
                "endpoint_url: https://acc.r2.cloudflarestorage.com",
            ],
        ),
        (
            "tigris://bucket/a?region=iad",
            [
                "type: S3 (native)",
                "bucket: bucket",
                "prefix: a",
                "region: iad",
                "endpoint_url: https://t3.storage.dev",
            ],
        ),
        ("http+ic://x:1/a", ["type: HTTP", "url: http://x:1/a"]),
        ("https+icechunk://x/a", ["type: HTTP", "url: https://x/a"]),
    ],
)
def test_what_urls_name(url, lines):
    with serving(moved(url)) as server:
        assert destination(server.url) == url
    shown = repr(storage_at(url, server.url)).splitlines()[1:]
    assert shown[: len(lines)] == lines
    assert lines[0] == "type: HTTP" or "anonymous: True" in shown


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (moved("ftp://a/b"), "unknown scheme of ftp://a/b"),
        (moved("file:///etc"), "unknown scheme of file:///etc"),
        (moved("r2://bucket/a"), "account_id"),
        (moved("s3:///a"), "bucket"),
        (moved("https+icechunk://"), "no usable storage"),
        (moved("/again"), "more than 10 redirects"),
        (lambda request: Answer(200), "does not redirect"),
        (lambda request: Answer(302), "does not redirect"),
        (lambda request: Answer(404), "status 404"),
    ],
)
def test_bad_redirects(answer, message):
    with serving(answer) as server:
        storage = redirect_storage(server.url)
        for read in (
            lambda: storage.get("repo"),
            lambda: Repository.open(storage),
            lambda: list(storage.list()),
        ):
            with pytest.raises(StorageError, match=message) as caught:
                read()
            assert caught.value.kind == ErrorKind.BAD_REDIRECT
    assert len(server.requests) <= 30


def test_redirects_do_not_leave_encryption(monkeypatch):
    from icechunk.storage import redirect

    monkeypatch.setattr(redirect, "_ask", lambda url, attribution: "http://x/y")
    with pytest.raises(StorageError, match="from https to http") as caught:
        destination("https://x/y")
    assert caught.value.kind == ErrorKind.BAD_REDIRECT


def test_a_server_that_is_not_there():
    with pytest.raises(StorageError, match="cannot be asked") as caught:
        redirect_storage("http://127.0.0.1:1/x").get("repo")
    assert caught.value.kind == ErrorKind.BAD_REDIRECT


def test_redirect_settings_reach_the_target(web):
    target = web.replace("http://", "http+ic://") + "/a/numbers"
    with serving(moved(target)) as server:
        storage = redirect_storage(server.url).configured(ONCE)
        assert isinstance(storage, RedirectStorage)
        assert storage.configured(None) is storage
        assert storage.target()._tuning.max_tries == 1
        size = 100 * 2**20
        assert storage.requests_for(size) == storage.target().requests_for(size) > 1

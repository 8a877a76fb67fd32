"""Reading virtual chunks: from files, web servers and S3, and everything that is refused."""

import asyncio
import os
import pickle
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import zarr
from zarr.abc.store import RangeByteRequest
from zarr.core.buffer import default_buffer_prototype

import icechunk
from icechunk import ErrorKind, IcechunkError, containers_credentials, s3_credentials
from icechunk.config.object_stores import azure_store
from icechunk.credentials import HttpAccess, LocalFileSystemAccess

from .conftest import DATA, MODIFIED

PROTOTYPE = default_buffer_prototype()
LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)


def open_repository(containers, access, storage=None, **settings):
    """Make a repository with an array of four chunks of ten bytes."""
    config = icechunk.RepositoryConfig(**settings)
    for container in containers:
        config.set_virtual_chunk_container(container)
    storage = icechunk.in_memory_storage() if storage is None else storage
    repo = icechunk.Repository.create(
        storage, config, authorize_virtual_chunk_access=containers_credentials(access)
    )
    session = repo.writable_session("main")
    make_array(session.store)
    session.commit("array")
    return repo


def make_array(store):
    zarr.create_array(
        store, name="a", shape=(40,), chunks=(10,), dtype="u1", compressors=None, fill_value=0
    )


def put(session, location, *, index=0, offset=0, length=10, checksum=None):
    session.store.set_virtual_ref(
        f"a/c/{index}", location, offset=offset, length=length, checksum=checksum,
        validate_container=False,
    )  # fmt: skip


def get(session, index=0):
    return zarr.open_array(session.store, path="a", mode="r")[
        index * 10 : index * 10 + 10
    ].tobytes()


def fails(session, kind, match=None):
    with pytest.raises(IcechunkError, match=match) as error:
        get(session)
    assert error.value.kind == kind
    return str(error.value)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "with space" / "in"
    folder.mkdir(parents=True)
    (folder / "f").write_bytes(DATA)
    (folder / "ä b%").write_bytes(DATA)
    (tmp_path / "with space" / "secret").write_bytes(b"s" * 100)
    return folder


def local_container(folder, name=None):
    return icechunk.VirtualChunkContainer(
        f"{folder.as_uri()}/", icechunk.local_filesystem_store(str(folder)), name
    )


@pytest.fixture
def files(folder):
    """A session that may read files."""
    container = local_container(folder, "files")
    repo = open_repository([container], {container.url_prefix: LocalFileSystemAccess})
    return repo.writable_session("main")


# --- files ----------------------------------------------------------------------------------------


def test_ranges_of_files(files, folder):
    put(files, f"{folder.as_uri()}/f", index=0)
    put(files, f"file://{folder}/f", index=1, offset=300)
    put(files, "vcc://files/f", index=2, offset=len(DATA) - 10)
    put(files, "vcc://files/%C3%A4%20b%25", index=3, offset=7)
    for index, offset in enumerate([0, 300, len(DATA) - 10, 7]):
        assert get(files, index) == DATA[offset : offset + 10]


def test_parts_of_chunks(files):
    put(files, "vcc://files/f", offset=5)
    store = files.store

    async def parts():
        wanted = [("a/c/0", RangeByteRequest(2, 6)), ("a/c/0", None), ("a/c/1", None)]
        return await store.get_partial_values(PROTOTYPE, wanted)

    part, whole, nothing = asyncio.run(parts())
    assert (part.to_bytes(), whole.to_bytes(), nothing) == (DATA[7:11], DATA[5:15], None)
    assert asyncio.run(store.getsize("a/c/0")) == 10


@pytest.mark.parametrize(
    ("location", "offset", "kind"),
    [
        ("vcc://files/none", 0, ErrorKind.VIRTUAL_CHUNK_FETCH),
        ("vcc://files/f/x", 0, ErrorKind.VIRTUAL_CHUNK_FETCH),
        ("vcc://files/f", len(DATA) - 9, ErrorKind.VIRTUAL_CHUNK_FETCH),
        ("vcc://files/f", 2**50, ErrorKind.VIRTUAL_CHUNK_FETCH),
        ("vcc://files/", 0, ErrorKind.INVALID_VIRTUAL_REF),
        ("vcc://files/..%2fsecret", 0, ErrorKind.INVALID_VIRTUAL_REF),
        ("vcc://files/../secret", 0, ErrorKind.NO_CONTAINER_FOR_VIRTUAL_CHUNK),
        ("vcc://nobody/f", 0, ErrorKind.NO_CONTAINER_FOR_VIRTUAL_CHUNK),
        ("file:///etc/hostname", 0, ErrorKind.NO_CONTAINER_FOR_VIRTUAL_CHUNK),
    ],
)
def test_files_that_cannot_be_read(files, location, offset, kind):
    put(files, location, offset=offset)
    fails(files, kind)


def test_what_is_no_file_is_not_read(files, folder):
    (folder / "sub").mkdir()
    os.mkfifo(folder / "pipe")
    for name in ("sub", "pipe"):
        put(files, f"vcc://files/{name}")
        fails(files, ErrorKind.VIRTUAL_CHUNK_FETCH, "not a file")


def test_links_are_followed_inside_the_container_only(files, folder):
    (folder / "inside").symlink_to(folder / "f")
    (folder / "outside").symlink_to(folder.parent / "secret")
    (folder / "up").symlink_to(folder.parent)
    put(files, "vcc://files/inside")
    assert get(files) == DATA[:10]
    for name in ("outside", "up/secret"):
        put(files, f"vcc://files/{name}")
        fails(files, ErrorKind.NO_CONTAINER_FOR_VIRTUAL_CHUNK, "symbolic link")


def test_the_container_itself_may_be_a_link(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    container = local_container(tmp_path / "link")
    repo = open_repository([container], {container.url_prefix: LocalFileSystemAccess})
    session = repo.writable_session("main")
    put(session, f"{container.url_prefix}f")
    assert get(session) == DATA[:10]


def test_checksums_of_files(files, folder):
    os.utime(folder / "f", (MODIFIED, MODIFIED + 0.5))
    time = datetime.fromtimestamp(MODIFIED, UTC)
    facts = (folder / "f").stat()
    etag = f"{facts.st_ino:x}-{facts.st_mtime_ns // 1000:x}-{facts.st_size:x}"
    for checksum in (time, time + timedelta(days=1), etag, f'"{etag}"', "*"):
        put(files, "vcc://files/f", checksum=checksum)
        assert get(files) == DATA[:10]
    for checksum in (time - timedelta(seconds=1), LONG_AGO, "other", etag + "0"):
        put(files, "vcc://files/f", checksum=checksum)
        fails(files, ErrorKind.VIRTUAL_CHUNK_MODIFIED, "chunk has changed")


def test_the_entity_tag_of_a_file_is_the_one_other_readers_know(files, folder):
    obstore = pytest.importorskip("obstore")
    known = obstore.head(obstore.store.LocalStore(str(folder)), "f")["e_tag"]
    put(files, "vcc://files/f", checksum=known)
    assert get(files) == DATA[:10]


# --- web servers ----------------------------------------------------------------------------------


def web_session(web, store=None, access=True, **settings):
    prefix = f"{web.url}/data/"
    container = icechunk.VirtualChunkContainer(prefix, store or icechunk.http_store(), "web")
    access = {prefix: HttpAccess} if access else {}
    return open_repository([container], access, **settings).writable_session("main")


def test_ranges_from_a_web_server(web):
    web.objects["/data/%C3%A4%20%25%3F%23"] = DATA
    session = web_session(web)
    put(session, f"{web.url}/data/f", index=0, offset=20)
    put(session, "vcc://web/%C3%A4%20%25%3F%23", index=1)
    assert (get(session, 0), get(session, 1)) == (DATA[20:30], DATA[:10])
    assert [headers["range"] for _, headers in web.requests] == ["bytes=20-29", "bytes=0-9"]


@pytest.mark.parametrize("obeys", [True, False])
def test_checksums_on_a_web_server(web, obeys):
    web.obeys_conditions = obeys
    session = web_session(web)
    time = datetime.fromtimestamp(MODIFIED, UTC)
    for checksum in ("tag", '"tag"', time, time + timedelta(seconds=1)):
        put(session, "vcc://web/f", checksum=checksum)
        assert get(session) == DATA[:10]
    for checksum in ("other", time - timedelta(seconds=1)):
        put(session, "vcc://web/f", checksum=checksum)
        fails(session, ErrorKind.VIRTUAL_CHUNK_MODIFIED, "chunk has changed")


@pytest.mark.parametrize(
    ("location", "offset", "kind"),
    [
        ("vcc://web/none", 0, ErrorKind.VIRTUAL_CHUNK_FETCH),
        ("vcc://web/f", len(DATA), ErrorKind.VIRTUAL_CHUNK_FETCH),
        ("vcc://web/../secret", 0, ErrorKind.NO_CONTAINER_FOR_VIRTUAL_CHUNK),
        ("vcc://web/%2e%2e/secret", 0, ErrorKind.NO_CONTAINER_FOR_VIRTUAL_CHUNK),
    ],
)
def test_what_a_web_server_does_not_give(web, location, offset, kind):
    session = web_session(web)
    put(session, location, offset=offset)
    try:
        fails(session, kind)
    except AssertionError:
        fails(session, ErrorKind.INVALID_VIRTUAL_REF)
    assert all(path != "/secret" for path, _ in web.requests)


def test_objects_that_are_too_short(web):
    session = web_session(web)
    put(session, "vcc://web/f", offset=len(DATA) - 5)
    with pytest.raises(IcechunkError) as error:
        get(session)
    assert error.value.kind in (ErrorKind.INVALID_OBJECT_SIZE, ErrorKind.VIRTUAL_CHUNK_FETCH)


def test_a_server_that_is_gone(web):
    settings = icechunk.StorageSettings(
        retries=icechunk.StorageRetriesSettings(max_tries=1, initial_backoff_ms=1, max_backoff_ms=1)
    )
    container = icechunk.VirtualChunkContainer("http://127.0.0.1:9/", icechunk.http_store())
    repo = open_repository([container], {"http://127.0.0.1:9": HttpAccess}, storage=None)
    session = repo.reopen(icechunk.RepositoryConfig(storage=settings)).writable_session("main")
    put(session, "http://127.0.0.1:9/f")
    fails(session, ErrorKind.VIRTUAL_CHUNK_FETCH, "127.0.0.1:9/f")


def test_large_chunks_come_in_parallel_ranges(web):
    concurrency = icechunk.StorageConcurrencySettings(
        max_concurrent_requests_for_object=4, ideal_concurrent_request_size=100
    )
    session = web_session(web)
    repo = icechunk.Repository.open(
        session._workspace.context.storage,
        icechunk.RepositoryConfig(storage=icechunk.StorageSettings(concurrency=concurrency)),
        containers_credentials({f"{web.url}/data/": HttpAccess}),
    )
    session = repo.writable_session("main")
    zarr.create_array(
        session.store, name="b", shape=(1000,), chunks=(1000,), dtype="u1", compressors=None
    )
    session.store.set_virtual_ref("b/c/0", "vcc://web/f", offset=3, length=1000, checksum="tag")
    ref = session._workspace.locate("/b", (0,))
    assert zarr.open_array(session.store, path="b")[:].tobytes() == DATA[3:1003]
    assert len(web.requests) == 4
    assert session._workspace.read(ref, 0, 1000) == DATA[3:1003]
    assert len(web.requests) == 8


def test_headers_are_sent_and_do_not_follow_redirects(web, other_web):
    secret = "Bearer very-secret"
    session = web_session(web, icechunk.http_store(headers={"Authorization": secret}))
    web.redirects["/data/moved"] = f"{other_web.url}/data/f"
    put(session, "vcc://web/moved")
    assert get(session) == DATA[:10]
    assert web.requests[-1][1]["authorization"] == secret
    assert secret not in repr(other_web.requests)
    put(session, "vcc://web/none")
    assert secret not in fails(session, ErrorKind.VIRTUAL_CHUNK_FETCH)


@pytest.mark.parametrize("name", ["X-Api-Key", "x-amz-security-token"])
def test_other_headers_do_not_reach_other_hosts_either(web, other_web, name):
    quick = icechunk.StorageSettings(
        retries=icechunk.StorageRetriesSettings(max_tries=1, initial_backoff_ms=1, max_backoff_ms=1)
    )
    session = web_session(web, icechunk.http_store(headers={name: "very-secret"}))
    access = containers_credentials({f"{web.url}/data/": HttpAccess})
    storage = session._workspace.context.storage
    repo = icechunk.Repository.open(storage, icechunk.RepositoryConfig(storage=quick), access)
    session = repo.writable_session("main")
    put(session, "vcc://web/f")
    assert get(session) == DATA[:10]
    assert web.requests[-1][1][name.lower()] == "very-secret"
    web.redirects["/data/moved"] = f"http://localhost:{other_web.port}/data/f"
    put(session, "vcc://web/moved")
    assert "very-secret" not in fails(session, ErrorKind.VIRTUAL_CHUNK_FETCH)
    assert not other_web.requests


# --- Google and Azure, as far as a web server can stand for them ----------------------------------


def test_google_cloud_storage(web):
    web.objects["/bucket/pre%2Ff"] = DATA
    store = icechunk.gcs_store({"base_url": web.url, "allow_http": "true"})
    container = icechunk.VirtualChunkContainer("gs://bucket/pre/", store, "google")
    key = icechunk.gcs_credentials(bearer_token="a-token")
    session = open_repository([container], {"gs://bucket/pre/": key}).writable_session("main")
    put(session, "vcc://google/f", offset=3, checksum="tag")
    fails(session, ErrorKind.VIRTUAL_CHUNK_MODIFIED)  # this server wants quotes
    path, headers = web.requests[-1]
    assert (path, headers["if-match"]) == ("/bucket/pre%2Ff", "tag")
    assert headers["authorization"] == "Bearer a-token"
    put(session, "gs://bucket/pre/f", offset=3)
    assert get(session) == DATA[3:13]


def test_azure_blob_storage(web):
    web.objects["/pre/f"] = DATA
    web.objects["/container/pre/f"] = DATA
    store = azure_store(account="account", config={"endpoint": web.url, "allow_http": "true"})
    container = icechunk.VirtualChunkContainer("az://container/pre/", store, "azure")
    key = icechunk.azure_credentials(access_key="c2VjcmV0LWtleQ==")
    session = open_repository([container], {"az://container/pre": key}).writable_session("main")
    put(session, "vcc://azure/f", offset=3)
    assert get(session) == DATA[3:13]
    assert web.requests[-1][1]["authorization"].startswith("SharedKey account:")


# --- S3 -------------------------------------------------------------------------------------------


@pytest.fixture
def s3(s3_server):
    """A session that may read from S3, and a function that puts objects there."""
    store = icechunk.s3_store(
        region="us-east-1", endpoint_url=s3_server.endpoint, allow_http=True, s3_compatible=True,
        force_path_style=True,
    )  # fmt: skip
    objects = s3_server.storage()
    prefix = f"s3://{s3_server.bucket}/{objects._target.prefix}/"
    container = icechunk.VirtualChunkContainer(prefix, store, "s3")
    key = s3_credentials(access_key_id=s3_server.key, secret_access_key=s3_server.secret)
    repo = open_repository([container], {prefix.rstrip("/"): key})
    objects.put("in/f", DATA)
    return repo, objects


def test_ranges_from_s3(s3):
    repo, objects = s3
    session = repo.writable_session("main")
    put(session, "vcc://s3/in/f", index=0, offset=20)
    objects.put("in/ä b%", DATA)
    put(session, "vcc://s3/in/%C3%A4%20b%25", index=1, offset=30)
    assert (get(session, 0), get(session, 1)) == (DATA[20:30], DATA[30:40])
    session.commit("refs")
    reader = pickle.loads(pickle.dumps(repo)).readonly_session("main")
    assert get(reader, 0) == DATA[20:30]


def test_checksums_on_s3(s3):
    repo, objects = s3
    session = repo.writable_session("main")
    _, version = objects.get_versioned("in/f")
    now = datetime.now(UTC)
    for checksum in (version.etag, f'"{version.etag}"', now + timedelta(days=1)):
        put(session, "vcc://s3/in/f", checksum=checksum)
        assert get(session) == DATA[:10]
    for checksum in ("0" * 32, now - timedelta(days=1)):
        put(session, "vcc://s3/in/f", checksum=checksum)
        fails(session, ErrorKind.VIRTUAL_CHUNK_MODIFIED, "chunk has changed")
    put(session, "vcc://s3/in/none")
    fails(session, ErrorKind.VIRTUAL_CHUNK_FETCH)


# --- who may --------------------------------------------------------------------------------------


def test_containers_without_credentials(web):
    session = web_session(web, access=False)
    put(session, "vcc://web/f")
    message = fails(session, ErrorKind.UNAUTHORIZED_VIRTUAL_CHUNK_CONTAINER, "authorize")
    assert f"{web.url}/data/" in message
    assert not web.requests


def test_access_travels_with_pickles_and_forks_and_is_never_stored(folder, tmp_path):
    container = local_container(folder, "files")
    storage = icechunk.local_filesystem_storage(str(tmp_path / "repo"))
    repo = open_repository([container], {container.url_prefix: LocalFileSystemAccess}, storage)
    session = repo.writable_session("main")
    put(session, "vcc://files/f")
    fork = pickle.loads(pickle.dumps(session.fork()))
    put(fork, "vcc://files/f", index=1, offset=1)
    assert (get(fork, 0), get(fork, 1)) == (DATA[:10], DATA[1:11])
    session.merge(fork)
    session.commit("refs")
    for copy in (
        pickle.loads(pickle.dumps(repo)).readonly_session("main"),
        pickle.loads(pickle.dumps(repo.readonly_session("main"))),
        repo.reopen().readonly_session("main"),
    ):
        assert get(copy, 1) == DATA[1:11]
    for blind in (
        icechunk.Repository.open(storage),
        repo.reopen(authorize_virtual_chunk_access={}),
    ):
        assert blind.authorized_virtual_container_prefixes == set()
        fails(blind.readonly_session("main"), ErrorKind.UNAUTHORIZED_VIRTUAL_CHUNK_CONTAINER)


def test_data_that_moved_needs_a_configuration_only(folder, tmp_path):
    container = local_container(folder, "files")
    storage = icechunk.local_filesystem_storage(str(tmp_path / "repo"))
    repo = open_repository([container], {}, storage)
    session = repo.writable_session("main")
    put(session, "vcc://files/f")
    session.commit("refs")
    moved = folder.rename(tmp_path / "elsewhere")
    config = icechunk.RepositoryConfig()
    container = local_container(moved, "files")
    config.set_virtual_chunk_container(container)
    access = containers_credentials({container.url_prefix: LocalFileSystemAccess})
    repo = icechunk.Repository.open(storage, config, access)
    assert get(repo.readonly_session("main")) == DATA[:10]
    assert repo.readonly_session("main").all_virtual_chunk_locations() == [f"{moved.as_uri()}/f"]


# --- caches, loops, processes ---------------------------------------------------------------------


def test_chunks_are_kept_where_a_cache_is_configured(web):
    session = web_session(web, caching=icechunk.CachingConfig(num_bytes_chunks=10_000))
    put(session, "vcc://web/f", checksum="tag")
    assert get(session) == get(session) == DATA[:10]
    assert len(web.requests) == 1
    put(session, "vcc://web/f", checksum="other")
    fails(session, ErrorKind.VIRTUAL_CHUNK_MODIFIED)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_forked_processes_read(web):
    session = web_session(web)
    put(session, "vcc://web/f")
    assert get(session) == DATA[:10]
    child = os.fork()
    if child == 0:
        os._exit(
            0
            if session._workspace.read(session._workspace.locate("/a", (0,)), 0, 10) == DATA[:10]
            else 1
        )
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_many_chunks_at_once(web):
    session = web_session(web)
    locations = np.array(["vcc://web/f"] * 4)
    session.store.set_virtual_refs_arr(
        "a", (4,), locations, np.arange(4, dtype=np.uint64) * 100, np.full(4, 10, np.uint64)
    )
    array = zarr.open_array(session.store, path="a", mode="r")
    assert array[:].tobytes() == b"".join(DATA[i * 100 : i * 100 + 10] for i in range(4))

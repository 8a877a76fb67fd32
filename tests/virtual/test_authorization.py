"""Which containers may be read: what is accepted as credentials, and for which store."""

import asyncio
import warnings

import pytest

import icechunk
from icechunk import (
    Repository,
    StorageError,
    containers_credentials,
    gcs_credentials,
    s3_credentials,
)
from icechunk.assets.authorization import Authorization
from icechunk.config.object_stores import azure_store
from icechunk.credentials import HttpAccess, LocalFileSystemAccess
from icechunk.storage.credentials import S3Anonymous, S3FromEnv

KEY = s3_credentials(access_key_id="key", secret_access_key="hidden")
STORES = {
    "s3://b/": icechunk.s3_store(region="us-east-1"),
    "s3://anonymous/": icechunk.s3_store(region="us-east-1", anonymous=True),
    "gs://b/": icechunk.gcs_store(),
    "az://c/": azure_store(account="a"),
    "http://h/": icechunk.http_store(),
    "file:///data/": icechunk.local_filesystem_store("/data"),
}


def config():
    made = icechunk.RepositoryConfig()
    for prefix, store in STORES.items():
        made.set_virtual_chunk_container(icechunk.VirtualChunkContainer(prefix, store))
    return made


def create(access):
    return Repository.create(
        icechunk.in_memory_storage(), config(), authorize_virtual_chunk_access=access
    )


@pytest.mark.parametrize(
    ("prefix", "credentials"),
    [
        ("s3://b/", KEY),
        ("s3://b", KEY),
        ("gs://b/", gcs_credentials(anonymous=True)),
        ("az://c/", icechunk.azure_credentials(access_key="key")),
        ("http://h/", HttpAccess),
        ("file:///data/", LocalFileSystemAccess),
        ("s3://nobody/", KEY),
    ],
)
def test_prefixes_are_reported_as_passed(prefix, credentials):
    access = containers_credentials({prefix: credentials})
    repo = create(access)
    assert repo.authorized_virtual_container_prefixes == {prefix}
    assert repo.reopen().authorized_virtual_container_prefixes == {prefix}
    assert "hidden" not in repr(access)


@pytest.mark.parametrize(
    ("prefix", "credentials"),
    [
        ("s3://b/", LocalFileSystemAccess),
        ("s3://b", gcs_credentials(anonymous=True)),
        ("file:///data/", KEY),
        ("file:///data/", HttpAccess),
        ("http://h/", KEY),
        ("az://c/", KEY),
    ],
)
def test_credentials_of_another_kind_than_the_store(prefix, credentials):
    storage = icechunk.in_memory_storage()
    access = containers_credentials({prefix: credentials})
    with pytest.raises(StorageError, match="do not match") as error:
        Repository.create(storage, config(), authorize_virtual_chunk_access=access)
    assert error.value.kind == "storage-other"
    assert not Repository.exists(storage)
    Repository.create(storage, config())
    for open_it in (Repository.open, Repository.open_or_create):
        with pytest.raises(StorageError):
            open_it(storage, authorize_virtual_chunk_access=access)


@pytest.mark.parametrize(
    "access",
    [{"s3://b/": KEY}, {"s3://b/": "key"}, {3: None}, [("s3://b/", None)]],
)
def test_other_things_than_credentials(access):
    with pytest.raises(TypeError):
        create(access)


@pytest.mark.parametrize("prefix", ["s3://b/", "http://h", "file:///data/", "gs://b/"])
def test_none_is_deprecated_and_still_allows(prefix):
    with pytest.warns(DeprecationWarning, match="authorize_virtual_chunk_access") as found:
        repo = create({prefix: None})
    assert found[0].filename == __file__
    assert repo.authorized_virtual_container_prefixes == {prefix}


def test_none_is_no_credential_for_azure():
    with (
        pytest.warns(DeprecationWarning, match="az://c/"),
        pytest.raises(StorageError, match="do not match"),
    ):
        create({"az://c/": None})


def test_what_none_means_for_s3():
    with warnings.catch_warnings(action="ignore"):
        authorization = Authorization.of({"s3://b/": None, "s3://anonymous/": None}, config())
    containers = config().virtual_chunk_containers
    kinds = {
        prefix: type(authorization.find(containers[prefix]).credentials)
        for prefix in ("s3://b/", "s3://anonymous/")
    }
    assert kinds == {"s3://b/": S3FromEnv, "s3://anonymous/": S3Anonymous}


def test_twins_take_the_same():
    access = containers_credentials({"s3://b": KEY})

    async def run():
        storage = icechunk.in_memory_storage()
        made = await Repository.create_async(storage, config(), access)
        opened = await Repository.open_async(storage, authorize_virtual_chunk_access=access)
        again = await opened.reopen_async(authorize_virtual_chunk_access={})
        return [repo.authorized_virtual_container_prefixes for repo in (made, opened, again)]

    assert asyncio.run(run()) == [{"s3://b"}, {"s3://b"}, set()]

"""Azure and Google storages against servers on loopback that speak their protocols."""

import pickle

import numpy as np
import pytest
import zarr

from icechunk import Repository
from icechunk.config import StorageConcurrencySettings, StorageSettings
from icechunk.errors import IcechunkError
from icechunk.testing import StorageContract


class TestAzure(StorageContract):
    threads = 4
    increments = 5

    @pytest.fixture
    def storage(self, azure_server):
        return azure_server.storage()


class TestGoogle(StorageContract):
    threads = 4
    increments = 5

    @pytest.fixture
    def storage(self, gcs_server):
        return gcs_server.storage()


@pytest.fixture(params=["azure_server", "gcs_server"])
def make(request):
    """Make a storage at a provider, in a place of its own."""
    return request.getfixturevalue(request.param).storage


def test_a_repository_lives_there(make):
    storage = make()
    repo = Repository.create(storage)
    session = repo.writable_session("main")
    zarr.create_array(session.store, name="x", data=np.arange(1000), chunks=(250,))
    session.commit("numbers")
    for number in range(3):
        repo.create_tag(f"t{number}", repo.lookup_branch("main"))
    reopened = Repository.open(pickle.loads(pickle.dumps(storage)))
    array = zarr.open_array(reopened.readonly_session(tag="t2").store, path="x", mode="r")
    np.testing.assert_array_equal(array[:], np.arange(1000))
    assert Repository.exists(storage)
    assert not Repository.exists(make())


def test_large_objects_go_in_parts(make):
    settings = StorageSettings(
        concurrency=StorageConcurrencySettings(3, 5 * 2**20),
        minimum_size_for_multipart_upload=2**20,
    )
    storage = make().configured(settings)
    data = bytes(range(256)) * (11 * 4096)
    storage.put_new("chunks/A", data)
    assert storage.get("chunks/A") == data
    assert storage.get_range("chunks/A", 5, len(data) - 3) == data[5:-3]


def test_repositories_are_not_created_in_a_root(make):
    storage = make(prefix="")
    assert storage.prefix_is_empty
    with pytest.raises(IcechunkError, match="prefix") as caught:
        Repository.create(storage)
    assert caught.value.kind == "empty-prefix-creation"


def test_wrong_keys_are_refused(azure_server, gcs_server):
    wrong = "d3JvbmctdmVyeS1zZWNyZXQ="
    for storage in (
        azure_server.storage(access_key=wrong),
        azure_server.storage(access_key=None, anonymous=True),
        gcs_server.storage(bearer_token=wrong),
    ):
        with pytest.raises(IcechunkError) as caught:
            storage.put_if("repo", b"x", None)
        assert wrong not in str(caught.value)

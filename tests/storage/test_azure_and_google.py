"""Azure and Google storages against servers on loopback that speak their protocols."""

import pickle
import uuid

import numpy as np
import pytest
import zarr

from icechunk import Repository
from icechunk.config import StorageConcurrencySettings, StorageSettings
from icechunk.errors import IcechunkError
from icechunk.storage import azure_storage, gcs_storage
from icechunk.testing import StorageContract


def on_azure(server, **changes):
    given = {
        "account": server.account,
        "container": server.container,
        "prefix": f"tests/{uuid.uuid4().hex}",
        "access_key": server.secret,
        "config": {"endpoint": server.endpoint, "allow_http": "true"},
    }
    return azure_storage(**(given | changes))


def on_google(server, **changes):
    given = {
        "bucket": server.bucket,
        "prefix": f"tests/{uuid.uuid4().hex}",
        "bearer_token": server.token,
        "config": {"base_url": server.endpoint, "allow_http": "true"},
    }
    return gcs_storage(**(given | changes))


class TestAzure(StorageContract):
    threads = 4
    increments = 5

    @pytest.fixture
    def storage(self, azure_server):
        return on_azure(azure_server)


class TestGoogle(StorageContract):
    threads = 4
    increments = 5

    @pytest.fixture
    def storage(self, gcs_server):
        return on_google(gcs_server)


PROVIDERS = {"azure": ("azure_server", on_azure), "google": ("gcs_server", on_google)}


@pytest.fixture(params=PROVIDERS)
def make(request):
    """Make a storage at a provider, in a place of its own."""
    fixture, function = PROVIDERS[request.param]
    server = request.getfixturevalue(fixture)
    return lambda **changes: function(server, **changes)


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
        on_azure(azure_server, access_key=wrong),
        on_azure(azure_server, access_key=None, anonymous=True),
        on_google(gcs_server, bearer_token=wrong),
    ):
        with pytest.raises(IcechunkError) as caught:
            storage.put_if("repo", b"x", None)
        assert wrong not in str(caught.value)

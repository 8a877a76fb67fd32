"""Repositories to test on, and what to test them with, for every module."""

import gc
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))  # where the servers are
sys.path.append(str(Path(__file__).parent))  # `effort`, `scratch` are imported by name

from effort import EFFORT
from object_stores.testing import AzureServer, GcsServer, S3Server, reached, trust_nobody
from scratch import keep_folders_in_memory

trust_nobody()
keep_folders_in_memory()


@pytest.fixture(scope="session")
def effort():
    """Factor on the number of examples of the tests that could go on forever."""
    return EFFORT


@pytest.fixture(params=["memory", "local"])
def storage(request, tmp_path):
    import icechunk

    if request.param == "memory":
        return icechunk.in_memory_storage()
    return icechunk.local_filesystem_storage(str(tmp_path / "repo"))


@pytest.fixture
def repo(storage):
    import icechunk

    return icechunk.Repository.create(storage)


@pytest.fixture
def repo_v1(storage):
    import icechunk

    return icechunk.Repository.create(storage, spec_version=1)


@pytest.fixture(scope="session")
def old_repository():
    """Function making a copy, in memory, of a repository of version 1.

    Two commits on main, a branch with an odd name at the first and one at the second, a tag, a
    deleted tag, a configuration.
    """
    from icechunk import RepositoryConfig, in_memory_storage
    from icechunk.config.yaml import config_to_yaml
    from icechunk.format.refs_v1 import ref_key, tombstone_key

    golden = Path(__file__).parent / "golden" / "reference-v1"

    def make():
        storage = in_memory_storage()
        for file in golden.rglob("*"):
            if file.is_file():
                storage.put(str(file.relative_to(golden)), file.read_bytes())
        last = storage.get(ref_key("branch", "main"))
        storage.put(ref_key("branch", "ü"), storage.get(ref_key("tag", "v1")))
        storage.put(ref_key("branch", "side"), last)
        storage.put(ref_key("tag", "gone"), last)
        storage.put(tombstone_key("gone"), b"")
        storage.put("config.yaml", config_to_yaml(RepositoryConfig(inline_chunk_threshold_bytes=7)))
        return storage

    return make


@pytest.fixture(scope="session")
def array_document():
    """Function making a zarr.json of a uint8 array."""

    def make(shape=(8,), chunks=(2,), **attributes):
        return json.dumps(
            {
                "zarr_format": 3,
                "node_type": "array",
                "shape": list(shape),
                "data_type": "uint8",
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
                "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
                "fill_value": 0,
                "codecs": [{"name": "bytes"}],
                "attributes": attributes,
            }
        ).encode()

    return make


@pytest.fixture(scope="session")
def group_document():
    """Function making a zarr.json of a group."""

    def make(**attributes):
        return json.dumps(
            {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        ).encode()

    return make


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    """Where S3 is tested: the server that ``ICECHUNK_TEST_S3_ENDPOINT`` names, else moto.

    A named one comes with ``ICECHUNK_TEST_S3_KEY``, ``ICECHUNK_TEST_S3_SECRET`` and an existing
    bucket ``ICECHUNK_TEST_S3_BUCKET``.
    """
    with reached("moto", tmp_path_factory) as (connection, named):
        yield S3Server(**connection, checks_signatures=named)


@pytest.fixture(scope="session")
def careless_s3_server(tmp_path_factory):
    """An S3 server that ignores the conditions of writes (``ICECHUNK_TEST_CARELESS_S3_*``)."""
    with reached("rclone", tmp_path_factory) as (connection, _):
        yield S3Server(**connection, checks_signatures=True)


@pytest.fixture(scope="session")
def azure_server(tmp_path_factory):
    """Where Azure is tested: what ``ICECHUNK_TEST_AZURE_*`` name, else Azurite if installed."""
    with reached("azurite", tmp_path_factory) as (connection, _):
        yield AzureServer(**connection)


@pytest.fixture(scope="session")
def gcs_server(tmp_path_factory):
    """Where Google's storage is tested: what ``ICECHUNK_TEST_GCS_*`` name, else a stand-in."""
    with reached("gcs", tmp_path_factory) as (connection, _):
        yield GcsServer(**connection)


def pytest_collection_finish():
    """Leave the ten thousand tests out of all later searches for garbage."""
    gc.collect()
    gc.freeze()

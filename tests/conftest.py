"""Repositories to test on, for every module."""

import json

import pytest


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

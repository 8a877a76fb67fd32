"""Worker processes write through the network: each connects on its own, one session commits."""

from __future__ import annotations

import os

import dask.array as da
import numpy as np
import pytest
import zarr

import icechunk
from icechunk.dask import store_dask

SHAPE, CHUNKS = (120, 80), (20, 20)


@pytest.fixture(scope="module")
def client():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=2,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def storage(s3_server):
    return s3_server.storage()


@pytest.fixture
def repo(storage):
    config = icechunk.RepositoryConfig(inline_chunk_threshold_bytes=0)
    return icechunk.Repository.create(storage, config)


def with_process_of_writer(block):
    """Give back the block, with the process in the corner that tells who has written it."""
    block = block.copy()
    block[0, 0] = os.getpid()
    return block


def test_store_dask(client, storage, repo):
    session = repo.writable_session("main")
    zarr.create_array(session.store, name="a", shape=SHAPE, chunks=CHUNKS, dtype="f8")
    fork = session.fork()
    source = da.arange(np.prod(SHAPE), dtype="f8").reshape(SHAPE).rechunk(CHUNKS)
    written = source.map_blocks(with_process_of_writer, dtype="f8")
    session.merge(store_dask(sources=[written], targets=[zarr.open_array(fork.store, path="a")]))
    session.commit("by workers")

    stored = icechunk.Repository.open(storage).readonly_session("main").store
    found = zarr.open_array(stored, path="a", mode="r")[...]
    corners = found[:: CHUNKS[0], :: CHUNKS[1]].copy()
    workers = set(client.run(os.getpid).values())
    assert set(corners.ravel()) <= workers
    expected = np.arange(np.prod(SHAPE), dtype="f8").reshape(SHAPE)
    expected[:: CHUNKS[0], :: CHUNKS[1]] = corners
    np.testing.assert_array_equal(found, expected)
    assert len(list(storage.list("chunks/"))) == found.size // np.prod(CHUNKS)


def test_to_icechunk(client, storage, repo):
    xr = pytest.importorskip("xarray")
    from icechunk.xarray import to_icechunk

    values = da.random.default_rng(7).random(SHAPE, chunks=CHUNKS)
    data = xr.Dataset(
        {"temperature": (("time", "place"), values)}, coords={"time": np.arange(SHAPE[0])}
    )
    session = repo.writable_session("main")
    to_icechunk(data, session)
    session.commit("first")
    session = repo.writable_session("main")
    later = data.assign_coords(time=data.time + SHAPE[0])
    to_icechunk(later, session, append_dim="time")
    session.commit("appended")

    stored = icechunk.Repository.open(storage).readonly_session("main").store
    found = xr.open_zarr(stored, consolidated=False, chunks=None)
    expected = xr.concat([data, later], "time").compute()
    xr.testing.assert_identical(found.load(), expected)
    assert len(list(storage.list("chunks/"))) >= 2 * values.npartitions


def test_sessions_of_workers_are_gathered(client, storage, repo):
    session = repo.writable_session("main")
    zarr.create_array(session.store, name="a", shape=(8, 100), chunks=(1, 100), dtype="i4")
    session.commit("array")
    session = repo.writable_session("main")

    def write(fork, row):
        zarr.open_array(fork.store, path="a")[row] = row + 1
        return fork

    fork = session.fork()
    session.merge(*client.gather(client.map(write, [fork] * 8, range(8), pure=False)))
    session.commit("rows")
    store = icechunk.Repository.open(storage).readonly_session("main").store
    rows = zarr.open_array(store, path="a", mode="r")[...]
    np.testing.assert_array_equal(rows, np.repeat(np.arange(1, 9), 100).reshape(8, 100))

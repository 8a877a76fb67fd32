"""VirtualiZarr writes to Icechunk through this package as it does through the reference."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

import icechunk
from icechunk import IcechunkError
from icechunk.credentials import LocalFileSystemAccess

virtualizarr = pytest.importorskip("virtualizarr")
parsers = pytest.importorskip("virtualizarr.parsers")
registries = pytest.importorskip("obspec_utils.registry")
obstore = pytest.importorskip("obstore.store")
xr = pytest.importorskip("xarray")
pytest.importorskip("h5py")
iris_sample_data = pytest.importorskip("iris_sample_data")

FOLDER = Path(iris_sample_data.__file__).parent / "sample_data"
PREFIX = f"{FOLDER.as_uri()}/"
FILES = ["A1B_north_america.nc", "orca2_votemper.nc", "rotated_pole.nc", "ostia_monthly.nc"]
MONTHS = sorted((FOLDER / "NEMO").glob("*.nc"))


@pytest.fixture
def repo():
    config = icechunk.RepositoryConfig()
    store = icechunk.local_filesystem_store(str(FOLDER))
    config.set_virtual_chunk_container(icechunk.VirtualChunkContainer(PREFIX, store))
    access = icechunk.containers_credentials({PREFIX: LocalFileSystemAccess})
    return icechunk.Repository.create(
        icechunk.in_memory_storage(), config, authorize_virtual_chunk_access=access
    )


def virtual(path):
    """References to what a file holds, as VirtualiZarr finds them."""
    registry = registries.ObjectStoreRegistry({"file://": obstore.LocalStore()})
    return virtualizarr.open_virtual_dataset(
        path.as_uri(), registry=registry, parser=parsers.HDFParser()
    )


def written(repo):
    session = repo.readonly_session("main")
    assert session.all_virtual_chunk_locations()
    return xr.open_zarr(session.store, consolidated=False)


def same(found, expected):
    assert set(found.variables) == set(expected.variables)
    for name, variable in expected.variables.items():
        np.testing.assert_array_equal(found[name].values, variable.values, err_msg=name)
        assert found[name].dims == variable.dims


@pytest.mark.parametrize("name", FILES)
def test_a_file_reads_as_it_does_without_us(repo, name):
    session = repo.writable_session("main")
    virtual(FOLDER / name).vz.to_icechunk(session.store)
    session.commit(name)
    with xr.open_dataset(FOLDER / name, engine="h5netcdf") as expected:
        same(written(repo), expected)


def test_files_are_appended(repo):
    for i, month in enumerate(MONTHS):
        session = repo.writable_session("main")
        append = {} if i == 0 else {"append_dim": "time_counter"}
        virtual(month).vz.to_icechunk(session.store, **append)
        session.commit(month.name)
    found = written(repo)
    assert found.sizes["time_counter"] == len(MONTHS)
    for i, month in enumerate(MONTHS):
        with xr.open_dataset(month, engine="h5netcdf") as expected:
            one = found.isel(time_counter=[i])
            for name, variable in expected.data_vars.items():
                np.testing.assert_array_equal(one[name].values, variable.values, err_msg=name)


def test_groups(repo):
    session = repo.writable_session("main")
    virtual(FOLDER / FILES[2]).vz.to_icechunk(session.store, group="some/group")
    session.commit("group")
    found = xr.open_zarr(
        repo.readonly_session("main").store, group="some/group", consolidated=False
    )
    with xr.open_dataset(FOLDER / FILES[2], engine="h5netcdf") as expected:
        same(found, expected)


def test_files_written_since_are_not_read(repo):
    session = repo.writable_session("main")
    virtual(FOLDER / FILES[0]).vz.to_icechunk(
        session.store, last_updated_at=datetime(2001, 1, 1, tzinfo=UTC)
    )
    session.commit("older than the file")
    with pytest.raises(IcechunkError, match="chunk has changed"):
        written(repo).load()

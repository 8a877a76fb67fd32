"""`to_icechunk`: what xarray objects become in a session, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr

import icechunk
from icechunk.xarray import _XarrayDatasetWriter, to_icechunk


def make_dataset(times: int = 20, start: str = "2000-01-01") -> xr.Dataset:
    time = pd.date_range(start, periods=times, freq="D", unit="ns")
    values = np.arange(times * 12, dtype="f4").reshape(times, 4, 3)
    return xr.Dataset(
        {
            "temperature": (("time", "y", "x"), values, {"units": "K"}),
            "rain": (("time", "y", "x"), values / 3),
            "mask": (("y", "x"), np.eye(4, 3, dtype=bool)),
        },
        coords={"time": time, "y": [1.0, 2, 3, 4], "x": ["a", "b", "c"]},
        attrs={"title": "made up"},
    )


def mixed(dataset: xr.Dataset, chunk: int = 5) -> xr.Dataset:
    """Make one variable a Dask array and leave the others in memory."""
    return dataset.assign(temperature=dataset.temperature.chunk({"time": chunk}))


def reopened(session: icechunk.Session, group: str | None = None) -> xr.Dataset:
    """Open without Dask: a writable session cannot follow tasks to other processes."""
    return xr.open_zarr(session.store, group=group, consolidated=False, chunks=None)


@pytest.fixture(params=["numpy", "dask", "mixed"])
def dataset(request: pytest.FixtureRequest) -> xr.Dataset:
    made = make_dataset()
    return {"numpy": made, "dask": made.chunk({"time": 5}), "mixed": mixed(made)}[request.param]


def test_round_trip_under_every_scheduler(repo, session, scheduler):
    dataset = mixed(make_dataset())
    to_icechunk(dataset, session)
    session.commit("written")
    assert reopened(repo.readonly_session("main")).identical(make_dataset())


def test_round_trip(repo, session, dataset):
    to_icechunk(dataset, session)
    assert reopened(session).identical(dataset)
    session.commit("written")
    assert reopened(repo.readonly_session("main")).identical(dataset)


def test_nothing_is_committed(repo, session, dataset):
    to_icechunk(dataset, session)
    assert session.has_uncommitted_changes
    assert len(list(repo.ancestry(branch="main"))) == 1


def test_groups_in_one_session_with_changes(session, dataset):
    to_icechunk(dataset, session, group="one")
    to_icechunk(dataset * 2, session, group="one/two")
    to_icechunk(dataset * 3, session, group="three")
    assert reopened(session, "one").identical(dataset)
    assert reopened(session, "one/two").identical(dataset * 2)
    assert reopened(session, "three").identical(dataset * 3)


def test_into_a_fork(session, dataset):
    fork = session.fork()
    to_icechunk(dataset, fork)
    assert not session.has_uncommitted_changes
    session.merge(fork)
    assert reopened(session).identical(dataset)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("name", ["t", None, "x"])
def test_data_arrays(session, name, chunked):
    array = make_dataset().temperature.rename(name)
    to_icechunk(array.chunk({"time": 5}) if chunked else array, session)
    # xarray's own reader of stores written from a DataArray undoes the placeholder names
    assert xr.open_dataarray(session.store, engine="zarr", consolidated=False).identical(array)


def test_append_many_times_in_one_session(repo, session, scheduler):
    whole = make_dataset(20)
    to_icechunk(mixed(whole.isel(time=slice(0, 5))), session, encoding=CHUNKS)
    for start in (5, 10, 15):
        part = mixed(whole.isel(time=slice(start, start + 5)))
        to_icechunk(part.drop_vars("mask"), session, append_dim="time")
    session.commit("appended")
    assert reopened(repo.readonly_session("main")).identical(whole)


def test_append_to_committed_data(repo, dataset):
    session = repo.writable_session("main")
    to_icechunk(dataset, session, encoding=CHUNKS)
    session.commit("first")
    more = make_dataset(10, "2000-01-21")
    session = repo.writable_session("main")
    to_icechunk(more.chunk({"time": 5}), session, append_dim="time", mode="a-")
    expected = xr.concat([make_dataset(), more], dim="time", data_vars="minimal")
    assert reopened(session).equals(expected)


@pytest.mark.parametrize("region", [{"time": slice(5, 15)}, "auto", {"time": "auto"}])
def test_regions(session, scheduler, region):
    dataset = make_dataset()
    to_icechunk(dataset.chunk({"time": 5}), session)
    part = dataset[["temperature", "rain"]].isel(time=slice(5, 15)) + 1000
    written = part.chunk({"time": 5}).drop_vars(["y", "x"])
    if region != "auto" and region["time"] != "auto":
        written = written.drop_vars("time")
    to_icechunk(written, session, region=region)
    stored = reopened(session)
    assert (stored.temperature[5:15] == part.temperature).all()
    assert (stored.temperature[:5] == dataset.temperature[:5]).all()
    assert (stored.rain[15:] == dataset.rain[15:]).all()


def test_a_region_of_numpy_data(session):
    dataset = make_dataset()
    to_icechunk(dataset, session)
    part = dataset[["rain"]].isel(time=slice(3, 4)).drop_vars(["y", "x", "time"]) * 0 - 1
    to_icechunk(part, session, region={"time": slice(3, 4)})
    assert (reopened(session).rain[3] == -1).all()
    assert (reopened(session).rain[4] != -1).all()


CHUNKS = {name: {"chunks": (5, 4, 3)} for name in ("temperature", "rain")}


class TestModes:
    def test_default_refuses_to_replace(self, session, dataset):
        to_icechunk(dataset, session)
        with pytest.raises(FileExistsError):
            to_icechunk(dataset, session)

    def test_w_replaces(self, session, dataset):
        to_icechunk(make_dataset(7).assign(extra=1.0), session)
        to_icechunk(dataset, session, mode="w")
        assert reopened(session).identical(dataset)

    def test_a_adds_and_replaces_variables(self, session, dataset):
        encoding = {"temperature": CHUNKS["temperature"]}
        to_icechunk(make_dataset().drop_vars("rain") * 5, session, encoding=encoding)
        to_icechunk(dataset[["rain", "temperature"]], session, mode="a")
        assert reopened(session).temperature.equals(dataset.temperature)
        assert reopened(session).rain.equals(dataset.rain)

    def test_r_plus_changes_values_only(self, session, dataset):
        to_icechunk(dataset, session)
        to_icechunk(dataset * 2, session, mode="r+")
        assert reopened(session).temperature.equals(dataset.temperature * 2)
        with pytest.raises(ValueError, match=r"r\+"):
            to_icechunk(dataset.assign(other=dataset.rain), session, mode="r+")

    @pytest.mark.parametrize(
        "arguments",
        [
            {"mode": "w", "append_dim": "time"},
            {"mode": "w-", "append_dim": "time"},
            {"mode": "w", "region": {"time": slice(0, 20)}},
            {"mode": "x"},
            {"mode": "r"},
        ],
    )
    def test_combinations_without_meaning(self, session, dataset, arguments):
        with pytest.raises(ValueError, match="mode"):
            to_icechunk(dataset, session, **arguments)
        assert not session.has_uncommitted_changes


class TestChunks:
    def test_unaligned_chunks_are_refused_before_anything_is_written(self, session):
        dataset = mixed(make_dataset(), chunk=6)
        with pytest.raises(ValueError, match=r"(?i)chunk"):
            to_icechunk(dataset, session, encoding={"temperature": {"chunks": (5, 4, 3)}})
        assert not session.has_uncommitted_changes
        assert session.status().is_empty()

    def test_unaligned_chunks_can_be_allowed(self, session, scheduler):
        dataset = mixed(make_dataset(), chunk=6)
        encoding = {"temperature": {"chunks": (5, 4, 3)}}
        with pytest.raises(icechunk.SessionStateError) as caught:
            to_icechunk(dataset, session, encoding=encoding, safe_chunks=False)
        assert caught.value.kind == "merge-failed"
        assert not session.has_uncommitted_changes
        to_icechunk(dataset, session, encoding=encoding, safe_chunks=False, overlap="last")
        assert reopened(session).rain.equals(dataset.rain)

    def test_unaligned_chunks_can_be_aligned(self, session, scheduler):
        dataset = mixed(make_dataset(), chunk=6)
        encoding = {"temperature": {"chunks": (5, 4, 3)}}
        to_icechunk(dataset, session, encoding=encoding, align_chunks=True)
        assert zarr.open_array(session.store, path="temperature").chunks == (5, 4, 3)
        assert reopened(session).identical(dataset)

    def test_zarr_chunks_smaller_than_dask_chunks(self, session, dataset):
        encoding = {"temperature": {"chunks": (1, 4, 3)}}
        to_icechunk(dataset, session, encoding=encoding)
        assert reopened(session).identical(dataset)


def test_encoding(session, dataset):
    encoding = {"temperature": {"dtype": "i2", "scale_factor": 0.5, "_FillValue": -1}}
    to_icechunk(dataset, session, encoding=encoding)
    assert zarr.open_array(session.store, path="temperature").dtype == "i2"
    assert reopened(session).temperature.equals(dataset.temperature)


def test_options_reach_the_computation(session):
    to_icechunk(
        mixed(make_dataset()),
        session,
        chunkmanager_store_kwargs={"scheduler": "synchronous", "return_stored": True},
        split_every=2,
    )
    assert reopened(session).identical(make_dataset())


def test_variables_without_elements(session):
    dataset = make_dataset().isel(time=slice(0, 0))
    to_icechunk(dataset.chunk(), session)
    assert reopened(session).identical(dataset)


def test_names_that_cannot_be_stored(session):
    with pytest.raises((ValueError, TypeError), match="name"):
        to_icechunk(xr.Dataset({"": ("x", [1])}), session)
    assert not session.has_uncommitted_changes


def test_a_failing_computation_leaves_a_clean_session_clean(session):
    def fail(block):
        raise ZeroDivisionError("in a task")

    dataset = make_dataset()
    broken = dataset.temperature.chunk({"time": 5}).data.map_blocks(
        fail, dtype="f4", meta=np.ones(())
    )
    with pytest.raises(ZeroDivisionError):
        to_icechunk(dataset.assign(temperature=(("time", "y", "x"), broken)), session)
    assert not session.has_uncommitted_changes


def test_an_error_leaves_the_earlier_changes_of_a_session_as_they_were(repo, session, dataset):
    to_icechunk(dataset, session, group="earlier")
    before, keys = repr(session.status()), sorted(session.store.list())
    unaligned = mixed(make_dataset(), chunk=6)
    for group in ("later", "earlier"):
        with pytest.raises(ValueError, match=r"(?i)chunk"):
            to_icechunk(
                unaligned,
                session,
                group=group,
                mode="w",
                encoding={"temperature": {"chunks": (5, 4, 3)}},
            )
        assert repr(session.status()) == before
        assert sorted(session.store.list()) == keys
    to_icechunk(dataset, session, group="later")
    session.commit("both")
    store = repo.readonly_session("main").store
    for group in ("earlier", "later"):
        assert xr.open_zarr(store, group=group, consolidated=False).equals(dataset)


def test_only_sessions_are_taken(repo, session, tmp_path):
    with pytest.raises(ValueError, match=r"icechunk\.Session"):
        to_icechunk(make_dataset(), str(tmp_path))
    with pytest.raises(ValueError, match=r"icechunk\.Session"):
        to_icechunk(make_dataset(), session.store)


def test_a_read_only_session_is_refused(repo, dataset):
    with pytest.raises((ValueError, icechunk.IcechunkError)):
        to_icechunk(dataset, repo.readonly_session("main"))


class TestSteps:
    """The steps of `to_icechunk` used one by one."""

    def test_metadata_first_then_data(self, session):
        writer = _XarrayDatasetWriter(mixed(make_dataset()), store=session.store)
        writer._open_group(group=None, mode="w", append_dim=None, region=None)
        writer.write_metadata(None)
        assert zarr.open_array(session.store, path="temperature").shape == (20, 4, 3)
        writer.write_eager()
        session.merge(writer.write_lazy())
        assert reopened(session).identical(make_dataset())

    def test_in_the_wrong_order(self, session):
        writer = _XarrayDatasetWriter(make_dataset(), store=session.store)
        with pytest.raises(ValueError, match="_open_group"):
            writer.write_metadata(None)
        with pytest.raises(ValueError, match="write_metadata"):
            writer.write_eager()
        with pytest.raises(ValueError, match="write_metadata"):
            writer.write_lazy()

    def test_without_dask_arrays(self, session):
        writer = _XarrayDatasetWriter(make_dataset(), store=session.store)
        writer._open_group(group=None, mode="w")
        writer.write_metadata()
        with pytest.raises(TypeError, match="no Dask arrays"):
            writer.write_lazy()

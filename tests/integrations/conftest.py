"""A repository on disk, forks of it, and one small cluster of worker processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import dask
import pytest

import icechunk

SCHEDULERS = ["synchronous", "threads", "processes", "distributed"]


@pytest.fixture
def repo(tmp_path: Path) -> icechunk.Repository:
    """An empty repository that any process of this machine can reach."""
    storage = icechunk.local_filesystem_storage(str(tmp_path / "repo"))
    return icechunk.Repository.create(storage)


@pytest.fixture
def session(repo: icechunk.Repository) -> icechunk.Session:
    return repo.writable_session("main")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """Two worker processes on loopback, started on first use."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=2,
        processes=True,
        host="127.0.0.1",
        dashboard_address=None,
    ) as running:
        yield running


@pytest.fixture(scope="session")
def process_pool() -> Iterator[Any]:
    """Two processes for Dask's ``processes`` scheduler, which would start its own each time."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        yield pool


@pytest.fixture(params=SCHEDULERS)
def scheduler(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test under each scheduler in turn."""
    if request.param == "distributed":
        from distributed import Client

        with Client(request.getfixturevalue("cluster")):
            yield request.param
        return
    settings = {"scheduler": request.param}
    if request.param == "processes":
        settings["pool"] = request.getfixturevalue("process_pool")
    with dask.config.set(**settings):
        yield request.param

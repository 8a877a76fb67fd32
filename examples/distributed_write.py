"""Write real climate data into Icechunk from a cluster of worker processes, and read it back.

    python examples/distributed_write.py                     # into ./demo-repo, made anew
    python examples/distributed_write.py path/to/repository
    python examples/distributed_write.py s3://bucket/prefix  # described by the AWS_* variables

The data are two climate projections for North America, temperatures of 240 years under the
emission scenarios E1 and A1B, from the package ``iris-sample-data``.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import dask.array as da
import iris_sample_data
import numpy as np
import xarray as xr
import zarr
from distributed import Client, LocalCluster

import icechunk
from icechunk.dask import store_dask
from icechunk.xarray import to_icechunk

SCENARIOS = ("E1", "A1B")
MEMBERS = 32
DEFAULT_REPO = "demo-repo"


def main(place: str) -> None:
    repo = create_repository(place)
    started = time.perf_counter()
    with start_cluster() as cluster, Client(cluster) as client:
        print(f"Writing to {place} with {len(client.nthreads())} worker processes.\n")
        originals = write_datasets(repo, client)
        ensemble = write_ensemble(repo, client, originals)
        seconds = time.perf_counter() - started
        check(repo, originals, ensemble)
    report(repo, place, seconds)


def write_datasets(repo: icechunk.Repository, client: Client) -> dict[str, xr.Dataset]:
    """Write each dataset into a group of its own, one commit per dataset."""
    originals = {}
    for name in SCENARIOS:
        path = Path(iris_sample_data.path) / f"{name}_north_america.nc"
        # In chunks of 24 years: xarray gives Dask arrays that read the file when computed.
        dataset = originals[name] = xr.open_dataset(path, chunks={"time": 24})

        # to_icechunk writes through the session's store. Metadata and coordinates go first, then
        # the workers write the Dask arrays, then what they wrote is merged into the session.
        session = repo.writable_session("main")
        with progress(client, f"{name}: to_icechunk"):
            to_icechunk(dataset, session, group=name)
        session.commit(f"Add scenario {name}", metadata={"source": path.name})
    return originals


def write_ensemble(
    repo: icechunk.Repository, client: Client, originals: dict[str, xr.Dataset]
) -> da.Array:
    """Write a plain Dask array: the difference of the scenarios, perturbed many times."""
    e1, a1b = (originals[name]["air_temperature"].data for name in SCENARIOS)
    ensemble = da.stack([a1b - e1 + np.float32(member / 100) for member in range(MEMBERS)])

    session = repo.writable_session("main")
    zarr.create_array(
        session.store,
        name="difference",
        shape=ensemble.shape,
        chunks=ensemble.chunksize,
        dtype=ensemble.dtype,
        dimension_names=["member", "time", "latitude", "longitude"],
    )
    # A fork travels to the workers. Each task writes through a copy of its own, so two tasks
    # that write the same chunk by mistake are found when their copies are merged.
    fork = session.fork()
    target = zarr.open_array(fork.store, path="difference")
    with progress(client, "difference: store_dask"):
        written = store_dask(sources=[ensemble], targets=[target])
    session.merge(written)
    session.commit(f"Add {MEMBERS} perturbed differences")
    return ensemble


def check(repo: icechunk.Repository, originals: dict[str, xr.Dataset], ensemble: da.Array) -> None:
    """Open what was committed, as any reader would, and compare it with the originals."""
    store = repo.readonly_session("main").store
    for name, original in originals.items():
        stored = xr.open_zarr(store, group=name, consolidated=False)
        if not stored.identical(original):
            raise SystemExit(f"group {name} differs from the original dataset")
    stored_array = da.from_zarr(zarr.open_array(store, path="difference", mode="r"))
    if not np.array_equal(stored_array.compute(), ensemble.compute()):
        raise SystemExit("array difference differs from the original array")
    print("\nRead back: everything is identical to the originals.")


def report(repo: icechunk.Repository, place: str, seconds: float) -> None:
    """Print the history and what the repository holds."""
    print("\nHistory of main, newest first:")
    for snapshot in repo.ancestry(branch="main"):
        print(f"  {snapshot.id}  {snapshot.written_at:%Y-%m-%d %H:%M:%S}  {snapshot.message}")

    root = zarr.open_group(repo.readonly_session("main").store, mode="r")
    arrays = [item for _, item in root.members(max_depth=None) if isinstance(item, zarr.Array)]
    chunks = sum(array.nchunks_initialized for array in arrays)
    raw, stored = (array.nbytes for array in arrays), (array.nbytes_stored() for array in arrays)
    print(
        f"\nWrote {len(arrays)} arrays, {chunks} chunks, {sum(raw) / 1e6:.1f} MB of array data "
        f"({sum(stored) / 1e6:.1f} MB stored), in {seconds:.1f} s, to {place}"
    )


def create_repository(place: str) -> icechunk.Repository:
    """Make a fresh repository in a folder or an object store; never write over other things."""
    url = urlsplit(place)
    if url.scheme == "s3":
        endpoint = os.environ.get("AWS_ENDPOINT_URL")
        storage = icechunk.s3_storage(
            bucket=url.netloc,
            prefix=url.path.strip("/"),
            region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
            endpoint_url=endpoint,
            allow_http=(endpoint or "").startswith("http://"),
            force_path_style=endpoint is not None,
            from_env=True,
        )
    else:
        folder = Path(place)
        if place == DEFAULT_REPO and (folder / "repo").is_file():
            shutil.rmtree(folder)  # the repository of an earlier run
        if folder.exists() and any(folder.iterdir()):
            raise SystemExit(f"{place} exists and is not empty: name another place, or remove it")
        storage = icechunk.local_filesystem_storage(place)
    return icechunk.Repository.create(storage)


def start_cluster() -> LocalCluster:
    """Start worker processes on this machine, reachable from this machine only."""
    return LocalCluster(
        n_workers=max(2, min(4, os.cpu_count() or 2)),
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address=None,
    )


@contextmanager
def progress(client: Client, label: str) -> Iterator[None]:
    """Draw a bar of the tasks the cluster has done, while the block runs."""
    finished = threading.Event()
    started = time.perf_counter()
    total = 0

    def draw() -> None:
        nonlocal total
        while not finished.wait(0.1):
            known, waiting = client.run_on_scheduler(count_tasks)
            total = max(total, known)
            if total:
                draw_bar(label, total - waiting, total, time.perf_counter() - started)

    drawing = threading.Thread(target=draw)
    drawing.start()
    try:
        yield
    finally:
        finished.set()
        drawing.join()
    draw_bar(label, total, total, time.perf_counter() - started)
    print()


def count_tasks(dask_scheduler) -> tuple[int, int]:
    """Count the tasks a scheduler knows, and those of them that are still to be done."""
    states = [task.state for task in dask_scheduler.tasks.values()]
    unfinished = {"waiting", "queued", "no-worker", "processing"}
    return len(states), sum(state in unfinished for state in states)


def draw_bar(label: str, done: int, total: int, seconds: float, width: int = 40) -> None:
    """Draw one line over the last one, in any terminal."""
    filled = width * done // total if total else width
    bar = "#" * filled + "." * (width - filled)
    print(f"\r{label:<24} [{bar}] {done:>4}/{total:<4} tasks {seconds:5.1f} s", end="", flush=True)


if __name__ == "__main__":  # worker processes import this file and must not start the work again
    main(sys.argv[1] if len(sys.argv) > 1 else DEFAULT_REPO)

"""Write a Dask array with many small tasks from two worker processes.

``target="icechunk"`` writes with `icechunk.dask.store_dask` into a fork, ``target="zarr"`` the same
array with `dask.array.store` into a plain Zarr directory, without transactions. Tasks make their
own data, so none travels.
"""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import zarr
from distributed import Client, LocalCluster

from works.common import create, expect, make_array, on_disk, timed

CHUNKS_PER_TASK = 4
CHUNK = 4096


def block(block_id: tuple[int, ...]) -> np.ndarray:
    """Make the data of one task."""
    rng = np.random.default_rng(block_id[0])
    return rng.integers(1, 256, (CHUNKS_PER_TASK, CHUNK), np.uint8)


def prepare_worker() -> None:
    """Import what tasks need, as any worker that is not brand-new has."""
    importlib.import_module("icechunk.dask")


class Work:
    def __init__(self, folder: Path, tasks: int, target: str) -> None:
        self.folder, self.tasks, self.target = folder, tasks, target
        dask.config.set({"distributed.scheduler.worker-ttl": None})
        self.cluster = LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
        )
        self.client = Client(self.cluster)
        self.client.run(prepare_worker)
        self.grid = (tasks * CHUNKS_PER_TASK, 1)
        self.shape = (CHUNKS_PER_TASK, CHUNK)
        blocks = (self.shape[0],) * tasks, (CHUNK,)
        self.source = da.map_blocks(block, chunks=blocks, dtype="u1", meta=np.empty((0, 0), "u1"))
        self.measure()  # the first round pays for imports in the workers

    def measure(self) -> dict[str, float]:
        place = self.folder / "target"
        shutil.rmtree(place, ignore_errors=True)
        seconds, array = (
            self._into_icechunk(place) if self.target == "icechunk" else self._into_zarr(place)
        )
        data = array[:]
        for task in (0, self.tasks // 2, self.tasks - 1):
            rows = slice(task * CHUNKS_PER_TASK, (task + 1) * CHUNKS_PER_TASK)
            expect(f"block {task} is right", np.array_equal(data[rows], block((task, 0))), True)
        expect("every value was written", bool(data.all()), True)
        return {"store": seconds}

    def _into_icechunk(self, place: Path) -> tuple[float, Any]:
        from icechunk.dask import store_dask

        session = create(on_disk(place)).writable_session("main")
        make_array(session.store, self.grid, (1, CHUNK))
        fork = session.fork()
        target = zarr.open_array(fork.store, path="a", zarr_format=3)
        seconds, merged = timed(lambda: store_dask(sources=[self.source], targets=[target]))
        session.merge(merged)
        session.commit("array")
        return seconds, zarr.open_array(session.store, path="a", mode="r", zarr_format=3)

    def _into_zarr(self, place: Path) -> tuple[float, Any]:
        target = make_array(zarr.storage.LocalStore(place), self.grid, (1, CHUNK))
        seconds, _ = timed(lambda: da.store(self.source, target, lock=False))
        return seconds, target

    def close(self) -> None:
        self.client.close()
        self.cluster.close()

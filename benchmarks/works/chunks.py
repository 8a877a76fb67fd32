"""Write an array through Zarr into a session, then read it all from a freshly opened repository.

Local disk, chunks without compression and of incompressible bytes, so that what is measured is
Zarr and the store. The write ends with the last chunk and leaves the commit out; the read starts
with empty caches and includes fetching the manifest.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import zarr

import icechunk
from works.common import create, expect, make_array, on_disk, random_bytes, timed


class Work:
    def __init__(self, folder: Path, count: int, size: int) -> None:
        self.folder = folder / "repo"
        self.count, self.size = count, size
        self.data = random_bytes(count * size)

    def measure(self) -> dict[str, float]:
        shutil.rmtree(self.folder, ignore_errors=True)
        session = create(on_disk(self.folder)).writable_session("main")
        array = make_array(session.store, (self.count,), (self.size,))

        def write() -> None:
            array[:] = self.data

        writing, _ = timed(write)
        session.commit("chunks")

        repo = icechunk.Repository.open(on_disk(self.folder))
        array = zarr.open_array(
            repo.readonly_session("main").store, path="a", mode="r", zarr_format=3
        )
        reading, back = timed(lambda: array[:])
        expect("the data are the same", np.array_equal(back, self.data), True)
        return {"write": writing, "read": reading}

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

"""Write and read an array through an S3 server that takes its time, as one across a network does.

The server is the one for tests, with a latency added to every answer; it keeps objects in memory.
It is written in Python, so beyond some thousand requests a second its own time is measured. The
write ends with the last chunk; the read starts from a freshly opened repository.
"""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path

import numpy as np
import zarr

import icechunk
from works.common import create, expect, make_array, random_bytes, storage_of, timed

STUB = Path(__file__).parents[2] / "src" / "icechunk" / "testing" / "s3_stub.py"


class Work:
    def __init__(
        self, folder: Path, count: int, size: int, latency_ms: int, at_once: int, ours: str
    ) -> None:
        self.count, self.size, self.at_once = count, size, at_once
        self.data = random_bytes(count * size)
        self.numbers = itertools.count()
        # Isolated: the file must not find its neighbours as modules.
        self.server = subprocess.Popen(
            [ours, "-I", str(STUB), "--latency-ms", str(latency_ms)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.server.stdout is not None
        self.endpoint = self.server.stdout.readline().strip()

    def measure(self) -> dict[str, float]:
        storage = self.storage(next(self.numbers))
        with zarr.config.set({"async.concurrency": self.at_once}):
            session = create(storage).writable_session("main")
            array = make_array(session.store, (self.count,), (self.size,))

            def write() -> None:
                array[:] = self.data

            writing, _ = timed(write)
            session.commit("chunks")
            repo = icechunk.Repository.open(storage)
            array = zarr.open_array(
                repo.readonly_session("main").store, path="a", mode="r", zarr_format=3
            )
            reading, back = timed(lambda: array[:])
        expect("the data are the same", np.array_equal(back, self.data), True)
        return {"write": writing, "read": reading}

    def storage(self, number: int) -> object:
        return storage_of(
            {
                "bucket": "testbucket",
                "prefix": f"run-{number}",
                "region": "us-east-1",
                "endpoint_url": self.endpoint,
                "access_key_id": "a-key",
                "secret_access_key": "a-secret",
            }
        )

    def close(self) -> None:
        self.server.terminate()
        self.server.wait(30)

"""The smallest distributed write: fork a session, write with Dask, merge, commit.

Run it with an optional path for the repository:

    python examples/fork_and_merge.py [path]
"""

import sys
import tempfile

import dask.array as da
import zarr

import icechunk
from icechunk.dask import store_dask


def main(path: str) -> None:
    repo = icechunk.Repository.create(icechunk.local_filesystem_storage(path))

    # Lay out the array in a session. Nobody else sees it until the commit.
    session = repo.writable_session("main")
    zarr.create_array(
        session.store, name="temperature", shape=(400, 300), chunks=(100, 100), dtype="f8"
    )

    # A fork of the session can travel to other processes, where the session itself cannot.
    fork = session.fork()
    target = zarr.open_array(fork.store, path="temperature")
    source = da.random.normal(15, 5, size=(400, 300), chunks=(100, 100))
    written = store_dask(sources=[source], targets=[target])

    # What the tasks wrote comes back as references to chunks, not as data.
    session.merge(written)
    print("committed", session.commit("Write temperature with Dask"))

    readonly = repo.readonly_session("main")
    temperature = zarr.open_array(readonly.store, path="temperature", mode="r")
    print(f"mean {temperature[:].mean():.2f}, {temperature.nchunks_initialized} chunks, in {path}")


if __name__ == "__main__":  # worker processes import this file and must not start the work again
    main(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="icechunk-"))

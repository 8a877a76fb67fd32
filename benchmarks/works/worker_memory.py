"""Peak memory of each of many workers that write references of one huge array; ours, local disk.

A million chunks of 100 kB are committed and then all written again by workers, each its share,
through forks; chunks have sizes and no bytes. Every worker is a process of its own. It looks chunks
up in the committed manifest, records its own one by one as writing a chunk does, and pickles its
fork for the way back. Counted is all of its resident memory, Python and Zarr included.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

LENGTH = 100_000


class Work:
    def __init__(self, folder: Path, count: int, workers: int) -> None:
        import numpy as np

        from icechunk.chunks import ChunkTable
        from works.common import grid_coords, grid_of, on_disk, put_table, repository_with_array

        self.folder, self.count, self.workers = folder, count, workers
        grid = grid_of(count)
        self.repo = repository_with_array(on_disk(folder / "repo"), grid)
        session = self.repo.writable_session("main")
        ids = np.frombuffer(os.urandom(12 * count), np.uint8).reshape(-1, 12)
        put_table(session, ChunkTable.native(grid_coords(grid), ids, LENGTH))
        session.commit("references")

    def measure(self) -> dict[str, float]:
        from works.common import count_refs, expect

        session = self.repo.writable_session("main")
        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            sent = Path(place) / "fork"
            sent.write_bytes(pickle.dumps(session.fork()))
            running = [
                subprocess.Popen(
                    [sys.executable, __file__, place, *map(str, (number, self.workers))],
                    stdout=subprocess.PIPE,
                )
                for number in range(self.workers)
            ]
            peaks = [json.loads(process.communicate(timeout=600)[0]) for process in running]
            files = [Path(place) / f"{number}" for number in range(self.workers)]
            session.merge(*(pickle.loads(file.read_bytes()) for file in files))
        expect("references", count_refs(self.repo, session.flush("all of them")), self.count)
        return {"most": max(peaks), "least": min(peaks)}


def work(place: str, number: int, workers: int) -> int:
    """Write one share of the references and return the peak of this process's memory."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    import zarr

    from icechunk.changes.workspace import native_ref
    from works.common import expect, grid_coords, grid_of
    from works.peak_memory import memory

    fork = pickle.loads((Path(place) / "fork").read_bytes())
    array = zarr.open_array(fork.store, path="a")
    grid = tuple(n // size for n, size in zip(array.shape, array.chunks, strict=True))
    total = grid[0] * grid[1] * grid[2]
    share = range(number * total // workers, (number + 1) * total // workers)
    expect("the array", grid, grid_of(total))
    coords = grid_coords(grid)[share.start : share.stop].copy()
    workspace = fork._workspace
    node = workspace.nodes.find("/a")
    for row in range(0, len(coords), 1000):
        found = workspace.locate("/a", tuple(coords[row].tolist()))
        expect("a committed chunk", found.length, LENGTH)
    for place_of_chunk in coords:
        chunk = native_ref(os.urandom(12), LENGTH)
        workspace.record(node, tuple(place_of_chunk.tolist()), chunk)
    (Path(place) / f"{number}").write_bytes(pickle.dumps(fork))
    return memory("VmHWM")


if __name__ == "__main__":
    print(json.dumps(work(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))

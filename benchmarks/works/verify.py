"""Verify a repository of many native chunks on local disk, each an object of its own; ours only.

References and files are made directly: writing them through a store would take ten times as long.
After the clock has stopped, a chunk that is missing must be found.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from icechunk.chunks import ChunkTable
from works.common import (
    all_native,
    expect,
    grid_coords,
    grid_of,
    on_disk,
    put_chunk_files,
    put_table,
    repository_with_array,
    timed,
)


class Work:
    def __init__(self, folder: Path, count: int) -> None:
        self.count = count
        place, grid = folder / "repo", grid_of(count)
        self.repo = repository_with_array(on_disk(place), grid, all_native())
        ids = np.random.default_rng(1).integers(0, 256, (count, 12), np.uint8)
        session = self.repo.writable_session("main")
        put_table(session, ChunkTable.native(grid_coords(grid), ids, 1))
        session.commit("references")
        self.victim = put_chunk_files(place, ids)[0]

    def measure(self) -> dict[str, float]:
        seconds, report = timed(self.repo.verify)
        expect("faults", report.faults, ())
        expect("references", report.checked.references, self.count)
        expect("chunk objects", report.checked.chunk_objects, self.count)
        self.victim.unlink()
        expect("errors", self.repo.verify().errors, 1)
        self.victim.write_bytes(b"x")
        return {"verify": seconds}

"""Write a repository of ours with one large manifest: ``make_large.py FOLDER KIND COUNT``."""

from __future__ import annotations

import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(BENCHMARKS.parent / "src"), str(BENCHMARKS)]

# ruff: noqa: E402  (the lines above make these importable)
import numpy as np

from icechunk.chunks import ChunkTable
from works.common import (
    grid_coords,
    grid_of,
    on_disk,
    put_table,
    repository_with_array,
    virtual_columns,
    virtual_table,
)

CHUNKS_PER_FILE = 100


def main(folder: str, kind: str, count: int) -> None:
    """Commit that many references, whose chunks do not exist."""
    grid = grid_of(count)
    repo = repository_with_array(on_disk(Path(folder)), grid)
    session = repo.writable_session("main")
    if kind == "native":
        ids = np.random.default_rng(1).integers(0, 256, (count, 12), np.uint8)
        table = ChunkTable.native(grid_coords(grid), ids, 1)
    else:
        table = virtual_table(grid, virtual_columns(count, CHUNKS_PER_FILE))
    put_table(session, table)
    session.commit("references")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))

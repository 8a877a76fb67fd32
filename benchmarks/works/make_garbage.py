"""Write a repository of ours with garbage in it, for either side to collect.

    make_garbage.py FOLDER COUNT MANIFESTS SNAPSHOTS

So many chunk objects of a byte, each a file; a tenth of them are in no manifest. The references of
the others are spread evenly over the manifests of one array, which all snapshots but the first two
have. References and files are made directly: writing them through a store would take ten times as
long.
"""

from __future__ import annotations

import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(BENCHMARKS.parent / "src"), str(BENCHMARKS)]

# ruff: noqa: E402  (the lines above make these importable)
import numpy as np

import icechunk
from icechunk.chunks import ChunkTable
from works.common import (
    count_refs,
    expect,
    grid_coords,
    grid_of,
    on_disk,
    put_chunk_files,
    put_table,
    repository_with_array,
)


def write(folder: Path, count: int, manifests: int, snapshots: int) -> None:
    """Make the repository, and then the files of its chunks."""
    grid = grid_of(count)
    expect("rows beyond the last manifest", grid[0] % manifests, 0)
    splitting = icechunk.ManifestSplittingConfig.from_dict(
        {
            icechunk.ManifestSplitCondition.AnyArray(): {
                icechunk.ManifestSplitDimCondition.Axis(0): grid[0] // manifests
            }
        }
    )
    config = icechunk.RepositoryConfig(
        inline_chunk_threshold_bytes=0, manifest=icechunk.ManifestConfig(splitting=splitting)
    )
    repo = repository_with_array(on_disk(folder), grid, config)
    ids = np.random.default_rng(1).integers(0, 256, (count, 12), np.uint8)
    kept = np.flatnonzero(np.arange(count) % 10 != 9)
    session = repo.writable_session("main")
    put_table(session, ChunkTable.native(grid_coords(grid)[kept], ids[kept], 1))
    tip = session.commit("references")
    expect("references", count_refs(repo, tip), len(kept))
    expect("manifests", len(repo.list_manifest_files(tip)), manifests)
    for number in range(snapshots - 3):
        repo.writable_session("main").commit(f"nothing {number}", allow_empty=True)
    put_chunk_files(folder, ids)


if __name__ == "__main__":
    write(Path(sys.argv[1]), *map(int, sys.argv[2:5]))

"""Peak memory of the commit of many new native references; ours, local disk.

A fresh process each time: what its resident memory grows to above the interpreter with Zarr
loaded, counted from before the references exist, and once more from after.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path


class Work:
    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.count = folder, count

    def measure(self) -> dict[str, float]:
        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            done = subprocess.run(
                [sys.executable, __file__, place, str(self.count)],
                stdout=subprocess.PIPE,
                check=True,
            )
        return json.loads(done.stdout)


def memory(field: str) -> int:
    """Read a memory figure of this process, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no {field} in /proc/self/status")


def commit_once(folder: str, count: int) -> dict[str, float]:
    """Build the references and commit them, looking at the memory of the process."""
    import numpy as np
    import zarr  # noqa: F401  (part of the baseline)

    baseline = memory("VmRSS")
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from icechunk.chunks import ChunkTable
    from works.common import (
        count_refs,
        expect,
        grid_coords,
        grid_of,
        on_disk,
        put_table,
        repository_with_array,
    )

    grid = grid_of(count)
    repo = repository_with_array(on_disk(Path(folder) / "repo"), grid)
    session = repo.writable_session("main")
    ids = np.frombuffer(os.urandom(12 * count), np.uint8).reshape(-1, 12)
    put_table(session, ChunkTable.native(grid_coords(grid), ids, 1))
    del ids
    # Reset the high-water mark: building the references is not the commit.
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    snapshot = session.commit("references")
    peak = memory("VmHWM")
    expect("references", count_refs(repo, snapshot), count)
    return {"with_refs": peak - baseline, "commit_alone": peak - before}


if __name__ == "__main__":
    print(json.dumps(commit_once(sys.argv[1], int(sys.argv[2]))))

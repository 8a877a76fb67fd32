"""Shift an array of many committed native references by a chunk along every axis, and commit it.

On local disk, opened anew each time. The repository is written by ours for either side, as in
`commit_few`, for the same reason. The chunks themselves do not exist: nothing of this reads them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import icechunk
from works.common import count_refs, expect, grid_of, on_disk, rewound_session, run_ours, timed

OFFSET = (1, -1, 1)


class Work:
    def __init__(self, folder: Path, count: int, ours: str) -> None:
        self.grid = grid_of(count)
        self.folder = folder / "repo"
        run_ours(ours, "make_large.py", self.folder, "native", count)
        self.base = self._open().lookup_branch("main")
        self.measure()  # what is imported or connected on first use is not what is measured

    def _open(self) -> Any:
        return icechunk.Repository.open(on_disk(self.folder))

    def measure(self) -> dict[str, float]:
        repo = self._open()
        session = rewound_session(repo, self.base)
        shifting, _ = timed(lambda: session.shift_array("/a", OFFSET))
        expect("the corner", str(session.chunk_type("/a", (0, 0, 0))), "ChunkType.uninitialized")
        expect("beside it", str(session.chunk_type("/a", (1, 0, 1))), "ChunkType.native")
        committing, snapshot = timed(lambda: session.commit("shifted"))
        left = int(np.prod([size - 1 for size in self.grid]))
        expect("references", count_refs(repo, snapshot), left)
        return {"shift": shifting, "commit": committing}

"""Commit many new native references that the session already holds; memory storage.

The reference takes such references only one by one, at some 100 us each, so an eighth of them is
written through the store and pickled; the rest are the same ones, shifted along the first axis.
Merging the pieces gives a session with all of them. (The ids repeat eight times, too far apart for
zstd's window to notice.) Ours gets the same references as a table. Only `commit` is timed.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

import icechunk
from works.common import (
    IS_REFERENCE,
    all_native,
    count_refs,
    expect,
    grid_coords,
    put_table,
    repository_with_array,
    rewound_session,
    set_chunks,
    timed,
)

PIECES = 8


class Work:
    def __init__(self, folder: Path, count: int) -> None:
        self.count = count
        grid = (PIECES, 10, count // PIECES // 10)
        assert np.prod(grid) == count
        self.repo = repository_with_array(icechunk.in_memory_storage(), grid, all_native())
        self.base = self.repo.lookup_branch("main")
        self.fill = self._pieces(grid) if IS_REFERENCE else self._table(grid)

    def _pieces(self, grid: tuple[int, int, int]) -> Any:
        fork = self.repo.writable_session("main").fork()
        _, rows, columns = grid
        keys = (f"a/c/0/{row}/{column}" for row in range(rows) for column in range(columns))
        set_chunks(fork.store, keys, b"x")
        pieces = [pickle.dumps(fork)]
        for _ in range(PIECES - 1):
            fork.shift_array("/a", (1, 0, 0))
            pieces.append(pickle.dumps(fork))
        # A shift leaves tombstones behind, so what was shifted furthest is merged first.
        pieces.reverse()
        return lambda session: session.merge(*map(pickle.loads, pieces))

    def _table(self, grid: tuple[int, int, int]) -> Any:
        from icechunk.chunks import ChunkTable

        ids = np.random.default_rng(1).integers(0, 256, (self.count // PIECES, 12), np.uint8)
        table = ChunkTable.native(grid_coords(grid), np.tile(ids, (PIECES, 1)), 1)
        return lambda session: put_table(session, table)

    def measure(self) -> dict[str, float]:
        session = rewound_session(self.repo, self.base)
        self.fill(session)
        seconds, snapshot = timed(lambda: session.commit("refs"))
        expect("references", count_refs(self.repo, snapshot), self.count)
        size = sum(file.size_bytes for file in self.repo.list_manifest_files(snapshot))
        return {"commit": seconds, "manifest_bytes": size}

"""Rebase a session over many commits, and tell what those commits changed; nothing is cached.

On local disk. Every commit wrote a row of chunks. One session has written the row that nobody else
did, and is rebased with a `ConflictDetector`. Another one has written into every row, so that it
conflicts with each commit, and a `BasicConflictSolver` keeps ours or theirs. The difference is
asked for once alone, and once with the coordinates of all chunks that changed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import zarr

import icechunk
from works.common import expect, on_disk, row_value, run_ours, set_chunks, timed

MINE = 255
"""What the sessions write; no commit did."""


class Work:
    def __init__(self, folder: Path, commits: int, chunks: int, ours: str) -> None:
        self.commits, self.chunks = commits, chunks
        self.folder = folder / "repo"
        run_ours(ours, "make_history.py", self.folder, "chunks", commits, chunks)
        history = list(self._open().ancestry(branch="main"))
        self.tip, self.base = history[0].id, history[commits].id
        expect("the first commit", history[commits - 1].message, "row 0")
        self.own_row = [(commits, column) for column in range(chunks)]
        each = chunks // commits
        self.every_row = [(row, column) for row in range(commits) for column in range(each)]
        self.measure()  # what is imported on first use is not what is measured

    def _open(self) -> Any:
        return icechunk.Repository.open(on_disk(self.folder))

    def measure(self) -> dict[str, float]:
        last = self.commits - 1
        keep = icechunk.VersionSelection
        keeping_ours = icechunk.BasicConflictSolver(on_chunk_conflict=keep.UseOurs)
        keeping_theirs = icechunk.BasicConflictSolver(on_chunk_conflict=keep.UseTheirs)
        return {
            "clean": self._rebase(icechunk.ConflictDetector(), self.own_row, MINE),
            "ours": self._rebase(keeping_ours, self.every_row, MINE),
            "theirs": self._rebase(keeping_theirs, self.every_row, row_value(last)),
            **self._diff(),
        }

    def _rebase(self, solver: Any, written: list[tuple[int, int]], result: int) -> float:
        """Rebase a session that has written some chunks; `result` is what the last one becomes."""
        repo = self._open()
        repo.reset_branch("main", self.base)
        session = repo.writable_session("main")
        set_chunks(session.store, [f"a/c/{row}/{column}" for row, column in written], bytes([MINE]))
        repo.reset_branch("main", self.tip)
        seconds, _ = timed(lambda: session.rebase(solver))
        expect("base", session.snapshot_id, self.tip)
        array = zarr.open_array(session.store, path="a", mode="r", zarr_format=3)
        expect("my chunk", array[written[-1]], result)
        expect("their chunk", array[self.commits - 1, self.chunks - 1], row_value(self.commits - 1))
        return seconds

    def _diff(self) -> dict[str, float]:
        repo = self._open()
        calling, diff = timed(lambda: repo.diff(from_snapshot_id=self.base, to_branch="main"))
        listing, changed = timed(lambda: diff.updated_chunks["/a"])
        expect("changed chunks", len(changed), self.commits * self.chunks)
        expect("the last one", list(changed[-1]), [self.commits - 1, self.chunks - 1])
        expect("new arrays", set(diff.new_arrays), set())
        return {"diff": calling, "diff_listed": calling + listing}

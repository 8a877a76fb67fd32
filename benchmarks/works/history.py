"""Look through the history of a repository with many snapshots, and commit to it.

On local disk. Every run opens the repository anew and finds the same state.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import icechunk
from works.common import expect, on_disk, run_ours, set_chunks, timed


class Work:
    def __init__(self, folder: Path, snapshots: int, ours: str) -> None:
        self.snapshots = snapshots
        self.folder, self.state = folder / "repo", folder / "state"
        run_ours(ours, "make_history.py", self.folder, "snapshots", snapshots)
        shutil.copy(self.folder / "repo", self.state)
        self.measure()

    def _open(self) -> Any:
        return icechunk.Repository.open(on_disk(self.folder))

    def measure(self) -> dict[str, float]:
        shutil.copy(self.state, self.folder / "repo")
        walking, history = timed(lambda: list(self._open().ancestry(branch="main")))
        expect("snapshots", len(history), self.snapshots)
        expect("root", history[-1].message, "Repository initialized")
        expect("the first", history[-2].message, "Append day 1 of the analysis")

        repo = self._open()
        session = repo.writable_session("main")
        set_chunks(session.store, ["a/c/7"], b"x")
        committing, snapshot = timed(lambda: session.commit("one chunk"))
        newest = next(iter(self._open().ancestry(branch="main")))
        expect("tip", (newest.id, newest.parent_id), (snapshot, history[0].id))
        return {"ancestry": walking, "commit": committing}

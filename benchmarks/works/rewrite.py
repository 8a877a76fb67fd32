"""Rewrite the manifests of a large array, and amend commits to it; nothing is cached.

On local disk, over the repository that `commit_few.py` uses. One of the amended commits wrote a
single chunk, the other one all of them, so that its log of changes is as large as can be.
"""

from __future__ import annotations

from pathlib import Path

from works import commit_few
from works.commit_few import FEW
from works.common import count_refs, expect, rewound_session, set_chunks, timed


class Work(commit_few.Work):
    def __init__(self, folder: Path, count: int, kind: str, ours: str) -> None:
        self.large = ""
        super().__init__(folder, count, kind, ours)

    def measure(self) -> dict[str, float]:
        repo = self._open()
        self.large = self.large or next(
            entry.id
            for entry in repo.ancestry(snapshot_id=self.base)
            if entry.message == "references"
        )
        repo.reset_branch("main", self.base)
        rewriting, snapshot = timed(lambda: repo.rewrite_manifests("rewritten", branch="main"))
        expect("references", count_refs(repo, snapshot), self.count)
        return {
            "rewrite": rewriting,
            "amend_small": self._amend(self.base),
            "amend_large": self._amend(self.large),
        }

    def _amend(self, snapshot_id: str) -> float:
        repo = self._open()
        session = rewound_session(repo, snapshot_id)
        parent = next(iter(repo.ancestry(branch="main"))).parent_id
        set_chunks(session.store, [self._key((1, 2, column)) for column in range(FEW)], b"y")
        seconds, snapshot = timed(lambda: session.amend("amended"))
        expect("references", count_refs(repo, snapshot), self.count)
        expect("parent", next(iter(repo.ancestry(branch="main"))).parent_id, parent)
        return seconds

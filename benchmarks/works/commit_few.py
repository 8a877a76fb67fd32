"""Commit ten chunks into an array with a large manifest, and read one chunk of it cold.

On local disk. The repository is written by ours for either side, because only ours can record a
million native references without writing a million chunks; the format is the same.
"""

from __future__ import annotations

from pathlib import Path

import zarr

import icechunk
from works.common import (
    all_native,
    count_refs,
    expect,
    on_disk,
    rewound_session,
    run_ours,
    set_chunks,
    timed,
)

FEW = 10
PAYLOAD = b"z"


class Work:
    def __init__(self, folder: Path, count: int, kind: str, ours: str) -> None:
        self.count = count
        self.folder = folder / "repo"
        run_ours(ours, "make_large.py", self.folder, kind, count)
        repo = self._open()
        self.base = repo.lookup_branch("main")
        # The one chunk that is there to be read; it replaces a reference in the middle.
        shape = self._array(repo.readonly_session("main")).shape
        self.there = tuple(n // 2 for n in shape)
        session = repo.writable_session("main")
        set_chunks(session.store, [self._key(self.there)], PAYLOAD)
        self.base = session.commit("a chunk to read")
        self.measure()  # what is imported or connected on first use is not what is measured

    def _open(self) -> icechunk.Repository:
        return icechunk.Repository.open(on_disk(self.folder), config=all_native())

    def _array(self, session: icechunk.Session) -> zarr.Array:
        return zarr.open_array(session.store, path="a", mode="r", zarr_format=3)

    def _key(self, coords: tuple[int, ...]) -> str:
        return "a/c/" + "/".join(map(str, coords))

    def measure(self) -> dict[str, float]:
        def read_cold() -> int:
            session = self._open().readonly_session(snapshot_id=self.base)
            return int(self._array(session)[self.there])

        reading, value = timed(read_cold)
        expect("the chunk", value, PAYLOAD[0])

        repo = self._open()
        session = rewound_session(repo, self.base)
        set_chunks(session.store, [self._key((1, 2, column)) for column in range(FEW)], b"y")
        committing, snapshot = timed(lambda: session.commit("few"))
        expect("references", count_refs(repo, snapshot), self.count)
        return {"commit": committing, "read": reading}

"""Commit many new virtual references that the session already holds; local disk.

References point into files of some chunks each, at offsets and lengths that vary. Location
compression is what each side does by default. Only `commit` is timed.
"""

from __future__ import annotations

from pathlib import Path

from works.common import (
    count_refs,
    expect,
    grid_of,
    on_disk,
    put_table,
    repository_with_array,
    rewound_session,
    timed,
    virtual_columns,
    virtual_table,
)


class Work:
    def __init__(self, folder: Path, count: int, per_file: int) -> None:
        self.count = count
        self.grid = grid_of(count)
        self.repo = repository_with_array(on_disk(folder / "repo"), self.grid)
        self.base = self.repo.lookup_branch("main")
        self.columns = virtual_columns(count, per_file)

    def measure(self) -> dict[str, float]:
        session = rewound_session(self.repo, self.base)
        store = session.store
        if hasattr(store, "set_virtual_refs_arr"):
            store.set_virtual_refs_arr("/a", self.grid, *self.columns, validate_containers=False)
        else:
            put_table(session, virtual_table(self.grid, self.columns))
        seconds, snapshot = timed(lambda: session.commit("refs"))
        expect("references", count_refs(self.repo, snapshot), self.count)
        size = sum(file.size_bytes for file in self.repo.list_manifest_files(snapshot))
        return {"commit": seconds, "manifest_bytes": size}

"""Hand virtual references over to a session, as columns and as objects, and commit; local disk.

A container is configured and every location is checked against it, as people do. Setting, making
the objects, and committing are also timed apart.
"""

from __future__ import annotations

from pathlib import Path

import icechunk
from icechunk.virtual import VirtualChunkSpec
from works.common import (
    count_refs,
    expect,
    grid_coords,
    grid_of,
    on_disk,
    repository_with_array,
    rewound_session,
    timed,
    virtual_columns,
)


class Work:
    def __init__(self, folder: Path, count: int, per_file: int) -> None:
        self.count = count
        self.grid = grid_of(count)
        config = icechunk.RepositoryConfig()
        store = icechunk.s3_store(region="us-east-1")
        config.set_virtual_chunk_container(
            icechunk.VirtualChunkContainer("s3://some-bucket/", store)
        )
        self.repo = repository_with_array(on_disk(folder / "repo"), self.grid, config)
        self.base = self.repo.lookup_branch("main")
        self.columns = virtual_columns(count, per_file)
        locations, offsets, lengths = self.columns
        coords = grid_coords(self.grid).tolist()
        self.rows = list(zip(coords, locations, offsets.tolist(), lengths.tolist(), strict=True))

    def measure(self) -> dict[str, float]:
        session = rewound_session(self.repo, self.base)
        store = session.store
        set_arrays, skipped = timed(
            lambda: store.set_virtual_refs_arr("a", self.grid, *self.columns)
        )
        expect("skipped", skipped, None)
        commit_arrays, snapshot = timed(lambda: session.commit("arrays"))
        expect("references", count_refs(self.repo, snapshot), self.count)

        session = rewound_session(self.repo, self.base)
        store = session.store
        make, specs = timed(lambda: [VirtualChunkSpec(*row) for row in self.rows])
        set_objects, skipped = timed(lambda: store.set_virtual_refs("a", specs))
        expect("skipped", skipped, None)
        commit_objects, snapshot = timed(lambda: session.commit("objects"))
        expect("references", count_refs(self.repo, snapshot), self.count)
        return {
            "arrays": set_arrays + commit_arrays,
            "arrays_set": set_arrays,
            "objects": make + set_objects + commit_objects,
            "objects_make": make,
            "objects_set": set_objects,
        }

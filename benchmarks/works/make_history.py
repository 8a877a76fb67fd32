"""Write a repository of ours with a long history, for either side to open.

    make_history.py FOLDER chunks COMMITS CHUNKS      every commit writes a row of chunks
    make_history.py FOLDER snapshots COUNT            a history of so many snapshots

The second one puts the snapshots into the state of the repository and nowhere else: of the files
of those before the tip nothing is there, and neither are former states, as nothing that is measured
looks at them.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(BENCHMARKS.parent / "src"), str(BENCHMARKS)]

# ruff: noqa: E402  (the lines above make these importable)
import numpy as np

from icechunk.chunks import ChunkTable, RaggedBytes
from icechunk.format.ids import OBJECT_ID_SIZE
from icechunk.format.ops_log import NewCommit, UpdateEntry
from icechunk.format.repo_info import OpsLog, SnapshotEntry, SnapshotTable, encode_repo_info
from works.common import on_disk, put_table, repository_with_array, row_value

SECOND = 1_000_000  # in the unit of stored times
LOG_ENTRIES = 1000
"""As many as a state holds by default; older ones are in former states."""


def chunks(folder: Path, commits: int, count: int) -> None:
    """Commit one row of `count` inline chunks after the other, and leave a row empty."""
    repo = repository_with_array(on_disk(folder), (commits + 1, count))
    columns = np.arange(count, dtype=np.uint32)
    for row in range(commits):
        session = repo.writable_session("main")
        coords = np.stack([np.full(count, row, np.uint32), columns], axis=1)
        payload = RaggedBytes.from_list([bytes([row_value(row)])] * count)
        put_table(session, ChunkTable.inline_(coords, payload))
        session.commit(f"row {row}")


def snapshots(folder: Path, count: int) -> None:
    """Make the tip of a small repository the last of `count` snapshots."""
    storage = on_disk(folder)
    context = repository_with_array(storage, (100,))._context
    state = context.info()
    root, tip = sorted(state.snapshots, key=lambda entry: entry.flushed_at)
    ids = [root.id, *(os.urandom(OBJECT_ID_SIZE) for _ in range(count - 2)), tip.id]
    times = [tip.flushed_at - (count - 1 - i) * SECOND for i in range(count)]
    entries = [replace(root, flushed_at=times[0])]
    entries += [
        SnapshotEntry(
            ids[i],
            ids[i - 1],
            times[i],
            f"Append day {i} of the analysis",
            {"__icechunk": {"rebase_attempts": 0}},
        )
        for i in range(1, count - 1)
    ]
    entries.append(replace(tip, parent_id=ids[-2]))
    log = [
        # One microsecond later than the snapshot: the order in which a commit takes both times.
        UpdateEntry(
            NewCommit("main", ids[i]),
            times[i] + 1,
            None if i == count - 1 else f"repo.{32503680000000 - times[i] // 1000}.{i:020}",
        )
        for i in reversed(range(max(1, count - LOG_ENTRIES), count))
    ]
    long = replace(
        state,
        snapshots=SnapshotTable.from_entries(entries),
        updates=OpsLog.from_entries(log),
        repo_before_updates=f"repo.{32503680000000 - times[0] // 1000}.{0:020}",
    )
    storage.put("repo", encode_repo_info(long, level=3))


if __name__ == "__main__":
    what, place, numbers = sys.argv[2], Path(sys.argv[1]), map(int, sys.argv[3:])
    {"chunks": chunks, "snapshots": snapshots}[what](place, *numbers)

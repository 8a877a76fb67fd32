"""Find the garbage of a repository of many native chunks on local disk, and delete none of it.

A fresh process each time, so that nothing is cached but what the system keeps of the disk, and its
memory is that of the search: the most it was resident, interpreter included. Ours makes the
repository for both.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path


class Work:
    def __init__(self, folder: Path, count: int, manifests: int, snapshots: int, ours: str) -> None:
        from works.common import run_ours

        self.folder, self.count = folder / "repo", count
        run_ours(ours, "make_garbage.py", self.folder, count, manifests, snapshots)

    def measure(self) -> dict[str, float]:
        done = subprocess.run(
            [sys.executable, __file__, str(self.folder), str(self.count // 10)],
            stdout=subprocess.PIPE,
            check=True,
        )
        found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return found


def find_once(folder: str, garbage: int) -> dict[str, float]:
    """Open the repository and say what would be deleted."""
    from datetime import UTC, datetime

    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    import icechunk
    from works.common import expect, on_disk, timed

    repo = icechunk.Repository.open(on_disk(Path(folder)))
    far_off = datetime(2200, 1, 1, tzinfo=UTC)
    seconds, summary = timed(lambda: repo.garbage_collect(far_off, dry_run=True))
    expect("chunks", summary.chunks_deleted, garbage)
    expect(
        "manifests and snapshots", (summary.manifests_deleted, summary.snapshots_deleted), (0, 0)
    )
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {"find": seconds, "cpu": used.ru_utime + used.ru_stime, "peak": used.ru_maxrss * 1024}


if __name__ == "__main__":
    print(json.dumps(find_once(sys.argv[1], int(sys.argv[2]))))

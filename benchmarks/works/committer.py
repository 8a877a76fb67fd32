"""One of many processes that commit to one branch: started by `contention.py`, for either side.

Reads its task as a line of JSON from stdin, says ``ready``, waits for another line so that all
start together, commits, and prints what it saw as a line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


import zarr

import icechunk
from works.common import IS_REFERENCE, storage_of

CHUNK = 1000
"""Bytes, more than are kept inline: every chunk is an object."""


def value_of(row: int, column: int) -> int:
    """Say what the chunk of one commit is filled with; never zero."""
    return (row * 31 + column) % 255 + 1


def main() -> None:
    """Commit one chunk of our row at a time, each in a session of its own."""
    task = json.loads(sys.stdin.readline())
    row, commits = task["row"], task["commits"]
    storage = storage_of(task["storage"])
    trace = None
    if not IS_REFERENCE:
        from works.trace import TracingStorage

        storage = trace = TracingStorage(storage)
    repo = icechunk.Repository.open(storage)
    print("ready", flush=True)
    sys.stdin.readline()
    answer = [commit(repo, trace, row, column) for column in range(commits)]
    print(json.dumps(answer), flush=True)


def commit(repo: Any, trace: Any, row: int, column: int) -> dict[str, Any]:
    """Write and commit one chunk; what goes wrong is part of the answer."""
    record: dict[str, Any] = {"message": f"{row}.{column}", "began": time.monotonic()}
    try:
        session = repo.writable_session("main")
        array = zarr.open_array(session.store, path="a", zarr_format=3)
        array[row, column * CHUNK : (column + 1) * CHUNK] = value_of(row, column)
        if trace is not None:
            trace.events.clear()
        record["began"] = time.monotonic()
        session.commit(record["message"], rebase_with=icechunk.ConflictDetector())
    except icechunk.IcechunkError as error:
        record["error"] = f"{type(error).__name__}: {error}"
    record["ended"] = time.monotonic()
    if trace is not None:
        from works.trace import as_numbers

        record |= as_numbers(trace.events, record["began"])
    return record


if __name__ == "__main__":
    main()

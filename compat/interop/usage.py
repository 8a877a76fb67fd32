"""What this package alone tells of storage."""

from __future__ import annotations

import icechunk


def wholes(path: str) -> list[list[int]]:
    """Count the bytes of chunks by everything there is to tell them by."""
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(path))
    found = []
    for by in ("array", "snapshot", "branch", "tag"):
        whole = repo.storage_statistics(by=by).whole
        found.append([whole.native_bytes, whole.virtual_bytes, whole.inlined_bytes])
    return found

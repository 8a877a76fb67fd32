"""Steps of the model of `tests/model`, done on a repository that stays open between calls."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import icechunk
from interop.describe import open_repository
from interop.places import storage_at

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))

from model.driver import Driver, contents_of

Json = Any

IS_REFERENCE = not hasattr(icechunk.storage, "LocalStorage")

_open: dict[int, Driver] = {}
_numbers = itertools.count()


def begin(path: str) -> int:
    """Get ready for steps on a repository at a path, and return a handle."""
    handle = next(_numbers)
    _open[handle] = Driver(storage_at(path), lists_shrunk=IS_REFERENCE)
    return handle


def do(handle: int, step: dict[str, Any]) -> Json:
    """Do one step and tell what came of it."""
    return _open[handle].apply(step)


def seen(handle: int, numbers: list[int]) -> Json:
    """Tell what is found in the repository, and in some sessions."""
    return _open[handle].seen(numbers)


def end(handle: int) -> None:
    """Forget the repository and its sessions."""
    del _open[handle]


def survey(path: str) -> Json:
    """Open a repository anew and tell what is in it, without ids and times."""
    repo = open_repository(path)

    def history(tip: str) -> Json:
        return [
            [info.message, info.metadata, contents_of(repo.readonly_session(snapshot_id=info.id))]
            for info in repo.ancestry(snapshot_id=tip)
        ]

    return {
        "branches": {name: history(repo.lookup_branch(name)) for name in repo.list_branches()},
        "tags": {name: history(repo.lookup_tag(name)) for name in repo.list_tags()},
        "metadata": repo.get_metadata(),
        "online": repo.status.availability == icechunk.RepoAvailability.online,
        "operations": [type(update.kind).__name__.rpartition("_")[2] for update in repo.ops_log()],
    }

"""Places where there is no repository, one already, or a damaged one."""

from __future__ import annotations

from typing import Any

import icechunk
from interop.misuse import (
    Call,
    Surroundings,
)
from interop.places import storage_at


def lifecycle() -> dict[str, Call]:
    """Return calls that open and create."""
    repository, local = icechunk.Repository, storage_at
    return {
        "open of nothing": lambda s: repository.open(local(str(s.path / "no"))) and None,
        "open leaves no trace": lambda s: (s.path / "no").exists(),
        "create twice": lambda s: repository.create(s.storage) and None,
        "create twice unchecked": lambda s: (
            repository.create(s.storage, check_clean_root=False) and None
        ),
        "create in a used directory": lambda s: (
            repository.create(local(str(s.path / "snapshots"))) and None
        ),
        "config of nothing": lambda s: repository.fetch_config(local(str(s.path / "no"))),
        "config not saved": lambda s: repository.fetch_config(s.storage),
        "existence of nothing": lambda s: repository.exists(local(str(s.path / "no"))),
        "existence": lambda s: repository.exists(s.storage),
        "unknown spec version": lambda s: (
            repository.create(local(str(s.path / "new")), spec_version=255) and None
        ),
        "spec version of a wrong type": lambda s: (
            repository.create(
                local(str(s.path / "new")),
                spec_version="x",  # type: ignore[arg-type]
            )
            and None
        ),
        "create without main snapshot": lambda s: _damaged(s, "snapshots"),
        "damaged repo object": lambda s: _overwritten(s, "repo"),
        "damaged snapshot": lambda s: _overwritten(s, f"snapshots/{s.first}"),
        "empty repo object": lambda s: _overwritten(s, "repo", b""),
    }


def _damaged(s: Surroundings, folder: str) -> Any:
    (s.path / folder / s.first).unlink()
    repo = icechunk.Repository.open(s.storage)
    return sorted(repo.readonly_session("main").store.list())


def _overwritten(s: Surroundings, key: str, data: bytes = b"nonsense" * 20) -> Any:
    (s.path / key).write_bytes(data)
    repo = icechunk.Repository.open(storage_at(str(s.path)))
    return sorted(repo.readonly_session("main").store.list())

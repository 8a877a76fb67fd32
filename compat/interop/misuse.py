"""The repository that calls misuse, one copy for each, and what such calls need."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zarr
from zarr.core.buffer import default_buffer_prototype

import icechunk
from interop.places import storage_at

PROTOTYPE = default_buffer_prototype()
INITIAL = "1CECHNKREP0F1RSTCMT0"
UNKNOWN_SNAPSHOT = "ZZZZZZZZZZZZZZZZZZZG"
GROUP = b'{"zarr_format": 3, "node_type": "group", "attributes": {"new": 1}}'


def build(path: Path) -> str:
    """Make the repository to misuse; return the id of its only commit.

    A root group, `array` of 4 x 2 chunks, `native` of one chunk, `group`, tag `tag`, branch
    `branch`.
    """
    repo = icechunk.Repository.create(storage_at(str(path)))
    session = repo.writable_session("main")
    root = zarr.create_group(session.store)
    array = root.create_array("array", shape=(8, 4), chunks=(2, 2), dtype="i4", compressors=None)
    array[:4] = 1
    native = root.create_array("native", shape=(900,), chunks=(900,), dtype="u1", compressors=None)
    native[:] = [*range(250)] * 3 + [*range(150)]
    group = PROTOTYPE.buffer.from_bytes(b'{"zarr_format": 3, "node_type": "group"}')
    asyncio.run(session.store.set("group/zarr.json", group))
    first = session.commit("first")
    repo.create_tag("tag", first)
    repo.create_branch("branch", first)
    return first


class Surroundings:
    """A copy of that repository for one call."""

    def __init__(self, template: Path, path: Path, first: str) -> None:
        shutil.copytree(template, path)
        self.path = path
        self.first = first
        self.storage = storage_at(str(path))
        self.repo = icechunk.Repository.open(self.storage)
        self.kept: Any = None

    def session(self) -> icechunk.Session:
        return self.repo.writable_session("main")

    def changed(self) -> icechunk.Session:
        session = self.session()
        self.set("group/zarr.json", GROUP, session)
        return session

    def other_commits(self) -> None:
        self.changed().commit("other")

    def set(self, key: str, value: bytes, session: icechunk.Session | None = None) -> None:
        store = (session or self.session()).store
        asyncio.run(store.set(key, PROTOTYPE.buffer.from_bytes(value)))

    def get(self, key: str, byte_range: Any = None) -> bytes | None:
        store = self.repo.readonly_session("main").store
        found = asyncio.run(store.get(key, PROTOTYPE, byte_range))
        return None if found is None else found.to_bytes()

    def do(self, method: str, *arguments: Any, session: icechunk.Session | None = None) -> Any:
        async def run() -> Any:
            return await getattr((session or self.session()).store, method)(*arguments)

        found = asyncio.run(run())
        return None if found == () else found  # what a write returns is not specified

    def listed(self, method: str, prefix: str) -> list[str]:
        return sorted(getattr(self.session().store, method)(prefix))


Call = Callable[[Surroundings], Any]


def array_document(**members: Any) -> bytes:
    """Make the document of an array; members given as ``-`` are left out."""
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [4],
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2]}},
        **members,
    }
    return json.dumps({key: value for key, value in document.items() if value != "-"}).encode()


def awaited(iterator: Any) -> list[Any]:
    """Collect what ``async for`` yields, sorted."""

    async def run() -> list[Any]:
        return [list(item) async for item in iterator]

    return sorted(asyncio.run(run()))

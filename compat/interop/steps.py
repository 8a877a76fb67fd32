"""Histories as data: a list of steps that any implementation carries out, one at a time.

Each step opens the repository anew and names snapshots by their messages, so that one side can go
on where another has stopped. Only calls that every implementation has are made, also those that
know nothing but version 1 of the format. `histories` has lists of steps.
"""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import zarr

import icechunk
from interop.describe import open_repository
from interop.places import storage_at

Json = Any

KNOWS_SPEC_2 = hasattr(icechunk, "SpecVersion")


def carry_out(path: str, steps: list[dict[str, Any]]) -> None:
    """Do some steps on the repository at a path."""
    for step in steps:
        arguments = {name: value for name, value in step.items() if name != "do"}
        STEPS[step["do"]](path, **arguments)


def create(
    path: str, spec: int, inline: int | None = None, split: dict[str, int] | None = None
) -> None:
    """Create a repository; inline chunks up to a size, split manifests along named axes."""
    config = icechunk.RepositoryConfig(inline_chunk_threshold_bytes=inline)
    if split is not None:
        axis = icechunk.ManifestSplitDimCondition
        sizes = {axis.DimensionName(name): size for name, size in split.items()}
        config.manifest = icechunk.ManifestConfig(
            splitting=icechunk.ManifestSplittingConfig.from_dict(
                {icechunk.ManifestSplitCondition.AnyArray(): sizes}
            )
        )
    for prefix in ("s3://bucket/", "file:///data/"):
        store = (
            icechunk.s3_store(region="us-east-1", anonymous=True)
            if prefix.startswith("s3")
            else icechunk.local_filesystem_store("/data")
        )
        config.set_virtual_chunk_container(icechunk.VirtualChunkContainer(prefix, store))
    create_repository(path, spec, config)


def create_repository(
    path: str, spec: int, config: icechunk.RepositoryConfig | None = None
) -> icechunk.Repository:
    """Create a repository of a version of the format."""
    assert spec == 1 or KNOWS_SPEC_2, "this implementation writes version 1 only"
    options = {"spec_version": spec} if KNOWS_SPEC_2 else {}
    return icechunk.Repository.create(storage_at(path), config, **options)


def commit(
    path: str,
    message: str,
    edits: list[list[Any]],
    branch: str = "main",
    metadata: dict[str, Any] | None = None,
) -> None:
    """Make some edits and commit them."""
    session = open_repository(path).writable_session(branch)
    for name, *arguments in edits:
        EDITS[name](session, *arguments)
    session.commit(message, metadata)


def forked(path: str, message: str, edits: list[list[list[Any]]], branch: str = "main") -> None:
    """Make each list of edits in a fork of its own, sent there and back; merge and commit."""
    session = open_repository(path).writable_session(branch)
    forks = [pickle.loads(pickle.dumps(session.fork())) for _ in edits]
    for fork, its_edits in zip(forks, edits, strict=True):
        for name, *arguments in its_edits:
            EDITS[name](fork, *arguments)
    session.merge(*(pickle.loads(pickle.dumps(fork)) for fork in forks))
    session.commit(message)


def find(repo: icechunk.Repository, message: str) -> str:
    """Return the id of the snapshot with a message, on whatever branch or tag it is."""
    tips = {repo.lookup_branch(name) for name in repo.list_branches()}
    tips |= {repo.lookup_tag(name) for name in repo.list_tags()}
    for tip in sorted(tips):
        for info in repo.ancestry(snapshot_id=tip):
            if info.message == message:
                return info.id
    raise LookupError(f"no snapshot with the message {message!r} can be reached")


def branch(path: str, name: str, at: str) -> None:
    """Make a branch."""
    repo = open_repository(path)
    repo.create_branch(name, find(repo, at))


def tag(path: str, name: str, at: str) -> None:
    """Make a tag."""
    repo = open_repository(path)
    repo.create_tag(name, find(repo, at))


def reset(path: str, name: str, to: str) -> None:
    """Point a branch at another snapshot."""
    repo = open_repository(path)
    repo.reset_branch(name, find(repo, to))


def unbranch(path: str, name: str) -> None:
    """Delete a branch."""
    open_repository(path).delete_branch(name)


def untag(path: str, name: str) -> None:
    """Delete a tag."""
    open_repository(path).delete_tag(name)


def rewrite(path: str, message: str, split: dict[str, int], branch: str = "main") -> None:
    """Rewrite all manifests, split along named axes."""
    axis = icechunk.ManifestSplitDimCondition
    sizes = {axis.DimensionName(name): size for name, size in split.items()}
    splitting = icechunk.ManifestSplittingConfig.from_dict(
        {icechunk.ManifestSplitCondition.AnyArray(): sizes}
    )
    config = icechunk.RepositoryConfig(manifest=icechunk.ManifestConfig(splitting=splitting))
    open_repository(path, config=config).rewrite_manifests(message, branch=branch)


STEPS: dict[str, Callable[..., None]] = {
    "create": create, "commit": commit, "forked": forked, "branch": branch, "tag": tag,
    "reset": reset, "unbranch": unbranch, "untag": untag, "rewrite": rewrite,
}  # fmt: skip


# --- edits ---------------------------------------------------------------------------------------


def _group(session: icechunk.Session, path: str, attributes: dict[str, Any]) -> None:
    zarr.create_group(session.store, path=path, attributes=attributes)


def _array(session: icechunk.Session, path: str, options: dict[str, Any]) -> None:
    zarr.create_array(session.store, name=path, **{"compressors": None, **options})


def _write(session: icechunk.Session, path: str, where: list[list[int]], first: int) -> None:
    array = zarr.open_array(session.store, path=path, mode="r+")
    selection = tuple(slice(*bounds) for bounds in where)
    shape = np.empty(array.shape, "bool")[selection].shape
    array[selection] = _values(str(array.dtype), shape, first)


def _values(dtype: str, shape: tuple[int, ...], first: int) -> Any:
    """Make values of any type, different from each other as far as the type allows."""
    numbers = np.arange(first, first + int(np.prod(shape)))
    if dtype.startswith(("object", "StringDType", "<U")):
        return np.array([f"text {n} ü" for n in numbers], dtype="U12").reshape(shape)
    return numbers.astype(dtype).reshape(shape)


def _resize(session: icechunk.Session, path: str, shape: list[int]) -> None:
    zarr.open_array(session.store, path=path, mode="r+").resize(tuple(shape))


def _attributes(session: icechunk.Session, path: str, attributes: dict[str, Any]) -> None:
    zarr.open(session.store, path=path, mode="r+").attrs.update(attributes)


def _delete(session: icechunk.Session, path: str) -> None:
    asyncio.run(_awaited(session.store.delete_dir(path)))


def _erase(session: icechunk.Session, key: str) -> None:
    asyncio.run(_awaited(session.store.delete(key)))


def _shift(session: icechunk.Session, path: str, offset: list[int]) -> None:
    session.shift_array(f"/{path}", offset)


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


def _virtual(
    session: icechunk.Session, key: str, location: str, offset: int, length: int,
    checksum: str | int | None = None,
) -> None:  # fmt: skip
    found = datetime.fromtimestamp(checksum, UTC) if isinstance(checksum, int) else checksum
    session.store.set_virtual_ref(
        key, location, offset=offset, length=length, checksum=found, validate_container=True
    )


EDITS: dict[str, Callable[..., None]] = {
    "group": _group, "array": _array, "write": _write, "resize": _resize,
    "attributes": _attributes, "delete": _delete, "erase": _erase, "virtual": _virtual,
    "shift": _shift,
}  # fmt: skip

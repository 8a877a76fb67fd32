"""Verification of a repository, with all that is above the engine: sessions, and Zarr's codecs.

`icechunk.ops.verify` does the work; here it gets what it cannot make itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate
from typing import Any

import zarr

from icechunk.assets.manager import AssetManager
from icechunk.assets.settings import AssetSettings
from icechunk.assets.virtual import VirtualChunks
from icechunk.changes.workspace import Workspace
from icechunk.config import RepositoryConfig
from icechunk.ops.verify.run import verify
from icechunk.ops.verify.tour import VerifyOptions
from icechunk.ops.verify.visit_chunks import ChunkDecoder, Decoder
from icechunk.repo.context import RepoContext
from icechunk.repo.surroundings import REAL
from icechunk.session import Session
from icechunk.storage.base import Storage
from icechunk.verification import VerifyProgress, VerifyReport

__all__ = ["verify_context", "verify_damaged"]

Progress = Callable[[VerifyProgress], object]


def verify_context(
    context: RepoContext,
    options: VerifyOptions,
    *,
    decode: bool,
    virtual: bool,
    progress: Progress | None,
) -> VerifyReport:
    """Verify a repository that was opened."""
    assets = _apart(context.storage, context.config)
    chunks = VirtualChunks(assets, context.config, context.virtual.authorization)
    decoder = None
    if decode:
        entry, authorization = context.entry, context.virtual.authorization
        decoder = _decoder(
            RepoContext(
                context.storage,
                context.config,
                assets=assets,
                entry=entry,
                authorization=authorization,
            )
        )
    return verify(
        assets,
        options,
        context.world,
        progress=progress,
        virtual=chunks if virtual else None,
        decoder=decoder,
    )


def verify_damaged(
    storage: Storage, config: RepositoryConfig, options: VerifyOptions, progress: Progress | None
) -> VerifyReport:
    """Verify what cannot be opened."""
    return verify(_apart(storage, config), options, REAL, progress=progress)


def _apart(storage: Storage, config: RepositoryConfig) -> AssetManager:
    """Make access to objects that shares no cache: what counts is what is stored."""
    settings = AssetSettings.from_config(config)
    caches = replace(settings.caches, chunk_bytes=0, transaction_changes=0)
    return AssetManager(storage, replace(settings, caches=caches))


def _decoder(context: RepoContext) -> Decoder:
    def of_array(snapshot_id: bytes, path: str) -> ChunkDecoder | str:
        session = Session(Workspace(context, snapshot_id), branch=None, read_only=True)
        try:
            array = zarr.open_array(session.store, path=path.lstrip("/"), mode="r")
            node = context.assets.snapshot(snapshot_id).nodes.find(path)
            axes = [] if node is None else _axes(node.user_data)
        except Exception as error:
            return _said(error)

        def decode(coords: tuple[int, ...]) -> str | None:
            region = tuple(axis(at) for axis, at in zip(axes, coords, strict=True))
            try:
                array[region]
            except Exception as error:
                return _said(error)
            return None

        return decode

    return of_array


def _said(error: Exception) -> str:
    # Codecs are anybody's code and raise anything.
    return f"{type(error).__name__}: {error}"


def _axes(document: bytes) -> list[Callable[[int], slice]]:
    """Per axis of an array, from its document, where a chunk lies."""
    described: dict[str, Any] = json.loads(document)
    grid, shape = described["chunk_grid"], described["shape"]
    sizes = grid["configuration"]["chunk_shape" if grid["name"] == "regular" else "chunk_shapes"]
    return [_axis(length, size) for length, size in zip(shape, sizes, strict=True)]


def _axis(length: int, sizes: int | list[int | list[int]]) -> Callable[[int], slice]:
    if isinstance(sizes, int):
        return lambda at: slice(at * sizes, min((at + 1) * sizes, length))
    each = [n for item in sizes for n in ([item] if isinstance(item, int) else item[:1] * item[1])]
    edges = list(accumulate(each, initial=0))
    return lambda at: slice(edges[at], edges[at + 1])

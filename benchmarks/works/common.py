"""Pieces that several works share."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.core.buffer import default_buffer_prototype

import icechunk

# Only one of the two is written in Python all the way.
IS_REFERENCE = hasattr(icechunk, "_icechunk_python")

GRID = (100, 100, 100)
"""Chunk grid of the arrays with a million references, one chunk per cell."""


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Run ``work`` on a quiet machine; return its seconds and its result.

    The disk is synced first, so that nobody pays for what others wrote before.
    """
    gc.collect()
    os.sync()
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def grid_of(count: int) -> tuple[int, int, int]:
    """Return a chunk grid of rank 3 with ``count`` cells, which a power of ten below 10^7 has."""
    return {1_000: (10, 10, 10), 10_000: (10, 10, 100), 100_000: (10, 100, 100), 1_000_000: GRID}[
        count
    ]


def grid_coords(grid: tuple[int, ...]) -> np.ndarray:
    """All coordinates of a grid in lexicographic order."""
    return np.stack([axis.ravel() for axis in np.indices(grid, dtype=np.uint32)], axis=1)


def all_native() -> Any:
    """Return a configuration that stores even the smallest chunk as an object."""
    return icechunk.RepositoryConfig(inline_chunk_threshold_bytes=0)


def create(storage: Any, config: Any = None) -> Any:
    """Create a repository."""
    return icechunk.Repository.create(storage, config=config)


def on_disk(folder: Path) -> Any:
    """Storage in a local directory."""
    return icechunk.local_filesystem_storage(str(folder))


def storage_of(place: dict[str, Any]) -> Any:
    """Storage in the folder, or in the bucket, that a work was told to use."""
    if "folder" in place:
        return icechunk.local_filesystem_storage(place["folder"])
    return icechunk.s3_storage(**place, allow_http=True, force_path_style=True)


def make_array(store: Any, grid: tuple[int, ...], chunk: tuple[int, ...], dtype: str = "u1") -> Any:
    """Create array ``a`` without compression: codecs would hide the store."""
    return zarr.create_array(
        store,
        name="a",
        shape=tuple(n * size for n, size in zip(grid, chunk, strict=True)),
        chunks=chunk,
        dtype=dtype,
        compressors=None,
        filters=None,
        fill_value=0,
    )


def repository_with_array(storage: Any, grid: tuple[int, ...], config: Any = None) -> Any:
    """Create a repository with one committed array of one-byte chunks and no chunks yet."""
    repo = create(storage, config)
    session = repo.writable_session("main")
    make_array(session.store, grid, (1,) * len(grid))
    session.commit("array")
    return repo


def set_chunks(store: Any, keys: Iterable[str], payload: bytes) -> None:
    """Write one payload under many keys through the store's own coroutine."""
    buffer = default_buffer_prototype().buffer.from_bytes(payload)
    keys = list(keys)

    async def run() -> None:
        for start in range(0, len(keys), 1000):
            await asyncio.gather(*(store.set(key, buffer) for key in keys[start : start + 1000]))

    asyncio.run(run())


def rewound_session(repo: Any, snapshot_id: str) -> Any:
    """Return a writable session on ``main``, moved back to where it was before the last run."""
    repo.reset_branch("main", snapshot_id)
    return repo.writable_session("main")


def put_table(session: Any, table: Any) -> None:
    """Put a table of references into a session of ours, as merging a fork would."""
    workspace = session._workspace
    node = workspace.nodes.find("/a")
    workspace.changes.log(node.id, table.rank).put_table(table)


def put_chunk_files(folder: Path, ids: np.ndarray) -> list[Path]:
    """Make the chunks of a repository of ours on disk, a file of one byte for each row of ids.

    Writing them through a store would take ten times as long.
    """
    from icechunk.format.ids import encode_ids  # not in the reference

    (folder / "chunks").mkdir(exist_ok=True)
    paths = [folder / "chunks" / name for name in encode_ids(ids)]
    for path in paths:
        with open(path, "wb", buffering=0) as file:
            file.write(b"x")
    return paths


def virtual_columns(count: int, per_file: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Locations, offsets and lengths of virtual chunks: files of ``per_file`` chunks each."""
    files = np.repeat(np.arange(count // per_file), per_file).tolist()
    locations = [
        f"s3://some-bucket/model-output/run-{file % 7}/daily/{1950 + file // 365}/"
        f"tas_day_{file:06d}.nc"
        for file in files
    ]
    lengths = np.random.default_rng(1).integers(80_000, 120_000, count, np.uint64)
    each = lengths.reshape(-1, per_file)
    offsets = np.cumsum(each, axis=1, dtype=np.uint64) - each
    return locations, offsets.ravel(), lengths


def virtual_table(grid: tuple[int, ...], columns: tuple[list[str], np.ndarray, np.ndarray]) -> Any:
    """Make a table of ours of virtual references that fill a grid."""
    from icechunk.chunks import ChunkTable, RaggedBytes

    locations, offsets, lengths = columns
    encoded = RaggedBytes.from_list([text.encode() for text in locations])
    return ChunkTable.virtual(grid_coords(grid), encoded, offsets, lengths)


def run_ours(python: str, script: str, *arguments: Any) -> None:
    """Run a script beside this one with our interpreter."""
    path = Path(__file__).with_name(script)
    subprocess.run([python, str(path), *map(str, arguments)], check=True)


def row_value(row: int) -> int:
    """Say what the chunks of a row hold that some commit wrote as a whole; never 0 or 255."""
    return row % 254 + 1


def count_refs(repo: Any, snapshot_id: str) -> int:
    """Count the references that the manifests of a snapshot hold."""
    return sum(file.num_chunk_refs for file in repo.list_manifest_files(snapshot_id))


def expect(name: str, found: Any, wanted: Any) -> None:
    """Refuse a wrong result: a fast wrong answer is not a measurement."""
    if found != wanted:
        raise AssertionError(f"wrong result: {name} is {found!r}, expected {wanted!r}")


def random_bytes(size: int, seed: int = 7) -> np.ndarray:
    """Bytes that do not compress, none of them zero."""
    return np.random.default_rng(seed).integers(1, 256, size, dtype=np.uint8)

"""Repositories whose chunks lie in local files, written and read by either side."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import zarr

import icechunk
from icechunk.credentials import LocalFileSystemAccess
from icechunk.virtual import VirtualChunkSpec
from interop.scenarios import create

SIZE = 10
MODIFIED = 1_700_000_000


def _prefix(folder: str) -> str:
    return f"file://{folder}/"


def _open(path: str, folder: str) -> Any:
    access = icechunk.containers_credentials({_prefix(folder): LocalFileSystemAccess})
    storage = icechunk.local_filesystem_storage(path)
    return icechunk.Repository.open(storage, authorize_virtual_chunk_access=access)


def write(path: str, folder: str, count: int, compress: bool) -> None:
    """Write files, and a repository with references to them of every kind."""
    for i in range(5):
        file = Path(folder, f"file {i}.bin")
        file.write_bytes(bytes((i * 50 + j) % 251 for j in range(SIZE * count)))
        os.utime(file, (MODIFIED, MODIFIED))
    config = icechunk.RepositoryConfig()
    if compress:
        config.manifest = icechunk.ManifestConfig(
            virtual_chunk_location_compression=icechunk.ManifestVirtualChunkLocationCompressionConfig()
        )
    config.set_virtual_chunk_container(
        icechunk.VirtualChunkContainer(
            _prefix(folder), icechunk.local_filesystem_store(folder), name="files"
        )
    )
    session = create(path, config=config).writable_session("main")
    store = session.store
    root = zarr.create_group(store)
    for name, chunks in (("many", count), ("few", 8), ("mixed", 4)):
        root.create_array(
            name, shape=(chunks * SIZE,), chunks=(SIZE,), dtype="u1", compressors=None, fill_value=9
        )
    files = [f"{_prefix(folder)}file%20{i % 5}.bin" for i in range(count)]
    skipped = store.set_virtual_refs_arr(
        "many", (count,), files, np.arange(count, dtype="u8") * SIZE, np.full(count, SIZE, "u8")
    )
    assert skipped is None
    time = datetime.fromtimestamp(MODIFIED, UTC)
    store.set_virtual_ref("few/c/0", "vcc://files/file%201.bin", offset=3, length=SIZE)
    store.set_virtual_ref(
        "few/c/1", f"FILE://{folder}/x/../file 2.bin", offset=0, length=SIZE, checksum=time
    )
    specs = [
        VirtualChunkSpec([2], files[3], 1, SIZE, None, time - timedelta(days=1)),
        VirtualChunkSpec([3], files[3], 1, SIZE, "some etag"),
        VirtualChunkSpec([4], "s3://nowhere/x", 1, SIZE),
        VirtualChunkSpec([5], f"{_prefix(folder)}missing", 1, SIZE),
        VirtualChunkSpec([6], files[3], 2**40, SIZE),
    ]
    assert store.set_virtual_refs("few", specs) == [(4,)]
    assert store.set_virtual_refs("few", specs[2:3], validate_containers=False) is None
    root["mixed"][:] = np.arange(4 * SIZE) % 7
    assert (
        store.set_virtual_refs_arr(
            "/mixed", (3,), ["", files[0], ""], np.arange(3, dtype="u8"), np.full(3, SIZE, "u8"),
            arr_offset=(1,),
        )
        is None
    )  # fmt: skip
    session.commit("virtual")


def read(path: str, folder: str) -> dict[str, Any]:
    """Return all values, and why a chunk has none."""
    session = _open(path, folder).readonly_session("main")
    root = zarr.open_group(session.store, mode="r")
    few = []
    for i in range(8):
        try:
            few.append(root["few"][i * SIZE : (i + 1) * SIZE].tolist())
        except icechunk.IcechunkError as error:
            few.append([type(error).__name__, error.kind])
    return {
        "many": root["many"][:].tobytes().hex(),
        "mixed": root["mixed"][:].tolist(),
        "few": few,
        "locations": sorted(session.all_virtual_chunk_locations()),
    }


def read_without_permission(path: str) -> list[str]:
    """Return how reading fails where nothing is authorized."""
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(path))
    root = zarr.open_group(repo.readonly_session("main").store, mode="r")
    try:
        root["many"][:1]
    except icechunk.IcechunkError as error:
        return [type(error).__name__, str(error.kind)]
    return []

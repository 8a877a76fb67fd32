"""Build and compress the manifest of many native references; ours only.

Building the flatbuffer and compressing it are timed apart, since zstd costs the same in every
language: the build is what is written in Python.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

import icechunk.format.manifest as manifest
from icechunk.chunks import ChunkTable
from icechunk.config.effective import effective
from works.common import create, expect, grid_coords, grid_of, timed


class Work:
    def __init__(self, folder: Path, count: int) -> None:
        import icechunk

        rng = np.random.default_rng(1)
        self.count = count
        self.table = ChunkTable.native(
            grid_coords(grid_of(count)),
            rng.integers(0, 256, (count, 12), np.uint8),
            rng.integers(1_000, 1_000_000, count, np.uint64),
        )
        config = create(icechunk.in_memory_storage()).config
        self.level = effective(config).compression_level
        self.compressing = 0.0
        wrap = manifest.wrap

        def timed_wrap(*args: Any, **kwargs: Any) -> bytes:
            start = time.perf_counter()
            data = wrap(*args, **kwargs)
            self.compressing = time.perf_counter() - start
            return data

        manifest.wrap = timed_wrap

    def measure(self) -> dict[str, float]:
        identity = b"m" * 12
        total, data = timed(
            lambda: manifest.encode_manifest(identity, [(b"n" * 8, self.table)], level=self.level)
        )
        back = manifest.Manifest.decode(data, "manifest").table(b"n" * 8)
        expect("coordinates", np.array_equal(back.coords, self.table.coords), True)
        expect("ids", np.array_equal(back.ids, self.table.ids), True)
        expect("lengths", np.array_equal(back.lengths, self.table.lengths), True)
        return {
            "build_per_ref": (total - self.compressing) / self.count,
            "zstd_per_ref": self.compressing / self.count,
            "total": total,
        }

"""What a scan over snapshots and manifests may take, and reading manifests within that."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

from icechunk.assets.workers import MAX_THREADS, Workers
from icechunk.format.ids import sortable
from icechunk.format.manifest_files import ManifestFile, ManifestFiles
from icechunk.ops.distinct import DistinctKeys

__all__ = ["DistinctManifests", "ScanLimits", "batches", "read_manifests"]

T = TypeVar("T")

#: Estimated memory of a manifest being read, beyond its file: payload and columns.
BYTES_PER_REF: Final = 256
BYTES_PER_FILE_BYTE: Final = 4


@dataclass(frozen=True, slots=True)
class ScanLimits:
    """What a scan over snapshots and manifests may take."""

    snapshots_at_once: int = 50
    manifests_at_once: int = 500
    file_bytes: int = 512 * 2**20
    """Bytes of manifest files in memory."""
    decoded_bytes: int = 4 * 2**30
    """Bytes of decoded manifests in memory, as estimated; a larger one is read on its own."""


class DistinctManifests:
    """Manifests of several snapshots, each once."""

    def __init__(self) -> None:
        self._seen = DistinctKeys()
        self.files: list[ManifestFile] = []

    def add(self, files: ManifestFiles) -> None:
        """Add those of a snapshot; most are there already, and only new ones become objects."""
        self.files += [files[row] for row in self._seen.add(sortable(files.ids)).tolist()]


def batches(files: Iterable[ManifestFile], limits: ScanLimits) -> Iterator[list[ManifestFile]]:
    """Cut a list of manifests into batches that may be in memory together."""
    batch: list[ManifestFile] = []
    file_bytes = decoded_bytes = 0
    for file in files:
        decoded = BYTES_PER_FILE_BYTE * file.size_bytes + BYTES_PER_REF * file.num_chunk_refs
        fits = (
            len(batch) < limits.manifests_at_once
            and file_bytes + file.size_bytes <= limits.file_bytes
            and decoded_bytes + decoded <= limits.decoded_bytes
        )
        if batch and not fits:
            yield batch
            batch, file_bytes, decoded_bytes = [], 0, 0
        batch.append(file)
        file_bytes += file.size_bytes
        decoded_bytes += decoded
    if batch:
        yield batch


def read_manifests(
    workers: Workers,
    files: Iterable[ManifestFile],
    limits: ScanLimits,
    read: Callable[[ManifestFile], T],
) -> Iterator[tuple[ManifestFile, T]]:
    """Yield manifests, each with what was read of it, in order.

    Parameters
    ----------
    workers
        Who read.
    files
        The manifests.
    limits
        What may be under way, or in memory, together.
    read
        Reads one; what it raises is raised here.
    """
    at_once = min(limits.manifests_at_once, MAX_THREADS)
    for batch in batches(files, limits):
        yield from zip(batch, workers.map(read, batch, at_once), strict=True)

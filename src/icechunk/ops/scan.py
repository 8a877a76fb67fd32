"""What a scan over snapshots and manifests may take, and manifests in batches that keep to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from icechunk.format.manifest_files import ManifestFile

__all__ = ["ScanLimits", "batches"]

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

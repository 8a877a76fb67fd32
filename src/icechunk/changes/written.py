"""Manifests that a session has stored and that no commit refers to yet.

A commit that loses its race is tried again on top of the winner's. What the winner did not touch
comes out the same, so its manifests are found here by what they were made from, and are neither
built nor stored a second time. What is left over when a commit succeeds was for nothing: its
manifests are nobody's, and can go.
"""

from __future__ import annotations

from dataclasses import dataclass

from icechunk.changes.plan import Extents, Identity, SplitSizes
from icechunk.format.snapshot import ManifestFile

__all__ = ["ManifestKey", "WrittenManifest", "WrittenManifests"]


@dataclass(frozen=True, slots=True)
class ManifestKey:
    """Everything that the content of one new manifest depends on."""

    node_id: bytes
    revision: int
    """Which state of the array's chunk log, see `ChunkLog.revision`."""
    num_chunks: tuple[int, ...]
    split: SplitSizes
    identity: Identity
    """Which part of the array, and which old manifests lie below."""


@dataclass(frozen=True, slots=True)
class WrittenManifest:
    """A stored manifest, and the box of coordinates it covers."""

    file: ManifestFile
    extents: Extents


class WrittenManifests:
    """What one session has stored, by key. Guarded by the lock of its change set."""

    __slots__ = ("_by_key", "_shared")

    def __init__(self) -> None:
        self._by_key: dict[ManifestKey, WrittenManifest | None] = {}
        self._shared: set[bytes] = set()

    def __contains__(self, key: object) -> bool:
        return key in self._by_key

    def __getitem__(self, key: ManifestKey) -> WrittenManifest | None:
        return self._by_key[key]

    def __setitem__(self, key: ManifestKey, written: WrittenManifest | None) -> None:
        """Note a manifest; None says that no reference was left to write."""
        self._by_key[key] = written

    def share(self) -> None:
        """Note that a snapshot somebody else may know refers to everything stored so far."""
        self._shared.update(self._ids())

    def take_unused(self, used: set[bytes]) -> list[bytes]:
        """Forget everything; return the ids of stored manifests that nothing refers to."""
        unused = self._ids() - used - self._shared
        self._by_key.clear()
        self._shared.clear()
        return sorted(unused)

    def _ids(self) -> set[bytes]:
        return {written.file.id for written in self._by_key.values() if written is not None}

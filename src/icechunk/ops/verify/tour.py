"""What the steps of a walk share: access, what was found and counted, and the snapshots visited.

Steps number the snapshots in the order of their visit; whatever they keep of a snapshot names it by
that number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from icechunk.assets.manager import AssetManager
from icechunk.errors import FormatError, IcechunkError, StorageError
from icechunk.format.damage import Damage, damaged, require_id
from icechunk.format.envelope import FileKind
from icechunk.format.layout import snapshot_key
from icechunk.format.manifest import Manifest
from icechunk.format.nodes import NodeTable
from icechunk.format.snapshot import Snapshot, decode_snapshot
from icechunk.ops.scan import ScanLimits
from icechunk.ops.verify.findings import Findings
from icechunk.ops.verify.history import Recorded, Source
from icechunk.ops.verify.snapshots import repeats_a_path
from icechunk.storage.base import Storage
from icechunk.verification import Checked, FaultKind, FaultSeverity, VerifyProgress

__all__ = ["Tour", "VerifyOptions", "Visited"]


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """What to look at, and what that may take."""

    limits: ScanLimits
    max_faults: int
    read_chunks: bool = False
    """Whether to read the objects of all native chunks."""
    read_backups: bool = False
    """Whether to decode all former states that the operations log names."""


class Visited(NamedTuple):
    """What stays of a snapshot."""

    recorded: Recorded
    fingerprint: int | None
    """Of its nodes; None when it could not be read."""
    spec_version: int


class Tour:
    """One walk through one state. For one thread, but for `open_snapshot`."""

    def __init__(
        self,
        assets: AssetManager,
        options: VerifyOptions,
        source: Source,
        findings: Findings,
        progress: Callable[[VerifyProgress], object],
    ) -> None:
        self.assets = assets
        self.storage: Storage = assets.storage
        self.options = options
        self.source = source
        self.findings = findings
        self.visited: list[Visited] = []
        self.count = dict.fromkeys(Checked.__slots__, 0)
        """Fields of `Checked` to be."""
        self._progress = progress
        self._last: tuple[int, NodeTable] | None = None

    def tell(self, phase: str, done: int, total: int | None = None) -> None:
        """Tell how far the walk has come."""
        self._progress(VerifyProgress(phase, done, total))

    def open_snapshot(self, snapshot_id: bytes) -> Snapshot | IcechunkError:
        """Fetch a snapshot as it is stored now, or return what keeps from it."""
        key, data = snapshot_key(snapshot_id), b""
        try:
            data, _ = self.assets.file(FileKind.SNAPSHOT, snapshot_id)
            snapshot = decode_snapshot(data, key)
            require_id(key, snapshot.id, snapshot_id)
        except FormatError as error:
            if error.damage == Damage.UNSORTED_NODES and repeats_a_path(data, key):
                what = f"{key} is corrupt: two nodes have the same path"
                return damaged(what, Damage.DUPLICATE_PATH, error.kind)
            return error
        except StorageError as error:
            return error
        return snapshot

    def open_manifest(self, manifest_id: bytes) -> tuple[Manifest, int]:
        """Fetch a manifest as it is stored now, and how many bytes its file has.

        Raises
        ------
        StorageError, FormatError
            It cannot be read, or is another one.
        """
        data, key = self.assets.file(FileKind.MANIFEST, manifest_id)
        manifest = Manifest.decode(data, key)
        require_id(key, manifest.id, manifest_id)
        return manifest, len(data)

    def path_of(self, snapshot: int, node_id: bytes) -> str | None:
        """Find the path of a node in a snapshot that was visited, for messages."""
        if self._last is None or self._last[0] != snapshot:
            opened = self.open_snapshot(self.visited[snapshot].recorded.id)
            if isinstance(opened, IcechunkError):
                return None
            self._last = (snapshot, opened.nodes)
        node = self._last[1].find_id(node_id)
        return None if node is None else node.path

    def fault_of_array(
        self,
        kind: FaultKind,
        key: str,
        message: str,
        snapshot: int | None,
        node_id: bytes | None,
        *,
        severity: FaultSeverity | None = None,
    ) -> None:
        """Record a fault of an array in a snapshot; without one nothing needs what is at fault."""
        if snapshot is None:
            self.findings.add(kind, key, message, is_needed=False, severity=severity)
            return
        path = None if node_id is None else self.path_of(snapshot, node_id)
        recorded = self.visited[snapshot].recorded
        self.findings.add(
            kind,
            key,
            f"{path}: {message}" if path else message,
            path=path,
            snapshot_id=recorded.id,
            is_needed=recorded.is_needed,
            severity=severity,
        )

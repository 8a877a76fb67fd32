"""Which manifests a snapshot file refers to, read without the rest of its nodes.

Whoever collects garbage opens every snapshot, and asks for nothing else. Damage of what is not
looked at goes unnoticed. Icechunk spec, "Snapshot files".
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from icechunk.format import schema
from icechunk.format.envelope import FileKind, unwrap
from icechunk.format.flatbuf import Buffer
from icechunk.format.ids import sortable
from icechunk.format.manifest_files import ManifestFiles
from icechunk.format.node_codec import ARRAY
from icechunk.format.snapshot import Snapshot, manifest_files_of

__all__ = ["SnapshotManifests", "decode_snapshot_manifests"]


class SnapshotManifests(NamedTuple):
    """The manifests of a snapshot, by the two places where a file names them."""

    id: bytes
    """Id of the snapshot."""
    files: ManifestFiles
    """Its own list."""
    used: npt.NDArray[np.uint8]
    """``(k, 12)`` ids that its arrays refer to, repetitions included."""

    @classmethod
    def of(cls, snapshot: Snapshot) -> SnapshotManifests:
        """Take them out of a decoded snapshot."""
        return cls(snapshot.id, snapshot.manifest_files, snapshot.nodes.columns.ref_ids)

    @property
    def unlisted(self) -> npt.NDArray[np.uint8]:
        """Ids that arrays refer to and the list lacks: none in a sound file."""
        if self.files.is_exactly(self.used):
            return self.used[:0]
        return np.asarray(self.used[~np.isin(sortable(self.used), sortable(self.files.ids))])


def decode_snapshot_manifests(data: bytes, key: str) -> SnapshotManifests:
    """Read the manifests of a snapshot file; `key` names it in messages.

    Raises
    ------
    FormatError
        When the file is no snapshot, or damaged where it was looked at.

    Notes
    -----
    Takes a third of the time that decoding all nodes takes.
    """
    root = Buffer(unwrap(data, FileKind.SNAPSHOT, key).payload, key).root(schema.SNAPSHOT)
    nodes, _ = root.tables("nodes")
    _, arrays = nodes.member("node_data", ARRAY)
    refs, _ = arrays.tables("manifests")
    snapshot_id: bytes = root.struct("id")[0].tobytes()
    return SnapshotManifests(snapshot_id, manifest_files_of(root), refs.struct("object_id"))

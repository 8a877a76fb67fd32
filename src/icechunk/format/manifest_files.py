"""The list of manifests in a snapshot file, as columns.

Icechunk spec, "Snapshot files".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from icechunk.format.ids import OBJECT_ID_SIZE, id_column, sortable

__all__ = ["ManifestFile", "ManifestFiles"]


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """A manifest that some array of a snapshot refers to."""

    id: bytes
    size_bytes: int
    """Length of the whole file, header included; readers ask for exactly that many bytes."""
    num_chunk_refs: int
    """Number of references over all arrays of the manifest."""


@dataclass(frozen=True, slots=True, eq=False)
class ManifestFiles:
    """The manifests of a snapshot, sorted by id, each once. Immutable."""

    ids: npt.NDArray[np.uint8]  # (n, 12)
    sizes: npt.NDArray[np.uint64]  # (n,)
    counts: npt.NDArray[np.uint32]  # (n,)
    _rows: dict[bytes, int] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def from_files(cls, files: Iterable[ManifestFile]) -> ManifestFiles:
        """Build the table; of several records with one id the last counts."""
        by_id = {file.id: file for file in files}
        rows = [by_id[manifest_id] for manifest_id in sorted(by_id)]
        return cls(
            ids=id_column([file.id for file in rows], OBJECT_ID_SIZE),
            sizes=np.array([file.size_bytes for file in rows], dtype=np.uint64),
            counts=np.array([file.num_chunk_refs for file in rows], dtype=np.uint32),
        )

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[ManifestFile]:
        return (self[row] for row in range(len(self)))

    def __getitem__(self, row: int) -> ManifestFile:
        return ManifestFile(self.ids[row].tobytes(), int(self.sizes[row]), int(self.counts[row]))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ManifestFiles | tuple | list):
            return NotImplemented
        return list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def find(self, manifest_id: bytes) -> ManifestFile | None:
        """Look up the record of a manifest."""
        if not self._rows and len(self):
            data = self.ids.tobytes()
            starts = range(0, len(data), OBJECT_ID_SIZE)
            # In one go: another thread must not take a part of the index for the whole.
            self._rows.update({data[s : s + OBJECT_ID_SIZE]: i for i, s in enumerate(starts)})
        row = self._rows.get(manifest_id)
        return None if row is None else self[row]

    def is_exactly(self, manifest_ids: npt.NDArray[np.uint8]) -> bool:
        """Tell whether these are the manifests of a column of ids, which may repeat."""
        return np.array_equal(np.unique(sortable(manifest_ids)), sortable(self.ids))

    def replace(
        self,
        manifest_ids: npt.NDArray[np.uint8] | Iterable[bytes],
        added: Iterable[ManifestFile],
    ) -> ManifestFiles:
        """Build the table for a new set of arrays, by column.

        Parameters
        ----------
        manifest_ids
            What the arrays now refer to, repeats allowed: ``nodes.columns.ref_ids`` or ids. Those
            known neither here nor among `added` are left out; encoding the snapshot will say so.
        added
            Records of manifests just written.
        """
        if not isinstance(manifest_ids, np.ndarray):
            manifest_ids = id_column(list(manifest_ids), OBJECT_ID_SIZE)
        new = ManifestFiles.from_files(added)
        ids = sortable(np.concatenate([new.ids, self.ids]))
        distinct, first = np.unique(ids, return_index=True)  # the first counts: a new record
        rows = first[np.isin(distinct, sortable(manifest_ids))]
        return ManifestFiles(
            ids=np.concatenate([new.ids, self.ids])[rows],
            sizes=np.concatenate([new.sizes, self.sizes])[rows],
            counts=np.concatenate([new.counts, self.counts])[rows],
        )

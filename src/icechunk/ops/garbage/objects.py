"""Objects of one kind that are to be deleted, as columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from icechunk.format.ids import encode_ids
from icechunk.ops.id_sets import Ids, SortedIds, no_ids
from icechunk.repo.times import time_text

__all__ = ["GarbageObjects"]


@dataclass(frozen=True, slots=True, eq=False)
class GarbageObjects:
    """Objects of one folder, sorted by id. Immutable.

    ``len()`` is their number, `ids` their names, ``sizes`` and ``modified_us`` are columns of the
    same length.
    """

    folder: str
    """``snapshots``, ``transactions``, ``manifests`` or ``chunks``."""
    id_bytes: Ids
    """``(n, 12)`` uint8."""
    sizes: npt.NDArray[np.uint64]
    """``(n,)`` bytes."""
    modified_us: npt.NDArray[np.int64]
    """``(n,)`` microseconds since the epoch, by the clock of the store."""

    @classmethod
    def of(
        cls,
        folder: str,
        ids: Ids,
        sizes: npt.NDArray[np.uint64],
        modified_us: npt.NDArray[np.int64],
    ) -> GarbageObjects:
        """Sort objects by id."""
        found, order = SortedIds.in_given_order(ids)
        return cls(folder, found.column, sizes[order], modified_us[order])

    @classmethod
    def none(cls, folder: str) -> GarbageObjects:
        """Make an empty table."""
        return cls(folder, no_ids(), np.zeros(0, np.uint64), np.zeros(0, np.int64))

    @classmethod
    def joined(cls, folder: str, parts: list[GarbageObjects]) -> GarbageObjects:
        """Put tables together that have no object in common."""
        if not parts:
            return cls.none(folder)
        return cls.of(
            folder,
            np.concatenate([part.id_bytes for part in parts]),
            np.concatenate([part.sizes for part in parts]),
            np.concatenate([part.modified_us for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.sizes)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, GarbageObjects):
            return NotImplemented
        return (
            self.folder == other.folder
            and np.array_equal(self.id_bytes, other.id_bytes)
            and np.array_equal(self.sizes, other.sizes)
            and np.array_equal(self.modified_us, other.modified_us)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"GarbageObjects({self.folder!r}, {self.text()})"

    @property
    def ids(self) -> list[str]:
        """Ids as text, in order."""
        return encode_ids(self.id_bytes)

    @property
    def keys(self) -> list[str]:
        """Keys of the objects, in order."""
        return self.keys_of(0, len(self))

    @property
    def num_bytes(self) -> int:
        """How much storage they take."""
        return int(self.sizes.sum(dtype=np.uint64))

    def keep(self, mask: npt.NDArray[np.bool_]) -> GarbageObjects:
        """Select some."""
        if mask.all():
            return self
        return GarbageObjects(
            self.folder, self.id_bytes[mask], self.sizes[mask], self.modified_us[mask]
        )

    def keys_of(self, start: int, stop: int) -> list[str]:
        """Keys of the objects from a row to another."""
        return [f"{self.folder}/{name}" for name in encode_ids(self.id_bytes[start:stop])]

    def text(self) -> str:
        """Say in a line what there is."""
        if not len(self):
            return "none"
        oldest, newest = int(self.modified_us.min()), int(self.modified_us.max())
        return (
            f"{len(self)}, {self.num_bytes} bytes, stored from {time_text(oldest)} to"
            f" {time_text(newest)}"
        )

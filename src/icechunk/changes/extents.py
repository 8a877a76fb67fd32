"""Which manifest of an array holds a chunk: the first whose box contains its coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from icechunk.format.snapshot import ManifestRef

Coords = tuple[int, ...]

SCANNED: Final = 16
"""Up to so many boxes a plain loop is faster than numpy."""


class ManifestFinder:
    """The manifests of one array, asked by coordinates. Safe for concurrent use by threads."""

    __slots__ = ("_boxes", "_refs")

    def __init__(self, refs: Sequence[ManifestRef]) -> None:
        self._refs = refs
        self._boxes: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None = None

    def find(self, coords: Coords) -> ManifestRef | None:
        """Return the manifest to look into, None when no box contains the coordinates.

        A box without ranges covers everything.
        """
        if len(self._refs) <= SCANNED:
            return next((ref for ref in self._refs if _covers(ref, coords)), None)
        lows, highs = self._all_boxes(len(coords))
        here = np.array(coords, np.int64)
        inside = np.all((lows <= here) & (here < highs), axis=1)
        first = int(inside.argmax())
        return self._refs[first] if inside[first] else None

    def _all_boxes(self, rank: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """First coordinates and ends of all boxes, each ``(manifests, rank)``."""
        if self._boxes is None:
            everything = ((0, 2**32),) * rank
            boxes = np.array([ref.extents or everything for ref in self._refs], np.int64)
            boxes = boxes.reshape(len(self._refs), rank, 2)
            self._boxes = boxes[:, :, 0], boxes[:, :, 1]
        return self._boxes


def _covers(ref: ManifestRef, coords: Coords) -> bool:
    for (low, high), coord in zip(ref.extents, coords, strict=False):  # noqa: SIM110  (hot path)
        if not low <= coord < high:
            return False
    return True

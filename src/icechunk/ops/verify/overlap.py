"""Whether boxes of a chunk grid overlap: a sweep along one axis, by blocks."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["first_overlap"]

_BLOCK: Final = 256


def first_overlap(boxes: npt.NDArray[np.int64]) -> tuple[int, int] | None:
    """Find two boxes that have a cell in common, the earlier one first; None if there are none.

    Parameters
    ----------
    boxes
        ``(n, rank, 2)`` half-open ranges. Boxes of rank 0 are all the same cell.
    """
    rank = boxes.shape[1]
    filled = np.flatnonzero((boxes[:, :, 0] < boxes[:, :, 1]).all(axis=1))
    if len(filled) < 2:
        return None
    if not rank:
        return 0, 1
    lows, highs = boxes[filled, :, 0], boxes[filled, :, 1]
    # Along the axis with the most beginnings the fewest boxes are open at once.
    axis = int(np.argmax([len(np.unique(lows[:, axis])) for axis in range(rank)]))
    order = np.argsort(lows[:, axis], kind="stable")
    lows, highs, numbers = lows[order], highs[order], filled[order]
    last_open = np.searchsorted(lows[:, axis], highs[:, axis])  # boxes from here on begin later
    for start in range(0, len(order), _BLOCK):
        stop = min(start + _BLOCK, len(order))
        reach = int(last_open[start:stop].max())
        one, other = slice(start, stop), slice(start, reach)
        meets = np.arange(start, stop)[:, None] < np.arange(start, reach)  # each pair once
        for at in range(rank):
            meets &= lows[one, at, None] < highs[other, at]
            meets &= lows[other, at] < highs[one, at, None]
        if meets.any():
            left, right = np.argwhere(meets)[0]
            pair = sorted((int(numbers[start + left]), int(numbers[start + right])))
            return pair[0], pair[1]
    return None

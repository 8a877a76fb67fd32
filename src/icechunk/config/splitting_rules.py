"""How the splitting rules apply to one array: a pure function from rules to split sizes."""

from __future__ import annotations

from collections.abc import Sequence

from icechunk.config.split_conditions import DimCondition, axis_matches
from icechunk.config.splitting import ManifestSplittingConfig


def split_sizes_for(
    splitting: ManifestSplittingConfig | None,
    path: str,
    dimension_names: Sequence[str | None] | None,
    rank: int,
) -> tuple[int | None, ...]:
    """Return for each axis the number of chunks per manifest, None where the axis is not split.

    Rules are walked in order, and an axis keeps the size of the first rule that speaks of it:
    later rules only reach axes that are still free. Within a rule, too, the first dimension
    condition choosing an axis decides. A size of zero chunks means no splitting.

    Parameters
    ----------
    splitting
        The rules, or None for no splitting.
    path
        Absolute path of the array.
    dimension_names
        Names of the array's axes, None for axes without name.
    rank
        Number of axes.
    """
    sizes: dict[int, int] = {}
    for condition, dims in (splitting.split_sizes or ()) if splitting is not None else ():
        if len(sizes) == rank:
            break
        if not condition.matches(path):
            continue
        for axis in range(rank):
            if axis not in sizes:
                size = _first_size(dims, axis, dimension_names)
                if size is not None:
                    sizes[axis] = size
    return tuple(sizes.get(axis) or None for axis in range(rank))


def _first_size(
    dims: Sequence[tuple[DimCondition, int]],
    axis: int,
    dimension_names: Sequence[str | None] | None,
) -> int | None:
    for condition, size in dims:
        if axis_matches(condition, axis, dimension_names):
            return size
    return None

"""Into how many manifests an array's chunk references go: the rules as given by the user.

`icechunk.config.splitting_rules` applies them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from icechunk._display import Part
from icechunk.config import checks, display
from icechunk.config.base import Field, Settings
from icechunk.config.split_conditions import (
    DimCondition,
    ManifestSplitCondition,
    ManifestSplitDimCondition,
)

SplitSizes: TypeAlias = tuple[
    tuple[ManifestSplitCondition, tuple[tuple[DimCondition, int], ...]], ...
]
SplitSizesDict: TypeAlias = dict[ManifestSplitCondition, dict[DimCondition, int]]

NO_SPLITTING = 2**32 - 1
"""A split size no axis reaches."""


def _split_sizes(name: str, value: Any) -> SplitSizes:
    return tuple(
        (
            _array_condition(name, condition),
            tuple(
                (_dim_condition(name, dim), checks.u32(f"{name} of {dim!r}", size))
                for dim, size in _pairs(name, dims)
            ),
        )
        for condition, dims in _pairs(name, value)
    )


def _pairs(name: str, value: Any) -> Iterator[tuple[Any, Any]]:
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise TypeError(f"{name} must be a sequence of pairs, not {type(value).__name__}")
    for item in value:
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise TypeError(f"{name} must be a sequence of pairs, but has {item!r}")
        yield item[0], item[1]


_array_condition = checks.instance(ManifestSplitCondition)


def _dim_condition(name: str, value: Any) -> DimCondition:
    if not isinstance(value, ManifestSplitDimCondition):
        raise TypeError(
            f"{name} must have ManifestSplitDimCondition values, not {type(value).__name__}"
        )
    return value  # type: ignore[return-value]  # the registered variants are all there are


class ManifestSplittingConfig(Settings):
    """Rules that split the chunk references of large arrays over several manifests.

    Parameters
    ----------
    split_sizes
        Ordered rules: an array condition, with pairs of a dimension condition and the number of
        chunks that go into one manifest along that dimension. Default: None, no splitting.

    Examples
    --------
    Manifests of ``temperature`` hold 12 chunks along ``time``:

    >>> from icechunk.config import ManifestSplitCondition as Arrays
    >>> from icechunk.config import ManifestSplitDimCondition as Axes
    >>> config = ManifestSplittingConfig.from_dict(
    ...     {Arrays.name_matches("temperature"): {Axes.DimensionName("time"): 12}}
    ... )
    """

    __slots__ = ()
    _shown_as = "icechunk.config.ManifestSplittingConfig"

    split_sizes: Field[SplitSizes | None] = Field(_split_sizes)

    def __init__(self, split_sizes: SplitSizes | None = None) -> None:
        self.split_sizes = split_sizes

    @staticmethod
    def from_dict(
        split_sizes: Mapping[ManifestSplitCondition, Mapping[DimCondition, int]],
    ) -> ManifestSplittingConfig:
        """Make the configuration from nested dicts, whose order is the order of the rules."""
        return ManifestSplittingConfig(
            tuple((condition, tuple(dims.items())) for condition, dims in split_sizes.items())
        )

    def to_dict(self) -> SplitSizesDict:
        """Return the rules as nested dicts; empty when none are set.

        Rules in which a condition comes twice, with others between, do not fit into a dict: there
        the last of the equal conditions counts.
        """
        return {condition: dict(dims) for condition, dims in self.split_sizes or ()}

    def __repr__(self) -> str:
        return display.call(self._shown_as, [("split_sizes", self._listed())])

    def _parts(self) -> Iterator[tuple[str, Part]]:
        yield "split_sizes", self._listed()

    def _listed(self) -> str:
        if self.split_sizes is None:
            return "None"
        return repr([(condition, list(dims)) for condition, dims in self.split_sizes])


def default_splitting() -> ManifestSplittingConfig:
    """Return the rule that stands for no splitting."""
    return ManifestSplittingConfig(
        (
            (
                ManifestSplitCondition.path_matches(".*"),
                ((ManifestSplitDimCondition.Any(), NO_SPLITTING),),
            ),
        )
    )

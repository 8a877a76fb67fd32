"""Which arrays and which of their axes a splitting rule is about."""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from icechunk.config import checks, regexes
from icechunk.config.conditions import Condition, array_name, listed, tuple_of
from icechunk.config.display import quoted


class ManifestSplitCondition(Condition):
    """Chooses the arrays a splitting rule is for; made by its static methods, ``&`` and ``|``."""

    __slots__ = ()

    Or: ClassVar[type[SplitOr]]
    And: ClassVar[type[SplitAnd]]
    PathMatches: ClassVar[type[SplitPathMatches]]
    NameMatches: ClassVar[type[SplitNameMatches]]

    def matches(self, path: str) -> bool:
        """Tell whether the array at `path` is chosen."""
        raise NotImplementedError

    @staticmethod
    def or_conditions(conditions: list[ManifestSplitCondition]) -> ManifestSplitCondition:
        """Choose arrays that any of the conditions chooses."""
        return SplitOr(tuple_of(ManifestSplitCondition, conditions))

    @staticmethod
    def and_conditions(conditions: list[ManifestSplitCondition]) -> ManifestSplitCondition:
        """Choose arrays that all the conditions choose."""
        return SplitAnd(tuple_of(ManifestSplitCondition, conditions))

    @staticmethod
    def path_matches(regex: str) -> ManifestSplitCondition:
        """Choose arrays whose absolute path contains a match of `regex`."""
        return SplitPathMatches(regex)

    @staticmethod
    def name_matches(regex: str) -> ManifestSplitCondition:
        """Choose arrays whose name, the last part of the path, contains a match of `regex`."""
        return SplitNameMatches(regex)

    @staticmethod
    def AnyArray() -> ManifestSplitCondition:  # noqa: N802  (public name)
        """Choose every array."""
        return SplitAnyArray()

    any_array = AnyArray


ManifestSplitCondition._family = ManifestSplitCondition


@dataclass(frozen=True, slots=True, repr=False)
class SplitOr(ManifestSplitCondition):
    """Any of several conditions."""

    conditions: tuple[ManifestSplitCondition, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "conditions", tuple_of(ManifestSplitCondition, self.conditions))

    def matches(self, path: str) -> bool:
        """Tell whether any condition holds."""
        return any(condition.matches(path) for condition in self.conditions)

    def _constructor(self) -> tuple[str, Iterable[str]]:
        return "or_conditions", listed(self.conditions)


@dataclass(frozen=True, slots=True, repr=False)
class SplitAnd(ManifestSplitCondition):
    """All of several conditions."""

    conditions: tuple[ManifestSplitCondition, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "conditions", tuple_of(ManifestSplitCondition, self.conditions))

    def matches(self, path: str) -> bool:
        """Tell whether all conditions hold."""
        return all(condition.matches(path) for condition in self.conditions)

    def _constructor(self) -> tuple[str, Iterable[str]]:
        return "and_conditions", listed(self.conditions)


@dataclass(frozen=True, slots=True, repr=False)
class SplitPathMatches(ManifestSplitCondition):
    """A regular expression on the path."""

    regex: str

    def __post_init__(self) -> None:
        checks.text("regex", self.regex)

    def matches(self, path: str) -> bool:
        """Tell whether the path contains a match."""
        return regexes.matches(self.regex, path)

    def _constructor(self) -> tuple[str, Iterable[str]]:
        return "path_matches", (quoted(self.regex),)


@dataclass(frozen=True, slots=True, repr=False)
class SplitNameMatches(ManifestSplitCondition):
    """A regular expression on the name."""

    regex: str

    def __post_init__(self) -> None:
        checks.text("regex", self.regex)

    def matches(self, path: str) -> bool:
        """Tell whether the last part of the path contains a match."""
        return regexes.matches(self.regex, array_name(path))

    def _constructor(self) -> tuple[str, Iterable[str]]:
        return "name_matches", (quoted(self.regex),)


@dataclass(frozen=True, slots=True, repr=False)
class SplitAnyArray(ManifestSplitCondition):
    """No restriction."""

    def matches(self, path: str) -> bool:
        """Hold for every path."""
        return True

    def _constructor(self) -> tuple[str, Iterable[str]]:
        return "any_array", ()


ManifestSplitCondition.Or = SplitOr
ManifestSplitCondition.And = SplitAnd
ManifestSplitCondition.PathMatches = SplitPathMatches
ManifestSplitCondition.NameMatches = SplitNameMatches


class ManifestSplitDimCondition(ABC):  # noqa: B024  (an ABC for `register`, not for abstractness)
    """Chooses the axes a split size is for: one of the nested classes."""

    def __init__(self) -> None:
        raise TypeError("ManifestSplitDimCondition has no instances; use its nested classes")

    @dataclass(frozen=True, slots=True, repr=False)
    class Axis:
        """The axis of that number."""

        axis: int

        def __post_init__(self) -> None:
            object.__setattr__(self, "axis", checks.u64("axis", self.axis))

        def __repr__(self) -> str:
            return f"icechunk.config.ManifestSplitDimCondition.axis({self.axis})"

    @dataclass(frozen=True, slots=True, repr=False)
    class DimensionName:
        """Every axis whose dimension name contains a match of the regular expression."""

        regex: str

        def __post_init__(self) -> None:
            checks.text("regex", self.regex)

        def __repr__(self) -> str:
            return f"icechunk.config.ManifestSplitDimCondition.dimension_name({quoted(self.regex)})"

    @dataclass(frozen=True, slots=True, repr=False)
    class Any:
        """Every axis."""

        def __repr__(self) -> str:
            return "icechunk.config.ManifestSplitDimCondition.any()"

    # The spellings that texts use.
    axis = Axis
    dimension_name = DimensionName
    any = Any


for _variant in (
    ManifestSplitDimCondition.Axis,
    ManifestSplitDimCondition.DimensionName,
    ManifestSplitDimCondition.Any,
):
    ManifestSplitDimCondition.register(_variant)

DimCondition: TypeAlias = (
    ManifestSplitDimCondition.Axis
    | ManifestSplitDimCondition.DimensionName
    | ManifestSplitDimCondition.Any
)


def axis_matches(
    condition: DimCondition, axis: int, dimension_names: Sequence[str | None] | None
) -> bool:
    """Tell whether `condition` chooses the axis; an axis without name has none to match."""
    match condition:
        case ManifestSplitDimCondition.Axis(number):
            return number == axis
        case ManifestSplitDimCondition.DimensionName(regex):
            known = dimension_names is not None and axis < len(dimension_names)
            name = dimension_names[axis] if dimension_names is not None and known else None
            return name is not None and regexes.matches(regex, name)
        case ManifestSplitDimCondition.Any():
            return True

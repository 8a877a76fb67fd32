"""Which manifests are fetched ahead of their first use, when a session starts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from icechunk.config import checks, regexes
from icechunk.config.base import Field, Settings
from icechunk.config.conditions import Condition, array_name, listed, tuple_of
from icechunk.config.display import quoted


class ManifestPreloadCondition(Condition):
    """Chooses manifests to load early; made by its static methods, ``&`` and ``|``."""

    __slots__ = ()

    Or: ClassVar[type[PreloadOr]]
    And: ClassVar[type[PreloadAnd]]
    PathMatches: ClassVar[type[PreloadPathMatches]]
    NameMatches: ClassVar[type[PreloadNameMatches]]
    NumRefs: ClassVar[type[PreloadNumRefs]]

    def matches(self, path: str, num_refs: int) -> bool:
        """Tell whether a manifest of `num_refs` references of the array at `path` is chosen."""
        raise NotImplementedError

    @staticmethod
    def or_conditions(conditions: list[ManifestPreloadCondition]) -> ManifestPreloadCondition:
        """Choose manifests that any of the conditions chooses."""
        return PreloadOr(tuple_of(ManifestPreloadCondition, conditions))

    @staticmethod
    def and_conditions(conditions: list[ManifestPreloadCondition]) -> ManifestPreloadCondition:
        """Choose manifests that all the conditions choose."""
        return PreloadAnd(tuple_of(ManifestPreloadCondition, conditions))

    @staticmethod
    def path_matches(regex: str) -> ManifestPreloadCondition:
        """Choose manifests of arrays whose absolute path contains a match of `regex`."""
        return PreloadPathMatches(regex)

    @staticmethod
    def name_matches(regex: str) -> ManifestPreloadCondition:
        """Choose manifests of arrays whose name, the end of the path, contains a match."""
        return PreloadNameMatches(regex)

    @staticmethod
    def num_refs(from_refs: int | None, to_refs: int | None) -> ManifestPreloadCondition:
        """Choose manifests with at least `from_refs` and fewer than `to_refs` references."""
        return PreloadNumRefs(from_refs, to_refs)

    @staticmethod
    def true() -> ManifestPreloadCondition:
        """Choose every manifest."""
        return PreloadTrue()

    @staticmethod
    def false() -> ManifestPreloadCondition:
        """Choose no manifest."""
        return PreloadFalse()


ManifestPreloadCondition._family = ManifestPreloadCondition


@dataclass(frozen=True, slots=True, repr=False)
class PreloadOr(ManifestPreloadCondition):
    """Any of several conditions."""

    conditions: tuple[ManifestPreloadCondition, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "conditions", tuple_of(ManifestPreloadCondition, self.conditions))

    def matches(self, path: str, num_refs: int) -> bool:
        """Tell whether any condition holds."""
        return any(condition.matches(path, num_refs) for condition in self.conditions)

    def _constructor(self) -> tuple[str, Iterable[str]]:
        return "or_conditions", listed(self.conditions)


@dataclass(frozen=True, slots=True, repr=False)
class PreloadAnd(ManifestPreloadCondition):
    """All of several conditions."""

    conditions: tuple[ManifestPreloadCondition, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "conditions", tuple_of(ManifestPreloadCondition, self.conditions))

    def matches(self, path: str, num_refs: int) -> bool:
        """Tell whether all conditions hold."""
        return all(condition.matches(path, num_refs) for condition in self.conditions)

    def _constructor(self) -> tuple[str, Iterable[str]]:
        return "and_conditions", listed(self.conditions)


@dataclass(frozen=True, slots=True, repr=False)
class PreloadPathMatches(ManifestPreloadCondition):
    """A regular expression on the array's path."""

    regex: str

    def __post_init__(self) -> None:
        checks.text("regex", self.regex)

    def matches(self, path: str, num_refs: int) -> bool:
        """Tell whether the path contains a match."""
        return regexes.matches(self.regex, path)

    def _constructor(self) -> tuple[str, Iterable[str]]:
        return "path_matches", (quoted(self.regex),)


@dataclass(frozen=True, slots=True, repr=False)
class PreloadNameMatches(ManifestPreloadCondition):
    """A regular expression on the array's name."""

    regex: str

    def __post_init__(self) -> None:
        checks.text("regex", self.regex)

    def matches(self, path: str, num_refs: int) -> bool:
        """Tell whether the last part of the path contains a match."""
        return regexes.matches(self.regex, array_name(path))

    def _constructor(self) -> tuple[str, Iterable[str]]:
        return "name_matches", (quoted(self.regex),)


@dataclass(frozen=True, slots=True, repr=False)
class PreloadNumRefs(ManifestPreloadCondition):
    """A half-open range of the number of references, open-ended where None."""

    from_refs: int | None
    to_refs: int | None

    def __post_init__(self) -> None:
        for name in ("from_refs", "to_refs"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, checks.u32(name, value))

    def matches(self, path: str, num_refs: int) -> bool:
        """Tell whether the number is in the range."""
        return (self.from_refs is None or self.from_refs <= num_refs) and (
            self.to_refs is None or num_refs < self.to_refs
        )

    def _constructor(self) -> tuple[str, Iterable[str]]:
        return "num_refs", (repr(self.from_refs), repr(self.to_refs))


@dataclass(frozen=True, slots=True, repr=False)
class PreloadTrue(ManifestPreloadCondition):
    """No restriction."""

    def matches(self, path: str, num_refs: int) -> bool:
        """Hold for every manifest."""
        return True

    def _constructor(self) -> tuple[str, Iterable[str]]:
        return "true", ()


@dataclass(frozen=True, slots=True, repr=False)
class PreloadFalse(ManifestPreloadCondition):
    """Nothing at all."""

    def matches(self, path: str, num_refs: int) -> bool:
        """Hold for no manifest."""
        return False

    def _constructor(self) -> tuple[str, Iterable[str]]:
        return "false", ()


ManifestPreloadCondition.Or = PreloadOr
ManifestPreloadCondition.And = PreloadAnd
ManifestPreloadCondition.PathMatches = PreloadPathMatches
ManifestPreloadCondition.NameMatches = PreloadNameMatches
ManifestPreloadCondition.NumRefs = PreloadNumRefs


class ManifestPreloadConfig(Settings):
    """How manifests are loaded ahead of use when a session starts.

    Parameters
    ----------
    max_total_refs
        Chunk references to load altogether; 0 switches preloading off. Default: 10,000.
    preload_if
        Which manifests. Default: those of at most 1,000 references of arrays that are named like
        coordinates (``time``, ``lat``, ``lon``, ``x`` and the like).
    max_arrays_to_scan
        Arrays to look at. Default: 50.
    """

    __slots__ = ()
    _shown_as = "icechunk.config.ManifestPreloadConfig"

    max_total_refs: Field[int | None] = Field(checks.u32, 10_000)
    preload_if: Field[ManifestPreloadCondition | None] = Field(
        checks.instance(ManifestPreloadCondition)
    )
    max_arrays_to_scan: Field[int | None] = Field(checks.u32, 50)

    def __init__(
        self,
        max_total_refs: int | None = None,
        preload_if: ManifestPreloadCondition | None = None,
        max_arrays_to_scan: int | None = None,
    ) -> None:
        self.max_total_refs = max_total_refs
        self.preload_if = preload_if
        self.max_arrays_to_scan = max_arrays_to_scan


# Names that climate and weather data give to coordinates, after cf-xarray's axis heuristics.
_COORDINATE_NAMES = (
    r"^t$|^(time|min|hour|day|week|month|year)[0-9]*$",
    r"^(z|nav_lev|gdep|lv_|[o]*lev|bottom_top|sigma|h(ei)?ght|altitude|depth|isobaric|pres"
    r"|isotherm)[a-z_]*[0-9]*$",
    r"^(y|j|nlat|rlat|nj)$",
    r"^y?(nav_lat|lat|gphi)[a-z0-9]*$",
    r"^(x|i|nlon|rlon|ni)$",
    r"^x?(nav_lon|lon|glam)[a-z0-9]*$",
)


def default_preload_condition() -> ManifestPreloadCondition:
    """Return the condition used when none is set: small manifests of coordinate-like arrays."""
    names = [ManifestPreloadCondition.name_matches(regex) for regex in _COORDINATE_NAMES]
    return ManifestPreloadCondition.and_conditions(
        [
            ManifestPreloadCondition.or_conditions(names),
            ManifestPreloadCondition.num_refs(None, 1001),
        ]
    )

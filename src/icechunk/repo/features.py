"""Features that can be switched off for a repository: which there are, and whether they are on.

A repository stores two lists of numbers, the features switched on and those switched off by
somebody; a feature in neither has its default. Numbers of features this library does not know stay
in the lists. Icechunk spec, "Feature flags".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from icechunk._display import Block, Shown
from icechunk.errors import ErrorKind, InvalidInputError
from icechunk.format.ops_log import FeatureFlagChanged, UpdateKind
from icechunk.format.repo_info import RepoInfo
from icechunk.repo.preconditions import Precondition

__all__ = ["FEATURES", "FeatureFlag", "SetFeatureFlag", "feature_number", "flags_of"]

FEATURES: Final = {"move_node": 3, "create_tag": 4, "delete_tag": 5}
"""The number of each feature. All are on by default."""


@dataclass(frozen=True, slots=True, repr=False)
class FeatureFlag(Shown):
    """A feature of a repository, and whether it may be used."""

    id: int
    """Number of the feature in files."""
    name: str
    """What `Repository.set_feature_flag` calls it."""
    default_enabled: bool
    """Whether it may be used where nobody decided."""
    setting: bool | None
    """What somebody decided, None for nothing."""
    enabled: bool
    """Whether it may be used."""

    __hash__ = None  # type: ignore[assignment]  # as in the reference

    def _block(self) -> Block:
        return Block.of(
            "icechunk.config.FeatureFlag", {name: getattr(self, name) for name in self.__slots__}
        )


def flags_of(info: RepoInfo) -> list[FeatureFlag]:
    """List all features this library knows, by number."""
    return [_flag(info, number, name) for name, number in FEATURES.items()]


def _flag(info: RepoInfo, number: int, name: str) -> FeatureFlag:
    setting: bool | None = None
    if number in (info.enabled_feature_flags or ()):  # wins over the other list, as the spec has it
        setting = True
    elif number in (info.disabled_feature_flags or ()):
        setting = False
    return FeatureFlag(number, name, True, setting, True if setting is None else setting)


def feature_number(name: str) -> int:
    """Return the number of a feature.

    Raises
    ------
    InvalidInputError
        Of kind ``invalid-feature-flag``: there is no such feature.
    """
    number = FEATURES.get(name)
    if number is None:
        raise InvalidInputError(
            f"invalid feature flag name: {name} (there are {', '.join(FEATURES)})",
            ErrorKind.INVALID_FEATURE_FLAG,
        )
    return number


@dataclass(frozen=True, slots=True)
class SetFeatureFlag:
    """Switch a feature on or off, or back to its default (None)."""

    number: int
    setting: bool | None

    @property
    def preconditions(self) -> Sequence[Precondition]:
        """None: the last one to decide wins."""
        return ()

    def edit(self, info: RepoInfo) -> RepoInfo:
        """Move the number to the list it belongs in, if any."""
        return replace(
            info,
            enabled_feature_flags=self._listed(info.enabled_feature_flags, True),
            disabled_feature_flags=self._listed(info.disabled_feature_flags, False),
        )

    def _listed(self, numbers: tuple[int, ...] | None, setting: bool) -> tuple[int, ...]:
        others = {number for number in numbers or () if number != self.number}
        return tuple(sorted(others | {self.number} if self.setting is setting else others))

    def log_entry(self, info: RepoInfo) -> UpdateKind:
        """Record the decision."""
        return FeatureFlagChanged(self.number, bool(self.setting), self.setting is not None)

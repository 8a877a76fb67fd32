"""Versions of the on-disk format, as users choose and see them."""

from __future__ import annotations

from enum import IntEnum

from icechunk.errors import ErrorKind, FormatError

__all__ = [
    "SpecVersion",
    "needs_version_2",
    "parse_spec_version",
    "spec_version",
    "supported_spec_versions",
]


class SpecVersion(IntEnum):
    """A version of the Icechunk specification that a repository follows; compares as a number."""

    v1 = 1
    v2 = 2

    @staticmethod
    def current() -> SpecVersion:
        """Return the version that new repositories get."""
        return SpecVersion.v2

    def __repr__(self) -> str:
        mark = " (current)" if self is SpecVersion.current() else ""
        return f"SpecVersion.{self.name}{mark}"

    __str__ = __repr__


def spec_version() -> SpecVersion:
    """Return the latest version of the format that this library writes."""
    return SpecVersion.current()


def supported_spec_versions() -> list[SpecVersion]:
    """Return the versions of the format that this library reads and writes, newest first."""
    return [SpecVersion.v2, SpecVersion.v1]


def parse_spec_version(value: object) -> SpecVersion:
    """Read the version a user asks for, None meaning the current one.

    Raises
    ------
    ValueError
        For what is no version.
    """
    if value is None:
        return SpecVersion.current()
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 256:
        raise ValueError(f"Couldn't parse a valid version: {value!r} is none, use 1, 2 or None")
    if value not in tuple(SpecVersion):
        raise ValueError(f"Unsupported version {value}")
    return SpecVersion(value)


def needs_version_2(what: str, kind: ErrorKind = ErrorKind.UNSUPPORTED_SPEC_VERSION) -> FormatError:
    """Error for what repositories of spec version 1 do not have."""
    return FormatError(
        f"not supported in a repository of spec version 1: {what}; upgrade it to version 2 with"
        " icechunk.upgrade_icechunk_repository",
        kind,
    )

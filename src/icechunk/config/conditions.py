"""What conditions on arrays share, whatever they decide: combination, display and tree walking.

The two families, for splitting and for preloading, add their own variants. Conditions are values:
frozen, hashable where users need them as dict keys, combined by ``&`` and ``|``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, TypeVar

C = TypeVar("C", bound="Condition")


class Condition:
    """Base of both families of conditions."""

    __slots__ = ()

    _family: ClassVar[type[Condition]]

    def __and__(self: C, other: C) -> C:
        return self._combined("and_conditions", other)

    def __or__(self: C, other: C) -> C:
        return self._combined("or_conditions", other)

    def _combined(self: C, constructor: str, other: C) -> C:
        if not isinstance(other, self._family):
            return NotImplemented  # type: ignore[no-any-return]
        result: C = getattr(self._family, constructor)([self, other])
        return result

    def __repr__(self) -> str:
        name, arguments = self._constructor()
        return f"icechunk.config.{self._family.__name__}.{name}({', '.join(arguments)})"

    def _constructor(self) -> tuple[str, Iterable[str]]:
        """Return the public constructor's name and its arguments as expressions."""
        raise NotImplementedError


def listed(conditions: Iterable[Condition]) -> tuple[str]:
    """Return the argument of a constructor that takes a list of conditions."""
    return (f"[{', '.join(map(repr, conditions))}]",)


def tuple_of(family: type[C], conditions: Any) -> tuple[C, ...]:
    """Return `conditions` as a tuple, refusing what is not of the family."""
    if isinstance(conditions, Condition) or not isinstance(conditions, Iterable):
        raise TypeError(f"expected a list of {family.__name__}, not a {type(conditions).__name__}")
    result = tuple(conditions)
    for condition in result:
        if not isinstance(condition, family):
            raise TypeError(
                f"expected a {family.__name__} in the list, not a {type(condition).__name__}"
            )
    return result


def array_name(path: str) -> str:
    """Return the last component of an array's path."""
    return path.rsplit("/", 1)[-1]

"""What a setting may hold: one factory per kind of value, each returning a checking function.

A check receives a value that is not None and returns it (integers as plain `int`), or raises
`TypeError` for a wrong type, `OverflowError` for a number out of range and `ValueError` for a zero
where zero has no meaning. The ranges are those of the stored configuration.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")

Check: TypeAlias = Callable[[str, Any], T]
"""Called with the setting's name and the value; returns what to keep."""


def integer(low: int, high: int, *, positive: bool = False) -> Check[int]:
    """Accept whatever Python indexes with, between `low` and `high` inclusive."""

    def check(name: str, value: Any) -> int:
        try:
            number = operator.index(value)
        except TypeError:
            raise TypeError(f"{name} must be an integer, not {_type_name(value)}") from None
        if not low <= number <= high:
            raise OverflowError(f"{name}={number} is out of range, use {low} to {high}")
        if positive and number == 0:
            raise ValueError(f"{name} must be at least 1: invalid zero value")
        return number

    return check


u8 = integer(0, 2**8 - 1)
u16 = integer(0, 2**16 - 1)
u32 = integer(0, 2**32 - 1)
u64 = integer(0, 2**64 - 1)
i32 = integer(-(2**31), 2**31 - 1)
positive_u16 = integer(0, 2**16 - 1, positive=True)
positive_u64 = integer(0, 2**64 - 1, positive=True)


def instance(kind: type[T]) -> Check[T]:
    """Accept objects of one class (no conversion: ``1`` is no bool)."""

    def check(name: str, value: Any) -> T:
        if not isinstance(value, kind):
            raise TypeError(f"{name} must be a {kind.__name__}, not {_type_name(value)}")
        return value

    return check


text = instance(str)
flag = instance(bool)


def text_mapping(name: str, value: Any) -> dict[str, str]:
    """Accept a dict from str to str; a copy is kept."""
    if not isinstance(value, dict):
        raise TypeError(f"{name} must be a dict of str to str, not {_type_name(value)}")
    for key, item in value.items():
        if not isinstance(key, str) or not isinstance(item, str):
            raise TypeError(f"{name} must be a dict of str to str, but has {key!r}: {item!r}")
        if "\0" in key:
            raise ValueError(f"{name} has the key {key!r}, whose null character cannot be stored")
    return dict(value)


def _type_name(value: object) -> str:
    return type(value).__name__

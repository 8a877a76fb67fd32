"""How credentials show themselves: what kind they are, and never a secret."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from datetime import datetime
from typing import Any, ClassVar

from icechunk._display import Block, Shown, datetime_text

__all__ = ["MASK", "Masked", "check_expiry", "secrets_of"]

MASK = "****"


class Masked(Shown):
    """Base of the records of credentials; fields not declared harmless are masked."""

    __slots__ = ()

    _name: ClassVar[str]
    """Name within `icechunk.credentials`."""
    _harmless: ClassVar[tuple[str, ...]] = ()
    """Fields shown as they are."""

    def _block(self) -> Block:
        names = [field.name for field in fields(self)]  # type: ignore[arg-type]
        shown = {name: self._shown(name, getattr(self, name)) for name in names}
        return Block.of(f"icechunk.credentials.{self._name}", shown)

    def _shown(self, name: str, value: Any) -> object:
        if isinstance(value, datetime):
            return datetime_text(value)
        if value is None or isinstance(value, Shown) or name in self._harmless:
            return value
        return MASK


def secrets_of(credentials: Masked) -> Iterator[str]:
    """Yield the texts that must show up in no message, those known of a function included."""
    source = getattr(credentials, "source", None)
    known = None if source is None else source().known()
    for name in (field.name for field in fields(credentials)):  # type: ignore[arg-type]
        value = getattr(credentials, name)
        if isinstance(value, Masked):
            yield from secrets_of(value)
        elif isinstance(value, str) and value and name not in credentials._harmless:
            yield value
    if known is not None:
        yield from secrets_of(known)


def check_expiry(when: datetime | None) -> None:
    """Refuse a moment that is not known to be one, for lack of a time zone."""
    if when is None:
        return
    if not isinstance(when, datetime):
        raise TypeError(f"expires_after must be a datetime, not {type(when).__name__}")
    if when.tzinfo is None:
        raise TypeError("expected a datetime with non-None tzinfo as expires_after")

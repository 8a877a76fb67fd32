"""What all configuration classes share: a bag of checked attributes, compared and shown by value.

A class lists its settings as `Field` descriptors, in the order they are shown, and spells out its
constructor by hand, since positional orders are public. None always means "not set, use the
default"; a field knows its default only for display and for `icechunk.config.effective`.
Objects are mutable and hold their nested objects live, so ``config.storage.retries.max_tries = 3``
works. This module knows no particular setting.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Generic, Self, TypeVar, cast, overload

from icechunk._display import Block, Default, Part, Shown
from icechunk.config import display
from icechunk.config.checks import Check

V = TypeVar("V")


class Field(Generic[V]):
    """One setting of a configuration class: checks what is assigned and knows how it merges.

    Parameters
    ----------
    check
        Called with every assigned value other than None.
    default
        What an unset field stands for, or a function returning it. Never stored in the object.
    required
        Whether None is refused.
    merges
        Whether `Settings.merge` goes into the value instead of replacing it whole.
    """

    __slots__ = ("_check", "_default", "merges", "name", "required")

    name: str

    def __init__(
        self,
        check: Check[Any],
        default: Any = None,
        *,
        required: bool = False,
        merges: bool = False,
    ) -> None:
        self._check = check
        self._default = default
        self.required = required
        self.merges = merges

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, settings: None, owner: type) -> Field[V]: ...

    @overload
    def __get__(self, settings: Settings, owner: type) -> V: ...

    def __get__(self, settings: Settings | None, owner: type) -> Field[V] | V:
        if settings is None:
            return self
        return cast(V, settings._values[self.name])

    def __set__(self, settings: Settings, value: V) -> None:
        self.store(settings, value)

    def store(self, settings: Settings, value: V) -> None:
        """Check and keep `value`."""
        if value is None and not self.required:
            settings._values[self.name] = None
        else:
            settings._values[self.name] = self._check(self.name, value)

    def default(self) -> Any:
        """Return what an unset field stands for."""
        return self._default() if callable(self._default) else self._default

    def effective(self, settings: Settings) -> Any:
        """Return the value, or the default when it is not set."""
        value = settings._values[self.name]
        return self.default() if value is None else value


class Settings(Shown):
    """Base of the configuration classes: equality, display, copies and merging by field."""

    __slots__ = ("_values",)

    _shown_as: ClassVar[str]
    _fields: ClassVar[dict[str, Field[Any]]]
    _values: dict[str, Any]

    def __init_subclass__(cls) -> None:
        cls._fields = {name: f for name, f in vars(cls).items() if isinstance(f, Field)}

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Start with nothing set, so that fields can be compared before all are assigned."""
        self = super().__new__(cls)
        self._values = dict.fromkeys(cls._fields)
        return self

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._values == other._values

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __copy__(self) -> Self:
        return self._with(self._values)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self._with(copy.deepcopy(self._values, memo))

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _rebuild, (type(self), self._values)

    def __repr__(self) -> str:
        return display.call(
            self._shown_as,
            ((name, display.literal(value)) for name, value in self._values.items()),
        )

    def __str__(self) -> str:
        return self._block().text()

    def _block(self) -> Block:
        """Show the settings in effect, those not set marked as defaults."""
        return Block(self._shown_as, tuple(self._parts()))

    def merge(self, other: Self) -> Self:
        """Return a new object holding these settings overlaid by those of `other` that are set."""
        if type(other) is not type(self):
            raise TypeError(f"cannot merge {type(other).__name__} into {type(self).__name__}")
        merged = {
            name: _merged(field, self._values[name], other._values[name])
            for name, field in self._fields.items()
        }
        return self._with(copy.deepcopy(merged))

    def _parts(self) -> Iterator[tuple[str, Part]]:
        for name, field in self._fields.items():
            value = field.effective(self)
            part = display.part(value)
            is_default = self._values[name] is None and value is not None
            yield name, Default(part) if is_default and isinstance(part, str) else part

    def _with(self, values: dict[str, Any]) -> Self:
        return cast(Self, _rebuild(type(self), values))


def _rebuild(cls: type[Settings], values: dict[str, Any]) -> Settings:
    # Through the fields, not around them: a pickle from another version may hold what we refuse.
    settings = cls.__new__(cls)
    for name, field in cls._fields.items():
        if (value := values.get(name)) is not None:
            field.store(settings, value)
    return settings


def _merged(field: Field[Any], base: Any, top: Any) -> Any:
    if field.merges and base is not None and top is not None:
        return base.merge(top)
    return base if top is None else top

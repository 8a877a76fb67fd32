"""How objects show themselves: one list of fields for text and for notebooks.

A class derives from `Shown` and answers `_block`: a header, then names and parts in order. Text
lays that out one ``name: value`` a line, parts of several lines below their name and indented;
`icechunk._html` makes a page of the same block. Nothing here knows what it shows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TypeAlias, TypeVar

__all__ = [
    "Block",
    "Default",
    "Folded",
    "Group",
    "Lines",
    "Part",
    "Shown",
    "datetime_text",
    "indented",
    "some_of",
]

_T = TypeVar("_T")

INDENT = "    "
SHOWN = 5


class Default(str):
    """Text of a value that nobody chose."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Group:
    """Named parts without a header of their own."""

    fields: tuple[tuple[str, Part], ...]

    def text(self) -> str:
        """Lay the parts out, each line ended by a newline."""
        return "".join(_field(name, part) for name, part in self.fields)


@dataclass(frozen=True, slots=True)
class Block:
    """What an object shows of itself."""

    header: str
    """Name of its class as users import it, and perhaps more."""
    fields: tuple[tuple[str, Part], ...]
    """Names and parts, in order."""

    @classmethod
    def of(cls, header: str, fields: Mapping[str, object]) -> Block:
        """Make a block of values that show themselves, and of others by their `str`."""
        return cls(header, tuple((name, _part(value)) for name, value in fields.items()))

    def text(self) -> str:
        """Lay the object out as text, ended by a newline."""
        return f"<{self.header}>\n" + Group(self.fields).text()


@dataclass(frozen=True, slots=True)
class Folded:
    """A part that text only hints at, for its length, and a notebook unfolds on demand."""

    hint: str
    block: Block


@dataclass(frozen=True, slots=True)
class Lines:
    """A part that goes below its name however few lines it has."""

    lines: tuple[str, ...]


Part: TypeAlias = str | Block | Group | Folded | Lines


class Shown:
    """Base of the classes that show themselves as a block, in a terminal and in a notebook."""

    __slots__ = ()

    def _block(self) -> Block:
        raise NotImplementedError

    def __repr__(self) -> str:
        return self._block().text()

    def _repr_html_(self) -> str:
        from icechunk._html import page_of  # for notebooks only, so not loaded before

        return page_of(self._block())


def datetime_text(when: datetime) -> str:
    """Write a UTC datetime the way blocks show it, readable and executable at once."""
    parts = (when.year, when.month, when.day, when.hour, when.minute, when.second, when.microsecond)
    return f"datetime.datetime({','.join(map(str, parts))}, tzinfo=datetime.timezone.utc)"


def indented(lines: str) -> str:
    """Shift every line to the right by one level."""
    return "".join(INDENT + line for line in lines.splitlines(keepends=True))


def some_of(what: str, items: Collection[_T], line: Callable[[_T], str] = str) -> str | Lines:
    """Show how many there are of something, and the first few of them, each by its line."""
    if not items:
        return "none"
    more = [f"... and {len(items) - SHOWN} more"] if len(items) > SHOWN else []
    return Lines((f"{len(items)} {what}", *map(line, islice(items, SHOWN)), *more))


def _part(value: object) -> Part:
    if isinstance(value, Shown):
        return value._block()
    if isinstance(value, str | Block | Group | Folded | Lines):
        return value
    return str(value)


def _field(name: str, part: Part) -> str:
    match part:
        case Block() | Group():
            return f"{name}:\n{indented(part.text())}"
        case Folded():
            return f"{name}: {part.hint}\n"
        case Default():
            return f"{name}: {part} (default)\n"
        case Lines():
            return f"{name}:\n" + "".join(f"{INDENT}{line}\n" for line in part.lines)
    lines = part.rstrip("\n").split("\n")
    return f"{name}: {part}\n" if len(lines) == 1 else _field(name, Lines(tuple(lines)))

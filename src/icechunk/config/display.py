"""Texts for settings: the executable form of `repr` and the readable block of `str`.

Pure functions over names and values. An object with a block of its own offers it as `block()`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Protocol, runtime_checkable

INDENT = "    "


@runtime_checkable
class HasBlock(Protocol):
    """Something that prints as a nested block of lines rather than on one line."""

    def block(self) -> str:
        """Return the lines, each ended by a newline."""
        ...


def quoted(text: str) -> str:
    """Return `text` as a double-quoted literal on one line, valid in Python and in YAML."""
    return '"' + "".join(map(_escaped, text)) + '"'


_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _escaped(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    number = ord(char)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def literal(value: object) -> str:
    """Return an expression that evaluates to `value`."""
    if isinstance(value, str) and not isinstance(value, Enum):
        return quoted(value)
    if isinstance(value, Mapping):
        if any(isinstance(item, HasBlock) for item in value.values()):
            lines = "".join(f"{literal(key)}: {item!r},\n" for key, item in value.items())
            return "{\n" + indented(lines) + "}"
        return "{" + ", ".join(f"{literal(k)}: {literal(v)}" for k, v in value.items()) + "}"
    return repr(value)


def call(name: str, arguments: Iterable[tuple[str, str]]) -> str:
    """Return ``name(`` with one indented ``argument=expression,`` a line."""
    lines = [f"{key}={expression}," for key, expression in arguments]
    return f"{name}(\n" + indented("\n".join(lines) + "\n") + ")"


def block(name: str, entries: Iterable[tuple[str, object]]) -> str:
    """Return ``<name>`` and one ``key: value`` a line, nested blocks indented below their key."""
    return f"<{name}>\n" + "".join(_entry(key, value) for key, value in entries)


def indented(lines: str) -> str:
    """Shift every line to the right by one level."""
    return "".join(INDENT + line for line in lines.splitlines(keepends=True))


class Verbatim(str):
    """Text for a block that is shown as it is, without quotes."""

    __slots__ = ()


class OneLine(dict[str, str]):
    """Mapping that a block shows on one line instead of one line per key."""

    __slots__ = ()


def _entry(key: str, value: object) -> str:
    if isinstance(value, HasBlock):
        return f"{key}:\n{indented(value.block())}"
    if isinstance(value, Mapping) and value and not isinstance(value, OneLine):
        return f"{key}:\n{indented(''.join(_entry(str(k), v) for k, v in value.items()))}"
    shown = value if isinstance(value, Verbatim) else literal(value)
    return f"{key}: {shown}\n"

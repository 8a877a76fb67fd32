"""Texts for settings: the executable form of `repr`, and the parts of the block that `str` shows.

Pure functions over names and values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum

from icechunk._display import Group, Part, Shown, indented


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
        if any(isinstance(item, Shown) for item in value.values()):
            lines = "".join(f"{literal(key)}: {item!r},\n" for key, item in value.items())
            return "{\n" + indented(lines) + "}"
        return "{" + ", ".join(f"{literal(k)}: {literal(v)}" for k, v in value.items()) + "}"
    return repr(value)


def call(name: str, arguments: Iterable[tuple[str, str]]) -> str:
    """Return ``name(`` with one indented ``argument=expression,`` a line."""
    lines = [f"{key}={expression}," for key, expression in arguments]
    return f"{name}(\n" + indented("\n".join(lines) + "\n") + ")"


def part(value: object) -> Part:
    """Return what a block shows of a setting: its own block, or one line."""
    if isinstance(value, Shown):
        return value._block()
    if isinstance(value, Mapping) and any(isinstance(item, Shown) for item in value.values()):
        return Group(tuple((str(key), part(item)) for key, item in value.items()))
    return getattr(value, "_shown_in_block", None) or literal(value)

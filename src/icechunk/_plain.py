"""Text from outside, made safe to show in one line: messages of commits, names of refs.

Stored text may hold anything: line breaks, escape sequences that drive a terminal, marks that turn
the writing direction of what follows. None of it gets through.
"""

from __future__ import annotations

import unicodedata

__all__ = ["first_line", "one_line", "shortened", "width"]

_JOINERS = "\u200c\u200d"  # format characters that scripts and emoji need
_UNSHOWABLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def first_line(text: str) -> str:
    """Return the first line of a text, made safe."""
    return one_line(next(iter(text.splitlines()), ""))


def one_line(text: str) -> str:
    """Return a text without any character that is not shown as itself."""
    return "".join(map(_shown, text))


def shortened(text: str, columns: int) -> str:
    """Cut a text that takes more than so many columns of a terminal, and mark the cut."""
    if width(text) <= columns:
        return text
    kept, room = 0, columns - len("...")
    for character in text:
        room -= _width_of(character)
        if room < 0:
            break
        kept += 1
    return text[:kept] + "..."


def width(text: str) -> int:
    """Columns that a text takes in a terminal: two for wide characters, none for marks."""
    return sum(map(_width_of, text))


def _shown(character: str) -> str:
    if character == "\t":
        return " "
    if character in _JOINERS:
        return character
    is_shown = unicodedata.category(character) not in _UNSHOWABLE
    return character if is_shown and character not in "\ufffe\uffff" else _REPLACEMENT


def _width_of(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1

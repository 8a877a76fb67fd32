"""How runtime objects show themselves: a header, then one ``name: value`` line per field.

A value of several lines, such as the block of an inner object, goes below its name, indented.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

__all__ = ["block", "datetime_text"]


def block(header: str, fields: Mapping[str, object]) -> str:
    """Lay out an object as a block, ending with a newline."""
    return f"<{header}>\n" + "".join(_field(name, str(value)) for name, value in fields.items())


def datetime_text(when: datetime) -> str:
    """Write a UTC datetime the way blocks show it, readable and executable at once."""
    parts = (when.year, when.month, when.day, when.hour, when.minute, when.second, when.microsecond)
    return f"datetime.datetime({','.join(map(str, parts))}, tzinfo=datetime.timezone.utc)"


def _field(name: str, value: str) -> str:
    lines = value.rstrip("\n").split("\n")
    if len(lines) == 1:
        return f"{name}: {lines[0]}\n"
    return f"{name}:\n" + "".join(f"    {line}\n" for line in lines)

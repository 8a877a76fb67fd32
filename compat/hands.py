"""Who hands repositories to whom, for each version of the format, and how they are looked at."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from itertools import cycle
from pathlib import Path
from typing import Any

from oracle import Side

Sides = dict[str, Side]

NAMES = {1: ("ours", "2.x", "1.x"), 2: ("ours", "2.x")}
"""The implementations that write each version of the format, 1.x and 2.x being the reference."""

MIGRATORS = ("ours", "2.x")
"""Those of them that bring a repository from version 1 to version 2."""

CHAINS = {
    spec: [names[start:] + names[:start] for start in range(len(names))]
    for spec, names in NAMES.items()
}
"""Orders in which a repository goes from hand to hand."""


def dealt(names: Iterable[str], among: Iterable[Any]) -> list[tuple[str, Any]]:
    """Give each name one of the others, in turns: for where all pairs would take too long."""
    return list(zip(names, cycle(among), strict=False))


def label(value: Any) -> str:
    """Name a parameter of a test."""
    if isinstance(value, tuple):
        return " to ".join(value)
    return f"version {value}" if isinstance(value, int) else str(value)


def newer(sides: Sides) -> Sides:
    """Leave out who knows only version 1."""
    return {name: side for name, side in sides.items() if name != "1.x"}


def described(sides: Sides, path: str) -> Any:
    """Describe a repository, the same whoever looks at it."""
    seen = {name: side.call("spec_1.describe", path=path) for name, side in sides.items()}
    first = next(iter(seen.values()))
    for name, other in seen.items():
        assert other == first, f"{name} sees something else"
    return first


def copies(path: str, sides: Sides) -> dict[str, str]:
    """Copy a repository for each side, times of files included."""
    found = {name: f"{path}-{name}" for name in sides}
    for copy in found.values():
        shutil.copytree(path, copy)
    return found


def files(path: str) -> dict[str, bytes]:
    """Read all files of a repository, lock files aside."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in Path(path).rglob("*")
        if file.is_file() and "#" not in file.name
    }

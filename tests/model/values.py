"""Nodes as plain values, and how a store spells them.

Every array has chunks of one element, so that its shape is its chunk grid. Values are one byte
repeated, written ``(size, byte)``: sizes around the inline threshold occur, and contents stay small
enough to print.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

Path = str
"""As Zarr spells it: ``""`` is the root, ``a/b`` a node below ``a``."""
Coords = tuple[int, ...]
Value = tuple[int, int]


@dataclass(frozen=True)
class Document:
    """A zarr.json."""

    attribute: int = 0
    grid: Coords | None = None
    """Shape of an array; None for a group."""

    @property
    def text(self) -> str:
        found = {"zarr_format": 3, "attributes": {"x": self.attribute}, "node_type": "group"}
        if self.grid is not None:
            chunk_grid = {"name": "regular", "configuration": {"chunk_shape": [1] * len(self.grid)}}
            found |= {"node_type": "array", "shape": self.grid, "chunk_grid": chunk_grid}
        return json.dumps(found)


@dataclass(frozen=True)
class Chunk:
    """A reference: two inline ones are equal when their bytes are, others never."""

    value: Value
    object: int | None = None


@dataclass(frozen=True)
class Node:
    """A node of a snapshot; `born` tells a node from another one at its path."""

    born: int
    document: Document
    chunks: Mapping[Coords, Chunk] = field(default_factory=dict)

    @property
    def is_array(self) -> bool:
        return self.document.grid is not None

    def inside(self) -> dict[Coords, Chunk]:
        """Give the chunks that the grid has a place for."""
        grid = self.document.grid or ()
        return {
            coords: chunk
            for coords, chunk in self.chunks.items()
            if all(c < n for c, n in zip(coords, grid, strict=True))
        }

    def trimmed(self) -> Node:
        return replace(self, chunks=self.inside())


Nodes = Mapping[Path, Node]


class FailedError(Exception):
    """A call must fail: class and code of the error, and what else it tells."""

    def __init__(self, class_name: str, kind: str, **details: object) -> None:
        super().__init__(class_name, kind)
        self.record = {"failed": class_name, "kind": kind, **details}


def is_below(path: Path, top: Path) -> bool:
    """Whether a node is at or below another place."""
    return top == "" or path == top or path.startswith(f"{top}/")


def ancestors(path: Path) -> list[Path]:
    """List the places above a node, nearest first."""
    found = []
    while path:
        path = path.rpartition("/")[0]
        found.append(path)
    return found


def renamed(path: Path, source: Path, target: Path) -> Path:
    """Say where a node is after ``source`` was moved to ``target``."""
    return target + path[len(source) :] if is_below(path, source) else path


def by_component(path: Path) -> list[str]:
    """Sort key under which a node comes right before what is below it."""
    return path.split("/") if path else []


def absolute(path: Path) -> str:
    return f"/{path}"


def document_key(path: Path) -> str:
    return f"{path}/zarr.json".lstrip("/")


def chunk_key(path: Path, coords: Iterable[int]) -> str:
    return "/".join([*([path] if path else []), "c", *map(str, coords)])


def contents(nodes: Nodes) -> dict[str, object]:
    """Spell what a store over these nodes holds: text of documents, ``[size, byte]`` of chunks."""
    found: dict[str, object] = {}
    for path, node in nodes.items():
        found[document_key(path)] = node.document.text
        for coords, chunk in node.inside().items():
            found[chunk_key(path, coords)] = list(chunk.value)
    return found


def differences(found: object, expected: object, where: str = "") -> list[str]:
    """Name the places at which two JSON-like values differ."""
    if found == expected:
        return []
    if isinstance(found, dict) and isinstance(expected, dict):
        return [
            line
            for key in sorted(found.keys() | expected.keys())
            for line in differences(found.get(key), expected.get(key), f"{where}/{key}")
        ]
    return [f"{where}: found {found!r}, expected {expected!r}"]

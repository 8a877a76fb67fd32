"""Reading the little that the engine needs from a node's ``zarr.json``.

Icechunk keeps the document byte for byte and interprets only the node type and, for arrays, the
shape, the chunk grid and the dimension names (spec, 'Snapshot files': node data). Everything else
(codecs, data type, attributes) is Zarr's business.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from icechunk.errors import ErrorKind, InvalidInputError

MAX_CHUNKS_PER_AXIS: Final = 2**32 - 1
MAX_LENGTH: Final = 2**64 - 1


@dataclass(frozen=True, slots=True)
class ArrayGrid:
    """Shape of an array and of its chunk grid."""

    shape: tuple[int, ...]
    num_chunks: tuple[int, ...]
    """Chunks along each axis; an axis of length 0 has none."""
    dimension_names: tuple[str | None, ...] | None
    """One name per axis (None: unnamed), or None when the document has no names."""

    def contains(self, coords: tuple[int, ...]) -> bool:
        """Whether ``coords`` names a chunk of this grid."""
        num_chunks = self.num_chunks
        if len(coords) != len(num_chunks):
            return False
        for coord, count in zip(coords, num_chunks, strict=True):  # noqa: SIM110  (hot path)
            if coord >= count:
                return False
        return True


def parse_document(data: bytes, path: str) -> ArrayGrid | None:
    """Parse a node document; None means a group.

    Raises
    ------
    InvalidInputError
        Kind ``bad-metadata``: no JSON object, an unknown node type, or an array without a usable
        shape or chunk grid.
    """
    try:
        document = json.loads(data.decode())  # the format wants UTF-8; json would guess
    except (ValueError, RecursionError) as error:
        raise _bad(path, f"not valid JSON ({error})") from None
    if not isinstance(document, dict):
        raise _bad(path, "the document must be a JSON object")
    match document.get("node_type"):
        case "group":
            return None
        case "array":
            return _parse_array(document, path)
        case other:
            raise _bad(path, f"`node_type` must be 'array' or 'group', got {other!r}")


def chunk_grid_name(data: bytes, path: str) -> str:
    """Return the name of the chunk grid in the document of an array.

    Raises
    ------
    InvalidInputError
        Kind ``bad-metadata``: there is none, in a document that others wrote.
    """
    try:
        return str(json.loads(data.decode())["chunk_grid"]["name"])
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise _bad(path, f"no name of a chunk grid is found ({error!r})") from None


def require_regular_grid(data: bytes, path: str) -> None:
    """Refuse what repositories of spec version 1 cannot hold.

    Raises
    ------
    InvalidInputError
        Kind ``bad-metadata``: the chunk grid of an array is not regular. For other faults see
        `parse_document`.
    """
    if parse_document(data, path) is not None and chunk_grid_name(data, path) != "regular":
        raise _bad(
            path,
            "repositories of spec version 1 have regular chunk grids only; use one, or upgrade the "
            "repository with icechunk.upgrade_icechunk_repository",
        )


def _parse_array(document: dict[str, Any], path: str) -> ArrayGrid:
    shape = document.get("shape")
    if not isinstance(shape, list) or not all(_is_count(n, MAX_LENGTH) for n in shape):
        raise _bad(path, f"`shape` must be a list of non-negative integers, got {shape!r}")
    num_chunks = _num_chunks(document.get("chunk_grid"), shape, path)
    names = document.get("dimension_names")
    if names is not None:
        if not isinstance(names, list) or not all(n is None or isinstance(n, str) for n in names):
            raise _bad(path, f"`dimension_names` must be a list of strings or null, got {names!r}")
        try:
            "".join(filter(None, names)).encode()
        except UnicodeEncodeError:
            raise _bad(path, f"`dimension_names` are not valid Unicode: {names!r}") from None
        padded = [*names, *[None] * len(shape)][: len(shape)]
        names = tuple(name or None for name in padded)
    return ArrayGrid(tuple(shape), num_chunks, names)


def _num_chunks(grid: object, shape: list[int], path: str) -> tuple[int, ...]:
    if not isinstance(grid, dict):
        raise _bad(path, f"`chunk_grid` must be an object, got {grid!r}")
    configuration = grid.get("configuration")
    if not isinstance(configuration, dict):
        configuration = {}
    match grid.get("name"):
        case "regular":
            counts = _regular(configuration.get("chunk_shape"), shape, path)
        case "rectilinear":
            counts = _rectilinear(configuration.get("chunk_shapes"), shape, path)
        case other:
            raise _bad(
                path,
                f"Unsupported chunk grid {other!r}: only 'regular' and 'rectilinear' are known",
            )
    if len(counts) != len(shape):
        few = "Fewer" if len(counts) < len(shape) else "More"
        raise _bad(
            path,
            f"{few} dimensions on inferred number of chunks {len(counts)} than shape {len(shape)}",
        )
    for axis, count in enumerate(counts):
        if count > MAX_CHUNKS_PER_AXIS:
            raise _bad(
                path,
                f"axis {axis} has {count} chunks, more than the {MAX_CHUNKS_PER_AXIS} the format "
                "can address; use larger chunks",
            )
    return tuple(counts)


def _regular(chunk_shape: object, shape: list[int], path: str) -> list[int]:
    if not isinstance(chunk_shape, list) or not all(_is_count(n, MAX_LENGTH) for n in chunk_shape):
        raise _bad(path, f"`chunk_shape` must be a list of non-negative integers: {chunk_shape!r}")
    counts = [
        0 if size == 0 else -(-n // size) for n, size in zip(shape, chunk_shape, strict=False)
    ]
    # axes without a counterpart still count, so that the rank check sees them
    return counts + [0] * (len(chunk_shape) - len(counts))


def _rectilinear(chunk_shapes: object, shape: list[int], path: str) -> list[int]:
    if not isinstance(chunk_shapes, list):
        raise _bad(path, f"`chunk_shapes` must be a list with one item per axis: {chunk_shapes!r}")
    counts = []
    for axis, sizes in enumerate(chunk_shapes):
        if _is_count(sizes, MAX_LENGTH):  # one size, repeated as often as the axis needs it
            counts += _regular([sizes], shape[axis : axis + 1], path)
            continue
        if not isinstance(sizes, list):
            raise _bad(
                path, f"`chunk_shapes` of axis {axis} must be a size or a list, got {sizes!r}"
            )
        count = 0
        for item in sizes:
            if _is_count(item, MAX_LENGTH):
                count += 1
            elif isinstance(item, list) and len(item) == 2 and _is_count(item[1], MAX_LENGTH):
                count += item[1]
            else:
                raise _bad(path, f"`chunk_shapes` of axis {axis} holds {item!r}")
        counts.append(count)
    return counts


def _is_count(value: object, limit: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= limit


def _bad(path: str, reason: str) -> InvalidInputError:
    return InvalidInputError(f"bad metadata for node `{path}`: {reason}", ErrorKind.BAD_METADATA)

"""References to virtual chunks, as users hand them over, made into a table.

All at once: whatever is wrong with one of a million references is found before any is recorded.
Locations are looked at one by one only where `plain_rows` has not settled them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import prod
from operator import index, itemgetter
from typing import Final

import numpy as np
import numpy.typing as npt

from icechunk.changes.documents import ArrayGrid
from icechunk.changes.plain_locations import plain_rows
from icechunk.chunks import ChunkTable, RaggedBytes
from icechunk.config.locations import Containers, normalized
from icechunk.errors import ErrorKind, InvalidInputError
from icechunk.virtual import VirtualChunkSpec, spec_dtype

__all__ = ["VirtualRefs", "refs_of_arrays", "refs_of_specs"]

Checksum = str | datetime | None
Mask = npt.NDArray[np.bool_]
Coords = npt.NDArray[np.integer]


SPECS_AT_ONCE: Final = 8192
"""Objects whose values are taken together."""

_NUMBERS, _LOCATION, _ETAG, _TIME = map(itemgetter, range(4))

SAMPLES: Final = 256
"""Locations compared with the one before, to see whether many repeat it."""


@dataclass(frozen=True, slots=True)
class VirtualRefs:
    """What a call was given, before it is compared with the array."""

    coords: Callable[[npt.NDArray[np.intp] | None], Coords]
    """Returns the coordinates of some rows or all, as (n, rank) integers of any size."""
    locations: Sequence[str]
    offsets: npt.NDArray[np.uint64]
    lengths: npt.NDArray[np.uint64]
    etags: Sequence[str] | str
    """One for each reference, or one for all; empty for none."""
    last_modified: npt.NDArray[np.uint32] | int
    """In seconds since the epoch, likewise; 0 for none."""

    def table(
        self,
        grid: ArrayGrid,
        path: str,
        containers: Containers,
        *,
        validate: bool,
        skip_empty: bool = False,
    ) -> tuple[ChunkTable, list[tuple[int, ...]]]:
        """Return the references, and where those are that no container is responsible for.

        Raises
        ------
        InvalidInputError
            Kinds ``invalid-virtual-ref``, ``invalid-chunk-index``, ``zero-length-chunk``.
        """
        locations, has_container, is_empty = _read_locations(
            self.locations, containers, validate=validate, skip_empty=skip_empty
        )
        # Without exceptions nothing is selected: columns go on as they are.
        given = np.flatnonzero(~is_empty) if is_empty.any() else None
        coords = self.coords(given)
        _check_coords(coords, grid, path)
        lengths = self.lengths if given is None else self.lengths[given]
        if not lengths.all():
            row = int(np.argmin(lengths))
            raise InvalidInputError(
                f"zero-length chunk {coords[row].tolist()} for array `{path}`: every chunk needs "
                "at least one byte",
                ErrorKind.ZERO_LENGTH_CHUNK,
            )
        kept, skipped = given, coords[:0]
        if not has_container.all():
            rows = np.arange(len(locations)) if given is None else given
            is_kept = has_container[rows]
            kept, coords, skipped = rows[is_kept], coords[is_kept], coords[~is_kept]
        n = len(coords)
        etags: RaggedBytes | None
        if isinstance(self.etags, str):
            etags = _repeated(self.etags, n) if self.etags else None
        else:
            etags = RaggedBytes.from_strings(
                self.etags if kept is None else [self.etags[row] for row in kept.tolist()]
            )
        times = self.last_modified
        table = ChunkTable.virtual(
            coords,
            locations if kept is None else locations.take(kept),
            self.offsets if kept is None else self.offsets[kept],
            self.lengths if kept is None else self.lengths[kept],
            etags,
            times if isinstance(times, int) or kept is None else times[kept],
        )
        return table, [tuple(row) for row in skipped.tolist()]


def refs_of_specs(specs: Sequence[VirtualChunkSpec], rank: int) -> VirtualRefs:
    """Take references over from objects.

    Raises
    ------
    TypeError
        One of them is something else.
    InvalidInputError
        Kind ``invalid-chunk-index``: one has another number of coordinates than the array has axes.
    """
    n = len(specs)
    dtype = spec_dtype(rank)
    records = np.empty(n, dtype)
    memory = records.view(np.uint8).reshape(-1)
    locations: list[str] = []
    has_etags = has_times = False
    for start in range(0, n, SPECS_AT_ONCE):
        # Objects lie all over memory: everything is taken while they are in the cache.
        part = specs[start : start + SPECS_AT_ONCE]
        _check_types(part)
        numbers = list(map(_NUMBERS, part))
        for found in set(map(len, numbers)) - {dtype.itemsize}:
            raise InvalidInputError(
                f"chunk index of {(found - spec_dtype(0).itemsize) // 4} numbers for an array of "
                f"{rank} axes",
                ErrorKind.INVALID_CHUNK_INDEX,
            )
        packed = np.frombuffer(b"".join(numbers), np.uint8)
        memory[dtype.itemsize * start :][: len(packed)] = packed
        locations += map(_LOCATION, part)
        has_etags = has_etags or any(map(_ETAG, part))
        has_times = has_times or any(map(_TIME, part))
    seconds = np.zeros(n, np.uint32)
    if has_times:
        # of the two checks the entity tag is the sharper one, and one is what can be stored
        pairs = zip(map(_ETAG, specs), map(_TIME, specs), strict=True)
        seconds = np.fromiter(
            (0 if etag else seconds_of(time) for etag, time in pairs), np.uint32, n
        )
    coords = np.ascontiguousarray(records["coords"])
    return VirtualRefs(
        lambda rows: coords if rows is None else coords[rows],
        locations,
        np.ascontiguousarray(records["offset"]),
        np.ascontiguousarray(records["length"]),
        [etag or "" for etag in map(_ETAG, specs)] if has_etags else "",
        seconds if has_times else 0,
    )


def _check_types(specs: Sequence[object]) -> None:
    wrong = next((kind for kind in set(map(type, specs)) if kind is not VirtualChunkSpec), None)
    if wrong is not None and not issubclass(wrong, VirtualChunkSpec):
        raise TypeError(f"chunks must be VirtualChunkSpec objects, not {wrong.__name__}")


def refs_of_arrays(
    shape: Sequence[int],
    locations: Sequence[str] | npt.NDArray[np.str_],
    offsets: npt.NDArray[np.uint64],
    lengths: npt.NDArray[np.uint64],
    origin: Sequence[int] | None,
    checksum: Checksum,
) -> VirtualRefs:
    """Take references over from columns that go through a grid in row-major order.

    Raises
    ------
    TypeError, ValueError
        The columns are of other types, or do not belong together.
    """
    for name, column in (("offsets", offsets), ("lengths", lengths)):
        if not isinstance(column, np.ndarray) or column.dtype != np.uint64 or column.ndim != 1:
            raise TypeError(f"{name} must be a one-dimensional numpy array of dtype uint64")
    if isinstance(locations, np.ndarray):
        texts = locations.ravel().tolist()
    elif isinstance(locations, str):
        raise TypeError("locations must be a list of str, not one str")
    else:
        texts = locations if isinstance(locations, list) else list(locations)
    for kind in set(map(type, texts)):
        if not issubclass(kind, str):
            raise TypeError(f"locations must be str, not {kind.__name__}")
    if not len(texts) == len(offsets) == len(lengths):
        raise ValueError(
            "locations, offsets, and lengths must have the same length, not "
            f"{len(texts)}, {len(offsets)} and {len(lengths)}"
        )
    sizes = tuple(index(size) for size in shape)
    starts = (0,) * len(sizes) if origin is None else tuple(index(start) for start in origin)
    if any(number < 0 or number >= 1 << 32 for number in (*sizes, *starts)):
        raise OverflowError(
            f"chunk_grid_shape {sizes} and arr_offset {starts} must be numbers from 0 to 2**32 - 1"
        )
    if prod(sizes) != len(texts):
        raise ValueError(
            f"product of chunk_grid_shape ({prod(sizes)}) != array length ({len(texts)})"
        )
    if len(starts) != len(sizes):
        raise ValueError(
            f"arr_offset length ({len(starts)}) != chunk_grid_shape length ({len(sizes)})"
        )

    def coords(rows: npt.NDArray[np.intp] | None) -> Coords:
        if rows is None and not any(starts):
            return np.indices(sizes, np.uint32).reshape(len(sizes), len(texts)).T
        if rows is None:
            rows = np.arange(len(texts))
        found = np.empty((len(rows), len(sizes)), np.int64)
        rest = rows.astype(np.int64)
        for axis in reversed(range(len(sizes))):
            rest, found[:, axis] = np.divmod(rest, sizes[axis])
            found[:, axis] += starts[axis]
        return found

    etag = checksum if isinstance(checksum, str) else ""
    time = None if isinstance(checksum, str) else checksum
    return VirtualRefs(coords, texts, offsets, lengths, etag, seconds_of(time))


def seconds_of(time: object) -> int:
    """Return a time in whole seconds since the epoch, as references store it; 0 for None.

    Raises
    ------
    TypeError
        It is no time, or has no time zone.
    InvalidInputError
        Kind ``invalid-virtual-ref``: it is not from the years 1970 to 2105.
    """
    if time is None:
        return 0
    if not isinstance(time, datetime) or time.tzinfo is None:
        raise TypeError(
            "a checksum must be a str, the entity tag, or a datetime with a time zone, not "
            f"{time!r}"
        )
    seconds = int(time.timestamp())
    if not 0 < seconds < 1 << 32:
        raise InvalidInputError(
            f"the time {time} of a virtual chunk's object cannot be stored: it is outside of the "
            "years 1970 to 2105",
            ErrorKind.INVALID_VIRTUAL_REF,
        )
    return seconds


def _read_locations(
    locations: Sequence[str], containers: Containers, *, validate: bool, skip_empty: bool
) -> tuple[RaggedBytes, Mask, Mask]:
    """Return locations as they are stored, which have a container, and which are empty."""
    rows = _changes(locations)
    texts = locations if rows is None else [locations[row] for row in rows.tolist()]
    is_empty = np.zeros(len(texts), np.bool_)
    has_container = np.ones(len(texts), np.bool_)
    try:
        column = RaggedBytes.from_strings(texts)
        plain = plain_rows(column, containers, validate=validate)
    except UnicodeEncodeError:  # of which text will be said below
        plain = np.zeros(len(texts), np.bool_)
    known: dict[str, tuple[str, bool]] = {"": ("", True)} if skip_empty else {}
    changed: list[str] | None = None
    for row in np.flatnonzero(~plain).tolist():
        text = texts[row]
        found = known.get(text)
        if found is None:
            stored = normalized(text)
            found = known[text] = stored, not validate or containers.find(stored) is not None
        stored, has_container[row] = found
        is_empty[row] = not text
        if stored != text:
            changed = list(texts) if changed is None else changed
            changed[row] = stored
    if changed is not None:
        column = RaggedBytes.from_strings(changed)
    if rows is None:
        return column, has_container, is_empty
    times = np.diff(rows, append=len(locations))
    return column.repeat(times), np.repeat(has_container, times), np.repeat(is_empty, times)


def _changes(texts: Sequence[str]) -> npt.NDArray[np.intp] | None:
    """Return the rows whose text is not the one before; None where that saves little.

    References to one file usually follow each other.
    """
    n = len(texts)
    sample = np.linspace(1, n - 1, SAMPLES).astype(np.intp).tolist() if n > SAMPLES else []
    if sum(texts[row] != texts[row - 1] for row in sample) * 2 >= len(sample):
        return None
    column = np.fromiter(texts, np.object_, n)
    return np.concatenate([[0], np.flatnonzero(column[1:] != column[:-1]) + 1])


def _check_coords(coords: Coords, grid: ArrayGrid, path: str) -> None:
    rank = coords.shape[1]
    is_inside = rank == len(grid.num_chunks)
    if is_inside and len(coords) and rank:
        # axis by axis, since comparing whole rows is slow for few axes
        is_inside = all(
            column.max() < count for column, count in zip(coords.T, grid.num_chunks, strict=True)
        )
        if not is_inside:
            coords = coords[(coords >= np.asarray(grid.num_chunks, np.int64)).any(axis=1)]
    if not is_inside:
        shown = coords[0].tolist() if len(coords) else [None] * rank
        raise InvalidInputError(
            f"chunk index {shown} is invalid for array `{path}` with {list(grid.num_chunks)} "
            "chunks",
            ErrorKind.INVALID_CHUNK_INDEX,
        )


def _repeated(text: str, n: int) -> RaggedBytes:
    data = text.encode()
    return RaggedBytes.from_lengths(np.full(n, len(data), np.int64), data * n)

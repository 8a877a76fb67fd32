"""Which of many locations of virtual chunks need no closer look, decided for a column at once.

What locations mean is said in `icechunk.config.locations`. Of a million of them nearly all start as
a container does and have nothing in them that is encoded, relative or invisible. Bytes tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from icechunk.chunks import RaggedBytes
from icechunk.chunks.arrays import Mask, Rows
from icechunk.chunks.ragged_copy import windows
from icechunk.config.locations import Containers, normalized
from icechunk.errors import InvalidInputError

__all__ = ["plain_rows"]

MIN_ROWS: Final = 16
"""Fewer are looked at one by one."""
ROWS_AT_ONCE: Final = 4096
"""Locations looked at together: few enough that their bytes stay in the processor's cache."""

_SPACE, _DOT, _SLASH, _TILDE = b" ./~"

Starts: TypeAlias = Mapping[bytes, bytes | None]
"""What locations start with, and the odd characters after it; None where nothing is odd."""


def plain_rows(column: RaggedBytes, containers: Containers, *, validate: bool) -> Mask:
    """Return which locations are stored as they are given and, with `validate`, in a container.

    Exact where it says so; of the other locations some may be the same.
    """
    n = len(column)
    plain = np.zeros(n, np.bool_)
    if n < MIN_ROWS:
        return plain
    starts: dict[bytes, bytes | None] = {
        start.encode(): odd.encode() for start, odd in containers.plain_starts.items()
    }
    if not validate:
        starts.update(_start_of(column[0]))
    for first in range(0, n, ROWS_AT_ONCE):
        last = min(first + ROWS_AT_ONCE, n)
        plain[first:last] = _plain_in(column.slice(first, last), starts)
    return plain


def _start_of(location: bytes) -> dict[bytes, None]:
    """Return the scheme and host of a location if the rest is stored as given, whatever it is."""
    start = b"/".join([*location.split(b"/")[:3], b""])
    try:
        text = start.decode()
        is_good = text.count("/") == 3 and normalized(text) == text
    except (UnicodeDecodeError, InvalidInputError):
        return {}
    return {start: None} if is_good and not start.startswith(b"file:") else {}


def _plain_in(block: RaggedBytes, starts: Starts) -> Mask:
    data, begins, lengths = block.data, block.offsets[:-1], block.lengths
    plain = np.zeros(len(block), np.bool_)
    schemes = np.zeros(len(block), np.int64)  # where the slashes after it are
    odd: set[int] = set()
    has_segments = False
    for start, odd_after in starts.items():
        rows = np.flatnonzero(~plain & (lengths >= len(start)))
        if len(rows):
            found = windows(data, len(start))[begins[rows]] == np.void(start)
            rows = rows if found.all() else rows[found]
        if len(rows):
            plain[rows] = True
            schemes[rows] = begins[rows] + start.index(b"//")
            odd.update(odd_after or b"")
            has_segments |= odd_after is not None
        if plain.all():
            break
    if not plain.any():
        return plain
    is_odd = data - np.uint8(_SPACE) > _TILDE - _SPACE  # what is below wraps around
    for character in odd:
        is_odd |= data == character
    if is_odd.any():
        plain[_owners(block, np.flatnonzero(is_odd))] = False
    if has_segments:
        _drop_segments(block, plain, schemes)
    return plain


def _drop_segments(block: RaggedBytes, plain: Mask, schemes: Rows) -> None:
    """Take out locations with segments that are empty or may be ``.`` or ``..``."""
    data, ends = block.data, block.offsets[1:]
    is_slash = data == _SLASH
    plain[is_slash[ends - 1] & (block.lengths > 0)] = False
    before = np.flatnonzero(is_slash[:-1] & (is_slash[1:] | (data[1:] == _DOT)))
    if not np.array_equal(before, schemes):
        owners = _owners(block, before)
        # two slashes after the scheme, three where there is no host
        plain[owners[before - schemes[owners] > 1]] = False


def _owners(block: RaggedBytes, positions: npt.NDArray[np.intp]) -> Rows:
    """Return which row each byte belongs to."""
    owners: Rows = np.searchsorted(block.offsets, positions, side="right") - 1
    return owners

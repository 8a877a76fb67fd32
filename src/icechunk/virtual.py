"""Virtual chunks under the module name that users know: containers, and references as objects."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from operator import index as as_integer
from typing import Final, Self

import numpy as np

from icechunk.config.containers import VirtualChunkContainer

__all__ = ["VirtualChunkContainer", "VirtualChunkSpec"]

_LIMIT: Final = 1 << 64
_PACK: Final = [struct.Struct(f"={rank}I2Q").pack for rank in range(9)]
"""By rank: coordinates, offset and length in the order of `spec_dtype`."""
_RANGE: Final = struct.Struct("=2Q")
_make = tuple.__new__


class VirtualChunkSpec(tuple[bytes, str, str | None, datetime | None]):
    """A reference to a virtual chunk, for `IcechunkStore.set_virtual_refs`.

    Whoever has many of them uses `IcechunkStore.set_virtual_refs_arr`, which takes columns.

    Parameters
    ----------
    index
        Coordinates of the chunk in the array's chunk grid.
    location
        URL of the object that holds the bytes.
    offset, length
        Where they are in it.
    etag_checksum
        Entity tag that the object must still have when it is read.
    last_updated_at_checksum
        Time, with a time zone, after which the object must not have been modified.

    Raises
    ------
    OverflowError
        A number is negative, or has more than 64 bits.
    TypeError
        An argument is of another type, or the time has no time zone.
    """

    __slots__ = ()

    def __new__(
        cls,
        index: Sequence[int],
        location: str,
        offset: int,
        length: int,
        etag_checksum: str | None = None,
        last_updated_at_checksum: datetime | None = None,
    ) -> Self:
        """Check the values; a reference cannot be changed afterwards."""
        # People make millions of these: a tuple is the quickest thing to make and to take columns
        # out of, and numbers that are packed already need not be looked at again.
        try:
            numbers = _PACK[len(index)](*index, offset, length)
        except (struct.error, IndexError):
            numbers = _packed(index, offset, length)
        if type(location) is not str and not isinstance(location, str):
            raise TypeError(f"location must be str, not {type(location).__name__}")
        if etag_checksum is not None or last_updated_at_checksum is not None:
            _check_checksums(etag_checksum, last_updated_at_checksum)
        return _make(cls, (numbers, location, etag_checksum, last_updated_at_checksum))

    @property
    def index(self) -> list[int]:  # type: ignore[override]  # the name that users know
        """Coordinates of the chunk in the array's chunk grid."""
        return array("I", self[0][: -_RANGE.size]).tolist()

    @property
    def location(self) -> str:
        """URL of the object that holds the bytes."""
        return self[1]

    @property
    def offset(self) -> int:
        """Where the bytes begin in the object."""
        return int(_RANGE.unpack(self[0][-_RANGE.size :])[0])

    @property
    def length(self) -> int:
        """How many bytes there are."""
        return int(_RANGE.unpack(self[0][-_RANGE.size :])[1])

    @property
    def etag_checksum(self) -> str | None:
        """Entity tag that the object must still have."""
        return self[2]

    @property
    def last_updated_at_checksum(self) -> datetime | None:
        """Time after which the object must not have been modified."""
        return self[3]

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.index, self[1], self.offset, self.length, *self[2:])

    def __repr__(self) -> str:
        return (
            f"icechunk.virtual.VirtualChunkSpec(index={self.index}, location={self[1]!r}, "
            f"offset={self.offset}, length={self.length}, etag_checksum={self[2]!r}, "
            f"last_updated_at_checksum={self[3]!r})"
        )


@cache
def spec_dtype(rank: int) -> np.dtype[np.void]:
    """Return the type of the numbers that come first in references of arrays of this rank."""
    return np.dtype([("coords", np.uint32, (rank,)), ("offset", np.uint64), ("length", np.uint64)])


def _packed(index: Sequence[int], offset: int, length: int) -> bytes:
    """Pack the numbers of a reference of many axes, or say what is wrong with them."""
    offset, length = as_integer(offset), as_integer(length)
    if not (0 <= offset < _LIMIT and 0 <= length < _LIMIT):
        raise OverflowError(f"offset {offset} and length {length} must fit into 64 bits")
    return array("I", index).tobytes() + _RANGE.pack(offset, length)


def _check_checksums(etag: object, time: object) -> None:
    if etag is not None and not isinstance(etag, str):
        raise TypeError(f"etag_checksum must be str, not {type(etag).__name__}")
    if time is not None and (not isinstance(time, datetime) or time.tzinfo is None):
        raise TypeError(
            f"last_updated_at_checksum must be a datetime with a time zone, not {time!r}"
        )

"""Virtual chunks under the module name that users know: containers, and references as objects."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from datetime import datetime
from operator import index as as_integer
from typing import Final, Self

from icechunk.config.containers import VirtualChunkContainer

__all__ = ["VirtualChunkContainer", "VirtualChunkSpec"]

_LIMIT: Final = 1 << 64
_PACK: Final = [struct.Struct(f"={rank}I").pack for rank in range(9)]
_make = tuple.__new__


class VirtualChunkSpec(tuple[bytes, str, int, int, str | None, datetime | None]):
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
        # out of, and coordinates that are packed already need not be looked at again.
        if type(offset) is not int or type(length) is not int:
            offset, length = as_integer(offset), as_integer(length)
        if offset < 0 or length < 0 or offset >= _LIMIT or length >= _LIMIT:
            raise OverflowError(f"offset {offset} and length {length} must fit into 64 bits")
        if type(location) is not str and not isinstance(location, str):
            raise TypeError(f"location must be str, not {type(location).__name__}")
        if etag_checksum is not None or last_updated_at_checksum is not None:
            _check_checksums(etag_checksum, last_updated_at_checksum)
        try:
            coords = _PACK[len(index)](*index)
        except (struct.error, IndexError):
            coords = array("I", index).tobytes()  # of many axes; or it says what is wrong
        return _make(
            cls, (coords, location, offset, length, etag_checksum, last_updated_at_checksum)
        )

    @property
    def index(self) -> list[int]:  # type: ignore[override]  # the name that users know
        """Coordinates of the chunk in the array's chunk grid."""
        return array("I", self[0]).tolist()

    @property
    def location(self) -> str:
        """URL of the object that holds the bytes."""
        return self[1]

    @property
    def offset(self) -> int:
        """Where the bytes begin in the object."""
        return self[2]

    @property
    def length(self) -> int:
        """How many bytes there are."""
        return self[3]

    @property
    def etag_checksum(self) -> str | None:
        """Entity tag that the object must still have."""
        return self[4]

    @property
    def last_updated_at_checksum(self) -> datetime | None:
        """Time after which the object must not have been modified."""
        return self[5]

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.index, *self[1:])

    def __repr__(self) -> str:
        return (
            f"icechunk.virtual.VirtualChunkSpec(index={self.index}, location={self[1]!r}, "
            f"offset={self[2]}, length={self[3]}, etag_checksum={self[4]!r}, "
            f"last_updated_at_checksum={self[5]!r})"
        )


def _check_checksums(etag: object, time: object) -> None:
    if etag is not None and not isinstance(etag, str):
        raise TypeError(f"etag_checksum must be str, not {type(etag).__name__}")
    if time is not None and (not isinstance(time, datetime) or time.tzinfo is None):
        raise TypeError(
            f"last_updated_at_checksum must be a datetime with a time zone, not {time!r}"
        )

"""What one chunk reference is: its kind and, when a single one is looked at, its fields.

References live in columns (`icechunk.chunks.table`); the tuple here is the form in which one of
them is handed to code that reads or writes a single chunk. Icechunk spec, "Manifest files".
"""

from enum import IntEnum
from typing import NamedTuple


class ChunkKind(IntEnum):
    """Where the bytes of a chunk are; the value stored in a table's `kinds` column."""

    DELETED = 0
    """Nowhere: the row hides an older reference at the same coordinates."""
    NATIVE = 1
    """In a chunk object of the repository, named by a 12-byte id."""
    VIRTUAL = 2
    """In a range of some object outside the repository."""
    INLINE = 3
    """In the reference itself."""


class ChunkRef(NamedTuple):
    """One chunk reference; fields its kind does not use keep their defaults.

    Attributes
    ----------
    kind
        A `ChunkKind` value, possibly as a plain int.
    id
        The 12-byte object id of a native chunk.
    offset, length
        The byte range inside the chunk object (native) or the external object (virtual);
        for an inline chunk `length` is the number of bytes.
    inline
        The bytes of an inline chunk.
    location
        The URL of a virtual chunk.
    etag, last_modified
        What a virtual chunk's object must still be: at most one of an entity tag and a time in
        seconds since the epoch (0: unchecked).
    """

    kind: int
    id: bytes | None = None
    offset: int = 0
    length: int = 0
    inline: bytes | None = None
    location: str | None = None
    etag: str | None = None
    last_modified: int = 0

"""Kinds of damage that readers of files can tell apart, for those who look for damage.

Each is the code of a kind of fault that verifications report. An error of a reader carries it as
`FormatError.damage`; most damage is of no kind but that the file cannot be decoded.
"""

from __future__ import annotations

from enum import StrEnum

from icechunk.errors import ErrorKind, FormatError
from icechunk.format.ids import encode_id

__all__ = ["Damage", "damaged", "require_id"]


class Damage(StrEnum):
    """What a reader found where it could tell."""

    ID_MISMATCH = "id-mismatch"
    REF_TO_UNKNOWN_SNAPSHOT = "ref-to-unknown-snapshot"
    DUPLICATE_REF = "duplicate-ref"
    DANGLING_PARENT = "dangling-parent"
    HISTORY_CYCLE = "history-cycle"
    UNSORTED_NODES = "unsorted-nodes"
    DUPLICATE_PATH = "duplicate-path"
    UNSORTED_REFERENCES = "unsorted-references"
    RANK_WRONG = "rank-wrong"


def damaged(
    message: str, damage: Damage | None, kind: str = ErrorKind.DESERIALIZATION
) -> FormatError:
    """Make the error of a file that is damaged in some way."""
    error = FormatError(message, kind)
    error.damage = damage
    return error


def require_id(key: str, found: bytes, expected: bytes) -> None:
    """Raise FormatError when a file is another object than its key names."""
    if found != expected:
        raise damaged(
            f"{key}: the file says it is {encode_id(found)}; it was copied or renamed by mistake",
            Damage.ID_MISMATCH,
            ErrorKind.INVALID_FILE_FORMAT,
        )

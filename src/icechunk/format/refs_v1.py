"""Branches and tags of spec version 1: where their files are, and what is in them.

A branch is ``refs/branch.<name>/ref.json``, a tag is ``refs/tag.<name>/ref.json``. Both hold one
JSON object that names a snapshot. A tag is deleted by a second file beside the first, its
tombstone, so that nobody can use the name again. A branch is retired by exchanging its content for
one that says where it was: whoever is about to move it finds that it has changed, and cannot.

Some storages, local files among them, have characters in names spelled as ``%`` and two digits.
Others, those of the S3 protocol, have names as they are. Which is which is not decided here.
Icechunk spec, "Spec version 1 differences".
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import unquote_to_bytes

from icechunk.errors import ErrorKind, FormatError, InvalidInputError
from icechunk.format.ids import OBJECT_ID_SIZE, decode_id, encode_id
from icechunk.format.layout import REFS

__all__ = [
    "RefKey",
    "RefKind",
    "decode_ref",
    "encode_ref",
    "encode_retired_ref",
    "parse_ref_key",
    "ref_key",
    "retired_ref",
    "tombstone_key",
]

RefKind = Literal["branch", "tag"]

_FILE: Final = "ref.json"
_TOMBSTONE: Final = "ref.json.deleted"
_WAS: Final = "migrated from"
_KINDS: Final[tuple[RefKind, ...]] = ("branch", "tag")
_SPELLED: Final = re.compile(rb'[\x00-\x1f\x7f-\xff\\{}^%`\]\[">~<#|*?]')


@dataclass(frozen=True, slots=True, order=True)
class RefKey:
    """What the key of a file among the refs says."""

    kind: RefKind
    name: str
    deleted: bool
    """Whether it is the key of a tombstone, not of the ref itself."""


def ref_key(kind: RefKind, name: str, *, verbatim: bool = False) -> str:
    """Key of the file of a branch or tag.

    Parameters
    ----------
    kind
        Branch or tag.
    name
        Its name, which may be empty and may have any characters but slashes.
    verbatim
        Whether the storage has names in keys as they are.

    Raises
    ------
    InvalidInputError
        If no ref can have that name.
    """
    return f"{REFS}/{kind}.{_segment(kind, name, verbatim)}/{_FILE}"


def tombstone_key(name: str, *, verbatim: bool = False) -> str:
    """Key of the empty file that says that a tag was deleted; arguments as of `ref_key`."""
    return f"{REFS}/tag.{_segment('tag', name, verbatim)}/{_TOMBSTONE}"


def parse_ref_key(key: str, *, verbatim: bool = False) -> RefKey | None:
    """Read whose key it is.

    Parameters
    ----------
    key
        Key of any object.
    verbatim
        As for `ref_key`. Otherwise names are taken as spelled where `ref_key` spells them so, and
        as they are where it would not: a repository may have been copied from another storage.

    Returns
    -------
    RefKey | None
        None for the key of no branch and no tag.
    """
    root, _, inside = key.partition("/")
    segment, _, file = inside.partition("/")
    if root != REFS or file not in (_FILE, _TOMBSTONE):
        return None
    for kind in _KINDS:
        name = segment.removeprefix(f"{kind}.")
        deleted = file == _TOMBSTONE
        if name != segment and not (deleted and kind == "branch"):
            return RefKey(kind, name if verbatim else _as_meant(name), deleted)
    return None


def encode_ref(snapshot_id: bytes) -> bytes:
    """Content of the file of a branch or tag that points to a snapshot."""
    return json.dumps({"snapshot": encode_id(snapshot_id)}, separators=(",", ":")).encode()


def decode_ref(data: bytes, key: str) -> bytes:
    """Read which snapshot a branch or tag points to.

    Parameters
    ----------
    data
        Content of the file.
    key
        Its key, for messages.

    Raises
    ------
    FormatError
        If it names no snapshot.
    """
    try:
        content = json.loads(data)
        if not isinstance(content, dict) or not isinstance(content.get("snapshot"), str):
            raise ValueError("it is no JSON object with a text 'snapshot'")
        target = decode_id(content["snapshot"], OBJECT_ID_SIZE)
    except (ValueError, RecursionError) as error:
        raise FormatError(
            f"{key} names no snapshot: {error}. Write into it the id of the snapshot that it should"
            ' point to, like {"snapshot":"<20 characters>"}',
            ErrorKind.SERIALIZATION,
        ) from None
    if _WAS in content:
        raise FormatError(
            f"{key} was retired by a migration to spec version 2: open the repository anew. If the"
            " migration was interrupted, run upgrade_icechunk_repository again",
            ErrorKind.SERIALIZATION,
        )
    return target


def encode_retired_ref(snapshot_id: bytes, by: bytes) -> bytes:
    """Content of the file of a branch that is in version 2 by now, and must not move any more.

    To other implementations it is a branch at a snapshot that nobody has: it can be read, as some
    do when they open a repository of version 2, but is not where any session began.

    Parameters
    ----------
    snapshot_id
        Where the branch was.
    by
        A fresh id of who retires it, so that no two have the same content.
    """
    content = {"snapshot": encode_id(by), _WAS: encode_id(snapshot_id)}
    return json.dumps(content, separators=(",", ":")).encode()


def retired_ref(data: bytes) -> bytes | None:
    """Read where a retired branch was; None for any other content."""
    try:
        content = json.loads(data)
        return decode_id(content[_WAS], OBJECT_ID_SIZE)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _segment(kind: RefKind, name: str, verbatim: bool) -> str:
    """Name of a ref as it stands in keys."""
    if "/" in name:
        raise InvalidInputError(
            f"invalid ref name `{name}`: in a repository of spec version 1, no {kind} can have a"
            " name with a slash. Use another character, like a dot",
            ErrorKind.INVALID_REF_NAME,
        )
    try:
        encoded = name.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(
            f"invalid ref name {name!a}: it is not text ({error.reason}). Leave that character out",
            ErrorKind.INVALID_REF_NAME,
        ) from None
    return name if verbatim else _spelled(encoded)


def _spelled(name: bytes) -> str:
    return _SPELLED.sub(lambda found: f"%{found[0][0]:02X}".encode(), name).decode()


def _as_meant(segment: str) -> str:
    """Undo the spelling of a name, if it is the spelling of one."""
    meant = unquote_to_bytes(segment)
    try:
        return meant.decode() if _spelled(meant) == segment else segment
    except UnicodeDecodeError:
        return segment

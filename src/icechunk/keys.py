"""The key grammar of the Zarr store: what a key names, as a value.

Pure text rules, no repository. Icechunk understands exactly the keys that Zarr v3 writes with the
``default`` chunk key encoding and ``/`` as its separator:

===============================  =====================================================
``zarr.json``                    the root node's document
``<path>/zarr.json``             the document of node ``/<path>``
``<path>/c/<i>/<j>/...``         chunk ``(i, j, ...)`` of array ``/<path>``
``<path>/c``                     the single chunk of the 0-dimensional array ``/<path>``
``.zgroup .zarray .zattrs ...``  Zarr v2 documents: recognised, never stored
===============================  =====================================================
"""

from __future__ import annotations

from typing import Final, NamedTuple

from icechunk.errors import ErrorKind, InvalidInputError

METADATA_NAME: Final = "zarr.json"
CHUNK_NAME: Final = "c"
V2_NAMES: Final = frozenset({".zarray", ".zgroup", ".zattrs", ".zmetadata"})

MAX_COORDINATE: Final = 2**32 - 1


class MetadataKey(NamedTuple):
    """The document of one node."""

    path: str


class ChunkKey(NamedTuple):
    """One chunk of one array."""

    path: str
    coords: tuple[int, ...]


class V2Key(NamedTuple):
    """A document of Zarr v2, which Icechunk does not store."""

    path: str


Key = MetadataKey | ChunkKey | V2Key


def parse_key(key: str) -> Key:
    """Parse a store key.

    Parameters
    ----------
    key
        A Zarr store key; one leading ``/`` is ignored.

    Raises
    ------
    InvalidInputError
        Kind ``invalid-key``: the text is no key of the grammar.
    """
    text = key[1:] if key.startswith("/") else key
    head, slash, last = text.rpartition("/")
    if last == METADATA_NAME:
        return MetadataKey(_node_path(head, slash, key))
    if last in V2_NAMES:
        return V2Key(_node_path(head, slash, key))
    chunk = None if text.startswith("/") else split_chunk_key(text)
    if chunk is not None:
        prefix, coords = chunk
        return ChunkKey(_node_path(prefix, "/" if prefix else "", key), coords)
    raise _invalid(key)


def split_chunk_key(text: str) -> tuple[str, tuple[int, ...]] | None:
    """Split a chunk key without a leading slash into array prefix and coordinates.

    The array part is everything before the *last* component that is exactly ``c``, and is not
    checked here. Returns None when the text is no chunk key.
    """
    prefix, found, tail = text.rpartition("/c/")
    if not found:
        if text.startswith("c/"):
            tail = text[2:]
        elif text == CHUNK_NAME:
            return "", ()
        elif text.endswith("/c"):
            return text[:-2], ()
        else:
            return None
    if not (tail.isascii() and tail.replace("/", "").isdigit()):
        # ``a/c/0/c`` is the scalar chunk of the array ``a/c/0``
        return (text[:-2], ()) if text.endswith("/c") else None
    try:
        coords = tuple(map(int, tail.split("/")))
    except ValueError:  # an empty component, or a number of thousands of digits
        return None
    return (prefix, coords) if max(coords) <= MAX_COORDINATE else None


def chunk_prefix(path: str, text: str) -> tuple[int, ...] | None:
    """Leading coordinates that the directory ``text`` selects below the array ``path``.

    ``a/c`` selects every chunk of ``/a`` (an empty tuple), ``a/c/3`` those whose first coordinate
    is 3. Returns None when ``text`` is not inside the chunk space of that array.
    """
    inner = text[len(path) :] if path != "/" else "/" + text
    if inner == "/c":
        return ()
    if not inner.startswith("/c/"):
        return None
    parts = inner[3:].split("/")
    if not all(part.isascii() and part.isdigit() and len(part) <= 10 for part in parts):
        return None
    return tuple(map(int, parts))


def metadata_key(path: str) -> str:
    """Key of a node's document."""
    return METADATA_NAME if path == "/" else f"{path[1:]}/{METADATA_NAME}"


def chunk_key_prefix(path: str) -> str:
    """Key below which the chunks of an array lie, without a trailing slash."""
    return CHUNK_NAME if path == "/" else f"{path[1:]}/{CHUNK_NAME}"


def node_path(prefix: str) -> str:
    """Absolute node path of a store prefix, slashes at both ends ignored."""
    return "/" + prefix.strip("/")


def _node_path(prefix: str, slash: str, key: str) -> str:
    if not prefix:
        if slash:
            raise _invalid(key)
        return "/"
    for part in prefix.split("/"):
        if part in ("", ".", ".."):
            raise _invalid(key)
    if not prefix.isascii():
        try:
            prefix.encode()
        except UnicodeEncodeError:  # a lone surrogate, which no snapshot file could hold
            raise _invalid(ascii(key)) from None
    return "/" + prefix


def _invalid(key: str) -> InvalidInputError:
    return InvalidInputError(
        f"invalid zarr key format `{key}`: expected `<path>/zarr.json` or `<path>/c/<i>/<j>/...`",
        ErrorKind.INVALID_KEY,
    )

"""Node paths: what is a legal one, how they nest, and the two orders in which files keep them.

Paths are absolute strings (``/``, ``/a/b``) without a trailing slash, empty, ``.`` or ``..``
segments. Paths read from files are trusted; only those of users pass `validate_path`.
Icechunk spec, "Snapshot files" and "Transaction logs".
"""

from __future__ import annotations

from icechunk.errors import ErrorKind, InvalidInputError

__all__ = [
    "ROOT",
    "ancestors",
    "is_descendant",
    "is_same_or_descendant",
    "join",
    "name",
    "normalize",
    "parent",
    "segment_order_key",
    "validate_path",
]

ROOT = "/"
_FORBIDDEN_SEGMENTS = frozenset({"", ".", ".."})


def validate_path(path: str) -> str:
    """Return `path` if it is a legal node path, so that only such paths reach a snapshot.

    Raises
    ------
    InvalidInputError
        Of kind ``invalid-path``, naming the path and the rule it breaks.
    """
    if path == ROOT:
        return path
    if not path.startswith("/"):
        raise _invalid(path, "it must start with '/'")
    for segment in path[1:].split("/"):
        if segment in _FORBIDDEN_SEGMENTS:
            raise _invalid(path, f"it has the segment {segment!r}")
    try:
        path.encode()
    except UnicodeEncodeError:
        raise _invalid(path, "it is not valid Unicode text") from None
    return path


def normalize(path: str) -> str:
    """Turn a user's spelling (``a/b``, ``/a/b/``, empty for the root) into a legal node path."""
    return validate_path("/" + path.removeprefix("/").removesuffix("/"))


def segment_order_key(path: str) -> tuple[bytes, ...]:
    """Sort key of moves within a transaction log: by segment, so ``/a`` < ``/a/b`` < ``/a-b``."""
    if path == ROOT:
        return (b"",)
    return tuple(path.encode().split(b"/"))


def parent(path: str) -> str | None:
    """Return the path of the group that would hold `path`; the root has none."""
    if path == ROOT:
        return None
    return path.rpartition("/")[0] or ROOT


def name(path: str) -> str:
    """Return the last segment of `path`, empty for the root."""
    return path.rpartition("/")[2]


def ancestors(path: str) -> list[str]:
    """List the paths above `path`, nearest first, ending with the root."""
    above = []
    current = parent(path)
    while current is not None:
        above.append(current)
        current = parent(current)
    return above


def is_descendant(path: str, group: str) -> bool:
    """Tell whether `path` lies strictly below `group`."""
    if group == ROOT:
        return path != ROOT
    return path.startswith(group + "/")


def is_same_or_descendant(path: str, group: str) -> bool:
    """Tell whether `path` is `group` or lies below it."""
    return path == group or is_descendant(path, group)


def join(group: str, relative: str) -> str:
    """Append a relative path to a group; an empty relative path is the group itself."""
    if not relative:
        return group
    return f"/{relative}" if group == ROOT else f"{group}/{relative}"


def _invalid(path: str, reason: str) -> InvalidInputError:
    return InvalidInputError(
        f"invalid node path {path!r}: {reason}; use an absolute path such as '/group/array'",
        ErrorKind.INVALID_PATH,
    )

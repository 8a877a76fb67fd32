"""What plans of upkeep have in common: their JSON, the ids they name, the lines they show.

In JSON a plan is an object with the name of its format, a version, and fields that are all there
and no others. It may come from anywhere, so every value is checked before it is used.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, TypeVar

from icechunk.errors import ErrorKind, FormatError, InvalidInputError
from icechunk.format.ids import OBJECT_ID_SIZE, decode_id, encode_id
from icechunk.repo.times import from_datetime, to_datetime

__all__ = [
    "checked",
    "id_text",
    "named_ids",
    "optional_time",
    "plan_from_json",
    "plan_to_json",
    "ref_line",
    "time",
]

T = TypeVar("T")


def plan_to_json(name: str, version: int, fields: dict[str, Any]) -> str:
    """Write a plan of JSON-like fields; times may be among them."""
    value = {"format": name, "version": version, **fields}
    return json.dumps(value, indent=1, default=datetime.isoformat)


def plan_from_json(
    text: str | bytes, name: str, version: int, build: Callable[[dict[str, Any]], T]
) -> T:
    """Read a plan; `build` makes it of the fields and takes each of them out of the dictionary.

    Raises
    ------
    FormatError
        Kind ``deserialization``: it is no such plan, or of another version.
    """
    try:
        value = checked(json.loads(text), dict)
        found = value.pop("format"), value.pop("version")
        if found != (name, version):
            raise ValueError(f"it says format {found[0]!r}, version {found[1]!r}")
        plan = build(value)
        if value:
            raise ValueError(f"it has unknown fields: {', '.join(sorted(value))}")
    except KeyError as error:
        raise _no_plan(name, f"it lacks {error}") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise _no_plan(name, str(error)) from error
    return plan


def checked(value: Any, kind: type[T]) -> T:
    """Return a value of the kind expected; raises TypeError for any other."""
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


def id_text(value: Any) -> str:
    """Return the text of an object id in its usual form."""
    return encode_id(decode_id(checked(value, str), OBJECT_ID_SIZE))


def time(value: Any) -> datetime:
    """Return a time with its zone."""
    return to_datetime(from_datetime(datetime.fromisoformat(checked(value, str))))


def optional_time(value: Any) -> datetime | None:
    """Return a time with its zone; None stays None."""
    return None if value is None else time(value)


def named_ids(texts: Iterable[str]) -> list[bytes]:
    """Return the ids of snapshots that a plan names.

    Raises
    ------
    InvalidInputError
        Kind ``invalid-snapshot-id``: somebody has written the plan by hand, and an id is none.
    """
    try:
        return [decode_id(text, OBJECT_ID_SIZE) for text in texts]
    except ValueError as error:
        raise InvalidInputError(
            f"the plan names a snapshot that is none: {error}", ErrorKind.INVALID_SNAPSHOT_ID
        ) from error


def ref_line(ref: tuple[str, str]) -> str:
    """Show a ref, which is a name and the id of a snapshot."""
    name, snapshot_id = ref
    return f"{name} at {snapshot_id}"


def _no_plan(name: str, problem: str) -> FormatError:
    return FormatError(
        f"this is not an {name} that `to_json` wrote, or another version of this library did:"
        f" {problem}",
        ErrorKind.DESERIALIZATION,
    )

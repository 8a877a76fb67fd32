"""Building blocks for the stored form of settings: pairs of encode and decode per kind of value.

The stored form is logical: dicts, lists, strings, numbers, booleans and None, the same for YAML and
FlexBuffers. Enum variants with content are dicts of one key (`Tagged`), variants without are
strings. Decoding trusts nothing: whatever does not fit raises `FormatError` naming the setting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NoReturn

from icechunk.config.base import Settings
from icechunk.errors import ErrorKind, FormatError


class Tagged(dict[str, Any]):
    """An enum variant with content: its tag is the only key. YAML writes it as a local tag."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Codec:
    """How one kind of value is stored. Neither function ever sees None."""

    encode: Callable[[Any], Any]
    decode: Callable[[Any, str], Any]


def refuse(where: str, problem: str) -> NoReturn:
    """Raise `FormatError` about the setting at `where`."""
    raise FormatError(
        f"cannot read configuration: {where} {problem}", ErrorKind.CONFIG_DESERIALIZATION
    )


def mapping(value: Any, where: str) -> Mapping[str, Any]:
    """Return `value` if it is a mapping with text keys."""
    if not isinstance(value, Mapping):
        refuse(where, f"must be a mapping, not {type(value).__name__}")
    for key in value:
        if not isinstance(key, str):
            refuse(where, f"has the key {key!r}, which is no text")
    return value


def sequence(value: Any, where: str) -> list[Any]:
    """Return `value` if it is a list."""
    if not isinstance(value, list | tuple):
        refuse(where, f"must be a list, not {type(value).__name__}")
    return list(value)


def required(fields: Mapping[str, Any], key: str, where: str) -> Any:
    """Return the value of a key that must be there."""
    value = fields.get(key)
    if value is None:
        refuse(where, f"lacks {key!r}")
    return value


def tag_of(value: Any, where: str) -> tuple[str, Any]:
    """Return the tag and content of an enum variant; content None for one without."""
    if isinstance(value, str):
        return value, None
    if isinstance(value, Mapping) and len(value) == 1:
        ((tag, content),) = mapping(value, where).items()
        return tag, content
    return refuse(where, f"must be a variant, not {_short(value)}")


def made(where: str, make: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a constructor, turning its complaints about values into `FormatError`."""
    try:
        return make(*args, **kwargs)
    except (TypeError, ValueError, OverflowError) as error:
        raise FormatError(
            f"cannot read configuration: {where}: {error}", ErrorKind.CONFIG_DESERIALIZATION
        ) from error


def _exactly(kind: type, name: str) -> Codec:
    def decode(value: Any, where: str) -> Any:
        if type(value) is not kind:  # bool is no number here
            refuse(where, f"must be {name}, not {_short(value)}")
        return value

    return Codec(lambda value: value, decode)


INT = _exactly(int, "an integer")
BOOL = _exactly(bool, "true or false")
TEXT = _exactly(str, "text")


def _decode_text_map(value: Any, where: str) -> dict[str, str]:
    for key in mapping(value, where):
        if "\0" in key:
            refuse(where, f"has the key {key!r}, whose null character cannot be stored")
    return {k: TEXT.decode(v, f"{where}.{k}") for k, v in value.items()}


TEXT_MAP = Codec(dict, _decode_text_map)


def enum_codec(names: Mapping[IntEnum, str]) -> Codec:
    """Store the members of an enum under the given names."""
    members = {name: member for member, name in names.items()}

    def decode(value: Any, where: str) -> IntEnum:
        tag, content = tag_of(value, where)
        if content is not None or tag not in members:
            refuse(where, f"must be one of {', '.join(members)}, not {_short(value)}")
        return members[tag]

    return Codec(names.__getitem__, decode)


def record(cls: type[Settings], fields: Mapping[str, Codec]) -> Codec:
    """Store settings as a map with every key present, null where nothing is set.

    Reading ignores unknown keys, takes missing ones for null and refuses null in required fields.
    """

    def encode(settings: Settings) -> dict[str, Any]:
        return {
            name: None if value is None else codec.encode(value)
            for name, codec in fields.items()
            for value in (getattr(settings, name),)
        }

    def decode(value: Any, where: str) -> Any:
        stored = mapping(value, where)
        arguments = {
            name: codec.decode(stored[name], f"{where}.{name}")
            for name, codec in fields.items()
            if stored.get(name) is not None
        }
        return made(where, cls, **arguments)

    return Codec(encode, decode)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

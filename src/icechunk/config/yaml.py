"""``config.yaml``, the configuration file of repositories of spec version 1.

The text is YAML with local tags for enum variants. It is read from parser events as the YAML 1.2
core schema; whatever else YAML offers is refused: no aliases, so that a short file cannot unfold
into a huge value, no foreign tags, no duplicate keys, no second document. Writing uses the small
part of YAML that readers of both versions 1.1 and 1.2 take alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from icechunk.config.codecs import Tagged, refuse
from icechunk.config.display import quoted
from icechunk.config.repository import RepositoryConfig
from icechunk.config.serialize import from_dict, to_dict
from icechunk.errors import ErrorKind, FormatError

CONFIG_KEY = "config.yaml"

_MAX_BYTES = 2**20
_MAX_DEPTH = 200
_MAX_DIGITS = 40
_MAX_KEY_CHARS = 1000  # YAML itself allows 1024 for a key on the line of its value

_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def config_to_yaml(config: RepositoryConfig) -> bytes:
    """Return the content of ``config.yaml`` for `config`."""
    return ("\n".join(_node(to_dict(config)).body) + "\n").encode()


def config_from_yaml(data: bytes) -> RepositoryConfig:
    """Return the configuration written in a ``config.yaml``.

    Raises
    ------
    FormatError
        When the text is no YAML, or its values are no configuration.
    """
    if len(data) > _MAX_BYTES:
        refuse(CONFIG_KEY, f"has {len(data)} bytes, more than the {_MAX_BYTES} allowed")
    try:
        stored = _document(yaml.parse(data.decode(), Loader=_PARSER))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        refuse(CONFIG_KEY, f"is no valid YAML: {error}")
    return from_dict(stored, source=CONFIG_KEY)


# Reading


def _document(events: Iterator[Any]) -> Any:
    value = None
    documents = 0
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                refuse(CONFIG_KEY, "has more than one document")
            value = _value(next(events), events, 0)
    return value


def _value(event: Any, events: Iterator[Any], depth: int) -> Any:
    if depth > _MAX_DEPTH:
        refuse(CONFIG_KEY, f"is nested more than {_MAX_DEPTH} deep")
    if isinstance(event, yaml.AliasEvent):
        refuse(CONFIG_KEY, f"uses an alias{_at(event)}, which configurations do not have")
    value: Any
    if isinstance(event, yaml.ScalarEvent):
        value = event.value if event.style else _plain(event)
    elif isinstance(event, yaml.SequenceStartEvent):
        value = _sequence(events, depth + 1)
    else:
        value = _mapping(events, depth + 1)
    if event.tag is None or event.tag == "!":
        return value
    if not event.tag.startswith("!"):
        refuse(CONFIG_KEY, f"uses the unknown tag {event.tag!r}{_at(event)}")
    return Tagged({event.tag[1:]: value})


def _sequence(events: Iterator[Any], depth: int) -> list[Any]:
    values = []
    for event in events:
        if isinstance(event, yaml.SequenceEndEvent):
            break
        values.append(_value(event, events, depth))
    return values


def _mapping(events: Iterator[Any], depth: int) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for event in events:
        if isinstance(event, yaml.MappingEndEvent):
            break
        if not isinstance(event, yaml.ScalarEvent):
            refuse(CONFIG_KEY, f"has a key that is no text{_at(event)}")
        if event.value in values:
            refuse(CONFIG_KEY, f"has the key {event.value!r} twice{_at(event)}")
        values[event.value] = _value(next(events), events, depth)
    return values


_NULL = re.compile(r"~|null|Null|NULL|")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_DECIMAL = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")


def _plain(event: Any) -> Any:
    text: str = event.value
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text):
        return True
    if _FALSE.fullmatch(text):
        return False
    for pattern, base in ((_DECIMAL, 10), (_OCTAL, 8), (_HEXADECIMAL, 16)):
        if pattern.fullmatch(text):
            if len(text) > _MAX_DIGITS:
                refuse(CONFIG_KEY, f"has a number of {len(text)} digits{_at(event)}")
            return int(text, base)
    return float(text) if _FLOAT.fullmatch(text) else text


def _at(event: Any) -> str:
    mark = event.start_mark
    return f" in line {mark.line + 1}" if mark is not None else ""


# Writing


class _Node(NamedTuple):
    """Text of a value: what stands on the line of its key, and the lines below."""

    head: str
    body: list[str]
    is_list: bool = False


def _node(value: Any) -> _Node:
    if isinstance(value, Tagged):
        ((tag, content),) = value.items()
        node = _node(content)
        return node._replace(head=f"!{tag} {node.head}".rstrip())
    if isinstance(value, dict):
        if not value:
            return _Node("{}", [])
        return _Node("", [line for key, item in value.items() for line in _entry(key, item)])
    if isinstance(value, list):
        if not value:
            return _Node("[]", [])
        return _Node("", [line for item in value for line in _item(item)], is_list=True)
    return _Node(_scalar(value), [])


def _entry(key: str, value: Any) -> list[str]:
    if len(key) > _MAX_KEY_CHARS:
        raise FormatError(
            f"cannot write {CONFIG_KEY}: the key {key[:60]!r}... is longer than "
            f"{_MAX_KEY_CHARS} characters",
            ErrorKind.SERIALIZATION,
        )
    node = _node(value)
    indent = "" if node.is_list else "  "
    first = f"{_scalar(key)}: {node.head}" if node.head else f"{_scalar(key)}:"
    return [first, *(indent + line for line in node.body)]


def _item(value: Any) -> list[str]:
    node = _node(value)
    first, *rest = node.body if not node.head else (node.head, *node.body)
    return [f"- {first}", *("  " + line for line in rest)]


_SAFE_PLAIN = re.compile(r"[A-Za-z_/^][\w./^$|*+()\\-]*(?::[\w./^$|*+()\\-]+)*", re.ASCII)
_AMBIGUOUS = re.compile(r"null|true|false|yes|no|on|off|y|n", re.IGNORECASE)


def _scalar(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    if not isinstance(value, str):
        raise TypeError(f"not a configuration value: {value!r}")
    if _SAFE_PLAIN.fullmatch(value) and not _AMBIGUOUS.fullmatch(value):
        return value
    if value.isprintable():
        return "'" + value.replace("'", "''") + "'"
    return quoted(value)

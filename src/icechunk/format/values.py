"""Metadata values: JSON-like Python values as FlexBuffers (spec 2) or MessagePack (spec 1).

A value is None, a bool, an int of 64 bits, a finite float, a str, a list of values or a dict from
str to value. `to_plain` makes such values of what users pass; `encode_value` and `decode_value`
choose the encoding by the spec version of the containing file. Icechunk spec, "Metadata".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np
from flatbuffers import flexbuffers

from icechunk.errors import ErrorKind, FormatError
from icechunk.format.flexread import FlexError, read_flexbuffer

__all__ = [
    "MAX_DEPTH",
    "decode_flexbuffer",
    "decode_msgpack",
    "decode_value",
    "encode_flexbuffer",
    "encode_msgpack",
    "encode_value",
    "to_plain",
]

#: Deepest nesting written or read; serves against cycles and exhausted stacks.
MAX_DEPTH = 100

_SINGLE_MAX = float(np.finfo(np.float32).max)
_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1


def to_plain(value: object, what: str = "metadata") -> dict[str, Any]:
    """Make a metadata dict of what a user passed, in values that every encoding can hold.

    Numpy scalars become numbers, tuples become lists, non-finite floats become None. The result
    shares nothing mutable with `value`.

    Raises
    ------
    TypeError
        Naming `what` and the place within it, for anything but a dict of JSON-like values.
    """
    if not isinstance(value, Mapping):
        raise TypeError(f"{what} must be a dict with str keys, not {type(value).__name__}")
    return {key: _plain(item, f"{what}[{key!r}]", 1) for key, item in _items(value, what)}


def _items(value: Mapping[Any, Any], where: str) -> list[tuple[str, Any]]:
    for key in value:
        if not isinstance(key, str):
            raise TypeError(f"{where} must have str keys, found {key!r}")
        if "\0" in key or not _is_text(key):
            raise TypeError(f"{where} has the key {key!r}, which cannot be stored as text")
    return list(value.items())


def _plain(value: Any, where: str, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise TypeError(f"{where[:80]}… nests deeper than {MAX_DEPTH} levels")
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if not _INT_MIN <= value <= _INT_MAX:
            raise TypeError(f"{where} is {value}, which does not fit in 64 bits")
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, str):
        if not _is_text(value):
            raise TypeError(f"{where} is {value!r}, which is not valid Unicode text")
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {
            key: _plain(item, f"{where}[{key!r}]", depth + 1) for key, item in _items(value, where)
        }
    raise TypeError(f"{where} is of type {type(value).__name__}, which JSON cannot express")


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def encode_value(value: Any, spec_version: int) -> bytes:
    """Encode a value as files of this spec version hold it."""
    return encode_msgpack(value) if spec_version == 1 else encode_flexbuffer(value)


def decode_value(data: bytes, spec_version: int, where: str) -> Any:
    """Decode a value of a file of this spec version; `where` names it in messages."""
    return decode_msgpack(data, where) if spec_version == 1 else decode_flexbuffer(data, where)


def encode_flexbuffer(value: Any) -> bytes:
    """Encode a plain value as FlexBuffers.

    Raises
    ------
    TypeError
        For values without a JSON form (non-finite floats, bytes, other objects).
    """
    builder = flexbuffers.Builder()
    _add(builder, value, 0)
    return bytes(builder.Finish())


def _add(builder: Any, value: Any, depth: int) -> None:
    _refuse_deep(depth)
    if value is None:
        builder.Null()
    elif isinstance(value, bool):
        builder.Bool(value)
    elif isinstance(value, int):
        _refuse_wide(value)
        # Unsigned where possible, as the reference writes it.
        builder.UInt(value) if value >= 0 else builder.Int(value)
    elif isinstance(value, float):
        _refuse_non_finite(value)
        builder.Float(value, 4 if _is_single(value) else 8)
    elif isinstance(value, str):
        builder.String(value)
    elif isinstance(value, list | tuple):
        start = builder._StartVector()
        for item in value:
            _add(builder, item, depth + 1)
        builder._EndVector(start, typed=False, fixed=False)
    elif isinstance(value, Mapping):
        start = builder._StartMap()
        for key, item in value.items():
            if not isinstance(key, str) or "\0" in key:
                raise TypeError(f"cannot encode the map key {key!r}: it must be str without NUL")
            builder.Key(key.encode())
            _add(builder, item, depth + 1)
        builder._EndMap(start)
    else:
        raise _not_a_value(value)


def _is_single(value: float) -> bool:
    """Tell whether 4 bytes hold the value exactly."""
    return abs(value) <= _SINGLE_MAX and float(np.float32(value)) == value


def decode_flexbuffer(data: bytes, where: str) -> Any:
    """Decode FlexBuffers into a plain value.

    Raises
    ------
    FormatError
        Of kind ``deserialization``, naming `where`; decoding is bounded in depth, time and memory
        whatever the bytes.
    """
    try:
        return read_flexbuffer(data, MAX_DEPTH)
    except FlexError as error:
        raise FormatError(f"{where}: not a FlexBuffers value: {error}", _UNREADABLE) from None


def encode_msgpack(value: Any) -> bytes:
    """Encode a plain value as MessagePack; raises TypeError like `encode_flexbuffer`."""
    _check(value, 0)
    packed: bytes = msgpack.packb(value)
    return packed


def decode_msgpack(data: bytes, where: str) -> Any:
    """Decode MessagePack into a plain value; raises FormatError like `decode_flexbuffer`."""
    try:
        # The library bounds every length by that of the input, and nesting by its own stack.
        value = msgpack.unpackb(data, raw=False, strict_map_key=True)
        _check(value, 0, non_finite_is_error=False)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise FormatError(
            f"{where}: not a MessagePack value: {error or type(error).__name__}", _UNREADABLE
        ) from None
    return _without_non_finite(value)


def _check(value: Any, depth: int, *, non_finite_is_error: bool = True) -> None:
    """Raise TypeError unless `value` is a plain value."""
    _refuse_deep(depth)
    if value is None or isinstance(value, bool | str):
        return
    if isinstance(value, int):
        _refuse_wide(value)
    elif isinstance(value, float):
        if non_finite_is_error:
            _refuse_non_finite(value)
    elif isinstance(value, list | tuple):
        for item in value:
            _check(item, depth + 1, non_finite_is_error=non_finite_is_error)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"map key {key!r} is not a str")
            _check(item, depth + 1, non_finite_is_error=non_finite_is_error)
    else:
        raise _not_a_value(value)


def _without_non_finite(value: Any) -> Any:
    """Replace floats that JSON cannot express, so that what was read can be written."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_without_non_finite(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_non_finite(item) for key, item in value.items()}
    return value


def _refuse_deep(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise TypeError(f"value nests deeper than {MAX_DEPTH} levels")


def _refuse_wide(value: int) -> None:
    if not _INT_MIN <= value <= _INT_MAX:
        raise TypeError(f"integer {value} does not fit in 64 bits")


def _refuse_non_finite(value: float) -> None:
    if not math.isfinite(value):
        raise TypeError(f"float {value} is not finite; use None")


def _not_a_value(value: Any) -> TypeError:
    return TypeError(f"cannot encode {value!r} of type {type(value).__name__} as a metadata value")


_UNREADABLE = ErrorKind.DESERIALIZATION

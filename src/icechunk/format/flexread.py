"""A FlexBuffers reader that trusts nothing.

The `flatbuffers` package reads FlexBuffers lazily and without bounds: a buffer whose offsets form
a cycle or share subtrees sends it into endless recursion. This one checks every offset, and
charges each value and each string byte against a budget proportional to the buffer, since an
honest encoder spends at least a byte on every one of them. FlexBuffers, "Encoding details".
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

__all__ = ["FlexError", "read_flexbuffer"]

# Value types of the FlexBuffers specification that can hold JSON-like values.
_NULL, _INT, _UINT, _FLOAT, _KEY, _STRING = range(6)
_INDIRECT_INT, _INDIRECT_UINT, _INDIRECT_FLOAT, _MAP, _VECTOR = range(6, 11)
_VECTOR_INT, _VECTOR_UINT, _VECTOR_FLOAT, _VECTOR_KEY, _VECTOR_STRING = range(11, 16)
_FIXED_FIRST, _FIXED_LAST = 16, 24  # INT2 UINT2 FLOAT2 INT3 … FLOAT4
_BOOL, _VECTOR_BOOL = 26, 36

_FORMATS = {
    _INT: {1: "b", 2: "h", 4: "i", 8: "q"},
    _UINT: {1: "B", 2: "H", 4: "I", 8: "Q"},
    _FLOAT: {2: "e", 4: "f", 8: "d"},
}
_UINTS = {width: struct.Struct("<" + code) for width, code in _FORMATS[_UINT].items()}
_INLINE = {_INT: _INT, _UINT: _UINT, _FLOAT: _FLOAT}
_INDIRECT = {_INDIRECT_INT: _INT, _INDIRECT_UINT: _UINT, _INDIRECT_FLOAT: _FLOAT}
_TYPED_SCALARS = {_VECTOR_INT: _INT, _VECTOR_UINT: _UINT, _VECTOR_FLOAT: _FLOAT}
_TYPED_OFFSETS = {_VECTOR_KEY: _KEY, _VECTOR_STRING: _STRING}


class FlexError(ValueError):
    """The bytes are not a FlexBuffers value that JSON can express."""


def read_flexbuffer(data: bytes, max_depth: int) -> Any:
    """Read the root value of a buffer; raises FlexError for anything malformed."""
    if len(data) < 3:
        raise FlexError(f"{len(data)} bytes are too few")
    width = data[-1]
    position = len(data) - 2 - width
    if width not in _UINTS or position < 0:
        raise FlexError(f"root width {width}")
    return _Reader(data, max_depth).value(position, width, data[-2], 0)


class _Reader:
    __slots__ = ("_budget", "_data", "_keys", "_max_depth", "_strings")

    def __init__(self, data: bytes, max_depth: int) -> None:
        self._data = data
        self._max_depth = max_depth
        # Key vectors may be shared between maps, hence some slack over one unit per byte.
        self._budget = 4 * len(data) + 64
        # Encoders share keys and sometimes strings: each is charged and decoded once.
        self._keys: dict[int, str] = {}
        self._strings: dict[tuple[int, int], str] = {}

    def value(self, position: int, width: int, packed: int, depth: int) -> Any:
        """Read the value whose slot of `width` bytes is at `position`."""
        if depth > self._max_depth:
            raise FlexError(f"nested deeper than {self._max_depth} levels")
        self._charge(1)
        kind, child_width = packed >> 2, 1 << (packed & 3)
        if kind == _NULL:
            return None
        if kind in _INLINE:
            return self._scalars(_INLINE[kind], position, width, 1)[0]
        if kind == _BOOL:
            return self._uint(position, width) != 0
        target = position - self._uint(position, width)
        if target < 0:
            raise FlexError("offset before the start")
        if kind == _STRING:
            return self._string(target, self._length(target, child_width))
        if kind == _KEY:
            return self._key(target)
        if kind == _MAP:
            return self._map(target, child_width, depth)
        if kind in _INDIRECT:
            return self._scalars(_INDIRECT[kind], target, child_width, 1)[0]
        if _FIXED_FIRST <= kind <= _FIXED_LAST:
            scalar, count = divmod(kind - _FIXED_FIRST, 3)[::-1]
            return self._scalars(scalar + _INT, target, child_width, count + 2)
        return self._vector(kind, target, child_width, depth)

    def _vector(self, kind: int, target: int, width: int, depth: int) -> list[Any]:
        count = self._length(target, width)
        if kind in _TYPED_SCALARS:
            return self._scalars(_TYPED_SCALARS[kind], target, width, count)
        if kind == _VECTOR_BOOL:
            return [item != 0 for item in self._scalars(_UINT, target, width, count)]
        if kind in _TYPED_OFFSETS:
            # Element widths are not stored; strings of such vectors have one-byte lengths.
            packed = _TYPED_OFFSETS[kind] << 2
            element: Callable[[int], int] = lambda _: packed  # noqa: E731
        elif kind == _VECTOR:
            types = target + count * width
            self._need(types, count)
            element = lambda i: self._data[types + i]  # noqa: E731
        else:
            raise FlexError(f"type {kind} has no JSON form")
        self._charge(count)
        self._need(target, count * width)
        return [self.value(target + i * width, width, element(i), depth + 1) for i in range(count)]

    def _map(self, target: int, width: int, depth: int) -> dict[str, Any]:
        keys_slot = target - 3 * width
        if keys_slot < 0:
            raise FlexError("map without keys")
        keys = keys_slot - self._uint(keys_slot, width)
        keys_width = self._uint(target - 2 * width, width)
        values = self._vector(_VECTOR, target, width, depth)
        if keys < 0 or keys_width not in _UINTS or self._length(keys, keys_width) != len(values):
            raise FlexError("map keys do not match its values")
        self._charge(len(values))
        result = {}
        for i, value in enumerate(values):
            slot = keys + i * keys_width
            result[self._key(slot - self._uint(slot, keys_width))] = value
        return result

    def _key(self, start: int) -> str:
        known = self._keys.get(start)
        if known is None:
            end = self._data.find(b"\0", start) if start >= 0 else -1
            if end < 0:
                raise FlexError("key out of bounds")
            known = self._keys[start] = self._text(start, end - start)
        return known

    def _string(self, start: int, size: int) -> str:
        known = self._strings.get((start, size))
        if known is None:
            known = self._strings[start, size] = self._text(start, size)
        return known

    def _text(self, start: int, size: int) -> str:
        self._need(start, size)
        self._charge(size)
        try:
            return self._data[start : start + size].decode()
        except UnicodeDecodeError:
            raise FlexError("text is not UTF-8") from None

    def _length(self, target: int, width: int) -> int:
        if target < width:
            raise FlexError("length before the start")
        return self._uint(target - width, width)

    def _scalars(self, scalar: int, position: int, width: int, count: int) -> list[Any]:
        code = _FORMATS[scalar].get(width)
        if code is None:
            raise FlexError(f"float of {width} byte")
        self._charge(count)
        self._need(position, width * count)
        items = list(struct.unpack_from(f"<{count}{code}", self._data, position))
        if scalar == _FLOAT:
            return [item if math.isfinite(item) else None for item in items]
        return items

    def _uint(self, position: int, width: int) -> int:
        self._need(position, width)
        item: int = _UINTS[width].unpack_from(self._data, position)[0]
        return item

    def _need(self, position: int, size: int) -> None:
        if position < 0 or position + size > len(self._data):
            raise FlexError(f"{size} bytes at {position} are out of bounds")

    def _charge(self, units: int) -> None:
        self._budget -= units
        if self._budget < 0:
            raise FlexError("parts of it are shared too often")

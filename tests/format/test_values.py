import math
import random
from contextlib import suppress
from typing import Any

import msgpack
import numpy as np
import pytest
from effort import EFFORT
from flatbuffers import flexbuffers
from hypothesis import given, settings
from hypothesis import strategies as st

from icechunk.errors import FormatError
from icechunk.format.values import (
    MAX_DEPTH,
    decode_flexbuffer,
    decode_msgpack,
    decode_value,
    encode_flexbuffer,
    encode_msgpack,
    encode_value,
    to_plain,
)

# What the reference writes, in FlexBuffers and MessagePack.
CASES = [
    (True, "016801", "c3"),
    (None, "000001", "c0"),
    (3, "030801", "03"),
    (1.5, "0000c03f0e04", "cb3ff8000000000000"),
    ("me", "026d6500031401", "a26d65"),
    ([1, "a", None, True], "016100040104000108140068082801", "9401a161c0c3"),
    (
        {"is_root": True},
        "69735f726f6f740001090101010168022401",
        "81a769735f726f6f74c3",
    ),
]

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text
)


def values_with(keys: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(keys, inner, max_size=5),
        max_leaves=30,
    )


values = values_with(text)


@pytest.mark.parametrize(("value", "flex", "pack"), CASES)
def test_bytes_of_the_reference(value: Any, flex: str, pack: str) -> None:
    assert encode_flexbuffer(value) == bytes.fromhex(flex)
    assert decode_flexbuffer(bytes.fromhex(flex), "here") == value
    assert encode_msgpack(value) == bytes.fromhex(pack)
    assert decode_msgpack(bytes.fromhex(pack), "here") == value
    assert encode_value(value, 1) == bytes.fromhex(pack)
    assert decode_value(bytes.fromhex(flex), 2, "here") == value


@settings(deadline=None, max_examples=60 * EFFORT)
@given(values)
def test_round_trips(value: Any) -> None:
    assert decode_flexbuffer(encode_flexbuffer(value), "here") == value
    assert decode_msgpack(encode_msgpack(value), "here") == value


@settings(deadline=None, max_examples=60 * EFFORT)
@given(values_with(st.text("abcXYZ_-0", max_size=20)))  # its keys are ASCII
def test_the_library_reads_the_same(value: Any) -> None:
    assert flexbuffers.Loads(encode_flexbuffer(value)) == value


def built(method: str, *arguments: Any) -> bytes:
    builder = flexbuffers.Builder()
    getattr(builder, method)(*arguments)
    return bytes(builder.Finish())


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (built("IndirectInt", -5), -5),
        (built("IndirectUInt", 2**40), 2**40),
        (built("IndirectFloat", 1.25), 1.25),
        (built("Key", "abc"), "abc"),
        (built("FixedTypedVectorFromElements", [1, 2]), [1, 2]),
        (built("FixedTypedVectorFromElements", [1, -2, 300]), [1, -2, 300]),
        (built("FixedTypedVectorFromElements", [1.5, 2.5, 3.5, 4.1]), [1.5, 2.5, 3.5, 4.1]),
        (
            built("FixedTypedVectorFromElements", [7, 8, 9], flexbuffers.Type.UINT),
            [7, 8, 9],
        ),
        (built("TypedVectorFromElements", [1, 2, 3, 4, 5]), [1, 2, 3, 4, 5]),
        (built("TypedVectorFromElements", [1.5, 2.5]), [1.5, 2.5]),
        (built("TypedVectorFromElements", [True, False]), [True, False]),
        (built("TypedVectorFromElements", ["a", "bc"], flexbuffers.Type.KEY), ["a", "bc"]),
        (built("TypedVectorFromElements", ["a", "bc"]), ["a", "bc"]),
    ],
)
def test_forms_that_other_writers_choose(data: bytes, value: Any) -> None:
    assert decode_flexbuffer(data, "here") == value


def test_not_finite_floats_are_null() -> None:
    assert decode_flexbuffer(built("Float", math.nan), "here") is None
    assert decode_msgpack(msgpack.packb([math.inf, 1.0]), "here") == [None, 1.0]


@pytest.mark.parametrize(
    "value", [math.nan, -math.inf, b"x", {1: 2}, object(), 2**64, -(2**63) - 1]
)
@pytest.mark.parametrize("encode", [encode_flexbuffer, encode_msgpack])
def test_what_cannot_be_encoded(encode: Any, value: Any) -> None:
    with pytest.raises(TypeError):
        encode([value])


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("encode", [encode_flexbuffer, encode_msgpack])
def test_depth_is_limited_when_writing(encode: Any) -> None:
    encode(nested(MAX_DEPTH - 1))
    with pytest.raises(TypeError, match="nests deeper"):
        encode(nested(MAX_DEPTH + 1))
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(TypeError, match="nests deeper"):
        encode(cycle)


def raw_flexbuffer(value: Any) -> bytes:
    return bytes(flexbuffers.Dumps(value))


HOSTILE = {
    "empty": b"",
    "blob": built("Blob", b"abc"),
    "deep": raw_flexbuffer(nested(MAX_DEPTH + 50)),
    # A vector of one element that is itself: length 1, element at 1 points back to 1.
    "cycle": bytes([1, 0, 40, 2, 40, 1]),
    # Two elements, each the vector itself.
    "doubling cycle": bytes([2, 0, 1, 40, 40, 4, 40, 1]),
    "huge count": bytes([255, 255, 255, 255, 255, 255, 255, 127, 8, 44, 1]),
    "root width": bytes([0, 0, 3]),
    "root out of bounds": bytes([9, 20, 1]),
    "unterminated key": bytes([65, 1, 16, 1]),
    "text is not UTF-8": bytes([1, 0xFF, 0, 2, 20, 1]),
    "float of one byte": bytes([1, 12, 1]),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_flexbuffers(data: bytes) -> None:
    with pytest.raises(FormatError, match="here"):
        decode_flexbuffer(data, "here")


def test_shared_subtrees_do_not_multiply() -> None:
    # Vector i holds 16 times vector i - 1: 16 ** 40 values in under a kilobyte.
    data = bytearray([0, 0])
    previous, kind = 1, 0
    for _ in range(40):
        data.append(16)
        start = len(data)
        data += bytes(start + i - previous for i in range(16))
        data += bytes([kind]) * 16
        previous, kind = start, 40
    data += bytes([len(data) - previous, 40, 1])
    with pytest.raises(FormatError, match="shared too often"):
        decode_flexbuffer(bytes(data), "here")


@settings(deadline=None, max_examples=60 * EFFORT)
@given(st.binary(max_size=60))
def test_any_bytes_give_a_value_or_a_format_error(data: bytes) -> None:
    for decode in (decode_flexbuffer, decode_msgpack):
        try:
            value = decode(data, "here")
        except FormatError:
            continue
        assert decode(encode_flexbuffer(value) if decode is decode_flexbuffer else data, "") == (
            value
        )


def test_damaged_flexbuffers() -> None:
    source = {"a": [1, 2.5, "text", {"b": None, "c": [True, False, -7, 2**63]}], "long": "x" * 300}
    good = encode_flexbuffer(source)
    rng = random.Random(0)
    for _ in range(3000):
        data = bytearray(good)
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        with suppress(FormatError):
            decode_flexbuffer(bytes(data), "here")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x92\x01",
        b"\x01\x01",
        b"\xc4\x01a",
        b"\x81\x01\x01",
        b"\xd6\xff\x00\x00\x00\x00",
        b"\xd4\x05\x00",
        b"\xa1\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 5000 + b"\x01",
        b"\x91" * (MAX_DEPTH + 1) + b"\x01",
    ],
)
def test_hostile_msgpack(data: bytes) -> None:
    with pytest.raises(FormatError, match="here"):
        decode_msgpack(data, "here")


def test_to_plain_normalises() -> None:
    given_ = {
        "numpy": np.int16(3),
        "float": np.float32(1.5),
        "bool": np.bool_(True),
        "tuple": (1, (2, None)),
        "nan": [math.nan, math.inf, np.float64("nan")],
        "nested": {"a": {"b": "c"}},
    }
    plain = to_plain(given_)
    assert plain == {
        "numpy": 3,
        "float": 1.5,
        "bool": True,
        "tuple": [1, [2, None]],
        "nan": [None, None, None],
        "nested": {"a": {"b": "c"}},
    }
    assert [type(v) for v in plain.values()] == [int, float, bool, list, list, dict]
    assert plain["nested"] is not given_["nested"]


@pytest.mark.parametrize(
    "value",
    [
        None,
        [1],
        "text",
        {1: 2},
        {"a": {1: 2}},
        {"a": b"x"},
        {"a": {3}},
        {"a": object()},
        {"a": 2**64},
        {"a": "\ud800"},
        {"a\0b": 1},
        {"a": np.zeros(3)},
        {"a": nested(MAX_DEPTH + 1)},
        {"a": 1j},
    ],
)
def test_to_plain_refuses(value: Any) -> None:
    with pytest.raises(TypeError, match="metadata"):
        to_plain(value)


@settings(deadline=None, max_examples=60 * EFFORT)
@given(st.dictionaries(text, values, max_size=4))
def test_plain_values_stay_as_they_are(value: dict[str, Any]) -> None:
    assert to_plain(value) == value

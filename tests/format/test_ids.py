import numpy as np
import pytest
from effort import EFFORT
from hypothesis import given, settings
from hypothesis import strategies as st

from icechunk.format.ids import (
    INITIAL_SNAPSHOT_ID,
    decode_id,
    decode_ids,
    encode_id,
    encode_ids,
    id_column,
    ids_of_column,
    sortable,
)
from icechunk.format.layout import id_from_key

CASES = [
    ("0b1cc8d6787580f0e33a6534", "1CECHNKREP0F1RSTCMT0"),
    ("000102030405060708090a0b", "000G40R40M30E209185G"),
    ("ffffffffffffffffffffffff", "ZZZZZZZZZZZZZZZZZZZG"),
    ("000000000000000000000000", "00000000000000000000"),
    ("3b206eb84ca25827", "7CG6XE2CM9C2E"),
    ("0000000000000001", "0000000000002"),
]

ids = st.sampled_from([8, 12]).flatmap(lambda size: st.binary(min_size=size, max_size=size))


def slow_encode(value: bytes) -> str:
    bits = "".join(f"{byte:08b}" for byte in value)
    bits += "0" * (-len(bits) % 5)
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    return "".join(alphabet[int(bits[i : i + 5], 2)] for i in range(0, len(bits), 5))


@pytest.mark.parametrize(("value", "text"), CASES)
def test_known_texts(value: str, text: str) -> None:
    assert encode_id(bytes.fromhex(value)) == text
    assert decode_id(text, len(value) // 2) == bytes.fromhex(value)


def test_the_initial_snapshot_spells_its_name() -> None:
    assert encode_id(INITIAL_SNAPSHOT_ID) == "1CECHNKREP0F1RSTCMT0"


@settings(deadline=None, max_examples=60 * EFFORT)
@given(ids)
def test_round_trip(value: bytes) -> None:
    text = encode_id(value)
    assert text == slow_encode(value)
    assert decode_id(text, len(value)) == value
    assert decode_id(text.lower(), len(value)) == value


@settings(deadline=None, max_examples=60 * EFFORT)
@given(st.lists(st.binary(min_size=12, max_size=12)))
def test_texts_sort_like_ids_and_columns_like_both(values: list[bytes]) -> None:
    assert [encode_id(value) for value in sorted(values)] == sorted(map(encode_id, values))
    column = id_column(values, 12)
    assert encode_ids(column) == [encode_id(value) for value in values]
    assert ids_of_column(column) == values
    assert ids_of_column(column[np.argsort(sortable(column), kind="stable")]) == sorted(values)


def test_look_alikes_are_forgiven() -> None:
    assert decode_id("ICECHNKREPOFLRSTCMTo") == INITIAL_SNAPSHOT_ID


@pytest.mark.parametrize(
    "text",
    ["", "1CECHNKREP0F1RSTCMT", "1CECHNKREP0F1RSTCMT00", "1CECHNKREP0F1RSTCMTU", "é" * 20],
)
def test_malformed_texts(text: str) -> None:
    with pytest.raises(ValueError, match="id"):
        decode_id(text)


def test_padding_bits_must_be_zero() -> None:
    with pytest.raises(ValueError, match="last character"):
        decode_id("1CECHNKREP0F1RSTCMT1")


def test_columns_refuse_ids_of_another_size() -> None:
    with pytest.raises(ValueError, match="expected 12"):
        id_column([bytes(12), bytes(8), bytes(16)], 12)


@settings(deadline=None, max_examples=60 * EFFORT)
@given(st.lists(st.binary(min_size=12, max_size=12).map(encode_id) | st.text(max_size=20)))
def test_columns_of_texts_are_read_as_the_texts_are(texts: list[str]) -> None:
    column, is_id = decode_ids(texts, 12)
    for text, row, found in zip(texts, ids_of_column(column), is_id.tolist(), strict=True):
        assert found == (id_from_key(text) is not None)
        assert not found or encode_id(row) == text


@pytest.mark.parametrize("text", ["1CECHNKREP0F1RSTCMT1", "1cechnkrep0f1rstcmt0", "é" * 20])
def test_columns_forgive_nothing(text: str) -> None:
    assert decode_ids([text, "1CECHNKREP0F1RSTCMT0"], 12)[1].tolist() == [False, True]

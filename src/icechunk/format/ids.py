"""Object ids and their text form.

Snapshots, manifests, chunks and transaction logs are named by 12 random bytes, nodes by 8.
Inside the engine an id is plain `bytes` (or a row of a ``(n, size)`` uint8 column); Crockford
base32 text appears only in object keys and at the public edge. Where randomness comes from is
not decided here. Icechunk spec, "Object ids".
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

import numpy as np
import numpy.typing as npt

__all__ = [
    "INITIAL_SNAPSHOT_ID",
    "NODE_ID_SIZE",
    "OBJECT_ID_SIZE",
    "decode_id",
    "decode_ids",
    "encode_id",
    "encode_ids",
    "id_column",
    "ids_of_column",
    "sortable",
]

OBJECT_ID_SIZE = 12
NODE_ID_SIZE = 8

#: The one reserved id: every repository starts from the same empty snapshot.
INITIAL_SNAPSHOT_ID = bytes.fromhex("0b1cc8d6787580f0e33a6534")

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = tuple(a + b for a in _ALPHABET for b in _ALPHABET)
_ALPHABET_BYTES = np.frombuffer(_ALPHABET.encode(), dtype=np.uint8)
_DIGIT_OF_CHAR = np.full(256, 255, dtype=np.uint8)
_DIGIT_OF_CHAR[_ALPHABET_BYTES] = np.arange(32, dtype=np.uint8)
_BIT_WEIGHTS = np.array([16, 8, 4, 2, 1], dtype=np.uint8)
# How fields of a word come together: their bits, how far they are apart, which of them are upper.
_JOINS = tuple(
    (np.uint64(bits), np.uint64(distance), np.uint64(mask))
    for bits, distance, mask in (
        (5, 8, 0x001F_001F_001F_001F),
        (10, 16, 0x0000_03FF_0000_03FF),
        (20, 32, 0x0000_0000_000F_FFFF),
    )
)

# Crockford asks readers to forgive lower case and the look-alikes O, I and L.
_DIGITS = {char: digit for digit, char in enumerate(_ALPHABET)}
_DIGITS |= {"O": 0, "I": 1, "L": 1}
_DIGITS |= {char.lower(): digit for char, digit in _DIGITS.items()}


def encode_id(value: bytes) -> str:
    """Write an id as upper-case Crockford base32, the form used in object keys.

    Text forms sort like the bytes they stand for.
    """
    chars = -(-len(value) * 8 // 5)
    pairs = -(-chars // 2)
    bits = int.from_bytes(value, "big") << (pairs * 10 - len(value) * 8)
    text = "".join([_PAIRS[bits >> shift & 1023] for shift in range((pairs - 1) * 10, -1, -10)])
    return text[:chars]


def decode_id(text: str, size: int = OBJECT_ID_SIZE) -> bytes:
    """Read the text form of an id of `size` bytes.

    Raises
    ------
    ValueError
        If the text has another length, a character outside the alphabet, or set padding bits
        (two different texts never stand for one id, apart from Crockford's look-alikes).
    """
    chars = -(-size * 8 // 5)
    if len(text) != chars:
        raise ValueError(f"id {text!r} has {len(text)} characters, expected {chars}")
    bits = 0
    for char in text:
        digit = _DIGITS.get(char)
        if digit is None:
            raise ValueError(f"id {text!r} holds {char!r}, which is not a base32 character")
        bits = bits << 5 | digit
    padding = chars * 5 - size * 8
    if bits & ((1 << padding) - 1):
        raise ValueError(f"id {text!r} is not the text of {size} bytes: its last character is off")
    return (bits >> padding).to_bytes(size, "big")


def encode_ids(column: npt.NDArray[np.uint8]) -> list[str]:
    """Write a whole ``(n, size)`` uint8 column of ids as text, for listings and keep-sets."""
    rows, size = column.shape
    chars = -(-size * 8 // 5)
    if rows == 0:
        return []
    bits = np.zeros((rows, chars * 5), dtype=np.uint8)
    bits[:, : size * 8] = np.unpackbits(np.ascontiguousarray(column), axis=1)
    digits = bits.reshape(rows, chars, 5) @ _BIT_WEIGHTS  # (n, chars)
    text: str = _ALPHABET_BYTES[digits].tobytes().decode("ascii")
    return [text[start : start + chars] for start in range(0, rows * chars, chars)]


def decode_ids(
    texts: Sequence[str], size: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Read many texts as ids of `size` bytes, for listings.

    Returns
    -------
    tuple
        A ``(n, size)`` column, and which of its rows are ids: only the canonical spelling names
        an object of ours, so look-alikes and lower case are none.
    """
    chars = -(-size * 8 // 5)
    joined = "".join(texts)
    if joined.isascii() and set(map(len, texts)) <= {chars}:
        return _decode_joined(joined, len(texts), size)
    fits = [len(text) == chars and text.isascii() for text in texts]
    rows = np.flatnonzero(np.array(fits, dtype=np.bool_))
    ids = np.zeros((len(texts), size), dtype=np.uint8)
    is_id = np.zeros(len(texts), dtype=np.bool_)
    ids[rows], is_id[rows] = _decode_joined("".join(compress(texts, fits)), len(rows), size)
    return ids, is_id


def _decode_joined(
    text: str, count: int, size: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Read ids of the right length that were put end to end: eight digits make five bytes."""
    chars = -(-size * 8 // 5)
    groups = -(-chars // 8)
    digits = np.zeros((count, groups * 8), dtype=np.uint8)
    digits[:, :chars] = _DIGIT_OF_CHAR[np.frombuffer(text.encode("ascii"), np.uint8)].reshape(
        count, chars
    )
    is_id: npt.NDArray[np.bool_] = np.asarray((digits < 32).all(axis=1))
    words = digits.view("<u8")  # a digit a byte, the first one lowest: neighbours are joined
    for bits, distance, mask in _JOINS:
        words = ((words & mask) << bits) | ((words >> distance) & mask)
    data = words.astype(">u8").view(np.uint8).reshape(count, groups, 8)[:, :, 3:]
    data = data.reshape(count, groups * 5)
    for rest in range(size, groups * 5):
        is_id &= data[:, rest] == 0
    return data[:, :size].copy(), is_id


def id_column(ids: list[bytes] | tuple[bytes, ...], size: int) -> npt.NDArray[np.uint8]:
    """Gather ids into a ``(n, size)`` uint8 column; raises ValueError for ids of another size."""
    data = b"".join(ids)
    if len(data) != len(ids) * size or any(len(item) != size for item in ids):
        wrong = next(item for item in ids if len(item) != size)
        raise ValueError(f"id {wrong.hex()!r} has {len(wrong)} bytes, expected {size}")
    return np.frombuffer(data, dtype=np.uint8).reshape(len(ids), size)


def ids_of_column(column: npt.NDArray[np.uint8]) -> list[bytes]:
    """Split a ``(n, size)`` uint8 column into ids as `bytes`."""
    rows, size = column.shape
    data = np.ascontiguousarray(column).tobytes()
    return [data[start : start + size] for start in range(0, rows * size, size)]


def sortable(ids: npt.NDArray[np.uint8]) -> npt.NDArray[np.bytes_]:
    """View an id column as byte strings, which numpy compares; fixed width hides no zeros."""
    width = ids.shape[1]
    return np.ascontiguousarray(ids).view(f"S{width}").reshape(-1)

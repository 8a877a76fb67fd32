"""Dictionary compression of the locations of virtual chunks, for whole columns at a time.

A manifest of many virtual references repeats the same URL prefixes. From spec version 2 on it may
carry a zstd dictionary trained on some of its locations, and each location as a tiny frame of its
own that only this dictionary can open. Icechunk spec, "Manifest files".

Readers open no location longer than `MAX_LOCATION_BYTES`, so writers leave longer ones as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import zstandard

from icechunk.chunks.arrays import Mask, Rows
from icechunk.chunks.ragged import RaggedBytes
from icechunk.errors import ErrorKind, FormatError

MAX_LOCATION_BYTES = 1024
"""Longest location that readers accept out of a compressed one."""

MAX_COLUMN_BYTES = 2**31
"""Most bytes that the locations of one array may add up to when decompressed."""

_SHORT_LOCATION = 8
_FRAME_MAGIC = 0xFD2FB528
_NEVER_SMALLER = 12
"""A frame with its header is at least about this long: shorter locations stay plain."""

_HAS_BULK = {"multi_compress_to_buffer", "multi_decompress_to_buffer", "buffer_types"} <= set(
    zstandard.backend_features
)


@dataclass(frozen=True, slots=True)
class LocationCompression:
    """When and how the locations of a manifest are compressed."""

    min_num_chunks: int = 1000
    """Fewer virtual references than this stay plain."""
    dictionary_max_training_samples: int = 100
    """Locations the dictionary is trained on."""
    dictionary_max_size_bytes: int = 2048
    """Size of the dictionary."""
    compression_level: int = 3
    """Zstd level of each location."""


@dataclass(frozen=True, slots=True)
class CompressedLocations:
    """A dictionary, and the locations that were compressed with it."""

    dictionary: bytes
    is_compressed: Mask  # (n,)
    frames: RaggedBytes  # n rows, empty where not compressed


def compress(locations: RaggedBytes, how: LocationCompression) -> CompressedLocations | None:
    """Compress a column of locations; None when that is not worth while.

    Training samples are spread evenly over the column, so equal columns give equal bytes.
    """
    n = len(locations)
    if n < max(1, how.min_num_chunks) or how.dictionary_max_training_samples < 1:
        return None
    picked = min(n, how.dictionary_max_training_samples)
    samples = locations.take(np.linspace(0, n - 1, picked).astype(np.int64)).to_list()
    if 2 * sum(len(sample) < _SHORT_LOCATION for sample in samples) >= len(samples):
        return None
    total = sum(map(len, samples))
    if total < how.dictionary_max_size_bytes:
        # Training fails on less input than the dictionary it is to make.
        samples *= how.dictionary_max_size_bytes // total + 2
    training: list[bytes | bytearray | memoryview] = list(samples)
    try:
        dictionary = zstandard.train_dictionary(how.dictionary_max_size_bytes, training).as_bytes()
    except zstandard.ZstdError:
        # Too little in common, or too little altogether.
        return None
    rows = np.flatnonzero(
        (locations.lengths <= MAX_LOCATION_BYTES) & (locations.lengths >= _NEVER_SMALLER)
    )
    is_compressed = np.zeros(n, np.bool_)
    is_compressed[rows] = True
    compressor = zstandard.ZstdCompressor(
        level=how.compression_level, dict_data=zstandard.ZstdCompressionDict(dictionary)
    )
    plain = locations.take(rows)
    if _HAS_BULK and len(rows):
        frames = _column(compressor.multi_compress_to_buffer(_segments(plain)))
    else:
        frames = RaggedBytes.from_list([compressor.compress(item) for item in plain])
    return CompressedLocations(dictionary, is_compressed, frames.spread(rows, n))


def decompress(frames: RaggedBytes, dictionary: bytes, what: str) -> RaggedBytes:
    """Open a column of compressed locations; `what` names it in messages.

    Raises
    ------
    FormatError
        A frame is damaged, or its location would be longer than readers accept.
    """
    if not len(frames):
        return frames
    sizes = _content_sizes(frames)
    is_stated = sizes >= 0
    if int(sizes.max()) > MAX_LOCATION_BYTES:
        raise _too_long(what)
    if int(sizes[is_stated].sum()) > MAX_COLUMN_BYTES:
        raise _corrupt(what, f"locations add up to more than {MAX_COLUMN_BYTES} bytes")
    try:
        decompressor = _decompressor(dictionary)
        if _HAS_BULK and is_stated.all() and int(sizes.min()) > 0:
            opened = decompressor.multi_decompress_to_buffer(
                _segments(frames), decompressed_sizes=sizes.astype(np.uint64).tobytes()
            )
            return _column(opened)
        return RaggedBytes.from_list(
            [decompressor.decompress(item, max_output_size=MAX_LOCATION_BYTES) for item in frames]
        )
    except (zstandard.ZstdError, ValueError) as error:
        raise _corrupt(what, f"a compressed location is damaged ({error})") from error


def decompress_one(frame: bytes, dictionary: bytes, what: str) -> bytes:
    """Open one compressed location, as `decompress` does a column."""
    try:
        if zstandard.frame_content_size(frame) > MAX_LOCATION_BYTES:
            raise _too_long(what)
        return _decompressor(dictionary).decompress(frame, max_output_size=MAX_LOCATION_BYTES)
    except zstandard.ZstdError as error:
        raise _corrupt(what, f"a compressed location is damaged ({error})") from error


def _decompressor(dictionary: bytes) -> zstandard.ZstdDecompressor:
    # Made anew each time, since one must not be used by two threads at once.
    return zstandard.ZstdDecompressor(dict_data=zstandard.ZstdCompressionDict(dictionary))


def _segments(column: RaggedBytes) -> zstandard.BufferWithSegments:
    bounds = np.empty((len(column), 2), np.uint64)
    bounds[:, 0] = column.offsets[:-1]
    bounds[:, 1] = column.lengths
    return zstandard.BufferWithSegments(column.data.tobytes(), bounds.tobytes())


def _column(segments: zstandard.BufferWithSegmentsCollection) -> RaggedBytes:
    n = len(segments)
    # Segments are buffers, which the library's type stubs do not say.
    each: list[Any] = list(map(segments.__getitem__, range(n)))
    lengths = np.fromiter(map(len, each), np.int64, n)
    return RaggedBytes.from_lengths(lengths, b"".join(each))


def _content_sizes(frames: RaggedBytes) -> Rows:
    """Read the size that each frame's header states, -1 if it does not.

    Frames too short or without the magic number get -1 too: opening them one by one fails properly.
    """
    starts, lengths = frames.offsets[:-1], frames.lengths
    padded = np.concatenate([frames.data, np.zeros(18, np.uint8)]).astype(np.uint8)

    def number(at: Rows, size: int) -> npt.NDArray[np.uint64]:
        value = np.zeros(len(at), np.uint64)
        for byte in range(size):
            value |= padded[at + byte].astype(np.uint64) << np.uint64(8 * byte)
        return value

    sizes = np.full(len(frames), -1, np.int64)
    descriptor = padded[starts + 4].astype(np.int64)
    is_single = descriptor & 0x20 != 0
    dictionary_id = np.array([0, 1, 2, 4])[descriptor & 3]
    field = np.array([0, 2, 4, 8])[descriptor >> 6]
    field[is_single & (field == 0)] = 1
    at = starts + 5 + ~is_single + dictionary_id
    is_readable = (lengths >= 5) & (number(starts, 4) == _FRAME_MAGIC)
    is_readable &= at + field <= starts + lengths
    for size, extra in ((1, 0), (2, 256), (4, 0), (8, 0)):
        rows = np.flatnonzero(is_readable & (field == size))
        stated = number(at[rows], size) + np.uint64(extra)
        sizes[rows] = np.minimum(stated, np.uint64(2**62)).astype(np.int64)
    return sizes


def _too_long(what: str) -> FormatError:
    return _corrupt(what, f"a compressed location is longer than {MAX_LOCATION_BYTES} bytes")


def _corrupt(what: str, problem: str) -> FormatError:
    return FormatError(f"{what}: {problem}", ErrorKind.DESERIALIZATION)

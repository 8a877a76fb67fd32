"""The 39-byte header and zstd frame around every metadata file.

::

    offset  size
         0    12  magic, UTF-8 of "ICE<ice cube>CHUNK"
        12    24  name of the writing program, padded with spaces; informational only
        36     1  spec version of this file, 1 or 2
        37     1  file kind
        38     1  compression: 0 none (never written), 1 zstd
        39     …  payload, as exactly one zstd frame

Decompression is bounded, see `payload_limit`: a crafted file of some kilobytes must not take the
memory of the process. Icechunk spec, "File header".
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import IntEnum

import zstandard

from icechunk._version import __version__
from icechunk.errors import ErrorKind, FormatError
from icechunk.format.payload import Payload

__all__ = [
    "HEADER_SIZE",
    "MAX_PAYLOAD_BYTES",
    "Envelope",
    "FileKind",
    "Header",
    "payload_limit",
    "read_header",
    "unwrap",
    "wrap",
]

MAGIC = b"ICE\xf0\x9f\xa7\x8aCHUNK"
HEADER_SIZE = 39
SPEC_VERSIONS = (1, 2)

_NAME = slice(12, 36)
_SPEC_VERSION = 36
_FILE_KIND = 37
_COMPRESSION = 38
_UNCOMPRESSED = 0
_ZSTD = 1

DEFAULT_LEVEL = 3
LARGE_PAYLOAD_BYTES = 2**20
LARGE_PAYLOAD_LEVEL = 1
SIMILAR_ROWS_HASH_LOG = 10
"""Log2 of how many places zstd remembers: those of a few rows."""
BYTES_PER_THREAD = 2**23
MAX_THREADS = 4

#: Flatbuffer offsets are 32 bit, of which implementations use 31.
MAX_PAYLOAD_BYTES = 2**31 - 1
#: What any file may expand to, however small: no machine that runs us is harmed by it.
FREE_PAYLOAD_BYTES = 64 * 2**20
#: Beyond that, output is bounded by the input. Real manifests compress 3 to 200 times; zstd itself
#: can reach 32,000 times, which only a crafted file does.
MAX_RATIO = 1000
#: The window of zstd's highest level; a frame that asks its decoder for more is refused.
MAX_WINDOW_BYTES = 2**27

# One zstd block takes 4 bytes or more and gives up to 128 KiB, so a piece of this size
# grows to 16 MiB at most before the limit is looked at again.
_PIECE_BYTES = 512


class FileKind(IntEnum):
    """The file type byte of the header."""

    SNAPSHOT = 1
    MANIFEST = 2
    ATTRIBUTES = 3
    TRANSACTION_LOG = 4
    CHUNK = 5
    REPO_INFO = 6

    @property
    def label(self) -> str:
        """The kind in words, for messages."""
        return self.name.lower().replace("_", " ")


_KNOWN_KINDS = frozenset(FileKind)


@dataclass(frozen=True, slots=True)
class Header:
    """What the first bytes of a file say."""

    kind: FileKind
    spec_version: int
    """Spec version of this one file; files of both versions share a repository."""
    written_by: str
    """Name of the program that wrote the file."""
    is_compressed: bool


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a file's header said, and its payload."""

    payload: bytes
    """The decompressed flatbuffer."""
    spec_version: int
    """Spec version of this one file; files of both versions share a repository."""
    written_by: str
    """Name of the program that wrote the file."""


def wrap(
    kind: FileKind,
    payload: bytes | bytearray | memoryview | Payload,
    *,
    level: int | None = None,
    spec_version: int = 2,
    has_similar_rows: bool = False,
) -> bytes:
    """Put a payload behind a header, compressed as one zstd frame that states its content size.

    Without a `level` small payloads get the usual 3. Large ones, all columns of ids, coordinates
    and lengths, get 1: such files come out no larger, in half the time. If what a row has in common
    with any it has with the one before (`has_similar_rows`), zstd is made to look nowhere else,
    which gives smaller files sooner. Large payloads are compressed by several threads, which end
    with the call.

    Raises
    ------
    FormatError
        Of kind ``serialization`` when the payload exceeds what flatbuffers can address.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise FormatError(
            f"cannot write a {kind.label} of {len(payload)} bytes: the format allows "
            f"{MAX_PAYLOAD_BYTES}; split it into smaller files",
            ErrorKind.SERIALIZATION,
        )
    written_by = f"icpy-{__version__}".encode()[:24].ljust(24)
    header = MAGIC + written_by + bytes((spec_version, kind, _ZSTD))
    is_large = len(payload) >= LARGE_PAYLOAD_BYTES
    threads = min(1 + len(payload) // BYTES_PER_THREAD, MAX_THREADS)
    if threads == 1:
        threads = 0  # one thread beside this one only costs its start
    if level is None and is_large and has_similar_rows:
        parameters = zstandard.ZstdCompressionParameters.from_level(
            LARGE_PAYLOAD_LEVEL,
            source_size=len(payload),
            hash_log=SIMILAR_ROWS_HASH_LOG,
            threads=threads,
        )
        compressor = zstandard.ZstdCompressor(compression_params=parameters)
    else:
        if level is None:
            level = LARGE_PAYLOAD_LEVEL if is_large else DEFAULT_LEVEL
        compressor = zstandard.ZstdCompressor(level=level, threads=threads)
    if not isinstance(payload, Payload):
        return header + compressor.compress(payload)
    if not is_large:
        return header + compressor.compress(payload.to_memory())
    stream = compressor.compressobj(size=len(payload))
    pieces = [stream.compress(block.data) for block in payload.blocks()]
    return b"".join([header, *pieces, stream.flush()])


def read_header(data: bytes, kind: FileKind, key: str) -> Header:
    """Check the header of a file that should be of `kind`; the payload is not looked at.

    `key` is where the file was found; messages name it.

    Raises
    ------
    FormatError
        Of kind ``invalid-file-format`` for a wrong header, ``unsupported-spec-version`` for a file
        of a later spec.
    """
    if len(data) < HEADER_SIZE or not data.startswith(MAGIC):
        raise _invalid(key, f"{kind.label} file expected, but this is no Icechunk file")
    spec_version, found, compression = data[_SPEC_VERSION], data[_FILE_KIND], data[_COMPRESSION]
    if spec_version not in SPEC_VERSIONS:
        raise FormatError(
            f"{key}: written for spec version {spec_version}, while this library reads versions "
            "1 and 2; upgrade the library to read it",
            ErrorKind.UNSUPPORTED_SPEC_VERSION,
        )
    if found != kind:
        label = FileKind(found).label if found in _KNOWN_KINDS else f"unknown ({found})"
        raise _invalid(key, f"expected file type {kind.label}, found {label}")
    if compression not in (_ZSTD, _UNCOMPRESSED):
        raise _invalid(key, f"unknown compression algorithm {compression}")
    written_by = data[_NAME].decode("utf-8", "replace").rstrip(" \0")
    return Header(kind, spec_version, written_by, compression == _ZSTD)


def unwrap(data: bytes, kind: FileKind, key: str) -> Envelope:
    """Check the header of a file that should be of `kind`, and decompress its payload.

    `key` is where the file was found; messages name it.

    Raises
    ------
    FormatError
        As `read_header` does; of kind ``deserialization`` for a payload that does not decompress
        within bounds.
    """
    header = read_header(data, kind, key)
    payload = data[HEADER_SIZE:]
    if header.is_compressed:
        payload = _decompress(payload, key)
    return Envelope(payload, header.spec_version, header.written_by)


def payload_limit(compressed_bytes: int) -> int:
    """Largest payload accepted from a frame of this many bytes."""
    return min(MAX_PAYLOAD_BYTES, max(FREE_PAYLOAD_BYTES, MAX_RATIO * compressed_bytes))


def _decompress(frame: bytes, key: str) -> bytes:
    """Decompress exactly one zstd frame, within `payload_limit`."""
    limit = payload_limit(len(frame))
    try:
        parameters = zstandard.get_frame_parameters(frame)
        declared = parameters.content_size
        # For a declared size of zero the one-shot call does not even look at the frame.
        if declared in (zstandard.CONTENTSIZE_UNKNOWN, 0):
            return _decompress_pieces(frame, limit, key)
        if declared > limit:
            raise _too_large(key, limit)
        # The native one-shot path: allocates the declared size once and fails if it is a lie.
        return _decompressor().decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise FormatError(
            f"{key}: the zstd frame is damaged ({error})", ErrorKind.DESERIALIZATION
        ) from error


def _decompressor() -> zstandard.ZstdDecompressor:
    """Return the decompressor of this thread: making one costs as much as a small frame."""
    found: zstandard.ZstdDecompressor | None = getattr(_of_thread, "decompressor", None)
    if found is None:
        found = _of_thread.decompressor = zstandard.ZstdDecompressor()
    return found


_of_thread = threading.local()


def _decompress_pieces(frame: bytes, limit: int, key: str) -> bytes:
    """Decompress a frame that does not state its size, as all writers before 2.3 make them."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).decompressobj()
    pieces = []
    total = 0
    start = 0
    while not decompressor.eof and start < len(frame):
        piece = decompressor.decompress(frame[start : start + _PIECE_BYTES])
        start += _PIECE_BYTES
        total += len(piece)
        if total > limit:
            raise _too_large(key, limit)
        pieces.append(piece)
    if not decompressor.eof:
        raise FormatError(f"{key}: the zstd frame is cut short", ErrorKind.DESERIALIZATION)
    if decompressor.unused_data or start < len(frame):
        raise FormatError(f"{key}: bytes follow the zstd frame", ErrorKind.DESERIALIZATION)
    return b"".join(pieces)


def _invalid(key: str, reason: str) -> FormatError:
    return FormatError(f"{key}: {reason}", ErrorKind.INVALID_FILE_FORMAT)


def _too_large(key: str, limit: int) -> FormatError:
    return FormatError(
        f"{key}: the payload would exceed {limit} bytes, far more than a file of this size holds",
        ErrorKind.DESERIALIZATION,
    )

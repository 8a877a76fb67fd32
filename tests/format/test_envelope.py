import tracemalloc

import numpy as np
import pytest
import zstandard
from effort import EFFORT
from hypothesis import given, settings
from hypothesis import strategies as st

from icechunk.errors import FormatError
from icechunk.format import envelope
from icechunk.format.envelope import HEADER_SIZE, FileKind, unwrap, wrap
from icechunk.format.payload import Payload

KEY = "snapshots/X"
INITIAL_HEADER = bytes.fromhex(
    "494345f09fa78a4348554e4b69632d322e332e30202020202020202020202020202020200201 01"
)


def header(spec: int = 2, kind: int = 1, compression: int = 1) -> bytes:
    return envelope.MAGIC + b"someone-1".ljust(24) + bytes((spec, kind, compression))


def streamed(payload: bytes) -> bytes:
    compressor = zstandard.ZstdCompressor(level=3).compressobj()
    return compressor.compress(payload) + compressor.flush()


@settings(deadline=None, max_examples=60 * EFFORT)
@given(st.binary(), st.sampled_from(FileKind), st.sampled_from([1, 2]), st.integers(1, 5))
def test_round_trip(payload: bytes, kind: FileKind, spec: int, level: int) -> None:
    opened = unwrap(wrap(kind, payload, level=level, spec_version=spec), kind, KEY)
    assert opened.payload == payload
    assert opened.spec_version == spec
    assert opened.written_by.startswith("icpy-")


def test_header_bytes() -> None:
    data = wrap(FileKind.SNAPSHOT, b"payload")
    assert len(INITIAL_HEADER) == envelope.HEADER_SIZE
    assert data[:12] == INITIAL_HEADER[:12]
    assert data[36:39] == INITIAL_HEADER[36:39]
    assert data[39:] == zstandard.ZstdCompressor(level=3).compress(b"payload")


def test_writer_names_are_informational() -> None:
    data = envelope.MAGIC + b"caf\xe9\0\0".ljust(24) + b"\x02\x01\x01" + streamed(b"x")
    assert unwrap(data, FileKind.SNAPSHOT, KEY).written_by == "caf\ufffd"


@pytest.mark.parametrize("size", [0, 1, 1000, 3_000_000])
def test_frames_without_content_size(size: int) -> None:
    payload = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert unwrap(header() + streamed(payload), FileKind.SNAPSHOT, KEY).payload == payload


def test_uncompressed_payload_is_read() -> None:
    assert unwrap(header(compression=0) + b"abc", FileKind.SNAPSHOT, KEY).payload == b"abc"


FRAME = zstandard.ZstdCompressor().compress(b"payload")


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "invalid-file-format"),
        (header()[:38], "invalid-file-format"),
        (b"x" + header()[1:] + FRAME, "invalid-file-format"),
        (header(kind=2) + FRAME, "invalid-file-format"),
        (header(kind=9) + FRAME, "invalid-file-format"),
        (header(compression=2) + FRAME, "invalid-file-format"),
        (header(spec=3) + FRAME, "unsupported-spec-version"),
        (header(spec=0) + FRAME, "unsupported-spec-version"),
        (header(), "deserialization"),
        (header() + b"not zstd at all", "deserialization"),
        (header() + FRAME[:-1], "deserialization"),
        (header() + FRAME + b"\0", "deserialization"),
        (header() + FRAME + FRAME, "deserialization"),
        (header() + streamed(b"payload")[:-1], "deserialization"),
        (header() + streamed(b"payload") + b"\0", "deserialization"),
        (header() + streamed(b"payload") * 2, "deserialization"),
        (header() + streamed(b"payload") * 200, "deserialization"),
    ],
)
def test_malformed_files(data: bytes, kind: str) -> None:
    with pytest.raises(FormatError) as caught:
        unwrap(data, FileKind.SNAPSHOT, KEY)
    assert caught.value.kind == kind
    assert KEY in str(caught.value)


def test_a_dictionary_is_not_asked_for() -> None:
    samples = [f"s3://bucket/path/{i}/{i * 7}".encode() for i in range(1000)]
    dictionary = zstandard.train_dictionary(1024, samples)
    frame = zstandard.ZstdCompressor(dict_data=dictionary).compress(b"s3://bucket/path/1")
    with pytest.raises(FormatError):
        unwrap(header() + frame, FileKind.SNAPSHOT, KEY)


def bomb(size: int, *, sized: bool) -> bytes:
    compressor = zstandard.ZstdCompressor(level=3)
    stream = compressor.compressobj(size=size) if sized else compressor.compressobj()
    block = bytes(1 << 20)
    return b"".join(stream.compress(block) for _ in range(size >> 20)) + stream.flush()


@pytest.mark.parametrize("sized", [True, False])
def test_bombs_are_refused_early(sized: bool) -> None:
    data = header() + bomb(1 << 30, sized=sized)
    assert len(data) < 50_000
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match="payload would exceed"):
            unwrap(data, FileKind.SNAPSHOT, KEY)
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()


def test_a_frame_that_lies_about_its_size() -> None:
    frame = bytearray(zstandard.ZstdCompressor().compress(bytes(200)))
    assert frame[4] == 0x20  # single segment, one byte of content size
    assert frame[5] == 200
    for size in (0, 100, 201, 255):
        frame[5] = size
        with pytest.raises(FormatError):
            unwrap(header() + bytes(frame), FileKind.SNAPSHOT, KEY)


@pytest.mark.parametrize("similar", [True, False])
@pytest.mark.parametrize("size", [0, 1000, 3 << 20, 20 << 20])
def test_payloads_that_are_made_in_blocks(size: int, similar: bool) -> None:
    """Gaps are zero, also at the end; large and small, the frame states its size."""
    words = np.arange(size // 8, dtype="<u4")
    half = 4 * len(words) // 2
    parts = [(half + 8, lambda: [words.view(np.uint8)[half:]])] if size else []
    parts += [
        (0, lambda: [words.view(np.uint8)[: half - 4], words.view(np.uint8)[half - 4 : half]])
    ]
    payload = Payload(size, parts)
    whole = words.tobytes()[:half] + bytes(8 if size else 0) + words.tobytes()[half:]
    whole += bytes(size - len(whole))
    assert payload.to_memory() == whole
    data = wrap(FileKind.MANIFEST, payload, has_similar_rows=similar)
    assert unwrap(data, FileKind.MANIFEST, KEY).payload == whole
    assert zstandard.get_frame_parameters(data[HEADER_SIZE:]).content_size == size


def test_repetitive_files_are_within_bounds() -> None:
    payload = bytes(range(200)) * 300_000  # 60 MB that compress about 10,000 times
    data = wrap(FileKind.MANIFEST, payload)
    assert unwrap(data, FileKind.MANIFEST, KEY).payload == payload
    assert envelope.payload_limit(10**6) == 10**9
    assert envelope.payload_limit(10**9) == envelope.MAX_PAYLOAD_BYTES


def test_payloads_beyond_the_address_range_are_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelope, "MAX_PAYLOAD_BYTES", 10)
    with pytest.raises(FormatError, match="11 bytes"):
        wrap(FileKind.SNAPSHOT, bytes(11))

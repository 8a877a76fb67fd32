"""Damaged files are refused with a FormatError, or read as something that agrees with itself.

Every byte of the golden files is flipped and every length cut, in the file as stored and below the
compression, where damage gets past the zstd frame. On top come random edits of all files that the
reference wrote. Each must be dealt with within `SECONDS` of CPU time, and within `MEMORY` on top of
what the process has.
"""

import logging
import random
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from icechunk.config.yaml import config_from_yaml, config_to_yaml
from icechunk.errors import FormatError
from icechunk.format.envelope import HEADER_SIZE, unwrap
from icechunk.format.ids import encode_id
from icechunk.format.manifest import Manifest
from icechunk.format.refs_v1 import decode_ref, encode_ref
from icechunk.format.repo_info import RepoInfo
from icechunk.format.snapshot import Snapshot
from icechunk.format.transaction_log import decode_transaction_log
from icechunk.repo.stored_config import decode_config, encode_config

sys.path.append(str(Path(__file__).parent))  # for the helper beside this file

from metadata_files import CODECS, FILES, GOLDEN, archived, read

SECONDS = 1.0
MEMORY = 256 * 2**20

BATCHES = 10
EDITED_FILES = 100_000
"""All batches together; as many again of each with more effort."""
REWRITTEN = 20
"""One in so many files that can be read is written again."""

TESTS = Path(__file__).parents[1]


# Reading all that a file has, in every way there is


def read_manifest(manifest: Manifest) -> None:
    """Look rows up by bisecting, as single reads do; the whole tables must say the same."""
    manifest.num_compressed_locations()
    manifest.native_ids()
    for node_id in manifest.node_ids:
        table = manifest.table(node_id)
        searched = Manifest(manifest._buffer)  # which has not decoded the table
        for row in {0, len(table) // 2, len(table) - 1} if len(table) else ():
            coords = tuple(table.coords[row].tolist())
            assert searched.find(node_id, coords) == table.ref(row)
        if table.rank:
            beyond = (2**32 - 1,) * table.rank
            assert (searched.find(node_id, beyond) is None) == (table.find(beyond) < 0)


def search_manifest(manifest: Manifest) -> None:
    """Look chunks up in what may be too damaged to be read as a whole."""
    for node_id in manifest.node_ids:
        for rank in (1, 2, 3):
            with suppress(FormatError):
                manifest.find(node_id, (1,) * rank)


def read_snapshot(snapshot: Snapshot) -> None:
    """Find every node by path, by id and among children, and every manifest."""
    nodes = snapshot.nodes
    for row, node in enumerate(nodes):
        assert nodes.row(node.path) == row
        assert getattr(nodes.find_id(node.id), "id", None) == node.id
        nodes.children(node.path)
    nodes.children("/")
    for manifest_id in nodes.manifest_ids():
        found = snapshot.manifest_files.find(manifest_id)
        assert found is None or found.id == manifest_id


def read_repo(info: RepoInfo) -> None:
    """Walk every history, follow every ref, read the configuration."""
    for row, entry in enumerate(info.snapshots):
        assert info.snapshots.find(entry.id) == row
        *_, root = info.snapshots.ancestry(entry.id)
        assert info.snapshots.parent_id(root) is None
    for target in (*info.branches.values(), *info.tags.values()):
        assert target in info.snapshots
    decode_config(info.config)


READERS: dict[str, Callable[[Any], None]] = {
    "snapshots": read_snapshot,
    "manifests": read_manifest,
    "transactions": lambda log: None,
    "repo": read_repo,
    "overwritten": read_repo,
}


def use(kind: str, data: bytes, *, rewrite: bool) -> bool:
    """Read all of a damaged file; True if it could be read."""
    codec = CODECS[kind]
    try:
        value = codec.decode(data, "damaged")
        if kind == "manifests":
            search_manifest(value)
        content = codec.content(value)
        READERS[kind](value)
    except FormatError as error:
        if "not enough memory" in error.message:  # how zstd says it
            raise MemoryError from error
        return False
    if kind == "transactions":
        assert codec.content(decode_transaction_log(data, "damaged", lazy=True)) == content
    if rewrite:
        # a file may be readable and still say what must not be written
        with suppress(FormatError):
            again = codec.encode(value)
            assert codec.content(codec.decode(again, "rewritten")) == content
    return True


def use_config(data: bytes) -> bool:
    try:
        config = config_from_yaml(data)
    except FormatError:
        return False
    with suppress(FormatError):
        assert config_from_yaml(config_to_yaml(config)) == config
    return True


def use_stored_config(data: bytes) -> bool:
    try:
        config = decode_config(data)
    except FormatError:
        return False
    assert config is not None
    assert decode_config(encode_config(config)) == config
    return True


def use_ref(data: bytes) -> bool:
    try:
        target = decode_ref(data, "refs/branch.main/ref.json")
    except FormatError:
        return False
    assert len(encode_id(target)) == 20
    assert decode_ref(encode_ref(target), "rewritten") == target
    return True


# Within limits


class TooSlowError(Exception):
    """A file took more than its share of time."""


def _out_of_time(signum: int, frame: FrameType | None) -> None:
    raise TooSlowError(f"more than {SECONDS} s")


@contextmanager
def limited_memory() -> Iterator[None]:
    """Let allocations fail that take the process `MEMORY` beyond where it is now (Linux only)."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (ImportError, OSError):
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def check(cases: Iterator[tuple[str, Callable[[], bool]]]) -> tuple[int, int]:
    """Run named cases within limits; returns how many there were, and how many could be read."""
    count, readable = 0, 0
    failures: list[str] = []
    before = signal.signal(signal.SIGPROF, _out_of_time)
    try:
        with limited_memory():
            for name, run in cases:
                count += 1
                signal.setitimer(signal.ITIMER_PROF, SECONDS)
                try:
                    readable += run()
                except Exception as error:
                    failures.append(f"{name}: {type(error).__name__}: {error}")
                finally:
                    signal.setitimer(signal.ITIMER_PROF, 0)
    finally:
        signal.signal(signal.SIGPROF, before)
    assert not failures, f"{len(failures)} of {count}:\n" + "\n".join(failures[:10])
    return count, readable


def test_the_limits_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "SECONDS", 0.05)

    def endless() -> bool:
        while True:
            pass

    with pytest.raises(AssertionError, match=r"1 of 2:\s+endless: TooSlowError"):
        check(iter([("fine", lambda: True), ("endless", endless)]))
    if sys.platform == "linux":
        with pytest.raises(AssertionError, match=r"1 of 2:\s+huge: .*MemoryError"):
            check(iter([("huge", lambda: bool(bytearray(2 * MEMORY))), ("fine", lambda: True)]))


def below_compression(kind: str, data: bytes, name: str) -> bytes:
    """Make the file uncompressed, which every reader takes: damage then reaches the decoder."""
    return data[: HEADER_SIZE - 1] + b"\0" + unwrap(data, CODECS[kind].kind, name).payload


def forms(kind: str, data: bytes, name: str) -> list[tuple[str, bytes, int]]:
    """Both forms of a file, and from where on each is damaged."""
    return [("stored", data, 0), ("payload", below_compression(kind, data, name), HEADER_SIZE)]


# Every byte, and every length


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_every_byte_and_every_length(name: str) -> None:
    kind = name.split("/")[1]

    def cases() -> Iterator[tuple[str, Callable[[], bool]]]:
        for form, data, start in forms(kind, read(name), name):
            for place in range(start, len(data)):
                flipped = bytearray(data)
                flipped[place] ^= 255
                for what, damaged in (("flipped", bytes(flipped)), ("cut", data[:place])):
                    yield f"{form} {what} at {place}", partial(use, kind, damaged, rewrite=False)

    count, readable = check(cases())
    assert count > 2 * len(read(name))
    assert 0 < readable < count / 2


TEXTS: dict[str, Callable[[bytes], bool]] = {
    **{
        path.relative_to(TESTS).as_posix(): use_ref
        for path in sorted(GOLDEN.glob("reference-v1/refs/*/ref.json"))
    },
    "config/data/icechunk-2.3.0-small.yaml": use_config,
    "config/data/icechunk-2.3.0-empties.yaml": use_config,
    "config/data/icechunk-2.3.0-rich.flexbuffer": use_stored_config,
}


@pytest.mark.parametrize("name", TEXTS)
def test_every_byte_and_every_length_of_text(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "icechunk")  # containers that make no sense get a warning
    data, run = (TESTS / name).read_bytes(), TEXTS[name]

    def cases() -> Iterator[tuple[str, Callable[[], bool]]]:
        for place in range(len(data)):
            value = data[place] ^ (1, 255)[place % 2]  # a similar character, or none at all
            changed = data[:place] + bytes([value]) + data[place + 1 :]
            yield f"{value} at {place}", partial(run, changed)
            yield f"cut at {place}", partial(run, data[:place])

    assert run(data)
    check(cases())


# Random edits


WORDS = [0, 1, 3, 4, 8, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 4, 2**32 - 1]


@cache
def all_forms() -> list[tuple[str, str, bytes, int]]:
    """Kind, name, content, and start of damage, of the files of all golden repositories."""
    named = [*((name, read(name)) for name in FILES), *archived()]
    return [
        (kind, f"{form} of {name}", damaged, start)
        for name, data in named
        for kind in [name.split("/")[1]]
        for form, damaged, start in forms(kind, data, name)
    ]


def edit(data: bytearray, start: int, rng: random.Random) -> None:
    """Damage a file in one of the ways that files are damaged, or that attackers would choose."""
    at = rng.randrange(start, len(data)) if start < len(data) else start
    match rng.randrange(7):
        case 0 if at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        case 1:
            data[at : at + 1] = rng.choice(b"\0\1\x7f\x80\xff").to_bytes()
        case 2:
            data[at : at + 4] = rng.choice(WORDS).to_bytes(4, "little")
        case 3:  # an offset that points elsewhere, among what it may have to do with
            data[at : at + 4] = (rng.randrange(-64, 64) % 2**32).to_bytes(4, "little")
        case 4:  # what is true of another part
            other, length = rng.randrange(start, len(data) + 1), rng.choice((2, 4, 8, 12, 40))
            data[at : at + length] = data[other : other + length]
        case 5:
            del data[at : at + rng.randrange(1, 9)]
        case _:
            data[at:at] = rng.randbytes(rng.randrange(1, 9))


@pytest.mark.parametrize("batch", range(BATCHES))
def test_random_edits(batch: int, effort: int) -> None:
    rng = random.Random(batch)
    choices = all_forms()

    def cases() -> Iterator[tuple[str, Callable[[], bool]]]:
        for number in range(EDITED_FILES // BATCHES * effort):
            kind, name, data, start = rng.choice(choices)
            edited = bytearray(data)
            for _ in range(rng.choice((1, 1, 2, 3, 8))):
                edit(edited, start, rng)
            rewrite = number % REWRITTEN == 0
            yield f"{name}, edit {number}", partial(use, kind, bytes(edited), rewrite=rewrite)

    count, readable = check(cases())
    assert 0.05 < readable / count < 0.6

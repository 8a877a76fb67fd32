"""The buffer of chunk writes: last write wins, whatever was sealed in between."""

import threading

import pytest
from effort import EFFORT
from hypothesis import given, settings
from hypothesis import strategies as st

from icechunk.changes import chunk_log
from icechunk.changes.chunk_log import TOMBSTONE, ChunkLog
from icechunk.chunks import ChunkKind, ChunkRef, ChunkTable


def inline(value):
    return ChunkRef(ChunkKind.INLINE, None, 0, 1, bytes([value]))


steps = st.one_of(
    st.tuples(st.just("put"), st.tuples(st.integers(0, 6), st.integers(0, 3)), st.integers(0, 255)),
    st.tuples(st.just("delete"), st.tuples(st.integers(0, 6), st.integers(0, 3))),
    st.tuples(st.just("epoch")),
    st.tuples(
        st.just("table"),
        st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3)), max_size=5, unique=True),
        st.integers(0, 255),
    ),
)


@given(st.lists(steps, max_size=40))
@settings(max_examples=100 * EFFORT, deadline=None)
def test_a_log_reads_like_a_dictionary(history):
    log = ChunkLog(2)
    model = {}
    by_epoch = {}
    epoch = 0
    for step in history:
        match step:
            case "put", coords, value:
                log.put(coords, inline(value))
                written = {coords: inline(value)}
            case "delete", coords:
                log.put(coords, TOMBSTONE)
                written = {coords: TOMBSTONE}
            case "table", coords, value:
                written = dict.fromkeys(coords, inline(value))
                log.put_table(ChunkTable.from_refs(2, written))
            case _:
                epoch += 1
                log.begin_epoch(epoch)
                written = {}
        model.update(written)
        by_epoch.setdefault(epoch, {}).update(written)
        for coords in written:
            assert log.get(coords) == written[coords]
    assert log.get((9, 9)) is None
    for coords, ref in model.items():
        assert log.get(coords) == ref
    for since in range(-1, epoch + 1):
        newer = {}
        for e in range(since + 1, epoch + 1):
            newer.update(by_epoch.get(e, {}))
        assert dict(log.table(since=since).items()) == newer
    assert dict(log.table().items()) == model
    assert dict(log.table().items()) == model


@pytest.fixture
def small_buffers(monkeypatch):
    monkeypatch.setattr(chunk_log, "SEAL_ROWS", 8)


def test_threads_lose_nothing_while_buffers_are_sealed(small_buffers):
    log = ChunkLog(2)
    missing = []

    def work(row):
        for i in range(300):
            log.put((row, i), inline(i % 256))
            if log.get((row, i)) != inline(i % 256):
                missing.append((row, i))

    threads = [threading.Thread(target=work, args=(row,)) for row in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not missing
    assert len(log.table()) == 1800


def test_many_writes_leave_few_layers(small_buffers):
    log = ChunkLog(1)
    for i in range(2000):
        log.put((i,), inline(0))
    assert len(log._layers) <= 10

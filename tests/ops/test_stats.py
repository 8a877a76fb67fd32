"""Bytes of chunks: what is counted once, what is read once, and within which memory."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icechunk.errors import StorageError
from icechunk.format.manifest_files import ManifestFile
from icechunk.ops.distinct import DistinctKeys, NumberedKeys
from icechunk.ops.reachable import reachable_snapshots
from icechunk.ops.scan import ScanLimits, batches
from icechunk.ops.stats import chunk_storage
from icechunk.stats import ChunkStorageStats

sys.path.append(str(Path(__file__).parent))  # for the helper beside this file

from hand_made import Repo, inline, native, oid, virtual

PLENTY = ScanLimits(50, 500, 2**30, 2**30)


@given(st.lists(st.lists(st.integers(0, 300), max_size=40), max_size=12))
def test_keys_are_new_once(columns):
    keys = DistinctKeys()
    seen = set()
    for column in columns:
        expected = []
        for row, number in enumerate(column):
            if number not in seen:
                seen.add(number)
                expected.append(row)
        # with zero bytes at either end, which count
        data = b"".join(number.to_bytes(12, "little") for number in column)
        rows = keys.add(np.frombuffer(data, "S12"))
        assert sorted(rows.tolist()) == expected
        assert len(keys) == len(seen)


@given(st.lists(st.lists(st.integers(0, 300), max_size=40), max_size=12))
def test_keys_keep_their_numbers(columns):
    keys = NumberedKeys()
    numbered = {}
    for column in columns:
        texts = np.frombuffer(b"".join(n.to_bytes(12, "little") for n in column), "S12")
        distinct = [int.from_bytes(text.ljust(12, b"\0"), "little") for text in np.unique(texts)]
        assert keys.find(texts).tolist() == [numbered.get(number, -1) for number in distinct]
        known = len(numbered)
        numbers, rows = keys.add(texts)
        assert rows.tolist() == [column.index(number) for number in distinct]
        for number, at in zip(distinct, numbers.tolist(), strict=True):
            assert numbered.setdefault(number, at) == at
        assert sorted(numbered.values()) == list(range(len(numbered)))
        assert (numbers >= known).sum() == len(numbered) - known
        assert len(keys) == len(numbered)


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5)), max_size=30),
    st.integers(1, 6),
    st.integers(1, 100),
    st.integers(1, 3000),
)
def test_batches_fit(sizes, at_once, file_bytes, decoded_bytes):
    files = [ManifestFile(oid(n), *size) for n, size in enumerate(sizes)]
    cut = list(batches(files, ScanLimits(1, at_once, file_bytes, decoded_bytes)))
    assert [file for batch in cut for file in batch] == files
    for batch in cut:
        assert 0 < len(batch) <= at_once
        if len(batch) > 1:
            assert sum(file.size_bytes for file in batch) <= file_bytes
            assert sum(4 * f.size_bytes + 256 * f.num_chunk_refs for f in batch) <= decoded_bytes


@pytest.fixture(params=[True, False], ids=["local", "remote"])
def repo(request):
    repo = Repo(request.param)
    repo.manifest(1, native([oid(1), oid(2)], [10, 20]), inline(b"abc", b"de"))
    repo.manifest(2, native([oid(2), oid(3), oid(3)], [20, 30, 30]), inline(b"abc"))
    repo.manifest(3, native([oid(4)], [40]))
    repo.manifest(
        4,
        virtual([("s3://b/x", 0, 5), ("s3://b/x", 5, 5), ("s3://b/x", 0, 5), ("s3://b/y", 0, 5)]),
        virtual([("s3://b/y", 0, 5), ("s3://b/y", 0, 6), ("s3://b/", 0, 5)]),
    )
    repo.manifest(5, virtual([("s3://b/x", 5, 5), ("s3://b/z", 2**40, 2**40)]))
    repo.snapshot(1, None, 1)
    repo.snapshot(2, 1, 1, 2, 4)
    repo.snapshot(3, 2, 2, 3)
    repo.snapshot(4, 2, 1, 5)
    return repo


@pytest.mark.parametrize("limits", [PLENTY, ScanLimits(1, 1, 1, 1), ScanLimits(3, 2, 2**30, 2000)])
def test_shared_chunks_count_once(repo, limits):
    assert chunk_storage(repo.assets, repo.info(main=2), limits) == ChunkStorageStats(60, 26, 8)
    assert chunk_storage(repo.assets, repo.info(main=1), limits) == ChunkStorageStats(30, 0, 5)
    assert chunk_storage(repo.assets, repo.info(main=3), limits) == ChunkStorageStats(100, 26, 8)
    both = ChunkStorageStats(100, 26 + 2**40, 8)
    assert chunk_storage(repo.assets, repo.info(main=3, side=4), limits) == both
    assert chunk_storage(repo.assets, repo.info(tags=[4], main=3), limits) == both


def test_everything_is_read_once_and_nothing_kept(repo):
    repo.storage.reads.clear()
    chunk_storage(repo.assets, repo.info(main=3, side=4), PLENTY)
    assert len(repo.storage.reads) == len(set(repo.storage.reads)) == 4 + 5
    assert not len(repo.assets.caches.manifests)
    assert not len(repo.assets.caches.snapshots)


def test_what_is_kept_is_used(repo):
    info = repo.info(main=3)
    expected = chunk_storage(repo.assets, info, PLENTY)
    for number in (1, 2, 3):
        repo.assets.snapshot(oid(number))
    for number in (1, 2, 3, 4):
        repo.assets.manifest(oid(number))
    repo.storage.reads.clear()
    assert chunk_storage(repo.assets, info, PLENTY) == expected
    assert repo.storage.reads == []


def test_a_missing_manifest_is_an_error(repo):
    key = next(k for k in repo.storage.reads or [i.key for i in repo.storage.list("manifests/")])
    repo.storage.delete([key])
    with pytest.raises(StorageError, match="not found"):
        chunk_storage(repo.assets, repo.info(main=3, side=4), PLENTY)


def test_reachable_snapshots():
    repo = Repo()
    repo.manifest(1, inline(b"1"))
    for number, parent in [(1, None), (2, 1), (3, 2), (4, 2), (5, 4), (6, 1)]:
        repo.snapshot(number, parent, 1)
    assert reachable_snapshots(repo.info(main=1)) == [oid(1)]
    assert reachable_snapshots(repo.info(main=3)) == [oid(1), oid(2), oid(3)]
    assert reachable_snapshots(repo.info(tags=[4], main=3)) == [oid(n) for n in (1, 2, 3, 4)]
    assert reachable_snapshots(repo.info(main=5, a=6, b=4)) == [oid(n) for n in (1, 2, 4, 5, 6)]

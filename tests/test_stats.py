"""Repository.chunk_storage_stats on real commits, and the record it returns."""

import pickle

import pytest
import zarr

import icechunk
from icechunk.stats import ChunkStorageStats


@pytest.fixture
def repo(storage):
    config = icechunk.RepositoryConfig(inline_chunk_threshold_bytes=8)
    return icechunk.Repository.create(storage, config)


def commit(repo, edit, message="edit"):
    session = repo.writable_session("main")
    edit(session.store)
    return session.commit(message)


def make(store):
    root = zarr.create_group(store)
    root.create_array("x", shape=(6,), chunks=(2,), dtype="u1", compressors=None)[:] = 1
    root.create_array("y", shape=(60,), chunks=(20,), dtype="u1", compressors=None)[:] = 1


def test_counts_what_refs_lead_to(repo):
    assert repo.chunk_storage_stats() == ChunkStorageStats()
    first = commit(repo, make)
    assert repo.chunk_storage_stats() == ChunkStorageStats(60, 0, 6)

    def touch(store):
        zarr.open_array(store, path="y")[:5] = 2

    commit(repo, touch)
    assert repo.chunk_storage_stats() == ChunkStorageStats(80, 0, 6)
    commit(repo, lambda store: zarr.open_group(store).attrs.update(a=1))
    assert repo.chunk_storage_stats() == ChunkStorageStats(80, 0, 6)
    commit(repo, lambda store: zarr.open_array(store, path="x").__setitem__(0, 5))
    # the manifest was written anew, with the chunks that stayed
    assert repo.chunk_storage_stats() == ChunkStorageStats(80, 0, 12)
    repo.create_tag("last", repo.lookup_branch("main"))
    repo.reset_branch("main", first)
    assert repo.chunk_storage_stats() == ChunkStorageStats(80, 0, 12)
    repo.delete_tag("last")
    assert repo.chunk_storage_stats() == ChunkStorageStats(60, 0, 6)


@pytest.mark.parametrize(
    "name",
    [
        "max_snapshots_in_memory",
        "max_compressed_manifest_mem_bytes",
        "max_decoded_manifest_mem_bytes",
        "max_concurrent_manifest_fetches",
    ],
)
def test_limits(repo, name):
    commit(repo, make)
    assert repo.chunk_storage_stats(**{name: 1}) == ChunkStorageStats(60, 0, 6)
    for wrong in (0, -1):
        with pytest.raises(ValueError, match=f"{name} must be positive"):
            repo.chunk_storage_stats(**{name: wrong})
    with pytest.raises(TypeError):
        repo.chunk_storage_stats(**{name: 1.5})


async def test_twin(repo):
    commit(repo, make)
    assert await repo.chunk_storage_stats_async() == ChunkStorageStats(60, 0, 6)


async def test_the_deprecated_total(repo):
    commit(repo, make)
    with pytest.warns(DeprecationWarning, match="total_chunks_storage is deprecated") as sync:
        assert repo.total_chunks_storage(max_snapshots_in_memory=1) == 60
    with pytest.warns(DeprecationWarning, match="total_chunks_storage is deprecated") as awaited:
        assert await repo.total_chunks_storage_async(max_concurrent_manifest_fetches=2) == 60
    assert [warning.filename for warning in (*sync, *awaited)] == [__file__] * 2
    with pytest.warns(DeprecationWarning, match="total"), pytest.raises(ValueError, match="posit"):
        repo.total_chunks_storage(max_snapshots_in_memory=0)


def test_the_record():
    stats = ChunkStorageStats(1, 20, 300)
    assert stats.non_virtual_bytes() == 301
    assert stats.total_bytes() == 321
    assert stats + stats == ChunkStorageStats(2, 40, 600)
    assert pickle.loads(pickle.dumps(stats)) == stats
    assert len({stats, ChunkStorageStats(1, 20, 300)}) == 1
    with pytest.raises(TypeError):
        stats + 1
    assert (
        repr(stats)
        == str(stats)
        == (
            "<icechunk.stats.ChunkStorageStats>\n"
            "native_bytes: 1\nvirtual_bytes: 20\ninlined_bytes: 300\n"
        )
    )
    assert "virtual_bytes:</span> <span" in stats._repr_html_()
    assert icechunk.repository.ChunkStorageStats is ChunkStorageStats

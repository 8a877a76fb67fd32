"""Repository.chunk_storage_stats on real commits, and the record it returns."""

import pickle
from datetime import UTC, datetime, timedelta

import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import icechunk
from icechunk.stats import ChunkStorageStats, StorageTable


@pytest.fixture
def repo(storage):
    config = icechunk.RepositoryConfig(inline_chunk_threshold_bytes=8)
    return icechunk.Repository.create(storage, config)


@pytest.fixture(params=[1, 2], ids=["spec 1", "spec 2"])
def either(request):
    config = icechunk.RepositoryConfig(inline_chunk_threshold_bytes=8)
    storage = icechunk.in_memory_storage()
    return icechunk.Repository.create(storage, config, spec_version=request.param)


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


def summary(table):
    """Bytes of native and of inlined chunks of each row."""
    columns = table.total.native_bytes.tolist(), table.total.inlined_bytes.tolist()
    return dict(zip(table.names, zip(*columns, strict=True), strict=True))


def test_statistics_by_everything(either):
    repo = either
    first = commit(repo, make, "make")
    repo.create_tag("v1", first)
    repo.create_branch("side", first)
    second = commit(repo, lambda store: zarr.open_array(store, path="y").__setitem__(0, 2), "touch")

    assert summary(repo.storage_statistics()) == {"/x": (0, 6), "/y": (80, 0)}
    by_snapshot = repo.storage_statistics(by="snapshot")
    assert summary(by_snapshot) == {
        "touch": (60, 6),
        "make": (60, 6),
        "Repository initialized": (0, 0),
    }
    assert by_snapshot.ids[:2] == (second, first)
    assert by_snapshot.exclusive.native_bytes.tolist() == [20, 20, 0]
    assert by_snapshot.exclusive.inlined_bytes.tolist() == [0, 0, 0]
    assert by_snapshot.added.native_chunks.tolist() == [1, 3, 0]
    by_branch = repo.storage_statistics(by="branch")
    assert summary(by_branch) == {"main": (80, 6), "side": (60, 6)}
    assert by_branch.exclusive.native_bytes.tolist() == [20, 0]
    assert by_branch.ids == (second, first)
    assert summary(repo.storage_statistics(by="tag")) == {"v1": (60, 6)}
    for by in StorageTable.KINDS:
        assert repo.storage_statistics(by=by).whole == repo.chunk_storage_stats()

    sizes = {file.id: file.size_bytes for file in repo.list_manifest_files(second)}
    added = repo.storage_added_by(second)
    assert summary(added) == {"/y": (20, 0)}
    assert added.total.manifests.tolist() == [1]
    new = set(sizes) - {file.id for file in repo.list_manifest_files(first)}
    assert added.total.manifest_bytes.tolist() == [sizes[manifest_id] for manifest_id in new]
    assert summary(repo.storage_added_by(first)) == {"/x": (0, 6), "/y": (60, 0)}
    assert len(repo.storage_added_by(repo.storage_statistics(by="snapshot").ids[-1])) == 0


def test_arrays_keep_their_rows_when_they_move(repo):
    commit(repo, make)
    session = repo.rearrange_session("main")
    session.move("/y", "/z")
    session.commit("move")
    commit(repo, lambda store: zarr.open_array(store, path="z").__setitem__(0, 2))
    assert summary(repo.storage_statistics()) == {"/x": (0, 6), "/z": (80, 0)}
    commit(repo, lambda store: zarr.open_group(store).__delitem__("z"))
    commit(repo, lambda store: zarr.create_array(store, name="z", shape=4, chunks=2, dtype="u1"))
    table = repo.storage_statistics()
    assert table.names == ("/x", "/z", "/z")
    assert sorted(table.total.native_bytes.tolist()) == [0, 0, 80]


async def test_twins_of_the_tables(repo):
    snapshot = commit(repo, make)
    whole = ChunkStorageStats(60, 0, 6)
    assert (await repo.storage_statistics_async(by="branch")).whole == whole
    assert (await repo.storage_added_by_async(snapshot)).whole == whole


FUTURE = datetime(2200, 1, 1, tzinfo=UTC)


def random_history(repo, draw):
    """Commits to two branches, and tags; returns the times between them."""
    commit(repo, make)
    times = []
    for number in range(draw(st.integers(1, 6))):
        tip = repo.lookup_branch(branch := draw(st.sampled_from(sorted(repo.list_branches()))))
        times.append(repo.lookup_snapshot(tip).written_at + timedelta(microseconds=1))
        match draw(st.sampled_from(["commit", "commit", "commit", "branch", "tag"])):
            case "branch":
                repo.create_branch(f"b{number}", tip)
            case "tag":
                repo.create_tag(f"t{number}", tip)
            case "commit":
                session = repo.writable_session(branch)
                path, length = draw(st.sampled_from([("x", 6), ("y", 60)]))
                start = draw(st.integers(0, length - 1))
                zarr.open_array(session.store, path=path)[start : start + 20] = number + 2
                session.commit(f"{number}")
    return times


@pytest.mark.parametrize("spec_version", [1, 2])
@settings(max_examples=15)
@given(data=st.data())
def test_what_expiring_frees_is_what_is_collected_after_it(data, spec_version):
    config = icechunk.RepositoryConfig(inline_chunk_threshold_bytes=8)
    storage = icechunk.in_memory_storage()
    repo = icechunk.Repository.create(storage, config, spec_version=spec_version)
    when = data.draw(st.sampled_from(random_history(repo, data.draw)))
    flags = {
        "delete_expired_branches": data.draw(st.booleans()),
        "delete_expired_tags": data.draw(st.booleans()),
    }
    before = repo.chunk_storage_stats()
    snapshots = repo.storage_statistics(by="snapshot").ids
    freed = repo.storage_freed_by_expiring(when, **flags)

    repo.expire_snapshots(when, **flags)
    after = repo.chunk_storage_stats()
    assert freed.arrays.whole + after == before
    left = repo.storage_statistics(by="snapshot").ids
    assert sorted(freed.snapshots) == sorted(set(snapshots) - set(left))
    assert repo.storage_freed_by_expiring(when, **flags).num_bytes == 0

    summary = repo.garbage_collect(FUTURE)
    assert len(freed.snapshots) == summary.snapshots_deleted
    assert freed.transaction_logs == summary.transaction_logs_deleted
    assert freed.arrays.manifests == summary.manifests_deleted
    assert freed.arrays.total.native_chunks.sum() == summary.chunks_deleted
    # version 1 writes files of snapshots anew, even of some that go then
    slack = 40 * len(freed.snapshots) if spec_version == 1 else 0
    assert abs(freed.num_bytes - summary.bytes_deleted) <= slack


async def test_what_expiring_frees(repo):
    commit(repo, make)
    old = commit(repo, lambda store: zarr.open_array(store, path="y").__setitem__(..., 2))
    commit(repo, lambda store: zarr.open_array(store, path="y").__setitem__(..., 3))
    when = repo.lookup_snapshot(repo.lookup_branch("main")).written_at
    freed = repo.storage_freed_by_expiring(when)
    assert old in freed.snapshots
    assert len(freed.snapshots) == 2
    assert summary(freed.arrays) == {"/y": (120, 0)}
    assert freed.transaction_logs == 0  # the last commit inherits them
    assert f"num_bytes: {freed.num_bytes}\n" in repr(freed)
    assert "/y" in freed._repr_html_()
    twin = await repo.storage_freed_by_expiring_async(when)
    assert (twin.snapshots, twin.num_bytes) == (freed.snapshots, freed.num_bytes)
    with pytest.raises(TypeError, match="expected a datetime"):
        repo.storage_freed_by_expiring("yesterday")


def test_the_table(repo):
    snapshot = commit(repo, make, "<b>two\nlines")
    table = repo.storage_statistics(by="snapshot")
    assert len(table) == 2
    assert table.row(snapshot) == table.row("<b>two\nlines") == 0
    assert table.stats(snapshot) == ChunkStorageStats(60, 0, 6)
    with pytest.raises(KeyError, match="no snapshot 'main' in a table of 2 rows"):
        table.row("main")
    frame = table.to_dict()
    assert list(frame)[:3] == ["snapshot", "id", "native_bytes"]
    assert {len(column) for column in frame.values()} == {2}
    assert (frame["added_native_bytes"] == table.added.native_bytes).all()
    assert f"{snapshot} <b>two" in repr(table)
    assert "lines" not in repr(table)
    assert "&lt;b&gt;two" in table._repr_html_()
    for _ in range(20):
        repo.writable_session("main").commit("nothing", allow_empty=True)
    assert "... and 2 more" in repr(repo.storage_statistics(by="snapshot"))
    assert "rows: none" in repr(repo.storage_statistics(by="tag"))


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

"""The manifests below a commit are fetched a few at once, as the configuration allows."""

import threading

import numpy as np
import pytest
import zarr

import icechunk
from icechunk.config import ManifestSplitCondition as Arrays
from icechunk.config import ManifestSplitDimCondition as Axes
from icechunk.storage.memory import MemoryStorage


class Remote(MemoryStorage):
    """Counts the manifests being read at once, and has them wait for each other."""

    is_local = False

    def __init__(self):
        super().__init__()
        self.lock = threading.Condition()
        self.running = self.peak = self.reads = 0
        self.meet = 0

    def get_range(self, key, start, end):
        if key.startswith("manifests/"):
            with self.lock:
                self.reads += 1
                self.running += 1
                self.peak = max(self.peak, self.running)
                self.lock.notify_all()
                self.lock.wait_for(lambda: self.peak >= self.meet, 20)
                self.lock.wait_for(lambda: self.peak > self.meet, 0.02)  # which must not happen
                self.running -= 1
        return super().get_range(key, start, end)


COUNT = 12


def open_repository(storage, size, at_once):
    splitting = icechunk.ManifestSplittingConfig.from_dict({Arrays.AnyArray(): {Axes.Any(): size}})
    manifest = icechunk.ManifestConfig(
        icechunk.ManifestPreloadConfig(max_total_refs=0),
        splitting,
        max_concurrent_manifest_fetches_during_commit=at_once,
    )
    return icechunk.Repository.open(storage, icechunk.RepositoryConfig(manifest=manifest))


@pytest.fixture
def remote():
    storage = Remote()
    icechunk.Repository.create(storage)
    session = open_repository(storage, 10, None).writable_session("main")
    array = zarr.create_array(
        session.store, name="a", shape=(10 * COUNT,), chunks=(1,), dtype="u1", fill_value=0
    )
    array[:] = 1
    session.commit("manifests")
    return storage


@pytest.mark.parametrize(("at_once", "peak"), [(None, COUNT), (1, 1), (0, 1), (4, 4), (500, COUNT)])
@pytest.mark.parametrize("size", [10, 5, 7])
def test_so_many_at_once(remote, at_once, peak, size):
    """Every manifest is touched in one cell (10), cut in two (5), or cut and joined (7)."""
    repo = open_repository(remote, size, at_once)
    session = repo.writable_session("main")
    array = zarr.open_array(session.store, path="a")
    for first in range(0, 10 * COUNT, 10):
        array[first : first + 1] = 2  # whole chunks, which nobody needs to read
    assert remote.reads == 0
    remote.meet = peak
    tip = session.commit("touched")
    assert remote.peak == peak
    assert remote.reads == COUNT
    assert not [t for t in threading.enumerate() if t.name.startswith("icechunk")]
    expected = np.ones(10 * COUNT, "u1")
    expected[::10] = 2
    store = icechunk.Repository.open(remote).readonly_session(snapshot_id=tip).store
    np.testing.assert_array_equal(zarr.open_array(store, path="a", mode="r")[:], expected)

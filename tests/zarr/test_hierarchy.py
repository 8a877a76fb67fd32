"""Zarr hierarchies changed at random, in our store and in a model that is assumed to be right."""

import json

import hypothesis.strategies as st
import numpy as np
import pytest
import zarr
import zarr.testing.strategies as zst
from hypothesis import given, note, settings
from hypothesis.stateful import (
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import cpu, default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import MemoryStore
from zarr.testing.stateful import ZarrHierarchyStateMachine, ZarrStoreStateMachine

import icechunk
from icechunk import Repository

pytestmark = [
    pytest.mark.filterwarnings("ignore:The data type .* does not have a Zarr V3 specification"),
    pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning"),
]

PIPELINES = ["zarr.core.codec_pipeline.BatchedCodecPipeline"]
if hasattr(zarr.core.codec_pipeline, "FusedCodecPipeline"):
    PIPELINES.append("zarr.core.codec_pipeline.FusedCodecPipeline")


@pytest.fixture(params=PIPELINES, ids=lambda path: path.rpartition(".")[2])
def pipeline(request):
    chosen = {"codec_pipeline.path": request.param}
    if "rectilinear_chunks" in zarr.config.get("array", {}):
        chosen["array.rectilinear_chunks"] = True
    with zarr.config.set(chosen):
        yield


@pytest.fixture(params=[0, 50], ids=["native", "inline"])
def config(request):
    return icechunk.RepositoryConfig(inline_chunk_threshold_bytes=request.param)


class HierarchyMachine(ZarrHierarchyStateMachine):
    """Zarr's machine, with commits in between: what was written must not depend on them."""

    def __init__(self, config=None):
        self.repo = Repository.create(icechunk.in_memory_storage(), config)
        super().__init__(self.repo.writable_session("main").store)

    @rule(reopen=st.booleans())
    def commit(self, reopen):
        note("committing")
        session = self.store.session
        if session.has_uncommitted_changes:
            session.commit("now")
        if reopen:
            self.repo = Repository.open(self.repo.storage)
        self.store = self.repo.writable_session("main").store

    @rule()
    def fork_and_merge(self):
        """Go on in a fork, which came back by the time of the next look."""
        session = self.store.session
        fork = session.fork()
        path = "forked"
        if self.can_add(path):
            zarr.create_group(fork.store, path=path, attributes={"by": "fork"})
            zarr.create_group(self.model, path=path, attributes={"by": "fork"})
            self.all_groups.add(path)
        session.merge(fork)

    def draw_directory(self, data):
        """Draw a node: below an array, the model forgets ``c`` with its last chunk, we do not."""
        nodes = sorted(self.all_groups | self.all_arrays)
        return data.draw(st.sampled_from(nodes))

    @precondition(lambda self: bool(self.all_groups))
    @rule(data=st.data())
    def check_list_dir(self, data):
        path = data.draw(st.sampled_from(sorted(self.all_groups)))
        expected = sorted(self._sync_iter(self.model.list_dir(path)))
        assert sorted(self._sync_iter(self.store.list_dir(path))) == expected

    @precondition(lambda self: bool(self.all_arrays))
    @rule(data=st.data())
    def delete_chunk_directory(self, data):
        array = data.draw(st.sampled_from(sorted(self.all_arrays)))
        blocks = zarr.open_array(self.model, path=array).cdata_shape
        if blocks:  # less than a whole key: a store of files sees no directory in one
            depth = data.draw(st.integers(0, len(blocks) - 1))
            leading = [data.draw(st.integers(0, max(n - 1, 0))) for n in blocks[:depth]]
            path = "/".join([array, "c", *map(str, leading)])
            self._sync(self.model.delete_dir(path))
            self._sync(self.store.delete_dir(path))

    @invariant()
    def every_key_has_the_models_value(self):
        for key in self._sync_iter(self.store.list()):
            found, expected = (
                self._sync(store.get(key, default_buffer_prototype()))
                for store in (self.store, self.model)
            )
            if key.endswith("zarr.json"):
                one, other = (json.loads(value.to_bytes()) for value in (found, expected))
                assert (one["node_type"], one.get("shape")) == (
                    other["node_type"],
                    other.get("shape"),
                )
            else:
                assert found.to_bytes() == expected.to_bytes()


def test_hierarchies_change_as_the_model_does(pipeline, config, effort):
    run_state_machine_as_test(
        lambda: HierarchyMachine(config),
        settings=settings(max_examples=6 * effort, stateful_step_count=25),
    )


KEYS = st.sampled_from(
    [
        *("c/0", "c/1", "c/30", "a/c/0", "a/c/1", "a/b/c/0", "a/b/c/7", "0/c/0", "0/0/c/0"),
        *("a.b/c/3", "a-b/c/3", "c/c/1", "c/0/c/1", "zarr/c/0"),
    ]
)


class StoreMachine(ZarrStoreStateMachine):
    """Zarr's machine on chunk keys of arrays that exist, with ranges inside the values."""

    def __init__(self, config):
        self.repo = Repository.create(icechunk.in_memory_storage(), config)
        super().__init__(self.repo.writable_session("main").store)

    @initialize()
    def init_store(self):
        self._begin()

    def _begin(self):
        document = json.dumps(
            {
                "node_type": "array",
                "shape": [100],
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1]}},
            }
        ).encode()
        paths = ["", "a", "a/b", "0", "0/0", "a.b", "a-b", "c", "c/0", "zarr"]
        for path in paths:
            key = f"{path}/zarr.json".lstrip("/")
            self.model[key] = cpu.Buffer.from_bytes(document)
            self.store.set(key, self.model[key])

    @rule(key=KEYS, data=st.binary(min_size=1, max_size=100))
    def set(self, key, data):
        self.model[key] = cpu.Buffer.from_bytes(data)
        self.store.set(key, self.model[key])

    @rule(key=KEYS)
    def get_invalid_zarr_keys(self, key):
        if key not in self.model:
            assert self.store.get(key, self.prototype) is None

    @rule(data=st.data())
    def get_partial_values(self, data):
        requests, expected = [], []
        for key in data.draw(st.lists(st.sampled_from(sorted(self.model)), max_size=5)):
            value = self.model[key].to_bytes()
            start = data.draw(st.integers(0, len(value) - 1))
            end = data.draw(st.integers(start, len(value)))
            request, part = data.draw(
                st.sampled_from(
                    [
                        (None, value),
                        (RangeByteRequest(start, end), value[start:end]),
                        (OffsetByteRequest(start), value[start:]),
                        (SuffixByteRequest(end), value[len(value) - end :]),
                    ]
                )
            )
            requests.append((key, request))
            expected.append(part)
        found = self.store.get_partial_values((pair for pair in requests), self.prototype)
        assert [value.to_bytes() for value in found] == expected

    @rule(data=st.data())
    def delete(self, data):
        key = data.draw(st.sampled_from(sorted(key for key in self.model if "/c/" in f"/{key}")))
        if key.endswith("zarr.json"):
            return
        self.store.delete(key)
        del self.model[key]

    delete = precondition(lambda self: any("/c/" in f"/{k}" for k in self.model))(delete)

    @rule()
    def clear(self):
        self.store.clear()
        assert list(self.store.list()) == []
        assert self.store.is_empty("")
        self.model.clear()
        self._begin()

    @rule(key=KEYS)
    def exists(self, key):
        assert self.store.exists(key) == (key in self.model)

    @rule(data=st.data())
    def getsize_prefix(self, data):
        node = data.draw(st.sampled_from(["a", "a/b", "0", "a.b", "a-b", "a/c", "0/0/c", "zarr"]))
        expected = sum(len(v) for key, v in self.model.items() if key.startswith(f"{node}/"))
        assert sync(self.store.store.getsize_prefix(node)) == expected

    @rule()
    def commit(self):
        session = self.store.store.session
        if session.has_uncommitted_changes:
            session.commit("now")
        self.store.store = self.repo.writable_session("main").store


def test_stores_change_as_a_dictionary_does(config, effort):
    run_state_machine_as_test(
        lambda: StoreMachine(config),
        settings=settings(max_examples=5 * effort, stateful_step_count=20),
    )


def every_value(store):
    return {
        key: sync(store.get(key, default_buffer_prototype())).to_bytes()
        for key in sync(_listed(store))
    }


async def _listed(store):
    return [key async for key in store.list()]


def copied(model, store):
    """Copy a model store's keys as they are."""
    for key, value in sorted(
        every_value(model).items(), key=lambda pair: not pair[0].endswith("zarr.json")
    ):
        sync(store.set(key, cpu.Buffer.from_bytes(value)))


def test_any_array_survives_commit_and_reopening(pipeline, config, effort):
    @settings(max_examples=5 * effort)
    @given(
        array=zst.arrays(
            stores=st.builds(MemoryStore),
            zarr_formats=st.just(3),
            paths=zst.paths(max_num_nodes=2),
        )
    )
    def check(array):
        model = array.store
        storage = icechunk.in_memory_storage()
        session = Repository.create(storage, config).writable_session("main")
        copied(model, session.store)
        assert every_value(session.store) == every_value(model)
        session.commit("all")
        store = Repository.open(storage).readonly_session("main").store
        assert every_value(store) == every_value(model)
        found = zarr.open_array(store, path=array.path, mode="r")
        np.testing.assert_array_equal(found[...], array[...])

    check()


def test_any_array_written_through_zarr_reads_the_same(pipeline, config, effort):
    @settings(max_examples=5 * effort)
    @given(data=st.data())
    def check(data):
        storage = icechunk.in_memory_storage()
        session = Repository.create(storage, config).writable_session("main")
        array = data.draw(
            zst.arrays(
                stores=st.just(session.store),
                zarr_formats=st.just(3),
                paths=zst.paths(max_num_nodes=2),
            )
        )
        model = np.array(array[...])
        for _ in range(2):
            index = data.draw(zst.basic_indices(shape=array.shape))
            value = array[index]
            array[index] = value
        np.testing.assert_array_equal(array[...], model)
        session.commit("all")
        store = Repository.open(storage).readonly_session("main").store
        found = zarr.open_array(store, path=array.path, mode="r")
        np.testing.assert_array_equal(found[...], model)

    check()

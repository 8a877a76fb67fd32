"""Random histories of one repository, compared with plain dictionaries after every step.

The model knows nothing of manifests, logs or merging: a state is two dictionaries, what a commit
does is keep a copy. Values are one byte repeated, so that sizes around the inline threshold occur.
"""

import copy
import itertools
import json
import pickle
import tempfile
from dataclasses import dataclass, field, replace

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from zarr.core.buffer import cpu
from zarr.core.sync import sync

import icechunk
from icechunk import ConflictError, ManifestSplittingConfig, Repository, RepositoryConfig
from icechunk.config import ManifestConfig

PATHS = ["", "a", "a/b", "b", "g", "g/a", "g/a.b", "g/é h", "g/h/i"]


@dataclass(frozen=True)
class Node:
    """A node of the model; `born` tells a node from another one at its path."""

    born: int
    attributes: int = 0
    grid: tuple[int, ...] | None = None
    chunks: tuple[tuple[tuple[int, ...], bytes], ...] = ()

    @property
    def document(self):
        found = {"zarr_format": 3, "attributes": {"x": self.attributes}, "node_type": "group"}
        if self.grid is not None:
            chunk_grid = {"name": "regular", "configuration": {"chunk_shape": [1] * len(self.grid)}}
            found |= {"node_type": "array", "shape": self.grid, "chunk_grid": chunk_grid}
        return json.dumps(found).encode()

    def with_chunks(self, **changes):
        return replace(self, chunks=tuple(sorted(changes["chunks"].items())))

    def inside(self):
        """Give the chunks that the grid has a place for."""
        return {
            coords: data
            for coords, data in self.chunks
            if all(c < n for c, n in zip(coords, self.grid, strict=True))
        }


@dataclass
class Work:
    """A session and what it should see."""

    session: icechunk.Session
    branch: str
    base: str
    nodes: dict[str, Node]
    before: dict[str, Node]
    touched: dict[int, set] = field(default_factory=dict)


def key_of(path, coords):
    return "/".join([*([path] if path else []), "c", *map(str, coords)])


def expected_values(nodes):
    found = {}
    for path, node in nodes.items():
        found[f"{path}/zarr.json".lstrip("/")] = node.document
        if node.grid is not None:
            found |= {key_of(path, coords): data for coords, data in node.inside().items()}
    return found


def committed(nodes):
    """Forget the chunks outside the grids, for good."""
    return {
        path: node if node.grid is None else node.with_chunks(chunks=node.inside())
        for path, node in nodes.items()
    }


def found_values(store):
    return {key: store.get_sync(key).to_bytes() for key in store.list()}


class RepositoryMachine(RuleBasedStateMachine):
    def __init__(self, folder=None):
        super().__init__()
        self.folder = folder
        self.works = []
        self.count = itertools.count(1)

    @initialize(
        threshold=st.sampled_from([0, 3, 512]),
        split=st.sampled_from([None, 1, 2, 3]),
    )
    def begin(self, threshold, split):
        if self.folder is None:
            self.storage = icechunk.in_memory_storage()
        else:
            place = tempfile.mkdtemp(dir=self.folder)
            self.storage = icechunk.local_filesystem_storage(place)
        self.repo = Repository.create(self.storage, self._config(threshold, split))
        tip = self.repo.lookup_branch("main")
        self.states = {tip: {}}
        self.parents = {tip: None}
        self.branches = {"main": tip}
        self.tags = {}
        self.used_tags = set()

    def _config(self, threshold, split):
        config = RepositoryConfig(inline_chunk_threshold_bytes=threshold)
        if split is not None:
            condition = icechunk.ManifestSplitCondition.AnyArray()
            axis = icechunk.ManifestSplitDimCondition.Any()
            sizes = ManifestSplittingConfig.from_dict({condition: {axis: split}})
            config.manifest = ManifestConfig(splitting=sizes)
        return config

    # --- sessions ------------------------------------------------------------------------------

    @rule(data=st.data())
    def open_session(self, data):
        if len(self.works) > 3:
            self.works.pop(0)
        branch = data.draw(st.sampled_from(sorted(self.branches)))
        tip = self.branches[branch]
        nodes = self.states[tip]
        session = self.repo.writable_session(branch)
        assert session.snapshot_id == tip
        self.works.append(Work(session, branch, tip, dict(nodes), nodes))

    def _work(self, data):
        return self.works[data.draw(st.integers(0, len(self.works) - 1), label="session")]

    has_session = precondition(lambda self: self.works)

    @has_session
    @rule(
        data=st.data(),
        path=st.sampled_from(PATHS),
        grid=st.one_of(
            st.none(), st.lists(st.integers(0, 5), max_size=3).map(tuple), st.just((5,))
        ),
    )
    def create(self, data, path, grid):
        work = self._work(data)
        self._create(work, work.session.store, path, grid)

    def _create(self, work, store, path, grid):
        if path in work.nodes:
            self._delete(work, store, path)
        node = Node(next(self.count), grid=grid)
        self._put(store, path, node)
        work.nodes[path] = node

    def _put(self, store, path, node):
        key = f"{path}/zarr.json".lstrip("/")
        store.set_sync(key, cpu.Buffer.from_bytes(node.document))

    @has_session
    @rule(data=st.data(), path=st.sampled_from(PATHS), by_directory=st.booleans())
    def delete(self, data, path, by_directory):
        work = self._work(data)
        self._delete(work, work.session.store, path, by_directory)

    def _delete(self, work, store, path, by_directory=True):
        if path not in work.nodes:
            return
        if by_directory:
            sync(store.delete_dir(path))
        else:
            store.delete_sync(f"{path}/zarr.json".lstrip("/"))
        for other in list(work.nodes):
            if path in ("", other) or other.startswith(f"{path}/"):
                del work.nodes[other]

    def _pick_array(self, data, nodes):
        arrays = sorted(path for path, node in nodes.items() if node.grid is not None)
        return data.draw(st.sampled_from(arrays)) if arrays else None

    @has_session
    @rule(data=st.data(), size=st.sampled_from([1, 3, 4, 600]), how_many=st.integers(1, 8))
    def write(self, data, size, how_many):
        work = self._work(data)
        path = self._pick_array(data, work.nodes)
        if path is not None:
            for _ in range(how_many):
                self._write(data, work, work.session.store, path, size)

    def _write(self, data, work, store, path, size):
        node = work.nodes[path]
        if 0 in node.grid:
            return
        coords = tuple(data.draw(st.integers(0, n - 1)) for n in node.grid)
        value = bytes([next(self.count) % 256]) * size
        store.set_sync(key_of(path, coords), cpu.Buffer.from_bytes(value))
        work.nodes[path] = node.with_chunks(chunks=dict(node.chunks) | {coords: value})
        work.touched.setdefault(node.born, set()).add(coords)

    @has_session
    @rule(data=st.data(), below=st.integers(0, 3))
    def erase(self, data, below):
        """Delete one chunk, or a directory of them."""
        work = self._work(data)
        path = self._pick_array(data, work.nodes)
        if path is None:
            return
        node = work.nodes[path]
        inside = node.inside()
        if not inside:
            return
        coords = data.draw(st.sampled_from(sorted(inside)))
        store = work.session.store
        if below >= len(coords):
            store.delete_sync(key_of(path, coords))
            gone = {coords}
        else:
            sync(store.delete_dir(key_of(path, coords[:below])))
            gone = {other for other in inside if other[:below] == coords[:below]}
        left = {c: value for c, value in node.chunks if c not in gone}
        work.nodes[path] = node.with_chunks(chunks=left)
        work.touched.setdefault(node.born, set()).update(gone)

    @has_session
    @rule(data=st.data(), attributes=st.integers(0, 3))
    def set_attributes(self, data, attributes):
        work = self._work(data)
        if work.nodes:
            path = data.draw(st.sampled_from(sorted(work.nodes)))
            work.nodes[path] = replace(work.nodes[path], attributes=attributes)
            self._put(work.session.store, path, work.nodes[path])

    @has_session
    @rule(data=st.data())
    def resize(self, data):
        work = self._work(data)
        path = self._pick_array(data, work.nodes)
        if path is not None:
            node = work.nodes[path]
            grid = tuple(data.draw(st.integers(0, 6)) for _ in node.grid)
            work.nodes[path] = replace(node, grid=grid)
            self._put(work.session.store, path, work.nodes[path])

    @has_session
    @rule(data=st.data())
    def discard(self, data):
        work = self._work(data)
        work.session.discard_changes()
        work.nodes, work.touched = dict(work.before), {}

    @has_session
    @rule(data=st.data())
    def distribute(self, data):
        """Write in forks, some of them pickled, and merge them in any order."""
        work = self._work(data)
        path = self._pick_array(data, work.nodes)
        parts = []
        for number in range(data.draw(st.integers(1, 3))):
            fork = work.session.fork()
            if data.draw(st.booleans(), label="pickle it"):
                fork = pickle.loads(pickle.dumps(fork))
            assert found_values(fork.store) == expected_values(committed(work.nodes))
            parts.append((number, fork))
        if path is not None and 0 not in work.nodes[path].grid:
            for number, fork in parts:
                # each its own part of the first axis, as a sensible user would do
                node = work.nodes[path]
                first = (
                    [i for i in range(node.grid[0]) if i % len(parts) == number]
                    if node.grid
                    else []
                )
                if not first and (node.grid or number):
                    continue
                coords = tuple(
                    data.draw(st.sampled_from(first))
                    if axis == 0
                    else data.draw(st.integers(0, n - 1))
                    for axis, n in enumerate(node.grid)
                )
                value = bytes([next(self.count) % 256]) * data.draw(st.sampled_from([1, 4, 600]))
                fork.store.set_sync(key_of(path, coords), cpu.Buffer.from_bytes(value))
                work.nodes[path] = node.with_chunks(chunks=dict(node.chunks) | {coords: value})
                work.touched.setdefault(node.born, set()).add(coords)
        number, fork = parts[0]
        place = f"new{next(self.count)}"
        node = Node(next(self.count), grid=(2,), chunks=(((1,), b"f"),))
        self._put(fork.store, place, node)
        fork.store.set_sync(f"{place}/c/1", cpu.Buffer.from_bytes(b"f"))
        work.nodes[place] = node
        work.touched[node.born] = {(1,)}
        forks = [fork for _, fork in parts]
        order = data.draw(st.permutations(forks), label="order")
        if data.draw(st.booleans(), label="travel back"):
            order = [pickle.loads(pickle.dumps(fork)) for fork in order]
        if data.draw(st.booleans(), label="one by one"):
            for fork in order:
                work.session.merge(fork)
        else:
            work.session.merge(*order)

    # --- commits -------------------------------------------------------------------------------

    @has_session
    @rule(data=st.data())
    def commit(self, data):
        work = self._work(data)
        session = work.session
        if work.branch not in self.branches:
            with pytest.raises(icechunk.IcechunkError):
                session.commit("m")
            assert not session.read_only
            return
        if self.branches[work.branch] != work.base:
            with pytest.raises(ConflictError) as caught:
                session.commit("m", allow_empty=True)
            assert caught.value.actual_parent == self.branches[work.branch]
            assert not session.read_only
            return
        if not session.has_uncommitted_changes:
            assert committed(work.nodes) == work.before
        new = session.commit(f"m{next(self.count)}", allow_empty=True)
        work.nodes = committed(work.nodes)
        self.states[new] = work.nodes
        self.parents[new] = work.base
        self.branches[work.branch] = new
        assert found_values(session.store) == expected_values(work.nodes)
        self.works.remove(work)

    @rule(data=st.data(), name=st.sampled_from(["x", "y", "z"]))
    def branch(self, data, name):
        if name not in self.branches:
            self.branches[name] = data.draw(st.sampled_from(list(self.states)))
            self.repo.create_branch(name, self.branches[name])
        elif data.draw(st.booleans()):
            self.repo.delete_branch(name)
            del self.branches[name]
        else:
            self.branches[name] = data.draw(st.sampled_from(list(self.states)))
            self.repo.reset_branch(name, self.branches[name])

    @rule(data=st.data(), name=st.sampled_from(["t", "u", "v"]))
    def tag(self, data, name):
        if name in self.tags:
            self.repo.delete_tag(name)
            del self.tags[name]
        elif name in self.used_tags:
            with pytest.raises(icechunk.AlreadyExistsError):
                self.repo.create_tag(name, self.branches["main"])
        else:
            self.tags[name] = data.draw(st.sampled_from(list(self.states)))
            self.used_tags.add(name)
            self.repo.create_tag(name, self.tags[name])

    @rule(
        threshold=st.sampled_from([0, 3, 512]),
        split=st.sampled_from([None, 1, 2, 3]),
        travel=st.booleans(),
    )
    def reopen(self, threshold, split, travel):
        self.repo = Repository.open(self.storage, self._config(threshold, split))
        if travel:
            self.repo = pickle.loads(pickle.dumps(self.repo))

    # --- what must hold ------------------------------------------------------------------------

    @rule(data=st.data())
    def look_back(self, data):
        """Every snapshot stays what it was."""
        snapshot = data.draw(st.sampled_from(list(self.states)))
        store = Repository.open(self.storage).readonly_session(snapshot_id=snapshot).store
        assert found_values(store) == expected_values(self.states[snapshot])

    @invariant()
    def refs_and_history_are_the_models(self):
        if not hasattr(self, "repo"):
            return
        assert self.repo.list_branches() == set(self.branches)
        assert self.repo.list_tags() == set(self.tags)
        for name, snapshot in self.tags.items():
            assert self.repo.lookup_tag(name) == snapshot
        for name, snapshot in self.branches.items():
            history = [entry.id for entry in self.repo.ancestry(branch=name)]
            expected = []
            while snapshot is not None:
                expected.append(snapshot)
                snapshot = self.parents[snapshot]
            assert history == expected

    @invariant()
    def sessions_see_their_edits(self):
        for work in self.works:
            assert found_values(work.session.store) == expected_values(work.nodes)

    @invariant()
    def status_tells_the_difference(self):
        for work in self.works:
            status = work.session.status()
            old = {node.born: (path, node) for path, node in work.before.items()}
            new = {node.born: (path, node) for path, node in work.nodes.items()}

            def paths(nodes, is_array):
                return {f"/{path}" for path, node in nodes if (node.grid is not None) == is_array}

            created = [new[born] for born in new.keys() - old.keys()]
            deleted = [old[born] for born in old.keys() - new.keys()]
            assert status.new_groups == paths(created, False)
            assert status.new_arrays == paths(created, True)
            assert status.deleted_groups == paths(deleted, False)
            assert status.deleted_arrays == paths(deleted, True)
            changed = [
                new[born]
                for born in old.keys() & new.keys()
                if old[born][1].document != new[born][1].document
            ]
            assert status.updated_groups >= paths(changed, False)
            assert status.updated_arrays >= paths(changed, True)
            written = {
                f"/{new[born][0]}": sorted(map(list, coords))
                for born, coords in work.touched.items()
                if born in new
            }
            for path, coords in written.items():
                assert status.updated_chunks[path] == coords


@pytest.mark.parametrize("place", ["memory", "local"])
def test_a_repository_is_what_its_history_says(place, tmp_path, effort):
    folder = str(tmp_path) if place == "local" else None
    run_state_machine_as_test(
        lambda: RepositoryMachine(folder),
        settings=settings(
            max_examples=(12 if folder is None else 5) * effort, stateful_step_count=40
        ),
    )


def test_the_model_itself_can_be_copied():
    """Nodes are values: a snapshot of the model does not change with later edits."""
    node = Node(1, grid=(2,), chunks=(((0,), b"0"),))
    assert copy.deepcopy(node) == node
    assert node.with_chunks(chunks={(1,): b"1"}) != node

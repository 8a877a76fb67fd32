"""Into which manifests commits put chunk references: every rule, on real repositories."""

import itertools
import math

import numpy as np
import pytest
import zarr

import icechunk
from icechunk.config import ManifestSplitCondition as Arrays
from icechunk.config import ManifestSplitDimCondition as Axes


def config(rules=None, **options):
    splitting = None if rules is None else icechunk.ManifestSplittingConfig.from_dict(rules)
    manifest = icechunk.ManifestConfig(splitting=splitting)
    return icechunk.RepositoryConfig(manifest=manifest, **options)


def by(*sizes):
    """Rules that split the axes of every array."""
    dims = {Axes.Axis(axis): size for axis, size in enumerate(sizes) if size is not None}
    return {Arrays.AnyArray(): dims}


class Manifests:
    """A repository of one session at a time, and the manifests of its arrays."""

    def __init__(self, storage, rules=None):
        self.storage = storage
        self.repo = icechunk.Repository.create(storage, config(rules))

    def configure(self, rules):
        self.repo = icechunk.Repository.open(self.storage, config(rules))

    def commit(self, edit):
        session = self.repo.writable_session("main")
        edit(zarr.open_group(session.store, mode="a"))
        session.commit("edit")

    def refs(self, path="/x"):
        """Manifest ids of an array by extents, in the order of the snapshot."""
        snapshot = self.repo.inspect_snapshot(self.repo.lookup_branch("main"))
        [node] = [node for node in snapshot["nodes"] if node["path"] == path]
        return {tuple(map(tuple, ref["extents"])): ref["id"] for ref in node["manifest_refs"]}

    def counts(self, path="/x"):
        """References of each manifest of an array, by extents."""
        return {extents: self.count(id) for extents, id in self.refs(path).items()}

    def count(self, manifest_id):
        found = self.repo.inspect_manifest(manifest_id)
        assert found["num_arrays"] == 1
        return found["total_chunk_refs"]

    def files(self):
        return {info.id for info in self.repo.list_manifest_files(self.repo.lookup_branch("main"))}

    def written(self):
        """How many manifests there are altogether, also those of older commits."""
        return len(list(self.storage.list("manifests/")))

    def read(self, path="x"):
        store = self.repo.readonly_session("main").store
        return zarr.open_array(store, path=path, mode="r")[...]


def make(shape=(10, 2), name="x", value=1, names=None, chunk=1):
    def edit(root):
        array = root.create_array(
            name, shape=shape, chunks=(chunk,) * len(shape), dtype="i2", dimension_names=names
        )
        if value is not None:
            array[...] = value

    return edit


def put(selection, value, path="x"):
    return lambda root: root[path].__setitem__(selection, value)


def resize(*shape, path="x"):
    return lambda root: root[path].resize(shape)


def set_attribute(root, path="x"):
    root[path].attrs["touched"] = len(root[path].attrs)


class TestWorkedExample:
    """Ten by two chunks, the first axis split every three."""

    @pytest.fixture
    def manifests(self, storage):
        manifests = Manifests(storage, by(3))
        manifests.commit(make())
        return manifests

    FIRST = {((0, 3), (0, 2)): 6, ((3, 6), (0, 2)): 6, ((6, 9), (0, 2)): 6, ((9, 10), (0, 2)): 2}

    def test_first_commit(self, manifests):
        assert manifests.counts() == self.FIRST
        assert list(manifests.refs()) == list(self.FIRST), "in order of the grid"

    def test_one_chunk_touched(self, manifests):
        before = manifests.refs()
        manifests.commit(put((4, 1), 7))
        after = manifests.refs()
        assert manifests.counts() == self.FIRST
        changed = [extents for extents in after if after[extents] != before[extents]]
        assert changed == [((3, 6), (0, 2))]

    @pytest.mark.parametrize(
        "edit",
        [
            set_attribute,
            lambda root: root.create_group("new/group"),
            lambda root: root.attrs.update(a=1),
            make(name="other"),
        ],
        ids=["attributes", "group", "root attributes", "another array"],
    )
    def test_chunks_untouched(self, manifests, edit):
        before = manifests.refs()
        manifests.commit(edit)
        assert manifests.refs() == before

    def test_grown_and_written(self, manifests):
        before = manifests.refs()
        manifests.commit(lambda root: (resize(11, 2)(root), put(10, 5)(root)))
        after = manifests.refs()
        assert manifests.counts() == {
            **dict(list(self.FIRST.items())[:3]),
            ((9, 11), (0, 2)): 4,
        }
        assert list(after.values())[:3] == list(before.values())[:3]

    def test_grown_only(self, manifests):
        before = manifests.refs()
        manifests.commit(resize(100, 5))
        assert manifests.refs() == before, "extents are those of chunks, not of the grid"

    def test_shrunk(self, manifests):
        before = manifests.refs()
        manifests.commit(resize(4, 2))
        assert manifests.counts() == {((0, 3), (0, 2)): 6, ((3, 4), (0, 2)): 2}
        assert manifests.refs()[((0, 3), (0, 2))] == before[((0, 3), (0, 2))]
        assert len(manifests.files()) == 2
        manifests.commit(resize(10, 2))
        expected = np.zeros((10, 2))
        expected[:4] = 1
        np.testing.assert_array_equal(manifests.read(), expected)

    def test_shrunk_then_split_the_other_way(self, manifests):
        manifests.commit(resize(4, 2))
        manifests.configure(by(None, 1))
        manifests.commit(set_attribute)
        assert manifests.counts() == {
            ((0, 3), (0, 1)): 3,
            ((3, 4), (0, 1)): 1,
            ((0, 3), (1, 2)): 3,
            ((3, 4), (1, 2)): 1,
        }
        before = set(manifests.refs().values())
        manifests.repo.rewrite_manifests("ideal", branch="main")
        assert manifests.counts() == {((0, 4), (0, 1)): 4, ((0, 4), (1, 2)): 4}
        assert not before & set(manifests.refs().values())
        np.testing.assert_array_equal(manifests.read(), np.ones((4, 2)))


def test_by_default_all_chunks_share_a_manifest(storage):
    manifests = Manifests(storage)
    manifests.commit(make((30, 3)))
    assert manifests.counts() == {((0, 30), (0, 3)): 90}
    manifests.commit(put((29, 2), 5))
    assert manifests.counts() == {((0, 30), (0, 3)): 90}


@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 3, 1), (4, 5, 6), (3, None, 2), (100, 2, None)])
def test_the_number_of_manifests_is_the_product_over_axes(storage, sizes):
    shape = (4, 5, 6)
    manifests = Manifests(storage, by(*sizes))
    manifests.commit(make(shape))
    cuts = [
        [(low, min(low + (size or n), n)) for low in range(0, n, size or n)]
        for n, size in zip(shape, sizes, strict=True)
    ]
    boxes = list(itertools.product(*cuts))
    assert len(boxes) == math.prod(
        math.ceil(n / (size or n)) for n, size in zip(shape, sizes, strict=True)
    )
    assert manifests.counts() == {box: math.prod(high - low for low, high in box) for box in boxes}
    assert list(manifests.refs()) == boxes


def test_sizes_are_chunks_not_elements(storage):
    manifests = Manifests(storage, by(2))
    manifests.commit(make((30,), chunk=5))
    assert manifests.counts() == {((0, 2),): 2, ((2, 4),): 2, ((4, 6),): 2}


def test_scalar_arrays_have_one_manifest(storage):
    manifests = Manifests(storage, {Arrays.AnyArray(): {Axes.Any(): 1}})
    manifests.commit(make(()))
    first = manifests.refs()
    assert manifests.counts() == {(): 1}
    manifests.commit(set_attribute)
    assert manifests.refs() == first
    manifests.commit(put((), 5))
    assert manifests.counts() == {(): 1}
    assert manifests.refs() != first


def test_appending_writes_the_new_splits_of_each_array(storage):
    manifests = Manifests(storage, {Arrays.AnyArray(): {Axes.DimensionName("time"): 4}})
    names = ("a", "b", "c")
    for name in names:
        manifests.commit(make((8, 2), name, names=("time", "x")))
    before = manifests.written()
    assert before == 6
    kept = [manifests.refs(f"/{name}") for name in names]

    def append(root):
        for name in names:
            root[name].resize((16, 2))
            root[name][8:] = 2

    manifests.commit(append)
    assert manifests.written() == before + len(names) * 2
    for name, old in zip(names, kept, strict=True):
        assert dict(list(manifests.refs(f"/{name}").items())[:2]) == old


def test_overwriting_rewrites_the_touched_splits(storage):
    manifests = Manifests(storage, by(4))
    manifests.commit(make((12,)))
    before = manifests.written()
    manifests.commit(put(slice(None), 3))
    assert manifests.written() == before + 3
    manifests.commit(put(slice(3, 5), 4))
    assert manifests.written() == before + 5


def test_only_splits_with_chunks_have_manifests_with_tight_extents(storage):
    manifests = Manifests(storage, by(10, 10))
    manifests.commit(make((100, 100), value=None))
    assert manifests.refs() == {}
    assert manifests.files() == set()
    manifests.commit(
        lambda root: [put((r, c), 1)(root) for r, c in [(5, 7), (5, 8), (55, 99), (99, 0)]]
    )
    assert manifests.counts() == {
        ((5, 6), (7, 9)): 2,
        ((55, 56), (99, 100)): 1,
        ((99, 100), (0, 1)): 1,
    }
    manifests.commit(put((1, 1), 1))
    assert ((1, 6), (1, 9)) in manifests.counts()


def test_deleting_makes_extents_tight_again_and_empty_manifests_go(storage):
    manifests = Manifests(storage, by(5))
    manifests.commit(make((10,)))

    def delete(*chunks):
        def edit(root):
            for chunk in chunks:
                zarr.core.sync.sync(root.store.delete(f"x/c/{chunk}"))

        return edit

    manifests.commit(delete(0, 4))
    assert manifests.counts() == {((1, 4),): 3, ((5, 10),): 5}
    manifests.commit(delete(1, 2, 3))
    assert manifests.counts() == {((5, 10),): 5}
    assert len(manifests.files()) == 1
    manifests.commit(delete(*range(5, 10)))
    assert manifests.refs() == {}
    np.testing.assert_array_equal(manifests.read(), np.zeros(10))


class TestRules:
    def test_paths_names_and_combinations(self, storage):
        rules = {
            Arrays.path_matches("^/g/") & Arrays.name_matches("^b$"): {Axes.Any(): 1},
            Arrays.path_matches("^/g/") | Arrays.name_matches("c"): {Axes.Any(): 2},
            Arrays.name_matches("("): {Axes.Any(): 3},
            Arrays.AnyArray(): {Axes.Any(): 5},
        }
        manifests = Manifests(storage, rules)
        expected = {"g/b": 10, "g/a": 5, "b": 2, "arc": 5, "g/d/b": 10, "gg": 2}
        for name, number in expected.items():
            manifests.commit(make((10,), name))
            assert len(manifests.refs(f"/{name}")) == number, name

    def test_an_axis_is_assigned_once_and_later_rules_fill_the_rest(self, storage):
        rules = {
            Arrays.name_matches("x"): {Axes.DimensionName("^lat"): 2, Axes.Axis(0): 5},
            Arrays.AnyArray(): {Axes.Axis(0): 1, Axes.Axis(2): 3},
        }
        manifests = Manifests(storage, rules)
        manifests.commit(make((10, 4, 6), names=("time", "latitude", None)))
        assert len(manifests.refs()) == 2 * 2 * 2
        # no rule speaks of the second axis of this one: it is one range
        manifests.commit(make((10, 4, 6), "y", names=("time", "latitude", None)))
        assert len(manifests.refs("/y")) == 10 * 1 * 2

    def test_the_first_dimension_condition_decides(self, storage):
        rules = {Arrays.AnyArray(): {Axes.Any(): 5, Axes.Axis(0): 1}}
        manifests = Manifests(storage, rules)
        manifests.commit(make((10, 10)))
        assert len(manifests.refs()) == 4

    def test_unnamed_dimensions_have_no_name(self, storage):
        manifests = Manifests(storage, {Arrays.AnyArray(): {Axes.DimensionName(".*"): 1}})
        manifests.commit(make((4, 4), names=(None, "a")))
        manifests.commit(make((4, 4), "y"))
        assert len(manifests.refs()) == 4
        assert len(manifests.refs("/y")) == 1

    def test_an_invalid_pattern_of_a_dimension_leaves_the_axis_to_others(self, storage):
        rules = {Arrays.AnyArray(): {Axes.DimensionName("["): 1, Axes.Any(): 2}}
        manifests = Manifests(storage, rules)
        manifests.commit(make((4,), names=("[",)))
        assert len(manifests.refs()) == 2

    def test_names_of_dimensions_are_those_at_the_commit(self, storage):
        manifests = Manifests(storage, {Arrays.AnyArray(): {Axes.DimensionName("^t$"): 1}})
        manifests.commit(make((4,), names=("x",)))
        assert len(manifests.refs()) == 1

        def rename(root):
            import json

            from zarr.core.buffer import default_buffer_prototype

            prototype = default_buffer_prototype()
            run = zarr.core.sync.sync
            document = json.loads(run(root.store.get("x/zarr.json", prototype)).to_bytes())
            document["dimension_names"] = ["t"]
            data = prototype.buffer.from_bytes(json.dumps(document).encode())
            run(root.store.set("x/zarr.json", data))

        manifests.commit(rename)
        assert len(manifests.refs()) == 4


class TestChangedConfiguration:
    def test_what_is_passed_at_opening_goes_over_what_is_stored(self, storage):
        manifests = Manifests(storage, by(5))
        manifests.repo.save_config()
        manifests.repo = icechunk.Repository.open(storage)
        manifests.commit(make((10,)))
        assert len(manifests.refs()) == 2
        manifests.configure(by(2))
        manifests.commit(make((10,), "y"))
        assert len(manifests.refs("/y")) == 5
        manifests.repo = icechunk.Repository.open(storage)
        manifests.commit(make((10,), "z"))
        assert len(manifests.refs("/z")) == 2

    def test_untouched_arrays_stay_as_they_are(self, storage):
        manifests = Manifests(storage, by(5))
        manifests.commit(make((10,)))
        manifests.commit(make((10,), "y"))
        before = manifests.refs()
        manifests.configure(by(2))
        manifests.commit(put(0, 5, "y"))
        assert manifests.refs() == before
        assert len(manifests.refs("/y")) > 2
        np.testing.assert_array_equal(manifests.read(), np.ones(10))

    def test_coarser_splits_keep_finer_manifests_where_nothing_was_written(self, storage):
        manifests = Manifests(storage, by(2))
        manifests.commit(make((8,)))
        before = manifests.refs()
        manifests.configure(by(4))
        manifests.commit(set_attribute)
        assert manifests.refs() == before, "each old manifest lies in one split"
        manifests.commit(put(1, 9))
        after = manifests.counts()
        assert after == {((0, 4),): 4, ((4, 6),): 2, ((6, 8),): 2}
        assert manifests.refs()[((4, 6),)] == before[((4, 6),)]
        manifests.repo.rewrite_manifests("ideal", branch="main")
        assert manifests.counts() == {((0, 4),): 4, ((4, 8),): 4}

    def test_finer_splits_cut_each_old_manifest(self, storage):
        manifests = Manifests(storage, by(4))
        manifests.commit(make((8,)))
        manifests.configure(by(3))
        manifests.commit(set_attribute)
        # one new manifest per old manifest and split: the middle split has two
        assert manifests.counts() == {((0, 3),): 3, ((3, 4),): 1, ((4, 6),): 2, ((6, 8),): 2}
        manifests.commit(put(5, 3))
        assert manifests.counts() == {((0, 3),): 3, ((3, 6),): 3, ((6, 8),): 2}

    def test_a_written_split_takes_the_rest_of_it_along(self, storage):
        manifests = Manifests(storage, by(4))
        manifests.commit(make((8,)))
        manifests.configure(by(3))
        manifests.commit(put(5, 3))
        assert manifests.counts() == {((0, 3),): 3, ((3, 6),): 3, ((6, 8),): 2}
        np.testing.assert_array_equal(manifests.read(), [1, 1, 1, 1, 1, 3, 1, 1])

    @pytest.mark.parametrize("rules", [None, by(1), by(7, 7), {}])
    def test_reading_does_not_depend_on_it(self, storage, rules):
        manifests = Manifests(storage, by(3, 2))
        values = np.arange(100).reshape(10, 10)
        manifests.commit(make((10, 10), value=values))
        manifests.configure(rules)
        np.testing.assert_array_equal(manifests.read(), values)


def test_every_new_manifest_is_listed_with_its_size_and_number(storage):
    manifests = Manifests(storage, by(3))
    manifests.commit(make())
    manifests.commit(put(slice(4, 8), 2))
    tip = manifests.repo.lookup_branch("main")
    snapshot = manifests.repo.inspect_snapshot(tip)
    listed = {file["id"]: file for file in snapshot["manifests"]}
    assert listed.keys() == set(manifests.refs().values())
    sizes = {info.key.removeprefix("manifests/"): info.size for info in storage.list("manifests/")}
    for manifest_id, file in listed.items():
        assert file["size_bytes"] == sizes[manifest_id]
        assert file["num_chunk_refs"] == manifests.count(manifest_id)

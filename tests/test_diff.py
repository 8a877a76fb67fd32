"""What `Repository.diff` says about two points of a history."""

import asyncio
import copy
import logging
import pickle
import threading
from dataclasses import replace

import pytest
import zarr

import icechunk
from icechunk import Diff, InvalidInputError, RefNotFoundError, SnapshotNotFoundError, StorageError
from icechunk.format.ids import decode_id
from icechunk.format.layout import transaction_key
from icechunk.format.repo_info import decode_repo_info, encode_repo_info
from icechunk.format.snapshot_table import SnapshotTable
from icechunk.testing.wrapper import StorageWrapper


@pytest.fixture
def history(repo):
    """Function that commits what a callable does to the root group, and returns the snapshot."""

    def commit(edit):
        session = repo.writable_session("main")
        edit(zarr.open_group(session.store))
        return session.commit("a commit", allow_empty=True)

    return commit


@pytest.fixture
def points(repo, history):
    """Ids of a history in which everything happens but moves."""

    def first(root):
        root.create_array("a", shape=(8,), chunks=(2,), dtype="i4")[:] = 1
        root.create_group("g").create_array("x", shape=(4, 2), chunks=(2, 1), dtype="i4")

    def temporary(root):
        root.create_array("t", shape=(4,), chunks=(2,), dtype="i4")[:] = 3

    def recreate(root):
        del root["a"]
        root.create_array("a", shape=(8,), chunks=(4,), dtype="i4")[:4] = 1

    edits = [
        first,
        lambda root: root["a"].__setitem__(slice(4, 8), 5),
        temporary,
        lambda root: root.__delitem__("t") or root.attrs.update(n=1),
        lambda root: root["g/x"].__setitem__((slice(2, 4), 0), 1) or root["a"].attrs.update(n=1),
        recreate,
        lambda root: root.__delitem__("g"),
    ]
    return [repo.lookup_branch("main"), *map(history, edits)]


def between(repo, points, first, last):
    return repo.diff(from_snapshot_id=points[first], to_snapshot_id=points[last])


class TestContents:
    def test_creation(self, repo, points):
        assert between(repo, points, 0, 1) == Diff(
            new_groups={"/", "/g"},
            new_arrays={"/a", "/g/x"},
            updated_chunks={"/a": [[0], [1], [2], [3]]},
        )

    def test_chunks_alone_do_not_update_the_array(self, repo, points):
        assert between(repo, points, 1, 2) == Diff(updated_chunks={"/a": [[2], [3]]})

    def test_what_came_and_went_is_left_out(self, repo, points):
        assert between(repo, points, 1, 4) == Diff(
            updated_groups={"/"}, updated_chunks={"/a": [[2], [3]]}
        )
        assert between(repo, points, 2, 3).new_arrays == {"/t"}
        assert between(repo, points, 3, 4) == Diff(updated_groups={"/"}, deleted_arrays={"/t"})

    def test_chunks_of_several_commits_are_united(self, repo, points):
        assert between(repo, points, 0, 5).updated_chunks == {
            "/a": [[0], [1], [2], [3]],
            "/g/x": [[1, 0]],
        }

    def test_metadata(self, repo, points):
        assert between(repo, points, 4, 5).updated_arrays == {"/a"}

    def test_recreation_is_in_both_sets(self, repo, points):
        diff = between(repo, points, 5, 6)
        assert diff == Diff(new_arrays={"/a"}, deleted_arrays={"/a"}, updated_chunks={"/a": [[0]]})

    def test_deletion_of_a_tree(self, repo, points):
        assert between(repo, points, 6, 7) == Diff(deleted_groups={"/g"}, deleted_arrays={"/g/x"})

    def test_nothing(self, repo, history):
        tip = history(lambda root: root)
        later = history(lambda root: None)
        diff = repo.diff(from_snapshot_id=tip, to_snapshot_id=later)
        assert diff == Diff()
        assert diff.is_empty()
        assert repr(diff) == ""

    def test_text(self, repo, points):
        assert repr(between(repo, points, 1, 5)) == (
            "Group definitions updated:\n    /\n\n"
            "Array definitions updated:\n    /a\n\n"
            "Chunks updated:\n    /a:\n        [2]\n        [3]\n    /g/x:\n        [1, 0]\n"
        )


class TestSelectors:
    def test_every_kind_names_the_same(self, repo, points):
        repo.create_branch("old", points[1])
        repo.create_tag("v1", points[1])
        repo.create_tag("v2", points[5])
        expected = between(repo, points, 1, 5)
        for start in ({"from_branch": "old"}, {"from_tag": "v1"}, {"from_snapshot_id": points[1]}):
            for end in ({"to_tag": "v2"}, {"to_snapshot_id": points[5]}):
                assert repo.diff(**start, **end) == expected
        assert repo.diff(from_tag="v2", to_branch="main") == between(repo, points, 5, 7)
        assert asyncio.run(repo.diff_async(from_tag="v1", to_tag="v2")) == expected

    @pytest.mark.parametrize(
        "selectors",
        [
            {},
            {"from_branch": "main"},
            {"to_branch": "main"},
            {"from_branch": "main", "from_tag": "v1", "to_branch": "main"},
            {"from_branch": "main", "to_branch": "main", "to_tag": "v1"},
        ],
    )
    def test_one_for_each_side(self, repo, selectors):
        with pytest.raises(ValueError, match="Must provide one of branch, tag, or snapshot_id"):
            repo.diff(**selectors)

    def test_what_does_not_exist(self, repo, points):
        for selectors in (
            {"from_branch": "absent", "to_branch": "main"},
            {"from_snapshot_id": points[0], "to_branch": "absent"},
            {"from_snapshot_id": points[0], "to_tag": "absent"},
        ):
            with pytest.raises(RefNotFoundError, match="absent") as caught:
                repo.diff(**selectors)
            assert caught.value.kind == "ref-not-found"
        with pytest.raises(SnapshotNotFoundError) as caught:
            repo.diff(from_snapshot_id="0" * 20, to_branch="main")
        assert caught.value.kind == "snapshot-not-found"
        with pytest.raises(InvalidInputError, match="bad") as caught:
            repo.diff(from_branch="main", to_snapshot_id="bad")
        assert caught.value.kind == "invalid-snapshot-id"

    @pytest.mark.parametrize(("first", "last"), [(3, 3), (5, 2), (0, 0), (7, 0)])
    def test_the_later_point_must_come_later(self, repo, points, first, last):
        with pytest.raises(InvalidInputError, match="doesn't include") as caught:
            between(repo, points, first, last)
        assert caught.value.kind == "bad-snapshot-chain-for-diff"

    def test_points_of_other_branches(self, repo, points):
        repo.create_branch("other", points[2])
        session = repo.writable_session("other")
        session.commit("aside", allow_empty=True)
        with pytest.raises(InvalidInputError, match="doesn't include"):
            repo.diff(from_branch="other", to_branch="main")
        assert repo.diff(from_snapshot_id=points[1], to_branch="other").updated_chunks == {
            "/a": [[2], [3]]
        }


class TestPrunedHistory:
    @pytest.fixture
    def pruned(self, repo, storage, points):
        """Make the tip a child of the first commit, its ancestors in between expired."""
        info = decode_repo_info(storage.get("repo"))
        between = [decode_id(point) for point in points[2:7]]
        tip = decode_id(points[7])
        table = info.snapshots.reparent({tip: (decode_id(points[1]), tuple(between))})
        stays = SnapshotTable.from_entries(item for item in table if item.id not in between)
        storage.put("repo", encode_repo_info(replace(info, snapshots=stays)))
        return between

    def test_same_result_as_before(self, repo, points, pruned):
        assert between(repo, points, 1, 7) == Diff(
            updated_groups={"/"},
            new_arrays={"/a"},
            deleted_arrays={"/a", "/g/x"},
            deleted_groups={"/g"},
            updated_arrays={"/a"},
            updated_chunks={"/a": [[0]], "/g/x": [[1, 0]]},
        )

    def test_missing_ones_are_skipped_with_a_warning(self, repo, storage, points, pruned, caplog):
        storage.delete([transaction_key(pruned[0]), transaction_key(pruned[4])])
        with caplog.at_level(logging.WARNING, "icechunk"):
            diff = between(repo, points, 1, 7)
        assert diff.new_arrays == set()
        assert diff.deleted_groups == {"/g"}
        warnings = [record.getMessage() for record in caplog.records]
        assert len(warnings) == 2
        assert points[2] in warnings[0]
        assert points[6] in warnings[1]

    def test_the_log_of_a_commit_that_is_there_must_be_there(self, repo, storage, points):
        storage.delete([transaction_key(decode_id(points[3]))])
        with pytest.raises(StorageError, match=points[3]) as caught:
            between(repo, points, 1, 4)
        assert caught.value.kind == "object-not-found"


class TestDiffObject:
    def test_attributes_are_plain_collections(self, repo, points):
        diff = between(repo, points, 0, 7)
        assert type(diff) is Diff
        for name in ("new_groups", "new_arrays", "deleted_groups", "updated_arrays"):
            assert type(getattr(diff, name)) is set
        assert type(diff.updated_chunks) is dict
        assert diff.updated_chunks is diff.updated_chunks
        assert all(
            type(row) is list and type(row[0]) is int
            for rows in diff.updated_chunks.values()
            for row in rows
        )
        assert diff.moved_nodes == []

    def test_equality_copies_and_pickles(self, repo, points):
        for prepare in (lambda diff: diff, lambda diff: diff.updated_chunks and diff):
            diff = prepare(between(repo, points, 0, 5))
            assert diff == between(repo, points, 0, 5)
            assert diff != between(repo, points, 0, 4)
            assert copy.deepcopy(diff) == diff
            assert pickle.loads(pickle.dumps(diff)) == diff
            assert not diff.is_empty()

    def test_other_attributes_do_not_exist(self):
        with pytest.raises(AttributeError, match="moved_chunks"):
            Diff().moved_chunks  # noqa: B018
        assert Diff(updated_chunks={"/a": [[1]]}).updated_chunks == {"/a": [[1]]}
        assert not Diff(updated_chunks={"/a": [[1]]}).is_empty()


class Gathering(StorageWrapper):
    """Answers for transaction logs only once four are being asked for."""

    def __init__(self, inner):
        super().__init__(inner)
        self.is_local = False
        self.waiting = 0
        self.lock = threading.Lock()
        self.together = threading.Event()

    def _before(self, operation, key):
        if key.startswith("transactions/"):
            with self.lock:
                self.waiting += 1
                if self.waiting >= 4:
                    self.together.set()
            assert self.together.wait(30), "logs are fetched one after the other"


def test_remote_logs_are_fetched_together(points, repo, storage):
    remote = icechunk.Repository.open(Gathering(storage))
    assert between(remote, points, 0, 7) == between(repo, points, 0, 7)

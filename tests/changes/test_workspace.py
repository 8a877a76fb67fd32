"""What a process forked at any moment finds: a view of the nodes goes with its base and edits."""

import pytest
import zarr

from icechunk import BasicConflictSolver, Repository
from icechunk.changes.workspace import Workspace


class Watched(Workspace):
    """Looks at itself after every step, as a child forked then would."""

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        nodes = self._nodes
        if nodes is not None:
            assert nodes.changes is self.changes, name
            assert nodes.base.id == self.snapshot_id, name
        steps.append(name)


steps = []


@pytest.fixture
def repo(storage):
    repo = Repository.create(storage)
    session = repo.writable_session("main")
    zarr.create_group(session.store, path="a")
    session.commit("a")
    steps.clear()
    return repo


def watched(session):
    session._workspace.__class__ = Watched
    return session


def rival(repo):
    session = repo.writable_session("main")
    zarr.create_group(session.store, path="rival")
    session.commit("rival")


def test_commits_and_rebases(repo):
    session = watched(repo.writable_session("main"))
    zarr.create_group(session.store, path="mine")
    rival(repo)
    session.commit("mine", rebase_with=BasicConflictSolver())
    assert steps.count("snapshot_id") == 2
    names = dict(zarr.open_group(repo.readonly_session("main").store, mode="r").members())
    assert set(names) == {"a", "mine", "rival"}


def test_discards(repo):
    session = watched(repo.writable_session("main"))
    zarr.create_group(session.store, path="mine")
    session.discard_changes()
    assert "changes" in steps


def test_what_is_taken_back(repo):
    session = watched(repo.writable_session("main"))
    zarr.create_group(session.store, path="kept")

    def fail():
        with session._workspace.undone_on_error():
            zarr.create_group(session.store, path="undone")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert "changes" in steps
    assert set(session.status().new_groups) == {"/kept"}


def test_moves(repo):
    session = watched(repo.rearrange_session("main"))
    workspace = session._workspace
    assert workspace.nodes.find("/a") is not None

    class Moves(list):
        def append(self, move):
            assert workspace._nodes is None  # the old tree is gone before the move is there
            super().append(move)

    workspace.changes.moves = Moves(workspace.changes.moves)
    session.move("/a", "/b")
    assert workspace.nodes.find("/b") is not None
    session.commit("moved")

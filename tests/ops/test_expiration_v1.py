"""Version 1: ref by ref, in order, and snapshot files that are rewritten one by one."""

from dataclasses import replace

import pytest

import icechunk
from icechunk import RepositoryConfig, StorageError
from icechunk.assets.manager import AssetManager
from icechunk.format.layout import snapshot_key
from icechunk.format.nodes import NodeTable
from icechunk.format.repo_info import RepoInfo
from icechunk.format.snapshot import Snapshot, decode_snapshot, encode_snapshot
from icechunk.format.snapshot_table import SnapshotEntry, SnapshotTable
from icechunk.ops.expiration import Rule
from icechunk.ops.expiration_v1 import find_expired_refs
from icechunk.ops.expire_v1 import rewrite_parents
from icechunk.testing import FaultyStorage

PARENTS = {"root": None, "m1": "root", "m2": "m1", "o1": "m1", "m3": "m2", "n3": "m2", "m4": "m3"}
IDS = {name: bytes([number + 1]) * 12 for number, name in enumerate(PARENTS)}
OLD = 40  # o1 is older, m3 is not


def info_of(branches, tags):
    entries = [
        SnapshotEntry(IDS[name], IDS.get(parent), 10 * at, name)
        for at, (name, parent) in enumerate(PARENTS.items())
    ]
    return RepoInfo(
        SnapshotTable.from_entries(entries),
        branches={name: IDS[tip] for name, tip in branches.items()},
        tags={name: IDS[tip] for name, tip in tags.items()},
    )


def ids(*names):
    return {IDS[name] for name in names}


def found(branches, tags=None, older_than=OLD, **flags):
    return find_expired_refs(info_of(branches, tags or {}), Rule(older_than, **flags))


EXAMPLE = {"main": "m4", "old": "o1"}, {"t": "m1"}


def test_released_snapshots_may_be_in_use():
    result = found(*EXAMPLE)
    assert result.released == ids("m1", "m2", "o1")  # the branch is still at o1
    assert result.parents == {IDS["m3"]: IDS["root"], IDS["o1"]: IDS["root"]}
    assert (result.branches, result.tags) == ({}, {})


def test_refs_go_if_wanted():
    result = found(*EXAMPLE, delete_expired_branches=True, delete_expired_tags=True)
    assert (result.branches, result.tags) == ({"old": IDS["o1"]}, {"t": IDS["m1"]})


def test_main_stays_even_when_all_of_it_has_expired():
    result = found({"main": "m4"}, older_than=1000, delete_expired_branches=True)
    assert result.released == ids("m1", "m2", "m3", "m4")
    assert result.parents == {IDS["m4"]: IDS["root"]}
    assert result.branches == {}


def test_a_later_ref_sees_what_an_earlier_one_changed():
    """The tag is first, and cuts the history of the branch, too."""
    result = found({"main": "m4"}, {"t": "m3"})
    assert result.parents == {IDS["m3"]: IDS["root"]}
    assert result.released == ids("m1", "m2")


@pytest.mark.parametrize("older_than", [-5, 0, 10])
def test_nothing_has_expired(older_than):
    result = found(*EXAMPLE, older_than=older_than)
    assert (result.released, result.parents) == (frozenset(), {})


def test_refs_at_an_old_root_go():
    """Unlike in version 2, where the root does not expire."""
    flags = {"delete_expired_branches": True, "delete_expired_tags": True}
    result = found({"main": "root", "b": "root"}, {"t": "root"}, **flags)
    assert (set(result.branches), set(result.tags)) == ({"b"}, {"t"})


# --- rewriting -----------------------------------------------------------------------------------


def snapshot_of(name, parent):
    nodes = NodeTable.from_nodes([])
    parent_id = None if parent is None else IDS[parent]
    return Snapshot(IDS[name], parent_id, nodes, 5, f"say {name}", {"a": [1]}, (), spec_version=1)


def stored_in(storage):
    return {name: decode_snapshot(storage.get(snapshot_key(IDS[name])), name) for name in PARENTS}


@pytest.fixture
def inner():
    storage = icechunk.in_memory_storage()
    for name, parent in PARENTS.items():
        storage.put(snapshot_key(IDS[name]), encode_snapshot(snapshot_of(name, parent)))
    return storage


NEW = {IDS["m3"]: IDS["root"], IDS["n3"]: IDS["root"]}


def test_only_the_parent_is_another(inner):
    before = stored_in(inner)
    assets = AssetManager.fresh(inner, RepositoryConfig())
    assert assets.snapshot(IDS["m3"]).parent_id == IDS["m2"]
    rewrite_parents(assets, NEW)
    assert assets.snapshot(IDS["m3"]).parent_id == IDS["root"]  # what was kept is replaced
    for name, snapshot in stored_in(inner).items():
        parent_id = NEW.get(IDS[name], before[name].parent_id)
        data = encode_snapshot(replace(before[name], parent_id=parent_id))
        assert inner.get(snapshot_key(IDS[name])) == data
        assert (snapshot.parent_id, snapshot.spec_version) == (parent_id, 1)


def test_what_is_rewritten_already_is_left_alone(inner):
    rewrite_parents(AssetManager.fresh(inner, RepositoryConfig()), NEW)
    counted = FaultyStorage(inner)
    rewrite_parents(AssetManager.fresh(counted, RepositoryConfig()), NEW)
    assert [operation for operation, _ in counted.effects] == ["flush"]


@pytest.mark.parametrize("sticky", [False, True])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("fail_at", [0, 1, 2])
def test_a_stop_anywhere_leaves_whole_histories(inner, fail_at, after, sticky):
    storage = FaultyStorage(inner, fail_at=fail_at, after=after, sticky=sticky)
    with pytest.raises(StorageError):
        rewrite_parents(AssetManager.fresh(storage, RepositoryConfig()), NEW)
    for snapshot in stored_in(inner).values():
        before = IDS.get(PARENTS[snapshot.message.removeprefix("say ")])
        assert snapshot.parent_id in (before, NEW.get(snapshot.id, before))
    rewrite_parents(AssetManager.fresh(inner, RepositoryConfig()), NEW)
    assert {key: stored_in(inner)[name].parent_id for name, key in IDS.items() if key in NEW} == NEW


# --- as users see it -----------------------------------------------------------------------------


def commit(repo, message, branch="main"):
    return repo.writable_session(branch).commit(message, allow_empty=True)


@pytest.fixture
def aged(repo_v1):
    """Three old commits on main, the second one tagged, a branch at the first, and two new ones."""
    made = {message: commit(repo_v1, message) for message in ("old 1", "old 2", "old 3")}
    repo_v1.create_branch("left", made["old 1"])
    repo_v1.create_tag("t", made["old 2"])
    made |= {message: commit(repo_v1, message) for message in ("new 1", "new 2")}
    moment = repo_v1.lookup_snapshot(made["new 1"]).written_at
    return repo_v1, made, moment


def history(repo, **where):
    return [entry.message for entry in repo.ancestry(**where)][:-1]


def test_expiring(aged, storage):
    repo, made, moment = aged
    reader = icechunk.Repository.open(storage)
    assert len(history(reader, branch="main")) == 5
    plan = repo.plan_expiration(moment, delete_expired_branches=True)
    assert [item.message for item in plan.released] == ["old 1", "old 2", "old 3"]
    assert plan.released[1].kept_by == ("tag t",)
    assert [(item.id, item.parent_id) for item in plan.reparented] == [
        (made["old 2"], made["old 1"]),
        (made["new 1"], made["old 3"]),
    ]
    assert icechunk.ExpirationPlan.from_json(plan.to_json()) == plan
    assert len(history(repo, branch="main")) == 5

    released = repo.expire_snapshots(moment, delete_expired_branches=True)
    assert released == {item.id for item in plan.released}
    for seen in (repo, icechunk.Repository.open(storage)):
        assert history(seen, branch="main") == ["new 2", "new 1"]
        assert history(seen, tag="t") == ["old 2"]
        assert seen.list_branches() == {"main"}
        assert seen.verify().is_clean
    assert repo.expire_snapshots(moment, delete_expired_branches=True) == set()
    # Who has looked before keeps what was seen, until it is collected.
    assert len(history(reader, branch="main")) == 5
    storage.delete([f"snapshots/{made[name]}" for name in ("old 1", "old 3")])
    assert history(reader, branch="main") == ["new 2", "new 1"]


def test_running_a_plan(aged):
    repo, made, moment = aged
    plan = repo.plan_expiration(moment, delete_expired_branches=True, delete_expired_tags=True)
    assert (set(plan.branches), set(plan.tags)) == ({"left"}, {"t"})
    moved = commit(repo, "moved", "left")
    assert repo.run_expiration(plan) == {made[f"old {number}"] for number in (1, 2, 3)}
    assert repo.lookup_branch("left") == moved
    assert repo.list_tags() == set()
    assert history(repo, branch="main") == ["new 2", "new 1"]


def test_what_a_plan_does_not_name_stays(aged):
    repo, made, moment = aged
    plan = repo.plan_expiration(moment)
    less = replace(plan, released=plan.released[:2])
    assert repo.run_expiration(less) == {made["old 1"], made["old 2"]}
    assert history(repo, tag="t") == ["old 2"]
    assert history(repo, branch="main") == ["new 2", "new 1", "old 3", "old 2"]

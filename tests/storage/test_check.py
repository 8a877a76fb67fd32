"""Stores that ignore conditions are found out, before anything depends on them."""

import asyncio
import time

import pytest

import icechunk
from icechunk import ConflictError, Repository, RepositoryConfig, StorageError, StorageSettings
from icechunk.storage import Version
from icechunk.storage.check import (
    SCRATCH,
    check_storage,
    require_conditional_writes,
    require_refusal,
)
from icechunk.testing import CountingStorage, FaultyStorage, LatencyStorage, UnconditionalStorage
from icechunk.testing.faults import EFFECTS

OFF = StorageSettings(unsafe_use_conditional_create=False, unsafe_use_conditional_update=False)


class Distant(CountingStorage):
    """Counted, and not trusted as storages of this package are."""

    def __init__(self, inner):
        super().__init__(inner)
        self.is_local = False


def careless(**ignored):
    return UnconditionalStorage(icechunk.in_memory_storage(), **ignored)


@pytest.fixture(params=["memory", "local", "distant"])
def good(request, tmp_path):
    if request.param == "local":
        return icechunk.local_filesystem_storage(str(tmp_path / "repo"))
    inner = icechunk.in_memory_storage()
    return inner if request.param == "memory" else Distant(inner)


def test_a_good_store_is_safe_and_left_clean(good):
    good.prepare()
    found = Repository.check_storage(good)
    assert found.is_safe
    assert found.verdict == "Safe: any number of processes may commit at the same time."
    assert found["create if absent"].holds
    assert found["replace if unchanged"].holds
    assert found["one winner"].holds
    assert found["list after write"].holds
    assert found.clock_difference_seconds == 0
    assert list(good.list()) == []
    assert "verdict: Safe" in repr(found)
    with pytest.raises(KeyError):
        found["no such finding"]


def test_the_twin():
    assert asyncio.run(Repository.check_storage_async(icechunk.in_memory_storage())).is_safe


CARELESS = [
    ({}, {"create if absent", "replace if unchanged", "one winner"}),
    ({"ignore_update": False}, {"create if absent", "one winner"}),
    ({"ignore_create": False}, {"replace if unchanged"}),
]


@pytest.mark.parametrize(("ignored", "broken"), CARELESS)
def test_a_careless_store_is_not_safe_and_left_clean(ignored, broken):
    storage = careless(**ignored)
    found = Repository.check_storage(storage)
    assert not found.is_safe
    assert found.verdict.startswith("Not safe to write")
    basics = {"read after write", "create if absent", "replace if unchanged", "one winner"}
    assert {f.name for f in found.findings if f.holds is False} & basics == broken
    assert list(storage.list()) == []


@pytest.mark.parametrize(("ignored", "broken"), CARELESS)
def test_no_repository_is_created_in_a_careless_store(ignored, broken):
    storage = careless(**ignored)
    with pytest.raises(StorageError, match="would be lost without notice") as caught:
        Repository.create(storage)
    assert caught.value.kind == "storage-config"
    assert "If-Match" in str(caught.value) or "If-None-Match" in str(caught.value)
    assert "unsafe_use_conditional_" in str(caught.value)
    assert list(storage.list()) == []


@pytest.mark.parametrize(
    ("ignored", "insisting"),
    [
        ({}, OFF),
        ({"ignore_update": False}, StorageSettings(unsafe_use_conditional_create=False)),
        ({"ignore_create": False}, StorageSettings(unsafe_use_conditional_update=False)),
    ],
)
def test_users_may_insist(ignored, insisting):
    storage = careless(**ignored)
    repo = Repository.create(storage, RepositoryConfig(storage=insisting))
    repo.create_tag("a-tag", repo.lookup_branch("main"))
    assert Repository.open(storage).list_tags() == {"a-tag"}  # the settings are stored
    found = Repository.check_storage(storage, insisting)
    assert not found.is_safe
    assert found.verdict.startswith("Safe only while a single process writes")


def test_the_first_commit_of_a_process_finds_out():
    storage = careless(ignore_create=False)
    Repository.create(storage, RepositoryConfig(storage=OFF))
    on = StorageSettings(unsafe_use_conditional_create=True, unsafe_use_conditional_update=True)
    repo = Repository.open(storage, RepositoryConfig(storage=on))
    before = {info.key for info in storage.list()}
    main = repo.lookup_branch("main")  # reading is fine
    for _ in range(2):
        with pytest.raises(StorageError, match="ignores If-Match") as caught:
            repo.create_branch("other", main)
        assert caught.value.kind == "storage-config"
    assert repo.list_branches() == {"main"}
    assert {info.key for info in storage.list()} == before


def test_opened_stores_are_asked_once_per_process_and_with_one_request():
    inner = icechunk.in_memory_storage()
    Repository.create(inner)
    storage = Distant(inner)
    repo = Repository.open(storage)
    main = repo.lookup_branch("main")
    assert storage.counts["refuses", "overwritten"] == 0, "opening costs nothing"
    for name in "abc":
        repo.create_branch(name, main)
    assert storage.counts["refuses", "overwritten"] == 1
    assert storage.counts["put_if", "repo"] == 3
    for info in inner.list("overwritten"):
        assert inner.get(info.key) != b"to be refused"


def test_what_was_created_here_needs_no_further_question():
    storage = Distant(icechunk.in_memory_storage())
    repo = Repository.create(storage)
    assert storage.counts["put_if", SCRATCH.strip("/")] == 1
    assert storage.counts["refuses", SCRATCH.strip("/")] == 2
    repo.create_branch("other", repo.lookup_branch("main"))
    assert storage.counts["refuses", "overwritten"] == 0
    require_conditional_writes(storage)
    assert storage.counts["put_if", SCRATCH.strip("/")] == 1
    assert storage.counts["refuses", SCRATCH.strip("/")] == 2


def test_local_storages_are_not_asked(tmp_path):
    for inner in (
        icechunk.in_memory_storage(),
        icechunk.local_filesystem_storage(str(tmp_path / "repo")),
    ):
        storage = CountingStorage(inner)
        repo = Repository.create(storage)
        repo.create_branch("other", repo.lookup_branch("main"))
        assert storage.total("put_if") == 2


def test_a_race_of_two_creators_does_not_stumble_over_scratch_objects():
    storage = Distant(icechunk.in_memory_storage())
    storage.put(f"{SCRATCH}0123/conditions", b"of another creator")
    Repository.create(storage)
    with pytest.raises(icechunk.InvalidInputError, match="clean"):
        Repository.create(storage)
    with pytest.raises(ConflictError, match="open it"):
        Repository.create(storage, check_clean_root=False)


def test_a_question_that_fails_leaves_nothing_and_trusts_nothing():
    effects = EFFECTS | {"refuses"}
    count = FaultyStorage(icechunk.in_memory_storage(), operations=effects)
    count.is_local = False
    require_conditional_writes(count)
    for number in range(len(count.effects)):
        storage = FaultyStorage(icechunk.in_memory_storage(), fail_at=number, operations=effects)
        storage.is_local = False
        with pytest.raises(StorageError, match="injected"):
            require_conditional_writes(storage)
        assert list(storage.list()) == [] or number == len(count.effects) - 1
        require_conditional_writes(storage)
    with pytest.raises(StorageError, match="injected"):
        check_storage(FaultyStorage(icechunk.in_memory_storage(), fail_at=0))


def test_a_wrong_version_is_never_the_right_one():
    storage = LatencyStorage(icechunk.in_memory_storage())
    for number in range(30):  # versions are counts here
        storage.put(f"k{number}", b"x")
        data, version = storage.get_versioned(f"k{number}")
        storage.put("next", b"x")
        assert storage.inner.refuses("next", b"y", Version(f"9{version.etag}"))
        require_refusal(Distant(storage.inner), "next", version)
        assert storage.get("next") == data


def test_read_only_storage_is_not_written():
    storage = CountingStorage(icechunk.in_memory_storage())
    storage.can_write = False
    found = check_storage(storage)
    assert not found.is_safe
    assert "only be read" in found.verdict
    assert storage.counts.total() == 0


class Odd(Distant):
    """Has one fault at a time."""

    def __init__(self, fault):
        super().__init__(icechunk.in_memory_storage())
        self.fault = fault
        self.first = {}

    def get(self, key):
        data = super().get(key)
        return self.first.setdefault(key, b"first") if self.fault == "stale" else data

    def list(self, prefix=""):
        infos = super().list(prefix)
        if self.fault == "late listing":
            return iter(())
        if self.fault == "lasting listing":
            infos = list(infos)
            self.first.update({info.key: info for info in infos})
            return iter(self.first.values())
        return infos

    def head(self, key):
        info = super().head(key)
        ahead = {"clock ahead": 3600, "clock behind": -3600, "whole seconds": 0}.get(self.fault)
        if ahead is None:
            return info
        whole = int(time.time()) * 1_000_000
        return info._replace(last_modified_us=whole + ahead * 1_000_000)

    def put_if(self, key, data, expected):
        if self.fault == "rejects" and key.startswith(SCRATCH):
            raise StorageError("501 Not Implemented: A header you provided implies ...")
        return super().put_if(key, data, expected)


@pytest.mark.parametrize(
    ("fault", "name", "holds", "is_safe", "says"),
    [
        ("stale", "read after write", False, False, "Not safe to use"),
        ("late listing", "list after write", False, True, "Safe"),
        ("lasting listing", "list after write", False, True, "Safe"),
        ("clock ahead", "clock", False, False, "clocks"),
        ("clock behind", "clock", False, False, "clocks"),
        ("whole seconds", "clock", True, True, "Safe"),
        ("rejects", "create if absent", False, False, "Not safe to write"),
        ("rejects", "replace if unchanged", False, False, "Not safe to write"),
    ],
)
def test_each_fault_has_its_finding(fault, name, holds, is_safe, says):
    storage = Odd(fault)
    found = check_storage(storage)
    assert found[name].holds is holds
    assert found.is_safe is is_safe
    assert says in found.verdict
    if fault.startswith("clock"):
        assert 3590 < abs(found.clock_difference_seconds) < 3610
    if fault == "rejects":
        assert "501" in found[name].text
        with pytest.raises(StorageError, match="501"):
            Repository.create(storage)
    assert [i.key for i in storage.inner.list() if i.key.startswith(SCRATCH)] == []

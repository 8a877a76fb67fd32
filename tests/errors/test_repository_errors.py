"""Branches, tags, selections and states of a repository that are refused.

Every call is made twice: as it is, and as its coroutine twin.
"""

import asyncio
from datetime import datetime

import pytest

import icechunk
from icechunk import (
    AlreadyExistsError,
    ConflictError,
    IcechunkError,
    InvalidInputError,
    ReadOnlyError,
    RefNotFoundError,
    RepoAvailability,
    RepoStatus,
    SessionStateError,
    SnapshotNotFoundError,
    StorageError,
)
from icechunk.testing.wrapper import StorageWrapper


def call(method, *arguments, **named):
    """A call in a table."""
    return method, arguments, named


REFS = {
    "branch exists": (
        call("create_branch", "branch", "{first}"),
        AlreadyExistsError, "branch-already-exists", "`branch", "{first}",
    ),
    "main exists": (
        call("create_branch", "main", "{first}"),
        AlreadyExistsError, "branch-already-exists", "`main",
    ),
    "branch at no snapshot": (
        call("create_branch", "new", "{nowhere}"),
        SnapshotNotFoundError, "snapshot-not-found", "{nowhere}",
    ),
    "branch at an invalid id": (
        call("create_branch", "new", "nonsense"),
        InvalidInputError, "invalid-snapshot-id", "`nonsense`",
    ),
    "branch that no file can name": (
        call("create_branch", "\ud800", "{first}"),
        InvalidInputError, "invalid-ref-name", "ud800",
    ),
    "no branch to look up": (
        call("lookup_branch", "no"),
        RefNotFoundError, "ref-not-found", "`no`",
    ),
    "main cannot be deleted": (
        call("delete_branch", "main"),
        SessionStateError, "cannot-delete-main", "main branch cannot be deleted",
    ),
    "no branch to delete": (
        call("delete_branch", "no"),
        RefNotFoundError, "ref-not-found", "`no`",
    ),
    "a tag is no branch": (
        call("delete_branch", "tag"),
        RefNotFoundError, "ref-not-found", "`tag`",
    ),
    "no branch to reset": (
        call("reset_branch", "no", "{first}"),
        RefNotFoundError, "ref-not-found", "`no`",
    ),
    "reset to no snapshot": (
        call("reset_branch", "main", "{nowhere}"),
        SnapshotNotFoundError, "snapshot-not-found", "{nowhere}",
    ),
    "reset to an invalid id": (
        call("reset_branch", "main", "1CECHNKREP0F1RSTCMT"),
        InvalidInputError, "invalid-snapshot-id", "`1CECHNKREP0F1RSTCMT`",
    ),
    "reset from elsewhere": (
        call("reset_branch", "main", "{root}", from_snapshot_id="{aside}"),
        ConflictError, "branch-update-conflict", "branch update conflict", "main", "{aside}",
        "{first}",
    ),
    "reset from an invalid id": (
        call("reset_branch", "main", "{root}", from_snapshot_id="x"),
        InvalidInputError, "invalid-snapshot-id", "`x`",
    ),
    "tag exists": (
        call("create_tag", "tag", "{aside}"),
        AlreadyExistsError, "tag-already-exists", "`tag`",
    ),
    "tag of no snapshot": (
        call("create_tag", "new", "{nowhere}"),
        SnapshotNotFoundError, "snapshot-not-found", "{nowhere}",
    ),
    "tag of an invalid id": (
        call("create_tag", "new", "!"),
        InvalidInputError, "invalid-snapshot-id", "`!`",
    ),
    "tag that no file can name": (
        call("create_tag", "\ud800", "{first}"),
        InvalidInputError, "invalid-ref-name", "ud800",
    ),
    "no tag to look up": (
        call("lookup_tag", "no"),
        RefNotFoundError, "ref-not-found", "`no`",
    ),
    "a branch is no tag": (
        call("lookup_tag", "main"),
        RefNotFoundError, "ref-not-found", "`main`",
    ),
    "no tag to delete": (
        call("delete_tag", "no"),
        RefNotFoundError, "ref-not-found", "`no`",
    ),
}  # fmt: skip

SELECTIONS = {
    "no branch": (
        {"branch": "no"},
        RefNotFoundError, "ref-not-found", "`no`",
    ),
    "no tag": (
        {"tag": "no"},
        RefNotFoundError, "ref-not-found", "`no`",
    ),
    "no snapshot": (
        {"snapshot_id": "{nowhere}"},
        SnapshotNotFoundError, "snapshot-not-found", "{nowhere}",
    ),
    "an invalid id": (
        {"snapshot_id": "x" * 20},
        InvalidInputError, "invalid-snapshot-id", "`" + "x" * 20,
    ),
    "two things": (
        {"branch": "main", "tag": "tag"},
        ValueError, None, "Must provide one of branch, tag, or snapshot_id",
    ),
    "three things": (
        {"branch": "main", "tag": "tag", "snapshot_id": "{first}"},
        ValueError, None, "Must provide one of branch, tag, or snapshot_id",
    ),
    "nothing": (
        {},
        ValueError, None, "Must provide one of branch, tag, or snapshot_id",
    ),
}  # fmt: skip

OTHERS = {
    "snapshot to look up": (
        call("lookup_snapshot", "{nowhere}"),
        SnapshotNotFoundError, "snapshot-not-found", "{nowhere}",
    ),
    "invalid snapshot to look up": (
        call("lookup_snapshot", ""),
        InvalidInputError, "invalid-snapshot-id", "``",
    ),
    "manifests of no snapshot": (
        call("list_manifest_files", "{nowhere}"),
        SnapshotNotFoundError, "snapshot-not-found", "{nowhere}",
    ),
    "manifests of an invalid snapshot": (
        call("list_manifest_files", "!!"),
        InvalidInputError, "invalid-snapshot-id", "`!!`",
    ),
    "writing on no branch": (
        call("writable_session", "no"),
        RefNotFoundError, "ref-not-found", "`no`",
    ),
    "writing on a tag": (
        call("writable_session", "tag"),
        RefNotFoundError, "ref-not-found", "`tag`",
    ),
    "reading too early": (
        call("readonly_session", "main", as_of="{long_ago}"),
        SnapshotNotFoundError, "no-snapshot-at-time", "`main`", "2000-01-01",
    ),
    "reading no branch at a time": (
        call("readonly_session", "no", as_of="{long_ago}"),
        RefNotFoundError, "branch-not-found", "`no`",
    ),
    "reading a tag at a time": (
        call("readonly_session", tag="tag", as_of="{long_ago}"),
        ValueError, None, "as_of argument must be provided together with a branch name",
    ),
    "reading at a time without zone": (
        call("readonly_session", "main", as_of=datetime(2100, 1, 1)),
        TypeError, None, "expected a datetime with non-None tzinfo",
    ),
    "inspection of no id": (
        call("inspect_snapshot", "x"),
        IcechunkError, "unknown", "`x`", "snapshot",
    ),
    "inspection of no snapshot": (
        call("inspect_snapshot", "{nowhere}"),
        StorageError, "object-not-found", "object not found", "snapshots/{nowhere}",
    ),
    "inspection of no manifest id": (
        call("inspect_manifest", "x"),
        IcechunkError, "unknown", "`x`", "manifest",
    ),
    "inspection of no manifest": (
        call("inspect_manifest", "{nowhere}"),
        StorageError, "object-not-found", "object not found", "manifests/{nowhere}",
    ),
    "inspection of no transaction log": (
        call("inspect_transaction_log", "{nowhere}"),
        StorageError, "object-not-found", "object not found", "transactions/{nowhere}",
    ),
    "statistics without room": (
        call("chunk_storage_stats", max_snapshots_in_memory=0),
        ValueError, None, "max_snapshots_in_memory",
    ),
    "statistics by what there is not": (
        call("storage_statistics", by="chunk"),
        ValueError, None, "array, snapshot, branch, tag", "'chunk'",
    ),
    "what an unknown snapshot added": (
        call("storage_added_by", "{nowhere}"),
        SnapshotNotFoundError, "snapshot-not-found", "{nowhere}",
    ),
    "unknown feature flag": (
        call("set_feature_flag", "no_such_flag", True),
        InvalidInputError, "invalid-feature-flag", "no_such_flag",
    ),
    "metadata that JSON cannot say": (
        call("set_metadata", {"a": object()}),
        TypeError, None, "metadata",
    ),
    "an update that JSON cannot say": (
        call("update_metadata", {"a": {1}}),
        TypeError, None, "metadata",
    ),
    "metadata no mapping": (
        call("set_metadata", "text"),
        TypeError, None, "metadata",
    ),
}  # fmt: skip


def made(words, twin):
    """Function that makes a call on the repository of a world, or its coroutine twin."""

    def make(world):
        method, arguments, named = words
        arguments = [fill_in(value, world) for value in arguments]
        named = {name: fill_in(value, world) for name, value in named.items()}
        result = getattr(world.repo, f"{method}_async" if twin else method)(*arguments, **named)
        return asyncio.run(result) if twin else result

    return make


def fill_in(value, world):
    """Put ids into an argument of a table."""
    if value == "{long_ago}":
        return world.long_ago
    return value.format(**world.ids) if isinstance(value, str) else value


@pytest.mark.parametrize("twin", [False, True], ids=["call", "coroutine"])
@pytest.mark.parametrize("name", [*REFS, *OTHERS])
def test_refused_calls(world, refused, name, twin):
    words, *expected = (REFS | OTHERS)[name]
    refused(world, made(words, twin), *expected)


@pytest.mark.parametrize(
    ("method", "name"),
    [
        *((method, name) for method in ("readonly_session", "ancestry") for name in SELECTIONS),
        *(("async_ancestry", name) for name in SELECTIONS),
        *(("ancestry_graph", name) for name in SELECTIONS if name != "nothing"),
    ],
)
def test_refused_selections(world, refused, method, name):
    selection, *expected = SELECTIONS[name]
    refused(world, made(call(method, **selection), twin=False), *expected)


DIFFS = {
    "between equal ends": (
        {"from_branch": "main", "to_tag": "tag"},
        InvalidInputError, "bad-snapshot-chain-for-diff", "doesn't include", "{first}",
    ),
    "backwards": (
        {"from_branch": "main", "to_snapshot_id": "{root}"},
        InvalidInputError, "bad-snapshot-chain-for-diff", "doesn't include", "{first}", "{root}",
    ),
    "between cousins": (
        {"from_snapshot_id": "{aside}", "to_branch": "main"},
        InvalidInputError, "bad-snapshot-chain-for-diff", "doesn't include", "{aside}", "{first}",
    ),
    "from nothing": (
        {"to_branch": "main"},
        ValueError, None, "Must provide one of branch, tag, or snapshot_id",
    ),
    "to nothing": (
        {"from_branch": "main"},
        ValueError, None, "Must provide one of branch, tag, or snapshot_id",
    ),
    "from two things": (
        {"from_branch": "main", "from_tag": "tag", "to_branch": "main"},
        ValueError, None, "Must provide one of branch, tag, or snapshot_id",
    ),
    "to two things": (
        {"from_branch": "main", "to_tag": "tag", "to_branch": "main"},
        ValueError, None, "Must provide one of branch, tag, or snapshot_id",
    ),
    "from no branch": (
        {"from_branch": "no", "to_branch": "main"},
        RefNotFoundError, "ref-not-found", "`no`",
    ),
    "to no tag": (
        {"from_branch": "main", "to_tag": "no"},
        RefNotFoundError, "ref-not-found", "`no`",
    ),
    "from no snapshot": (
        {"from_snapshot_id": "{nowhere}", "to_branch": "main"},
        SnapshotNotFoundError, "snapshot-not-found", "{nowhere}",
    ),
    "to an invalid id": (
        {"from_branch": "main", "to_snapshot_id": "x"},
        InvalidInputError, "invalid-snapshot-id", "`x`",
    ),
}  # fmt: skip


@pytest.mark.parametrize("twin", [False, True], ids=["call", "coroutine"])
@pytest.mark.parametrize("name", DIFFS)
def test_refused_diffs(world, refused, name, twin):
    selection, *expected = DIFFS[name]
    refused(world, made(call("diff", **selection), twin), *expected)


def test_default_metadata_are_checked_when_they_are_set(world, refused):
    refused(
        world, lambda w: w.repo.set_default_commit_metadata("text"), TypeError, None, "metadata"
    )
    assert world.repo.default_commit_metadata() == {}


def test_a_conflict_tells_both_snapshots(world, refused):
    error = refused(
        world, made(REFS["reset from elsewhere"][0], False), *REFS["reset from elsewhere"][1:]
    )
    assert (error.expected_parent, error.actual_parent) == (world.aside, world.first)


@pytest.mark.parametrize("twin", [False, True], ids=["call", "coroutine"])
def test_a_deleted_tag_is_gone_and_its_name_taken(world, refused, twin):
    world.repo.delete_tag("tag")
    for words, *expected in (
        (
            call("create_tag", "tag", "{first}"),
            AlreadyExistsError,
            "tag-previously-deleted",
            "`tag`",
        ),
        (call("delete_tag", "tag"), RefNotFoundError, "ref-not-found", "`tag`"),
        (call("lookup_tag", "tag"), RefNotFoundError, "ref-not-found", "`tag`"),
        (call("readonly_session", tag="tag"), RefNotFoundError, "ref-not-found", "`tag`"),
    ):
        refused(world, made(words, twin), *expected)


CHANGES = {
    "create_branch": call("create_branch", "new", "{first}"),
    "reset_branch": call("reset_branch", "branch", "{root}"),
    "delete_branch": call("delete_branch", "branch"),
    "create_tag": call("create_tag", "new", "{first}"),
    "delete_tag": call("delete_tag", "tag"),
    "save_config": call("save_config"),
    "set_metadata": call("set_metadata", {"a": 1}),
    "update_metadata": call("update_metadata", {"a": 1}),
    "set_feature_flag": call("set_feature_flag", "move_node", False),
    "writable_session": call("writable_session", "main"),
    "rearrange_session": call("rearrange_session", "main"),
    "rewrite_manifests": call("rewrite_manifests", "x", branch="main"),
}


@pytest.mark.parametrize("twin", [False, True], ids=["call", "coroutine"])
@pytest.mark.parametrize("name", CHANGES)
def test_a_closed_repository_takes_no_changes(world, refused, name, twin):
    world.edit()
    why = RepoStatus(RepoAvailability.read_only, limited_availability_reason="moving house")
    world.repo.set_status(why)
    change = made(CHANGES[name], twin)
    refused(world, change, ReadOnlyError, "read-only-repository", "moving house")

    world.repo.set_status(RepoStatus(RepoAvailability.online))
    change(world)


@pytest.mark.parametrize("flag", ["create_tag", "delete_tag"])
@pytest.mark.parametrize("twin", [False, True], ids=["call", "coroutine"])
def test_what_a_feature_flag_disables(world, refused, flag, twin):
    world.repo.set_feature_flag(flag, False)
    change = made(CHANGES[flag], twin)
    refused(world, change, SessionStateError, "feature-flag-disabled", flag)

    world.repo.set_feature_flag(flag, None)
    change(world)


def test_a_repository_is_not_made_where_one_is(world, refused):
    create = icechunk.Repository.create
    refused(
        world,
        lambda w: create(w.storage),
        InvalidInputError,
        "parent-directory-not-clean",
    )
    refused(
        world,
        lambda w: create(w.storage, check_clean_root=False),
        ConflictError,
        "repo-info-updated",
    )


def test_versions_of_the_format(world, refused):
    create = icechunk.Repository.create
    for version, message in ((255, "Unsupported version 255"), ("x", "parse a valid version")):
        refused(
            world, lambda w, v=version: create(w.storage, spec_version=v), ValueError, None, message
        )


class ReadOnlyStorage(StorageWrapper):
    """Takes no writes, and nobody is to try."""

    def __init__(self, inner):
        super().__init__(inner)
        self.can_write = False

    def _before(self, operation, key):
        assert operation.startswith(("get", "head", "exists", "list")), operation


WRITES_OF_SESSIONS = {
    "commit": lambda w: w.session.commit("x"),
    "amend": lambda w: w.session.amend("x"),
    "flush": lambda w: w.session.flush("x"),
}
WRITES = WRITES_OF_SESSIONS | {
    "set_status": lambda w: w.repo.set_status(RepoStatus(RepoAvailability.online)),
    "transaction": lambda w: w.repo.transaction("main", message="x").__enter__(),
    **{name: made(words, twin=False) for name, words in CHANGES.items()},
}


@pytest.mark.parametrize("name", WRITES)
def test_a_read_only_storage_takes_no_changes(world, refused, name):
    world.edit()
    reads = ReadOnlyStorage(world.storage)
    world.repo = icechunk.Repository.open(reads)
    if name in WRITES_OF_SESSIONS:
        # opened where one could write: nothing opens such a session here
        world.session._workspace.context.storage = reads
    refused(world, WRITES[name], ReadOnlyError, "read-only-storage", "the storage is read-only")


def test_a_repository_is_not_made_in_a_read_only_storage(world, refused):
    reads = ReadOnlyStorage(world.storage)
    refused(
        world,
        lambda _: icechunk.Repository.create(reads, check_clean_root=False),
        ReadOnlyError,
        "read-only-storage",
        "the storage is read-only",
    )


@pytest.mark.parametrize("method", ["open", "fetch_config", "open_async", "fetch_config_async"])
@pytest.mark.parametrize("kind", ["memory", "local"])
def test_no_repository(tmp_path, kind, method):
    path = tmp_path / "nothing"
    local = icechunk.local_filesystem_storage(str(path))
    storage = icechunk.in_memory_storage() if kind == "memory" else local
    look = getattr(icechunk.Repository, method)
    with pytest.raises(icechunk.RepositoryNotFoundError) as caught:
        asyncio.run(look(storage)) if method.endswith("_async") else look(storage)
    assert caught.value.kind == "repository-not-found"
    assert "the repository doesn't exist" in str(caught.value)
    assert (str(path) if kind == "local" else "memory") in str(caught.value)
    assert not path.exists()
    assert not icechunk.Repository.exists(storage)

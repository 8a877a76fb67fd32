"""Every update: what it changes, what it logs, and which rules stop it."""

from dataclasses import replace

import pytest

from icechunk.errors import (
    AlreadyExistsError,
    ConflictError,
    FormatError,
    InvalidInputError,
    ReadOnlyError,
    RefNotFoundError,
    SessionStateError,
    SnapshotNotFoundError,
)
from icechunk.format.ids import encode_id
from icechunk.format.ops_log import (
    BranchCreated,
    BranchDeleted,
    BranchReset,
    ConfigChanged,
    FeatureFlagChanged,
    MetadataChanged,
    NewCommit,
    NewDetachedSnapshot,
    RepoStatus,
    RepoStatusChanged,
    TagCreated,
    TagDeleted,
)
from icechunk.format.snapshot_table import SnapshotEntry
from icechunk.repo.features import SetFeatureFlag
from icechunk.repo.updates import (
    AddDetachedSnapshot,
    AddSnapshot,
    CreateBranch,
    CreateTag,
    DeleteBranch,
    DeleteTag,
    ResetBranch,
    SetConfig,
    SetMetadata,
    SetStatus,
    UpdateMetadata,
    apply,
)

START = 1_700_000_000_000_000
NOW = START + 50


def snap(number):
    return bytes([number]) * 12


def new(number, parent=3, flushed_at=START + 100):
    return SnapshotEntry(snap(number), snap(parent), flushed_at, "new", {"k": 1})


def run(info, change, now=NOW):
    return apply(info, change, now, backup_name="backup", max_log_entries=1000)


MAIN, DEV = ("main", snap(3)), ("dev", snap(2))

CLOSED = RepoStatus(1, START + 7, "moving")

# change -> (changed fields, log entry)
EFFECTS = [
    (SetMetadata({"a": 1}), {"metadata": {"a": 1}}, MetadataChanged()),
    (UpdateMetadata({"b": [2]}), {"metadata": {"b": [2]}}, MetadataChanged()),
    (SetStatus(CLOSED), {"status": CLOSED}, RepoStatusChanged(CLOSED)),
    (
        SetFeatureFlag(4, True),
        {"enabled_feature_flags": (4,), "disabled_feature_flags": ()},
        FeatureFlagChanged(4, True, True),
    ),
    (
        SetFeatureFlag(4, False),
        {"enabled_feature_flags": (), "disabled_feature_flags": (4,)},
        FeatureFlagChanged(4, False, True),
    ),
    (
        SetFeatureFlag(4, None),
        {"enabled_feature_flags": (), "disabled_feature_flags": ()},
        FeatureFlagChanged(4, False, False),
    ),
    (
        CreateBranch("new", snap(1)),
        {"branches": dict([MAIN, DEV, ("new", snap(1))])},
        BranchCreated("new"),
    ),
    (
        CreateBranch("a/b ü", snap(9)),
        {"branches": dict([MAIN, DEV, ("a/b ü", snap(9))])},
        BranchCreated("a/b ü"),
    ),
    (CreateBranch("", snap(1)), {"branches": dict([MAIN, DEV, ("", snap(1))])}, BranchCreated("")),
    (DeleteBranch("dev"), {"branches": dict([MAIN])}, BranchDeleted("dev", snap(2))),
    (
        ResetBranch("main", snap(9)),
        {"branches": dict([("main", snap(9)), DEV])},
        BranchReset("main", snap(3)),
    ),
    (ResetBranch("main", snap(3)), {}, BranchReset("main", snap(3))),
    (
        ResetBranch("dev", snap(1), expected=snap(2)),
        {"branches": dict([MAIN, ("dev", snap(1))])},
        BranchReset("dev", snap(2)),
    ),
    (CreateTag("v2", snap(3)), {"tags": {"v1": snap(2), "v2": snap(3)}}, TagCreated("v2")),
    (
        DeleteTag("v1"),
        {"tags": {}, "deleted_tags": ("old", "v1")},
        TagDeleted("v1", snap(2)),
    ),
    (SetConfig(b"abc"), {"config": b"abc"}, ConfigChanged()),
    (SetConfig(None), {}, ConfigChanged()),
]


@pytest.mark.parametrize(
    ("change", "changed", "logged"), EFFECTS, ids=lambda value: str(value)[:40]
)
def test_effect(info, change, changed, logged):
    before = replace(info)
    after = run(info, change)
    assert info == before
    assert after.updates[0].kind == logged
    assert after.updates[0].updated_at == NOW
    assert after.updates[0].backup_path is None
    assert after.updates[1].backup_path == "backup"
    assert replace(after, updates=info.updates) == replace(info, **changed)


def test_commit_adds_a_snapshot_and_moves_the_branch(info):
    after = run(info, AddSnapshot("main", new(2_0), snap(3)))
    assert after.branches == {"main": snap(20), "dev": snap(2)}
    assert after.tags == info.tags
    assert after.updates[0].kind == NewCommit("main", snap(20))
    assert after.snapshots.info(snap(20)) == new(20)
    for entry in info.snapshots:
        assert after.snapshots.info(entry.id) == entry


def test_detached_snapshot_moves_nothing(info):
    after = run(info, AddDetachedSnapshot(new(20, parent=1)))
    assert after.branches == info.branches
    assert after.snapshots.info(snap(20)).parent_id == snap(1)
    assert after.updates[0].kind == NewDetachedSnapshot(snap(20))


# change -> error, kind, text in the message
REFUSED = [
    (CreateBranch("dev", snap(1)), AlreadyExistsError, "branch-already-exists", "dev"),
    (CreateBranch("x", snap(8)), SnapshotNotFoundError, "snapshot-not-found", encode_id(snap(8))),
    (DeleteBranch("main"), SessionStateError, "cannot-delete-main", "main branch cannot be"),
    (DeleteBranch("x"), RefNotFoundError, "ref-not-found", "ref not found `x`"),
    (ResetBranch("x", snap(1)), RefNotFoundError, "ref-not-found", "ref not found `x`"),
    (ResetBranch("dev", snap(8)), SnapshotNotFoundError, "snapshot-not-found", encode_id(snap(8))),
    (
        ResetBranch("dev", snap(1), expected=snap(3)),
        ConflictError,
        "branch-update-conflict",
        "branch update conflict",
    ),
    (CreateTag("v1", snap(1)), AlreadyExistsError, "tag-already-exists", "v1"),
    (CreateTag("old", snap(1)), AlreadyExistsError, "tag-previously-deleted", "`old` was deleted"),
    (CreateTag("x", snap(8)), SnapshotNotFoundError, "snapshot-not-found", encode_id(snap(8))),
    (DeleteTag("x"), RefNotFoundError, "ref-not-found", "ref not found `x`"),
    (DeleteTag("old"), RefNotFoundError, "ref-not-found", "ref not found `old`"),
    (AddSnapshot("x", new(20), snap(3)), RefNotFoundError, "branch-not-found", "x"),
    (AddSnapshot("main", new(20), snap(2)), ConflictError, "commit-conflict", "Failed to commit"),
    (
        AddSnapshot("main", new(9), snap(3)),
        FormatError,
        "duplicate-snapshot-id",
        encode_id(snap(9)),
    ),
    (
        AddSnapshot("main", new(20, flushed_at=START + 3), snap(3)),
        FormatError,
        "snapshot-timestamp",
        "timestamp",
    ),
    (AddDetachedSnapshot(new(20, parent=8)), SnapshotNotFoundError, "snapshot-not-found", ""),
    (AddDetachedSnapshot(new(9)), FormatError, "duplicate-snapshot-id", encode_id(snap(9))),
]


@pytest.mark.parametrize(("change", "error", "kind", "text"), REFUSED)
def test_refused(info, change, error, kind, text):
    with pytest.raises(error) as caught:
        run(info, change)
    assert caught.value.kind == kind
    assert text in caught.value.message


def test_conflicts_name_both_snapshots(info):
    with pytest.raises(ConflictError) as caught:
        run(info, AddSnapshot("main", new(20), snap(2)))
    assert caught.value.expected_parent == encode_id(snap(2))
    assert caught.value.actual_parent == encode_id(snap(3))
    with pytest.raises(ConflictError) as caught:
        run(info, ResetBranch("dev", snap(1), expected=snap(3)))
    assert caught.value.expected_parent == encode_id(snap(3))
    assert caught.value.actual_parent == encode_id(snap(2))


@pytest.mark.parametrize("availability", [1, 2, 77])
@pytest.mark.parametrize(
    "change", [change for change, _, _ in EFFECTS if not isinstance(change, SetStatus)]
)
def test_nothing_is_changed_unless_online(info, change, availability):
    closed = replace(info, status=RepoStatus(availability, START, "because"))
    with pytest.raises(ReadOnlyError) as caught:
        run(closed, change)
    assert caught.value.kind == "read-only-repository"
    assert "repository status is read-only" in caught.value.message
    assert "because" in caught.value.message


@pytest.mark.parametrize("availability", [0, 1, 2, 77])
def test_the_status_can_always_be_set(info, availability):
    before = replace(info, status=RepoStatus(availability, START, "because"))
    assert run(before, SetStatus(CLOSED)).status == CLOSED
    assert run(before, SetStatus(RepoStatus())).status == RepoStatus()


def test_update_of_metadata_keeps_other_keys(info):
    before = replace(info, metadata={"a": {"x": 1}, "b": 2})
    after = run(before, UpdateMetadata({"a": {"y": 1}}))
    assert after.metadata == {"a": {"y": 1}, "b": 2}
    assert run(before, SetMetadata({})).metadata == {}


@pytest.mark.parametrize(
    ("enabled", "disabled", "allowed"),
    [
        (None, None, True),
        ((), (), True),
        (None, (3,), True),
        (None, (4, 5), False),
        ((), (3, 4, 5, 900), False),
        ((4, 5), (4, 5), True),
        ((4, 5), None, True),
    ],
)
@pytest.mark.parametrize(
    ("change", "name"), [(CreateTag("x", snap(1)), "create_tag"), (DeleteTag("v1"), "delete_tag")]
)
def test_feature_flags_of_tags(info, enabled, disabled, allowed, change, name):
    flagged = replace(info, enabled_feature_flags=enabled, disabled_feature_flags=disabled)
    if allowed:
        after = run(flagged, change)
        assert after.enabled_feature_flags == enabled
        assert after.disabled_feature_flags == disabled
        return
    with pytest.raises(SessionStateError) as caught:
        run(flagged, change)
    assert caught.value.kind == "feature-flag-disabled"
    assert name in caught.value.message


def test_what_a_change_does_not_touch_stays(info):
    full = replace(
        info,
        config=b"\x01raw",
        metadata={"a": 1},
        enabled_feature_flags=(),
        disabled_feature_flags=(9,),
        repo_before_updates="older",
    )
    after = run(full, AddSnapshot("main", new(20), snap(3)))
    for name in (
        "config",
        "metadata",
        "enabled_feature_flags",
        "disabled_feature_flags",
        "repo_before_updates",
        "status",
        "deleted_tags",
        "tags",
        "spec_version",
    ):
        assert getattr(after, name) == getattr(full, name)


@pytest.mark.parametrize("change", [CreateBranch, CreateTag])
def test_names_must_be_text(info, snapshot_id, change):
    with pytest.raises(InvalidInputError, match="not valid Unicode") as caught:
        change("\ud800", snapshot_id(1)).preconditions[0].check(info)
    assert caught.value.kind == "invalid-ref-name"

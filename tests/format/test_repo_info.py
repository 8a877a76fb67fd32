from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from effort import EFFORT
from hypothesis import given, settings
from hypothesis import strategies as st

from icechunk.errors import FormatError, SnapshotNotFoundError
from icechunk.format import ops_log, schema
from icechunk.format.envelope import FileKind, unwrap, wrap
from icechunk.format.flatbuf import Children, Tables, Union, encode
from icechunk.format.ids import encode_id, id_column
from icechunk.format.ops_log import (
    NewCommit,
    RepoInitialized,
    RepoStatus,
    TagCreated,
    UnknownUpdate,
    UpdateEntry,
)
from icechunk.format.ops_table import OpsLog
from icechunk.format.repo_info import RepoInfo, decode_repo_info, encode_repo_info
from icechunk.format.snapshot_table import SnapshotEntry, SnapshotTable, has_cycle

id12 = st.binary(min_size=12, max_size=12)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
u16 = st.integers(0, 2**16 - 1)
u64 = st.integers(0, 2**64 - 1)
statuses = st.builds(RepoStatus, st.integers(0, 3), u64, st.none() | text)

FIELD_STRATEGIES: dict[str, st.SearchStrategy[Any]] = {
    "name": text,
    "branch": text,
    "previous_snap_id": id12,
    "new_snap_id": id12,
    "from_version": st.integers(0, 255),
    "to_version": st.integers(0, 255),
    "id": u16,
    "new_value": st.booleans(),
    "is_set": st.booleans(),
    "status": statuses,
}
kinds = st.sampled_from(list(ops_log.UPDATE_RECORDS.values())).flatmap(
    lambda record: st.builds(
        record, **{name: FIELD_STRATEGIES[name] for name in record.__dataclass_fields__}
    )
)
updates = st.builds(UpdateEntry, kinds, u64, st.none() | text)


@st.composite
def entry_lists(draw: st.DrawFn, min_size: int = 0) -> list[SnapshotEntry]:
    """Snapshots in an order in which parents come first, so without cycles."""
    ids = draw(st.lists(id12, min_size=min_size, max_size=6, unique=True))
    metadata = st.dictionaries(text.filter(lambda key: "\0" not in key), text, max_size=2)
    return [
        SnapshotEntry(
            id=own,
            parent_id=draw(st.sampled_from([None, *ids[:i]])),
            flushed_at=draw(u64),
            message=draw(text),
            metadata=draw(metadata),
            pruned=tuple(draw(st.lists(id12, max_size=2))),
        )
        for i, own in enumerate(ids)
    ]


@st.composite
def infos(draw: st.DrawFn) -> RepoInfo:
    entries = draw(entry_lists(min_size=1))
    ids = st.sampled_from([entry.id for entry in entries])
    flags = st.none() | st.sets(u16, max_size=3).map(sorted).map(tuple)
    newest, *older = draw(st.lists(updates, min_size=1, max_size=6))
    return RepoInfo(
        snapshots=SnapshotTable.from_entries(entries),
        branches={**draw(st.dictionaries(text, ids, max_size=3)), "main": draw(ids)},
        tags=draw(st.dictionaries(text, ids, max_size=3)),
        deleted_tags=tuple(sorted(draw(st.sets(text, max_size=3)))),
        status=draw(statuses),
        metadata=draw(st.dictionaries(text, st.integers(0, 9) | text, max_size=2)),
        updates=[replace(newest, backup_path=None), *older],
        repo_before_updates=draw(st.none() | text),
        config=draw(st.none() | st.binary(max_size=9)),
        enabled_feature_flags=draw(flags),
        disabled_feature_flags=draw(flags),
    )


@settings(deadline=None, max_examples=60 * EFFORT)
@given(infos())
def test_round_trip(info: RepoInfo) -> None:
    data = encode_repo_info(info)
    again = decode_repo_info(data)
    assert again == replace(info, updates=OpsLog.from_entries(info.updates))
    assert list(again.updates) == list(info.updates)
    assert encode_repo_info(again) == data


@settings(deadline=None, max_examples=60 * EFFORT)
@given(entry_lists(), id12)
def test_the_table_holds_the_entries(entries: list[SnapshotEntry], unknown: bytes) -> None:
    table = SnapshotTable.from_entries(entries)
    by_id = {entry.id: entry for entry in entries}
    assert list(table) == [by_id[own] for own in sorted(by_id)]
    for entry in entries:
        assert table.info(entry.id) == entry
        assert entry.id in table
        history = []
        walked: SnapshotEntry | None = entry
        while walked is not None:
            history.append(walked.id)
            walked = by_id.get(walked.parent_id) if walked.parent_id is not None else None
        assert [table.id(row) for row in table.ancestry(entry.id)] == history
    assert [table.id(r) for r in table.locate(id_column(list(by_id), 12)).tolist()] == list(by_id)
    if unknown not in by_id:
        assert table.find(unknown) == -1
        assert table.locate(id_column([unknown], 12)).tolist() == [-1]
        with pytest.raises(SnapshotNotFoundError, match=encode_id(unknown)):
            table.ancestry(unknown)


@settings(deadline=None, max_examples=60 * EFFORT)
@given(entry_lists())
def test_inserting_one_by_one_builds_the_same_table(entries: list[SnapshotEntry]) -> None:
    table = SnapshotTable.from_entries([])
    for entry in entries:
        table = table.insert(entry)
    assert table == SnapshotTable.from_entries(entries)
    for entry in entries:
        with pytest.raises(FormatError) as caught:
            table.insert(entry)
        assert caught.value.kind == "duplicate-snapshot-id"


def test_parents_must_be_known() -> None:
    orphan = SnapshotEntry(b"o" * 12, b"?" * 12, 1, "")
    with pytest.raises(SnapshotNotFoundError):
        SnapshotTable.from_entries([orphan])
    with pytest.raises(SnapshotNotFoundError):
        SnapshotTable.from_entries([]).insert(orphan)
    with pytest.raises(FormatError):
        SnapshotTable.from_entries([replace(orphan, parent_id=None)] * 2)


@settings(deadline=None, max_examples=60 * EFFORT)
@given(entry_lists(), st.data())
def test_drop_and_reparent(entries: list[SnapshotEntry], data: st.DataObject) -> None:
    table = SnapshotTable.from_entries(entries)
    gone = {entry.id for entry in entries if data.draw(st.booleans())}
    edits: dict[bytes, tuple[bytes | None, tuple[bytes, ...]]] = {}
    expected = []
    for i, entry in enumerate(entries):
        if entry.id in gone:
            continue
        if entry.parent_id in gone or data.draw(st.booleans()):
            kept = [other.id for other in entries[:i] if other.id not in gone]
            parent_id = data.draw(st.sampled_from([None, *kept]))
            logs = tuple(data.draw(st.lists(id12, max_size=2)))
            edits[entry.id] = parent_id, logs
            entry = replace(entry, parent_id=parent_id, pruned=logs)
        expected.append(entry)
    stays = np.array([entry.id not in gone for entry in table], dtype=bool)
    changed = table.reparent(edits)
    assert changed.revise(stays, changed.parents, {}) == SnapshotTable.from_entries(expected)


def chain(count: int) -> Iterator[SnapshotEntry]:
    parent = None
    for i in range(count):
        own = bytes([i]) * 12
        yield SnapshotEntry(own, parent, i, f"commit {i}")
        parent = own


def test_what_would_break_history_is_refused() -> None:
    table = SnapshotTable.from_entries(chain(4))
    with pytest.raises(FormatError, match=encode_id(bytes([2]) * 12)):
        table.revise(np.arange(4) != 1, table.parents, {})
    with pytest.raises(FormatError, match="descends from itself"):
        table.reparent({bytes([0]) * 12: (bytes([3]) * 12, ())})


@settings(deadline=None, max_examples=60 * EFFORT)
@given(st.lists(st.integers(-1, 8), min_size=9, max_size=9))
def test_cycles_are_found(parents: list[int]) -> None:
    def ends(row: int) -> bool:
        for _ in range(10):
            if row == -1:
                return True
            row = parents[row]
        return False

    assert has_cycle(np.array(parents, np.int32)) == (not all(map(ends, range(9))))


@settings(deadline=None, max_examples=60 * EFFORT)
@given(st.lists(updates, max_size=6))
def test_log_is_a_sequence(entries: list[UpdateEntry]) -> None:
    log = OpsLog.from_entries(entries)
    assert log == entries
    assert [log[i] for i in range(-len(entries), len(entries))] == entries * 2
    assert log[1:3] == entries[1:3]
    assert log == OpsLog.from_entries(log)
    with pytest.raises(IndexError):
        log[len(entries)]


def slow_push(
    entries: list[UpdateEntry], kind: Any, now: int, backup: str, limit: int
) -> tuple[list[UpdateEntry], str | None]:
    if entries:
        entries = [replace(entries[0], backup_path=backup), *entries[1:]]
    kept: list[UpdateEntry] = []
    for entry in [UpdateEntry(kind, now), *entries]:
        if len(kept) >= limit and entry.backup_path is not None:
            return kept, entry.backup_path
        kept.append(entry)
    return kept, None


@settings(deadline=None, max_examples=60 * EFFORT)
@given(st.lists(updates, max_size=6), kinds, st.integers(1, 8))
def test_push_cuts_where_the_rest_can_be_found(
    entries: list[UpdateEntry], kind: Any, limit: int
) -> None:
    log, before = OpsLog.from_entries(entries).push(kind, 7, "repo.backup", limit)
    assert (list(log), before) == slow_push(entries, kind, 7, "repo.backup", limit)


def test_three_entries_to_a_file() -> None:
    log, before = OpsLog.from_entries([]).push(RepoInitialized(), 1, None, 3)
    for i in range(1, 7):
        log, before = log.push(TagCreated(f"t{i}"), i + 1, f"backup {i}", 3)
    assert [entry.kind for entry in log] == [TagCreated("t6"), TagCreated("t5"), TagCreated("t4")]
    assert [entry.backup_path for entry in log] == [None, "backup 6", "backup 5"]
    assert before == "backup 4"


def info_of(**fields: Any) -> RepoInfo:
    entries = list(chain(3))
    defaults: dict[str, Any] = {
        "snapshots": SnapshotTable.from_entries(entries),
        "branches": {"main": entries[-1].id},
        "updates": (UpdateEntry(NewCommit("main", entries[-1].id), 9),),
    }
    return RepoInfo(**{**defaults, **fields})


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"branches": {"dev": bytes(12)}}, "main"),
        ({"updates": ()}, "operations log is empty"),
        ({"updates": [UpdateEntry(RepoInitialized(), 1, "repo.x")]}, "names a backup"),
        ({"updates": [UpdateEntry(UnknownUpdate(17), 1)]}, "unknown kind 17"),
        ({"branches": {"main": b"?" * 12}}, "branch 'main' points to"),
        ({"tags": {"v1": b"?" * 12}}, "tag 'v1' points to"),
        ({"tags": {"\ud800": bytes(12)}}, "Unicode"),
        ({"deleted_tags": ("\ud800",)}, "Unicode"),
    ],
)
def test_unusable_states_are_not_written(fields: dict[str, Any], match: str) -> None:
    with pytest.raises(FormatError, match=match) as caught:
        encode_repo_info(info_of(**fields))
    assert caught.value.kind == "serialization"


def test_unsorted_snapshots_are_not_written() -> None:
    table = SnapshotTable.from_entries(chain(3))
    with pytest.raises(FormatError, match="not sorted"):
        encode_repo_info(info_of(snapshots=replace(table, ids=table.ids[::-1].copy())))


def test_flags_distinguish_none_from_empty() -> None:
    info = info_of(enabled_feature_flags=(), disabled_feature_flags=None)
    again = decode_repo_info(encode_repo_info(info))
    assert again.enabled_feature_flags == ()
    assert again.disabled_feature_flags is None
    assert not RepoStatus(2).is_online
    assert again.status.is_online


def repo_file(header_version: int = 2, **columns: Any) -> bytes:
    ids = [[1] * 12, [2] * 12]
    snapshots = {"id": ids, "parent_offset": [-1, 0], "message": ["a", "b"]}
    main = {"name": ["main"], "snapshot_index": [1]}
    log = {"update_type": Union([1], {1: Tables(1, {})}), "updated_at": [3]}
    root = {
        "spec_version": [2],
        "tags": Children([0], Tables(0, {})),
        "branches": Children([1], Tables(1, main)),
        "deleted_tags": Children([0], []),
        "snapshots": Children([2], Tables(2, snapshots)),
        "status": Tables(1, {}),
        "latest_updates": Children([1], Tables(1, log)),
        **columns,
    }
    payload = encode(schema.REPO, Tables(1, root))
    return wrap(FileKind.REPO_INFO, payload, spec_version=header_version)


def listed(**columns: Any) -> Children:
    base = {"id": [[1] * 12, [2] * 12], "parent_offset": [-1, 0], "message": ["a", "b"]}
    return Children([2], Tables(2, {**base, **columns}))


def test_absent_optional_fields() -> None:
    info = decode_repo_info(repo_file())
    assert list(info.snapshots) == [
        SnapshotEntry(b"\1" * 12, None, 0, "a"),
        SnapshotEntry(b"\2" * 12, b"\1" * 12, 0, "b"),
    ]
    assert info.metadata == {}
    assert info.config is None


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (repo_file(header_version=1), "version 1"),
        (repo_file(spec_version=[3]), "spec version 3"),
        (repo_file(spec_version=None), "spec version 0"),
        (repo_file(snapshots=listed(id=[[2] * 12, [1] * 12])), "not sorted"),
        (repo_file(snapshots=listed(id=[[1] * 12] * 2)), "not sorted"),
        (repo_file(snapshots=listed(parent_offset=[-1, 2])), "parent is not in the list"),
        (repo_file(snapshots=listed(parent_offset=[-2, 0])), "parent is not in the list"),
        (repo_file(snapshots=listed(parent_offset=None)), "its own ancestor"),
        (repo_file(snapshots=listed(message=[b"\xff", "b"])), "UTF-8"),
        (
            repo_file(branches=Children([1], Tables(1, {"name": ["main"], "snapshot_index": [2]}))),
            "not listed",
        ),
        (repo_file(branches=Children([2], Tables(2, {"name": ["main"] * 2}))), "same name"),
        (repo_file(status=None), "status: required"),
    ],
)
def test_corrupt_files(data: bytes, match: str) -> None:
    with pytest.raises(FormatError, match=match):
        decode_repo_info(data)


def test_operations_of_a_later_spec_can_be_listed_but_not_rewritten() -> None:
    info = info_of(updates=[UpdateEntry(RepoInitialized(), 8)])
    payload = bytearray(unwrap(encode_repo_info(info), FileKind.REPO_INFO, "repo").payload)
    rows = [i for i, byte in enumerate(payload) if byte == 1]
    found = []
    for i in rows:  # one of these bytes is the discriminant
        damaged = payload.copy()
        damaged[i] = 77
        try:
            opened = decode_repo_info(wrap(FileKind.REPO_INFO, damaged))
        except FormatError:
            continue
        if [entry.kind for entry in opened.updates] == [UnknownUpdate(77)]:
            found.append(opened)
    assert len(found) == 1
    assert found[0].updates[0].updated_at == 8
    with pytest.raises(FormatError, match="unknown kind 77"):
        encode_repo_info(found[0])


def test_undecodable_metadata_is_reported_on_access() -> None:
    items = Tables(1, {"name": ["k"], "value": [b"\xff"]})
    info = decode_repo_info(repo_file(snapshots=listed(metadata=Children([1, 0], items))))
    assert info.snapshots.entry(1).message == "b"
    with pytest.raises(FormatError, match="snapshot 040G2081040G2081040G: metadata 'k'"):
        info.snapshots.entry(0)
    again = decode_repo_info(encode_repo_info(info))
    assert again.snapshots.metadata_values[0] == b"\xff"

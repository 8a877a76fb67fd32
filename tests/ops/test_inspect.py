"""What files say of themselves: headers, times, every kind of operation, merged logs."""

import numpy as np
import pytest

from icechunk.chunks import ChunkTable
from icechunk.chunks.ragged import RaggedBytes
from icechunk.errors import FormatError
from icechunk.format.envelope import FileKind, wrap
from icechunk.format.ids import encode_id
from icechunk.format.locations import LocationCompression
from icechunk.format.manifest import encode_manifest
from icechunk.format.nodes import NodeTable
from icechunk.format.ops_log import (
    UPDATE_RECORDS,
    Availability,
    BranchReset,
    CommitAmended,
    FeatureFlagChanged,
    RepoInitialized,
    RepoMigrated,
    RepoStatus,
    RepoStatusChanged,
    UnknownUpdate,
    UpdateEntry,
)
from icechunk.format.repo_info import RepoInfo, SnapshotEntry, SnapshotTable, encode_repo_info
from icechunk.format.snapshot import Snapshot, encode_snapshot
from icechunk.format.transaction_log import (
    Move,
    TransactionLog,
    encode_transaction_log,
    node_ids,
)
from icechunk.ops.inspect import (
    describe_manifest,
    describe_repo_info,
    describe_snapshot,
    describe_transaction_log,
)

ID, OTHER = bytes(range(12)), bytes(12)
A, B, C = (bytes([n] * 8) for n in (1, 2, 3))
NOW = 1_700_000_000_000_000


def snapshot(flushed_at=NOW, **changes):
    return Snapshot(ID, None, NodeTable.empty(), flushed_at, "a message", {"k": [1]}, **changes)


def written_by(data, name):
    return data[:12] + name.encode().ljust(24) + data[36:]


@pytest.mark.parametrize(
    ("name", "app", "version"),
    [
        ("ic-2.3.0", "ic", "2.3.0"),
        ("some-app-1.2-rc1", "some", "app-1.2-rc1"),
        ("nameless", "nameless", None),
        ("", "", None),
    ],
)
def test_header_is_that_of_the_file(name, app, version):
    data = written_by(encode_snapshot(snapshot(spec_version=1)), name)
    header = describe_snapshot(data, "k")["header"]
    assert header.pop("app_version", None) == version
    assert header == {
        "written_by": name,
        "app_name": app,
        "spec_version": "1.0",
        "file_type": "snapshot",
        "compression": "zstd",
    }


def test_an_uncompressed_file_says_so():
    data = bytearray(wrap(FileKind.TRANSACTION_LOG, b""))
    plain = encode_transaction_log(TransactionLog(ID))
    from icechunk.format.envelope import unwrap

    data = plain[:38] + b"\0" + unwrap(plain, FileKind.TRANSACTION_LOG, "k").payload
    assert describe_transaction_log(data, "k")["header"]["compression"] == "none"


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (NOW, "2023-11-14T22:13:20Z"),
        (NOW + 120_000, "2023-11-14T22:13:20.120Z"),
        (NOW + 1, "2023-11-14T22:13:20.000001Z"),
    ],
)
def test_times_have_the_digits_they_need(us, text):
    assert describe_snapshot(encode_snapshot(snapshot(us)), "k")["flushed_at"] == text


def test_damaged_files_are_named():
    data = encode_snapshot(snapshot())
    with pytest.raises(FormatError, match="some/key"):
        describe_snapshot(data[:60], "some/key")
    with pytest.raises(FormatError, match="some/key: expected file type manifest"):
        describe_manifest(data, "some/key")


def test_manifest_counts_by_kind_and_array():
    native = ChunkTable.native([[0], [1]], np.zeros((2, 12), np.uint8), [5, 6])
    inline = ChunkTable.inline_([[0, 0]], RaggedBytes.from_list([b"abc"]))
    places = RaggedBytes.from_strings([f"s3://bucket/a/long/enough/place/{n}" for n in range(200)])
    virtual = ChunkTable.virtual(np.arange(200).reshape(-1, 1), places, None, 4)
    compression = LocationCompression(100, 100, 2048, 3)
    arrays = [(B, inline), (A, native), (C, virtual)]
    packed = describe_manifest(encode_manifest(ID, arrays, location_compression=compression), "k")
    plain = describe_manifest(encode_manifest(ID, arrays), "k")
    counts = [[a[f"num_{k}"] for k in ("chunk_refs", "inline", "native", "virtual")] for a in
              plain["arrays"]]  # fmt: skip
    assert [a["node_id"] for a in plain["arrays"]] == [encode_id(n) for n in (A, B, C)]
    assert counts == [[2, 0, 2, 0], [1, 1, 0, 0], [200, 0, 0, 200]]
    assert (plain["num_arrays"], plain["total_chunk_refs"]) == (3, 203)
    assert (plain["total_inline"], plain["total_native"], plain["total_virtual"]) == (1, 2, 200)
    assert plain["compression"] == {"uses_location_compression": False, "num_compressed_refs": 0}
    assert packed["compression"].pop("dictionary_size_bytes") > 0
    assert packed["compression"] == {"uses_location_compression": True, "num_compressed_refs": 200}
    assert packed["size_bytes"] < plain["size_bytes"]
    assert packed["arrays"] == plain["arrays"]


def info_with(*kinds):
    entries = [UpdateEntry(kind, NOW - n, f"b{n}" if n else None) for n, kind in enumerate(kinds)]
    return RepoInfo(
        SnapshotTable.from_entries(
            [SnapshotEntry(ID, OTHER, NOW, "m", {"a": None}), SnapshotEntry(OTHER, None, 1, "i")]
        ),
        {"main": ID},
        updates=entries,
    )


def described_updates(*kinds):
    info = info_with(*kinds)
    data = encode_repo_info(info_with(RepoInitialized()))
    return [u["update_type"] for u in describe_repo_info(info, data, "repo")["latest_updates"]]


def test_operations():
    status = RepoStatus(Availability.READ_ONLY, NOW, "why")
    assert described_updates(
        RepoMigrated(1, 2),
        FeatureFlagChanged(3, True, is_set=True),
        FeatureFlagChanged(3, False, is_set=False),
        RepoStatusChanged(status),
        RepoStatusChanged(RepoStatus(7)),
        BranchReset("b", ID),
        CommitAmended("main", ID, OTHER),
        UnknownUpdate(99),
    ) == [
        {"type": "RepoMigratedUpdate", "from_version": "1.0", "to_version": "2.0"},
        {"type": "FeatureFlagChanged", "id": 3, "new_value": True},
        {"type": "FeatureFlagChanged", "id": 3, "new_value": None},
        {
            "type": "RepoStatusChangedUpdate",
            "status": {
                "availability": "ReadOnly",
                "limited_availability_reason": "why",
                "set_at": "2023-11-14T22:13:20Z",
            },
        },
        {
            "type": "RepoStatusChangedUpdate",
            "status": {
                "availability": "Unknown (7)",
                "limited_availability_reason": None,
                "set_at": "1970-01-01T00:00:00Z",
            },
        },
        {"type": "BranchResetUpdate", "name": "b", "previous_snap_id": encode_id(ID)},
        {
            "type": "CommitAmendedUpdate",
            "branch": "main",
            "previous_snap_id": encode_id(ID),
            "new_snap_id": encode_id(OTHER),
        },
        {"type": "Unknown", "discriminant": 99},
    ]


@pytest.mark.parametrize("record", UPDATE_RECORDS.values())
def test_every_operation_of_the_format_can_be_shown(record):
    from dataclasses import fields

    samples = {"name": "n", "branch": "b", "status": RepoStatus(), "is_set": True}
    values = [samples.get(f.name, ID if f.name.endswith("snap_id") else 1) for f in fields(record)]
    [shown] = described_updates(record(*values))
    assert shown["type"].removesuffix("Update") == record.__name__


def test_repo_info():
    info = info_with(RepoInitialized())
    shown = describe_repo_info(info, encode_repo_info(info), "repo")
    header = shown.pop("header")
    assert header["file_type"] == "repo-info"
    assert shown == {
        "spec_version": "2.0",
        "branches": {"main": encode_id(ID)},
        "tags": {},
        "deleted_tags": [],
        "snapshots": [
            {
                "id": encode_id(OTHER),
                "flushed_at": "1970-01-01T00:00:00.000001Z",
                "message": "i",
                "metadata": {},
            },
            {
                "id": encode_id(ID),
                "parent_id": encode_id(OTHER),
                "flushed_at": "2023-11-14T22:13:20Z",
                "message": "m",
                "metadata": {"a": None},
            },
        ],
        "metadata": {},
        "latest_updates": [
            {
                "update_type": {"type": "RepoInitializedUpdate"},
                "updated_at": "2023-11-14T22:13:20Z",
            }
        ],
    }


def coords(*rows):
    return np.array(rows, np.uint32)


OLD = TransactionLog(
    OTHER,
    new_arrays=node_ids([A, B]),
    updated_chunks={A: coords([1], [3]), B: coords([0])},
    moves=(Move("/a", "/b", A, True), Move("/c", "/d", C, False)),
)
NEW = TransactionLog(
    ID,
    deleted_arrays=node_ids([B]),
    new_arrays=node_ids([B]),
    updated_chunks={A: coords([2], [3])},
    moves=(Move("/b", "/z/e", A, True), Move("/d", "/c", C, False), Move("/x", "/z", B, True)),
)


def test_pruned_ancestors_are_part_of_a_log():
    data = encode_transaction_log(NEW)
    plain = describe_transaction_log(data, "k")
    assert "synthetic_composite" not in plain
    assert plain["updated_chunks"] == [{"node_id": encode_id(A), "chunks": [[2], [3]]}]
    lost = bytes([9] * 12)
    shown = describe_transaction_log(data, "k", [(lost, None), (OTHER, OLD)])
    composite = shown["synthetic_composite"]
    assert composite["merged_pruned_ancestor_tx_logs"] == [encode_id(OTHER)]
    assert composite["missing_tx_logs"] == [encode_id(lost)]
    assert shown["new_arrays"] == [encode_id(A), encode_id(B)]
    assert shown["moved_nodes"] == [{"from": "/x", "to": "/z"}, {"from": "/a", "to": "/z/e"}]
    assert shown["header"] == plain["header"]

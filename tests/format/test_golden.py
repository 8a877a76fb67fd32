"""Every file of repositories that the reference wrote: content, and rewriting.

What the repositories hold is told in ``tests/golden/PROVENANCE.md``.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from icechunk.chunks.table import ChunkTable
from icechunk.format.envelope import unwrap, wrap
from icechunk.format.ids import decode_id, encode_id
from icechunk.format.manifest import Manifest
from icechunk.format.ops_log import NewCommit, RepoInitialized, RepoStatus, TagCreated, UpdateEntry
from icechunk.format.repo_info import decode_repo_info
from icechunk.format.snapshot_table import SnapshotEntry

sys.path.append(str(Path(__file__).parent))  # for the helper beside this file

from metadata_files import FILES, GOLDEN, codec_of, content_of, read

INITIAL = "1CECHNKREP0F1RSTCMT0"


def id12(text: str) -> bytes:
    return decode_id(text, 12)


def id8(text: str) -> bytes:
    return decode_id(text, 8)


def test_all_files_are_there() -> None:
    assert len(FILES) == 8 + 13


@pytest.mark.parametrize("name", FILES)
def test_header(name: str) -> None:
    opened = unwrap(read(name), codec_of(name).kind, name)
    assert opened.written_by == "ic-2.3.0"
    assert opened.spec_version == int(name.removeprefix("reference-v")[0])
    assert opened.payload[4:8] == b"Ichk"


@pytest.mark.parametrize("name", FILES)
def test_rewriting_keeps_the_content(name: str) -> None:
    codec = codec_of(name)
    value = codec.decode(read(name), name)
    data = codec.encode(value)
    assert codec.content(codec.decode(data, name)) == codec.content(value)
    assert len(data) < 1.2 * len(read(name))


@pytest.mark.parametrize("name", FILES)
def test_our_envelope_is_that_of_the_reference(name: str) -> None:
    opened = unwrap(read(name), codec_of(name).kind, name)
    ours = wrap(codec_of(name).kind, opened.payload, spec_version=opened.spec_version)
    assert ours[36:] == read(name)[36:]


def nodes(snapshot: Any) -> Any:
    """The nodes of a snapshot in the words of the spec, documents aside."""
    return [
        (
            encode_id(node.id),
            node.path,
            node.array
            and (
                node.array.shape,
                node.array.num_chunks,
                node.array.dimension_names,
                [(encode_id(ref.id), ref.extents) for ref in node.array.manifests],
            ),
        )
        for node in snapshot.nodes
    ]


def files(snapshot: Any) -> Any:
    return [(encode_id(f.id), f.size_bytes, f.num_chunk_refs) for f in snapshot.manifest_files]


SECOND_METADATA = {"author": "me", "f": 1.5, "l": [1, "a", None, True], "n": 3}


class Ids(NamedTuple):
    """The random ids of one of the repositories."""

    first: str
    second: str
    root: str
    group: str
    big: str
    small: str
    big_manifest: str
    small_manifests: tuple[str, str]
    small_sizes: tuple[int, int]
    big_chunks: tuple[str, str]
    times: tuple[int, int, int]


REPOSITORIES = {
    2: Ids(
        first="FDJJBAB4QZ5BSSE9ZDRG",
        second="CEF4AYWBCD2Q0QTHSAW0",
        root="5HMWAR0B78E7T",
        group="EDPDBF0EVK4Y8",
        big="CMCVKTNK87MJ0",
        small="7CG6XE2CM9C2E",
        big_manifest="YNHF9VN8NCFXRY90FN80",
        small_manifests=("CJ5P8EH9646ATECGBTFG", "9FQKBXJAAFGEDX1XVNS0"),
        small_sizes=(153, 158),
        big_chunks=("02GA25WA9W267ZW4KKV0", "Y0DP18DVB7B55CT2QZ9G"),
        times=(1795329568961323, 1795329569005400, 1795329569015714),
    ),
    1: Ids(
        first="X9AVCB5Q13Q4ZS6WY5MG",
        second="PJCHJ5S0ZPDG4J18BV9G",
        root="730Y2H2RW77SJ",
        group="R67VW6R4MKQ46",
        big="06DNN77RM6S7T",
        small="MA0PY2C34X7CJ",
        big_manifest="9NBWEWNW8F7EJM8EBYTG",
        small_manifests=("EKY7FWZ8ZQYAD3EC1S7G", "2W3DM9TJC773RG23AJSG"),
        small_sizes=(156, 158),
        big_chunks=("MDD6QJ0RWA647WABVMZG", "NCRFMPHSSVPGBXKDQRY0"),
        times=(1795329571114329, 0, 1795329571147564),
    ),
}


@pytest.mark.parametrize("version", [1, 2])
def test_initial_snapshot(version: int) -> None:
    snapshot = content_of(f"reference-v{version}/snapshots/{INITIAL}")
    assert encode_id(snapshot.id) == INITIAL
    assert snapshot.parent_id is None
    assert snapshot.flushed_at == REPOSITORIES[version].times[0]
    assert snapshot.message == "Repository initialized"
    assert snapshot.metadata == {"__icechunk": {"is_root": True}}
    assert snapshot.nodes == []
    assert list(snapshot.manifest_files) == []
    assert snapshot.spec_version == version


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("commit", [0, 1])
def test_commits(version: int, commit: int) -> None:
    ids = REPOSITORIES[version]
    own = (ids.first, ids.second)[commit]
    snapshot = content_of(f"reference-v{version}/snapshots/{own}")
    assert encode_id(snapshot.id) == own
    expected_parent = id12((INITIAL, ids.first)[commit]) if version == 1 else None
    assert snapshot.parent_id == expected_parent
    assert snapshot.message == ("first commit", "second commit")[commit]
    assert snapshot.metadata == ({}, SECOND_METADATA)[commit]
    if ids.times[1 + commit]:
        assert snapshot.flushed_at == ids.times[1 + commit]
    small_manifest = ids.small_manifests[commit]
    assert nodes(snapshot) == [
        (ids.root, "/", None),
        (ids.group, "/g", None),
        (
            ids.big,
            "/g/big",
            ((2, 300), (2, 1), None, [(ids.big_manifest, ((0, 2), (0, 1)))]),
        ),
        (ids.small, "/g/small", ((4,), (2,), ("x",), [(small_manifest, ((0, 2),))])),
    ]
    assert files(snapshot) == sorted(
        [(small_manifest, ids.small_sizes[commit], 2), (ids.big_manifest, 191, 2)]
    )
    assert [len(node.user_data) for node in snapshot.nodes] == [66, 89, 521, 535]
    assert json.loads(snapshot.nodes[1].user_data) == {
        "attributes": {"title": "demo"},
        "zarr_format": 3,
        "node_type": "group",
    }


@pytest.mark.parametrize("version", [1, 2])
def test_manifests(version: int) -> None:
    ids = REPOSITORIES[version]
    base = f"reference-v{version}/manifests"
    for name, first_chunk in zip(ids.small_manifests, [(0, 1), (7, 8)], strict=True):
        manifest = Manifest.decode(read(f"{base}/{name}"), name)
        assert encode_id(manifest.id) == name
        assert manifest.node_ids == (id8(ids.small),)
        table: ChunkTable = manifest.table(id8(ids.small))
        assert table.coords.tolist() == [[0], [1]]
        for row, numbers in enumerate([first_chunk, (2, 3)]):
            chunk = b"".join(number.to_bytes(4, "little") for number in numbers)
            assert table.ref(row).inline == chunk
            found = manifest.find(id8(ids.small), (row,))
            assert found is not None
            assert found.inline == chunk
        assert manifest.find(id8(ids.small), (2,)) is None
        assert manifest.find(id8(ids.big), (0, 0)) is None
    manifest = Manifest.decode(read(f"{base}/{ids.big_manifest}"), "big")
    table = manifest.table(id8(ids.big))
    assert table.coords.tolist() == [[0, 0], [1, 0]]
    refs = [table.ref(row) for row in range(2)]
    assert {ref.id for ref in refs} == {id12(chunk) for chunk in ids.big_chunks}
    assert [(ref.offset, ref.length) for ref in refs] == [(0, 1200)] * 2
    assert [manifest.find(id8(ids.big), (row, 0)) for row in range(2)] == refs


@pytest.mark.parametrize("version", [1, 2])
def test_transaction_logs(version: int) -> None:
    ids = REPOSITORIES[version]
    base = f"reference-v{version}/transactions"
    assert content_of(f"{base}/{ids.first}") == (
        ids.first,
        {
            "new_groups": sorted([ids.root, ids.group]),
            "new_arrays": sorted([ids.big, ids.small]),
        },
        {ids.big: [[0, 0], [1, 0]], ids.small: [[0], [1]]},
        (),
    )
    assert content_of(f"{base}/{ids.second}") == (ids.second, {}, {ids.small: [[0]]}, ())
    initial = GOLDEN / base / INITIAL
    assert initial.exists() == (version == 2)
    if version == 2:
        assert content_of(f"{base}/{INITIAL}") == (INITIAL, {}, {}, ())


BACKUPS = {
    "RepoInitialized": "repo.30708350430994.EMVAVYBJ9XCHTBCRTKKG",
    "first commit": "repo.30708350430994.MPTZVJ8PB1QH6Y090C30",
    "tag": "repo.30708350430984.BVF0D8Q2SCDSXG7CZEZ0",
}


def test_repo_info() -> None:
    ids = REPOSITORIES[2]
    info = content_of("reference-v2/repo")
    initial, first, second = id12(INITIAL), id12(ids.first), id12(ids.second)
    root_metadata = {"__icechunk": {"is_root": True}}
    assert info.snapshots == [
        SnapshotEntry(initial, None, ids.times[0], "Repository initialized", root_metadata),
        SnapshotEntry(second, first, ids.times[2], "second commit", SECOND_METADATA),
        SnapshotEntry(first, initial, ids.times[1], "first commit"),
    ]
    assert info.updates == [
        UpdateEntry(NewCommit("main", second), 1795329569016477),
        UpdateEntry(TagCreated("v1"), 1795329569007017, BACKUPS["tag"]),
        UpdateEntry(NewCommit("main", first), 1795329569006411, BACKUPS["first commit"]),
        UpdateEntry(RepoInitialized(), 1795329568961498, BACKUPS["RepoInitialized"]),
    ]
    assert info.tags == {"v1": first}
    assert info.branches == {"main": second}
    assert info.deleted_tags == ()
    assert info.status == RepoStatus(0, 1795329568961471)
    assert info.metadata == {}
    assert (info.repo_before_updates, info.config) == (None, None)
    assert (info.enabled_feature_flags, info.disabled_feature_flags) == (None, None)
    assert info.spec_version == 2


def test_each_backup_ends_with_the_operation_that_names_it() -> None:
    info = decode_repo_info(read("reference-v2/repo"))
    for position, entry in enumerate(info.updates):
        if entry.backup_path is not None:
            backup = decode_repo_info(read(f"reference-v2/overwritten/{entry.backup_path}"))
            assert backup.updates[0] == replace(entry, backup_path=None)
            assert list(backup.updates)[1:] == list(info.updates)[position + 1 :]

"""The reference's tools on our repositories: diff, rebase, expiration, collection, moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from oracle import Oracle, Side


@pytest.fixture
def started(ours: Side, repo_path: str) -> str:
    """A repository of ours with a group, `x` of 10 chunks and `y` of 2; returns the tip."""
    ours.call("scenarios.bare", path=repo_path)
    handle = ours.call("sessions.begin", path=repo_path)
    ours.call("sessions.make_array", handle=handle, name="x", shape=[20], chunks=[2])
    ours.call("sessions.make_array", handle=handle, name="g/y", shape=[4], chunks=[2])
    ours.call("sessions.write", handle=handle, name="x", start=0, stop=20, value=1)
    return ours.call("sessions.commit", handle=handle, message="start")


EDITS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "chunks": [("write", {"name": "x", "start": 3, "stop": 9, "value": 5})],
    "chunks of two arrays": [
        ("write", {"name": "x", "start": 19, "stop": 20, "value": 5}),
        ("write", {"name": "g/y", "start": 0, "stop": 4, "value": 5}),
    ],
    "attributes": [("set_attribute", {"name": "x", "key": "a", "value": [1]})],
    "group attributes": [("set_attribute", {"name": "", "key": "a", "value": "ü"})],
    "created": [("make_array", {"name": "new é", "shape": [3, 3], "chunks": [1, 2]})],
    "created and written": [
        ("make_array", {"name": "new", "shape": [3], "chunks": [1]}),
        ("write", {"name": "new", "start": 1, "stop": 2, "value": 5}),
    ],
    "shifted": [("shift", {"name": "x", "offset": [-3]})],
    "shifted and written": [
        ("shift", {"name": "x", "offset": [2]}),
        ("write", {"name": "x", "start": 0, "stop": 5, "value": 5}),
    ],
    "deleted": [("delete_node", {"name": "x"})],
    "deleted group": [("delete_node", {"name": "g"})],
    "replaced": [
        ("delete_node", {"name": "x"}),
        ("make_array", {"name": "x", "shape": [6], "chunks": [3]}),
        ("write", {"name": "x", "start": 0, "stop": 1, "value": 5}),
    ],
}


@pytest.mark.parametrize("edits", EDITS.values(), ids=EDITS.keys())
def test_their_diff_is_our_status(
    edits: list[tuple[str, dict[str, Any]]],
    started: str,
    repo_path: str,
    ours: Side,
    theirs: Oracle,
) -> None:
    statuses = []
    for side in (ours, theirs):  # theirs leaves its session uncommitted: only to compare statuses
        handle = side.call("sessions.begin", path=repo_path)
        for name, arguments in edits:
            side.call(f"sessions.{name}", handle=handle, **arguments)
        statuses.append(side.call("sessions.status", handle=handle))
        if side is ours:
            mine = handle
    assert statuses[0] == statuses[1]
    tip = ours.call("sessions.commit", handle=mine, message="edited")
    difference = theirs.call("reference.diff", path=repo_path, from_id=started, to_id=tip)
    assert difference == statuses[0]


MOVES = {
    "renamed": [("/x", "/y")],
    "into a group": [("/x", "/g/a"), ("/g/y", "/x")],
    "a group, twice": [("/g", "/0"), ("/x", "/0/x"), ("/0", "/1 é")],
    "there and back": [("/g", "/h"), ("/h", "/g"), ("/x", "/z")],
}


@pytest.mark.parametrize("moves", MOVES.values(), ids=MOVES.keys())
@pytest.mark.parametrize("writer", ["ours", "theirs"])
def test_moves_are_read_alike(
    moves: list[tuple[str, str]],
    writer: str,
    started: str,
    repo_path: str,
    ours: Side,
    theirs: Oracle,
) -> None:
    handle = ours.call("sessions.begin", path=repo_path)
    ids = {path: ours.call("sessions.node_id", handle=handle, path=path) for path in ("/x", "/g")}
    statuses, tip = [], ""
    for side in (ours, theirs):  # only one of the two commits
        handle = side.call("sessions.begin_rearranging", path=repo_path)
        for source, target in moves:
            side.call("sessions.move", handle=handle, source=source, target=target)
        statuses.append(side.call("sessions.status", handle=handle))
        if side.name == writer:
            committing = side, handle
    assert statuses[0] == statuses[1]
    side, handle = committing
    tip = side.call("sessions.commit", handle=handle, message="moved")
    difference = theirs.call("reference.diff", path=repo_path, from_id=started, to_id=tip)
    assert difference == statuses[0]
    described = [s.call("describe.describe", path=repo_path) for s in (ours, theirs)]
    assert described[0] == described[1]
    finals = dict(difference["moved_nodes"])
    for reader in (ours, theirs):
        handle = reader.call("sessions.begin", path=repo_path)
        for path, node_id in ids.items():
            now = finals.get(path, path)
            assert reader.call("sessions.node_id", handle=handle, path=now) == node_id


def test_their_rebase_finds_our_moves(
    started: str, repo_path: str, ours: Side, theirs: Oracle
) -> None:
    writes, moves = (
        theirs.call(f"sessions.{name}", path=repo_path) for name in ("begin", "begin_rearranging")
    )
    theirs.call("sessions.write", handle=writes, name="x", start=0, stop=1, value=3)
    theirs.call("sessions.move", handle=moves, source="/x", target="/z")
    mine = ours.call("sessions.begin_rearranging", path=repo_path)
    ours.call("sessions.move", handle=mine, source="/g", target="/h")
    ours.call("sessions.commit", handle=mine, message="ours")
    for handle in (writes, moves):
        assert theirs.call("sessions.rebase", handle=handle) == [
            ["Move operation cannot be rebased", "", None]
        ]


@pytest.mark.parametrize("scenario", ["edits", "renumbered", "moved", "hierarchy"])
def test_both_list_the_same_references(
    scenario: str, repo_path: str, ours: Side, theirs: Oracle
) -> None:
    ours.call(f"scenarios.{scenario}", path=repo_path)
    mine, other = (
        side.call("reference.chunk_references", path=repo_path) for side in (ours, theirs)
    )
    assert mine == other == ours.call("internals.chunk_references", path=repo_path)


def test_they_read_our_rectilinear_grids(repo_path: str, ours: Side, theirs: Oracle) -> None:
    ours.call("reference.rectilinear", path=repo_path)
    mine, other = (
        side.call("reference.chunk_references", path=repo_path) for side in (ours, theirs)
    )
    assert mine == other
    assert [row[0] for row in other["/x"]] == [[0, 0], [1, 2], [4, 2]]


def test_their_rebase_over_our_commit(
    started: str, repo_path: str, ours: Side, theirs: Oracle
) -> None:
    disjoint, overlapping = (theirs.call("sessions.begin", path=repo_path) for _ in range(2))
    theirs.call("sessions.write", handle=disjoint, name="x", start=10, stop=12, value=3)
    theirs.call("sessions.write", handle=overlapping, name="x", start=2, stop=8, value=4)
    mine = ours.call("sessions.begin", path=repo_path)
    ours.call("sessions.write", handle=mine, name="x", start=0, stop=4, value=2)
    ours.call("sessions.commit", handle=mine, message="ours")

    assert theirs.call("sessions.rebase", handle=disjoint) == []
    theirs.call("sessions.commit", handle=disjoint, message="on top of ours")
    assert theirs.call("sessions.rebase", handle=overlapping) == [
        ["Chunk double update", "/x", [[1]]]
    ]
    theirs.call("sessions.rebase_keeping_ours", handle=overlapping)
    theirs.call("sessions.commit", handle=overlapping, message="insisting")

    expected = [2, 2, 4, 4, 4, 4, 4, 4, 1, 1, 3, 3, *[1] * 8]
    for side in (ours, theirs):
        reader = side.call("sessions.begin", path=repo_path)
        assert side.call("sessions.read", handle=reader, name="x") == expected


def test_their_rebase_finds_our_other_changes(
    started: str, repo_path: str, ours: Side, theirs: Oracle
) -> None:
    writes, attributes, creates = (theirs.call("sessions.begin", path=repo_path) for _ in range(3))
    theirs.call("sessions.write", handle=writes, name="g/y", start=0, stop=1, value=3)
    theirs.call("sessions.set_attribute", handle=attributes, name="x", key="theirs", value=1)
    theirs.call("sessions.make_array", handle=creates, name="new", shape=[1], chunks=[1])
    mine = ours.call("sessions.begin", path=repo_path)
    ours.call("sessions.delete_node", handle=mine, name="g/y")
    ours.call("sessions.set_attribute", handle=mine, name="x", key="ours", value=1)
    ours.call("sessions.make_array", handle=mine, name="new", shape=[1], chunks=[1])
    ours.call("sessions.commit", handle=mine, message="ours")

    found = [
        [conflict[:2] for conflict in theirs.call("sessions.rebase", handle=handle)]
        for handle in (writes, attributes, creates)
    ]
    assert found == [
        [["Chunks updated in deleted array", "/g/y"]],
        [["Zarr metadata double update", "/x"]],
        [["New node conflicts with existing node", "/new"]],
    ]


@pytest.mark.parametrize("scenario", ["edits", "history", "forks", "hierarchy"])
def test_their_collection_keeps_what_we_can_reach(
    scenario: str, repo_path: str, ours: Side, theirs: Oracle
) -> None:
    ours.call(f"scenarios.{scenario}", path=repo_path)
    before = ours.call("describe.describe", path=repo_path)
    theirs.call("reference.collect_garbage", path=repo_path)
    after = ours.call("describe.describe", path=repo_path)
    assert after["snapshots"] == before["snapshots"]
    assert after["histories"] == before["histories"]
    assert after == theirs.call("describe.describe", path=repo_path)
    assert [entry["operation"] for entry in after["log"]] == [
        "GCRan",
        *(entry["operation"] for entry in before["log"]),
    ]


def test_their_collection_finds_our_garbage(
    repo_path: str, ours: Side, theirs: Oracle, tmp_path: Path
) -> None:
    found = {}
    for side in (ours, theirs):
        path = str(tmp_path / side.name)
        side.call("scenarios.history", path=path)
        found[side.name] = theirs.call("reference.collect_garbage", path=path)
    assert found["ours"] == found["theirs"]
    assert found["ours"]["snapshots_deleted"] == 2


def test_their_expiration_of_our_history(repo_path: str, ours: Side, theirs: Oracle) -> None:
    ours.call("scenarios.edits", path=repo_path)
    before = ours.call("describe.describe", path=repo_path)
    tip = before["branches"]["main"]
    line = before["histories"][tip]
    released = theirs.call("reference.expire", path=repo_path, older_than=line[1]["written_at"])
    assert sorted(released) == sorted(entry["id"] for entry in line[2:-1])
    theirs.call("reference.collect_garbage", path=repo_path)
    after = ours.call("describe.describe", path=repo_path)
    assert after == theirs.call("describe.describe", path=repo_path)
    assert [entry["id"] for entry in after["histories"][tip]] == [
        line[0]["id"],
        line[1]["id"],
        line[-1]["id"],
    ]
    assert after["snapshots"][tip] == before["snapshots"][tip]
    ours.call("scenarios.continued", path=repo_path, step=1)
    difference = theirs.call("reference.diff", path=repo_path, from_id=line[-1]["id"], to_id=tip)
    assert "/grows" in difference["new_arrays"], "the pruned logs were kept by our commit"


@pytest.mark.slow
def test_their_changes_of_our_tip(repo_path: str, ours: Side, theirs: Oracle) -> None:
    ours.call("scenarios.hierarchy", path=repo_path)
    tip = ours.call("describe.describe", path=repo_path)["branches"]["main"]
    for call, arguments in (
        ("amend", {"message": "amended by them"}),
        ("move", {"source": "/names/a b", "target": "/ranks/moved"}),
        ("rewrite_manifests", {}),
    ):
        theirs.call(f"reference.{call}", path=repo_path, **arguments)
        one, other = (
            side.call("describe.describe", path=repo_path, only_tips=True)
            for side in (ours, theirs)
        )
        assert one == other, call
        assert tip not in one["branches"].values()
    ours.call("scenarios.continued", path=repo_path, step=1)
    assert ours.call("describe.describe", path=repo_path) == theirs.call(
        "describe.describe", path=repo_path
    )


def test_their_statistics_of_our_chunks(repo_path: str, ours: Side, theirs: Oracle) -> None:
    ours.call("scenarios.many_chunks", path=repo_path, count=1000)
    native = sum(file.stat().st_size for file in (Path(repo_path) / "chunks").iterdir())
    assert theirs.call("reference.stats", path=repo_path)[0] == native


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("count", [50, 3000])
def test_their_list_of_our_virtual_chunks(
    repo_path: str, count: int, compress: bool, ours: Side, theirs: Oracle
) -> None:
    locations = ours.call("internals.write_virtual", path=repo_path, count=count, compress=compress)
    assert theirs.call("reference.virtual_locations", path=repo_path) == locations
    expected = ours.call("internals.chunk_references", path=repo_path)
    assert theirs.call("reference.chunk_references", path=repo_path) == expected
    compressed = sum(
        manifest["compression"]["num_compressed_refs"]
        for manifest in theirs.call("reference.inspect", path=repo_path)["manifests"].values()
    )
    assert (compressed > 0) == (compress and count > 1000)

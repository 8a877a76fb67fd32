"""Repositories with features that only the reference has: we read them, and commits keep them."""

from __future__ import annotations

import pytest
from oracle import Oracle, Side

COMMITTABLE = ("moved", "amended", "shifted", "expired", "administered", "paged", "migrated")


@pytest.mark.parametrize("writer", [*COMMITTABLE, "closed", "without_tags"])
def test_we_read_them(writer: str, repo_path: str, ours: Side, theirs: Oracle) -> None:
    theirs.call(f"reference.{writer}", path=repo_path)
    assert ours.call("describe.describe", path=repo_path) == theirs.call(
        "describe.describe", path=repo_path
    )


@pytest.mark.parametrize("writer", COMMITTABLE)
def test_we_commit_on_top(writer: str, repo_path: str, ours: Side, theirs: Oracle) -> None:
    theirs.call(f"reference.{writer}", path=repo_path)
    before = theirs.call("describe.describe", path=repo_path)
    kept = theirs.call("reference.administration", path=repo_path)
    stored = ours.call("internals.stored_config", path=repo_path)

    ours.call("scenarios.continued", path=repo_path, step=1)

    after = theirs.call("describe.describe", path=repo_path)
    assert after == ours.call("describe.describe", path=repo_path)
    assert theirs.call("reference.administration", path=repo_path) == kept
    assert ours.call("internals.stored_config", path=repo_path) == stored
    log = [{**entry, "backup": None} for entry in after["log"]]
    assert log[-len(before["log"]) :] == [{**entry, "backup": None} for entry in before["log"]]
    for snapshot, state in before["snapshots"].items():
        assert after["snapshots"][snapshot] == state
    theirs.call("reference.collect_garbage", path=repo_path)
    theirs.call("scenarios.continued", path=repo_path, step=5)
    assert theirs.call("describe.describe", path=repo_path) == ours.call(
        "describe.describe", path=repo_path
    )


def test_pruned_logs_survive_our_commit(repo_path: str, ours: Side, theirs: Oracle) -> None:
    theirs.call("reference.expired", path=repo_path)
    described = theirs.call("describe.describe", path=repo_path, only_tips=True)
    tip = described["branches"]["main"]
    root = described["histories"][tip][-1]["id"]
    before = theirs.call("reference.diff", path=repo_path, from_id=root, to_id=tip)
    assert before["new_arrays"] == ["/x"], "created in an expired commit"
    ours.call("scenarios.continued", path=repo_path, step=1)
    theirs.call("reference.collect_garbage", path=repo_path)
    assert theirs.call("reference.diff", path=repo_path, from_id=root, to_id=tip) == before


def test_a_closed_repository_refuses_us(repo_path: str, ours: Side, theirs: Oracle) -> None:
    theirs.call("reference.closed", path=repo_path)
    for side in (ours, theirs):
        assert side.call("sessions.refusal", path=repo_path, attempt="write") == [
            "ReadOnlyError",
            "read-only-repository",
        ]
        assert side.call("sessions.refusal", path=repo_path, attempt="branch") == [
            "ReadOnlyError",
            "read-only-repository",
        ]


def test_disabled_tags_are_disabled_for_us(repo_path: str, ours: Side, theirs: Oracle) -> None:
    theirs.call("reference.without_tags", path=repo_path)
    for side in (ours, theirs):
        for attempt in ("tag", "untag"):
            assert side.call("sessions.refusal", path=repo_path, attempt=attempt) == [
                "SessionStateError",
                "feature-flag-disabled",
            ]


@pytest.mark.slow
def test_large_manifests(repo_path: str, ours: Side, theirs: Oracle) -> None:
    theirs.call("scenarios.many_chunks", path=repo_path, count=20_000)
    handle = ours.call("sessions.begin", path=repo_path)
    ours.call("sessions.write", handle=handle, name="inline", start=11, stop=12, value=200)
    ours.call("sessions.commit", handle=handle, message="one row")
    one, other = (side.call("describe.describe_many", path=repo_path) for side in (ours, theirs))
    assert one == other


def test_rectilinear_grids(repo_path: str, ours: Side, theirs: Oracle) -> None:
    theirs.call("reference.rectilinear", path=repo_path)
    mine = ours.call("internals.chunk_references", path=repo_path)
    assert mine == theirs.call("reference.chunk_references", path=repo_path)
    assert [row[0] for row in mine["/x"]] == [[0, 0], [1, 2], [4, 2]]


@pytest.mark.parametrize("count", [50, 3000])
def test_virtual_references(repo_path: str, count: int, ours: Side, theirs: Oracle) -> None:
    theirs.call("reference.virtual", path=repo_path, count=count)
    mine = ours.call("internals.chunk_references", path=repo_path)
    for rows in mine.values():
        for row in rows:
            row[2] = row[2].replace("vcc://named/", "s3://named/")  # the reference resolves names
    assert mine == theirs.call("reference.chunk_references", path=repo_path)
    assert ours.call("internals.checksums", path=repo_path, array="/few") == [
        [[0], None, 0],
        [[1], '"etag"', 0],
        [[2], None, 1_714_979_289],
        [[3], None, 0],
    ]
    described = [
        side.call("describe.describe", path=repo_path, values=False) for side in (ours, theirs)
    ]
    assert described[0] == described[1]


def test_virtual_references_survive_our_commit(repo_path: str, ours: Side, theirs: Oracle) -> None:
    theirs.call("reference.virtual", path=repo_path, count=2000)
    before = theirs.call("reference.chunk_references", path=repo_path)
    handle = ours.call("sessions.begin", path=repo_path)
    for name in ("many", "few"):
        ours.call("sessions.write", handle=handle, name=name, start=7, stop=8, value=3)
    ours.call("sessions.commit", handle=handle, message="one chunk each")
    after = theirs.call("reference.chunk_references", path=repo_path)
    for name in ("/many", "/few"):
        changed = [row for row in after[name] if row not in before[name]]
        assert [row[0] for row in changed] == [[7]]
        assert len(after[name]) == len(before[name])

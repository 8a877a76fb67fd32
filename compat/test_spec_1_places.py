"""Spec version 1 in a bucket, where conditions are requests and names stand in keys as they are."""

from __future__ import annotations

import uuid

import pytest
from hands import CHAINS, Sides, described, label
from interop import histories
from oracle import Side
from test_spec_1_names import ODD

pytestmark = pytest.mark.slow


@pytest.fixture
def place(bucket: str) -> str:
    """Address of an empty prefix."""
    return f"{bucket}/compat/{uuid.uuid4().hex}"


@pytest.mark.parametrize("chain", CHAINS[1], ids=label)
def test_each_goes_on_where_another_stopped(
    chain: tuple[str, ...], place: str, spec_1_sides: Sides
) -> None:
    writer, *followers = (spec_1_sides[name] for name in chain)
    writer.call("steps.carry_out", path=place, steps=histories.references())
    before = writer.call("spec_1.describe", path=place)
    for number, side in enumerate([*followers, writer], start=1):
        side.call("steps.carry_out", path=place, steps=histories.going_on(number))
    after = described(spec_1_sides, place)
    assert before["snapshots"].keys() < after["snapshots"].keys()
    assert before["tags"].items() < after["tags"].items()


@pytest.mark.parametrize("chain", CHAINS[1], ids=label)
def test_a_session_overtaken_by_another_side(
    chain: tuple[str, ...], place: str, spec_1_sides: Sides
) -> None:
    slow, fast = (spec_1_sides[name] for name in chain[:2])
    slow.call("steps.carry_out", path=place, steps=histories.references())
    handle = slow.call("sessions.begin", path=place)
    slow.call("sessions.write", handle=handle, name="x", start=0, stop=1, value=7)
    tip = fast.call("sessions.append_row", path=place, name="x", value=1)
    assert slow.call("sessions.try_commit", handle=handle, message="late")["actual"] == tip
    assert slow.call("sessions.rebase", handle=handle) != []
    slow.call("sessions.append_row", path=place, name="x", value=2)
    for side in spec_1_sides.values():
        assert side.call("spec_1.read", path=place, name="x")[4:] == [1, 2]


@pytest.mark.parametrize("chain", CHAINS[1], ids=label)
def test_names(chain: tuple[str, ...], place: str, spec_1_sides: Sides) -> None:
    names = [name for name in ODD if _stands_in_keys(name)]
    assert {"ü", "feat#1", "100%", "%41", "a b"} <= set(names)
    writer, follower = (spec_1_sides[name] for name in chain[:2])
    writer.call("steps.create", path=place, spec=1)
    writer.call("spec_1.named", path=place, names=names)
    for side in spec_1_sides.values():
        assert _listed(side, place) == [sorted([*names, "main"]), sorted(names)]
    follower.call("spec_1.unnamed", path=place, names=names)
    for side in spec_1_sides.values():
        assert _listed(side, place) == [["main"], []]


def _listed(side: Side, place: str) -> list[list[str]]:
    return side.call("spec_1.listed", path=place)


def _stands_in_keys(name: str) -> bool:
    """Whether a name comes back from a listing; the references take a backslash for a slash."""
    return name.isprintable() and "\\" not in name


def test_migration(place: str, spec_1_sides: Sides) -> None:
    """What another implementation has left is found by both, under the names it was given."""
    writer, reader, migrator = (spec_1_sides[name] for name in ("1.x", "2.x", "ours"))
    names = [name for name in ODD if _stands_in_keys(name)]
    writer.call("steps.carry_out", path=place, steps=histories.aged())
    writer.call("spec_1.named", path=place, names=names)
    before = {
        name: writer.call("spec_1.describe", path=place)[name] for name in ("branches", "tags")
    }
    migrator.call("spec_1.migrate", path=place)
    for side in (migrator, reader):
        after = side.call("spec_1.describe", path=place)
        assert {name: after[name] for name in before} == before
    assert migrator.call("spec_1.migration_refused", path=place) == [
        "SessionStateError",
        "invalid-repository-migration",
    ]


@pytest.mark.parametrize("elsewhere", ["azure_container", "google_bucket"])
@pytest.mark.parametrize("chain", [("ours", "2.x"), ("2.x", "ours")], ids=label)
def test_names_are_spelled_elsewhere(
    chain: tuple[str, ...], elsewhere: str, spec_1_sides: Sides, request: pytest.FixtureRequest
) -> None:
    """Where the references use another client, they spell names as on local disks."""
    place = f"{request.getfixturevalue(elsewhere)}/compat/{uuid.uuid4().hex}"
    names = [name for name in ODD if name.isprintable()]
    writer, follower = (spec_1_sides[name] for name in chain)
    writer.call("steps.create", path=place, spec=1)
    writer.call("spec_1.named", path=place, names=names)
    follower.call("steps.commit", path=place, message="on", branch="ü", edits=[["group", "", {}]])
    root = "Repository initialized"
    for side in (writer, follower):
        found = side.call("spec_1.resolved", path=place, branches=names, tags=names)
        assert found["branches"] == {**dict.fromkeys(names, root), "ü": "on"}
        assert found["tags"] == dict.fromkeys(names, root)
    assert _listed(spec_1_sides["ours"], place) == [sorted([*names, "main"]), sorted(names)]
    follower.call("spec_1.unnamed", path=place, names=names)
    for side in (writer, follower):
        assert _listed(side, place) == [["main"], []]

"""The exchange in buckets: what holds on disk must hold where conditions are requests.

Each provider has conditions of its own: entity tags of S3 and Azure, generations of Google's.
"""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from interop.describe import content
from oracle import Oracle, Side

COMMITS = 12


@pytest.fixture(params=["bucket", "azure_container", "google_bucket"])
def place(request: pytest.FixtureRequest) -> str:
    """Address of an empty prefix."""
    return f"{request.getfixturevalue(request.param)}/compat/{uuid.uuid4().hex}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "scenario"),
    [
        *[("bucket", scenario) for scenario in ("hierarchy", "history", "moved", "forks")],
        ("azure_container", "hierarchy"),
        ("google_bucket", "hierarchy"),
    ],
    indirect=["place"],
)
def test_both_read_and_write_alike(place: str, scenario: str, ours: Side, theirs: Oracle) -> None:
    described = {}
    for side in (ours, theirs):
        written = f"{place}/{side.name}"
        side.call(f"scenarios.{scenario}", path=written)
        one, other = (reader.call("describe.describe", path=written) for reader in (ours, theirs))
        assert one == other
        described[side.name] = other
    assert content(described["ours"]) == content(described["theirs"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("exchange", "place"),
    [
        ("ours to theirs", "bucket"),
        ("theirs to ours", "azure_container"),
        ("ours to theirs", "google_bucket"),
    ],
    indirect=True,
)
def test_taking_turns(exchange: tuple[Side, Side], place: str) -> None:
    rounds = 4
    exchange[0].call("scenarios.bare", path=place)
    for step in range(1, rounds + 1):
        exchange[step % 2].call("scenarios.continued", path=place, step=step)
        one, other = (
            side.call("describe.describe", path=place, only_tips=True) for side in exchange
        )
        assert one == other, f"after round {step}"
    assert len(one["histories"][one["branches"]["main"]]) >= rounds


def test_a_session_overtaken_by_the_other_side(exchange: tuple[Side, Side], place: str) -> None:
    slow, fast = exchange
    slow.call("scenarios.bare", path=place)
    handle = slow.call("sessions.begin", path=place)
    slow.call("sessions.make_array", handle=handle, name="log", shape=[1], chunks=[1])
    base = slow.call("sessions.commit", handle=handle, message="start")
    handle = slow.call("sessions.begin", path=place)
    slow.call("sessions.write", handle=handle, name="log", start=0, stop=1, value=7)
    tip = fast.call("sessions.append_row", path=place, name="log", value=1)
    conflict = slow.call("sessions.try_commit", handle=handle, message="late")
    assert conflict == {"kind": "commit-conflict", "expected": base, "actual": tip}
    slow.call("sessions.append_row", path=place, name="log", value=2)
    for side in exchange:
        reader = side.call("sessions.begin", path=place)
        assert side.call("sessions.read", handle=reader, name="log") == [0, 1, 2]


@pytest.mark.slow
def test_both_commit_to_branches_of_their_own_at_once(
    ours: Side, theirs: Oracle, place: str
) -> None:
    """They share nothing but the one object that every commit exchanges."""
    theirs.call("scenarios.bare", path=place)
    sides = (ours, theirs)
    for side in sides:
        side.call("sessions.make_branch", path=place, name=side.name)

    def work(side: Side) -> list[str]:
        handle = side.call("sessions.begin", path=place, branch=side.name)
        side.call("sessions.make_array", handle=handle, name="log", shape=[COMMITS], chunks=[1])
        made = [side.call("sessions.commit", handle=handle, message="array")]
        for value in range(COMMITS):
            handle = side.call("sessions.begin", path=place, branch=side.name)
            numbers = {"start": value, "stop": value + 1, "value": value + 1}
            side.call("sessions.write", handle=handle, name="log", **numbers)
            made.append(side.call("sessions.commit", handle=handle, message=str(value)))
        return made

    with ThreadPoolExecutor(2) as pool:
        made = dict(zip((side.name for side in sides), pool.map(work, sides), strict=True))
    one, other = (side.call("describe.describe", path=place) for side in sides)
    assert one == other
    for name, commits in made.items():
        history = one["histories"][one["branches"][name]]
        assert [snapshot["id"] for snapshot in history[: COMMITS + 1]] == commits[::-1]
    for side in sides:
        for name in made:
            handle = side.call("sessions.begin", path=place, branch=name)
            rows = side.call("sessions.read", handle=handle, name="log")
            assert rows == list(range(1, COMMITS + 1))

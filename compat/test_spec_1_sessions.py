"""Sessions on repositories of spec version 1 that get in the way of another side's commits."""

from __future__ import annotations

import pytest
from hands import CHAINS, NAMES, Sides, described, label
from interop import histories
from interop.histories import commit, create


@pytest.fixture
def started(repo_path: str, spec_1_sides: Sides) -> str:
    """A repository with two arrays of ones, ``x`` and ``g/y``."""
    line = {"shape": [20], "chunks": [4], "dtype": "int64", "fill_value": 0}
    steps = [
        create(),
        commit(
            "start",
            ["group", "", {}],
            ["group", "g", {}],
            ["array", "x", line],
            ["array", "g/y", line],
        ),
    ]
    spec_1_sides["1.x"].call("steps.carry_out", path=repo_path, steps=steps)
    return repo_path


@pytest.mark.parametrize("chain", CHAINS[1], ids=label)
def test_one_rebases_over_what_another_committed(
    chain: tuple[str, ...], started: str, spec_1_sides: Sides
) -> None:
    first, second = (spec_1_sides[name] for name in chain[:2])
    apart, clashing = (first.call("sessions.begin", path=started) for _ in range(2))
    first.call("sessions.write", handle=apart, name="x", start=12, stop=16, value=3)
    first.call("sessions.write", handle=clashing, name="x", start=2, stop=6, value=4)
    other = second.call("sessions.begin", path=started)
    second.call("sessions.write", handle=other, name="x", start=0, stop=4, value=2)
    second.call("sessions.set_attribute", handle=other, name="g/y", key="by", value=chain[1])
    theirs = second.call("sessions.commit", handle=other, message="second")

    said = first.call("sessions.try_commit", handle=apart, message="too late")
    assert said["actual"] == theirs
    assert first.call("sessions.rebase", handle=apart) == []
    first.call("sessions.commit", handle=apart, message="first")
    assert [found[1:] for found in first.call("sessions.rebase", handle=clashing)] == [
        ["/x", [[0]]]
    ]
    first.call("sessions.rebase_keeping_ours", handle=clashing)
    first.call("sessions.commit", handle=clashing, message="insisting")

    after = described(spec_1_sides, started)
    line = after["histories"][after["branches"]["main"]]
    assert [entry["message"] for entry in line][:4] == ["insisting", "first", "second", "start"]
    expected = [2, 2, 4, 4, 4, 4, *[0] * 6, 3, 3, 3, 3, *[0] * 4]
    # the chunk that both had written is the one of the last to commit
    expected[0:2] = [0, 0]
    for side in spec_1_sides.values():
        assert side.call("spec_1.read", path=started, name="x") == expected


@pytest.mark.parametrize("chain", CHAINS[1], ids=label)
def test_one_deletes_what_another_writes(
    chain: tuple[str, ...], started: str, spec_1_sides: Sides
) -> None:
    first, second = (spec_1_sides[name] for name in chain[:2])
    handle = first.call("sessions.begin", path=started)
    first.call("sessions.write", handle=handle, name="g/y", start=0, stop=1, value=3)
    second.call("steps.carry_out", path=started, steps=[commit("without", ["delete", "g/y"])])
    found = first.call("sessions.rebase", handle=handle)
    assert [conflict[1] for conflict in found] == ["/g/y"]


@pytest.mark.parametrize("chain", CHAINS[1], ids=label)
def test_a_branch_is_reset_or_deleted_meanwhile(
    chain: tuple[str, ...], repo_path: str, spec_1_sides: Sides
) -> None:
    first, second = (spec_1_sides[name] for name in chain[:2])
    first.call("steps.carry_out", path=repo_path, steps=histories.references())
    handles = [first.call("sessions.begin", path=repo_path, branch="side") for _ in range(2)]
    for handle in handles:
        first.call("sessions.write", handle=handle, name="x", start=0, stop=1, value=3)
    second.call(
        "steps.carry_out", path=repo_path, steps=[{"do": "reset", "name": "side", "to": "aside"}]
    )
    before = described(spec_1_sides, repo_path)
    said = first.call("sessions.try_commit", handle=handles[0], message="on a branch that moved")
    assert said["actual"] == before["branches"]["side"]
    assert described(spec_1_sides, repo_path) == before


@pytest.mark.parametrize("shifting", sorted({*NAMES[1]} - {"1.x"}))
def test_shifted_chunks(shifting: str, started: str, spec_1_sides: Sides) -> None:
    """Renumbering chunks came with version 2 of the reference, and is allowed in version 1."""
    steps = [
        commit("filled", ["write", "x", [[0, 20]], 1]),
        commit("shifted", ["shift", "x", [2]]),
        commit("back and on", ["shift", "x", [-1]], ["write", "x", [[0, 4]], 50]),
    ]
    spec_1_sides[shifting].call("steps.carry_out", path=started, steps=steps)
    seen = described(spec_1_sides, started)
    line = seen["histories"][seen["branches"]["main"]]
    assert [entry["message"] for entry in line][:3] == ["back and on", "shifted", "filled"]
    for side in spec_1_sides.values():
        found = side.call("spec_1.read", path=started, name="x")
        assert found == [50, 51, 52, 53, *range(1, 13), 0, 0, 0, 0]

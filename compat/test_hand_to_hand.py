"""Repositories go from hand to hand, and everyone sees the same in them.

Histories are lists of steps (`interop.histories`): one side carries out the first, others go on.
Version 1 of the format is written by both generations of the reference.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hands import CHAINS, NAMES, Sides, dealt, described, label
from interop import histories
from interop.histories import of_version
from interop.spec_1 import content

RANDOM_HISTORIES = 3
DEALT = [
    (name, spec, chain) for spec in NAMES for name, chain in dealt(histories.NAMED, CHAINS[spec])
]
ALL_NAMED = [(name, spec) for name in histories.NAMED for spec in NAMES]


@pytest.mark.slow
@pytest.mark.parametrize(("history", "spec", "chain"), DEALT, ids=label)
def test_each_goes_on_where_another_stopped(
    history: str, spec: int, chain: tuple[str, ...], repo_path: str, all_sides: dict[int, Sides]
) -> None:
    sides = all_sides[spec]
    writer, *followers = (sides[name] for name in chain)
    steps = of_version(spec, histories.NAMED[history]())
    writer.call("steps.carry_out", path=repo_path, steps=steps)
    before = writer.call("spec_1.describe", path=repo_path)
    for number, side in enumerate([*followers, writer], start=1):
        side.call("steps.carry_out", path=repo_path, steps=histories.going_on(number))
    after = described(sides, repo_path)
    for id, state in before["snapshots"].items():
        assert after["snapshots"][id]["digests"] == state["digests"]
    assert after["config"] == before["config"]
    assert {f"tag {number}" for number in range(1, len(chain) + 1)} <= after["tags"].keys()


@pytest.mark.slow
@pytest.mark.parametrize(("history", "spec"), ALL_NAMED, ids=label)
def test_everyone_writes_the_same(
    history: str, spec: int, tmp_path: Path, all_sides: dict[int, Sides]
) -> None:
    written = {}
    for name, side in all_sides[spec].items():
        path = str(tmp_path / name)
        steps = of_version(spec, histories.NAMED[history]())
        side.call("steps.carry_out", path=path, steps=steps)
        written[name] = content(all_sides[spec]["2.x"].call("spec_1.describe", path=path))
    for name, found in written.items():
        assert found == written["2.x"], name


@pytest.mark.parametrize("spec", NAMES, ids=label)
@pytest.mark.parametrize("seed", range(RANDOM_HISTORIES))
def test_a_random_history_in_turns(
    seed: int, spec: int, tmp_path: Path, all_sides: dict[int, Sides]
) -> None:
    """Step by step another side; the result is what one side alone makes of the same steps."""
    steps = of_version(spec, histories.random_history(seed, 20))
    sides, names = all_sides[spec], NAMES[spec]
    in_turns, alone = str(tmp_path / "turns"), str(tmp_path / "alone")
    for number, step in enumerate(steps):
        side = sides[names[(number * 7 + seed) % len(names)]]
        side.call("steps.carry_out", path=in_turns, steps=[step])
    sides[names[seed % len(names)]].call("steps.carry_out", path=alone, steps=steps)
    assert content(described(sides, in_turns)) == content(
        sides["2.x"].call("spec_1.describe", path=alone)
    )

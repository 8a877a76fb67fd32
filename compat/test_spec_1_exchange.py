"""Repositories of spec version 1 go from hand to hand, and everyone sees the same in them.

Histories are lists of steps (`interop.histories`): one side carries out the first, others go on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from interop import histories
from interop.spec_1 import content
from oracle import Side

SIDES = ("2.x", "1.x")
CHAINS = [SIDES[start:] + SIDES[:start] for start in range(len(SIDES))]
RANDOM_HISTORIES = 4


def described(sides: dict[str, Side], path: str) -> Any:
    """Describe a repository, the same whoever looks at it."""
    seen = {name: side.call("spec_1.describe", path=path) for name, side in sides.items()}
    first = next(iter(seen.values()))
    for name, other in seen.items():
        assert other == first, f"{name} sees something else"
    return first


@pytest.mark.parametrize("chain", CHAINS, ids=" to ".join)
@pytest.mark.parametrize("history", histories.NAMED)
def test_each_goes_on_where_another_stopped(
    history: str, chain: tuple[str, ...], repo_path: str, spec_1_sides: dict[str, Side]
) -> None:
    writer, *followers = (spec_1_sides[name] for name in chain)
    writer.call("steps.carry_out", path=repo_path, steps=histories.NAMED[history]())
    before = writer.call("spec_1.describe", path=repo_path)
    for number, side in enumerate([*followers, writer], start=1):
        side.call("steps.carry_out", path=repo_path, steps=histories.going_on(number))
    after = described(spec_1_sides, repo_path)
    for id, state in before["snapshots"].items():
        assert after["snapshots"][id] == state
    assert after["config"] == before["config"]
    assert {f"tag {number}" for number in range(1, len(chain) + 1)} <= after["tags"].keys()


@pytest.mark.parametrize("history", histories.NAMED)
def test_everyone_writes_the_same(
    history: str, tmp_path: Path, spec_1_sides: dict[str, Side]
) -> None:
    written = {}
    for name, side in spec_1_sides.items():
        path = str(tmp_path / name)
        side.call("steps.carry_out", path=path, steps=histories.NAMED[history]())
        written[name] = content(spec_1_sides["1.x"].call("spec_1.describe", path=path))
    for name, found in written.items():
        assert found == written["1.x"], name


@pytest.mark.parametrize("seed", range(RANDOM_HISTORIES))
def test_a_random_history_in_turns(
    seed: int, tmp_path: Path, spec_1_sides: dict[str, Side]
) -> None:
    """Step by step another side; the result is what one side alone makes of the same steps."""
    steps = histories.random_history(seed, 25)
    names = sorted(spec_1_sides)
    in_turns, alone = str(tmp_path / "turns"), str(tmp_path / "alone")
    for number, step in enumerate(steps):
        side = spec_1_sides[names[(number * 7 + seed) % len(names)]]
        side.call("steps.carry_out", path=in_turns, steps=[step])
    spec_1_sides[names[seed % len(names)]].call("steps.carry_out", path=alone, steps=steps)
    reader = spec_1_sides[SIDES[0]]
    assert content(described(spec_1_sides, in_turns)) == content(
        reader.call("spec_1.describe", path=alone)
    )

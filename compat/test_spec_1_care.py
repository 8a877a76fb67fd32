"""Expiration and garbage collection of spec version 1: everyone does the same to equal copies.

Each side cares for a copy of its own, in which all ids are the same; then another goes on there.
"""

from __future__ import annotations

from typing import Any

import pytest
from hands import CHAINS, Sides, copies, described, files, label
from interop import histories

pytestmark = pytest.mark.slow

FLAGS = {
    "refs stay": {},
    "old branches go": {"branches": True},
    "old tags go": {"tags": True},
    "all old refs go": {"branches": True, "tags": True},
}
MOMENTS = ["new aside", "old 2", "new 1"]
"""What is older than these commits expires: the old ones, some of them, all but the tip of main."""
CASES = [(flags, "old 2") for flags in FLAGS]
CASES += [("all old refs go", before) for before in MOMENTS if before != "old 2"]


@pytest.fixture
def written(repo_path: str, spec_1_sides: Sides) -> str:
    """A repository that has aged."""
    spec_1_sides["1.x"].call("steps.carry_out", path=repo_path, steps=histories.aged())
    return repo_path


@pytest.mark.parametrize(("flags", "before"), CASES)
def test_all_expire_the_same(flags: str, before: str, written: str, spec_1_sides: Sides) -> None:
    done: dict[str, list[Any]] = {}
    for name, copy in copies(written, spec_1_sides).items():
        side = spec_1_sides[name]
        sides = {"itself": side, "1.x": spec_1_sides["1.x"]}
        released = side.call("spec_1.expire", path=copy, before=before, **FLAGS[flags])
        state = described(sides, copy)
        again = side.call("spec_1.expire", path=copy, before=before, **FLAGS[flags])
        done[name] = [released, state, again]
        assert described(sides, copy) == state, "repeating it changes nothing"
    for name, found in done.items():
        assert found == done["1.x"], name


@pytest.mark.parametrize("expired", [False, True], ids=["all", "expired"])
def test_all_collect_the_same(expired: bool, written: str, spec_1_sides: Sides) -> None:
    if expired:
        spec_1_sides["1.x"].call("spec_1.expire", path=written, before="new aside")
    before = described(spec_1_sides, written)
    left = {}
    for name, copy in copies(written, spec_1_sides).items():
        counts = spec_1_sides[name].call("spec_1.collect", path=copy)
        left[name] = counts, files(copy)
        assert counts[0] > 0, "there was no garbage"
        assert described(spec_1_sides, copy) == before
        assert spec_1_sides[name].call("spec_1.collect", path=copy) == [0, 0, 0, 0]
    for name, found in left.items():
        assert found == left["1.x"], name


@pytest.mark.parametrize("chain", CHAINS[1], ids=label)
def test_going_on_after_care(chain: tuple[str, ...], repo_path: str, spec_1_sides: Sides) -> None:
    caring, *others = (spec_1_sides[name] for name in chain)
    others[0].call("steps.carry_out", path=repo_path, steps=histories.aged())
    caring.call("spec_1.expire", path=repo_path, before="new aside", branches=True)
    caring.call("spec_1.collect", path=repo_path)
    for number, side in enumerate([*others, caring], start=1):
        side.call("steps.carry_out", path=repo_path, steps=histories.going_on(number))
        side.call("spec_1.collect", path=repo_path)
    after = described(spec_1_sides, repo_path)
    main = after["histories"][after["branches"]["main"]]
    messages = [entry["message"] for entry in main]
    going_on = [f"going on {number}" for number in range(len(chain), 0, -1)]
    assert messages == [*going_on, "new 1", "new 0", "Repository initialized"]
    assert "old branch" not in after["branches"]

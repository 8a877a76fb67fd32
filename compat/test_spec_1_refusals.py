"""What spec version 1 does not allow is refused by everyone, and leaves no trace."""

from __future__ import annotations

import pytest
from hands import Sides, files, newer
from interop import histories

REFUSALS = {
    "slash": "invalid ref",
    "existing branch": "conflict",
    "deleted tag": "already exists",
    "delete main": "main",
    "delete missing": "not found",
    "missing tag": "not found",
    "unknown snapshot": "not found",
}


@pytest.mark.parametrize("attempt", REFUSALS)
def test_refusals(attempt: str, repo_path: str, spec_1_sides: Sides) -> None:
    steps = histories.NAMED["references"]()
    spec_1_sides["1.x"].call("steps.carry_out", path=repo_path, steps=steps)
    before = files(repo_path)
    for name, side in spec_1_sides.items():
        said = side.call("spec_1.refused", path=repo_path, attempt=attempt)
        assert REFUSALS[attempt] in said.lower(), f"{name}: {said}"
        assert files(repo_path) == before


def test_what_only_version_2_has(repo_path: str, spec_1_sides: Sides) -> None:
    spec_1_sides["1.x"].call("steps.carry_out", path=repo_path, steps=histories.references())
    before = files(repo_path)
    for side in newer(spec_1_sides).values():
        refused = side.call("spec_1.refused_for_version_1", path=repo_path)
        assert len(refused) == 13
        for name, said in refused.items():
            assert said == ["FormatError", "unsupported-spec-version", True], name
        assert files(repo_path) == before

"""Names of branches and tags that cannot stand in a path as they are, on local disk.

The references spell them with ``%`` in the path, find them again by name, and list the spelled
ones (branches) or none (tags): only what can be looked up is compared with them.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hands import CHAINS, Sides, label

ODD = [
    "", " lead", "trail ", "a b", "a.b", "a:b", "x!", "semi;colon", "a&b=c+d@e,f", "$HOME", "UPPER",
    "-", ".", "..", "branch.x", "'q'", '"d"', "feat#1", "100%", "%41", "x|y", "[z]", "{x}", "<y>",
    "^", "?*", "~", "back\\slash", "back`tick", "tab\there", "\x07", "ü", "é̂", "日本", "🧊",
]  # fmt: skip


@pytest.mark.parametrize("chain", CHAINS[1], ids=label)
def test_odd_names_are_found_by_all(
    chain: tuple[str, ...], repo_path: str, spec_1_sides: Sides
) -> None:
    writer, follower = (spec_1_sides[name] for name in chain[:2])
    writer.call("steps.create", path=repo_path, spec=1)
    writer.call("spec_1.named", path=repo_path, names=ODD)
    follower.call(
        "steps.commit", path=repo_path, message="on", branch="ü", edits=[["group", "", {}]]
    )
    root = "Repository initialized"
    for side in spec_1_sides.values():
        found = side.call("spec_1.resolved", path=repo_path, branches=ODD, tags=ODD)
        assert found["branches"] == {**dict.fromkeys(ODD, root), "ü": "on"}
        assert found["tags"] == dict.fromkeys(ODD, root)
    follower.call("spec_1.unnamed", path=repo_path, names=ODD)
    for side in spec_1_sides.values():
        assert side.call("spec_1.listed", path=repo_path) == [["main"], []]


def test_all_spell_paths_alike(tmp_path: Path, spec_1_sides: Sides) -> None:
    spelled = {}
    for name, side in spec_1_sides.items():
        side.call("steps.create", path=str(tmp_path / name), spec=1)
        side.call("spec_1.named", path=str(tmp_path / name), names=ODD)
        spelled[name] = {
            file.relative_to(tmp_path / name): file.read_bytes()
            for file in (tmp_path / name / "refs").rglob("*")
            if file.is_file()
        }
    assert len(spelled["1.x"]) == 1 + 2 * len(ODD)
    for name, files in spelled.items():
        assert files == spelled["1.x"], name

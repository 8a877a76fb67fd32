"""Both implementations draw the same history of the same repository.

The reference's text is brought to our form first: it ends lines with blanks, leaves a gap behind a
line that a joining one crosses, gives a column to branches without commits of their own, and lists
an empty name where a tag or a snapshot was asked for.
"""

from __future__ import annotations

import re

import pytest
from oracle import Oracle, Side

GRID = re.compile(r"[●│─╯ ]*")


def our_form(text: str) -> str:
    """Write a drawing of the reference the way we do."""
    lines = [line for line in text.splitlines() if "... (showing" not in line]
    wide = max(GRID.match(line).end() for line in lines if "●" in line)  # type: ignore[union-attr]
    grids = [line[:wide].ljust(wide) for line in lines]
    labels = [line[wide:] for line in lines]
    is_used = {column for grid in grids for column in range(0, wide, 2) if grid[column] in "●╯"}
    used = sorted({0} | is_used)
    grids = ["".join(grid[column : column + 2] for column in used) for grid in grids]
    grids = [re.sub(r"│ (?=[─│ ]*╯)", "│─", grid) for grid in grids]
    labels = [re.sub(r"^(\w{8}) \((?:, )?([^)]*)\)", _refs, label) for label in labels]
    return "".join(
        (grid + label).rstrip() + "\n" for grid, label in zip(grids, labels, strict=True)
    )


def _refs(found: re.Match[str]) -> str:
    return f"{found[1]} ({found[2]})" if found[2] else found[1]


def commits_in(text: str) -> str:
    """Leave out how many commits were not drawn, which each tells in its own words."""
    return "".join(line + "\n" for line in text.splitlines() if not line.startswith("  ... "))


@pytest.mark.parametrize("seed", range(12))
def test_all_branches(seed: int, repo_path: str, ours: Side, theirs: Oracle) -> None:
    theirs.call("graphs.build", path=repo_path, seed=seed)
    expected = our_form(theirs.call("graphs.drawn", path=repo_path))
    assert ours.call("graphs.drawn", path=repo_path) == expected
    assert expected.count("●") > 5


@pytest.mark.parametrize("seed", [20, 21, 22])
def test_one_branch_tag_or_snapshot(seed: int, repo_path: str, ours: Side, theirs: Oracle) -> None:
    theirs.call("graphs.build", path=repo_path, seed=seed)
    branches, tags = ours.call("graphs.refs", path=repo_path)
    selectors = [{"branch": name} for name, _ in branches] + [{"tag": name} for name, _ in tags]
    selectors += [{"snapshot_id": snapshot} for _, snapshot in branches]
    for selector in selectors:
        expected = our_form(theirs.call("graphs.drawn", path=repo_path, **selector))
        assert ours.call("graphs.drawn", path=repo_path, **selector) == expected, selector


def test_a_long_history(repo_path: str, ours: Side, theirs: Oracle) -> None:
    messages = ["x" * 60, "y" * 61, "two\nlines", "<b>&", ""]
    ours.call("graphs.chain", path=repo_path, length=110, messages=messages)
    drawn = ours.call("graphs.drawn", path=repo_path)
    expected = our_form(theirs.call("graphs.drawn", path=repo_path))
    assert commits_in(drawn).removesuffix("│\n") == expected
    assert expected.count("●") == 100
    assert "16 older" in drawn


def test_colours_come_on_top(repo_path: str, ours: Side, theirs: Oracle) -> None:
    theirs.call("graphs.build", path=repo_path, seed=1)
    for side in (ours, theirs):
        coloured = side.call("graphs.coloured", path=repo_path)
        plain = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
        assert plain == side.call("graphs.drawn", path=repo_path) != coloured

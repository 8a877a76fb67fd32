"""Equal objects look alike in both implementations, as text and as a page."""

from __future__ import annotations

import re
from typing import Any

from oracle import Oracle, Side

# Differences on purpose: docs/design/009-differences-from-the-reference.md.
OTHER_STR = {"store", "readonly store"}
OTHER_PAGE = {"changes", "no changes", "difference"}
"""Pages of differences have the sections of the text here, and names of attributes there."""
OTHER_LINES = re.compile(
    r"^(metadata| *max_concurrent_manifest_fetches_during_commit): .*\n", re.MULTILINE
)


def comparable(name: str, shown: list[Any]) -> list[Any]:
    text, readable, page = shown
    text, readable = OTHER_LINES.sub("", text), OTHER_LINES.sub("", readable)
    if name == "fork":  # both write what the session holds as a snapshot of its own
        text, readable = (re.sub(r"snapshot_id: \w+", "", t) for t in (text, readable))
    return [text, None if name in OTHER_STR else readable, None if name in OTHER_PAGE else page]


def test_texts_and_pages(repo_path: str, ours: Side, theirs: Oracle) -> None:
    theirs.call("displays.build", path=repo_path)
    expected = theirs.call("displays.shown", path=repo_path)
    shown = ours.call("displays.shown", path=repo_path)
    assert set(shown) == set(expected)
    different = {
        name: (comparable(name, list(expected[name])), comparable(name, list(shown[name])))
        for name in shown
        if comparable(name, list(expected[name])) != comparable(name, list(shown[name]))
    }
    assert different == {}

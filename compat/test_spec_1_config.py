"""The configuration of spec version 1, ``config.yaml``: stored by one side, read by all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hands import CHAINS, NAMES, Sides, label
from oracle import Oracle, Side

SPLIT = {"t": 3, "x": 20}


@pytest.mark.parametrize("chain", CHAINS[1], ids=label)
def test_stored_by_one_changed_by_another(
    chain: tuple[str, ...], repo_path: str, spec_1_sides: Sides
) -> None:
    writer, follower = (spec_1_sides[name] for name in chain[:2])
    writer.call("steps.create", path=repo_path, spec=1, inline=37, split=SPLIT)
    first = _stored(spec_1_sides, repo_path)
    assert first["inline"] == 37
    assert len(first["splitting"][0][1]) == 2
    assert first["containers"] == ["file:///data/", "s3://bucket/"]

    changes = {"inline_chunk_threshold_bytes": 5, "get_partial_values_concurrency": 7}
    follower.call("spec_1.save_configuration", path=repo_path, **changes)
    second = _stored(spec_1_sides, repo_path)
    assert second == {**first, "inline": 5, "concurrency": 7}

    writer.call("spec_1.save_configuration", path=repo_path, max_concurrent_requests=11)
    assert _stored(spec_1_sides, repo_path) == {**second, "requests": 11}


@pytest.mark.parametrize("chain", CHAINS[1], ids=label)
def test_none_is_stored_until_one_is(
    chain: tuple[str, ...], repo_path: str, spec_1_sides: Sides
) -> None:
    writer, follower = (spec_1_sides[name] for name in chain[:2])
    writer.call("spec_1.create_plain", path=repo_path)
    assert not (Path(repo_path) / "config.yaml").exists()
    for side in spec_1_sides.values():
        assert side.call("spec_1.stored_configuration", path=repo_path) is None
    follower.call("spec_1.save_configuration", path=repo_path, inline_chunk_threshold_bytes=9)
    assert _stored(spec_1_sides, repo_path)["inline"] == 9


@pytest.mark.parametrize("writer", NAMES[1])
def test_we_read_theirs_and_they_read_ours(
    writer: str, repo_path: str, ours: Side, theirs: Oracle, spec_1_sides: Sides
) -> None:
    """The file itself: theirs as we read it, and what we write of it as they do."""
    spec_1_sides[writer].call("spec_1.create_rich", path=repo_path)
    stored = _stored(spec_1_sides, repo_path)
    assert stored["requests"] == 55
    assert len(stored["containers"]) == 4
    preload = theirs.call("spec_1.stored_preload", path=repo_path)
    everything = {**stored, "preload if": preload}
    assert "namematches(^t$)" in preload
    assert ours.call("files.configuration_read", path=repo_path) == everything
    ours.call("files.configuration_written_anew", path=repo_path)
    assert _stored(spec_1_sides, repo_path) == stored
    assert theirs.call("spec_1.stored_preload", path=repo_path) == preload
    for side in spec_1_sides.values():
        side.call("spec_1.save_configuration", path=repo_path, inline_chunk_threshold_bytes=1)
        assert ours.call("files.configuration_read", path=repo_path) == {**everything, "inline": 1}


def _stored(sides: Sides, path: str) -> dict[str, Any]:
    """Describe the stored configuration, the same whoever reads it."""
    seen = {
        name: side.call("spec_1.stored_configuration", path=path) for name, side in sides.items()
    }
    first, *others = seen.values()
    assert all(other == first for other in others), seen
    return first

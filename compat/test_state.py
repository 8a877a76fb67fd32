"""Both sides say the same of a repository: its metadata, status, flags, and what was done to it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from oracle import Oracle, RemoteError, Side


def test_administration(exchange: tuple[Side, Side], repo_path: str) -> None:
    writer, reader = exchange
    writer.call("scenarios.administered", path=repo_path)
    one, other = (side.call("describe.administration", path=repo_path) for side in exchange)
    assert one == other
    assert one["availability"] == "RepoAvailability.read_only"
    assert one["disabled"] == ["delete_tag"]
    assert _log(writer, repo_path) == _log(reader, repo_path)
    reader.call("scenarios.administered_further", path=repo_path)
    one, other = (side.call("describe.administration", path=repo_path) for side in exchange)
    assert one == other
    assert one["metadata"]["nested"] == {"other": "ä"}
    assert one["disabled"] == ["create_tag"]
    assert _log(writer, repo_path) == _log(reader, repo_path)


def _log(side: Side, path: str) -> object:
    return side.call("describe.describe", path=path, values=False)["log"]


def test_logs_of_many_pages(exchange: tuple[Side, Side], repo_path: str) -> None:
    """Both sides fill pages in turns, and read what both have written."""
    exchange[0].call("scenarios.paged", path=repo_path)
    for step in range(5):
        exchange[step % 2].call("scenarios.page_filled", path=repo_path, step=step)
        one, other = (_log(side, repo_path) for side in exchange)
        assert one == other
    assert isinstance(one, list)
    assert len(one) == 2 + 5 * 5


HISTORIES = ["hierarchy", "edits", "history"]


@pytest.mark.parametrize("scenario", HISTORIES)
def test_diffs_of_every_stretch(
    scenario: str, exchange: tuple[Side, Side], repo_path: str, ours: Side, theirs: Oracle
) -> None:
    exchange[0].call(f"scenarios.{scenario}", path=repo_path)
    compare_diffs(repo_path, ours, theirs)


@pytest.mark.parametrize("seed", range(4))
def test_diffs_of_random_edits(
    seed: int, exchange: tuple[Side, Side], repo_path: str, ours: Side, theirs: Oracle
) -> None:
    exchange[0].call("scenarios.random_edits", path=repo_path, seed=seed)
    compare_diffs(repo_path, ours, theirs)


@pytest.mark.parametrize("scenario", ["amended", "shifted", "expired", "migrated"])
def test_diffs_of_what_they_did(scenario: str, repo_path: str, ours: Side, theirs: Oracle) -> None:
    theirs.call(f"reference.{scenario}", path=repo_path)
    compare_diffs(repo_path, ours, theirs)


def test_moves_between_neighbours(repo_path: str, ours: Side, theirs: Oracle) -> None:
    """Over several commits ours are chained and theirs listed one by one."""
    theirs.call("reference.moved", path=repo_path)
    described = ours.call("describe.describe", path=repo_path, only_tips=True)
    (history,) = described["histories"].values()
    ids = [entry["id"] for entry in history]
    moves = 0
    for later, earlier in pairwise(ids):
        one, other = (
            side.call("describe.diff", path=repo_path, from_id=earlier, to_id=later)
            for side in (ours, theirs)
        )
        assert one == other
        moves += bool(one["moved_nodes"])
    assert moves == 2
    whole = ours.call("describe.diff", path=repo_path, from_id=ids[-2], to_id=ids[0])
    assert ["/a/x", "/back/x"] in whole["moved_nodes"]
    theirs_whole = theirs.call("describe.diff", path=repo_path, from_id=ids[-2], to_id=ids[0])
    for part in whole.keys() - {"moved_nodes"}:
        assert whole[part] == theirs_whole[part]


def compare_diffs(path: str, ours: Side, theirs: Oracle) -> None:
    described = ours.call("describe.describe", path=path, values=False, only_tips=True)
    compared = 0
    for history in described["histories"].values():
        ids = [entry["id"] for entry in history]
        stretches = [*pairwise(ids), (ids[0], ids[-1]), (ids[0], ids[len(ids) // 2])]
        for later, earlier in stretches:
            answers = []
            for side in (ours, theirs):
                try:
                    answers.append(
                        side.call("describe.diff", path=path, from_id=earlier, to_id=later)
                    )
                except RemoteError as error:
                    answers.append((error.class_name, error.kind))
                except Exception as error:
                    answers.append((type(error).__name__, getattr(error, "kind", None)))
            assert answers[0] == answers[1], (earlier, later)
            compared += 1
    assert compared

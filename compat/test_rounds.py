"""Both sides take turns on one repository, and after each turn both see the same."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from oracle import Oracle, Side


@pytest.mark.slow
@pytest.mark.parametrize(("start", "rounds"), [("bare", 8), ("forks", 4), ("hierarchy", 1)])
def test_taking_turns(exchange: tuple[Side, Side], start: str, rounds: int, repo_path: str) -> None:
    exchange[0].call(f"scenarios.{start}", path=repo_path)
    for step in range(1, rounds + 1):
        exchange[step % 2].call("scenarios.continued", path=repo_path, step=step)
        one, other = (
            side.call("describe.describe", path=repo_path, only_tips=True) for side in exchange
        )
        assert one == other, f"after round {step}"
    one, other = (side.call("describe.describe", path=repo_path) for side in exchange)
    assert one == other
    assert len(one["histories"][one["branches"]["main"]]) == rounds + (1 if start == "bare" else 2)


def test_alternating_commits_of_long_lived_repositories(
    exchange: tuple[Side, Side], repo_path: str
) -> None:
    writer = exchange[0]
    writer.call("scenarios.bare", path=repo_path)
    handle = writer.call("sessions.begin", path=repo_path)
    writer.call("sessions.make_array", handle=handle, name="log", shape=[0], chunks=[1])
    writer.call("sessions.commit", handle=handle, message="start")
    for value in range(10):
        side = exchange[value % 2]
        side.call("sessions.append_row", path=repo_path, name="log", value=value)
    for side in exchange:
        reader = side.call("sessions.begin", path=repo_path)
        assert side.call("sessions.read", handle=reader, name="log") == list(range(10))


def test_a_session_overtaken_by_the_other_side(exchange: tuple[Side, Side], repo_path: str) -> None:
    slow, fast = exchange
    slow.call("scenarios.bare", path=repo_path)
    handle = slow.call("sessions.begin", path=repo_path)
    slow.call("sessions.make_array", handle=handle, name="log", shape=[1], chunks=[1])
    base = slow.call("sessions.commit", handle=handle, message="start")
    handle = slow.call("sessions.begin", path=repo_path)
    slow.call("sessions.write", handle=handle, name="log", start=0, stop=1, value=7)
    tip = fast.call("sessions.append_row", path=repo_path, name="log", value=1)
    conflict = slow.call("sessions.try_commit", handle=handle, message="late")
    assert conflict == {"kind": "commit-conflict", "expected": base, "actual": tip}
    assert slow.call("sessions.read", handle=handle, name="log") == [7]
    slow.call("sessions.append_row", path=repo_path, name="log", value=2)
    for side in exchange:
        reader = side.call("sessions.begin", path=repo_path)
        assert side.call("sessions.read", handle=reader, name="log") == [0, 1, 2]


def test_they_read_while_we_commit(repo_path: str, ours: Side, theirs: Oracle) -> None:
    ours.call("scenarios.bare", path=repo_path)
    handle = ours.call("sessions.begin", path=repo_path)
    ours.call("sessions.make_array", handle=handle, name="log", shape=[0], chunks=[1])
    ours.call("sessions.commit", handle=handle, message="start")

    def append(value: int) -> None:
        ours.call("sessions.append_row", path=repo_path, name="log", value=value)

    with ThreadPoolExecutor(1) as pool:
        commits = [pool.submit(append, value) for value in range(25)]
        seen = [0]
        while seen[-1] < len(commits):
            if all(commit.done() for commit in commits):
                for commit in commits:
                    commit.result()
            reader = theirs.call("sessions.begin", path=repo_path)
            rows = theirs.call("sessions.read", handle=reader, name="log")
            assert rows == list(range(len(rows)))
            seen.append(len(rows))
        assert seen == sorted(seen)

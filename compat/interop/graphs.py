"""Histories with many branches, and how an implementation draws them."""

from __future__ import annotations

import random

import icechunk
from interop.describe import open_repository
from interop.places import storage_at

STEPS = 30


def build(path: str, seed: int) -> None:
    """Make a repository with a history drawn at random, the same for the same seed."""
    chance = random.Random(seed)
    repo = icechunk.Repository.create(storage_at(path))
    snapshots = [repo.lookup_branch("main")]
    for number in range(STEPS):
        _step(repo, chance, snapshots, number)


def _step(
    repo: icechunk.Repository, chance: random.Random, snapshots: list[str], number: int
) -> None:
    branches = sorted(repo.list_branches())
    branch = chance.choice(branches)
    snapshot = chance.choice(snapshots[-8:])
    action = chance.choices(
        ["commit", "amend", "flush", "create", "reset", "tag", "delete"],
        [12, 1, 1, 6, 2, 2, 1],
    )[0]
    session = repo.writable_session(branch)
    if action == "commit":
        snapshots.append(session.commit(f"commit {number}", allow_empty=True))
    elif action == "amend" and len(list(repo.ancestry(branch=branch))) > 1:
        snapshots.append(session.amend(f"amended {number}", allow_empty=True))
    elif action == "flush":
        snapshots.append(session.flush(f"aside {number}"))
    elif action == "create":
        repo.create_branch(f"{chance.choice('abcxyz')}{number}", snapshot)
    elif action == "reset":
        repo.reset_branch(branch, snapshot)
    elif action == "tag":
        repo.create_tag(f"{chance.choice('abcxyz')}{number}", snapshot)
    elif action == "delete" and branch != "main":
        repo.delete_branch(branch)


def chain(path: str, length: int, messages: list[str]) -> None:
    """Make a repository with one long branch, the messages given on top."""
    repo = icechunk.Repository.create(storage_at(path))
    for message in [f"commit {number}" for number in range(length)] + messages:
        repo.writable_session("main").commit(message, allow_empty=True)


def refs(path: str) -> list[list[list[str]]]:
    """Return branches and tags as pairs of name and snapshot."""
    repo = open_repository(path)
    return [
        [[name, repo.lookup_branch(name)] for name in sorted(repo.list_branches())],
        [[name, repo.lookup_tag(name)] for name in sorted(repo.list_tags())],
    ]


def drawn(path: str, **selector: str) -> str:
    """Draw a history without colours."""
    return str(open_repository(path).ancestry_graph(plain=True, **selector))


def coloured(path: str) -> str:
    """Draw all branches for a terminal."""
    return str(open_repository(path).ancestry_graph())

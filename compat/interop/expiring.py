"""Histories drawn at random, shortened now and then."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import zarr
from zarr.core.buffer import default_buffer_prototype

import icechunk
from interop.describe import describe_snapshot, history, open_repository
from interop.places import storage_at

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def build(path: str, seed: int, steps: int = 40, **options: Any) -> None:
    """Make a repository with branches, tags, resets, amended and detached snapshots."""
    chance = random.Random(seed)
    repo = icechunk.Repository.create(storage_at(path), **options)
    take_steps(repo, chance, steps, [repo.lookup_branch("main")])


def go_on(path: str, seed: int, steps: int = 15) -> None:
    """Make more of the same history."""
    repo = open_repository(path)
    tips = [repo.lookup_branch(name) for name in sorted(repo.list_branches())]
    take_steps(repo, random.Random(seed), steps, tips)


def _nothing(_: icechunk.Session) -> None:
    pass


def take_steps(
    repo: icechunk.Repository,
    chance: random.Random,
    steps: int,
    snapshots: list[str],
    edit: Callable[[icechunk.Session], None] = _nothing,
) -> None:
    """Do one random thing after the other; `edit` says what each session changes."""
    for number in range(steps):
        name = f"{chance.choice('abcxyz')}{number} {len(snapshots)}"
        _step(repo, chance, snapshots, name, edit)


def _step(
    repo: icechunk.Repository,
    chance: random.Random,
    snapshots: list[str],
    name: str,
    edit: Callable[[icechunk.Session], None],
) -> None:
    branch = chance.choice(sorted(repo.list_branches()))
    snapshot = chance.choice(snapshots[-12:])
    action = chance.choices(
        ["commit", "amend", "flush", "create", "reset", "tag", "delete", "untag", "expire"],
        [14, 2, 2, 5, 3, 3, 1, 1, 2],
    )[0]
    tags = sorted(repo.list_tags())
    if action == "commit":
        session = repo.writable_session(branch)
        edit(session)
        snapshots.append(session.commit(name, allow_empty=True))
    elif (
        action == "amend"
        and int(repo.spec_version) > 1
        and len(list(repo.ancestry(branch=branch))) > 1
    ):
        session = repo.writable_session(branch)
        edit(session)
        snapshots.append(session.amend(f"amended {name}", allow_empty=True))
    elif action == "flush":
        session = repo.writable_session(branch)
        edit(session)
        snapshots.append(session.flush(f"aside {name}"))
    elif action == "create":
        repo.create_branch(name, snapshot)
    elif action == "reset":
        repo.reset_branch(branch, snapshot)
    elif action == "tag":
        repo.create_tag(name, snapshot)
    elif action == "delete" and branch != "main":
        repo.delete_branch(branch)
    elif action == "untag" and tags:
        repo.delete_tag(chance.choice(tags))
    elif action == "expire":
        times = [repo.lookup_snapshot(known).written_at for known in snapshots]
        gone = repo.expire_snapshots(
            times[len(times) // 2],
            delete_expired_branches=chance.random() < 0.3,
            delete_expired_tags=chance.random() < 0.3,
        )
        snapshots[:] = [known for known in snapshots if known not in gone]


def told(path: str) -> Any:
    """Describe all that branches and tags lead to, in repositories of any version."""
    repo = open_repository(path)
    tips = {f"branch {name}": repo.lookup_branch(name) for name in repo.list_branches()}
    tips |= {f"tag {name}": repo.lookup_tag(name) for name in repo.list_tags()}
    histories = {name: history(repo, tip) for name, tip in sorted(tips.items())}
    ids = {entry["id"] for entries in histories.values() for entry in entries}
    return [histories, {name: describe_snapshot(repo, name, values=True) for name in sorted(ids)}]


def expire(path: str, older_than_us: int, **options: Any) -> list[str]:
    """Expire what was written before a time; return the ids of what was released, in order."""
    older_than = EPOCH + timedelta(microseconds=older_than_us)
    return sorted(open_repository(path).expire_snapshots(older_than, **options))


def edit(path: str, by: str) -> None:
    """Add a group to every branch."""
    repo = open_repository(path)
    for branch in sorted(repo.list_branches()):
        session = repo.writable_session(branch)
        zarr.create_group(session.store, path=f"made by {by}")
        session.commit(f"group made by {by}")


def rebase_over(path: str) -> list[Any]:
    """Open sessions, let others commit and the history be shortened, and rebase the sessions.

    Returns how many snapshots were released, and for each session the conflicts, or the history
    after its commit.
    """
    repo = icechunk.Repository.create(storage_at(path))
    names = ("z", "x", "y", "x")
    opened = [repo.writable_session("main") for _ in names]
    for session, name in zip(opened, names, strict=True):
        _make_array(session, name)
    for name in ("x", "w", "y"):
        session = repo.writable_session("main")
        _make_array(session, name)
        session.commit(f"add {name}")
    session = repo.writable_session("main")
    asyncio.run(session.store.delete_dir("y"))
    session.commit("without y")
    time.sleep(0.002)
    older_than = datetime.now(UTC)
    time.sleep(0.002)
    session = repo.writable_session("main")
    _make_array(session, "v")
    session.commit("add v")
    found: list[Any] = [len(repo.expire_snapshots(older_than))]
    for session in opened:
        try:
            session.rebase(icechunk.ConflictDetector())
            session.commit("rebased")
        except icechunk.RebaseFailedError as error:
            found.append([[str(item.conflict_type), item.path] for item in error.conflicts])
        else:
            found.append([info.message for info in repo.ancestry(branch="main")])
    return found


def _make_array(session: icechunk.Session, name: str) -> None:
    """Make an array without a group above it, so that sessions differ in nothing else."""
    document = zarr.create_array({}, shape=(8,), chunks=(1,), dtype="int64").metadata
    (data,) = document.to_buffer_dict(default_buffer_prototype()).values()
    asyncio.run(session.store.set(f"{name}/zarr.json", data))

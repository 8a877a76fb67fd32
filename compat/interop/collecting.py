"""Histories with chunks, drawn at random, and the collection of what they leave behind."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import zarr

import icechunk
from interop.describe import open_repository
from interop.expiring import take_steps
from interop.places import storage_at

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CHUNK = 128  # of eight bytes: more than goes into manifests
FIELDS = (
    "bytes_deleted",
    "chunks_deleted",
    "manifests_deleted",
    "snapshots_deleted",
    "attributes_deleted",
    "transaction_logs_deleted",
    "objects_failed_to_delete",
    "throttled_batches",
    "delete_errors",
    "skipped_phases",
)


def build(path: str, seed: int, steps: int = 30, **options: Any) -> None:
    """Make a repository with branches, tags, and snapshots that nothing leads to.

    Some sessions write and never commit.
    """
    repo = icechunk.Repository.create(storage_at(path), **options)
    session = repo.writable_session("main")
    shape, chunks = (8 * CHUNK,), (CHUNK,)
    zarr.create_array(
        session.store, name="x", shape=shape, chunks=chunks, dtype="i8", compressors=None
    )
    _take_steps(repo, seed, steps, [session.commit("start")])


def go_on(path: str, seed: int, steps: int = 10) -> None:
    """Make more of the same history."""
    repo = open_repository(path)
    _take_steps(repo, seed, steps, [repo.lookup_branch(n) for n in sorted(repo.list_branches())])


def _take_steps(repo: icechunk.Repository, seed: int, steps: int, snapshots: list[str]) -> None:
    chance = random.Random(seed)

    def edit(session: icechunk.Session) -> None:
        array = zarr.open_array(session.store, path="x")
        array[chance.randrange(8) * CHUNK] = chance.randrange(1, 100)
        if chance.random() < 0.3:  # another one that never commits
            array = zarr.open_array(repo.writable_session(session.branch).store, path="x")
            array[0] = 1

    take_steps(repo, chance, steps, snapshots, edit)


def collect(path: str, older_than_us: int, **options: Any) -> dict[str, Any]:
    """Collect garbage that was stored before a time; tell what the summary tells."""
    older_than = EPOCH + timedelta(microseconds=older_than_us)
    summary = open_repository(path).garbage_collect(older_than, **options)
    return {name: getattr(summary, name) for name in FIELDS}


def text_of_summary(path: str) -> list[str]:
    """Show a summary of nothing."""
    summary = open_repository(path).garbage_collect(EPOCH)
    return [repr(summary), str(summary)]

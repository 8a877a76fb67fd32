"""The state in version 2 that is made of refs and histories of version 1, beside the reference's.

Times are made up so that much happens at the same time: who comes first then is compared, too.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import TypeVar

import pytest
from oracle import Oracle

import icechunk
from icechunk.config.yaml import config_to_yaml
from icechunk.format.ids import INITIAL_SNAPSHOT_ID
from icechunk.format.layout import CONFIG, REPO, snapshot_key
from icechunk.format.nodes import NodeTable
from icechunk.format.refs_v1 import encode_ref, ref_key, tombstone_key
from icechunk.format.repo_info import RepoInfo, decode_repo_info
from icechunk.format.snapshot import Snapshot, encode_snapshot
from icechunk.format.snapshot_table import SnapshotEntry
from icechunk.ops.migrated_state import RefHistory, migrated_state
from icechunk.repo.stored_config import decode_config, encode_config

T = TypeVar("T")

BEGINNING = 1_700_000_000_000_000
STEPS = (1, 1, 2, 500, 998, 999, 1000, 1001, 1002, 2000, 2500)
"""Microseconds between commits; refs are dated a millisecond after their snapshots."""
NAMES = ("a", "b", "B", "10", "9", "z z", "A.b", "ab", "a-")
METADATA = ({}, {"b": 1, "a": {"x": [1.5, None]}})


def made_up(choose: random.Random) -> RefHistory:
    """Make up a history with some branches, tags and deleted tags."""
    root = SnapshotEntry(INITIAL_SNAPSHOT_ID, None, BEGINNING, "Repository initialized")
    entries = [root]
    for number in range(choose.randint(0, 25)):
        parent = choose.choice(entries[-4:])
        time = parent.flushed_at + choose.choice(STEPS)
        metadata = choose.choice(METADATA)
        id = choose.randbytes(12)
        entries.append(SnapshotEntry(id, parent.id, time, f"commit {number}", metadata))

    def some(names: Iterable[T]) -> list[T]:
        names = list(names)
        return choose.sample(names, choose.randint(0, min(5, len(names))))

    branches = {name: choose.choice(entries).id for name in ["main", *some(NAMES)]}
    tags = {name: choose.choice(entries).id for name in some(NAMES)}
    gone = {name: choose.choice(entries).id for name in some(sorted(set(NAMES) - tags.keys()))}
    config = icechunk.RepositoryConfig(inline_chunk_threshold_bytes=7)
    return RefHistory(
        branches,
        tags,
        dict(gone),
        {entry.id: entry for entry in entries},
        choose.choice([None, encode_config(config)]),
    )


def write(storage: icechunk.Storage, history: RefHistory) -> None:
    """Store a history the way version 1 has it."""
    for entry in history.snapshots.values():
        snapshot = Snapshot(
            id=entry.id,
            parent_id=entry.parent_id,
            nodes=NodeTable.empty(),
            flushed_at=entry.flushed_at,
            message=entry.message,
            metadata=entry.metadata,
            spec_version=1,
        )
        storage.put(snapshot_key(entry.id), encode_snapshot(snapshot))
    for name, tip in history.branches.items():
        storage.put(ref_key("branch", name), encode_ref(tip))
    for name, target in {**history.tags, **history.deleted_tags}.items():
        assert target is not None
        storage.put(ref_key("tag", name), encode_ref(target))
    for name in history.deleted_tags:
        storage.put(tombstone_key(name), b"")
    config = decode_config(history.config)
    if config is not None:
        storage.put(CONFIG, config_to_yaml(config))


def reachable(history: RefHistory) -> dict[bytes, SnapshotEntry]:
    """Keep what branches and tags lead to."""
    found: dict[bytes, SnapshotEntry] = {}
    for tip in [*history.branches.values(), *history.tags.values()]:
        at: bytes | None = tip
        while at is not None and at not in found:
            found[at] = history.snapshots[at]
            at = found[at].parent_id
    return found


@pytest.mark.parametrize("seed", range(12))
def test_the_reference_makes_the_same_of_it(seed: int, repo_path: str, theirs: Oracle) -> None:
    whole = made_up(random.Random(seed))
    history = RefHistory(
        whole.branches, whole.tags, whole.deleted_tags, reachable(whole), whole.config
    )
    storage = icechunk.local_filesystem_storage(repo_path)
    write(storage, whole)
    theirs.call("spec_1.migrate", path=repo_path)
    made = decode_repo_info(storage.get(REPO))
    expected = migrated_state(history, made.updates[0].updated_at)
    for name in RepoInfo.__slots__:
        found, wanted = getattr(made, name), getattr(expected, name)
        if name == "config":
            found, wanted = decode_config(found), decode_config(wanted)
        assert found == wanted, name

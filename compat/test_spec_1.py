"""Files of spec version 1, which migrated repositories keep, as decoded one by one."""

from __future__ import annotations

from typing import Any

import pytest
from oracle import Oracle, Side


@pytest.fixture
def described(any_oracle: Oracle, repo_path: str) -> dict[str, Any]:
    """A repository of spec version 1, and what its writer says is in it."""
    options = {} if any_oracle.is_spec_1 else {"spec_version": 1}
    any_oracle.call("reference.spec_1", path=repo_path, **options)
    return any_oracle.call("reference.describe_spec_1", path=repo_path)


def test_every_file_is_of_spec_version_1(
    described: dict[str, Any], repo_path: str, ours: Side
) -> None:
    assert len(described) == 4
    versions = ours.call("internals.spec_versions", path=repo_path)
    assert versions == {"snapshots": [1], "manifests": [1], "transactions": [1]}


def test_snapshots_manifests_and_chunks(
    described: dict[str, Any], repo_path: str, ours: Side
) -> None:
    assert ours.call("internals.read_files", path=repo_path) == described


def test_transaction_logs(
    described: dict[str, Any], repo_path: str, ours: Side, any_oracle: Oracle
) -> None:
    for snapshot, state in described.items():
        if state["parent_id"] is None:
            continue
        ends = {"from_id": state["parent_id"], "to_id": snapshot}
        expected = any_oracle.call("reference.diff", path=repo_path, **ends)
        found = ours.call(
            "internals.read_changes", path=repo_path, snapshot_id=snapshot,
            parent_id=state["parent_id"],
        )  # fmt: skip
        assert found == expected

"""Both take the same files apart in the same way, and count the same bytes."""

from __future__ import annotations

from typing import Any

import pytest
from interop import scenarios
from oracle import Oracle, RemoteError, Side

pytestmark = pytest.mark.slow

BOTH_WRITE = ("hierarchy", "edits", "history", "forks", "rich_config")
THEY_WRITE = (
    "moved",
    "amended",
    "shifted",
    "expired",
    "administered",
    "closed",
    "paged",
    "migrated",
)


def compare(path: str, ours: Side, theirs: Oracle) -> Any:
    """Compare everything both say of a repository; return it."""
    mine, other = (side.call("reference.inspect", path=path) for side in (ours, theirs))
    for name in mine:  # piece by piece: the whole would be an unreadable failure
        assert mine[name] == other[name], name
    assert mine == other
    counted = ours.call("reference.stats", path=path)
    assert counted == theirs.call("reference.stats", path=path)
    assert ours.call("usage.wholes", path=path) == [counted] * 4
    return {**mine, "stats": counted}


@pytest.mark.parametrize("scenario", BOTH_WRITE)
def test_what_both_write(
    scenario: str, exchange: tuple[Side, Side], repo_path: str, ours: Side, theirs: Oracle
) -> None:
    exchange[0].call(f"scenarios.{scenario}", path=repo_path)
    found = compare(repo_path, ours, theirs)
    assert found["snapshots"]


@pytest.mark.parametrize("split", scenarios.SPLITS)
def test_split_manifests(
    split: str, exchange: tuple[Side, Side], repo_path: str, ours: Side, theirs: Oracle
) -> None:
    exchange[0].call("scenarios.splitting", path=repo_path, split=split)
    found = compare(repo_path, ours, theirs)
    assert len(found["manifests"]) > 5


@pytest.mark.parametrize("writer", THEY_WRITE)
def test_what_only_they_write(writer: str, repo_path: str, ours: Side, theirs: Oracle) -> None:
    theirs.call(f"reference.{writer}", path=repo_path)
    compare(repo_path, ours, theirs)


@pytest.mark.parametrize("count", [20, 2000])
def test_virtual_chunks(count: int, repo_path: str, ours: Side, theirs: Oracle) -> None:
    theirs.call("reference.virtual", path=repo_path, count=count)
    found = compare(repo_path, ours, theirs)
    compressed = [
        m["compression"]["uses_location_compression"] for m in found["manifests"].values()
    ]
    assert any(compressed) == (count >= 1000)
    assert found["stats"][1] > 0


def test_after_expiration_and_our_commit(repo_path: str, ours: Side, theirs: Oracle) -> None:
    theirs.call("reference.expired", path=repo_path)
    ours.call("scenarios.continued", path=repo_path, step=1)
    found = compare(repo_path, ours, theirs)
    assert any("synthetic_composite" in log for log in found["logs"].values())


@pytest.mark.parametrize(
    "name", ["inspect_snapshot", "inspect_manifest", "inspect_transaction_log"]
)
@pytest.mark.parametrize("argument", ["", "foo", "00000000000000000000", "!" * 20, 3])
def test_wrong_ids(name: str, argument: object, repo_path: str, ours: Side, theirs: Oracle) -> None:
    ours.call("scenarios.bare", path=repo_path)
    with pytest.raises(RemoteError) as refused:
        theirs.call("reference.inspect_file", path=repo_path, method=name, id=argument)
    with pytest.raises(Exception) as error:
        ours.call("reference.inspect_file", path=repo_path, method=name, id=argument)
    assert refused.value.class_name in [cls.__name__ for cls in type(error.value).__mro__]
    assert getattr(error.value, "kind", None) == refused.value.kind

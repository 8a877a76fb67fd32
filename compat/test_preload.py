"""The manifests that the reference fetches when a session starts are those we would choose."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from interop import preloads
from oracle import Oracle, Side
from watched import watching

import icechunk
from icechunk.assets.preload import manifests_to_preload
from icechunk.config.effective import effective
from icechunk.format.ids import encode_id
from icechunk.format.snapshot import decode_snapshot

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs inotify")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, ours: Side) -> Path:
    where = tmp_path_factory.mktemp("preload") / "repo"
    ours.call("preloads.build", path=str(where))
    return where


def our_choice(path: Path, name: str) -> set[str]:
    """Ids of the manifests that we choose."""
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(path)))
    tip = repo.lookup_branch("main")
    snapshot = decode_snapshot((path / "snapshots" / tip).read_bytes(), "snapshot")
    preload = effective(preloads.configuration(name)).preload
    return {encode_id(file.id) for file in manifests_to_preload(snapshot, preload)}


def describe(path: Path, manifests: set[str]) -> list[str]:
    """Name manifests by what is in them."""
    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(path)))
    nodes = repo.inspect_snapshot(repo.lookup_branch("main"))["nodes"]
    return [
        f"{node['path']} {ref['extents']}"
        for node in nodes
        for ref in node.get("manifest_refs", ())
        if ref["id"] in manifests
    ]


@pytest.mark.parametrize("name", preloads.CONFIGURATIONS)
def test_choices_are_the_same(name: str, path: Path, theirs: Oracle) -> None:
    with watching(path / "manifests") as opened:
        theirs.call("preloads.start_session", path=str(path), name=name)
        read = opened.names()
    theirs.call("preloads.end_session")
    mine = our_choice(path, name)
    assert describe(path, set(read)) == describe(path, mine)

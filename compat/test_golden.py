"""Repositories that the reference wrote once, and what it read from them; needs no reference.

Written by `make_golden`; ``golden/PROVENANCE.json`` says by which versions.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from oracle import Side

GOLDEN = Path(__file__).with_name("golden")
PROVENANCE = json.loads((GOLDEN / "PROVENANCE.json").read_text())
SPEC_1 = sorted(name for name in PROVENANCE if name.startswith("spec-1"))
REPOSITORIES = sorted(set(PROVENANCE) - set(SPEC_1) - {"virtual"})
UNCHANGEABLE = ("closed",)


def unpack(name: str, repo_path: str) -> Any:
    """Restore a repository at a path and return what is expected of it."""
    with zipfile.ZipFile(GOLDEN / f"{name}.zip") as zipped:
        for member in zipped.namelist():
            if member.startswith("repo/"):
                file = Path(repo_path) / member.removeprefix("repo/")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(zipped.read(member))
        return json.loads(zipped.read("expected.json"))


def test_every_archive_has_a_provenance() -> None:
    assert {file.stem for file in GOLDEN.glob("*.zip")} == set(PROVENANCE)


@pytest.mark.parametrize("name", REPOSITORIES)
def test_reading(name: str, repo_path: str, ours: Side) -> None:
    expected = unpack(name, repo_path)
    assert ours.call("describe.describe", path=repo_path) == expected


@pytest.mark.parametrize("name", [name for name in REPOSITORIES if name not in UNCHANGEABLE])
def test_committing_on_top(name: str, repo_path: str, ours: Side) -> None:
    expected = unpack(name, repo_path)
    handle = ours.call("sessions.begin", path=repo_path)
    ours.call("sessions.make_array", handle=handle, name="added", shape=[4], chunks=[2])
    ours.call("sessions.write", handle=handle, name="added", start=1, stop=3, value=7)
    tip = ours.call("sessions.commit", handle=handle, message="on top")
    found = ours.call("describe.describe", path=repo_path)
    assert found["branches"] == {**expected["branches"], "main": tip}
    old_line = expected["histories"][expected["branches"]["main"]]
    assert found["histories"][tip][1:] == old_line
    assert found["tags"] == expected["tags"]
    assert found["stored config"] == expected["stored config"]
    for snapshot, state in expected["snapshots"].items():
        assert found["snapshots"][snapshot] == state
    operations = [entry["operation"] for entry in found["log"]]
    assert operations == ["NewCommit", *(entry["operation"] for entry in expected["log"])]


def test_virtual_references(repo_path: str, ours: Side) -> None:
    expected = unpack("virtual", repo_path)
    found = ours.call("describe.describe", path=repo_path, values=False)
    assert found == expected["described"]
    references = ours.call("internals.chunk_references", path=repo_path)
    for rows in references.values():
        for row in rows:
            row[2] = row[2].replace("vcc://named/", "s3://named/")  # the reference resolves names
    assert references == expected["references"]


@pytest.mark.parametrize("name", SPEC_1)
def test_files_of_spec_version_1(name: str, repo_path: str, ours: Side) -> None:
    expected = unpack(name, repo_path)
    assert ours.call("internals.read_files", path=repo_path) == expected["snapshots"]
    for snapshot, changes in expected["changes"].items():
        parent = expected["snapshots"][snapshot]["parent_id"]
        found = ours.call(
            "internals.read_changes", path=repo_path, snapshot_id=snapshot, parent_id=parent
        )
        assert found == {"moved_nodes": [], **changes}  # nodes cannot be moved there

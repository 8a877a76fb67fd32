"""Whatever one side writes, both read alike; and both write the same from the same program.

The second half compares content, and the layout in files (manifests, their extents, what the
transaction logs say) as the reference's inspection shows it.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from interop.describe import content
from oracle import Oracle, Side

RANDOM_PROGRAMS = int(os.environ.get("ICECHUNK_COMPAT_PROGRAMS", "4"))
ESSENTIAL: dict[str, tuple[str, dict[str, Any]]] = {
    "bare": ("bare", {}),
    "hierarchy": ("hierarchy", {}),
    "edits": ("edits", {}),
    "history": ("history", {}),
    "forks": ("forks", {}),
    "moved": ("moved", {}),
    "renumbered": ("renumbered", {}),
    "rich config": ("rich_config", {}),
    "split: whole": ("splitting", {"split": "whole"}),
    "split: first axis": ("splitting", {"split": "first axis"}),
    "split: every axis": ("splitting", {"split": "every axis"}),
    "split: by dimension name": ("splitting", {"split": "by dimension name"}),
    "split: by path": ("splitting", {"split": "by path"}),
}
RANDOM: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"random: {seed}": ("random_edits", {"seed": seed}) for seed in range(RANDOM_PROGRAMS)},
    **{f"resplitting {seed}": ("resplitting", {"seed": seed}) for seed in range(4)},
}


class Written:
    """The repositories that each side writes from one scenario, and what readers say of them."""

    def __init__(self, paths: dict[str, str]) -> None:
        self.paths = paths
        self._described: dict[tuple[str, str], Any] = {}

    def as_read_by(self, reader: Side, writer: str) -> Any:
        """Let a side describe the repository of another; it does so once."""
        case = reader.name, writer
        if case not in self._described:
            self._described[case] = reader.call("describe.describe", path=self.paths[writer])
        return self._described[case]


@pytest.fixture(
    scope="module",
    params=[*ESSENTIAL, *(pytest.param(name, marks=pytest.mark.slow) for name in RANDOM)],
)
def written(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    ours: Side,
    theirs: Oracle,
) -> Written:
    function, arguments = (ESSENTIAL | RANDOM)[request.param]
    paths = {}
    for side in (ours, theirs):
        path = str(tmp_path_factory.mktemp(side.name) / "repo")
        side.call(f"scenarios.{function}", path=path, **arguments)
        paths[side.name] = path
    return Written(paths)


@pytest.mark.parametrize("writer", ["ours", "theirs"])
def test_both_read_alike(written: Written, writer: str, ours: Side, theirs: Oracle) -> None:
    assert written.as_read_by(ours, writer) == written.as_read_by(theirs, writer)


def test_both_write_the_same_content(written: Written, theirs: Oracle) -> None:
    by_us, by_them = (written.as_read_by(theirs, writer) for writer in ("ours", "theirs"))
    assert content(by_us) == content(by_them)


def test_both_lay_out_files_alike(written: Written, theirs: Oracle) -> None:
    by_us, by_them = (
        theirs.call("reference.layout", path=written.paths[writer]) for writer in ("ours", "theirs")
    )
    assert by_us == by_them


def test_both_store_the_same_configuration(written: Written, theirs: Oracle) -> None:
    by_us, by_them = (
        theirs.call("reference.administration", path=written.paths[writer])
        for writer in ("ours", "theirs")
    )
    assert _without_backend_defaults(by_us["stored config"]) == _without_backend_defaults(
        by_them["stored config"]
    )


def _without_backend_defaults(config: Any) -> Any:
    """Forget settings of the storage: the reference saves those of its backend with the rest."""
    return None if config is None else {**config, "storage": None}


@pytest.mark.slow
@pytest.mark.parametrize("count", [20_000])
def test_manifests_of_many_references(
    exchange: tuple[Side, Side], repo_path: str, count: int
) -> None:
    writer, reader = exchange
    writer.call("scenarios.many_chunks", path=repo_path, count=count)
    mine, other = (side.call("describe.describe_many", path=repo_path) for side in (writer, reader))
    assert mine == other
    # one chunk is never written, and one of zeros was overwritten by the fill value
    assert mine["chunks"] == count - 1 + 999

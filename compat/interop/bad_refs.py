"""Branches, tags, selections, comparisons and states of a repository that are refused."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import icechunk
from interop.misuse import (
    GROUP,
    INITIAL,
    UNKNOWN_SNAPSHOT,
    Call,
    Surroundings,
)


def refs() -> dict[str, Call]:
    """Return calls about branches, tags and snapshots."""

    def twice(s: Surroundings) -> None:
        s.repo.delete_tag("tag")
        s.repo.create_tag("tag", s.first)

    def deleted_twice(s: Surroundings) -> None:
        s.repo.delete_tag("tag")
        s.repo.delete_tag("tag")

    def reset_from_elsewhere(s: Surroundings) -> None:
        s.other_commits()
        s.repo.reset_branch("main", s.first, from_snapshot_id=s.first)

    early = datetime(2000, 1, 1, tzinfo=UTC)
    return {
        "branch exists": lambda s: s.repo.create_branch("branch", s.first),
        "main exists": lambda s: s.repo.create_branch("main", s.first),
        "branch of unknown snapshot": lambda s: s.repo.create_branch("new", UNKNOWN_SNAPSHOT),
        "branch of invalid snapshot": lambda s: s.repo.create_branch("new", "nonsense"),
        "branch without name": lambda s: s.repo.create_branch("", s.first),
        "branch like a tag": lambda s: s.repo.create_branch("tag", s.first),
        "lookup of no branch": lambda s: s.repo.lookup_branch("no"),
        "deletion of main": lambda s: s.repo.delete_branch("main"),
        "deletion of no branch": lambda s: s.repo.delete_branch("no"),
        "reset of no branch": lambda s: s.repo.reset_branch("no", s.first),
        "reset to unknown snapshot": lambda s: s.repo.reset_branch("branch", UNKNOWN_SNAPSHOT),
        "reset to invalid snapshot": lambda s: s.repo.reset_branch("branch", "1CECHNKREP0F1RSTCMT"),
        "reset from elsewhere": reset_from_elsewhere,
        "reset to itself": lambda s: s.repo.reset_branch("main", s.first),
        "tag exists": lambda s: s.repo.create_tag("tag", s.first),
        "tag of unknown snapshot": lambda s: s.repo.create_tag("new", UNKNOWN_SNAPSHOT),
        "tag of invalid snapshot": lambda s: s.repo.create_tag("new", "!"),
        "tag deleted before": twice,
        "tag deleted twice": deleted_twice,
        "deletion of no tag": lambda s: s.repo.delete_tag("no"),
        "lookup of no tag": lambda s: s.repo.lookup_tag("no"),
        "session on no branch": lambda s: s.repo.writable_session("no") and None,
        "reading no branch": lambda s: s.repo.readonly_session("no") and None,
        "reading no tag": lambda s: s.repo.readonly_session(tag="no") and None,
        "reading no snapshot": lambda s: (
            s.repo.readonly_session(snapshot_id=UNKNOWN_SNAPSHOT) and None
        ),
        "reading an invalid snapshot": lambda s: s.repo.readonly_session(snapshot_id="") and None,
        "reading nothing": lambda s: s.repo.readonly_session() and None,
        "reading two things": lambda s: s.repo.readonly_session("main", tag="tag") and None,
        "reading too early": lambda s: s.repo.readonly_session("main", as_of=early) and None,
        "reading no branch as of": lambda s: s.repo.readonly_session("no", as_of=early) and None,
        "reading a tag as of": lambda s: s.repo.readonly_session(tag="tag", as_of=early) and None,
        "reading as of a naive time": lambda s: (
            s.repo.readonly_session(
                "main",
                as_of=datetime(2100, 1, 1),
            )
            and None
        ),
        "ancestry of nothing": lambda s: s.repo.ancestry() and None,
        "ancestry of two things": lambda s: s.repo.ancestry(branch="main", tag="tag") and None,
        "ancestry of no branch": lambda s: s.repo.ancestry(branch="no") and None,
        "ancestry of no tag": lambda s: s.repo.ancestry(tag="no") and None,
        "ancestry of no snapshot": lambda s: s.repo.ancestry(snapshot_id=UNKNOWN_SNAPSHOT) and None,
        "lookup of no snapshot": lambda s: s.repo.lookup_snapshot(UNKNOWN_SNAPSHOT) and None,
        "lookup of an invalid snapshot": lambda s: s.repo.lookup_snapshot("x" * 20) and None,
        "manifests of no snapshot": lambda s: s.repo.list_manifest_files(UNKNOWN_SNAPSHOT) and None,
        "lower case snapshot": lambda s: s.repo.lookup_snapshot(s.first.lower()).id == s.first,
    }


def diffs() -> dict[str, Call]:
    """Return comparisons that are refused."""
    selections: dict[str, dict[str, str]] = {
        "between equal ends": {"from_branch": "main", "to_tag": "tag"},
        "backwards": {"from_branch": "main", "to_snapshot_id": INITIAL},
        "of nothing": {},
        "to nothing": {"from_branch": "main"},
        "from nothing": {"to_branch": "main"},
        "from two things": {"from_branch": "main", "from_tag": "tag", "to_branch": "main"},
        "to two things": {"from_branch": "main", "to_tag": "tag", "to_branch": "main"},
        "from no branch": {"from_branch": "no", "to_branch": "main"},
        "to no tag": {"from_branch": "main", "to_tag": "no"},
        "from no snapshot": {"from_snapshot_id": UNKNOWN_SNAPSHOT, "to_branch": "main"},
        "to an invalid snapshot": {"from_branch": "main", "to_snapshot_id": "x"},
    }

    def cousins(s: Surroundings) -> None:
        session = s.repo.writable_session("branch")
        s.set("group/zarr.json", GROUP, session)
        session.commit("cousin")
        s.other_commits()
        s.repo.diff(from_branch="branch", to_branch="main")

    table: dict[str, Call] = {
        f"diff {name}": lambda s, named=named: s.repo.diff(**named) and None
        for name, named in selections.items()
    }
    return table | {"diff between cousins": cousins}


def state() -> dict[str, Call]:
    """Return calls about metadata, flags, status and inspection."""

    def closed(call: Call) -> Call:
        def run(s: Surroundings) -> Any:
            session = s.changed()
            s.repo.set_status(icechunk.RepoStatus(icechunk.RepoAvailability.read_only))
            s.kept = session
            return call(s)

        return run

    def without_tags(call: Call) -> Call:
        def run(s: Surroundings) -> Any:
            s.repo.set_feature_flag("create_tag", False)
            s.repo.set_feature_flag("delete_tag", False)
            return call(s)

        return run

    return {
        "unknown feature flag": lambda s: s.repo.set_feature_flag("no_such_flag", True),
        "feature flag no truth value": lambda s: s.repo.set_feature_flag(
            "move_node",
            "yes",  # type: ignore[arg-type]
        ),
        "status no status": lambda s: s.repo.set_status("offline"),  # type: ignore[arg-type]
        "metadata no dict": lambda s: s.repo.set_metadata("text"),  # type: ignore[arg-type]
        "metadata of an object": lambda s: s.repo.set_metadata({"a": object()}),
        "update no dict": lambda s: s.repo.update_metadata([1]),  # type: ignore[arg-type]
        "update of a set": lambda s: s.repo.update_metadata({"a": {1}}),
        "default metadata no dict": lambda s: s.repo.set_default_commit_metadata(
            "text"  # type: ignore[arg-type]
        ),
        "tag forbidden": without_tags(lambda s: s.repo.create_tag("new", s.first)),
        "tag deletion forbidden": without_tags(lambda s: s.repo.delete_tag("tag")),
        "closed to new branches": closed(lambda s: s.repo.create_branch("new", s.first)),
        "closed to resets": closed(lambda s: s.repo.reset_branch("main", s.first)),
        "closed to deletions": closed(lambda s: s.repo.delete_branch("branch")),
        "closed to tags": closed(lambda s: s.repo.create_tag("new", s.first)),
        "closed to tag deletions": closed(lambda s: s.repo.delete_tag("tag")),
        "closed to metadata": closed(lambda s: s.repo.set_metadata({"a": 1})),
        "closed to updates": closed(lambda s: s.repo.update_metadata({"a": 1})),
        "closed to feature flags": closed(lambda s: s.repo.set_feature_flag("move_node", False)),
        "closed to configurations": closed(lambda s: s.repo.save_config()),
        "closed to writers": closed(lambda s: s.repo.writable_session("main") and None),
        "closed to moves": closed(lambda s: s.repo.rearrange_session("main") and None),
        "closed to commits": closed(lambda s: s.kept.commit("x")),
        "open to readers": closed(lambda s: s.repo.readonly_session("main").read_only),
        "inspection of an invalid snapshot": lambda s: s.repo.inspect_snapshot("x"),
        "inspection of no snapshot": lambda s: s.repo.inspect_snapshot(UNKNOWN_SNAPSHOT),
        "inspection of no manifest": lambda s: s.repo.inspect_manifest(UNKNOWN_SNAPSHOT),
        "inspection of no log": lambda s: s.repo.inspect_transaction_log(UNKNOWN_SNAPSHOT),
        "drawing of no branch": lambda s: s.repo.ancestry_graph(branch="no") and None,
        "drawing of no tag": lambda s: s.repo.ancestry_graph(tag="no") and None,
        "drawing of no snapshot": lambda s: (
            s.repo.ancestry_graph(snapshot_id=UNKNOWN_SNAPSHOT) and None
        ),
        "drawing of an invalid snapshot": lambda s: s.repo.ancestry_graph(snapshot_id="x") and None,
        "drawing of two things": lambda s: s.repo.ancestry_graph(branch="main", tag="tag") and None,
    }

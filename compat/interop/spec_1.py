"""What every implementation can say of a repository of version 1 of the format.

The implementations that know only version 1 lack the operations log, the kinds of errors and a part
of the configuration: nothing of that is asked here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import zarr

import icechunk
from interop.describe import describe_store, diff_fields, history, open_repository
from interop.places import storage_at
from interop.scenarios import rich_preload_condition, rich_splitting
from interop.steps import create_repository, find

Json = Any


def describe(path: str, *, values: bool = True, differences: bool = True) -> Json:
    """Describe a repository: branches, tags, histories, all reachable snapshots, configuration.

    Of all snapshots the values of keys are described, and of the tip of main the arrays, too.
    """
    repo = open_repository(path)
    branches = {name: repo.lookup_branch(name) for name in sorted(repo.list_branches())}
    tags = {name: repo.lookup_tag(name) for name in sorted(repo.list_tags())}
    tips = sorted({*branches.values(), *tags.values()})
    histories = {tip: history(repo, tip) for tip in tips}
    reachable = sorted({entry["id"] for line in histories.values() for entry in line})
    found = {
        "branches": branches,
        "tags": tags,
        "histories": histories,
        "config": configuration(repo.config),
        "snapshots": {
            id: describe_snapshot(repo, id, values=values, arrays=id == branches["main"])
            for id in reachable
        },
    }
    if differences:
        found["differences"] = [
            [later["id"], diff_fields(_diff(repo, earlier["id"], later["id"]))]
            for line in histories.values()
            for later, earlier in [*pairwise(line), (line[0], line[-1])]
            if later is not earlier
        ]
    return found


def describe_snapshot(
    repo: icechunk.Repository, id: str, *, values: bool = True, arrays: bool = True
) -> Json:
    """Describe what is in a snapshot; of one with virtual chunks, no values."""
    session = repo.readonly_session(snapshot_id=id)
    places = sorted(session.all_virtual_chunk_locations())
    described = describe_store(
        session.store, values=values and not places, directories=False, arrays=arrays
    )
    return {**described, "virtual": places}


def _diff(repo: icechunk.Repository, from_id: str, to_id: str) -> icechunk.Diff:
    return repo.diff(from_snapshot_id=from_id, to_snapshot_id=to_id)


def resolved(path: str, branches: Iterable[str], tags: Iterable[str]) -> Json:
    """Look names up, the listing aside: where each leads, by the message there."""
    repo = open_repository(path)
    return {
        "branches": {name: _message(repo, repo.lookup_branch(name)) for name in branches},
        "tags": {name: _message(repo, repo.lookup_tag(name)) for name in tags},
    }


def _message(repo: icechunk.Repository, id: str) -> str:
    return next(iter(repo.ancestry(snapshot_id=id))).message


def named(path: str, names: Iterable[str]) -> None:
    """Make a branch and a tag of each name at the tip of main."""
    repo = open_repository(path)
    tip = repo.lookup_branch("main")
    for name in names:
        repo.create_branch(name, tip)
        repo.create_tag(name, tip)


def unnamed(path: str, names: Iterable[str]) -> None:
    """Delete the branch and the tag of each name."""
    repo = open_repository(path)
    for name in names:
        repo.delete_branch(name)
        repo.delete_tag(name)


def listed(path: str) -> list[list[str]]:
    """List the names of branches and tags."""
    repo = open_repository(path)
    return [sorted(repo.list_branches()), sorted(repo.list_tags())]


def create_plain(path: str) -> None:
    """Create a repository without a configuration."""
    create_repository(path, 1)


# --- configuration -------------------------------------------------------------------------------


def create_rich(path: str) -> None:
    """Create a repository with a configuration that sets much of what all implementations have."""
    config = icechunk.RepositoryConfig(
        inline_chunk_threshold_bytes=0,
        get_partial_values_concurrency=3,
        compression=icechunk.CompressionConfig(level=4),
        caching=icechunk.CachingConfig(num_snapshot_nodes=999, num_bytes_chunks=2**40),
        manifest=icechunk.ManifestConfig(
            preload=icechunk.ManifestPreloadConfig(
                max_total_refs=10, preload_if=rich_preload_condition()
            ),
            splitting=rich_splitting(),
        ),
    )
    config.max_concurrent_requests = 55
    stores = {
        "s3://bucket/a b/": icechunk.s3_store(
            region="eu-west-1", endpoint_url="http://localhost:9000", allow_http=True
        ),
        "gs://bucket/": icechunk.gcs_store({"google_skip_signature": "true"}),
        "https://example.com/": icechunk.http_store({"timeout": "30s"}),
        "file:///some where/": icechunk.local_filesystem_store("/some where"),
    }
    for prefix, store in stores.items():
        config.set_virtual_chunk_container(icechunk.VirtualChunkContainer(prefix, store))
    create_repository(path, 1, config)


def save_configuration(path: str, **values: int) -> None:
    """Change the stored configuration."""
    config = open_repository(path).config
    for name, value in values.items():
        setattr(config, name, value)
    open_repository(path, config=config).save_config()


def stored_configuration(path: str) -> Json:
    """Describe what is stored in `config.yaml`."""
    return configuration(icechunk.Repository.fetch_config(storage_at(path)))


def configuration(config: icechunk.RepositoryConfig | None) -> Json:
    """Describe the part of a configuration that all implementations have."""
    if config is None:
        return None
    manifest = config.manifest
    return {
        "inline": config.inline_chunk_threshold_bytes,
        "concurrency": config.get_partial_values_concurrency,
        "requests": config.max_concurrent_requests,
        "level": config.compression and config.compression.level,
        "caching": config.caching
        and [config.caching.num_snapshot_nodes, config.caching.num_bytes_chunks],
        "splitting": manifest
        and manifest.splitting
        and sorted(
            [_bare(condition), sorted([_bare(axis), size] for axis, size in _pairs(sizes))]
            for condition, sizes in _pairs(manifest.splitting.split_sizes)
        ),
        "preload": manifest and manifest.preload and manifest.preload.max_total_refs,
        "containers": sorted(config.virtual_chunk_containers or ()),
    }


def stored_preload(path: str) -> str:
    """Spell the condition for preloading that is stored; 1.x knows it and cannot say it."""
    config = icechunk.Repository.fetch_config(storage_at(path))
    assert config is not None
    return preload_condition(config)


def preload_condition(config: icechunk.RepositoryConfig) -> str:
    """Spell the condition for preloading."""
    assert config.manifest is not None
    assert config.manifest.preload is not None
    return _bare(config.manifest.preload.preload_if)


def _bare(condition: Any) -> str:
    """Spell a condition without what only some of the implementations write."""
    spelled = re.sub(r"icechunk\.config\.\w+\.|_conditions|[\[\]\"', ]", "", str(condition))
    return spelled.replace("_", "").replace("()", "").lower()


def _pairs(value: Any) -> list[tuple[Any, Any]]:
    return list(value.items()) if isinstance(value, dict) else [tuple(item) for item in value]


# --- care ----------------------------------------------------------------------------------------


def expire(path: str, before: str, branches: bool = False, tags: bool = False) -> list[str]:
    """Expire what is older than the snapshot with a message; return the messages of the released.

    Ids that no history leads to any longer are kept apart by the caller: messages are read first.
    """
    repo = open_repository(path)
    messages = messages_by_id(repo)
    moment = repo.lookup_snapshot(find(repo, before)).written_at
    released = repo.expire_snapshots(
        moment, delete_expired_branches=branches, delete_expired_tags=tags
    )
    return sorted(messages[id] for id in released)


def messages_by_id(repo: icechunk.Repository) -> dict[str, str]:
    """Name every reachable snapshot by its message."""
    tips = {repo.lookup_branch(name) for name in repo.list_branches()}
    tips |= {repo.lookup_tag(name) for name in repo.list_tags()}
    return {info.id: info.message for tip in tips for info in repo.ancestry(snapshot_id=tip)}


def collect(path: str) -> Json:
    """Collect all garbage, whatever its age; count what was deleted."""
    summary = open_repository(path).garbage_collect(datetime.now(UTC) + timedelta(days=1))
    return [
        summary.snapshots_deleted,
        summary.transaction_logs_deleted,
        summary.manifests_deleted,
        summary.chunks_deleted,
    ]


def migrate(path: str, dry_run: bool = False, delete: bool = True) -> None:
    """Bring a repository to version 2 of the format."""
    icechunk.upgrade_icechunk_repository(
        open_repository(path), dry_run=dry_run, delete_unused_v1_files=delete
    )


def migration_refused(path: str, delete: bool = True) -> list[str]:
    """Migrate what cannot be; return the class and kind of the error."""
    try:
        migrate(path, delete=delete)
    except icechunk.IcechunkError as error:
        return [type(error).__name__, str(error.kind)]
    return []


def used_after_migration(path: str) -> list[str]:
    """Use the object that was migrated from; return what it says, and the version of the new."""
    old = open_repository(path)
    new = icechunk.upgrade_icechunk_repository(old, dry_run=False)
    try:
        old.list_branches()
    except RuntimeError as error:
        return [str(error), str(new.spec_version)]
    return []


# --- without ids ---------------------------------------------------------------------------------


def content(description: Json) -> Json:
    """Keep what two writers of the same data must agree on: no ids and no times.

    Snapshots are named by their messages. Left out is what 1.x does in its own way: it does not
    log the chunks that a smaller shape cuts off, and names its own metadata differently.
    """
    messages = {
        entry["id"]: entry["message"]
        for line in description["histories"].values()
        for entry in line
    }

    def named(value: Json) -> Json:
        if isinstance(value, dict):
            return {messages.get(key, key): named(item) for key, item in value.items()}
        if isinstance(value, list):
            return [named(item) for item in value]
        return messages.get(value, value) if isinstance(value, str) else value

    histories = {
        tip: [
            {**entry, "written_at": None, "metadata": _users(entry["metadata"])} for entry in line
        ]
        for tip, line in description["histories"].items()
    }
    kept = named({**description, "histories": histories})
    for _, difference in kept["differences"]:
        del difference["updated_chunks"]
    kept["differences"] = sorted(kept["differences"], key=repr)
    for state in kept["snapshots"].values():
        # documents are spelled by each version of Zarr in its own way
        state["digests"] = {
            key: value for key, value in state["digests"].items() if "zarr.json" not in key
        }
        del state["size"]
    return kept


def _users(metadata: dict[str, Any]) -> dict[str, Any]:
    own = {"__icechunk", "__root", "splitting_config"}
    return {name: value for name, value in metadata.items() if name not in own}


# --- errors --------------------------------------------------------------------------------------


def refused(path: str, attempt: str) -> str:
    """Try something that version 1 does not allow; return what is said, or nothing."""
    repo = open_repository(path)
    tip = repo.lookup_branch("main")
    attempts: dict[str, Callable[[], Any]] = {
        "slash": lambda: repo.create_branch("a/b", tip),
        "existing branch": lambda: repo.create_branch("main", tip),
        "deleted tag": lambda: repo.create_tag("gone", tip),
        "delete main": lambda: repo.delete_branch("main"),
        "delete missing": lambda: repo.delete_branch("missing"),
        "missing tag": lambda: repo.lookup_tag("gone"),
        "unknown snapshot": lambda: repo.create_tag("t", "ZZZZZZZZZZZZZZZZZZZ0"),
    }
    try:
        attempts[attempt]()
    except Exception as error:  # of three implementations, with no class in common
        return re.sub(r"\s+", " ", str(error))
    return ""


def refused_for_version_1(path: str) -> Json:
    """Call what only version 2 has; return class, kind and words of each refusal."""
    repo = open_repository(path)
    session = repo.writable_session("main")
    zarr.open_group(session.store, mode="a").attrs["amended"] = True
    availability = icechunk.RepoAvailability.read_only
    calls: dict[str, Callable[[], Any]] = {
        "amend": lambda: session.amend("amended"),
        "rearrange": lambda: repo.rearrange_session("main"),
        "metadata": lambda: repo.metadata,
        "get metadata": repo.get_metadata,
        "set metadata": lambda: repo.set_metadata({"a": 1}),
        "update metadata": lambda: repo.update_metadata({"a": 1}),
        "status": lambda: repo.status,
        "set status": lambda: repo.set_status(icechunk.RepoStatus(availability)),
        "flags": repo.feature_flags,
        "enabled flags": repo.enabled_feature_flags,
        "set flag": lambda: repo.set_feature_flag("move_node", False),
        "log": lambda: list(repo.ops_log()),
        "inspect": repo.inspect_repo_info,
    }
    found = {}
    for name, call in calls.items():
        try:
            found[name] = ["allowed", str(call())]
        except icechunk.IcechunkError as error:
            found[name] = [type(error).__name__, str(error.kind), "upgrade" in str(error)]
    return found


def read(path: str, name: str, branch: str = "main") -> list[Any]:
    """Read an array."""
    store = open_repository(path).readonly_session(branch).store
    return zarr.open_array(store, path=name, mode="r")[...].tolist()

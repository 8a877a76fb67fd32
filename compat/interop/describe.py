"""Everything that can be read from a repository, as one JSON value that two readers must agree on.

`describe` reads through the public interface only: references, histories, the operations log, the
configuration, and for each snapshot every key, every value and every array. `content` keeps of a
description what two *writers* of the same data must agree on, without ids, times and encodings.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from datetime import datetime
from typing import Any

import numpy as np
import zarr
from zarr.core.buffer import default_buffer_prototype

import icechunk
from interop.places import storage_at

Json = Any

OPERATION_FIELDS = (
    "from_version",
    "to_version",
    "id",
    "new_value",
    "name",
    "branch",
    "previous_snap_id",
    "new_snap_id",
)


def open_repository(path: str, **options: Any) -> icechunk.Repository:
    """Open a repository."""
    return icechunk.Repository.open(storage_at(path), **options)


def describe(path: str, *, values: bool = True, only_tips: bool = False) -> Json:
    """Describe a repository: refs, histories, log, configuration, reachable snapshots.

    Parameters
    ----------
    path
        Where it is.
    values
        Whether to read values, rather than keys alone.
    only_tips
        Whether to leave out snapshots that no branch and no tag points to.
    """
    repo = open_repository(path)
    branches = {name: repo.lookup_branch(name) for name in sorted(repo.list_branches())}
    tags = {name: repo.lookup_tag(name) for name in sorted(repo.list_tags())}
    histories = {tip: history(repo, tip) for tip in {*branches.values(), *tags.values()}}
    reachable = {entry["id"] for entries in histories.values() for entry in entries}
    if only_tips:
        reachable = set(histories)
    return {
        "branches": branches,
        "tags": tags,
        "histories": dict(sorted(histories.items())),
        "log": operations(repo),
        "config": {**fields(repo.config), "storage": "has defaults of the implementation"},
        "stored config": fields(icechunk.Repository.fetch_config(storage_at(path))),
        "snapshots": {
            snapshot: describe_snapshot(repo, snapshot, values=values)
            for snapshot in sorted(reachable)
        },
    }


def history(repo: icechunk.Repository, snapshot_id: str) -> list[Json]:
    """Describe a snapshot and its ancestors, newest first."""
    return [
        {
            "id": info.id,
            "parent_id": info.parent_id,
            "written_at": _time(info.written_at),
            "message": info.message,
            "metadata": info.metadata,
        }
        for info in repo.ancestry(snapshot_id=snapshot_id)
    ]


def operations(repo: icechunk.Repository) -> list[Json]:
    """Describe the operations log, newest first."""
    return [
        {
            "operation": type(update.kind).__name__.rpartition("_")[2],
            "fields": {
                name: getattr(update.kind, name)
                for name in OPERATION_FIELDS
                if hasattr(update.kind, name)
            },
            "at": _time(update.updated_at),
            "backup": update.backup_path,
        }
        for update in repo.ops_log()
    ]


def fields(value: Any) -> Json:
    """Take a configuration object apart, attribute by attribute."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict):
        return {str(key): fields(item) for key, item in sorted(value.items(), key=str)}
    if isinstance(value, list | tuple):
        return [fields(item) for item in value]
    names = CONFIG_FIELDS.get(type(value).__name__)
    if names is None:
        # the reference shows an optional value of an object store as Rust does
        return re.sub(r"Some\(({.*?})\)", r"\1", repr(value))
    return {name: fields(getattr(value, name)) for name in names}


CONFIG_FIELDS: dict[str, tuple[str, ...]] = {
    "RepositoryConfig": (
        "inline_chunk_threshold_bytes",
        "get_partial_values_concurrency",
        "compression",
        "max_concurrent_requests",
        "max_concurrent_decodes",
        "caching",
        "storage",
        "virtual_chunk_containers",
        "manifest",
        "repo_update_retries",
        "num_updates_per_repo_info_file",
    ),
    "CompressionConfig": ("algorithm", "level"),
    "CachingConfig": (
        "num_snapshot_nodes",
        "num_chunk_refs",
        "num_transaction_changes",
        "num_bytes_attributes",
        "num_bytes_chunks",
    ),
    "StorageSettings": (
        "concurrency",
        "retries",
        "timeouts",
        "unsafe_use_conditional_create",
        "unsafe_use_conditional_update",
        "unsafe_use_metadata",
        "storage_class",
        "metadata_storage_class",
        "chunks_storage_class",
        "minimum_size_for_multipart_upload",
    ),
    "StorageConcurrencySettings": (
        "max_concurrent_requests_for_object",
        "ideal_concurrent_request_size",
    ),
    "StorageRetriesSettings": ("max_tries", "initial_backoff_ms", "max_backoff_ms"),
    "StorageTimeoutSettings": (
        "connect_timeout_ms",
        "read_timeout_ms",
        "operation_timeout_ms",
        "operation_attempt_timeout_ms",
    ),
    "RepoUpdateRetryConfig": ("default",),
    "ManifestConfig": (
        "preload",
        "splitting",
        "virtual_chunk_location_compression",
        "max_concurrent_manifest_fetches_during_commit",
    ),
    "ManifestPreloadConfig": ("max_total_refs", "preload_if", "max_arrays_to_scan"),
    "ManifestSplittingConfig": ("split_sizes",),
    "ManifestVirtualChunkLocationCompressionConfig": (
        "min_num_chunks",
        "dictionary_max_training_samples",
        "dictionary_max_size_bytes",
        "compression_level",
    ),
}


def describe_snapshot(
    repo: icechunk.Repository, snapshot_id: str, *, values: bool = True
) -> dict[str, Json]:
    """Describe all that the store of one snapshot shows."""
    return describe_store(repo.readonly_session(snapshot_id=snapshot_id).store, values=values)


def describe_store(
    store: icechunk.IcechunkStore,
    *,
    values: bool = True,
    directories: bool = True,
    arrays: bool = True,
) -> dict[str, Json]:
    """Describe a store: its keys, directories, the bytes of each value, and the arrays."""
    keys, listed, digests, size = asyncio.run(
        _read_all(store, values=values, directories=directories)
    )
    documents = [key for key in keys if key.rpartition("/")[2] == "zarr.json"]
    return {
        "keys": keys,
        "directories": listed,
        "digests": digests,
        "size": size,
        "arrays": describe_arrays(store, documents) if values and arrays else {},
    }


async def _read_all(
    store: icechunk.IcechunkStore, *, values: bool, directories: bool
) -> tuple[list[str], dict[str, list[str]], dict[str, str], int]:
    keys = sorted([key async for key in store.list()])
    prototype = default_buffer_prototype()
    digests = {}
    for key in keys if values else ():
        buffer = await store.get(key, prototype)
        assert buffer is not None, f"listed, but has no value: {key}"
        digests[key] = digest(buffer.to_bytes())
    parents = sorted({"", *(key.rpartition("/")[0] for key in keys)}) if directories else [""]
    listed = {parent: sorted([name async for name in store.list_dir(parent)]) for parent in parents}
    return keys, listed, digests, await store.getsize_prefix("")


def describe_arrays(store: icechunk.IcechunkStore, documents: list[str]) -> dict[str, Json]:
    """Describe what Zarr makes of the nodes of a store, by path."""
    nodes: dict[str, Json] = {}
    for key in documents:
        path = key.removesuffix("zarr.json").rstrip("/")
        node = zarr.open(store, path=path, mode="r")
        attributes = dict(node.attrs)
        if isinstance(node, zarr.Group):
            nodes["/" + path] = {"attributes": attributes, "members": sorted(node.keys())}
            continue
        nodes["/" + path] = {
            "attributes": attributes,
            "shape": list(node.shape),
            "chunks": list(node.chunks),
            "shards": None if node.shards is None else list(node.shards),
            "dtype": str(node.dtype),
            "dimension_names": _names(node),
            "fill_value": repr(node.fill_value),
            "values": array_digest(node[...]),
        }
    return nodes


def array_digest(values: Any) -> str:
    """Digest of an array's values that does not depend on where they lie in memory."""
    array = np.asarray(values)
    if array.dtype.kind in "OT":
        return digest(json.dumps(array.tolist()).encode())
    return digest(np.ascontiguousarray(array).tobytes())


def content(description: Json) -> Json:
    """Keep what two writers of the same data must agree on: no ids, times, bytes of documents.

    Snapshots are named in the order of the operations log, so that histories stay comparable.
    """
    commits = [entry["fields"].get("new_snap_id") for entry in reversed(description["log"])]
    names = {id: f"snapshot {number}" for number, id in enumerate(commits) if id is not None}

    def renamed(value: Json) -> Json:
        if isinstance(value, dict):
            return {names.get(key, key): renamed(item) for key, item in value.items()}
        if isinstance(value, list):
            return [renamed(item) for item in value]
        return names.get(value, value) if isinstance(value, str) else value

    kept = {
        "branches": description["branches"],
        "tags": description["tags"],
        "histories": {
            tip: [{**entry, "written_at": None} for entry in line]
            for tip, line in description["histories"].items()
        },
        "log": [
            {"operation": entry["operation"], "fields": entry["fields"]}
            for entry in description["log"]
        ],
        "snapshots": {
            snapshot: {key: state[key] for key in ("keys", "directories", "arrays")}
            for snapshot, state in description["snapshots"].items()
        },
    }
    return renamed(kept)


def _names(array: zarr.Array) -> list[str | None] | None:
    names = array.metadata.dimension_names
    return None if names is None else list(names)


def digest(data: bytes) -> str:
    """Short digest of bytes."""
    return hashlib.sha256(data).hexdigest()[:16]


def _time(moment: datetime) -> str:
    return moment.isoformat()


def describe_many(path: str) -> Json:
    """Describe what `scenarios.many_chunks` wrote without reading every single chunk."""
    store = open_repository(path).readonly_session("main").store
    keys = sorted(store.list())
    inline = zarr.open_array(store, path="inline", mode="r")
    native = zarr.open_array(store, path="native", mode="r")
    return {
        "chunks": sum(not key.endswith("zarr.json") for key in keys),
        "keys": digest("\n".join(keys).encode()),
        "inline": [inline[row].tolist() for row in (0, 3, inline.shape[0] - 1)],
        "column": digest(np.ascontiguousarray(inline[:, 7]).tobytes()),
        "native": array_digest(native[...]),
    }


def diff_fields(difference: icechunk.Diff) -> Json:
    """Take a difference apart."""
    return {
        "new_groups": sorted(difference.new_groups),
        "new_arrays": sorted(difference.new_arrays),
        "deleted_groups": sorted(difference.deleted_groups),
        "deleted_arrays": sorted(difference.deleted_arrays),
        "updated_groups": sorted(difference.updated_groups),
        "updated_arrays": sorted(difference.updated_arrays),
        "updated_chunks": {
            path: sorted(map(list, coords))
            for path, coords in sorted(difference.updated_chunks.items())
        },
        "moved_nodes": [list(move) for move in getattr(difference, "moved_nodes", ())],
    }


def diff(path: str, from_id: str, to_id: str) -> Json:
    """Describe what changed between two snapshots."""
    difference = open_repository(path).diff(from_snapshot_id=from_id, to_snapshot_id=to_id)
    return {**diff_fields(difference), "moved_nodes": sorted(map(list, difference.moved_nodes))}


def administration(path: str) -> Json:
    """Describe metadata, status and feature flags."""
    repo = open_repository(path)
    status = repo.status
    return {
        "metadata": repo.metadata,
        "availability": repr(status.availability),
        "set_at": status.set_at.isoformat(),
        "reason": status.limited_availability_reason,
        "flags": sorted(
            [flag.id, flag.name, flag.default_enabled, flag.setting, flag.enabled]
            for flag in repo.feature_flags()
        ),
        "enabled": sorted(flag.name for flag in repo.enabled_feature_flags()),
        "disabled": sorted(flag.name for flag in repo.disabled_feature_flags()),
    }

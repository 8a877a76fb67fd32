"""Objects that both sides have, as text and as a page. Runs on both sides."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import zarr

import icechunk


def build(path: str) -> None:
    """Make a repository with something of everything that is shown."""
    repo = icechunk.Repository.create(icechunk.local_filesystem_storage(path))
    session = repo.writable_session("main")
    root = zarr.group(session.store)
    root.create_group("g", attributes={"a": 1})
    root.create_array("a<b>", shape=(40,), chunks=(1,), dtype="i4")[:] = 1
    first = session.commit('A "message" of\nseveral <lines>')
    session = repo.writable_session("main")
    root = zarr.open_group(session.store)
    root["a<b>"][3] = 2  # type: ignore[index]
    root["g"].attrs["a"] = 2
    second = session.commit("One line")
    repo.create_branch("other", first)
    repo.create_tag("v1", second)
    repo.create_tag("v2", second)
    repo.delete_tag("v2")
    repo.reset_branch("other", second)
    repo.delete_branch("other")
    repo.save_config()


def _runtime(path: str) -> dict[str, Any]:
    storage = icechunk.local_filesystem_storage(path)
    repo = icechunk.Repository.open(storage)
    writable, edited = repo.writable_session("main"), repo.writable_session("main")
    group = zarr.open_group(edited.store)
    group.create_group("n", attributes={"x": 1})
    del group["g"]
    group["a<b>"][:5] = 7  # type: ignore[index]
    history = list(repo.ancestry(branch="main"))
    when = datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    things: dict[str, Any] = {
        "storage": storage,
        "memory": icechunk.in_memory_storage(),
        "repository": repo,
        "writable": writable,
        "readonly": repo.readonly_session("main"),
        "fork": writable.fork(),
        "edited": edited,
        "store": writable.store,
        "readonly store": repo.readonly_session("main").store,
        "changes": edited.status(),
        "no changes": writable.status(),
        "difference": repo.diff(from_snapshot_id=history[-1].id, to_branch="main"),
        "stored object": next(o for o in storage.list_objects_metadata() if o.key == "repo"),
        "status": icechunk.RepoStatus(icechunk.RepoAvailability.read_only, when, "Moving"),
        "online": icechunk.RepoStatus(icechunk.RepoAvailability.online, when),
        "statistics": repo.chunk_storage_stats(),
        "manifest": repo.list_manifest_files(history[1].id)[0],
        "s3": icechunk.s3_storage(
            bucket="b",
            prefix="p",
            region="us-east-1",
            endpoint_url="http://localhost:9",
            allow_http=True,
            force_path_style=True,
            access_key_id="key",
            secret_access_key="secret",
        ),
        "anonymous s3": icechunk.s3_storage(bucket="b", prefix=None, anonymous=True),
    }
    things |= {f"snapshot {i}": snapshot for i, snapshot in enumerate(history)}
    things |= {f"update {i}": update for i, update in enumerate(repo.ops_log())}
    things |= {f"kind {i}": update.kind for i, update in enumerate(repo.ops_log())}
    things |= {f"flag {flag.name}": flag for flag in repo.feature_flags()}
    return things


def _values() -> dict[str, Any]:
    splits = {
        icechunk.ManifestSplitCondition.name_matches("x"): {
            icechunk.ManifestSplitDimCondition.Axis(1): 3,
            icechunk.ManifestSplitDimCondition.DimensionName("t"): 4,
            icechunk.ManifestSplitDimCondition.Any(): 5,
        }
    }
    preload = icechunk.ManifestPreloadConfig(
        max_total_refs=5,
        preload_if=icechunk.ManifestPreloadCondition.or_conditions(
            [
                icechunk.ManifestPreloadCondition.path_matches("a"),
                icechunk.ManifestPreloadCondition.num_refs(1, 4),
            ]
        ),
    )
    manifest = icechunk.ManifestConfig(
        preload=preload, splitting=icechunk.ManifestSplittingConfig.from_dict(splits)
    )
    storage = icechunk.StorageSettings(
        concurrency=icechunk.StorageConcurrencySettings(
            max_concurrent_requests_for_object=3, ideal_concurrent_request_size=1000
        ),
        retries=icechunk.StorageRetriesSettings(max_tries=4),
        timeouts=icechunk.StorageTimeoutSettings(connect_timeout_ms=5),
        storage_class="A class",
        unsafe_use_metadata=False,
    )
    s3 = icechunk.s3_store(region="us-east-1", endpoint_url="http://x", s3_compatible=True)
    local = icechunk.local_filesystem_store("/x")
    containers = [
        icechunk.VirtualChunkContainer("file:///x/", local, "named"),
        icechunk.VirtualChunkContainer("s3://y/", s3),
    ]
    config = icechunk.RepositoryConfig(
        inline_chunk_threshold_bytes=3,
        max_concurrent_decodes=7,
        compression=icechunk.CompressionConfig(level=5),
        caching=icechunk.CachingConfig(num_chunk_refs=10),
        storage=storage,
        manifest=manifest,
    )
    one_container = icechunk.RepositoryConfig(max_concurrent_decodes=7)
    one_container.set_virtual_chunk_container(containers[0])
    return {
        "nothing set": icechunk.RepositoryConfig(max_concurrent_decodes=7),
        "config": config,
        "container in config": one_container,
        "caching": icechunk.CachingConfig(),
        "compression": icechunk.CompressionConfig(),
        "manifest": icechunk.ManifestConfig(),
        "preload": preload,
        "splitting": manifest.splitting,
        "locations": icechunk.ManifestVirtualChunkLocationCompressionConfig(),
        "storage settings": storage,
        "plain storage settings": icechunk.StorageSettings(),
        "named container": containers[0],
        "container": containers[1],
        "s3 options": icechunk.S3Options(region="r"),
        "s3 store": s3,
        "local store": local,
        "no options": icechunk.gcs_store(),
        "version": icechunk.SpecVersion.v2,
        "former version": icechunk.SpecVersion.v1,
        "available": icechunk.RepoAvailability.online,
        "mode": icechunk.SessionMode.rearrange,
        "chunk type": icechunk.ChunkType.inline,
        "selection": icechunk.VersionSelection.UseOurs,
        "conflict type": icechunk.ConflictType.ChunkDoubleUpdate,
    }


def shown(path: str) -> dict[str, tuple[str, str, list[str] | None]]:
    """Return the texts of everything, and headers and names of fields on its page."""
    things = _runtime(path) | _values()
    return {
        name: (repr(thing), str(thing), _outline(thing) if hasattr(thing, "_repr_html_") else None)
        for name, thing in things.items()
    }


def _outline(thing: Any) -> list[str]:
    page = re.sub(r"<style>.*?</style>", "", thing._repr_html_(), flags=re.DOTALL)
    marked = r'class="icechunk-(?:header|field-name)">(.*?)</'
    return [name.rstrip(":") for name in re.findall(marked, page)]

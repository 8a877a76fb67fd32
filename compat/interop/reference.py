"""What only the reference does: features to be read and kept by us, and its view into our files."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import zarr
from zarr.core.buffer import default_buffer_prototype

import icechunk
from interop.describe import diff_fields, digest, fields, open_repository
from interop.places import storage_at
from interop.scenarios import committing, create, many_chunks, moved, rich_configuration

Json = Any


# --- repositories to read ------------------------------------------------------------------------


def amended(path: str) -> None:
    """Commits replaced by amending, detached snapshots, a branch reset to one, empty commits."""
    repo = create(path)
    with committing(repo, "start") as store:
        zarr.create_group(store).create_array("x", shape=(9,), chunks=(2,), dtype="int32")[:] = 1
    with committing(repo, "to be amended") as store:
        zarr.open_array(store, path="x")[:4] = 2
    session = repo.writable_session("main")
    zarr.open_array(session.store, path="x")[6:] = 3
    zarr.open_group(session.store).create_array("y", shape=(3,), dtype="int8")[:] = 1
    session.amend("amended", metadata={"amended": True})
    session = repo.writable_session("main")
    session.amend("amended again", allow_empty=True)
    session = repo.writable_session("main")
    zarr.open_array(session.store, path="y")[:] = 9
    detached = session.flush("detached")
    repo.create_branch("detached", detached)
    session = repo.writable_session("main")
    zarr.open_group(session.store).attrs["flushed"] = 1
    repo.reset_branch("main", session.flush("becomes main"))
    repo.writable_session("main").commit("on top", allow_empty=True)
    repo.create_tag("t", detached)


def shifted(path: str) -> None:
    """Chunks renumbered without being rewritten, and manifests rewritten with another layout."""
    repo = create(path)
    with committing(repo, "start") as store:
        array = zarr.create_array(
            store, name="x", shape=(12, 8), chunks=(2, 4), dtype="float64", compressors=None
        )
        array[...] = np.arange(96.0).reshape(12, 8)
    session = repo.writable_session("main")
    session.shift_array("/x", [1, -1])
    session.commit("shifted")
    split = icechunk.ManifestSplittingConfig.from_dict(
        {icechunk.ManifestSplitCondition.AnyArray(): {icechunk.ManifestSplitDimCondition.Any(): 1}}
    )
    config = icechunk.RepositoryConfig(manifest=icechunk.ManifestConfig(splitting=split))
    open_repository(path, config=config).rewrite_manifests("rewritten", branch="main")


def expired(path: str) -> None:
    """A history shortened by expiration, then collected; some snapshots carry pruned logs."""
    repo = create(path)
    with committing(repo, "start") as store:
        zarr.create_group(store).create_array("x", shape=(40,), chunks=(4,), dtype="int64")
    for number in range(6):
        with committing(repo, f"old {number}") as store:
            zarr.open_array(store, path="x")[4 * number : 4 * number + 4] = number + 1
        if number == 2:
            repo.create_tag("kept", repo.lookup_branch("main"))
            repo.create_branch("side", repo.lookup_branch("main"))
    time.sleep(0.002)
    threshold = datetime.now(UTC)
    time.sleep(0.002)
    for number in range(2):
        with committing(repo, f"new {number}") as store:
            zarr.open_array(store, path="x")[30 + number] = -1
    assert repo.expire_snapshots(threshold)
    repo.garbage_collect(datetime.now(UTC) + timedelta(days=1))
    with committing(repo, "after") as store:
        zarr.open_array(store, path="x")[-1] = 5


def administered(path: str) -> None:
    """Everything the repository object can hold: metadata, flags, status, configuration, tags."""
    config = rich_configuration()
    config.set_virtual_chunk_container(
        icechunk.VirtualChunkContainer(
            "s3://bucket/prefix/",
            icechunk.s3_store(
                region="us-east-1", endpoint_url="http://localhost:1", anonymous=True
            ),
            name="named",
        )
    )
    config.set_virtual_chunk_container(
        icechunk.VirtualChunkContainer("https://example.com/", icechunk.http_store({"a": "b"}))
    )
    repo = create(path, config=config)
    with committing(repo, "start") as store:
        zarr.create_group(store)
    repo.set_metadata({"title": "ünï", "nested": {"list": [1, 2.5, None, True]}})
    repo.update_metadata({"more": 1, "title": "changed"})
    repo.set_feature_flag("create_tag", True)
    repo.set_feature_flag("delete_tag", False)
    repo.set_feature_flag("move_node", False)
    repo.set_feature_flag("move_node", None)
    status = icechunk.RepoStatus(icechunk.RepoAvailability.read_only, None, "maintenance ü")
    repo.set_status(status)
    repo.set_status(icechunk.RepoStatus(icechunk.RepoAvailability.online))
    repo.create_tag("t", repo.lookup_branch("main"))
    repo.set_default_commit_metadata({"by": "administrator"})
    repo.writable_session("main").commit("empty", allow_empty=True)


def closed(path: str) -> None:
    """A repository whose status forbids changes."""
    repo = create(path)
    with committing(repo, "start") as store:
        zarr.create_group(store)
    repo.set_status(icechunk.RepoStatus(icechunk.RepoAvailability.read_only, None, "migrating"))


def without_tags(path: str) -> None:
    """A repository whose feature flags forbid making and deleting tags."""
    repo = create(path)
    repo.create_tag("t", repo.lookup_branch("main"))
    repo.set_feature_flag("create_tag", False)
    repo.set_feature_flag("delete_tag", False)


def paged(path: str) -> None:
    """An operations log so short in the repository object that most of it is in backups."""
    repo = create(path, config=icechunk.RepositoryConfig(num_updates_per_repo_info_file=3))
    root = repo.lookup_branch("main")
    for number in range(11):
        repo.create_tag(f"t{number}", root)


def migrated(path: str) -> None:
    """A repository of spec version 1 with history, brought to version 2: its files stay as were."""
    spec_1(path, spec_version=1)
    repo = open_repository(path)
    icechunk.upgrade_icechunk_repository(repo, dry_run=False)


def spec_1(path: str, **options: Any) -> None:
    """A repository in spec version 1, by any reference version."""
    repo = create(path, **options)
    session = repo.writable_session("main")
    root = zarr.create_group(session.store, attributes={"ünï": [1, None]})
    root.create_array("scalar", shape=(), dtype="float64")[...] = 2.5
    array = root.create_array(
        "g/native", shape=(9, 100), chunks=(2, 100), dtype="int64", dimension_names=["t", None]
    )
    array[...] = np.random.default_rng(2).integers(0, 2**40, (9, 100))
    inline = root.create_array("inline", shape=(50,), chunks=(3,), dtype="int8")
    inline[:] = np.arange(50)
    root.create_array("unwritten", shape=(0, 5), chunks=(2, 5), dtype="int8")
    metadata = {"int": -5, "float": 1.5, "list": [1, {"a": None}, True], "big": 2**40, "ü": "é"}
    first = session.commit("first", metadata)
    repo.create_tag("v1", first)
    repo.create_tag("gone", first)
    repo.delete_tag("gone")
    repo.create_branch("side", first)
    session = repo.writable_session("main")
    zarr.open_array(session.store, path="inline").resize((20,))
    zarr.open_array(session.store, path="g/native")[3:5] = 0
    zarr.open_group(session.store).attrs["changed"] = True
    del zarr.open_group(session.store)["scalar"]
    session.commit("second")
    session = repo.writable_session("side")
    zarr.open_group(session.store).create_group("aside")
    session.commit("aside")


def large(path: str) -> None:
    """Manifests of fifty thousand references."""
    many_chunks(path, 50_000)


def rectilinear(path: str) -> None:
    """An array whose chunks differ in size along an axis."""
    session = create(path).writable_session("main")
    document = (
        '{"zarr_format": 3, "node_type": "array", "shape": [10, 6], "data_type": "int8",'
        ' "chunk_grid": {"name": "rectilinear", "configuration": {"kind": "inline",'
        ' "chunk_shapes": [[1, 2, [3, 2], 1], [[2, 3]]]}},'
        ' "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},'
        ' "fill_value": 0, "codecs": [{"name": "bytes"}], "attributes": {}}'
    )
    _set(session.store, "x/zarr.json", document.encode())
    for coords in ("0/0", "1/2", "4/2"):
        _set(session.store, f"x/c/{coords}", coords.encode())
    session.commit("rectilinear")


def virtual(path: str, count: int) -> None:
    """Virtual references: enough of them to be compressed, with and without checksums."""
    config = icechunk.RepositoryConfig()
    for url, name in (("s3://some-bucket/", None), ("s3://named/", "named")):
        store = icechunk.s3_store(region="us-east-1", anonymous=True)
        config.set_virtual_chunk_container(icechunk.VirtualChunkContainer(url, store, name=name))
    repo = create(path, config=config)
    session = repo.writable_session("main")
    root = zarr.create_group(session.store)
    root.create_array("many", shape=(count,), chunks=(1,), dtype="int8")
    session.store.set_virtual_refs_arr(
        "many",
        (count,),
        [f"s3://some-bucket/path/to/file-{i // 7:06}.nc" for i in range(count)],
        np.arange(count, dtype="uint64") * 100,
        np.full(count, 100, "uint64"),
    )
    root.create_array("few", shape=(8,), chunks=(1,), dtype="int8")[5:] = 1
    stamp = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
    checksums = (None, '"etag"', stamp)
    for index, checksum in enumerate(checksums):
        session.store.set_virtual_ref(
            f"few/c/{index}", f"s3://some-bucket/ünï%20/{index}", offset=index, length=1 + index,
            checksum=checksum,
        )  # fmt: skip
    session.store.set_virtual_ref("few/c/3", "vcc://named/relative/key", offset=2**40, length=7)
    session.commit("virtual")
    session = repo.writable_session("main")
    session.store.set_virtual_ref("many/c/3", "s3://some-bucket/other", offset=0, length=1)
    session.commit("changed")


WRITERS = (
    moved, amended, shifted, expired, administered, closed, without_tags, paged, migrated,
)  # fmt: skip


# --- its view of a repository --------------------------------------------------------------------


def administration(path: str) -> Json:
    """Describe what a repository holds beside its snapshots."""
    repo = open_repository(path)
    status = repo.status
    return {
        "metadata": repo.get_metadata(),
        "flags": sorted(
            [flag.id, flag.name, flag.setting, flag.enabled] for flag in repo.feature_flags()
        ),
        "status": [
            int(status.availability),
            status.set_at.isoformat(),
            status.limited_availability_reason,
        ],
        "config": fields(repo.config),
        "stored config": fields(icechunk.Repository.fetch_config(storage_at(path))),
    }


def inspect(path: str) -> Json:
    """Take every reachable file of a repository apart."""
    repo = open_repository(path)
    tips = {repo.lookup_branch(name) for name in repo.list_branches()}
    tips |= {repo.lookup_tag(name) for name in repo.list_tags()}
    snapshots = sorted({info.id for tip in tips for info in repo.ancestry(snapshot_id=tip)})
    manifests = sorted({file.id for id in snapshots for file in repo.list_manifest_files(id)})
    return {
        "repo": repo.inspect_repo_info(),
        "snapshots": {id: repo.inspect_snapshot(id) for id in snapshots},
        "manifests": {id: repo.inspect_manifest(id) for id in manifests},
        "logs": {id: _log(repo, id) for id in snapshots},
    }


def inspect_file(path: str, method: str, id: str) -> Json:
    """Take one file apart."""
    return getattr(open_repository(path), method)(id)


def _log(repo: icechunk.Repository, snapshot_id: str) -> Json:
    try:
        log = repo.inspect_transaction_log(snapshot_id)
        log.get("synthetic_composite", {}).pop("note", None)  # a sentence, worded by each
        return log
    except icechunk.StorageError as error:  # migrated repositories have none for the first snapshot
        return error.kind


def diff(path: str, from_id: str, to_id: str) -> Json:
    """Describe what changed between two snapshots."""
    difference = open_repository(path).diff(from_snapshot_id=from_id, to_snapshot_id=to_id)
    return diff_fields(difference)


def chunk_references(path: str, snapshot_id: str | None = None) -> Json:
    """List every chunk reference of a snapshot, by array path."""
    repo = open_repository(path)
    session = repo.readonly_session(snapshot_id=snapshot_id or repo.lookup_branch("main"))
    found: dict[str, Json] = {}
    for key in sorted(session.store.list()):
        if not key.endswith("zarr.json"):
            continue
        array = "/" + key.removesuffix("zarr.json").rstrip("/")
        rows: list[Json] = []
        for coords, kinds, places, offsets, lengths, inline in session.store.array_chunk_iterator(
            array
        ):
            rows += [
                [
                    coords[row].tolist(),
                    int(kinds[row]),
                    str(places[row]),
                    int(offsets[row]),
                    int(lengths[row]),
                    bytes(inline[row]).hex() if row in inline else None,
                ]
                for row in range(len(kinds))
            ]
        if rows:
            found[array] = sorted(rows)
    return found


def virtual_locations(path: str) -> list[str]:
    """List the location of every virtual chunk on main."""
    return sorted(open_repository(path).readonly_session("main").all_virtual_chunk_locations())


def collect_garbage(path: str) -> Json:
    """Collect all garbage, whatever its age."""
    summary = open_repository(path).garbage_collect(datetime.now(UTC) + timedelta(days=1))
    return {
        name: getattr(summary, name)
        for name in (
            "chunks_deleted", "manifests_deleted", "snapshots_deleted", "transaction_logs_deleted",
        )
    }  # fmt: skip


def expire(path: str, older_than: str) -> list[str]:
    """Expire what was written before a moment."""
    return sorted(open_repository(path).expire_snapshots(datetime.fromisoformat(older_than)))


def rewrite_manifests(path: str) -> str:
    """Rewrite all manifests of main with the stored configuration."""
    return open_repository(path).rewrite_manifests("rewritten", branch="main")


def amend(path: str, message: str) -> str:
    """Replace the tip of main."""
    session = open_repository(path).writable_session("main")
    zarr.open_group(session.store, mode="a").attrs["amended"] = message
    return session.amend(message)


def move(path: str, source: str, target: str) -> str:
    """Move one node."""
    session = open_repository(path).rearrange_session("main")
    session.move(source, target)
    return session.commit(f"moved {source}")


def stats(path: str) -> Json:
    """Count the bytes of chunks."""
    found = open_repository(path).chunk_storage_stats()
    return [found.native_bytes, found.virtual_bytes, found.inlined_bytes]


def _set(store: icechunk.IcechunkStore, key: str, value: bytes) -> None:
    asyncio.run(store.set(key, default_buffer_prototype().buffer.from_bytes(value)))


# --- repositories in spec version 1, as both generations of the reference show them --------------


def describe_spec_1(path: str) -> dict[str, Json]:
    """Describe the snapshots reachable in a repository of spec version 1, by id."""
    repo = open_repository(path)
    tips = {repo.lookup_branch(name) for name in repo.list_branches()}
    tips |= {repo.lookup_tag(name) for name in repo.list_tags()}
    infos = {info.id: info for tip in tips for info in repo.ancestry(snapshot_id=tip)}

    async def digests(store: icechunk.IcechunkStore) -> dict[str, str]:
        found = {}
        async for key in store.list():
            value = await store.get(key, default_buffer_prototype())
            assert value is not None, key
            found[key] = digest(value.to_bytes())
        return found

    return {
        id: {
            "parent_id": info.parent_id,
            "message": info.message,
            "metadata": info.metadata,
            "flushed_at": round(info.written_at.timestamp() * 1_000_000),
            "manifests": sorted(
                [file.id, file.size_bytes, file.num_chunk_refs] for file in _files_of(repo, info)
            ),
            "digests": asyncio.run(digests(repo.readonly_session(snapshot_id=id).store)),
        }
        for id, info in infos.items()
    }


def _files_of(repo: icechunk.Repository, info: icechunk.SnapshotInfo) -> list[Any]:
    if hasattr(info, "manifests"):  # the first generation
        return info.manifests
    return repo.list_manifest_files(info.id)


# --- the layout that a writer chose --------------------------------------------------------------


def layout(path: str) -> list[Json]:
    """Describe how each snapshot is laid out in files, oldest first, without ids."""
    found = inspect(path)
    manifests = found["manifests"]
    order = sorted(found["snapshots"].values(), key=lambda snapshot: snapshot["flushed_at"])
    paths = {node["id"]: node["path"] for snapshot in order for node in snapshot["nodes"]}
    return [
        {
            "message": snapshot["commit_message"],
            "manifests": sorted(file["num_chunk_refs"] for file in snapshot["manifests"]),
            "nodes": [_node_layout(node, manifests) for node in snapshot["nodes"]],
            "changes": _changes(found["logs"][snapshot["id"]], paths),
        }
        for snapshot in order
    ]


def _node_layout(node: Json, manifests: dict[str, Json]) -> Json:
    parts = []
    for ref in node.get("manifest_refs", ()):
        arrays = manifests[ref["id"]]["arrays"]
        (counts,) = [array for array in arrays if array["node_id"] == node["id"]]
        kinds = [counts[f"num_{kind}"] for kind in ("inline", "native", "virtual")]
        parts.append([ref["extents"], kinds, manifests[ref["id"]]["compression"], len(arrays)])
    return {
        "path": node["path"],
        "type": node["node_type"],
        "shape": node.get("shape"),
        "dimension_names": node.get("dimension_names"),
        "manifests": sorted(parts, key=lambda part: part[0]),
    }


def _changes(log: Json, paths: dict[str, str]) -> Json:
    lists = ("new_groups", "new_arrays", "deleted_groups", "deleted_arrays", "updated_groups",
             "updated_arrays")  # fmt: skip
    return {
        **{name: sorted(paths[id] for id in log[name]) for name in lists},
        "updated_chunks": sorted(
            [paths[entry["node_id"]], sorted(entry["chunks"])] for entry in log["updated_chunks"]
        ),
        "moved_nodes": [[move["from"], move["to"]] for move in log["moved_nodes"]],
    }

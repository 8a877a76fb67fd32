"""Repositories to write, each a short program against the public interface.

Every function creates a repository at a path; run under this package and under the reference it
must leave the same content behind. Only features that both have are used here; see `reference` for
those that only the reference can write.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import random
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import zarr
from zarr.core.buffer import default_buffer_prototype

import icechunk
from interop.describe import open_repository
from interop.places import storage_at

DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64", "complex64", "complex128",
)  # fmt: skip

ATTRIBUTES = {
    "ünïcode ключ": "värde 🧊",
    "nested": {"list": [1, 2.5, None, True, "x"], "empty": {}},
    "big": 2**53,
    "negative": -1.25e-300,
}

SPLITS: dict[str, dict[Any, dict[Any, int]]] = {
    "whole": {},
    "first axis": {"any": {("axis", 0): 3}},
    "every axis": {"any": {"any": 4}},
    "by dimension name": {"any": {("name", "^x$"): 2, ("axis", 0): 5}},
    "by path": {("path", "coarse"): {"any": 7}, ("name", "^fine$"): {"any": 1}},
}


def create(path: str, **options: Any) -> icechunk.Repository:
    """Create a repository."""
    return icechunk.Repository.create(storage_at(path), **options)


@contextlib.contextmanager
def committing(repo: icechunk.Repository, message: str) -> Iterator[icechunk.IcechunkStore]:
    """Write to main and commit at the end of the block."""
    session = repo.writable_session("main")
    yield session.store
    session.commit(message)


def bare(path: str) -> None:
    """Nothing but the initial snapshot."""
    create(path)


def hierarchy(path: str) -> None:
    """Groups, arrays of many types and ranks, and names that sort in surprising ways."""
    session = create(path).writable_session("main")
    root = zarr.create_group(session.store, attributes=ATTRIBUTES)
    types = root.create_group("types", attributes={"of": "dtypes"})
    rng = np.random.default_rng(0)
    for dtype in DTYPES:
        values = (rng.standard_normal(50) * 100).astype("complex128").real.round()
        array = types.create_array(dtype, shape=(50,), chunks=(7,), dtype=dtype)
        array[:] = np.abs(values).astype(dtype) if dtype[0] in "ub" else values.astype(dtype)
    _times_and_texts(types)
    _ranks(root.create_group("ranks"))
    _awkward_names(root.create_group("names"))
    _partly_written(root.create_group("partly"))
    session.commit("hierarchy", {"step": 1})


def _times_and_texts(group: zarr.Group) -> None:
    moments = np.array(["1970-01-01", "2024-02-29T12:34:56", "NaT", "2262-04-11"], "M8[s]")
    group.create_array("moments", shape=(4,), chunks=(3,), dtype="M8[s]")[:] = moments
    group.create_array("spans", shape=(4,), chunks=(2,), dtype="m8[ns]")[:] = np.arange(4) - 2
    fixed = np.array(["", "a", "größer", "🧊🧊"], "U6")
    group.create_array("fixed", shape=(4,), chunks=(2,), dtype="U6")[:] = fixed
    texts = group.create_array("variable", shape=(4,), chunks=(2,), dtype=str)
    texts[:] = np.array(["", "ice", "chunk" * 300, "é"], dtype=object)
    group.create_array("raw", shape=(4,), chunks=(2,), dtype="S4")[:] = np.array(
        [b"", b"a", b"abcd", b"\xff\xfe"], "S4"
    )


def _ranks(group: zarr.Group) -> None:
    group.create_array("rank 0", shape=(), dtype="float64")[...] = 2.5
    group.create_array("rank 0 unwritten", shape=(), dtype="int16", fill_value=-3)
    for rank in range(1, 5):
        shape = (5, 4, 3, 6)[:rank]
        values = np.arange(np.prod(shape), dtype="int64").reshape(shape)
        group.create_array(
            f"rank {rank}",
            shape=shape,
            chunks=(2, 3, 1, 4)[:rank],
            dtype="int64",
            dimension_names=["t", None, "x", "größe"][:rank],
        )[...] = values
    values = np.random.default_rng(1).standard_normal((60, 60))
    group.create_array("native", shape=(60, 60), chunks=(30, 25), dtype="float64")[...] = values
    sharded = group.create_array(
        "sharded", shape=(16, 16), chunks=(2, 4), shards=(8, 8), dtype="uint32"
    )
    sharded[...] = np.arange(256, dtype="uint32").reshape(16, 16)
    sharded_partly = group.create_array(
        "sharded partly", shape=(64,), chunks=(4,), shards=(16,), dtype="uint8", fill_value=9
    )
    sharded_partly[20:30] = 1
    group.create_array("empty axis", shape=(0, 3), chunks=(1, 3), dtype="int8")


def _awkward_names(group: zarr.Group) -> None:
    for name in ("a", "a b", "a b/é", "b-group", "b-group/inner", "日本", "Z", "z", "0", "0/0"):
        if name == "a":
            continue
        group.create_group(name, attributes={"name": name})
    for name in ("a", "a-b", "a.b", "ab", "a0", "A", "b", "c", "c-c", "ü"):
        group.create_array(name, shape=(3,), chunks=(1,), dtype="int8")[:] = len(name)
    group.create_array("d/e/f", shape=(2,), chunks=(1,), dtype="int8")[:] = 1
    group.create_array("d-e", shape=(2,), chunks=(1,), dtype="int8")[:] = 2
    group.create_array("c group/c/0", shape=(2,), chunks=(1,), dtype="int8")[:] = 3


def _partly_written(group: zarr.Group) -> None:
    array = group.create_array("holes", shape=(10, 10), chunks=(2, 5), dtype="int32", fill_value=7)
    array[2:4, 0:5] = 1
    array[8:10, 5:10] = 2
    group.create_array("unwritten", shape=(9,), chunks=(2,), dtype="float32", fill_value=np.nan)
    written_fill = group.create_array(
        "written fill",
        shape=(4,),
        chunks=(2,),
        dtype="int8",
        fill_value=5,
        config={"write_empty_chunks": True},
    )
    written_fill[:] = 5


def edits(path: str) -> None:
    """Commits that resize, overwrite and delete what earlier commits wrote."""
    repo = create(path)
    with committing(repo, "start") as store:
        root = zarr.create_group(store)
        for name in ("shrinks", "grows", "both", "loses chunks", "replaced", "kept"):
            array = root.create_array(name, shape=(12, 4), chunks=(2, 2), dtype="int32")
            array[...] = np.arange(48).reshape(12, 4)
        root.create_group("doomed/inner").create_array("x", shape=(2,), dtype="int8")[:] = 1
        root.create_array("doomed-not", shape=(2,), dtype="int8")[:] = 1
        root.create_group("emptied")
    with committing(repo, "resize") as store:
        root = zarr.open_group(store)
        root["shrinks"].resize((5, 4))
        root["grows"].resize((20, 6))
        root["grows"][12:] = 99
        root["both"].resize((3, 3))
    with committing(repo, "resize back") as store:
        root = zarr.open_group(store)
        root["both"].resize((12, 4))
        root["both"][10:] = -1
    with committing(repo, "overwrite") as store:
        root = zarr.open_group(store)
        root["kept"][3:5, 1:3] = 1000
        replaced = root.create_array(
            "replaced", shape=(6,), chunks=(3,), dtype="float32", overwrite=True
        )
        replaced[:3] = 0.5
    with committing(repo, "delete") as store:
        root = zarr.open_group(store)
        del root["doomed"]
        zarr.create_group(store, path="doomed", attributes={"again": True})
        _run(store.delete("loses chunks/c/0/0"))
        _run(store.delete_dir("loses chunks/c/3"))
        root["emptied"].attrs["updated"] = 1
    with committing(repo, "delete the rest") as store:
        _run(store.delete_dir("loses chunks/c"))
        _run(store.delete("shrinks/zarr.json"))
    session = repo.writable_session("main")
    zarr.open_array(session.store, path="kept")[...] = -5
    session.discard_changes()
    zarr.open_array(session.store, path="kept").attrs["after"] = "discard"
    session.commit("after discarding")


def moved(path: str) -> None:
    """Nodes renamed and moved by rearrange sessions, and edited afterwards."""
    repo = create(path)
    with committing(repo, "before") as store:
        root = zarr.create_group(store)
        for name in ("a/x", "a/deep/y", "a-b", "z"):
            array = root.create_array(name, shape=(6, 100), chunks=(2, 100), dtype="int64")
            array[...] = np.arange(600).reshape(6, 100) + len(name)
        root.create_group("target")
    session = repo.rearrange_session("main")
    session.move("/a", "/target/renamed é")
    session.move("/z", "/a")
    session.move("/a-b", "/z")
    session.commit("moved")
    with committing(repo, "after") as store:
        root = zarr.open_group(store)
        root["target/renamed é/deep/y"][0] = -1
        root["a"].resize((3, 100))
        root.create_array("a-b", shape=(2,), dtype="int8")[:] = 1
    session = repo.rearrange_session("main")
    session.move("/target/renamed é", "/back")
    session.commit("moved back")


def renumbered(path: str) -> None:
    """Chunks shifted and reindexed, committed and uncommitted ones, with and without gaps."""
    repo = create(path)
    with committing(repo, "start") as store:
        root = zarr.create_group(store)
        grid = root.create_array("grid", shape=(6, 8), chunks=(2, 2), dtype="int32", fill_value=-1)
        grid[...] = np.arange(48).reshape(6, 8)
        grid[2:4, 4:6] = -1
        line = root.create_array("line", shape=(12,), chunks=(1,), dtype="int64", fill_value=-1)
        line[:5] = np.arange(5)
        line[8:] = np.arange(8, 12)
        large = root.create_array("large", shape=(5, 100), chunks=(1, 100), dtype="int64")
        large[...] = np.arange(500).reshape(5, 100) + 1
    session = repo.writable_session("main")
    session.shift_array("/grid", (1, -1))
    session.shift_array("/line", [-2])
    session.shift_array("/large", (2, 0))
    session.commit("shifted")
    session = repo.writable_session("main")
    line = zarr.open_array(session.store, path="line")
    line.resize((15,))
    line[14] = 14
    session.shift_array("/line", (3,))
    line[0] = 100
    session.shift_array("/large", (9, 0))
    session.commit("shifted after edits, and out of the grid")
    session = repo.writable_session("main")
    session.shift_array("/grid", (0, 0))
    session.reindex_array("/line", lambda at: [14 - at[0]], lambda at: [14 - at[0]])
    session.commit("mirrored")
    session = repo.writable_session("main")
    session.reindex_array("/grid", lambda at: [at[0], 0] if at[1] == 2 else None)
    session.reindex_array("/line", lambda at: [at[0] // 2], lambda at: None)
    session.commit("folded")


def history(path: str) -> None:
    """Branches and tags made, moved and deleted; metadata of all JSON types; an empty commit."""
    repo = create(path)
    repo.set_default_commit_metadata({"author": "compat", "count": 0})
    session = repo.writable_session("main")
    zarr.create_group(session.store)
    first = session.commit(
        "first ✓",
        {
            "text": "ünï", "empty": "", "int": 7, "negative": -(2**40), "float": 1.5, "whole": 2.0,
            "true": True, "false": False, "none": None, "list": [1, "a", [None], {}],
            "map": {"b": {"c": [1.25]}, "a": 1}, "count": 1, "ключ": "🧊",
        },
    )  # fmt: skip
    second = repo.writable_session("main").commit("empty", allow_empty=True)
    repo.create_branch("feature/with slash", first)
    repo.create_branch("doomed", first)
    repo.create_branch("größe", second)
    repo.create_tag("v1", first)
    repo.create_tag("v1.0 ünï/x", second)
    repo.create_tag("doomed", first)
    repo.delete_tag("doomed")
    for number in range(3):
        session = repo.writable_session("feature/with slash")
        root = zarr.open_group(session.store)
        root.create_array(f"array {number}", shape=(3,), chunks=(2,), dtype="int16")[:] = number
        session.commit(f"feature {number}")
    session = repo.writable_session("doomed")
    zarr.open_group(session.store).attrs["lost"] = True
    session.commit("lost")
    repo.delete_branch("doomed")
    session = repo.writable_session("größe")
    zarr.open_group(session.store).attrs["abandoned"] = True
    session.commit("abandoned")
    repo.reset_branch("größe", first)
    session = repo.writable_session("größe")
    zarr.open_group(session.store).attrs["instead"] = True
    session.commit("", {})
    repo.create_tag("last", repo.lookup_branch("größe"))


def splitting(path: str, split: str) -> None:
    """Arrays cut into manifests by one of `SPLITS`, grown and rewritten over several commits."""
    config = icechunk.RepositoryConfig(
        inline_chunk_threshold_bytes=16,
        manifest=icechunk.ManifestConfig(splitting=_splitting(SPLITS[split])),
    )
    repo = create(path, config=config)
    with committing(repo, "write") as store:
        root = zarr.create_group(store)
        for name in ("fine", "coarse/data", "plain"):
            array = root.create_array(
                name, shape=(10, 8), chunks=(1, 2), dtype="int64", dimension_names=["t", "x"]
            )
            array[...] = np.arange(80).reshape(10, 8)
        root.create_array("scalar", shape=(), dtype="int8")[...] = 3
        sparse = root.create_array("sparse", shape=(20, 30), chunks=(1, 3), dtype="int8")
        sparse[5, 5] = sparse[10, 16] = sparse[19, 0] = 1
    with committing(repo, "append") as store:
        root = zarr.open_group(store)
        for name in ("fine", "plain"):
            root[name].resize((13, 8))
            root[name][10:] = 7
    with committing(repo, "touch one") as store:
        zarr.open_array(store, path="coarse/data")[4, 4] = -1
    with committing(repo, "shrink") as store:
        zarr.open_array(store, path="fine").resize((4, 5))
    resplit = icechunk.RepositoryConfig(
        manifest=icechunk.ManifestConfig(splitting=_splitting({"any": {("axis", 1): 1}}))
    )
    repo = icechunk.Repository.open(storage_at(path), config=resplit)
    with committing(repo, "split differently") as store:
        zarr.open_array(store, path="plain").attrs["touched"] = True
        zarr.open_array(store, path="coarse/data")[0, 0] = 5


def resplitting(path: str, seed: int) -> None:
    """Arrays of three ranks whose splits, grids and chunks change at random in every commit."""
    choose = random.Random(seed)
    create(path)
    shapes = {"one": [9], "two": [7, 5], "three": [4, 3, 5]}
    for step in range(10):
        rules = {"any": {("axis", axis): choose.randint(1, 6) for axis in range(3)}}
        for axis in range(3):
            if choose.random() < 0.3:
                del rules["any"]["axis", axis]
        manifest = icechunk.ManifestConfig(splitting=_splitting(rules))
        repo = open_repository(path, config=icechunk.RepositoryConfig(manifest=manifest))
        with committing(repo, f"step {step}") as store:
            root = zarr.open_group(store, mode="a")
            for name, shape in shapes.items():
                if step == 0:
                    root.create_array(name, shape=shape, chunks=[1] * len(shape), dtype="int16")
                    continue
                array = root[name]
                if choose.random() < 0.4:
                    shape[:] = [max(1, n + choose.randint(-3, 3)) for n in shape]
                    array.resize(shape)
                for _ in range(choose.choice([0, 0, 1, 3])):
                    first = [choose.randrange(n) for n in shape]
                    box = [
                        slice(low, choose.randint(low, n) + 1)
                        for low, n in zip(first, shape, strict=True)
                    ]
                    # whole chunks of the fill value are deleted, or never made
                    array[tuple(box)] = choose.choice([0, step, step])
            root.attrs["step"] = step
        if step in (5, 8):
            repo.rewrite_manifests(f"rewritten {step}", branch="main")


def _splitting(rules: dict[Any, dict[Any, int]]) -> icechunk.ManifestSplittingConfig:
    condition, axis = icechunk.ManifestSplitCondition, icechunk.ManifestSplitDimCondition
    arrays = {"path": condition.path_matches, "name": condition.name_matches}
    axes = {"axis": axis.Axis, "name": axis.DimensionName}
    return icechunk.ManifestSplittingConfig.from_dict(
        {
            condition.AnyArray() if where == "any" else arrays[where[0]](where[1]): {
                axis.Any() if which == "any" else axes[which[0]](which[1]): size
                for which, size in sizes.items()
            }
            for where, sizes in rules.items()
        }
    )


def many_chunks(path: str, count: int) -> None:
    """`count` inline chunks and some native ones, then a few changes, commit by commit."""
    repo = create(path)
    late = [0, 777, count // 3, count - 1]
    with committing(repo, "many") as store:
        root = zarr.create_group(store)
        width = 250
        root.create_array(
            "inline", shape=(count // width, width), chunks=(1, 1), dtype="uint8", compressors=None
        )
        values = (np.arange(count) % 251).astype("uint8")
        items = (
            (f"inline/c/{i // width}/{i % width}", values[i : i + 1].tobytes())
            for i in range(count)
            if i not in late
        )
        _run(_put(store, items))
        native = root.create_array(
            "native", shape=(1000, 600), chunks=(1, 600), dtype="uint8", compressors=None
        )
        native[...] = (np.arange(600_000) % 253).astype("uint8").reshape(1000, 600)
    with committing(repo, "few") as store:
        root = zarr.open_group(store)
        root["inline"][3, 5:9] = 255
        root["native"][17] = 0
        root["native"][18] = 1
    for i in late[:-1]:
        with committing(repo, f"late chunk {i}") as store:
            zarr.open_array(store, path="inline")[i // width, i % width] = 7


def random_edits(path: str, seed: int, **options: Any) -> None:
    """A dozen commits of random edits to a few names, split manifests among them."""
    choose = random.Random(seed)
    config = icechunk.RepositoryConfig(
        inline_chunk_threshold_bytes=choose.choice([0, 40, 512]),
        manifest=icechunk.ManifestConfig(
            splitting=_splitting({"any": {("axis", 0): choose.randint(1, 5)}})
            if choose.random() < 0.7
            else None
        ),
    )
    repo = create(path, config=config, **options)
    session = repo.writable_session("main")
    zarr.create_group(session.store)
    session.commit("start")
    for number in range(12):
        branch = choose.choice(sorted(repo.list_branches()))
        session = repo.writable_session(branch)
        for _ in range(choose.randint(0, 6)):
            _random_edit(session.store, choose)
        if choose.random() < 0.1:
            session.discard_changes()
        tip = session.commit(f"commit {number}", allow_empty=True)
        if choose.random() < 0.2:
            repo.create_branch(f"branch {number}", tip)
        if choose.random() < 0.1:
            repo.create_tag(f"tag {number}", tip)


def _random_edit(store: icechunk.IcechunkStore, choose: random.Random) -> None:
    root = zarr.open_group(store)
    name = choose.choice(["a", "a-b", "b", "b/c", "b/c/d", "b/c-d", "e", "é/f"])
    node = root.get(name)
    inside_array = any(
        isinstance(root.get(name.rsplit("/", depth)[0]), zarr.Array)
        for depth in range(1, name.count("/") + 1)
    )
    action = choose.choice(
        ["create", "write", "write", "write", "resize", "attrs", "drop", "chunk"]
    )
    if action == "create" and not inside_array:
        if choose.random() < 0.3:
            root.create_group(name, overwrite=True, attributes={"n": choose.random()})
        else:
            shape = [choose.randint(0, 9) for _ in range(choose.randint(0, 2))]
            chunks = [choose.randint(1, 4) for _ in shape]
            array = root.create_array(
                name, shape=shape, chunks=chunks, dtype="int32", overwrite=True,
                compressors=None, dimension_names=["x", None][: len(shape)] or None,
            )  # fmt: skip
            array[...] = choose.randint(0, 3)
    elif node is None:
        return
    elif action == "attrs":
        node.attrs["k"] = choose.randint(0, 2)
    elif action == "drop" and choose.random() < 0.5:
        del root[name]
    elif isinstance(node, zarr.Array):
        if action == "write":
            where = tuple(slice(*sorted(choose.choices(range(10), k=2))) for _ in node.shape)
            node[where] = choose.randint(0, 3)
        elif action == "resize":
            node.resize(tuple(choose.randint(0, 12) for _ in node.shape))
        elif action == "chunk":
            coords = [str(choose.randint(0, 3)) for _ in node.shape]
            if choose.random() < 0.5:
                _run(store.delete("/".join([name, "c", *coords])))
            else:
                _run(store.delete_dir("/".join([name, "c", *coords[:1]])))


async def _put(store: icechunk.IcechunkStore, items: Iterable[tuple[str, bytes]]) -> None:
    buffer = default_buffer_prototype().buffer
    for key, value in items:
        await store.set(key, buffer.from_bytes(value))


def rich_config(path: str) -> None:
    """A saved configuration that sets as much as possible."""
    repo = create(path, config=rich_configuration())
    config = repo.config
    config.max_concurrent_requests = 77
    icechunk.Repository.open(storage_at(path), config=config).save_config()


def rich_preload_condition() -> icechunk.ManifestPreloadCondition:
    """Return a condition of every kind in one."""
    condition = icechunk.ManifestPreloadCondition
    return condition.or_conditions(
        [
            condition.and_conditions([condition.true(), condition.name_matches("^t$")]),
            condition.path_matches("/coords/.*é: #x"),
            condition.num_refs(1, 100),
            condition.num_refs(None, None),
            condition.false(),
        ]
    )


def rich_splitting() -> icechunk.ManifestSplittingConfig:
    """Return rules with conditions of every kind."""
    split, axis = icechunk.ManifestSplitCondition, icechunk.ManifestSplitDimCondition
    return icechunk.ManifestSplittingConfig.from_dict(
        {
            split.or_conditions([split.path_matches("/a"), split.name_matches("b$")]): {
                axis.Axis(0): 3,
                axis.DimensionName("^tïme$"): 5,
            },
            split.and_conditions([split.AnyArray(), split.name_matches("")]): {
                axis.Any(): 2**32 - 1
            },
        }
    )


def rich_configuration() -> icechunk.RepositoryConfig:
    """Return a configuration with a value in nearly every field."""
    return icechunk.RepositoryConfig(
        inline_chunk_threshold_bytes=123,
        get_partial_values_concurrency=4,
        compression=icechunk.CompressionConfig(level=7),
        max_concurrent_requests=55,
        caching=icechunk.CachingConfig(
            num_snapshot_nodes=999, num_chunk_refs=2**40, num_bytes_chunks=0
        ),
        storage=icechunk.storage.StorageSettings(
            concurrency=icechunk.storage.StorageConcurrencySettings(
                max_concurrent_requests_for_object=3, ideal_concurrent_request_size=2**33
            ),
            retries=icechunk.storage.StorageRetriesSettings(
                max_tries=42, initial_backoff_ms=7, max_backoff_ms=70_000
            ),
            timeouts=icechunk.storage.StorageTimeoutSettings(
                connect_timeout_ms=1000, operation_timeout_ms=90_000
            ),
            unsafe_use_conditional_create=True,
            storage_class="STANDARD_IA",
            chunks_storage_class="GLACIER",
            minimum_size_for_multipart_upload=5 * 2**20,
        ),
        manifest=icechunk.ManifestConfig(
            preload=icechunk.ManifestPreloadConfig(
                max_total_refs=10,
                max_arrays_to_scan=3,
                preload_if=rich_preload_condition(),
            ),
            splitting=rich_splitting(),
            max_concurrent_manifest_fetches_during_commit=6,
        ),
        num_updates_per_repo_info_file=50,
    )


def forks(path: str) -> None:
    """A distributed write: forks of a session with changes, merged and committed."""
    repo = create(path)
    session = repo.writable_session("main")
    root = zarr.create_group(session.store)
    root.create_array("shared", shape=(8, 100), chunks=(1, 100), dtype="int64")
    root.create_array("before", shape=(4,), chunks=(1,), dtype="int8")[:2] = 1
    workers = [session.fork() for _ in range(4)]
    for number in range(4):
        fork = pickle.loads(pickle.dumps(workers[number]))
        shared = zarr.open_array(fork.store, path="shared")
        shared[2 * number : 2 * number + 2] = number
        made = zarr.create_array(fork.store, name=f"by {number}", shape=(2,), dtype="int8")
        made[:] = number
        workers[number] = pickle.loads(pickle.dumps(fork))
    session.merge(*workers)
    zarr.open_array(session.store, path="before")[2:] = 2
    session.commit("distributed")


def continued(path: str, step: int) -> None:
    """One round on a repository that may have been written by anyone: new, changed and deleted."""
    repo = icechunk.Repository.open(storage_at(path))
    session = repo.writable_session("main")
    root = zarr.open_group(session.store, mode="a")
    if "rounds" not in root:
        root.create_array("rounds", shape=(0,), chunks=(3,), dtype="int64")
    log = root["rounds"]
    log.resize((log.shape[0] + 2,))
    log[-2:] = step
    table = root.require_group("tables").create_array(
        f"t{step}", shape=(6, 50), chunks=(2, 50), dtype="float64", dimension_names=["t", "x"]
    )
    table[...] = np.arange(300.0).reshape(6, 50) * step
    if f"tables/t{step - 1}" in root:
        previous = root[f"tables/t{step - 1}"]
        previous.resize((5, 50))
        previous[2:4] = -step
        previous.attrs["changed in"] = step
    if f"tables/t{step - 2}" in root:
        del root[f"tables/t{step - 2}"]
    root.attrs[f"step {step}"] = {"nested": [step]}
    tip = session.commit(f"round {step}", {"step": step})
    repo.create_tag(f"round-{step}", tip)
    repo.create_branch(f"from {step}", tip)
    side = repo.writable_session(f"from {step}")
    zarr.open_group(side.store).attrs["side"] = step
    side.commit(f"aside {step}")
    if f"round-{step - 1}" in repo.list_tags():
        repo.delete_tag(f"round-{step - 1}")
    if f"from {step - 2}" in repo.list_branches():
        repo.delete_branch(f"from {step - 2}")


def _run(awaitable: Any) -> Any:
    async def run() -> Any:
        return await awaitable

    return asyncio.run(run())


def administered(path: str) -> None:
    """Metadata, status and feature flags, changed several times."""
    repo = create(path)
    repo.set_metadata({"title": "ünï", "gone": 1})
    repo.set_metadata({"title": "ünï", "nested": {"list": [1, 2.5, None, True, -(2**63)]}})
    repo.update_metadata({"more": 2**64 - 1, "title": "changed"})
    repo.set_feature_flag("create_tag", True)
    repo.set_feature_flag("delete_tag", False)
    repo.set_feature_flag("move_node", False)
    repo.set_feature_flag("move_node", None)
    closed = icechunk.RepoAvailability.read_only
    repo.set_status(icechunk.RepoStatus(closed, None, "maintenance ü"))
    repo.set_status(icechunk.RepoStatus(icechunk.RepoAvailability.online))
    when = datetime(2024, 2, 3, 4, 5, 6, 789, tzinfo=UTC)
    repo.set_status(icechunk.RepoStatus(closed, when, "for good"))


def administered_further(path: str) -> None:
    """Open what `administered` closed, and change it on."""
    repo = open_repository(path)
    repo.set_status(icechunk.RepoStatus(icechunk.RepoAvailability.online, None, "again"))
    repo.update_metadata({"nested": {"other": "ä"}, "by": "another"})
    repo.set_feature_flag("delete_tag", None)
    repo.set_feature_flag("create_tag", False)
    repo.writable_session("main").commit("after", allow_empty=True)


def paged(path: str) -> None:
    """An operations log so short in the repository object that most of it is in backups."""
    repo = create(path, config=icechunk.RepositoryConfig(num_updates_per_repo_info_file=3))
    repo.save_config()


def page_filled(path: str, step: int) -> None:
    """Do some things worth logging, a number of them that fits no page."""
    repo = open_repository(path)
    tip = repo.lookup_branch("main")
    repo.create_branch(f"branch {step}", tip)
    repo.create_tag(f"tag {step}", tip)
    repo.update_metadata({"step": step})
    repo.writable_session("main").commit(f"step {step}", allow_empty=True)
    repo.delete_branch(f"branch {step}")

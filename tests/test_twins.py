"""Coroutine twins: which there are, that they take the same, and that any event loop runs them."""

import asyncio
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr

import icechunk
from icechunk._threads import in_thread

# Blocking methods that the reference implementation has a twin of, and those that are ours alone.
TWINNED = {
    icechunk.Repository: {
        "ancestry_graph",
        "check_storage",
        "chunk_storage_stats",
        "create",
        "create_branch",
        "create_tag",
        "delete_branch",
        "delete_tag",
        "diff",
        "disabled_feature_flags",
        "enabled_feature_flags",
        "exists",
        "expire_snapshots",
        "feature_flags",
        "fetch_config",
        "fetch_spec_version",
        "garbage_collect",
        "get_metadata",
        "get_status",
        "inspect_manifest",
        "inspect_repo_info",
        "inspect_snapshot",
        "inspect_transaction_log",
        "list_branches",
        "list_manifest_files",
        "list_tags",
        "lookup_branch",
        "lookup_snapshot",
        "lookup_tag",
        "open",
        "open_or_create",
        "plan_expiration",
        "plan_upgrade",
        "plan_garbage_collection",
        "readonly_session",
        "rearrange_session",
        "reopen",
        "reset_branch",
        "rewrite_manifests",
        "run_expiration",
        "run_garbage_collection",
        "save_config",
        "set_feature_flag",
        "set_metadata",
        "set_status",
        "storage_added_by",
        "storage_freed_by_expiring",
        "storage_statistics",
        "total_chunks_storage",
        "update_metadata",
        "verify",
        "verify_storage",
        "writable_session",
    },
    icechunk.Session: {
        "all_virtual_chunk_locations",
        "amend",
        "chunk_type",
        "commit",
        "flush",
        "get_node_id",
        "merge",
        "move",
        "rebase",
    },
    icechunk.IcechunkStore: {"set_virtual_ref", "set_virtual_refs", "set_virtual_refs_arr"},
}
PAIRS = [
    (cls, name) for cls, names in TWINNED.items() for name in sorted(names) if hasattr(cls, name)
]


def binding_of(cls, name):
    """How a method is bound: the class of what its class's namespace holds."""
    return type(inspect.getattr_static(cls, name))


@pytest.mark.parametrize(("cls", "name"), PAIRS)
def test_every_blocking_method_has_a_twin_that_takes_the_same(cls, name):
    method, twin = getattr(cls, name), getattr(cls, f"{name}_async")
    assert inspect.iscoroutinefunction(twin)
    assert not inspect.iscoroutinefunction(method)
    assert inspect.signature(twin) == inspect.signature(method)
    assert binding_of(cls, name) is binding_of(cls, f"{name}_async")
    assert f"`{name}`" in twin.__doc__


@pytest.mark.parametrize("cls", TWINNED)
def test_twins_have_an_original(cls):
    public = {name for name in vars(cls) if not name.startswith("_")} - {"ops_log_async"}
    twins = {name for name in public if name.endswith("_async")}
    assert {name.removesuffix("_async") for name in twins} <= TWINNED[cls]


@pytest.mark.parametrize(
    ("name", "twin"), [("ancestry", "async_ancestry"), ("ops_log", "ops_log_async")]
)
def test_iterators_have_second_names(name, twin):
    method, other = getattr(icechunk.Repository, name), getattr(icechunk.Repository, twin)
    assert inspect.signature(method) == inspect.signature(other)
    assert not inspect.iscoroutinefunction(other)


async def write_and_read(storage, branch):
    """Go through a repository by twins alone."""
    repo = await icechunk.Repository.open_async(storage)
    root = await repo.lookup_branch_async("main")
    await repo.create_branch_async(branch, root)
    session = await repo.writable_session_async(branch)
    array = await asyncio.to_thread(
        zarr.create_array, session.store, name="a", shape=(4,), chunks=(2,), dtype="i4"
    )
    await asyncio.to_thread(array.__setitem__, slice(None), len(branch))
    snapshot = await session.commit_async(f"on {branch}", {"branch": branch})
    await repo.create_tag_async(f"tag-{branch}", snapshot)
    assert await repo.lookup_tag_async(f"tag-{branch}") == snapshot
    assert (await repo.lookup_snapshot_async(snapshot)).metadata == {"branch": branch}
    assert len(await repo.list_manifest_files_async(snapshot)) == 1
    history = [info.id async for info in repo.async_ancestry(branch=branch)]
    assert history == [snapshot, root]
    kinds = [type(update.kind) async for update in repo.ops_log_async()]
    assert icechunk.UpdateType.NewCommit in kinds
    reader = await repo.readonly_session_async(tag=f"tag-{branch}")
    values = await asyncio.to_thread(lambda: zarr.open_array(reader.store, path="a")[:])
    np.testing.assert_array_equal(values, len(branch))
    await repo.reset_branch_async(branch, root, from_snapshot_id=snapshot)
    assert await repo.lookup_branch_async(branch) == root
    await repo.delete_tag_async(f"tag-{branch}")
    await repo.delete_branch_async(branch)
    return snapshot


def test_one_loop_after_another(storage):
    async def create():
        assert not await icechunk.Repository.exists_async(storage)
        repo = await icechunk.Repository.create_async(storage)
        assert await icechunk.Repository.exists_async(storage)
        assert await icechunk.Repository.fetch_config_async(storage) is None
        await repo.save_config_async()
        assert await icechunk.Repository.fetch_config_async(storage) == icechunk.RepositoryConfig()
        again = await icechunk.Repository.open_or_create_async(storage)
        assert type(again) is icechunk.Repository
        return repo

    repo = asyncio.run(create())
    for branch in ("one", "three"):
        asyncio.run(write_and_read(storage, branch))  # each in a loop of its own, closed afterwards
    assert asyncio.run(repo.list_branches_async()) == {"main"}
    assert asyncio.run(repo.list_tags_async()) == set()


def test_many_tasks_of_one_loop(storage):
    icechunk.Repository.create(storage)

    async def all_at_once():
        names = [f"branch-{n}" for n in range(6)]
        return await asyncio.gather(*(write_and_read(storage, name) for name in names))

    assert len(set(asyncio.run(all_at_once()))) == 6


def test_loops_in_several_threads(storage):
    icechunk.Repository.create(storage)
    with ThreadPoolExecutor(4) as pool:
        runs = [
            pool.submit(lambda n: asyncio.run(write_and_read(storage, f"branch-{n}")), n)
            for n in range(4)
        ]
        assert len({run.result() for run in runs}) == 4


def test_objects_move_between_loops(repo):
    """A session opened in one loop is merged and committed in others."""
    session = asyncio.run(repo.writable_session_async("main"))
    zarr.create_array(session.store, name="a", shape=(4,), chunks=(2,), dtype="i4")
    fork = session.fork()
    zarr.open_array(fork.store, path="a")[:] = 7
    asyncio.run(session.merge_async(fork))
    asyncio.run(session.commit_async("merged"))
    reader = asyncio.run(repo.readonly_session_async("main"))
    assert zarr.open_array(reader.store, path="a")[:].tolist() == [7] * 4


async def test_errors_and_the_loop_is_free_meanwhile(repo):
    with pytest.raises(icechunk.RefNotFoundError) as caught:
        await repo.lookup_branch_async("absent")
    assert caught.value.kind == "ref-not-found"
    with pytest.raises(TypeError, match="unexpected keyword"):
        await repo.lookup_branch_async(branhc="main")

    released = threading.Event()

    class Slow:
        def wait(self):
            """Wait until the loop has gone on."""
            return released.wait(30), threading.get_ident()

        wait_async = in_thread(wait)

    waiting = asyncio.ensure_future(Slow().wait_async())
    await asyncio.sleep(0)
    released.set()
    was_released, thread = await waiting
    assert was_released
    assert thread != threading.get_ident()


async def test_context_variables_reach_the_thread():
    import contextvars

    who = contextvars.ContextVar("who")

    class Asks:
        def ask(self):
            return who.get()

        ask_async = in_thread(ask)

    who.set("me")
    assert await Asks().ask_async() == "me"

"""Repository.inspect_*: what they show of a repository, and how they fail."""

import pytest
import zarr

from icechunk import IcechunkError, StorageError

INSPECTORS = ("inspect_snapshot", "inspect_manifest", "inspect_transaction_log")


@pytest.fixture
def tip(repo):
    session = repo.writable_session("main")
    root = zarr.create_group(session.store)
    root.create_array("x", shape=(4, 6), chunks=(2, 2), dtype="i4", dimension_names=["t", None])[
        :
    ] = 7
    root.create_array("scalar", shape=(), dtype="i4")[...] = 1
    return session.commit("one", {"who": "me"})


def test_snapshot_manifest_and_log_belong_together(repo, tip):
    snapshot = repo.inspect_snapshot(tip)
    assert (snapshot["id"], snapshot["commit_message"]) == (tip, "one")
    assert snapshot["metadata"] == {"who": "me"}
    assert [(n["path"], n["node_type"]) for n in snapshot["nodes"]] == [
        ("/", "group"),
        ("/scalar", "array"),
        ("/x", "array"),
    ]
    root, scalar, x = snapshot["nodes"]
    assert set(root) == {"id", "path", "node_type"}
    assert scalar["shape"] == []
    assert x["shape"] == [
        {"name": "t", "array_length": 4, "num_chunks": 2},
        {"array_length": 6, "num_chunks": 3},
    ]
    [ref] = x["manifest_refs"]
    assert ref["extents"] == [[0, 2], [0, 3]]
    files = {file["id"]: file for file in snapshot["manifests"]}
    assert files[ref["id"]]["num_chunk_refs"] == 6
    manifest = repo.inspect_manifest(ref["id"])
    assert manifest["id"] == ref["id"]
    assert manifest["total_inline"] == manifest["total_chunk_refs"] == 6
    assert manifest["arrays"][0]["node_id"] == x["id"]
    log = repo.inspect_transaction_log(tip)
    assert log["new_groups"] == [root["id"]]
    assert log["new_arrays"] == sorted([scalar["id"], x["id"]])
    assert {c["node_id"]: len(c["chunks"]) for c in log["updated_chunks"]} == {
        scalar["id"]: 1,
        x["id"]: 6,
    }


def test_repo_info_is_what_is_stored_now(repo, tip):
    repo.create_tag("t", tip)
    shown = repo.inspect_repo_info()
    assert shown["branches"] == {"main": tip}
    assert shown["tags"] == {"t": tip}
    assert shown["latest_updates"][0]["update_type"] == {"type": "TagCreatedUpdate", "name": "t"}
    assert "backup_path" not in shown["latest_updates"][0]
    assert all("backup_path" in update for update in shown["latest_updates"][1:])


@pytest.mark.parametrize("name", INSPECTORS)
def test_bad_ids(repo, name):
    inspect = getattr(repo, name)
    for wrong in ("", "foo", "0" * 19 + "!", "0" * 21):
        with pytest.raises(IcechunkError, match=r"is no \w+ id") as error:
            inspect(wrong)
        assert type(error.value) is IcechunkError
        assert error.value.kind == "unknown"
    with pytest.raises(TypeError, match="must be str"):
        inspect(3)
    with pytest.raises(StorageError, match="not found") as error:
        inspect("0" * 20)
    assert error.value.kind == "object-not-found"
    assert "0" * 20 in error.value.message


async def test_twins(repo, tip):
    manifest = repo.inspect_snapshot(tip)["manifests"][0]["id"]
    assert await repo.inspect_snapshot_async(tip) == repo.inspect_snapshot(tip)
    assert await repo.inspect_repo_info_async() == repo.inspect_repo_info()
    assert await repo.inspect_manifest_async(manifest) == repo.inspect_manifest(manifest)
    log = await repo.inspect_transaction_log_async(tip)
    assert log == repo.inspect_transaction_log(tip)

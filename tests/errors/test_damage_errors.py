"""Files of a repository that are gone or damaged: errors say which, and what needed them."""

import asyncio

import pytest

import icechunk
from icechunk import FormatError, StorageError


@pytest.fixture(params=["memory", "local", "distant"])
def world(request, make_world):
    return make_world(request.param)


DAMAGES = {
    "gone": None,
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "nonsense": lambda data: b"nonsense" * 40,
    "flipped": lambda data: data[:-9] + bytes([data[-9] ^ 255]) + data[-8:],
}
READS = {
    "get": lambda session: asyncio.run(session.store.get("native/c/0", None)),
    "get_sync": lambda session: session.store.get_sync("native/c/0"),
}


def damage(world, prefix, how):
    """Damage all files of a kind but those of the first snapshot; returns their names."""
    spared = world.root
    keys = [item.key for item in world.storage.list(prefix) if not item.key.endswith(spared)]
    for key in keys:
        data = world.storage.get(key)
        world.storage.delete([key])
        if DAMAGES[how] is not None:
            world.storage.put(key, DAMAGES[how](data))
    return keys


@pytest.fixture
def native(world):
    """World with an array of one chunk that is an object of its own."""
    world.set("native/zarr.json", world.array(shape=[900], chunk_grid=one_chunk(900)))
    world.set("native/c/0", b"x" * 900)
    world.session.commit("native")
    return world


def one_chunk(length):
    return {"name": "regular", "configuration": {"chunk_shape": [length]}}


def reader(world):
    """Open a session with nothing cached."""
    return icechunk.Repository.open(world.storage).readonly_session("main")


def failure(call):
    with pytest.raises((StorageError, FormatError)) as caught:
        call()
    return caught.value


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("prefix", ["snapshots", "manifests"])
def test_metadata(native, prefix, how, read):
    keys = damage(native, prefix, how)
    error = failure(lambda: READS[read](reader(native)))
    if how == "gone":
        assert (type(error).__mro__[1], error.kind) == (StorageError, "object-not-found")
    else:
        assert isinstance(error, FormatError)
        assert error.kind in ("invalid-file-format", "deserialization")
    message, _, context = error.message.partition("\n\ncontext:\n")
    assert any(key in message for key in keys)
    operations = [line.split()[1] for line in context.splitlines()]
    assert operations == [f"fetch_{prefix.removesuffix('s')}", "get"]
    assert context.endswith("get with key=native/c/0")


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("how", ["gone", "empty", "cut"])
def test_chunks(native, how, read):
    keys = damage(native, "chunks", how)
    error = failure(lambda: READS[read](reader(native)))
    assert isinstance(error, StorageError)
    assert error.kind == ("object-not-found" if how == "gone" else "invalid-object-size")
    assert any(key in error.message for key in keys)
    assert error.message.endswith("get with key=native/c/0")


@pytest.mark.parametrize("how", DAMAGES)
def test_transaction_logs(native, how):
    keys = damage(native, "transactions", how)
    error = failure(
        lambda: icechunk.Repository.open(native.storage).diff(
            from_snapshot_id=native.first, to_branch="main"
        )
    )
    assert any(key in error.message for key in keys)
    assert "fetch_transaction_log" in error.message


@pytest.mark.parametrize("how", ["empty", "cut", "nonsense", "flipped"])
def test_the_repository_object(native, how):
    native.storage.put("repo", DAMAGES[how](native.storage.get("repo")))
    error = failure(lambda: icechunk.Repository.open(native.storage))
    assert isinstance(error, FormatError)
    assert error.message.startswith("repo: ")


@pytest.mark.parametrize("how", DAMAGES)
def test_a_commit_that_needs_a_damaged_file_changes_nothing(native, how):
    session = icechunk.Repository.open(native.storage).writable_session("main")
    native.edit(session)
    kept = {item.key: native.storage.get(item.key) for item in native.storage.list("manifests")}
    tip, status = session.snapshot_id, repr(session.status())
    keys = damage(native, "manifests", how)

    error = failure(lambda: session.commit("damaged"))
    assert any(key in error.message for key in keys)
    assert native.repo.lookup_branch("main") == session.snapshot_id == tip
    assert repr(session.status()) == status
    assert not session.read_only

    for key, data in kept.items():
        native.storage.put(key, data)
    assert session.commit("repaired") == native.repo.lookup_branch("main")

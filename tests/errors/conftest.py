"""Calls that must fail: what each raises, what it names, and that it changes nothing.

The modules of this folder are tables of ``(call, class, kind, what the message names...)``. A call
takes a `World`; the kind of Python's own errors is None; ``{first}`` and the like in a table stand
for ids. `refused` makes the call between two looks at everything that can be seen of the session
and of the repository.
"""

import asyncio
import copy
import json
from datetime import UTC, datetime

import pytest
import zarr
from zarr.core.buffer import default_buffer_prototype

import icechunk
from icechunk.storage.local import LocalStorage
from icechunk.testing import LatencyStorage

PROTOTYPE = default_buffer_prototype()


class World:
    """A repository with a bit of everything, and one session on it.

    The tip of ``main`` holds the root, `array` of 4 x 2 chunks, of which the upper half are
    written, and `group` with `inner` below it. `first` is the tip, also of `branch` and `tag`;
    `aside` is a snapshot that no history of a branch contains.
    """

    nowhere = "ZZZZZZZZZZZZZZZZZZZG"
    """Id of a snapshot that does not exist."""
    long_ago = datetime(2000, 1, 1, tzinfo=UTC)

    def __init__(self):
        self.storage = icechunk.in_memory_storage()
        self.repo = icechunk.Repository.create(self.storage)
        session = self.repo.writable_session("main")
        root = zarr.create_group(session.store)
        root.create_array("array", shape=(8, 4), chunks=(2, 2), dtype="i4")[:4] = 1
        root.create_group("group").create_group("inner")
        self.root = self.repo.lookup_branch("main")
        self.first = session.commit("first")
        self.repo.create_tag("tag", self.first)
        self.repo.create_branch("branch", self.first)
        self.repo.create_branch("aside", self.root)
        session = self.repo.writable_session("aside")
        zarr.create_group(session.store, path="elsewhere")
        self.aside = session.commit("aside")
        self.repo.reset_branch("aside", self.first)
        self.session = self.repo.writable_session("main")

    def copied_to(self, storage):
        """The same repository in another storage, with a session of its own."""
        for item in self.storage.list():
            storage.put(item.key, self.storage.get(item.key))
        other = copy.copy(self)
        other.storage = storage
        other.repo = icechunk.Repository.open(storage)
        other.session = other.repo.writable_session("main")
        return other

    @property
    def ids(self):
        """Ids by the names that tables use."""
        names = ("first", "aside", "root", "nowhere", "later")
        return {name: getattr(self, name, "") for name in names}

    # --- writing -------------------------------------------------------------------------------

    def set(self, key, value, session=None):
        """Set a key in the session, or in another one."""
        session = session or self.session
        if not isinstance(value, int):
            value = self.buffer(value)
        asyncio.run(session.store.set(key, value))

    @staticmethod
    def buffer(content):
        """The bytes as stores take them."""
        return PROTOTYPE.buffer.from_bytes(content)

    def do(self, method, *arguments, session=None):
        """Await a method of the session's store."""

        async def run():
            return await getattr((session or self.session).store, method)(*arguments)

        return asyncio.run(run())

    def get(self, key, byte_range=None):
        """Get the bytes at a key of the session."""
        found = self.do("get", key, PROTOTYPE, byte_range)
        return None if found is None else found.to_bytes()

    def edit(self, session=None):
        """Make one edit of each kind."""
        session = session or self.session
        self.set("group/zarr.json", self.group(edited=1), session)
        self.set("new/zarr.json", self.array(), session)
        self.set("new/c/0", b"12", session)
        self.set("array/c/1/1", b"1" * 16, session)
        self.do("delete", "array/c/0/0", session=session)
        self.do("delete_dir", "group/inner", session=session)
        return session

    def others_commit(self, key="others/zarr.json", value=None, branch="main"):
        """Let somebody else commit to a branch; returns the new tip, from then on `later`."""
        other = self.repo.writable_session(branch)
        self.set(key, self.group() if value is None else value, other)
        self.later = other.commit("others")
        return self.later

    @staticmethod
    def group(**attributes):
        """The document of a group."""
        return json.dumps(
            {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        ).encode()

    @staticmethod
    def array(**members):
        """The document of an array of two chunks; members given as None are left out."""
        document = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [4],
            "data_type": "uint8",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2]}},
            "chunk_key_encoding": {"name": "default"},
            "fill_value": 0,
            "codecs": [{"name": "bytes"}],
            **members,
        }
        return json.dumps({k: v for k, v in document.items() if v is not None}).encode()

    def use(self, session):
        """Make another session the one that is looked at."""
        self.session = session
        return session


def session_state(session):
    """Everything that can be seen of a session."""
    store = session.store

    async def values():
        keys = [key async for key in store.list()]
        return {key: (await store.get(key, PROTOTYPE)).to_bytes() for key in keys}

    return {
        "status": repr(session.status()),
        "has_uncommitted_changes": session.has_uncommitted_changes,
        "snapshot": session.snapshot_id,
        "branch": session.branch,
        "read_only": session.read_only,
        "mode": session.mode,
        "values": asyncio.run(values()),
    }


def repository_state(storage):
    """Everything that can be seen of a repository, with fresh eyes."""
    repo = icechunk.Repository.open(storage)
    branches, tags = sorted(repo.list_branches()), sorted(repo.list_tags())
    return {
        "branches": {name: repo.lookup_branch(name) for name in branches},
        "tags": {name: repo.lookup_tag(name) for name in tags},
        "histories": {name: list(repo.ancestry(branch=name)) for name in branches},
        "metadata": repo.metadata,
        "status": repo.status,
        "flags": sorted(map(repr, repo.feature_flags())),
        "config": repr(icechunk.Repository.fetch_config(storage)),
        "operations": [repr(update) for update in repo.ops_log()],
    }


def changeable(storage):
    """The bytes of the objects that are ever overwritten: all that a repository says depends on."""
    keys = (item.key for item in storage.list_objects_metadata())
    return {key: storage.get(key) for key in keys if "/" not in key}


def objects_of(storage):
    """Every object but chunks: those of edits are written before one knows what becomes of them."""
    objects = ((item.key, item.size_bytes) for item in storage.list_objects_metadata())
    return sorted(one for one in objects if not one[0].startswith("chunks/"))


@pytest.fixture(scope="session")
def template():
    return World()


@pytest.fixture
def make_world(template, tmp_path):
    """Function that makes a `World` in a kind of storage."""

    def make(kind):
        storage = {
            "memory": icechunk.in_memory_storage,
            "local": lambda: LocalStorage(tmp_path / "repo", durable=False),
            "distant": lambda: LatencyStorage(icechunk.in_memory_storage()),
        }[kind]()
        return template.copied_to(storage)

    return make


@pytest.fixture(params=["memory", "local"])
def world(request, make_world):
    return make_world(request.param)


@pytest.fixture
def look():
    """Functions that look at a session, at a repository, and at what it is stored as."""
    return session_state, repository_state, changeable


@pytest.fixture
def refused():
    """Function that makes the call of a `Refusal`, and checks all of it."""

    def check(world, call, error_class, kind, *names, leaves_garbage=False):
        session = session_state(world.session)
        repository = changeable(world.storage)
        assert repository
        objects = objects_of(world.storage)
        with pytest.raises(error_class) as caught:
            call(world)
        error = caught.value
        public = [one for one in type(error).__mro__ if one.__module__ in ("icechunk", "builtins")]
        assert public[0] is error_class, f"{type(error)} is more special than announced"
        assert getattr(error, "kind", None) == kind, error
        for name in names:
            assert name.format(**world.ids) in str(error)
        assert session_state(world.session) == session
        assert changeable(world.storage) == repository
        if not leaves_garbage:
            assert objects_of(world.storage) == objects
        return error

    return check

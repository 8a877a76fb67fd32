"""Calls that must fail, and what they fail with: the same table, run by both implementations."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import zarr
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype

import icechunk
from interop.describe import on_disk

PROTOTYPE = default_buffer_prototype()
INITIAL = "1CECHNKREP0F1RSTCMT0"
UNKNOWN_SNAPSHOT = "ZZZZZZZZZZZZZZZZZZZG"
GROUP = b'{"zarr_format": 3, "node_type": "group", "attributes": {"new": 1}}'


def build(path: Path) -> str:
    """Make the repository to misuse; return the id of its only commit.

    A root group, `array` of 4 x 2 chunks, `native` of one chunk, `group`, tag `tag`, branch
    `branch`.
    """
    repo = icechunk.Repository.create(on_disk(str(path)))
    session = repo.writable_session("main")
    root = zarr.create_group(session.store)
    array = root.create_array("array", shape=(8, 4), chunks=(2, 2), dtype="i4", compressors=None)
    array[:4] = 1
    native = root.create_array("native", shape=(900,), chunks=(900,), dtype="u1", compressors=None)
    native[:] = [*range(250)] * 3 + [*range(150)]
    group = PROTOTYPE.buffer.from_bytes(b'{"zarr_format": 3, "node_type": "group"}')
    asyncio.run(session.store.set("group/zarr.json", group))
    first = session.commit("first")
    repo.create_tag("tag", first)
    repo.create_branch("branch", first)
    return first


class Surroundings:
    """A copy of that repository for one call."""

    def __init__(self, template: Path, path: Path, first: str) -> None:
        shutil.copytree(template, path)
        self.path = path
        self.first = first
        self.storage = on_disk(str(path))
        self.repo = icechunk.Repository.open(self.storage)
        self.kept: Any = None

    def session(self) -> icechunk.Session:
        return self.repo.writable_session("main")

    def changed(self) -> icechunk.Session:
        session = self.session()
        self.set("group/zarr.json", GROUP, session)
        return session

    def other_commits(self) -> None:
        self.changed().commit("other")

    def set(self, key: str, value: bytes, session: icechunk.Session | None = None) -> None:
        store = (session or self.session()).store
        asyncio.run(store.set(key, PROTOTYPE.buffer.from_bytes(value)))

    def get(self, key: str, byte_range: Any = None) -> bytes | None:
        store = self.repo.readonly_session("main").store
        found = asyncio.run(store.get(key, PROTOTYPE, byte_range))
        return None if found is None else found.to_bytes()

    def do(self, method: str, *arguments: Any, session: icechunk.Session | None = None) -> Any:
        async def run() -> Any:
            return await getattr((session or self.session()).store, method)(*arguments)

        found = asyncio.run(run())
        return None if found == () else found  # what a write returns is not specified

    def listed(self, method: str, prefix: str) -> list[str]:
        return sorted(getattr(self.session().store, method)(prefix))


Call = Callable[[Surroundings], Any]


def _array(**members: Any) -> bytes:
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [4],
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2]}},
        **members,
    }
    return json.dumps({key: value for key, value in document.items() if value != "-"}).encode()


def _keys() -> dict[str, Call]:
    keys = {
        "get": ["foo", "c/x", "array/c/0/x", "array/c/-1/0", "array/c/4294967296", "a/../zarr.json",
                "", "/", "array", "array/c", "array/c/0", "array/c/9/9", "group/c/0", "no/c/0",
                "no/zarr.json", ".zgroup", "array/.zarray", "/array/zarr.json", "array//zarr.json",
                "zarr.json/", "array/c/0/1/", "array/c/0/1/2", "array/c/00/1", "array/c/+1/0"],
        "exists": ["foo", "array/c/0/0", "array/c/3/0", "array/c/9/9", "no/zarr.json", ".zgroup",
                   "array/.zarray", "group/zarr.json", "no/c/0"],
        "delete": ["foo", "no/zarr.json", "array/c/9/9", "no/c/0", "group/c/0", ".zgroup",
                   "array/c/0/x"],
        "delete_dir": ["foo", "no/such", "array/c/9", "array/d", "array/c/x", "", "arr", "gro"],
        "getsize": ["foo", "array/c/0/0", "array/c/3/0", "no/zarr.json", "no/c/0", ".zgroup"],
        "is_empty": ["", "arr", "array", "group", "no"],
        "getsize_prefix": ["no", "arr"],
    }  # fmt: skip
    table: dict[str, Call] = {}
    for method, arguments in keys.items():
        for key in arguments:
            if method == "get":
                table[f"get {key!r}"] = lambda s, key=key: bool(s.get(key))
            else:
                table[f"{method} {key!r}"] = lambda s, m=method, key=key: s.do(m, key)
    for prefix in ("", "/", "arr", "array", "array/c", "array/c/0", "group", "no", "no/such"):
        for method in ("list_prefix", "list_dir"):
            table[f"{method} {prefix!r}"] = lambda s, m=method, p=prefix: s.listed(m, p)
    return table


def _values() -> dict[str, Call]:
    documents = {
        "not JSON": b"{",
        "not an object": b"[]",
        "no node_type": b"{}",
        "unknown node_type": b'{"node_type": "thing"}',
        "empty": b"",
        "not UTF-8": b'{"node_type": "group", "x": "\xff"}',
        "no shape": _array(shape="-"),
        "negative shape": _array(shape=[-1]),
        "float shape": _array(shape=[1.5]),
        "shape no list": _array(shape=4),
        "no grid": _array(chunk_grid="-"),
        "unknown grid": _array(chunk_grid={"name": "other", "configuration": {}}),
        "chunk shape of other rank": _array(
            chunk_grid={"name": "regular", "configuration": {"chunk_shape": [2, 2]}}
        ),
        "fewer chunk dimensions": _array(
            shape=[4, 4], chunk_grid={"name": "regular", "configuration": {"chunk_shape": [2]}}
        ),
        "negative chunk": _array(
            chunk_grid={"name": "regular", "configuration": {"chunk_shape": [-2]}}
        ),
        "zero chunk": _array(chunk_grid={"name": "regular", "configuration": {"chunk_shape": [0]}}),
        "bare integer rectilinear": _array(
            chunk_grid={
                "name": "rectilinear",
                "configuration": {"kind": "inline", "chunk_shapes": [2]},
            }
        ),
        "group without format": b'{"node_type": "group"}',
        "format 2": b'{"node_type": "group", "zarr_format": 2}',
        "dimension name a number": _array(dimension_names=[1]),
        "dimension names null": _array(dimension_names=None),
        "minimal array": _array(),
    }
    table: dict[str, Call] = {
        f"document: {name}": lambda s, d=document: s.set("new/zarr.json", d)
        for name, document in documents.items()
    }
    table |= {
        "group over array": lambda s: s.set("array/zarr.json", GROUP),
        "array over group": lambda s: s.set("group/zarr.json", _array()),
        "zero-length chunk": lambda s: s.set("array/c/0/0", b""),
        "chunk beyond the grid": lambda s: s.set("array/c/4/0", b"x"),
        "chunk far beyond the grid": lambda s: s.set("array/c/0/4000000000", b"x"),
        "chunk of lower rank": lambda s: s.set("array/c/0", b"x"),
        "chunk of higher rank": lambda s: s.set("array/c/0/0/0", b"x"),
        "chunk of no array": lambda s: s.set("no/c/0", b"x"),
        "chunk of a group": lambda s: s.set("group/c/0", b"x"),
        "chunk of the root": lambda s: s.set("c/0", b"x"),
        "set of an invalid key": lambda s: s.set("foo", b"x"),
        "set of a v2 key": lambda s: s.set(".zgroup", b"{}"),
        "set of a v2 array key": lambda s: s.set("array/.zarray", b"{}"),
        "value no buffer": lambda s: s.do("set", "array/c/0/0", 5),
        "set_if_not_exists": lambda s: s.do(
            "set_if_not_exists", "zarr.json", PROTOTYPE.buffer.from_bytes(b"{")
        ),
    }
    ranges = {
        "inside": RangeByteRequest(1, 3),
        "nothing": RangeByteRequest(2, 2),
        "all": RangeByteRequest(0, 16),
        "past the end": RangeByteRequest(1, 17),
        "beyond the end": RangeByteRequest(16, 17),
        "reversed": RangeByteRequest(3, 1),
        "from": OffsetByteRequest(5),
        "from the end": OffsetByteRequest(16),
        "from beyond": OffsetByteRequest(17),
        "far": RangeByteRequest(700, 710),
        "to the end": RangeByteRequest(890, 900),
        "beyond all ends": RangeByteRequest(899, 901),
        "last": SuffixByteRequest(5),
        "last all": SuffixByteRequest(16),
        "last none": SuffixByteRequest(0),
        "last too many": SuffixByteRequest(17),
        "a tuple": (0, 1),
    }
    for name, byte_range in ranges.items():
        table[f"range of a chunk: {name}"] = lambda s, r=byte_range: s.get("array/c/0/0", r).hex()
        table[f"range of a native chunk: {name}"] = lambda s, r=byte_range: s.get(
            "native/c/0", r
        ).hex()
        if name != "reversed":
            table[f"range of a document: {name}"] = lambda s, r=byte_range: s.get(
                "group/zarr.json", r
            ).decode()
    table["range of a missing chunk"] = lambda s: s.get("array/c/3/0", RangeByteRequest(0, 99))
    table["range of a missing node"] = lambda s: s.get("no/zarr.json", OffsetByteRequest(99))
    return table


def _read_only(method: str, *arguments: Any) -> Call:
    return lambda s: s.do(method, *arguments, session=s.repo.readonly_session("main"))


def _sessions() -> dict[str, Call]:
    value = PROTOTYPE.buffer.from_bytes(b"x")

    def committed(s: Surroundings) -> icechunk.Session:
        session = s.changed()
        session.commit("done")
        return session

    def conflict(s: Surroundings) -> None:
        session = s.changed()
        s.other_commits()
        session.commit("late")

    def deleted_branch(s: Surroundings) -> None:
        session = s.repo.writable_session("branch")
        s.set("group/zarr.json", GROUP, session)
        s.repo.delete_branch("branch")
        session.commit("late")

    def merge_same_array(s: Surroundings) -> None:
        session = s.session()
        forks = [session.fork(), session.fork()]
        for fork in forks:
            s.set("made/zarr.json", _array(), fork)
        session.merge(*forks)

    def merge_deleted(s: Surroundings) -> None:
        session = s.session()
        one, two = session.fork(), session.fork()
        s.set("array/c/0/0", b"x" * 16, one)
        s.do("delete", "array/zarr.json", session=two)
        session.merge(one, two)

    return {
        "read-only set of a chunk": _read_only("set", "array/c/0/0", value),
        "read-only set of a document": _read_only("set", "group/zarr.json", value),
        "read-only set of an invalid key": _read_only("set", "foo", value),
        "read-only delete": _read_only("delete", "array/c/0/0"),
        "read-only delete of a node": _read_only("delete", "array/zarr.json"),
        "read-only delete_dir": _read_only("delete_dir", "array"),
        "read-only clear": _read_only("clear"),
        "read-only commit": lambda s: s.repo.readonly_session("main").commit("x"),
        "read-only discard": lambda s: s.repo.readonly_session("main").discard_changes(),
        "read-only fork": lambda s: s.repo.readonly_session("main").fork() and None,
        "read-only merge": lambda s: s.repo.readonly_session("main").merge(s.session().fork()),
        "commit of nothing": lambda s: s.session().commit("x"),
        "commit twice": lambda s: committed(s).commit("x"),
        "set after commit": lambda s: s.set("group/zarr.json", b"{}", committed(s)),
        "delete after commit": lambda s: s.do("delete", "array/c/0/0", session=committed(s)),
        "discard after commit": lambda s: committed(s).discard_changes(),
        "fork after commit": lambda s: committed(s).fork() and None,
        "commit conflict": conflict,
        "commit to a deleted branch": deleted_branch,
        "commit of a fork": lambda s: s.session().fork().commit("x"),
        "merge of a branch session into a fork": lambda s: s.session().fork().merge(s.changed()),
        "merge of nothing": lambda s: s.session().merge(),
        "merge of no session": lambda s: s.session().merge("x"),  # type: ignore[arg-type]
        "merge of the same array": merge_same_array,
        "merge of deleted and written": merge_deleted,
        "metadata no mapping": lambda s: s.changed().commit("x", "text"),  # type: ignore[arg-type]
        "metadata of objects": lambda s: s.changed().commit("x", {"a": object()}),
        "metadata of sets": lambda s: s.changed().commit("x", {"a": {1}}),
        "metadata keys no text": lambda s: s.changed().commit("x", {1: 2}) and None,
        "message no text": lambda s: s.changed().commit(5),  # type: ignore[arg-type]
    }


def _refs() -> dict[str, Call]:
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


def _moves() -> dict[str, Call]:
    paths = {
        "elsewhere": ("/array", "/new"),
        "of nothing": ("/no", "/new"),
        "onto itself": ("/array", "/array"),
        "below itself": ("/group", "/group/x"),
        "of the root": ("/", "/x"),
        "onto a node": ("/array", "/group"),
        "onto the root": ("/array", "/"),
        "below nothing": ("/array", "/no/x"),
        "below an array": ("/array", "/native/x"),
        "of a relative path": ("array", "/x"),
        "to a relative path": ("/array", "x"),
        "of no path": ("", "/x"),
        "to a path with dots": ("/array", "/a/../b"),
    }
    sessions: dict[str, Callable[[Surroundings], icechunk.Session]] = {
        "rearranging": lambda s: s.repo.rearrange_session("main"),
        "writable": lambda s: s.session(),
        "read-only": lambda s: s.repo.readonly_session("main"),
        "fork": lambda s: s.session().fork(),
    }
    table: dict[str, Call] = {
        f"{kind} move {name}": lambda s, a=source, b=target, o=opened: o(s).move(a, b)
        for kind, opened in sessions.items()
        for name, (source, target) in paths.items()
    }
    unusual = {
        "of a path that ends with a slash": ("/array/", "/x"),
        "to a path that ends with a slash": ("/array", "/x/"),
        "to a path with an empty name": ("/array", "/a//b"),
    }
    table |= {
        f"rearranging move {name}": lambda s, a=source, b=target: s.repo.rearrange_session(
            "main"
        ).move(a, b)
        for name, (source, target) in unusual.items()
    }
    value = PROTOTYPE.buffer.from_bytes(b"x" * 16)

    def disabled(s: Surroundings) -> None:
        session = s.repo.rearrange_session("main")
        session.move("/array", "/new")
        s.repo.set_feature_flag("move_node", False)
        session.commit("moved")

    def disabled_before(s: Surroundings) -> None:
        s.repo.set_feature_flag("move_node", False)
        s.repo.rearrange_session("main")

    def moved(s: Surroundings) -> icechunk.Session:
        session = s.repo.rearrange_session("main")
        session.move("/array", "/new")
        return session

    def conflict(s: Surroundings) -> None:
        session = moved(s)
        s.other_commits()
        session.commit("late")

    def merge_fork(s: Surroundings) -> None:
        session = moved(s)
        session.merge(s.changed().fork())

    return table | {
        "rearranging chunk": lambda s: s.do("set", "array/c/0/0", value, session=moved(s)),
        "rearranging document": lambda s: s.set("group/zarr.json", GROUP, moved(s)),
        "rearranging new document": lambda s: s.set("more/zarr.json", GROUP, moved(s)),
        "rearranging deletion": lambda s: s.do("delete", "native/zarr.json", session=moved(s)),
        "rearranging deletion of a chunk": lambda s: s.do("delete", "native/c/0", session=moved(s)),
        "rearranging deletion of nothing": lambda s: s.do("delete", "no/c/0", session=moved(s)),
        "rearranging deletion of a directory": lambda s: s.do(
            "delete_dir", "group", session=moved(s)
        ),
        "rearranging clear": lambda s: s.do("clear", session=moved(s)),
        "rearranging shift": lambda s: moved(s).shift_array("/native", (1,)),
        "rearranging reindex": lambda s: moved(s).reindex_array("/native", lambda place: place),
        "rearranging commit of nothing": lambda s: s.repo.rearrange_session("main").commit("x"),
        "rearranging no branch": lambda s: s.repo.rearrange_session("no") and None,
        "rearranging conflict": conflict,
        "rearranging merge": merge_fork,
        "merge of moves": lambda s: s.session().merge(moved(s)),
        "move in a fork of moves": lambda s: moved(s).fork().move("/new", "/newer"),
        "move of what moved away": lambda s: moved(s).move("/array", "/newer"),
        "moves disabled": disabled_before,
        "moves disabled before the commit": disabled,
    }


SOLVERS: dict[str, Callable[[], Any]] = {
    "detector": lambda: icechunk.ConflictDetector(),
    "solver": lambda: icechunk.BasicConflictSolver(),
    "strict solver": lambda: icechunk.BasicConflictSolver(
        on_chunk_conflict=icechunk.VersionSelection.Fail,
        fail_on_delete_of_updated_array=True,
        fail_on_delete_of_updated_group=True,
    ),
    "giving solver": lambda: icechunk.BasicConflictSolver(
        on_chunk_conflict=icechunk.VersionSelection.UseTheirs
    ),
}


def _conflicts() -> dict[str, Call]:
    """What ours and theirs did, for each kind of conflict, and what each solver makes of it."""
    edits: dict[str, Callable[[Surroundings, icechunk.Session], Any]] = {
        "new array": lambda s, x: s.set("new/zarr.json", _array(), x),
        "new group": lambda s, x: s.set("new/zarr.json", GROUP, x),
        "new below new": lambda s, x: s.set("new/below/zarr.json", _array(), x),
        "new below group": lambda s, x: s.set("group/below/zarr.json", _array(), x),
        "array updated": lambda s, x: s.set("native/zarr.json", _array(shape=[1800]), x),
        "group updated": lambda s, x: s.set("group/zarr.json", GROUP, x),
        "group updated too": lambda s, x: s.set("group/zarr.json", GROUP + b" ", x),
        "chunk written": lambda s, x: s.set("array/c/1/1", b"x" * 16, x),
        "other chunk written": lambda s, x: s.set("array/c/3/1", b"x" * 16, x),
        "chunk deleted": lambda s, x: s.do("delete", "array/c/1/1", session=x),
        "native chunk": lambda s, x: s.set("native/c/0", b"y" * 900, x),
        "array deleted": lambda s, x: s.do("delete_dir", "array", session=x),
        "native deleted": lambda s, x: s.do("delete_dir", "native", session=x),
        "group deleted": lambda s, x: s.do("delete_dir", "group", session=x),
        "array replaced": lambda s, x: (
            s.do("delete_dir", "array", session=x),
            s.set("array/zarr.json", _array(), x),
        ),
        "array replaced by a group": lambda s, x: (
            s.do("delete_dir", "array", session=x),
            s.set("array/zarr.json", GROUP, x),
        ),
    }
    pairs = [
        ("new array", "new array"), ("new array", "new group"), ("new group", "new group"),
        ("new below new", "new array"), ("new below new", "new group"),
        ("new below group", "group deleted"), ("group deleted", "new below group"),
        ("array updated", "array updated"), ("array updated", "native chunk"),
        ("native chunk", "array updated"), ("array updated", "native deleted"),
        ("native deleted", "array updated"), ("native deleted", "native chunk"),
        ("native chunk", "native deleted"), ("native deleted", "native deleted"),
        ("group updated", "group updated too"), ("group updated", "group updated"),
        ("group updated", "group deleted"), ("group deleted", "group updated"),
        ("chunk written", "chunk written"), ("chunk written", "other chunk written"),
        ("chunk written", "chunk deleted"), ("chunk deleted", "chunk deleted"),
        ("chunk written", "array deleted"), ("array deleted", "chunk written"),
        ("array deleted", "other chunk written"), ("chunk written", "new array"),
        ("chunk written", "array replaced"), ("array deleted", "array replaced"),
        ("array replaced", "chunk written"), ("array replaced", "array deleted"),
        ("array replaced", "array replaced"), ("array replaced", "array replaced by a group"),
    ]  # fmt: skip

    def run(s: Surroundings, ours: str, theirs: str, solver: str) -> Any:
        session, other = s.session(), s.session()
        edits[ours](s, session)
        edits[theirs](s, other)
        tip = other.commit("theirs")
        try:
            session.rebase(SOLVERS[solver]())
        except icechunk.RebaseFailedError as error:
            found = [
                [str(one.conflict_type), one.path, one.conflicted_chunks] for one in error.conflicts
            ]
            return [error.snapshot == tip, session.snapshot_id == s.first, found]
        return ["solved", session.snapshot_id == tip]

    def moves(s: Surroundings, solver: str) -> Any:
        session = s.changed()
        other = s.repo.rearrange_session("main")
        other.move("/array", "/moved")
        other.commit("theirs")
        return session.rebase(SOLVERS[solver]())

    def taken(s: Surroundings, solver: str) -> Any:
        session, other = s.repo.rearrange_session("main"), s.session()
        session.move("/array", "/group/array")
        s.set("group/array/zarr.json", GROUP, other)
        other.commit("theirs")
        return session.rebase(SOLVERS[solver]())

    def away(s: Surroundings, solver: str) -> Any:
        session, other = s.repo.rearrange_session("main"), s.session()
        session.move("/array", "/group/array")
        s.do("delete_dir", "array", session=other)
        other.commit("theirs")
        session.rebase(SOLVERS[solver]())
        session.commit("ours")

    table: dict[str, Call] = {
        f"{solver}: {ours}, theirs {theirs}": lambda s, a=ours, b=theirs, c=solver: run(s, a, b, c)
        for solver in SOLVERS
        for ours, theirs in pairs
    }
    return table | {
        f"{solver}: {name}": lambda s, f=function, c=solver: f(s, c)
        for solver in SOLVERS
        for name, function in (
            ("moves of theirs", moves),
            ("destination of ours taken", taken),
            ("source of ours deleted", away),
        )
    }


def _rebases() -> dict[str, Call]:
    def conflicting(s: Surroundings) -> icechunk.Session:
        session, other = s.session(), s.session()
        s.set("array/c/1/1", b"x" * 16, session)
        s.set("array/c/1/1", b"y" * 16, other)
        other.commit("theirs")
        return session

    def committing(solver: str, **options: Any) -> Call:
        return lambda s: bool(conflicting(s).commit("x", rebase_with=SOLVERS[solver](), **options))

    def reset_below(s: Surroundings) -> None:
        session = s.session()
        s.set("array/c/1/1", b"x" * 16, session)
        s.repo.reset_branch("main", INITIAL)
        session.rebase(SOLVERS["detector"]())

    def branch_gone(s: Surroundings) -> None:
        session = s.repo.writable_session("branch")
        s.set("group/zarr.json", GROUP, session)
        s.repo.delete_branch("branch")
        session.rebase(SOLVERS["detector"]())
        session.commit("late")

    def log_gone(s: Surroundings) -> None:
        session = s.changed()
        other = s.session()
        s.set("new/zarr.json", GROUP, other)
        tip = other.commit("theirs")
        (s.path / "transactions" / tip).unlink()
        icechunk.Repository.open(on_disk(str(s.path)))
        session.rebase(SOLVERS["detector"]())

    def committed(s: Surroundings) -> icechunk.Session:
        session = s.changed()
        session.commit("done")
        return session

    def detector() -> Any:
        return SOLVERS["detector"]()

    return {
        "rebase read-only": lambda s: s.repo.readonly_session("main").rebase(detector()),
        "rebase of a fork": lambda s: s.session().fork().rebase(detector()),
        "rebase after commit": lambda s: committed(s).rebase(detector()),
        "rebase on nothing": lambda s: s.changed().rebase(detector()),
        "rebase without edits": lambda s: (s.session(), s.other_commits())[0].rebase(detector()),
        "rebase with text": lambda s: s.changed().rebase("x"),  # type: ignore[arg-type]
        "rebase with a class": lambda s: s.changed().rebase(
            icechunk.BasicConflictSolver  # type: ignore[arg-type]
        ),
        "rebase with nothing": lambda s: s.changed().rebase(None),  # type: ignore[arg-type]
        "rebase on a deleted branch": branch_gone,
        "rebase below the edited array": reset_below,
        "rebase over a missing log": log_gone,
        "commit with a detector": committing("detector"),
        "commit with a solver": committing("solver"),
        "commit with a strict solver": committing("strict solver"),
        "commit without tries": committing("solver", rebase_tries=0),
        "commit with one try": committing("solver", rebase_tries=1),
        "commit with negative tries": committing("solver", rebase_tries=-1),
        "commit with text": lambda s: s.changed().commit(
            "x",
            rebase_with="ours",  # type: ignore[arg-type]
        ),
        "commit of nothing with a solver": lambda s: s.session().commit(
            "x", rebase_with=detector()
        ),
    }


def _ways_to_commit() -> dict[str, Call]:
    def on_the_first(s: Surroundings) -> icechunk.Session:
        s.repo.create_branch("start", INITIAL)
        return s.repo.writable_session("start")

    def first(s: Surroundings) -> None:
        session = on_the_first(s)
        s.set("group/zarr.json", GROUP, session)
        session.amend("x")

    def moved(s: Surroundings) -> None:
        session = s.repo.rearrange_session("main")
        session.move("/array", "/moved")
        session.commit("moved")
        s.changed().amend("x")

    def amend_conflict(s: Surroundings) -> None:
        session = s.changed()
        s.other_commits()
        session.amend("late")

    def transaction(s: Surroundings, branch: str = "main", key: str = "", **options: Any) -> None:
        with s.repo.transaction(branch, message="x", **options) as store:
            if key:
                asyncio.run(store.set(key, PROTOTYPE.buffer.from_bytes(GROUP)))

    def failing(s: Surroundings) -> None:
        with s.repo.transaction("main", message="x") as store:
            asyncio.run(store.set("new/zarr.json", PROTOTYPE.buffer.from_bytes(GROUP)))
            raise LookupError("inside")

    def rewrite(branch: str = "main", **options: Any) -> Call:
        return lambda s: bool(s.repo.rewrite_manifests("x", branch=branch, **options))

    def rewrite_first(s: Surroundings) -> None:
        on_the_first(s)
        s.repo.rewrite_manifests("x", branch="start", commit_method="amend")

    def closed_flush(s: Surroundings) -> None:
        session = s.changed()
        s.repo.set_status(icechunk.RepoStatus(icechunk.RepoAvailability.read_only))
        session.flush("x")

    return {
        "amend of nothing": lambda s: s.session().amend("x"),
        "amend read-only": lambda s: s.repo.readonly_session("main").amend("x"),
        "amend of a fork": lambda s: s.session().fork().amend("x"),
        "amend of the first snapshot": first,
        "amend of the first snapshot by nothing": lambda s: on_the_first(s).amend("x"),
        "amend of moves": moved,
        "amend conflict": amend_conflict,
        "amend with metadata of objects": lambda s: s.changed().amend(
            "x", metadata={"a": object()}
        ),
        "amend with metadata in place": lambda s: s.changed().amend("x", {}),  # type: ignore[misc]
        "flush of nothing": lambda s: bool(s.session().flush("x")),
        "flush read-only": lambda s: bool(s.repo.readonly_session("main").flush("x")),
        "flush of a fork": lambda s: s.session().fork().flush("x"),
        "flush with metadata of objects": lambda s: s.changed().flush(
            "x", metadata={"a": object()}
        ),
        "flush to a closed repository": closed_flush,
        "transaction on no branch": lambda s: transaction(s, "no"),
        "transaction of nothing": lambda s: transaction(s),
        "transaction with metadata of objects": lambda s: transaction(
            s, key="new/zarr.json", metadata={"a": object()}
        ),
        "transaction with text": lambda s: transaction(s, key="new/zarr.json", rebase_with="ours"),
        "transaction that fails": failing,
        "rewrite by an unknown method": rewrite(commit_method="rebase"),
        "rewrite on no branch": rewrite("no"),
        "rewrite on a tag": rewrite("tag"),
        "rewrite of the first snapshot": rewrite_first,
        "rewrite with metadata of objects": rewrite(metadata={"a": object()}),
    }


def _diffs() -> dict[str, Call]:
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


def _renumberings() -> dict[str, Call]:
    def failing(_: list[int]) -> list[int]:
        raise RuntimeError("no place")

    def uneven(s: Surroundings) -> icechunk.Session:
        grid = {"kind": "inline", "chunk_shapes": [[1, 3]]}
        session = s.session()
        document = _array(chunk_grid={"name": "rectilinear", "configuration": grid})
        s.set("uneven/zarr.json", document, session)
        return session

    def reindex(path: str, *functions: Any) -> Call:
        return lambda s: s.session().reindex_array(path, *functions)

    def same(place: list[int]) -> list[int]:
        return place

    def read_only(s: Surroundings) -> icechunk.Session:
        return s.repo.readonly_session("main")

    return {
        "reindex of nothing": reindex("/no", same),
        "reindex of a group": reindex("/group", same),
        "reindex of a relative path": reindex("array", same),
        "reindex without function": reindex("/array", 5),
        "reindex beyond the grid": reindex("/array", lambda place: [99, 0]),
        "reindex before the grid": reindex("/array", lambda place: [-1, 0]),
        "reindex to too few coordinates": reindex("/array", lambda place: place[:1]),
        "reindex to too many coordinates": reindex("/array", lambda place: [*place, 0]),
        "reindex to text": reindex("/array", lambda place: "ab"),
        "reindex fails": reindex("/array", failing),
        "reindex fails backwards": reindex("/array", lambda place: [0, 0], failing),
        "reindex of uneven chunks": lambda s: uneven(s).reindex_array("/uneven", same),
        "read-only reindex": lambda s: read_only(s).reindex_array("/array", same),
        "shift of nothing": lambda s: s.session().shift_array("/no", (1, 0)),
        "shift of a group": lambda s: s.session().shift_array("/group", (1, 0)),
        "shift of a relative path": lambda s: s.session().shift_array("array", (1, 0)),
        "shift along too few axes": lambda s: s.session().shift_array("/array", (1,)),
        "shift along too many axes": lambda s: s.session().shift_array("/array", (1, 0, 0)),
        "shift of uneven chunks": lambda s: uneven(s).shift_array("/uneven", (1,)),
        "read-only shift": lambda s: read_only(s).shift_array("/array", (1, 0)),
        "chunk type of nothing": lambda s: s.session().chunk_type("/no", [0]) and None,
        "chunk type in a group": lambda s: s.session().chunk_type("/group", [0]) and None,
        "chunk type, relative": lambda s: s.session().chunk_type("array", [0, 0]) and None,
        "chunk type, wrong rank": lambda s: int(s.session().chunk_type("/array", [0])),
        "chunk type, outside": lambda s: int(s.session().chunk_type("/array", [99, 0])),
        "chunk type, missing": lambda s: int(s.session().chunk_type("/array", [3, 0])),
        "chunk coordinates of nothing": lambda s: _awaited(s.session().chunk_coordinates("/no")),
        "chunk coordinates of a group": lambda s: _awaited(s.session().chunk_coordinates("/group")),
        "node id of nothing": lambda s: s.session().get_node_id("/no"),
        "node id, relative": lambda s: s.session().get_node_id("group"),
    }


def _touches() -> dict[str, Call]:
    """What moves and renumberings that are allowed, or half-way so, leave in a session."""

    def moves(*pairs: tuple[str, str]) -> Call:
        def call(s: Surroundings) -> Any:
            session = s.repo.rearrange_session("main")
            try:
                for pair in pairs:
                    session.move(*pair)
            except icechunk.IcechunkError as error:
                return [str(error.kind), _touched(session)]
            return _touched(session)

        return call

    def renumbering(act: Callable[[icechunk.Session], object]) -> Call:
        def call(s: Surroundings) -> Any:
            session = s.session()
            try:
                act(session)
            except icechunk.IcechunkError as error:
                return [str(error.kind), _touched(session)]
            return _touched(session)

        return call

    def fail(at: object) -> None:
        raise ValueError("on purpose")

    shifts = {
        "nowhere": (0, 0),
        "down": (1, 0),
        "up and right": (-1, 1),
        "far": (99, 0),
        "a float": (1.0, 0),
        "a text": ("1", 0),
    }
    functions: dict[str, tuple[Any, ...]] = {
        "itself": (lambda at: at,),
        "nothing": (lambda at: None,),
        "nothing, both ways": (lambda at: None, lambda at: None),
        "one place": (lambda at: [3, 1],),
        "tuples": (lambda at: tuple(at),),
        "an integer": (lambda at: 3,),
        "floats": (lambda at: [0.0, 0.0],),
        "a failure backward": (lambda at: [3, 1], fail),
        "backward beyond the grid": (lambda at: [3, 1], lambda at: [9, 9]),
        "backward below the grid": (lambda at: [3, 1], lambda at: [-1, 0]),
    }
    return {
        "moves into what was moved": moves(("/group", "/new"), ("/array", "/new/array")),
        "moves into where it was": moves(("/group", "/new"), ("/array", "/group/array")),
        "moves to a place left": moves(("/group", "/new"), ("/array", "/group")),
        "moves there and back": moves(("/group", "/new"), ("/new", "/group")),
        "moves on": moves(("/group", "/new"), ("/new", "/newer")),
        "moves, one refused": moves(("/group", "/new"), ("/array", "/new")),
        **{
            f"shift {name}": renumbering(lambda session, by=by: session.shift_array("/array", by))
            for name, by in shifts.items()
        },
        **{
            f"reindex to {name}": renumbering(
                lambda session, how=how: session.reindex_array("/array", *how)
            )
            for name, how in functions.items()
        },
    }


def _touched(session: icechunk.Session) -> Any:
    status = session.status()
    return [
        session.has_uncommitted_changes,
        [list(move) for move in status.moved_nodes],
        {path: sorted(map(list, coords)) for path, coords in status.updated_chunks.items()},
    ]


def _chunks() -> dict[str, Call]:
    table: dict[str, Call] = {
        "type of a native chunk": lambda s: int(s.session().chunk_type("/native", [0])),
        "type of an inline chunk": lambda s: int(s.session().chunk_type("/array", (0, 0))),
        "type of a chunk of text": lambda s: int(s.session().chunk_type("/array", "00")),
        "coordinates": lambda s: _awaited(s.session().chunk_coordinates("/array")),
        "coordinates, relative": lambda s: _awaited(s.session().chunk_coordinates("array")),
        "length of an id": lambda s: len(s.session().get_node_id("/array")),
        "locations": lambda s: s.session().all_virtual_chunk_locations(),
    }
    for path in ("/array", "array", "/no", "/group"):
        table[f"references of {path}"] = lambda s, path=path: [
            [batch[0].tolist(), batch[1].tolist(), batch[3].tolist(), batch[4].tolist()]
            + [[row, data.hex()] for row, data in sorted(batch[5].items())]
            for batch in s.session().store.array_chunk_iterator(path, batch_size=3)
        ]
    return table


def _awaited(iterator: Any) -> list[Any]:
    async def run() -> list[Any]:
        return [list(item) async for item in iterator]

    return sorted(asyncio.run(run()))


def _state() -> dict[str, Call]:
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


def _lifecycle() -> dict[str, Call]:
    repository, local = icechunk.Repository, on_disk
    return {
        "open of nothing": lambda s: repository.open(local(str(s.path / "no"))) and None,
        "open leaves no trace": lambda s: (s.path / "no").exists(),
        "create twice": lambda s: repository.create(s.storage) and None,
        "create twice unchecked": lambda s: (
            repository.create(s.storage, check_clean_root=False) and None
        ),
        "create in a used directory": lambda s: (
            repository.create(local(str(s.path / "snapshots"))) and None
        ),
        "config of nothing": lambda s: repository.fetch_config(local(str(s.path / "no"))),
        "config not saved": lambda s: repository.fetch_config(s.storage),
        "existence of nothing": lambda s: repository.exists(local(str(s.path / "no"))),
        "existence": lambda s: repository.exists(s.storage),
        "unknown spec version": lambda s: (
            repository.create(local(str(s.path / "new")), spec_version=255) and None
        ),
        "spec version of a wrong type": lambda s: (
            repository.create(
                local(str(s.path / "new")),
                spec_version="x",  # type: ignore[arg-type]
            )
            and None
        ),
        "create without main snapshot": lambda s: _damaged(s, "snapshots"),
        "damaged repo object": lambda s: _overwritten(s, "repo"),
        "damaged snapshot": lambda s: _overwritten(s, f"snapshots/{s.first}"),
        "empty repo object": lambda s: _overwritten(s, "repo", b""),
    }


def _damaged(s: Surroundings, folder: str) -> Any:
    (s.path / folder / s.first).unlink()
    repo = icechunk.Repository.open(s.storage)
    return sorted(repo.readonly_session("main").store.list())


def _overwritten(s: Surroundings, key: str, data: bytes = b"nonsense" * 20) -> Any:
    (s.path / key).write_bytes(data)
    repo = icechunk.Repository.open(on_disk(str(s.path)))
    return sorted(repo.readonly_session("main").store.list())


def table() -> dict[str, Call]:
    """Return all calls by name."""
    parts = (
        *(_keys, _values, _sessions, _refs, _moves, _renumberings, _touches, _chunks),
        *(_conflicts, _rebases, _ways_to_commit, _diffs, _state, _lifecycle),
    )
    return {name: call for part in parts for name, call in part().items()}


def outcomes() -> dict[str, Any]:
    """Make every call on a repository of its own and tell what came of it."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        template = Path(folder) / "template"
        first = build(template)
        for number, (name, call) in enumerate(table().items()):
            surroundings = Surroundings(template, Path(folder) / str(number), first)
            found[name] = _outcome(call, surroundings)
    return found


def _outcome(call: Call, surroundings: Surroundings) -> Any:
    try:
        return {"returns": call(surroundings)}
    except BaseException as error:
        return {"raises": _public_name(type(error)), "kind": getattr(error, "kind", None)}


def _public_name(error: type[BaseException]) -> str:
    """Name the nearest class that users can catch."""
    for base in error.__mro__:
        if base.__module__ == "builtins" or getattr(icechunk, base.__name__, None) is base:
            return base.__name__
    raise AssertionError(f"{error} is no exception")

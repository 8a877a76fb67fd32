"""Histories as lists of the steps of `steps`: some that show a feature each, and random ones.

The first step is always `create`. Every commit has a message of its own, by which later steps name
its snapshot. A list may be cut anywhere: whoever carries out the rest finds what it needs.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

Step = dict[str, Any]

DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64", "complex64", "complex128", "U12", "str",
)  # fmt: skip


def create(**options: Any) -> Step:
    """Begin a history of version 1."""
    return {"do": "create", "spec": 1, **options}


def of_version(spec: int, steps: list[Step]) -> list[Step]:
    """Make the repository one of another version."""
    return [{**steps[0], "spec": spec}, *steps[1:]]


def commit(message: str, *edits: list[Any], **options: Any) -> Step:
    """Commit some edits."""
    return {"do": "commit", "message": message, "edits": list(edits), **options}


def types() -> list[Step]:
    """Arrays of many types and ranks in nested groups, inline and native chunks, holes."""
    edits: list[list[Any]] = [
        ["group", "", {"ünïcode ключ": "värde 🧊", "nested": {"list": [1, 2.5, None, True]}}],
        ["group", "deep/er/é", {"name": "a b"}],
        ["group", "a-b", {}],
    ]
    for dtype in DTYPES:
        edits += [
            ["array", f"types/{dtype}", {"shape": [10], "chunks": [3], "dtype": dtype}],
            ["write", f"types/{dtype}", [[0, 8]], 1],
        ]
    for rank, shape in enumerate([[], [5], [5, 4], [5, 4, 3]]):
        names: list[str | None] = ["t", None, "größe"]
        options = {"shape": shape, "chunks": [2] * rank, "dtype": "int64"}
        edits += [
            ["array", f"deep/rank {rank}", {**options, "dimension_names": names[:rank] or None}],
            ["write", f"deep/rank {rank}", [[1, 4]] * rank, 10 * rank],
        ]
    edits += [
        ["array", "deep/er/native", {"shape": [40, 50], "chunks": [11, 50], "dtype": "float64"}],
        ["write", "deep/er/native", [[0, 35], [0, 50]], 7],
        ["array", "deep-er", {"shape": [0, 3], "chunks": [2, 3], "dtype": "int8"}],
        ["array", "wide", {"shape": [3], "chunks": [10], "dtype": "int8", "fill_value": 5}],
        ["write", "wide", [[0, 2]], 1],
    ]
    metadata = {
        "text": "ünï", "int": -(2**40), "float": 1.5, "whole": 2.0, "true": True, "none": None,
        "list": [1, "a", [None], {}], "map": {"b": {"c": [1.25]}}, "ключ": "🧊",
    }  # fmt: skip
    return [create(inline=64), commit("types", *edits, metadata=metadata)]


def edited() -> list[Step]:
    """Nodes resized, overwritten, deleted and made again under the same name."""
    square = {"shape": [12, 4], "chunks": [2, 2], "dtype": "int32"}
    names = ("shrinks", "grows", "replaced", "kept", "loses")
    start = [["array", name, square] for name in names]
    start += [["write", name, [[0, 12], [0, 4]], 100 * at] for at, name in enumerate(names)]
    return [
        create(inline=8),
        commit(
            "start",
            ["group", "", {}],
            *start,
            ["array", "doomed/inner/x", {"shape": [2], "chunks": [1], "dtype": "int8"}],
            ["group", "doomed-not", {}],
        ),
        commit(
            "resize",
            ["resize", "shrinks", [5, 4]],
            ["resize", "grows", [20, 6]],
            ["write", "grows", [[11, 20], [0, 6]], 0],
        ),
        commit(
            "replace",
            ["delete", "replaced"],
            ["array", "replaced", {"shape": [6], "chunks": [3], "dtype": "float32"}],
            ["write", "replaced", [[0, 3]], 9],
            ["write", "kept", [[3, 5], [1, 3]], 1000],
            ["delete", "doomed"],
            ["group", "doomed", {"again": True}],
        ),
        commit(
            "erase",
            ["erase", "loses/c/0/0"],
            ["delete", "loses/c/3"],
            ["attributes", "kept", {"unit": "m"}],
            ["delete", "doomed-not"],
        ),
    ]


def references() -> list[Step]:
    """Branches and tags made, deleted and moved."""
    counter = {"shape": [4], "chunks": [1], "dtype": "int16"}
    return [
        create(),
        commit("one", ["group", "", {}], ["array", "x", counter], metadata={"by": "ü"}),
        commit("two", ["write", "x", [[0, 2]], 1]),
        {"do": "branch", "name": "side", "at": "one"},
        {"do": "branch", "name": "doomed", "at": "two"},
        {"do": "tag", "name": "v1", "at": "one"},
        {"do": "tag", "name": "v2.0 rc", "at": "two"},
        {"do": "tag", "name": "gone", "at": "two"},
        commit("aside", ["write", "x", [[2, 4]], 7], branch="side"),
        commit("lost", ["group", "lost", {}], branch="doomed"),
        {"do": "unbranch", "name": "doomed"},
        {"do": "untag", "name": "gone"},
        commit("abandoned", ["attributes", "", {"n": 1}], branch="side"),
        {"do": "reset", "name": "side", "to": "aside"},
        commit("instead", ["attributes", "", {"n": 2}], branch="side"),
        {"do": "reset", "name": "main", "to": "one"},
        commit("anew", ["write", "x", [[1, 3]], 20]),
    ]


def split() -> list[Step]:
    """Manifests split along two axes, grown, cut, and rewritten with other splits."""
    grid = {"shape": [10, 8], "chunks": [1, 2], "dtype": "int64", "dimension_names": ["t", "x"]}
    many = {"shape": [70], "chunks": [1], "dtype": "int8", "dimension_names": ["many"]}
    return [
        create(inline=4, split={"t": 3, "x": 2, "many": 30}),
        commit(
            "write",
            ["group", "", {}],
            ["array", "grid", grid],
            ["write", "grid", [[0, 10], [0, 8]], 1],
            ["array", "many", many],
            ["write", "many", [[0, 60]], 1],
        ),
        commit("append", ["resize", "grid", [13, 8]], ["write", "grid", [[10, 13], [0, 8]], 1000]),
        commit("touch", ["write", "grid", [[4, 5], [4, 6]], -5], ["write", "many", [[7, 8]], 9]),
        commit("shrink", ["resize", "grid", [4, 5]], ["erase", "many/c/9"]),
        # last: 1.x lists chunks twice once it writes to an array that is split in another way
        {"do": "rewrite", "message": "rewritten", "split": {"t": 100, "many": 25}},
    ]


def virtual() -> list[Step]:
    """Chunks in other files, by the side of chunks of the repository."""
    line = {"shape": [8], "chunks": [1], "dtype": "int8"}
    return [
        create(inline=0),
        commit(
            "virtual",
            ["group", "", {}],
            ["array", "x", line],
            ["write", "x", [[4, 8]], 1],
            ["virtual", "x/c/0", "s3://bucket/some/file.nc", 0, 1],
            ["virtual", "x/c/1", "s3://bucket/file.nc", 2**40, 1, '"etag"'],
            ["virtual", "x/c/2", "file:///data/file.nc", 5, 1, 1_714_979_289],
        ),
        commit("moved on", ["virtual", "x/c/0", "s3://bucket/other.nc", 3, 1]),
        commit("native", ["write", "x", [[1, 2]], 3]),
    ]


def distributed() -> list[Step]:
    """Commits made in forks: to arrays that were there, and to new ones."""
    rows = {"shape": [8, 100], "chunks": [1, 100], "dtype": "int64"}
    line = {"shape": [4], "chunks": [2], "dtype": "int8"}
    parts: list[list[list[Any]]] = [
        [
            ["write", "shared", [[2 * n, 2 * n + 2], [0, 100]], 1000 * n],
            ["array", f"by/{n}", line],
            ["write", f"by/{n}", [[0, 3]], n],
        ]
        for n in range(4)
    ]
    return [
        create(inline=16),
        commit("start", ["group", "", {}], ["group", "by", {}], ["array", "shared", rows]),
        {"do": "forked", "message": "distributed", "edits": parts},
        {"do": "forked", "message": "again", "edits": [part[:1] for part in parts[:2]]},
    ]


def aged() -> list[Step]:
    """Old and new commits on several branches, with tags on both, and some that nothing leads to.

    `old 3` on main is the last of the old ones; a branch and a tag hold old commits.
    """
    line = {"shape": [40], "chunks": [4], "dtype": "int64"}
    old = [commit(f"old {n}", ["write", "x", [[4 * n, 4 * n + 4]], 10 * n]) for n in range(4)]
    return [
        create(inline=0),
        commit("start", ["group", "", {}], ["array", "x", line]),
        old[0],
        {"do": "branch", "name": "old branch", "at": "old 0"},
        commit("old aside", ["write", "x", [[30, 34]], 1], branch="old branch"),
        old[1],
        {"do": "tag", "name": "old tag", "at": "old 1"},
        {"do": "tag", "name": "gone", "at": "old 1"},
        {"do": "untag", "name": "gone"},
        {"do": "branch", "name": "side", "at": "old 1"},
        *old[2:],
        commit("abandoned", ["write", "x", [[20, 24]], 5], branch="side"),
        {"do": "reset", "name": "side", "to": "old 1"},
        commit("new aside", ["array", "y", line], ["write", "y", [[0, 9]], 1], branch="side"),
        commit("new 0", ["write", "x", [[0, 2]], -1]),
        commit("new 1", ["resize", "x", [20]], ["attributes", "", {"late": True}]),
        {"do": "tag", "name": "new tag", "at": "new 0"},
    ]


NAMED: dict[str, Callable[[], list[Step]]] = {
    "types": types, "edited": edited, "references": references, "split": split,
    "virtual": virtual, "distributed": distributed,
}  # fmt: skip


def going_on(number: int = 1) -> list[Step]:
    """Steps that fit after any history of this module."""
    line = {"shape": [6], "chunks": [2], "dtype": "int32"}
    return [
        commit(
            f"going on {number}",
            ["array", f"new {number}/line", line],
            ["write", f"new {number}/line", [[0, 5]], number],
            ["attributes", "", {f"step {number}": {"nested": [number]}}],
            metadata={"number": number},
        ),
        {"do": "tag", "name": f"tag {number}", "at": f"going on {number}"},
        {"do": "branch", "name": f"branch {number}", "at": f"going on {number}"},
        commit(
            f"aside {number}",
            ["resize", f"new {number}/line", [9]],
            ["write", f"new {number}/line", [[5, 9]], 50],
            branch=f"branch {number}",
        ),
    ]


# --- random ones ---------------------------------------------------------------------------------

Nodes = dict[str, list[int] | None]
"""Shapes of arrays, and None for groups, by path."""

PLACES = ("a", "a-b", "b", "b/c", "b/c/d", "b/c-d", "é/f", "é")


def random_history(seed: int, length: int) -> list[Step]:
    """Make up a history; every step of it is possible when it comes."""
    choose = random.Random(seed)
    axes = {"t": choose.randint(1, 4), "x": choose.randint(1, 3)}
    steps = [
        create(inline=choose.choice([0, 8, 512]), split=choose.choice([None, axes])),
        commit("commit 0", ["group", "", {}]),
    ]
    root: Nodes = {"": None}
    commits: dict[str, Nodes] = {"commit 0": root}
    branches = {"main": "commit 0"}
    tags: dict[str, str] = {}
    while len(steps) < length:
        number, reachable = len(steps), sorted({*branches.values(), *tags.values()})
        spare = sorted(branches.keys() - {"main"})
        draw = choose.random()
        if draw < 0.65:
            branch, message = choose.choice(sorted(branches)), f"commit {number}"
            nodes = dict(commits[branches[branch]])
            edits = [_edit(nodes, choose) for _ in range(choose.randint(1, 5))]
            edits.append(["attributes", "", {"last": number}])
            steps.append(commit(message, *edits, branch=branch))
            commits[message], branches[branch] = nodes, message
        elif draw < 0.75:
            branches[f"branch {number}"] = at = choose.choice(reachable)
            steps.append({"do": "branch", "name": f"branch {number}", "at": at})
        elif draw < 0.85:
            tags[f"tag {number}"] = at = choose.choice(reachable)
            steps.append({"do": "tag", "name": f"tag {number}", "at": at})
        elif draw < 0.9 and tags:
            name = choose.choice(sorted(tags))
            del tags[name]
            steps.append({"do": "untag", "name": name})
        elif draw < 0.94 and spare:
            name = choose.choice(spare)
            del branches[name]
            steps.append({"do": "unbranch", "name": name})
        elif draw >= 0.94:
            name = choose.choice(sorted(branches))
            branches[name] = to = choose.choice(reachable)
            steps.append({"do": "reset", "name": name, "to": to})
    return steps


def _edit(nodes: Nodes, choose: random.Random) -> list[Any]:
    """Make up an edit of what is there, and take note of what it does to it."""
    arrays = sorted(path for path, shape in nodes.items() if shape is not None)
    free = [path for path in PLACES if path not in nodes and not _inside_array(nodes, path)]
    action = choose.choice(["create", "create", "write", "write", "resize", "erase", "delete"])
    if action == "create" and free:
        path = choose.choice(free)
        for parent in _parents(path):
            nodes.setdefault(parent, None)  # Zarr makes the missing groups
        if choose.random() < 0.3:
            nodes[path] = None
            return ["group", path, {"made": choose.randint(0, 9)}]
        rank = choose.randint(0, 2)
        shape = [choose.randint(0, 9) for _ in range(rank)]
        chunks = [choose.randint(1, 4) for _ in range(rank)]
        nodes[path] = shape
        options = {"shape": shape, "chunks": chunks, "dtype": "int32"}
        return ["array", path, {**options, "dimension_names": ["t", "x"][:rank] or None}]
    if action == "delete" and len(nodes) > 1:
        path = choose.choice(sorted(nodes.keys() - {""}))
        for inside in [other for other in nodes if f"{other}/".startswith(f"{path}/")]:
            del nodes[inside]
        return ["delete", path]
    if not arrays:
        return ["attributes", "", {"k": choose.randint(0, 3)}]
    path = choose.choice(arrays)
    shape = nodes[path] or []
    if action == "resize" and shape:
        nodes[path] = new = [choose.randint(0, 12) for _ in shape]
        return ["resize", path, new]
    if action == "erase" and all(shape):
        inside = [str(choose.randint(0, (size - 1) // 4)) for size in shape]
        return ["erase", "/".join([path, "c", *inside])]
    where = [sorted([choose.randint(0, size), choose.randint(0, size)]) for size in shape]
    return ["write", path, where, choose.randint(0, 99)]


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def _inside_array(nodes: Nodes, path: str) -> bool:
    return any(nodes.get(parent) is not None for parent in _parents(path))

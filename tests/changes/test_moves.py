"""Moving nodes of a table: against a dictionary of paths, and everything that is refused."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icechunk.changes.moves import Arrangement, arrange
from icechunk.errors import AlreadyExistsError, NodeNotFoundError, SessionStateError
from icechunk.format.paths import is_same_or_descendant, parent
from icechunk.format.snapshot import ArrayData, ManifestRef, Node, NodeTable

# Names that sort differently by bytes and by segment, and that start with each other.
NAMES = ["0", "0_0", "1", "a", "a-b", "a.b", "ab", "ü"]
PATHS = st.lists(st.sampled_from(NAMES), max_size=3).map(lambda parts: "/" + "/".join(parts))


def node_at(path, number, *, is_array):
    node_id = number.to_bytes(8, "big")
    document = f"document {number}".encode()
    if not is_array:
        return Node(node_id, path, document)
    manifest = ManifestRef(number.to_bytes(12, "big"), ((0, number + 1),))
    return Node(node_id, path, document, ArrayData((4,), (number + 1,), ("x",), (manifest,)))


def table_of(**kinds):
    """A table of nodes: path to "group" or "array"; ids count up in the order given."""
    return NodeTable.from_nodes(
        node_at(path, number, is_array=kind == "array")
        for number, (path, kind) in enumerate(kinds.items())
    )


TREE = {
    "/": "group",
    "/g": "group",
    "/g/a": "array",
    "/g/h": "group",
    "/g/h/b": "array",
    "/g-x": "array",
    "/g0": "group",
    "/other": "group",
}


@st.composite
def trees(draw):
    """Hierarchies, some nodes without a parent: those are allowed too."""
    paths = draw(st.lists(PATHS, unique=True, max_size=12))
    if draw(st.booleans()):
        paths.append("/")
    return {
        path: draw(st.sampled_from(["group", "group", "array"])) for path in dict.fromkeys(paths)
    }


class Slow:
    """The same, as a dictionary from path to node and obvious loops."""

    def __init__(self, table):
        self.nodes = {node.path: node for node in table}

    def refusal(self, source, target):
        if source not in self.nodes:
            return "node-not-found"
        if is_same_or_descendant(target, source):
            return "move-into-self-or-descendant"
        if target in self.nodes:
            return "move-wont-overwrite"
        above = parent(target)
        if above is not None and above not in self.nodes:
            return "move-destination-parent-missing"
        if above is not None and self.nodes[above].array is not None:
            return "move-destination-parent-not-group"
        moved, kept = self.split(source)
        return "move-wont-overwrite" if self.renamed(moved, source, target).keys() & kept else None

    def split(self, source):
        moved = {p: n for p, n in self.nodes.items() if is_same_or_descendant(p, source)}
        return moved, {p: n for p, n in self.nodes.items() if p not in moved}

    @staticmethod
    def renamed(moved, source, target):
        return {
            target if path == source else target.rstrip("/") + path[len(source) :]: node
            for path, node in moved.items()
        }

    def move(self, source, target):
        moved, kept = self.split(source)
        self.nodes = kept | self.renamed(moved, source, target)


def check(table, slow):
    expected = [dataclasses.replace(node, path=path) for path, node in slow.nodes.items()]
    assert list(table) == sorted(expected, key=lambda node: node.path.encode())
    for path in slow.nodes:
        assert table.find(path).path == path
        below = {node.path for node in map(table.__getitem__, table.subtree(path))}
        assert below == {p for p in slow.nodes if is_same_or_descendant(p, path)} - {path}


@given(trees(), st.lists(st.tuples(PATHS, PATHS), max_size=12), st.data())
def test_moves_do_what_a_dictionary_does(tree, moves, data):
    base = table_of(**tree)
    slow, arrangement = Slow(base), Arrangement(base)
    done = []
    for source, target in moves:
        if slow.nodes and data.draw(st.booleans()):  # random paths are mostly not there
            source = data.draw(st.sampled_from(sorted(slow.nodes)))
        refusal = slow.refusal(source, target)
        if refusal is not None:
            with pytest.raises(
                (NodeNotFoundError, SessionStateError, AlreadyExistsError)
            ) as caught:
                arrangement.move(source, target)
            assert caught.value.kind == refusal
            assert arrangement.moves == done
            continue
        node_id = slow.nodes[source].id
        slow.move(source, target)
        move = arrangement.move(source, target)
        assert (move.node_id, move.source, move.target) == (node_id, source, target)
        done.append(move)
    check(arrangement.table(), slow)
    check(arrange(done, base).table(), slow)
    expected = {
        node.id: (node.path, path) for path, node in slow.nodes.items() if node.path != path
    }
    net = arrangement.net_moves()
    assert {move.node_id: (move.from_path, move.to_path) for move in net} == expected
    assert [move.to_path for move in net] == sorted(
        (to for _, to in expected.values()), key=lambda path: path.split("/")[1:]
    )
    for move in net:
        assert move.is_array == (base.find(move.from_path).array is not None)
    check(base, Slow(table_of(**tree)))  # tables are values


@pytest.mark.parametrize(
    ("source", "target", "error", "kind", "fragment"),
    [
        ("/no", "/x", NodeNotFoundError, "node-not-found", "/no"),
        ("/", "/x", SessionStateError, "move-into-self-or-descendant", "its own descendant `/x`"),
        ("/g", "/g", SessionStateError, "move-into-self-or-descendant", "into itself or its own"),
        ("/g", "/g/h/x", SessionStateError, "move-into-self-or-descendant", "into itself or"),
        ("/g", "/other", AlreadyExistsError, "move-wont-overwrite", "overwrite existing node"),
        ("/g", "/", AlreadyExistsError, "move-wont-overwrite", "overwrite existing node"),
        ("/g", "/no/x", SessionStateError, "move-destination-parent-missing", "parent group `/no`"),
        (
            "/g",
            "/g-x/x",
            SessionStateError,
            "move-destination-parent-not-group",
            "is an array, not a group",
        ),
    ],
)
def test_a_senseless_move_says_what_is_wrong(source, target, error, kind, fragment):
    base = table_of(**TREE)
    arrangement = Arrangement(base)
    with pytest.raises(error, match=fragment.replace("(", r"\(")) as caught:
        arrangement.move(source, target)
    assert caught.value.kind == kind
    assert arrangement.table() is base
    assert arrangement.net_moves() == ()


def test_names_that_start_alike_stay_apart():
    base = table_of(**{"/": "group", "/0": "group", "/0/1": "array"})
    arrangement = Arrangement(base)
    arrangement.move("/0", "/0_0")
    assert [node.path for node in arrangement.table()] == ["/", "/0_0", "/0_0/1"]
    arrangement = Arrangement(base)
    arrangement.move("/0/1", "/0/0")
    arrangement.move("/0", "/1")
    assert [node.path for node in arrangement.table()] == ["/", "/1", "/1/0"]
    assert [(m.from_path, m.to_path) for m in arrangement.net_moves()] == [
        ("/0", "/1"),
        ("/0/1", "/1/0"),
    ]


def test_a_way_there_and_back_leaves_no_net_move():
    base = table_of(**TREE)
    arrangement = Arrangement(base)
    arrangement.move("/g", "/other/g")
    arrangement.move("/other/g", "/g")
    assert arrangement.net_moves() == ()
    assert arrangement.table() == base
    assert len(arrangement.moves) == 2


def test_a_node_without_parent_is_not_overwritten():
    tree = {"/": "group", "/s": "group", "/s/x": "group", "/t/x": "group", "/t/y": "group"}
    arrangement = Arrangement(table_of(**tree))
    with pytest.raises(AlreadyExistsError, match="/t/x") as caught:
        arrangement.move("/s", "/t")
    assert caught.value.kind == "move-wont-overwrite"
    arrangement.move("/s/x", "/s/z")
    arrangement.move("/s", "/t")
    assert [node.path for node in arrangement.table()] == ["/", "/t", "/t/x", "/t/y", "/t/z"]


def recorded(*moves):
    arrangement = Arrangement(table_of(**TREE))
    return [arrangement.move(source, target) for source, target in moves]


def test_replaying_takes_along_what_others_added():
    moves = recorded(("/g", "/moved"))
    theirs = table_of(**TREE, **{"/g/new": "array"})
    assert "/moved/new" in arrange(moves, theirs).table()
    assert "/g/new" not in arrange(moves, theirs).table()


@pytest.mark.parametrize(
    ("change", "error", "kind", "named"),
    [
        (lambda tree: tree.pop("/g/a"), NodeNotFoundError, "node-not-found", "/g/a"),
        (
            lambda tree: tree.update({"/other/a": "group"}),
            AlreadyExistsError,
            "move-wont-overwrite",
            "/other/a",
        ),
        (
            lambda tree: tree.pop("/other"),
            SessionStateError,
            "move-destination-parent-missing",
            "/other",
        ),
        (
            lambda tree: tree.update({"/other": "array"}),
            SessionStateError,
            "move-destination-parent-not-group",
            "/other",
        ),
    ],
)
def test_replaying_finds_what_others_have_done(change, error, kind, named):
    moves = recorded(("/g/a", "/other/a"))
    theirs = {node.path: node for node in table_of(**TREE)}
    kinds = dict(TREE)
    change(kinds)
    nodes = [
        node_at(
            path,
            int.from_bytes(theirs[path].id, "big") if path in theirs else 1000,
            is_array=kind_ == "array",
        )
        for path, kind_ in kinds.items()
    ]
    with pytest.raises(error, match=named) as caught:
        arrange(moves, NodeTable.from_nodes(nodes)).table()
    assert caught.value.kind == kind


def test_replaying_does_not_take_another_node_for_the_one_moved():
    moves = recorded(("/g/a", "/other/a"))
    nodes = [node for node in table_of(**TREE) if node.path != "/g/a"]
    again = NodeTable.from_nodes([*nodes, node_at("/g/a", 1000, is_array=True)])
    with pytest.raises(NodeNotFoundError, match="replaced") as caught:
        arrange(moves, again)
    assert caught.value.kind == "node-not-found"


def test_many_moves_of_a_large_table_keep_every_column():
    count = 2000
    base = table_of(**{"/": "group"}, **{f"/a{n}": "array" for n in range(count)})
    arrangement = Arrangement(base)
    for n in range(count):
        arrangement.move(f"/a{n}", f"/b{count - n}")
    table = arrangement.table()
    assert len(table) == count + 1
    sample = np.random.default_rng(0).integers(0, count, 50)
    for n in sample.tolist():
        before, after = base.find(f"/a{n}"), table.find(f"/b{count - n}")
        assert after == dataclasses.replace(before, path=after.path)
    assert len(arrangement.net_moves()) == count

"""Layout of drawn histories, checked by reading the drawings back."""

import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icechunk.format.ids import encode_id
from icechunk.format.repo_info import RepoInfo
from icechunk.format.snapshot_table import SnapshotEntry, SnapshotTable
from icechunk.ops.graph_svg import render_svg
from icechunk.ops.graph_text import render_text
from icechunk.repo.graph import graph_of_branches, graph_of_history

SVG = "{http://www.w3.org/2000/svg}"


def snapshot_id(number):
    return number.to_bytes(4, "big") + bytes(8)  # the first 8 characters tell them apart


def repo_info(parents, times, branches, tags):
    """A state with snapshots 0, 1, ...; `parents` are numbers of earlier ones, or None."""
    entries = [
        SnapshotEntry(
            snapshot_id(number),
            None if parent is None else snapshot_id(parent),
            flushed_at=time,
            message=f"number {number}",
        )
        for number, (parent, time) in enumerate(zip(parents, times, strict=True))
    ]
    return RepoInfo(
        SnapshotTable.from_entries(entries),
        {name: snapshot_id(number) for name, number in branches.items()},
        {name: snapshot_id(number) for name, number in tags.items()},
    )


@st.composite
def forests(draw):
    """Parents, times, branches and tags of a repository with any history and any clocks."""
    size = draw(st.integers(1, 24))
    earlier = [st.none() if n == 0 else st.none() | st.integers(0, n - 1) for n in range(size)]
    recent = [st.none() if n == 0 else st.integers(max(0, n - 3), n - 1) for n in range(size)]
    parents = [draw(one) for one in draw(st.sampled_from([earlier, recent]))]
    clocks = draw(st.sampled_from(["right", "wrong", "stopped"]))
    times = {
        "right": list(range(size)),
        "wrong": draw(st.lists(st.integers(0, 9), min_size=size, max_size=size)),
        "stopped": [7] * size,
    }[clocks]
    numbers = st.integers(0, size - 1)
    branches = draw(st.dictionaries(st.sampled_from("abcdefgh"), numbers, max_size=7))
    branches["main"] = draw(numbers)
    tags = draw(st.dictionaries(st.sampled_from(["v1", "v2", "v3"]), numbers))
    return parents, times, branches, tags


def read_text(text):
    """Read a plain drawing: rows of (id, refs, message), and the parent of each row.

    The parent is a row, None without an edge, or "below" for an edge that leaves the drawing.
    """
    lines = [line for line in text.splitlines() if not line.startswith("  ...")]
    rows, between = lines[0::2], lines[1::2]
    commits = []
    for line in rows:
        found = re.fullmatch(r"([●│─╯ ]+) ([0-9A-Z]{8})(?: \(([^)]*)\))? (.*)", line)
        assert found, line
        grid, identity, refs, message = found.groups()
        assert grid.count("●") == 1
        commits.append((grid, identity, refs.split(", ") if refs else [], message))
    grids = [grid for grid, *_ in commits]
    parents = [follow(row, grids, between) for row in range(len(rows))]
    return [commit[1:] for commit in commits], parents


def follow(row, grids, between):
    at = grids[row].index("●")
    while row < len(between) and between[row][at : at + 1] == "│":
        row += 1
        if row == len(grids):
            return "below"
        if grids[row][at] == "●":
            return row
        if grids[row][at] == "╯":
            left = grids[row].rindex("●", 0, at)
            assert set(grids[row][left + 1 : at]) <= set("─│╯")
            return row
        assert grids[row][at] == "│"
    return None


def read_svg(image):
    """Read an image: ids and positions of commits, and for each edge where it starts and ends."""
    root = ElementTree.fromstring(image)
    dots = [(int(dot.get("cx")), int(dot.get("cy"))) for dot in root.iter(f"{SVG}circle")]
    texts = [text.find(f"{SVG}tspan") for text in root.iter(f"{SVG}text")]
    ids = [first.text for first in texts if first is not None]
    edges = {}
    for path in root.iter(f"{SVG}path"):
        start, end = re.match(r"M(\d+ \d+)", path.get("d")), re.search(r"\d+$", path.get("d"))
        child = tuple(map(int, start[1].split()))
        curve = re.search(r"(\d+) \d+$", path.get("d")) if "C" in path.get("d") else None
        edges[child] = (int(curve[1]) if curve else child[0], int(end[0]))
    return dict(zip(ids, dots, strict=True)), edges


def reached_from(parents, starts):
    found = set()
    for number in starts:
        while number is not None and number not in found:
            found.add(number)
            number = parents[number]
    return found


def text_id(number):
    return encode_id(snapshot_id(number))[:8]


@given(forests(), st.sampled_from([100, 5, 1]))
def test_parents_can_be_read_back_from_any_drawing(forest, limit):
    parents, _, branches, tags = forest
    layout = graph_of_branches(repo_info(*forest), limit)
    commits, read = read_text(render_text(layout, plain=True))

    reached = reached_from(parents, branches.values())
    number_of = {text_id(number): number for number in range(len(parents))}
    drawn = [number_of[identity] for identity, *_ in commits]
    assert len(drawn) == len(set(drawn)) == min(limit, len(reached))
    assert set(drawn) <= reached
    assert layout.omitted == len(reached) - len(drawn)
    for row, number in enumerate(drawn):
        parent = parents[number]
        expected = None if parent is None else "below"
        if parent in drawn:
            expected = drawn.index(parent)
            assert expected > row
        assert read[row] == expected
        names = [name for name in sorted(branches) if branches[name] == number]
        names.sort(key=lambda name: name != "main")
        names += [name for name in sorted(tags) if tags[name] == number]
        assert commits[row][1] == names
        assert commits[row][2] == f"number {number}"


@given(forests(), st.sampled_from([100, 5]))
def test_the_image_shows_the_same_edges_as_the_text(forest, limit):
    layout = graph_of_branches(repo_info(*forest), limit)
    dots, edges = read_svg(render_svg(layout, plain=False, standalone=True))

    position_of = [dots[commit.id[:8]] for commit in layout.commits]
    assert len(set(position_of)) == len(layout.commits)
    expected = {
        position_of[row]: position_of[commit.parent]
        for row, commit in enumerate(layout.commits)
        if commit.parent is not None
    }
    leaving = {position_of[row] for row, c in enumerate(layout.commits) if c.goes_on}
    assert edges.keys() == expected.keys() | leaving
    assert {child: end for child, end in edges.items() if child not in leaving} == expected
    for child in leaving:
        assert edges[child][0] == child[0]
        assert edges[child][1] > max(y for _, y in position_of)


@given(forests())
def test_main_is_leftmost_and_branches_keep_to_their_columns(forest):
    parents, _, branches, _ = forest
    layout = graph_of_branches(repo_info(*forest))
    mains = {text_id(number) for number in reached_from(parents, [branches["main"]])}
    assert {c.id[:8] for c in layout.commits if c.column == 0} == mains
    for edge in layout.edges():
        assert edge.parent_column <= edge.column < layout.width


@given(forests())
def test_newer_commits_are_above_when_clocks_are_right(forest):
    parents, _, branches, tags = forest
    layout = graph_of_branches(repo_info(parents, range(len(parents)), branches, tags))
    ids = [commit.id for commit in layout.commits]
    assert ids == sorted(ids, reverse=True)


@given(forests(), st.data())
def test_one_history_is_one_column(forest, data):
    parents = forest[0]
    number = data.draw(st.integers(0, len(parents) - 1))
    layout = graph_of_history(repo_info(*forest), snapshot_id(number))
    commits, read = read_text(render_text(layout, plain=True))
    chain = []
    while number is not None:
        chain.append(text_id(number))
        number = parents[number]
    assert [identity for identity, *_ in commits] == chain
    assert read == [*range(1, len(chain)), None]
    assert layout.width == 1


def test_a_branch_without_commits_of_its_own_takes_no_column():
    info = repo_info([None, 0, 0], [1, 2, 3], {"main": 1, "a": 0, "b": 0, "c": 2}, {})
    assert render_text(graph_of_branches(info), plain=True) == (
        f"  ● {text_id(2)} (c) number 2\n"
        "  │\n"
        f"● │ {text_id(1)} (main) number 1\n"
        "│ │\n"
        f"●─╯ {text_id(0)} (a, b) number 0\n"
    )


def test_an_edge_that_ends_crosses_one_that_passes():
    info = repo_info([None, 0, 1, 1, 0], [1, 2, 3, 4, 5], {"main": 2, "a": 4, "b": 3}, {"v": 2})
    assert render_text(graph_of_branches(info), plain=True) == (
        f"  ●   {text_id(4)} (a) number 4\n"
        "  │\n"
        f"  │ ● {text_id(3)} (b) number 3\n"
        "  │ │\n"
        f"● │ │ {text_id(2)} (main, v) number 2\n"
        "│ │ │\n"
        f"●─│─╯ {text_id(1)} number 1\n"
        "│ │\n"
        f"●─╯   {text_id(0)} number 0\n"
    )


def test_omitted_commits_are_counted_and_their_edges_leave_the_drawing():
    info = repo_info([None, 0, 1, 1], [1, 2, 3, 4], {"main": 2, "a": 3}, {})
    text = render_text(graph_of_branches(info, limit=2), plain=True)
    assert text == (
        f"  ● {text_id(3)} (a) number 3\n"
        "  │\n"
        f"● │ {text_id(2)} (main) number 2\n"
        "│ │\n"
        "  ... and 2 older snapshots\n"
    )
    image = render_svg(graph_of_branches(info, limit=3), plain=False, standalone=True)
    assert "and 1 older snapshot<" in image


def test_colours_are_those_of_the_column():
    info = repo_info([None, 0, 0], [1, 2, 3], {"main": 1, "a": 2}, {"v": 2})
    plain = graph_of_branches(info)
    coloured = render_text(plain, plain=False)
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == render_text(plain, plain=True)
    assert coloured.splitlines()[0] == (
        f"  \x1b[35m●\x1b[0m \x1b[2m{text_id(2)}\x1b[0m"
        " (\x1b[1;35ma\x1b[0m, \x1b[1;3;34mv\x1b[0m) number 2"
    )
    assert "\x1b[32m●\x1b[0m\x1b[35m─\x1b[0m\x1b[35m╯\x1b[0m" in coloured


@pytest.mark.parametrize("plain", [True, False])
def test_a_plain_image_has_no_colours(plain):
    info = repo_info([None, 0, 0], [1, 2, 3], {"main": 1, "a": 2}, {"v": 2})
    image = render_svg(graph_of_branches(info), plain=plain, standalone=False)
    assert bool(re.search("#[0-9a-f]{6}", image)) == (not plain)


def test_a_long_history_is_laid_out_without_recursion_or_repetition():
    size = 20_000
    info = repo_info([None, *range(size - 1)], range(size), {"main": size - 1, "a": 9}, {"v": 0})
    layout = graph_of_branches(info)
    assert len(layout.commits) == 100
    assert layout.omitted == size - 100

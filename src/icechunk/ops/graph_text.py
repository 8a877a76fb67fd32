"""A drawn history as text, coloured for a terminal or plain.

Two characters per column. A row shows a commit, and where edges end at it; the line below it shows
the edges that run on::

    ●     9F2KWM1D (main) fix units
    │
    │   ● ZB41CHPN (trial) finer grid
    │   │
    │ ● │ 0Q8VTX5R (dev) add wind
    │ │ │
    ●─╯─╯ 7M3EYJ6A first year
"""

from __future__ import annotations

from icechunk._plain import first_line, one_line, shortened
from icechunk.repo.graph import Commit, Edge, GraphLayout

__all__ = ["ID_LENGTH", "MESSAGE_COLUMNS", "note_of_omission", "render_text", "shown_message"]

ID_LENGTH = 8
MESSAGE_COLUMNS = 60

# The eight colours that every terminal has, and shows so that they suit its background.
_BRANCHES = ("32", "35", "33", "36", "31")
_TAG = "1;3;34"
_DIM = "2"

Cell = tuple[str, int]
"""A character, and the column of the branch whose colour it has."""


def render_text(layout: GraphLayout, *, plain: bool) -> str:
    """Draw a history; ends with a newline unless there is nothing to draw.

    Parameters
    ----------
    layout
        What to draw.
    plain
        Whether to do without escape sequences for colours.
    """
    edges = layout.edges()
    lines = []
    for row, commit in enumerate(layout.commits):
        if row:
            lines.append(_paint(_between(layout, edges, row - 1), plain))
        cells = _paint(_beside(layout, edges, row), plain, padded=True)
        lines.append(f"{cells} {_label(commit, plain)}")
    if layout.omitted:
        lines.append(_paint(_between(layout, edges, len(layout.commits) - 1), plain))
        lines.append(f"  {note_of_omission(layout)}")
    return "".join(f"{line.rstrip()}\n" for line in lines)


def shown_message(commit: Commit) -> str:
    """Return what fits of the first line of a commit's message."""
    return shortened(first_line(commit.message), MESSAGE_COLUMNS)


def note_of_omission(layout: GraphLayout) -> str:
    """Say how much is not drawn."""
    return f"... and {layout.omitted} older snapshot{'s' if layout.omitted > 1 else ''}"


def _between(layout: GraphLayout, edges: list[Edge], row: int) -> list[Cell]:
    """Draw the line between a row and the next one: every edge that is under way."""
    cells = [(" ", 0)] * (2 * layout.width - 1)
    for edge in edges:
        if edge.child <= row < edge.parent:
            cells[2 * edge.column] = "│", edge.column
    return cells


def _beside(layout: GraphLayout, edges: list[Edge], row: int) -> list[Cell]:
    """Draw the line of a commit: itself, edges that pass it, and edges that end at it."""
    cells = [(" ", 0)] * (2 * layout.width - 1)
    mine = layout.commits[row].column
    ending = [edge.column for edge in edges if edge.parent == row and edge.column != mine]
    start = 2 * mine + 1
    for column in sorted(ending):  # each piece has the colour of the nearest edge that it serves
        cells[start : 2 * column] = [("─", column)] * (2 * column - start)
        cells[2 * column] = "╯", column
        start = 2 * column + 1
    for edge in edges:
        if edge.child < row < edge.parent:
            cells[2 * edge.column] = "│", edge.column
    cells[2 * mine] = "●", mine
    return cells


def _paint(cells: list[Cell], plain: bool, *, padded: bool = False) -> str:
    end = len(cells)
    while end and not padded and cells[end - 1][0] == " ":
        end -= 1
    return "".join(
        character if character == " " else _coloured(character, _branch(column), plain)
        for character, column in cells[:end]
    )


def _label(commit: Commit, plain: bool) -> str:
    bold = f"1;{_branch(commit.column)}"
    names = [_coloured(one_line(name), bold, plain) for name in commit.branches]
    names += [_coloured(one_line(name), _TAG, plain) for name in commit.tags]
    refs = f" ({', '.join(names)})" if names else ""
    return f"{_coloured(commit.id[:ID_LENGTH], _DIM, plain)}{refs} {shown_message(commit)}"


def _branch(column: int) -> str:
    return _BRANCHES[column % len(_BRANCHES)]


def _coloured(text: str, code: str, plain: bool) -> str:
    return text if plain else f"\x1b[{code}m{text}\x1b[0m"

"""A drawn history as an SVG image, for notebooks and files.

Text and plain lines have the colour of the text around the image, so they suit any background; the
colours of branches and tags stand out on white and on black.
"""

from __future__ import annotations

from html import escape

from icechunk._html import LANES
from icechunk._plain import one_line, width
from icechunk.ops.graph_text import ID_LENGTH, note_of_omission, shown_message
from icechunk.repo.graph import Commit, Edge, GraphLayout

__all__ = ["render_svg"]

_ROW, _COLUMN, _MARGIN = 28, 20, 15
_CHARACTER = 7.9  # of a monospaced font of 13 px, rounded up
_TAG, *_BRANCHES = LANES
_FONT = "ui-monospace, 'SFMono-Regular', Menlo, Consolas, 'Liberation Mono', monospace"

# Applies only where the image is a document of its own: inside a page, the page decides.
_STANDALONE = (
    "<style>:root{color:#1f2328}@media(prefers-color-scheme:dark){:root{color:#e6edf3}}</style>"
)


def render_svg(layout: GraphLayout, *, plain: bool, standalone: bool) -> str:
    """Draw a history.

    Parameters
    ----------
    layout
        What to draw.
    plain
        Whether to do without colours of branches and tags.
    standalone
        Whether the image may be shown on its own, and then has to look at the colour scheme itself.
    """
    text_x = _MARGIN + layout.width * _COLUMN
    edges = [_edge(edge, layout, plain) for edge in layout.edges()]
    commits = [_commit(row, commit, text_x, plain) for row, commit in enumerate(layout.commits)]
    note = []
    if layout.omitted:
        where = f'x="{text_x}" y="{_y(len(layout.commits)) + 4}"'
        note = [f'<text {where} opacity="0.6">{note_of_omission(layout)}</text>']
    rows = len(layout.commits) + len(note)
    longest = max((width(_label_text(commit)) for commit in layout.commits), default=0)
    wide, high = round(text_x + longest * _CHARACTER + _MARGIN), max(1, rows) * _ROW
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{wide}" height="{high}" '
        f'viewBox="0 0 {wide} {high}" font-family="{escape(_FONT)}" font-size="13" '
        'fill="currentColor" stroke-width="2">',
        "<title>History of commits</title>",
        *([_STANDALONE] if standalone else []),
        *edges,
        *commits,
        *note,
        "</svg>",
    ]
    return "\n".join(lines)


def _edge(edge: Edge, layout: GraphLayout, plain: bool) -> str:
    x, top = _x(edge.column), _y(edge.child)
    bottom = _y(edge.parent)
    if edge.parent == len(layout.commits):  # goes on below the image
        bottom -= _ROW // 2
    path = f"M{x} {top}"
    if edge.parent_column == edge.column:
        path += f"V{bottom}"
    else:
        turn, middle, end = bottom - _ROW, bottom - _ROW // 2, _x(edge.parent_column)
        path += f"V{turn}C{x} {middle} {end} {middle} {end} {bottom}"
    return f'<path d="{path}" fill="none" stroke="{_branch(edge.column, plain)}"/>'


def _commit(row: int, commit: Commit, text_x: int, plain: bool) -> str:
    colour = _branch(commit.column, plain)
    dot = f'<circle cx="{_x(commit.column)}" cy="{_y(row)}" r="5" fill="{colour}"/>'
    names = [_name(name, colour) for name in commit.branches]
    tag = "currentColor" if plain else _TAG
    names += [_name(name, tag, style="italic") for name in commit.tags]
    refs = f" ({', '.join(names)})" if names else ""
    start = f'<text x="{text_x}" y="{_y(row) + 4}" xml:space="preserve">'
    identity = f'<tspan opacity="0.6">{commit.id[:ID_LENGTH]}</tspan>'
    return f"{dot}\n{start}{identity}{refs} {escape(shown_message(commit))}</text>"


def _name(name: str, fill: str, style: str = "normal") -> str:
    look = f'font-weight="bold" font-style="{style}" fill="{fill}"'
    return f"<tspan {look}>{escape(one_line(name))}</tspan>"


def _label_text(commit: Commit) -> str:
    names = ", ".join(map(one_line, (*commit.branches, *commit.tags)))
    return f"{commit.id[:ID_LENGTH]} ({names}) {shown_message(commit)}"


def _branch(column: int, plain: bool) -> str:
    return "currentColor" if plain else _BRANCHES[column % len(_BRANCHES)]


def _x(column: int) -> int:
    return _MARGIN + column * _COLUMN


def _y(row: int) -> int:
    return _ROW // 2 + row * _ROW

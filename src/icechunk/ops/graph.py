"""The public object that shows a history of commits as a drawing."""

from __future__ import annotations

from dataclasses import dataclass

from icechunk._html import framed
from icechunk.ops.graph_svg import render_svg
from icechunk.ops.graph_text import render_text
from icechunk.repo.graph import GraphLayout

__all__ = ["AncestryGraph"]


@dataclass(frozen=True, slots=True, repr=False)
class AncestryGraph:
    """A drawing of the history of a repository: text when printed, an image in notebooks.

    Made by `Repository.ancestry_graph`. Shows the repository as it was then.
    """

    _layout: GraphLayout
    _plain: bool

    def __str__(self) -> str:
        return render_text(self._layout, plain=self._plain)

    __repr__ = __str__

    def _repr_svg_(self) -> str:
        return render_svg(self._layout, plain=self._plain, standalone=True)

    def _repr_html_(self) -> str:
        image = render_svg(self._layout, plain=self._plain, standalone=False)
        return framed(f'<div style="overflow-x: auto">\n{image}\n</div>\n')

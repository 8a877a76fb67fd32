"""What notebooks show: the blocks of `icechunk._display` as HTML, and the style they share.

One generator for every class, over the fields that text shows as well. Whatever comes from outside
is escaped. Where a viewer drops style sheets, what is left still reads as ``name: value``.

Colours follow the page without asking which theme it has: text inherits the page's colour, lines
and grounds are shades of it. A media query would be wrong, since a notebook may be light on a
dark desktop. Colours with a meaning of their own are `LANES`, which stand out on both grounds.
"""

from __future__ import annotations

from html import escape
from typing import Final

from icechunk._display import Block, Default, Folded, Group, Lines, Part

__all__ = ["LANES", "STYLE", "framed", "page_of"]

LANES: Final = (
    "#1f7fd6",
    "#bc6410",
    "#2a8c4a",
    "#a855c8",
    "#c8453f",
    "#0d8a8f",
    "#8a7a12",
    "#c4468e",
)
"""Colours that contrast with white and with black alike; as CSS, ``--icechunk-lane-0`` and on."""

_VARIABLES = "".join(f"  --icechunk-lane-{i}: {colour};\n" for i, colour in enumerate(LANES))

STYLE: Final = f"""\
<style>
.icechunk-repr {{
  --icechunk-text: var(--jp-content-font-color1, var(--vscode-foreground, currentColor));
  --icechunk-muted: color-mix(in srgb, var(--icechunk-text) 66%, transparent);
  --icechunk-line: color-mix(in srgb, var(--icechunk-text) 22%, transparent);
  --icechunk-ground: color-mix(in srgb, var(--icechunk-text) 6%, transparent);
{_VARIABLES}\
  color: var(--icechunk-text);
  line-height: 1.6;
  max-width: 50em;
}}
.icechunk-repr .icechunk-header {{
  font-weight: 600;
  padding-bottom: 4px;
  margin-bottom: 4px;
  border-bottom: 1px solid var(--icechunk-line, #8888);
}}
.icechunk-repr .icechunk-field-name, .icechunk-repr .icechunk-default {{
  color: var(--icechunk-muted, inherit);
}}
.icechunk-repr .icechunk-field-value {{
  font-family: var(--jp-code-font-family, var(--vscode-editor-font-family, monospace));
  font-size: 0.92em;
  overflow-wrap: anywhere;
}}
.icechunk-repr summary {{
  cursor: pointer;
}}
.icechunk-repr .icechunk-nested {{
  margin: 2px 0 6px 1em;
  padding: 4px 10px;
  border-radius: 4px;
  background: var(--icechunk-ground, #8881);
}}
.icechunk-repr pre.icechunk-nested {{
  color: inherit;
  font-size: 0.92em;
  line-height: 1.45;
  max-height: 24em;
  overflow: auto;
}}
</style>
"""


def page_of(block: Block) -> str:
    """Return what a notebook shows of a block, style included."""
    return framed(_block(block))


def framed(content: str) -> str:
    """Put HTML into the frame that gives it the package's style and colours."""
    return f'{STYLE}<div class="icechunk-repr">\n{content}</div>\n'


def _block(block: Block) -> str:
    body = _group(block.fields) or '<div class="icechunk-default">(empty)</div>\n'
    return f'<div class="icechunk-header">{escape(block.header)}</div>\n{body}'


def _group(fields: tuple[tuple[str, Part], ...]) -> str:
    return "".join(_field(name, part) for name, part in fields)


def _field(name: str, part: Part) -> str:
    match part:
        case Folded():
            return _field(name, part.block)
        case Block():
            return _folding(name, _nested(_block(part)))
        case Group():
            return _folding(name, _nested(_group(part.fields)))
        case Lines():
            # Open, since it is what the object is about: the changes of a diff, a long message.
            lines = escape("\n".join(part.lines))
            return _folding(name, f'<pre class="icechunk-nested">{lines}</pre>\n', is_open=True)
    if "\n" in part.rstrip("\n"):
        return _field(name, Lines(tuple(part.rstrip("\n").split("\n"))))
    mark = ' <span class="icechunk-default">(default)</span>' if isinstance(part, Default) else ""
    return (
        f'<div class="icechunk-field"><span class="icechunk-field-name">{escape(name)}:</span> '
        f'<span class="icechunk-field-value">{escape(part)}{mark}</span></div>\n'
    )


def _folding(name: str, content: str, *, is_open: bool = False) -> str:
    return (
        f"<details{' open' if is_open else ''}>"
        f'<summary class="icechunk-field-name">{escape(name)}</summary>\n{content}</details>\n'
    )


def _nested(content: str) -> str:
    return f'<div class="icechunk-nested">\n{content}</div>\n'

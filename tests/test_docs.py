"""The documentation is true: every Python block in it runs.

The blocks of one file run in order, in one namespace, in an empty directory. A comment on the line
before a block changes that:

    <!-- not run: needs S3 -->     the block is compiled only
    <!-- file: worker.py -->       the block becomes that file, for later blocks to import

To see what the blocks of a document print, its measurements for instance:

    python tests/test_docs.py docs/design/001-columns-not-objects.md
"""

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINKED = [*DOCUMENTS, ROOT / "CHANGELOG.md", ROOT / "benchmarks" / "README.md"]

BLOCK = re.compile(
    r"^(?:<!--[ ](?P<mark>not[ ]run|file):[ ](?P<what>.+?)[ ]-->\n+)?"
    r"^```python\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL | re.VERBOSE,
)
LINK = re.compile(r"\]\((?P<target>[^)#]*)(?:#(?P<section>[^)]*))?\)")
HEADING = re.compile(r"^#+ +(?P<title>.+?) *$", re.MULTILINE)


class Block(NamedTuple):
    """One Python block of a document."""

    code: str
    mark: str | None
    what: str | None


def blocks_of(document):
    """Python blocks of a document, padded so that tracebacks show its line numbers."""
    text = document.read_text()
    for found in BLOCK.finditer(text):
        lines_before = text.count("\n", 0, found.start("code"))
        yield Block("\n" * lines_before + found["code"], found["mark"], found["what"])


def run(document):
    """Run the blocks of a document in the current directory."""
    namespace = {"__name__": "__main__"}
    for block in blocks_of(document):
        if block.mark == "file":
            Path(block.what).write_text(block.code.lstrip("\n"))
            continue
        code = compile(block.code, str(document), "exec")
        if block.mark is None:
            exec(code, namespace)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_python_blocks_run(document, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    run(document)


@pytest.mark.parametrize("document", LINKED, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    for found in LINK.finditer(document.read_text()):
        target, section = found["target"], found["section"]
        if target.startswith(("http:", "https:")):
            continue
        place = document.parent / target if target else document
        assert place.exists(), target
        if section is not None:
            assert section in sections_of(place), found[0]


def sections_of(document):
    """Names that links give the sections of a document, as renderers make them of its headings."""
    text = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    titles = (found["title"].lower() for found in HEADING.finditer(text))
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


def test_code_blocks_have_a_language():
    """A block without one would escape the tests."""
    for document in DOCUMENTS:
        fences = re.findall(r"^```(.*)$", document.read_text(), re.MULTILINE)
        opening = fences[::2]
        assert len(fences) % 2 == 0, document
        assert all(opening), document


def main(document):
    """Run a document in an empty directory."""
    document = Path(document).resolve()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        sys.path.insert(0, folder)
        run(document)
        os.chdir(ROOT)


if __name__ == "__main__":
    main(sys.argv[1])

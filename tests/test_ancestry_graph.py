"""The drawing of a history that users print or see in a notebook."""

import asyncio
import re
import xml.etree.ElementTree as ElementTree

import pytest

import icechunk
from icechunk._plain import first_line, one_line, shortened, width

UNKNOWN = "ZZZZZZZZZZZZZZZZZZZG"


def commit(repo, branch, message):
    return repo.writable_session(branch).commit(message, allow_empty=True)


@pytest.fixture
def branched(repo):
    """Main with two commits, `trial` with one on top of the first, tag `v1` on the first."""
    first = commit(repo, "main", "one")
    repo.create_branch("trial", first)
    repo.create_tag("v1", first)
    second = commit(repo, "main", "two")
    third = commit(repo, "trial", "three")
    return repo, first, second, third


def test_all_branches(branched):
    repo, first, second, third = branched
    assert str(repo.ancestry_graph(plain=True)) == (
        f"  ● {third[:8]} (trial) three\n"
        "  │\n"
        f"● │ {second[:8]} (main) two\n"
        "│ │\n"
        f"●─╯ {first[:8]} (v1) one\n"
        "│\n"
        "●   1CECHNKR Repository initialized\n"
    )


def test_one_branch(branched):
    repo, first, _, third = branched
    assert str(repo.ancestry_graph(branch="trial", plain=True)) == (
        f"● {third[:8]} (trial) three\n"
        "│\n"
        f"● {first[:8]} (v1) one\n"
        "│\n"
        "● 1CECHNKR Repository initialized\n"
    )


def test_a_tag_and_a_snapshot(branched):
    repo, first, second, _ = branched
    tagged = f"● {first[:8]} (v1) one\n│\n● 1CECHNKR Repository initialized\n"
    assert str(repo.ancestry_graph(tag="v1", plain=True)) == tagged
    of_second = repo.ancestry_graph(snapshot_id=second, plain=True)
    assert str(of_second) == f"● {second[:8]} two\n│\n{tagged}"


def test_the_coroutine_draws_the_same(branched):
    repo = branched[0]
    drawn = asyncio.run(repo.ancestry_graph_async(branch="main", plain=True))
    assert str(drawn) == str(repo.ancestry_graph(branch="main", plain=True))


def test_a_drawing_does_not_change(branched):
    repo = branched[0]
    drawn = repo.ancestry_graph()
    before = str(drawn)
    commit(repo, "main", "later")
    assert str(drawn) == repr(drawn) == before != str(repo.ancestry_graph())
    assert isinstance(drawn, icechunk.AncestryGraph)


@pytest.mark.parametrize(
    ("selector", "error", "kind"),
    [
        ({"branch": "main", "tag": "v1"}, ValueError, None),
        ({"branch": "no"}, icechunk.RefNotFoundError, "ref-not-found"),
        ({"tag": "no"}, icechunk.RefNotFoundError, "ref-not-found"),
        ({"snapshot_id": UNKNOWN}, icechunk.SnapshotNotFoundError, "snapshot-not-found"),
        ({"snapshot_id": "bad"}, icechunk.InvalidInputError, "invalid-snapshot-id"),
    ],
)
def test_what_cannot_be_drawn(branched, selector, error, kind):
    with pytest.raises(error) as caught:
        branched[0].ancestry_graph(**selector)
    assert getattr(caught.value, "kind", None) == kind


HOSTILE = [
    "two\nlines",
    "\r\nblank first",
    "escape \x1b[31m\x1b]0;title\x07",
    "right to left \u202e\u2066",
    "other breaks \x0b\x0c\x85\u2028\u2029 end",
    "nul \x00 and not a character \ufffe\uffff",
    "<script>alert(1)</script> & \"quoted\" 'too' ]]>",
    "wide " + "日本語" * 30,
    "é" * 70,
    "combining " + "e\u0301" * 70,
    "\N{WOMAN}\u200d\N{PERSONAL COMPUTER} at work",
    "",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_messages_and_names_stay_within_their_line(repo, text):
    tip = commit(repo, "main", text)
    if text:
        repo.create_branch(text, tip)
        repo.create_tag(f"tag {text}", tip)
    graph = repo.ancestry_graph(plain=True)
    lines = str(graph).splitlines()
    assert len(lines) == 3
    assert lines[0].startswith(f"● {tip[:8]} (main")
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]", lines[0])
    html = graph._repr_html_()
    for image in (graph._repr_svg_(), html[html.index("<div") :]):
        assert "<script" not in image
        shown = "".join(ElementTree.fromstring(image).itertext())
        assert f"{tip[:8]} (main" in shown


def test_only_the_beginning_of_a_long_message_is_shown(repo):
    commit(repo, "main", "x" * 61)
    assert str(repo.ancestry_graph(plain=True)).splitlines()[0].endswith(f") {'x' * 57}...")
    commit(repo, "main", "x" * 60)
    assert str(repo.ancestry_graph(plain=True)).splitlines()[0].endswith(f") {'x' * 60}")


def test_a_notebook_gets_an_image_that_suits_its_page(branched):
    graph = branched[0].ancestry_graph()
    html, svg = graph._repr_html_(), graph._repr_svg_()
    assert '<div class="icechunk-repr"' in html
    assert "<style" not in html[html.index("<svg") :]  # it would apply to the whole page
    assert "currentColor" in html
    assert "prefers-color-scheme" in svg
    assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"


def test_text_is_measured_in_columns_of_a_terminal():
    assert width("abc") == 3
    assert width("日本") == 4
    assert width("e\u0301") == 1
    assert shortened("日本語日本語", 9) == "日本語..."
    assert shortened("日本語日本語", 12) == "日本語日本語"
    assert shortened("abcdef", 5) == "ab..."


def test_text_is_made_safe():
    assert first_line("a\nb") == "a"
    assert first_line("") == ""
    assert one_line("a\tb\nc\x1bd") == "a b\ufffdc\ufffdd"
    assert one_line("\u200d") == "\u200d"

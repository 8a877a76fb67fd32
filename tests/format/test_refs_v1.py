"""Files of branches and tags of spec version 1."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icechunk.errors import ErrorKind, FormatError, InvalidInputError
from icechunk.format.ids import INITIAL_SNAPSHOT_ID, encode_id
from icechunk.format.refs_v1 import (
    RefKey,
    decode_ref,
    encode_ref,
    encode_retired_ref,
    parse_ref_key,
    ref_key,
    retired_ref,
    tombstone_key,
)

SPELLED = {
    "main": "main",
    "": "",
    ".": ".",
    "..": "..",
    "a b": "a b",
    "ref.json": "ref.json",
    "branch.x": "branch.x",
    "a&b=c+d,;@$()-_:!'": "a&b=c+d,;@$()-_:!'",
    "100%": "100%25",
    "%41": "%2541",
    "a#b": "a%23b",
    "a\\b": "a%5Cb",
    "a`b": "a%60b",
    'a"b': "a%22b",
    "a|b": "a%7Cb",
    "{}[]<>": "%7B%7D%5B%5D%3C%3E",
    "^~*?": "%5E%7E%2A%3F",
    "\x00\t\x7f": "%00%09%7F",
    "ü": "%C3%BC",
    "\u200b": "%E2%80%8B",
    "🧊": "%F0%9F%A7%8A",
}
"""Names, and how the reference implementation spells them in paths of local files."""

DATA = b'{"snapshot":"1CECHNKREP0F1RSTCMT0"}'
names = st.text(st.characters(codec="utf-8", exclude_characters="/"))


@pytest.mark.parametrize(("name", "spelled"), SPELLED.items())
def test_names_are_spelled_where_paths_cannot_have_them(name, spelled):
    assert ref_key("branch", name) == f"refs/branch.{spelled}/ref.json"
    assert ref_key("tag", name) == f"refs/tag.{spelled}/ref.json"
    assert tombstone_key(name) == f"refs/tag.{spelled}/ref.json.deleted"
    assert ref_key("branch", name, verbatim=True) == f"refs/branch.{name}/ref.json"
    assert tombstone_key(name, verbatim=True) == f"refs/tag.{name}/ref.json.deleted"


@given(names, st.booleans())
def test_keys_are_read_as_they_are_written(name, verbatim):
    for kind in ("branch", "tag"):
        key = ref_key(kind, name, verbatim=verbatim)
        assert parse_ref_key(key, verbatim=verbatim) == RefKey(kind, name, deleted=False)
    key = tombstone_key(name, verbatim=verbatim)
    assert parse_ref_key(key, verbatim=verbatim) == RefKey("tag", name, deleted=True)


@pytest.mark.parametrize(
    "name", ["feat#1", "%41", "%c3%bc", "%C3", "%ZZ", "%", "ü", "100%", "a%2Eb"]
)
def test_what_is_no_spelling_is_the_name(name):
    assert parse_ref_key(f"refs/branch.{name}/ref.json") == RefKey("branch", name, deleted=False)


@pytest.mark.parametrize(
    "key",
    [
        "repo",
        "refs",
        "refs/",
        "refs/ref.json",
        "refs/loose",
        "refs/branch.x",
        "refs/branch.x/",
        "refs/branch.x/junk",
        "refs/branch.x/ref.json.deleted",
        "refs/branch.x/deep/ref.json",
        "refs/branch/ref.json",
        "refs/Branch.x/ref.json",
        "refs/tags.x/ref.json.deleted",
        "refs/other.x/ref.json",
        "refs//ref.json",
        "/refs/branch.x/ref.json",
        "elsewhere/branch.x/ref.json",
    ],
)
@pytest.mark.parametrize("verbatim", [False, True])
def test_other_keys_are_of_no_ref(key, verbatim):
    assert parse_ref_key(key, verbatim=verbatim) is None


@pytest.mark.parametrize("name", ["a/b", "/", "a\ud800b"])
@pytest.mark.parametrize("verbatim", [False, True])
def test_names_of_no_ref(name, verbatim):
    for key_of in (
        lambda **of: ref_key("branch", name, **of),
        lambda **of: tombstone_key(name, **of),
    ):
        with pytest.raises(InvalidInputError, match="invalid ref name") as caught:
            key_of(verbatim=verbatim)
        assert caught.value.kind == ErrorKind.INVALID_REF_NAME
        caught.value.message.encode()


def test_content():
    assert encode_ref(INITIAL_SNAPSHOT_ID) == DATA
    for data in (DATA, DATA.lower(), b' {"x": 1, "snapshot": "1CECHNKREP0F1RSTCMT0"}\n'):
        assert decode_ref(data, "key") == INITIAL_SNAPSHOT_ID


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"nonsense",
        b"[]",
        b"\xff",
        b'{"snapshot":3}',
        b'{"snapshot":"short"}',
        b'{"snapshot":"1CECHNKREP0F1RSTCMTU"}',
        DATA + b" x",
        b"[" * 100_000,
    ],
)
def test_content_that_names_no_snapshot(data):
    with pytest.raises(FormatError, match=r"^refs/branch.x/ref.json names no snapshot") as caught:
        decode_ref(data, "refs/branch.x/ref.json")
    assert caught.value.kind == ErrorKind.SERIALIZATION


def test_retired_branches_say_where_they_were():
    retired = encode_retired_ref(INITIAL_SNAPSHOT_ID, b"\x01" * 12)
    by = encode_id(b"\x01" * 12)
    assert retired == f'{{"snapshot":"{by}","migrated from":"1CECHNKREP0F1RSTCMT0"}}'.encode()
    assert retired_ref(retired) == INITIAL_SNAPSHOT_ID
    with pytest.raises(FormatError, match=r"^refs/x was retired by a migration"):
        decode_ref(retired, "refs/x")
    for other in (
        DATA,
        b"",
        b"[]",
        b'{"migrated from": 1}',
        b'{"migrated from": "short"}',
        b"[" * 100_000,
    ):
        assert retired_ref(other) is None

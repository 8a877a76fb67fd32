"""The key grammar: every form of key, and everything that is none."""

import pytest

from icechunk.errors import InvalidInputError
from icechunk.keys import (
    ChunkKey,
    MetadataKey,
    V2Key,
    chunk_key_prefix,
    chunk_prefix,
    metadata_key,
    parse_key,
)

VALID = {
    "zarr.json": MetadataKey("/"),
    "/zarr.json": MetadataKey("/"),
    "a/zarr.json": MetadataKey("/a"),
    "a/b c/é/zarr.json": MetadataKey("/a/b c/é"),
    "c/zarr.json": MetadataKey("/c"),
    "c": ChunkKey("/", ()),
    "a/c": ChunkKey("/a", ()),
    "a/c/c": ChunkKey("/a/c", ()),
    "c/0": ChunkKey("/", (0,)),
    "c/0/1": ChunkKey("/", (0, 1)),
    "a/c/0/1/2": ChunkKey("/a", (0, 1, 2)),
    "a/c/0/c/1": ChunkKey("/a/c/0", (1,)),
    "a/c/0/c": ChunkKey("/a/c/0", ()),
    "a/c/007": ChunkKey("/a", (7,)),
    "a/c/4294967295": ChunkKey("/a", (2**32 - 1,)),
    ".zarray": V2Key("/"),
    "a/.zattrs": V2Key("/a"),
}

INVALID = [
    "",
    "/",
    "foo",
    "a/foo",
    "a//c/0",
    "a//zarr.json",
    "//zarr.json",
    "a/../b/zarr.json",
    "./zarr.json",
    "a/c/-1",
    "a/c/1.0",
    "a/c/x",
    "a/c/0/",
    "a/c//0",
    "a/c/٣",
    "a/c/4294967296",
    "a/c/" + "9" * 5000,
    "cc/0",
    "a/c.0",
    "zarr.json/x",
]


@pytest.mark.parametrize(("text", "key"), VALID.items())
def test_every_form_is_understood(text, key):
    assert parse_key(text) == key
    assert type(parse_key(text)) is type(key)


@pytest.mark.parametrize("text", INVALID)
def test_anything_else_is_refused_by_name(text):
    with pytest.raises(InvalidInputError) as caught:
        parse_key(text)
    assert caught.value.kind == "invalid-key"
    assert text in str(caught.value)


@pytest.mark.parametrize("path", ["/", "/a", "/a/b", "/c", "/a/c/0"])
def test_writing_a_key_and_parsing_it_agree(path):
    assert parse_key(metadata_key(path)) == MetadataKey(path)
    assert parse_key(f"{chunk_key_prefix(path)}/3/4") == ChunkKey(path, (3, 4))


@pytest.mark.parametrize(
    ("array", "directory", "leading"),
    [
        ("/a", "/a/c", ()),
        ("/a", "/a/c/3", (3,)),
        ("/a", "/a/c/3/4", (3, 4)),
        ("/a", "/a/x", None),
        ("/a", "/a/c/x", None),
        ("/a", "/a/cc", None),
        ("/", "c/5", (5,)),
        ("/", "c", ()),
    ],
)
def test_a_directory_inside_an_array_selects_by_leading_coordinates(array, directory, leading):
    assert chunk_prefix(array, directory) == leading

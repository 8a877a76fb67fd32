"""What locations of virtual chunks mean, and that none leaves its container."""

from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import icechunk
from icechunk import ErrorKind, InvalidInputError, VirtualChunkContainer
from icechunk.config.locations import Containers, normalized

S3 = icechunk.s3_store(region="us-east-1")
LOCAL = icechunk.local_filesystem_store("/data/in")
HTTP = icechunk.http_store()


def containers(**more):
    """Make containers of all kinds, nested ones among them."""
    stores = {
        "s3://bucket/": S3,
        "s3://bucket/pre/": S3,
        "s3://bucket/pre/inner/": S3,
        "http://host/data/": HTTP,
        "https://host:8443/data/": HTTP,
        "gs://bucket/pre/": icechunk.gcs_store(),
        "file:///data/in/": LOCAL,
        "file:///data/with space/": LOCAL,
        **more,
    }
    names = {"s3://bucket/pre/": "s3", "file:///data/in/": "local"}
    return Containers(
        {
            prefix: VirtualChunkContainer(prefix, store, names.get(prefix))
            for prefix, store in stores.items()
        }
    )


KNOWN = containers()


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("s3://b/k", "s3://b/k"),
        ("S3://B/k", "s3://B/k"),
        (
            "S3://bkt/pre/a//b/../c?versionId=1#fr%20ag",
            "s3://bkt/pre/a//b/../c?versionId=1#fr%20ag",
        ),
        ("VCC://Name/k", "vcc://Name/k"),
        ("file:///a/f", "file:///a/f"),
        ("FILE:/a/f", "file:///a/f"),
        ("file://localhost/a/f", "file:///a/f"),
        ("file:///a/b/../f", "file:///a/f"),
        ("file:///a/./b/%2E%2e/f", "file:///a/f"),
        ("file:///../../f", "file:///f"),
        ("file:///a/..", "file:///"),
        ("file:///a//f", "file:///a//f"),
        ("file:///a b/ü", "file:///a%20b/%C3%BC"),
        ("file:///a%20b/f?x y#z", "file:///a%20b/f?x%20y#z"),
        ("file:///a\\..\\f", "file:///f"),
    ],
)
def test_locations_are_kept_but_for_scheme_and_files(given, stored):
    assert normalized(given) == stored
    assert normalized(stored) == stored


@pytest.mark.parametrize(
    "location",
    ["", "foo", "/a/f", "s3:x", "s3://", "s3:///k", "1s3://b/k", "bad scheme://b/k", "s3://b/\n",
     "s3://b/\x00", "s3://b/\ud800", "://b", "s3://?x"],
)  # fmt: skip
def test_malformed_locations(location):
    with pytest.raises(InvalidInputError, match="error parsing") as error:
        normalized(location)
    assert error.value.kind == ErrorKind.INVALID_VIRTUAL_REF


@pytest.mark.parametrize(
    ("location", "prefix", "path"),
    [
        ("s3://bucket/x", "s3://bucket/", "x"),
        ("s3://bucket/prefix", "s3://bucket/", "prefix"),
        ("s3://bucket/pre/x", "s3://bucket/pre/", "pre/x"),
        ("s3://bucket/%70re/x", "s3://bucket/pre/", "pre/x"),
        ("s3://bucket/pre/inner/x?versionId=3", "s3://bucket/pre/inner/", "pre/inner/x"),
        ("s3://bucket/a%3Fb%23c%25d", "s3://bucket/", "a?b#c%d"),
        ("vcc://s3/x/y", "s3://bucket/pre/", "pre/x/y"),
        ("vcc://s3/inner/x", "s3://bucket/pre/", "pre/inner/x"),
        ("HTTP://HOST:80/data/x", "http://host/data/", "data/x"),
        ("https://host:8443/data/x", "https://host:8443/data/", "data/x"),
        ("file:///data/in/f", "file:///data/in/", "data/in/f"),
        ("file:///data/out/../in/f", "file:///data/in/", "data/in/f"),
        ("file:///data/with%20space/f", "file:///data/with space/", "data/with space/f"),
        ("vcc://local/sub/../f", "file:///data/in/", "data/in/f"),
    ],
)
def test_targets(location, prefix, path):
    target = KNOWN.target(location)
    assert (target.container.url_prefix, target.path) == (prefix, path)
    assert KNOWN.find(location) == target.container


@pytest.mark.parametrize(
    "location",
    ["s3://Bucket/x", "s3://other/x", "s3://bucket.evil/x", "gs://bucket/x", "http://host:81/data/x",
     "https://host/data/x", "http://host/data", "file:///data/in/../secret", "file:///data/in",
     "file:///data/in/%2e%2e/secret", "file://evil/data/in/f", "file:///data/in\\..\\secret",
     "vcc://nobody/x", "vcc://local/../secret", "vcc://local/%2e%2e/secret",
     "vcc://local/..\\secret", "ftp://bucket/x"],
)  # fmt: skip
def test_locations_in_no_container(location):
    assert KNOWN.find(location) is None
    with pytest.raises(InvalidInputError, match="edit the repository configuration") as error:
        KNOWN.target(location)
    assert error.value.kind == ErrorKind.NO_CONTAINER_FOR_VIRTUAL_CHUNK


@pytest.mark.parametrize("location", ["vcc://", "vcc:///x"])
def test_containers_without_name(location):
    for ask in (normalized, KNOWN.find, KNOWN.target):
        with pytest.raises(InvalidInputError) as error:
            ask(location)
        assert error.value.kind == ErrorKind.NO_CONTAINER_FOR_VIRTUAL_CHUNK


@pytest.mark.parametrize(
    "location",
    ["file:///data/in/..%2fsecret", "file:///data/in/%2e%2e%2Fsecret", "file:///data/in//f",
     "file:///data/in/sub%2f..%2f..%2fsecret", "file:///data/in/", "http://host/data/../x",
     "http://host/data/..%2fx", "http://user@host/data/x", "http://host:80@evil/data/x",
     "http://host\\@evil/data/x", "http://host/data/%zz", "http://host/data/%00", "http://host/data/%ff",
     "gs://bucket/pre//x"],
)  # fmt: skip
def test_locations_that_could_be_mistaken_for_others(location):
    for ask in (KNOWN.find, KNOWN.target):
        with pytest.raises(InvalidInputError) as error:
            ask(location)
        assert error.value.kind == ErrorKind.INVALID_VIRTUAL_REF


@pytest.mark.parametrize("key", ["a//b", "a/../b", "./a", "a/"])
def test_keys_that_only_some_clients_can_address_are_refused(key):
    for ask in (KNOWN.find, KNOWN.target):
        with pytest.raises(InvalidInputError, match="cannot be addressed") as error:
            ask(f"s3://bucket/{key}")
        assert error.value.kind == ErrorKind.INVALID_VIRTUAL_REF


def test_containers_that_serve_nothing_are_left_out():
    odd = {prefix: VirtualChunkContainer(prefix, S3, "") for prefix in ("", "s3://b", "x", "s3://")}
    assert Containers(odd).plain_starts == {}
    assert Containers(None).find("s3://b/x") is None


PIECES = st.sampled_from(
    ["..", ".", "", "%2e%2e", "%2E.", "..%2f", "%2f", "%5c", "\\", "%252e%252e", "a", "in", "pre",
     "secret", "%00", "%", "?", "#", "@evil", ":80", " ", "ü", "%c3%bc", "//", "\u2025", "\uff0e"]
)  # fmt: skip
STARTS = st.sampled_from(
    ["file:///data/in", "file://", "file:/data", "FILE:///data/in", "vcc://local", "vcc://s3",
     "vcc:", "s3://bucket/pre", "S3://bucket", "http://host/data", "http://host",
     "gs://bucket/pre", ""]
)  # fmt: skip


@given(STARTS, st.lists(PIECES, max_size=6), st.sampled_from(["/", ""]))
@example("file:///data/in", ["..%2f", "secret"], "/")
def test_no_location_leaves_its_container(start, pieces, glue):
    location = "/".join([start, *pieces]) if glue else start + "/" + "".join(pieces)
    try:
        target = KNOWN.target(location)
    except InvalidInputError:
        return
    scheme, _, rest = target.container.url_prefix.partition("://")
    authority, _, path = rest.partition("/")
    assert target.authority == authority
    assert target.path.startswith(unquote(path))
    assert not {"", ".", ".."} & set(target.path.split("/"))
    assert all(character >= " " for character in target.path)
    assert target.location.startswith(scheme)

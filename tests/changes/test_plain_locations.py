"""Locations that are settled as a column are those that looking closely would not change."""

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import icechunk
from icechunk import InvalidInputError, VirtualChunkContainer
from icechunk.changes import plain_locations
from icechunk.changes.plain_locations import plain_rows
from icechunk.chunks import RaggedBytes
from icechunk.config.locations import Containers, normalized

CONTAINERS = {
    prefix: VirtualChunkContainer(prefix, store, name)
    for prefix, store, name in (
        ("s3://bucket/pre/", icechunk.s3_store(region="us-east-1"), "s3"),
        ("s3://bucket/pre/in/", icechunk.s3_store(region="us-east-1"), None),
        ("gs://bucket/pre/", icechunk.gcs_store(), "gs"),
        ("file:///data/in/", icechunk.local_filesystem_store("/data/in"), None),
    )
}
KNOWN = Containers(CONTAINERS)
ONLY_S3 = Containers({key: one for key, one in CONTAINERS.items() if key.startswith("s3")})

STARTS = st.sampled_from(
    [*KNOWN.plain_starts, "s3://bucket/", "S3://bucket/pre/", "gs://other/", "vcc://x/", "", "s3:"]
)
RESTS = st.text(st.sampled_from('ab.-/%\\? #"ü\n\x7f:@~'), max_size=8)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(plain_locations, "MIN_ROWS", 1)
    monkeypatch.setattr(plain_locations, "ROWS_AT_ONCE", 3)


def settled(texts, containers, *, validate=True):
    return plain_rows(RaggedBytes.from_strings(texts), containers, validate=validate).tolist()


def needs_no_look(text, containers, validate):
    try:
        stored = normalized(text)
        return stored == text and (not validate or containers.find(text) is not None)
    except InvalidInputError:
        return False


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.builds(str.__add__, STARTS, RESTS), min_size=1, max_size=7),
    st.sampled_from([KNOWN, ONLY_S3, Containers(None)]),
    st.booleans(),
)
def test_what_is_settled_is_stored_as_given_and_in_a_container(texts, containers, validate):
    plain = settled(texts, containers, validate=validate)
    for text, is_plain in zip(texts, plain, strict=True):
        assert not is_plain or needs_no_look(text, containers, validate)


@pytest.mark.parametrize("start", KNOWN.plain_starts)
def test_usual_locations_are_settled_whatever_is_beside_them(start):
    usual = [f"{start}run-1/tas_{year}.nc" for year in range(1950, 1957)]
    assert all(settled(usual, KNOWN))
    odd = [*usual, "", f"{start}a%20b", "gs://bucket/pre/a//b", *usual]
    assert settled(odd, KNOWN) == [True] * 7 + [False] * 3 + [True] * 7


def test_object_stores_take_keys_that_urls_would_encode():
    assert all(settled(['s3://bucket/pre/a b"', "s3://bucket/pre/{\\}`<>"], ONLY_S3))
    refused = [
        "s3://bucket/pre/a?b",
        "s3://bucket/pre//a",
        "s3://bucket/pre/../a",
        "s3://bucket/pre/a/",
    ]
    assert not any(settled(refused, ONLY_S3))


def test_without_validation_the_host_need_not_be_known():
    texts = ["s3://other/a", "s3://other/b//c", "s3://another/a", "s3://other/a\n"]
    assert settled(texts, KNOWN, validate=False) == [True, True, False, False]
    assert settled(texts, KNOWN) == [False] * 4
    for first in ("file:///a/b", "s3:///a", "x", "", "S3://b/c", "s3://b"):
        assert settled([first] * 4, KNOWN, validate=False) == [False] * 4


def test_many_locations_are_stored_as_one_by_one(storage):
    """Repeated, changed, skipped and empty ones, in a column long enough to be folded."""
    config = icechunk.RepositoryConfig()
    for one in CONTAINERS.values():
        config.set_virtual_chunk_container(one)
    store = icechunk.Repository.create(storage, config).writable_session("main").store
    kinds = ["s3://bucket/pre/a", "", "FILE:/data/in/x y", "s3://nowhere/a", "gs://bucket/pre/ü"]
    texts = [kinds[row // 10 % 5] for row in range(600)]
    zarr.create_array(store, name="a", shape=(600,), chunks=(1,), dtype="u1")
    ones = np.ones(600, np.uint64)
    skipped = store.set_virtual_refs_arr("a", (600,), texts, ones, ones)
    assert skipped == [(row,) for row in range(600) if texts[row] == "s3://nowhere/a"]
    stored = {"": None, "FILE:/data/in/x y": "file:///data/in/x%20y", "s3://nowhere/a": None}
    workspace = store.session._workspace
    table = workspace.chunk_table(workspace.nodes.get("/a"))
    found = {coords[0]: ref.location for coords, ref in table.items()}
    wanted = {row: stored.get(text, text) for row, text in enumerate(texts)}
    assert found == {row: text for row, text in wanted.items() if text is not None}

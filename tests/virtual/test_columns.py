"""References set together are stored, skipped and refused as they are one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import icechunk
from icechunk import InvalidInputError
from icechunk.changes.documents import ArrayGrid
from icechunk.changes.virtual_refs import refs_of_arrays, refs_of_specs
from icechunk.config.locations import Containers, normalized
from icechunk.virtual import VirtualChunkSpec

STORES = {
    "s3://bucket/pre/": icechunk.s3_store(region="us-east-1"),
    "http://host/data/": icechunk.http_store(),
    "file:///data/": icechunk.local_filesystem_store("/data"),
}
CONTAINERS = Containers(
    {
        prefix: icechunk.VirtualChunkContainer(prefix, store, prefix[:2])
        for prefix, store in STORES.items()
    }
)
STARTS = st.sampled_from([*STORES, "vcc://s3/", "vcc://fi/", "S3://bucket/pre/", "gs://b/", ""])
RESTS = st.sampled_from(
    ["a", "a/b.nc", "x" * 40, "", "a/", "a//b", "../x", "./x", ".x", "%41", "%2e%2e/x", "a b", "ü",
     "?", "#a", "\\", "~", "a\x7f", "//"]
)  # fmt: skip
LOCATIONS = st.lists(st.builds(str.__add__, STARTS, RESTS), min_size=1, max_size=6)


def one_by_one(locations, validate):
    """What is stored at each place, None where it is skipped; None for all if one is refused."""
    stored = []
    for location in locations:
        try:
            text = normalized(location)
            is_found = not validate or CONTAINERS.find(text) is not None
        except InvalidInputError:
            return None
        stored.append(text if is_found else None)
    return stored


@given(LOCATIONS, st.booleans(), st.booleans())
def test_together_is_as_one_by_one(locations, validate, as_objects):
    n = len(locations)
    grid = ArrayGrid((n,), (n,), None)
    numbers = np.arange(n, dtype=np.uint64)
    expected = one_by_one(locations, validate)
    if as_objects:
        specs = [VirtualChunkSpec([i], text, i, i + 1) for i, text in enumerate(locations)]
        refs = refs_of_specs(specs, 1)
    else:
        refs = refs_of_arrays((n,), locations, numbers, numbers + np.uint64(1), None, None)
    if expected is None:
        with pytest.raises(InvalidInputError):
            refs.table(grid, "/a", CONTAINERS, validate=validate)
        return
    table, skipped = refs.table(grid, "/a", CONTAINERS, validate=validate)
    assert skipped == [(i,) for i, text in enumerate(expected) if text is None]
    found = {int(table.coords[row, 0]): table.ref(row) for row in range(len(table))}
    assert {i: (ref.location, ref.offset, ref.length) for i, ref in found.items()} == {
        i: (text, i, i + 1) for i, text in enumerate(expected) if text is not None
    }

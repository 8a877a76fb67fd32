"""Strategies and the slow twin of the chunk layer: a table is a dict of references."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import strategies as st

from icechunk.chunks import (
    ChunkKind,
    ChunkRef,
    ChunkTable,
    RaggedBytes,
    coords,
    lookup,
    ragged,
    runs,
)

CORNERS = [0, 1, 2, 255, 256, 65536, 2**31, 2**32 - 2, 2**32 - 1]

U64 = st.one_of(st.integers(0, 5), st.sampled_from([0, 2**32, 2**63, 2**64 - 1]))

IDS = st.one_of(st.sampled_from([b"a" * 12, b"\0" * 12]), st.binary(min_size=12, max_size=12))
LOCATIONS = st.one_of(st.sampled_from(["s3://b/x", "s3://b/ü"]), st.text(max_size=6))
REFS = st.one_of(
    st.tuples(IDS, U64, U64).map(lambda fields: ChunkRef(1, *fields)),
    st.tuples(
        U64, U64, LOCATIONS, st.sampled_from([None, "e", "é"]), st.sampled_from([0, 1, 2**32 - 1])
    ).map(lambda f: ChunkRef(2, None, f[0], f[1], None, *f[2:])),
    st.binary(max_size=4).map(lambda data: ChunkRef(3, length=len(data), inline=data)),
    st.just(ChunkRef(0)),
)

SIMPLE_REFS = st.sampled_from([b"a" * 12, b"b" * 12]).map(lambda name: ChunkRef(1, name, 0, 7))


def places(rank):
    """Coordinates that meet often, in boxes small, full, sparse and beyond 2**63."""
    axis = st.one_of(st.integers(0, 3), st.sampled_from(CORNERS))
    return st.tuples(*[axis] * rank)


@st.composite
def models(draw, rank, max_size=12):
    refs = draw(st.sampled_from([REFS, SIMPLE_REFS]))
    coord = draw(st.sampled_from([places(rank), st.tuples(*[st.integers(0, 2)] * rank)]))
    return draw(st.dictionaries(coord, refs, max_size=max_size))


def build(rank, model):
    return ChunkTable.from_refs(rank, model)


def check(table, rank, model):
    """The table says exactly what the model says, and its columns keep every promise."""
    assert dict(table.items()) == model
    assert [tuple(c) for c in table.coords.tolist()] == sorted(model)
    n = len(model)
    assert len(table) == n
    assert table.rank == rank
    assert table.coords.shape == (n, rank)
    assert table.coords.dtype == np.uint32
    assert table.coords.flags.c_contiguous
    assert table.kinds.dtype == np.uint8
    assert table.lengths.dtype == np.uint64
    kinds = {ref.kind for ref in model.values()}
    assert (table.ids is not None) == (ChunkKind.NATIVE in kinds)
    assert (table.inline is not None) == (ChunkKind.INLINE in kinds)
    assert (table.locations is not None) == (ChunkKind.VIRTUAL in kinds)
    assert (table.offsets is not None) == any(ref.offset for ref in model.values())
    assert (table.etags is not None) == any(ref.etag for ref in model.values())
    assert (table.last_modified is not None) == any(r.last_modified for r in model.values())
    assert table.lengths.tolist() == [model[c].length for c in sorted(model)]
    for name in ("coords", "kinds", "ids", "offsets", "lengths", "last_modified"):
        column = getattr(table, name)
        assert column is None or (len(column) == n and not column.flags.writeable)
    for name in ("inline", "locations", "etags"):
        column = getattr(table, name)
        if column is not None:
            assert isinstance(column, RaggedBytes)
            assert len(column) == n
            assert column.offsets[0] == 0
            assert column.offsets[-1] == len(column.data)


@pytest.fixture(scope="session")
def kit():
    return SimpleNamespace(
        ranks=st.integers(0, 5), places=places, models=models, build=build, check=check, refs=REFS
    )


@pytest.fixture(scope="module", params=["as shipped", "the other way"])
def thresholds(request):
    """Run a module's tests with every choice between equivalent paths made both ways.

    Tables of a test are small: as shipped they are cut into slices and searched by keys.
    """
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "the other way":
            patch.setattr(runs, "_FEW", 0)
            patch.setattr(runs, "_ROWS_PER_SLICE", 10**9)
            patch.setattr(ragged, "_BYTES_PER_SLICE", 2)
            patch.setattr(ragged, "_BYTES_PER_COPY", 0)
            patch.setattr(ragged, "_STRINGS", 2)
            patch.setattr(ragged, "_BLOCK", 3)
            patch.setattr(coords, "_BLOCK_ROWS", 2)
            patch.setattr(coords, "_BISECT_RATIO", 0)
            patch.setattr(lookup, "_KEYS_RATIO", 0)
        yield request.param

"""Finding the manifest of a chunk, among few and among many."""

import pytest

from icechunk.changes.extents import ManifestFinder
from icechunk.format.snapshot import ManifestRef


def ref(number, *extents):
    return ManifestRef(number.to_bytes(12, "big"), extents)


def boxes(count):
    return [ref(i, (2 * i, 2 * i + 1), (0, 5)) for i in range(count)]


@pytest.mark.parametrize("count", [0, 1, 16, 17, 500])
def test_the_box_around_the_coordinates_is_found(count):
    refs = boxes(count)
    finder = ManifestFinder(refs)
    for i, wanted in enumerate(refs):
        assert finder.find((2 * i, 4)) is wanted
        assert finder.find((2 * i + 1, 4)) is None
        assert finder.find((2 * i, 5)) is None
    assert finder.find((2**32 - 1, 2**32 - 1)) is None


@pytest.mark.parametrize("count", [2, 40])
def test_of_several_the_first_counts_and_no_ranges_cover_everything(count):
    everything = ref(999)
    refs = [*boxes(count), everything, ref(1000, (0, 100), (0, 100))]
    finder = ManifestFinder(refs)
    assert finder.find((0, 0)) is refs[0]
    assert finder.find((1, 0)) is everything
    assert finder.find((2**32 - 1, 0)) is everything


@pytest.mark.parametrize("count", [1, 40])
def test_scalars_have_one_chunk_in_the_first_manifest(count):
    refs = [ref(i) for i in range(count)]
    assert ManifestFinder(refs).find(()) is refs[0]

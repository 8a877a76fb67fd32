"""Conditions on arrays, and the splitting rules made of them."""

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icechunk.config import (
    ManifestPreloadCondition,
    ManifestSplitCondition,
    ManifestSplitDimCondition,
    ManifestSplittingConfig,
)
from icechunk.config.preload import default_preload_condition
from icechunk.config.splitting import default_splitting
from icechunk.config.splitting_rules import split_sizes_for

Split = ManifestSplitCondition
Preload = ManifestPreloadCondition
Dim = ManifestSplitDimCondition


@pytest.mark.parametrize(
    ("condition", "path", "expected"),
    [
        (Split.AnyArray(), "/a", True),
        (Split.path_matches("b"), "/a/b/c", True),
        (Split.path_matches("^/a/b$"), "/a/b", True),
        (Split.path_matches("^a"), "/a", False),
        (Split.name_matches("b"), "/b/c", False),
        (Split.name_matches("^c$"), "/b/c", True),
        (Split.name_matches("("), "/(", False),
        (Split.name_matches("b") | Split.name_matches("c"), "/c", True),
        (Split.name_matches("b") & Split.name_matches("c"), "/c", False),
        (Split.name_matches("b") & Split.path_matches("^/a"), "/a/b", True),
        (Split.or_conditions([]), "/a", False),
        (Split.and_conditions([]), "/a", True),
    ],
)
def test_split_conditions(condition: ManifestSplitCondition, path: str, expected: bool) -> None:
    assert condition.matches(path) is expected


@pytest.mark.parametrize(
    ("condition", "path", "num_refs", "expected"),
    [
        (Preload.true(), "/a", 0, True),
        (Preload.false(), "/a", 0, False),
        (Preload.num_refs(2, 4), "/a", 2, True),
        (Preload.num_refs(2, 4), "/a", 4, False),
        (Preload.num_refs(None, 4), "/a", 0, True),
        (Preload.num_refs(4, None), "/a", 3, False),
        (Preload.num_refs(5, 2), "/a", 3, False),
        (Preload.path_matches("a") & Preload.num_refs(None, 4), "/a", 3, True),
        (Preload.name_matches("a") | Preload.false(), "/a/b", 3, False),
    ],
)
def test_preload_conditions(
    condition: ManifestPreloadCondition, path: str, num_refs: int, expected: bool
) -> None:
    assert condition.matches(path, num_refs) is expected


@pytest.mark.parametrize("name", ["time", "t", "lat", "longitude", "x", "depth", "lev", "year"])
def test_coordinates_are_preloaded(name: str) -> None:
    condition = default_preload_condition()
    assert condition.matches(f"/model/{name}", 1000)
    assert not condition.matches(f"/model/{name}", 1001)


@pytest.mark.parametrize("name", ["temperature", "total", "xylem", "precipitation", "my_time_x"])
def test_data_is_not_preloaded(name: str) -> None:
    assert not default_preload_condition().matches(f"/time/{name}", 1)


def test_families_do_not_mix() -> None:
    for wrong in (1, Preload.true()):
        with pytest.raises(TypeError):
            Split.AnyArray() & wrong  # type: ignore[operator]
        with pytest.raises(TypeError):
            Split.or_conditions([wrong])  # type: ignore[list-item]
    with pytest.raises(TypeError):
        Split.and_conditions(Split.AnyArray())  # type: ignore[arg-type]


def test_arguments() -> None:
    with pytest.raises(TypeError):
        Split.path_matches(1)  # type: ignore[arg-type]
    with pytest.raises(OverflowError):
        Dim.Axis(-1)
    with pytest.raises(TypeError):
        Dim.Axis("a")  # type: ignore[arg-type]
    with pytest.raises(OverflowError):
        Preload.num_refs(-1, 2)


def test_variants() -> None:
    assert Split.PathMatches("a") == Split.path_matches("a")
    assert Split.Or([Split.AnyArray()]) == Split.or_conditions([Split.AnyArray()])  # type: ignore
    assert Preload.NumRefs(1, 2) == Preload.num_refs(1, 2)
    assert isinstance(Dim.Axis(1), ManifestSplitDimCondition)
    assert isinstance(Split.AnyArray(), ManifestSplitCondition)
    assert Split.PathMatches("a").regex == "a"
    conditions: list[Any] = [Split.AnyArray() | Split.path_matches("x"), Dim.Any(), Dim.Axis(3)]
    assert pickle.loads(pickle.dumps(conditions)) == conditions
    assert hash(Split.AnyArray()) == hash(Split.AnyArray())


# Splitting rules


def rules(*items: Any) -> ManifestSplittingConfig:
    return ManifestSplittingConfig(tuple((condition, tuple(dims)) for condition, dims in items))


def test_first_match_of_each_axis_decides() -> None:
    config = rules(
        (Split.name_matches("^b$"), [(Dim.Axis(0), 9)]),
        (Split.name_matches("^a$"), [(Dim.DimensionName("^y"), 2), (Dim.Axis(0), 3)]),
        (Split.AnyArray(), [(Dim.Axis(0), 4), (Dim.Any(), 5)]),
    )
    assert split_sizes_for(config, "/a", ("x", "y", "z"), 3) == (3, 2, 5)
    assert split_sizes_for(config, "/a", ("x", None, None), 3) == (3, 5, 5)
    assert split_sizes_for(config, "/a", None, 2) == (3, 5)
    assert split_sizes_for(config, "/g/b", ("y",), 1) == (9,)
    assert split_sizes_for(config, "/g/c", ("y",), 2) == (4, 5)
    assert split_sizes_for(config, "/a", None, 0) == ()


def test_no_splitting() -> None:
    assert split_sizes_for(None, "/a", None, 2) == (None, None)
    assert split_sizes_for(ManifestSplittingConfig(), "/a", None, 2) == (None, None)
    only_first = rules((Split.AnyArray(), [(Dim.Axis(0), 3)]))
    assert split_sizes_for(only_first, "/a", None, 2) == (3, None)
    invalid = rules(
        (Split.path_matches("("), [(Dim.Any(), 3)]),
        (Split.AnyArray(), [(Dim.DimensionName("("), 3)]),
    )
    assert split_sizes_for(invalid, "/(", ("(",), 1) == (None,)
    assert split_sizes_for(rules((Split.AnyArray(), [(Dim.Any(), 0)])), "/a", None, 1) == (None,)
    assert split_sizes_for(default_splitting(), "/a", None, 1) == (2**32 - 1,)


DIMS = st.one_of(
    st.integers(0, 3).map(Dim.Axis),
    st.sampled_from("xyz").map(Dim.DimensionName),
    st.just(Dim.Any()),
)
ARRAYS = st.sampled_from(
    [Split.AnyArray(), Split.name_matches("a"), Split.name_matches("b"), Split.path_matches("^/g/")]
)


@given(
    st.lists(
        st.tuples(ARRAYS, st.lists(st.tuples(DIMS, st.integers(1, 9)), max_size=3)), max_size=4
    ),
    st.sampled_from(["/a", "/b", "/g/a"]),
    st.none() | st.lists(st.none() | st.sampled_from("xyz"), min_size=3, max_size=3),
)
def test_resolution_against_the_obvious_way(items: Any, path: str, names: Any) -> None:
    def size(axis: int) -> int | None:
        for condition, dims in items:
            for dim, chunks in dims:
                if not condition.matches(path):
                    continue
                if dim == Dim.Any() or dim == Dim.Axis(axis):
                    return chunks
                if names and names[axis] and dim == Dim.DimensionName(names[axis]):
                    return chunks
        return None

    assert split_sizes_for(rules(*items), path, names, 3) == tuple(map(size, range(3)))


@pytest.mark.parametrize("pattern", ["(", "*", "a{2,1}", "(?P<n>", "[z-a]", r"\p{Greek}"])
def test_an_invalid_pattern_never_matches_and_is_reported_once(
    pattern: str, caplog: pytest.LogCaptureFixture
) -> None:
    from icechunk.config import regexes

    regexes._compiled.cache_clear()
    for _ in range(2):
        assert not Split.path_matches(pattern).matches(f"/{pattern}")
        assert not Split.name_matches(pattern).matches(f"/{pattern}")
        assert not Preload.path_matches(pattern).matches(f"/{pattern}", 1)
        config = rules((Split.AnyArray(), [(Dim.DimensionName(pattern), 3)]))
        assert split_sizes_for(config, "/a", (pattern,), 1) == (None,)
    assert Split.or_conditions([Split.path_matches(pattern), Split.AnyArray()]).matches("/a")
    [record] = caplog.records
    assert repr(pattern) in record.getMessage()
    assert record.levelname == "WARNING"


@given(
    st.lists(
        st.tuples(
            ARRAYS, st.dictionaries(DIMS, st.integers(1, 9), max_size=3).map(lambda d: d.items())
        ),
        max_size=4,
        unique_by=lambda rule: rule[0],
    )
)
def test_dictionaries_there_and_back(items: Any) -> None:
    config = rules(*items)
    as_dict = config.to_dict()
    assert list(as_dict) == [condition for condition, _ in items]
    assert [list(dims.items()) for dims in as_dict.values()] == [list(d) for _, d in items]
    assert ManifestSplittingConfig.from_dict(as_dict) == config

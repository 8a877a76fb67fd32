import pytest
from effort import EFFORT
from hypothesis import given, settings
from hypothesis import strategies as st

from icechunk.errors import InvalidInputError
from icechunk.format import layout, paths
from icechunk.format.ids import INITIAL_SNAPSHOT_ID


@pytest.mark.parametrize("path", ["/", "/a", "/a/b", "/a b/é", "/...", "/a/.b"])
def test_legal_paths(path: str) -> None:
    assert paths.validate_path(path) == path


@pytest.mark.parametrize(
    "path", ["", "a", "//", "/a/", "/a//b", "/.", "/a/..", "/a/./b", "/\ud800"]
)
def test_illegal_paths(path: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        paths.validate_path(path)
    assert caught.value.kind == "invalid-path"
    assert repr(path) in str(caught.value)


@pytest.mark.parametrize(
    ("given_", "normal"), [("", "/"), ("/", "/"), ("a/b", "/a/b"), ("/a/", "/a"), ("/a", "/a")]
)
def test_normalize(given_: str, normal: str) -> None:
    assert paths.normalize(given_) == normal


def test_moves_are_sorted_by_segment() -> None:
    unordered = ["/q/ab", "/q-x/c", "/", "/q", "/q-x", "/q/dn2"]
    assert sorted(unordered, key=paths.segment_order_key) == [
        "/",
        "/q",
        "/q/ab",
        "/q/dn2",
        "/q-x",
        "/q-x/c",
    ]


segments = st.text("ab-é", min_size=1, max_size=3)
legal = st.lists(segments, max_size=4).map(lambda parts: "/" + "/".join(parts))


@settings(deadline=None, max_examples=60 * EFFORT)
@given(legal)
def test_a_path_is_its_parent_and_name(path: str) -> None:
    above = paths.parent(path)
    if above is None:
        assert path == "/"
        assert paths.ancestors(path) == []
    else:
        assert paths.join(above, paths.name(path)) == path
        assert paths.ancestors(path) == [above, *paths.ancestors(above)]
        assert paths.is_descendant(path, above)


@settings(deadline=None, max_examples=60 * EFFORT)
@given(legal, legal)
def test_descendants_are_those_with_the_ancestor(path: str, group: str) -> None:
    assert paths.is_descendant(path, group) == (group in paths.ancestors(path))
    assert paths.is_same_or_descendant(path, group) == (group in [path, *paths.ancestors(path)])


def test_keys() -> None:
    assert layout.snapshot_key(INITIAL_SNAPSHOT_ID) == "snapshots/1CECHNKREP0F1RSTCMT0"
    assert layout.manifest_key(bytes(12)) == "manifests/00000000000000000000"
    assert layout.transaction_key(bytes(12)) == "transactions/00000000000000000000"
    assert layout.chunk_key(bytes(12)) == "chunks/00000000000000000000"


def test_backups_are_named_after_the_time_left() -> None:
    name = layout.backup_name(1795329569006411, INITIAL_SNAPSHOT_ID)
    assert name == "repo.30708350430994.1CECHNKREP0F1RSTCMT0"
    assert layout.backup_key(name) == f"overwritten/{name}"
    assert layout.backup_time_us(name) == 1795329569006000
    assert layout.backup_time_us(name.replace("repo", "config.yaml")) == 1795329569006000
    for other in ("repo", name[:-1], name.lower(), name[5:], name.replace(".3", ".x"), f"{name}.1"):
        assert layout.backup_time_us(other) is None
    later = layout.backup_name(1795329569007411, bytes(12))
    assert later < name
    assert layout.backup_name(10**18, bytes(12), "config.yaml").startswith(
        "config.yaml.00000000000000."
    )


def test_foreign_files_have_no_id() -> None:
    assert layout.id_from_key("snapshots/1CECHNKREP0F1RSTCMT0") == INITIAL_SNAPSHOT_ID
    assert layout.id_from_key("snapshots/1cechnkrep0f1rstcmt0") is None
    assert layout.id_from_key("snapshots/README.md") is None

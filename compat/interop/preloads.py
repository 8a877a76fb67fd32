"""Sessions that start under various rules for preloading manifests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import zarr

import icechunk
from interop.describe import open_repository
from interop.scenarios import committing, create

If = icechunk.ManifestPreloadCondition

NAMES = [
    "time", "t", "times", "timestamp", "time2", "month", "z", "level", "olev", "height", "hght",
    "pressure", "pres", "isobaric3", "y", "yc", "j", "nlat", "lat", "latitude", "ynav_lat", "gphit",
    "x", "i", "rlon", "lon", "longitude", "xlong", "glamt", "data", "Time", "depth", "sigma",
    "nav_lev",
]  # fmt: skip
COUNTS = {"time": 12, "t": 1000, "x": 1001, "data": 400, "lat": 30}
"""Chunks written to some arrays; 2 to all others."""

_open: list[Any] = []


def build(path: str) -> None:
    """Arrays with names of coordinates and others, some with several manifests."""
    any_array, any_axis = (
        icechunk.ManifestSplitCondition.path_matches("^/split"),
        icechunk.ManifestSplitDimCondition.Any(),
    )
    splitting = icechunk.ManifestSplittingConfig.from_dict({any_array: {any_axis: 10}})
    config = icechunk.RepositoryConfig(manifest=icechunk.ManifestConfig(splitting=splitting))
    repo = create(path, config=config)
    with committing(repo, "arrays") as store:
        root = zarr.create_group(store)
        for name in NAMES:
            _fill(root, name, COUNTS.get(name, 2))
        for name in ("split/time", "split/other", "a/lat", "a/b/data"):
            _fill(root, name, 34)
        root.create_array("empty/time", shape=(3,), chunks=(1,), dtype="i1")


def _fill(root: zarr.Group, name: str, count: int) -> None:
    root.create_array(name, shape=(count,), chunks=(1,), dtype="i1")[:] = 1


def _preload(**settings: Any) -> Callable[[], icechunk.ManifestPreloadConfig]:
    return lambda: icechunk.ManifestPreloadConfig(**settings)


ALL = {"max_total_refs": 10**6, "max_arrays_to_scan": 1000}

CONFIGURATIONS: dict[str, Callable[[], icechunk.ManifestPreloadConfig]] = {
    "default": _preload(),
    "default, more arrays": _preload(max_arrays_to_scan=1000),
    "default, 20 arrays": _preload(max_arrays_to_scan=20),
    "everything": _preload(**ALL, preload_if=If.true()),
    "nothing": _preload(**ALL, preload_if=If.false()),
    "no references": _preload(max_total_refs=0, preload_if=If.true()),
    "no arrays": _preload(max_arrays_to_scan=0, preload_if=If.true()),
    "few references": _preload(max_total_refs=50, max_arrays_to_scan=1000, preload_if=If.true()),
    "some references": _preload(max_total_refs=466, max_arrays_to_scan=99, preload_if=If.true()),
    "few arrays": _preload(max_arrays_to_scan=3, preload_if=If.true()),
    "path": _preload(**ALL, preload_if=If.path_matches("^/a")),
    "path of a leaf": _preload(**ALL, preload_if=If.path_matches("lat$")),
    "name": _preload(**ALL, preload_if=If.name_matches("^l")),
    "name with a slash": _preload(**ALL, preload_if=If.name_matches("/")),
    "invalid": _preload(**ALL, preload_if=If.name_matches("[")),
    "invalid or": _preload(**ALL, preload_if=If.name_matches("[") | If.name_matches("^data$")),
    "refs from": _preload(**ALL, preload_if=If.num_refs(12, None)),
    "refs to": _preload(**ALL, preload_if=If.num_refs(None, 12)),
    "refs between": _preload(**ALL, preload_if=If.num_refs(4, 30)),
    "refs of one number": _preload(**ALL, preload_if=If.num_refs(12, 13)),
    "no such refs": _preload(**ALL, preload_if=If.num_refs(30, 12)),
    "and": _preload(**ALL, preload_if=If.path_matches("split") & If.num_refs(5, None)),
    "or": _preload(**ALL, preload_if=If.name_matches("^data$") | If.num_refs(1000, None)),
    "and of none": _preload(**ALL, preload_if=If.and_conditions([])),
    "or of none": _preload(**ALL, preload_if=If.or_conditions([])),
    "nested": _preload(
        **ALL,
        preload_if=If.and_conditions(
            [If.or_conditions([If.false(), If.name_matches("t")]), If.num_refs(None, 5), If.true()]
        ),
    ),
}


def configuration(name: str) -> icechunk.RepositoryConfig:
    """Make the configuration of that name."""
    manifest = icechunk.ManifestConfig(preload=CONFIGURATIONS[name]())
    return icechunk.RepositoryConfig(manifest=manifest)


def start_session(path: str, name: str) -> None:
    """Open a session and leave it alone."""
    _open.append(open_repository(path, config=configuration(name)).readonly_session("main"))


def end_session() -> None:
    """Let go of the session."""
    _open.clear()

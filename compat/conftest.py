"""Starts the references once per run, says loudly which they are, and names all sides."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import icechunk

sys.path.insert(0, str(Path(__file__).parent))  # `interop` is imported by name on both sides
sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))  # where the servers are
sys.path.append(str(Path(__file__).parent.parent / "tests"))  # so are `model` and `effort`

import hands
from effort import EFFORT, Effort
from hands import Sides
from object_stores.testing import AzureServer, GcsServer, S3Server, reached, trust_nobody
from oracle import Oracle, OracleUnavailableError, Ours, Side, find_python, is_required
from scratch import keep_folders_in_memory

trust_nobody()
keep_folders_in_memory()

NAMES = {"oracle": "theirs", "oracle-1": "theirs of old"}
_started: dict[str, Oracle | str] = {}


def _oracle(environment: str) -> Oracle | str:
    """Start a reference at the first call; a text says why there is none."""
    if environment not in _started:
        try:
            python = find_python(environment)
            _started[environment] = Oracle(python, NAMES[environment])
        except OracleUnavailableError as reason:
            _started[environment] = str(reason)
    return _started[environment]


def _required(environment: str) -> Oracle:
    """Start a reference at the first call; fail or skip a test when there is none."""
    found = _oracle(environment)
    if isinstance(found, str):
        if is_required():
            pytest.fail(f"the reference Icechunk is required: {found}")
        pytest.skip(f"NO REFERENCE ICECHUNK: {found}")
    return found


def pytest_report_header() -> list[str]:
    lines = []
    for environment in NAMES:
        found = _oracle(environment)
        if isinstance(found, Oracle):
            lines.append(f"compat: RUNNING AGAINST THE REFERENCE: {found.description}")
        else:
            consequence = "failing" if is_required() else "SKIPPING"
            lines.append(f"compat: NO REFERENCE, {consequence} the exchange tests: {found}")
    return lines


def pytest_configure(config: pytest.Config) -> None:
    # byte strings are written on purpose: what Zarr stores for them is not our business
    config.addinivalue_line(
        "filterwarnings", "ignore:The data type .* does not have a Zarr V3 specification"
    )


def pytest_unconfigure() -> None:
    for found in _started.values():
        if isinstance(found, Oracle):
            found.close()
    _started.clear()


@pytest.fixture(scope="session")
def ours() -> Side:
    """This package."""
    checkout = Path(__file__).resolve().parent.parent
    assert Path(icechunk.__file__).is_relative_to(checkout), "the tests run on another icechunk"
    return Ours()


@pytest.fixture(scope="session")
def theirs() -> Oracle:
    """The reference, in a version that writes repositories of spec version 2."""
    oracle = _required("oracle")
    if oracle.is_spec_1:
        pytest.skip(f"the reference is {oracle.version}, which knows only spec version 1")
    return oracle


@pytest.fixture(scope="session")
def theirs_of_old() -> Oracle:
    """The reference, in a version that knows only spec version 1."""
    return _required("oracle-1")


@pytest.fixture(scope="session", params=["theirs", "theirs_of_old"])
def any_oracle(request: pytest.FixtureRequest) -> Oracle:
    """The reference, in each version."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def all_sides(ours: Side, theirs: Oracle, theirs_of_old: Oracle) -> dict[int, Sides]:
    """Everyone who writes repositories of each spec version, by the names of `hands`."""
    sides: Sides = {"ours": ours, "2.x": theirs, "1.x": theirs_of_old}
    return {spec: {name: sides[name] for name in names} for spec, names in hands.NAMES.items()}


@pytest.fixture(scope="session")
def spec_1_sides(all_sides: dict[int, Sides]) -> Sides:
    """Everyone who writes repositories of spec version 1."""
    return all_sides[1]


@pytest.fixture
def repo_path(tmp_path: Path) -> str:
    """Where a test's repository goes."""
    return str(tmp_path / "repo")


@pytest.fixture(scope="session")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a bucket on the S3 server that the environment names, else on moto."""
    with reached("moto", tmp_path_factory) as (connection, named):
        yield S3Server(**connection, checks_signatures=named).address


@pytest.fixture(scope="session")
def azure_container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a container on the Azure server that the environment names, else on Azurite."""
    with reached("azurite", tmp_path_factory) as (connection, _):
        yield AzureServer(**connection).address


@pytest.fixture(scope="session")
def google_bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a bucket on the stand-in for Google Cloud Storage."""
    with reached("gcs", tmp_path_factory) as (connection, _):
        yield GcsServer(**connection).address


@pytest.fixture(params=["ours to theirs", "theirs to ours"])
def exchange(request: pytest.FixtureRequest, ours: Side, theirs: Oracle) -> tuple[Side, Side]:
    """Writer and reader, in both directions."""
    return (ours, theirs) if request.param == "ours to theirs" else (theirs, ours)


@pytest.fixture(scope="session")
def effort() -> Effort:
    """Factor on the number of examples of the tests that could go on forever."""
    return EFFORT

"""Starts the reference once per run, says loudly which one it is, and names both sides."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

import icechunk

sys.path.insert(0, str(Path(__file__).parent))  # `interop` is imported by name on both sides
sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))  # where the servers are
sys.path.append(str(Path(__file__).parent.parent / "tests"))  # so is `model`

from object_stores.testing import S3Server, reached
from oracle import Oracle, OracleUnavailableError, Ours, Side, find_python, is_required

# Deterministic by default; ``ICECHUNK_HYPOTHESIS_PROFILE=deep`` looks further, at random.
settings.register_profile(
    "default",
    deadline=None,
    derandomize=True,
    phases=[phase for phase in Phase if phase is not Phase.explain],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("deep", settings.get_profile("default"), derandomize=False)
settings.load_profile(os.environ.get("ICECHUNK_HYPOTHESIS_PROFILE", "default"))

_started: list[Oracle | str] = []


def _oracle() -> Oracle | str:
    """Start the reference at the first call; a text says why there is none."""
    if not _started:
        try:
            _started.append(Oracle(find_python()))
        except OracleUnavailableError as reason:
            _started.append(str(reason))
    return _started[0]


def pytest_report_header() -> str:
    found = _oracle()
    if isinstance(found, Oracle):
        return f"compat: RUNNING AGAINST THE REFERENCE: {found.description}"
    consequence = "failing" if is_required() else "SKIPPING"
    return f"compat: NO REFERENCE, {consequence} the exchange tests: {found}"


def pytest_configure(config: pytest.Config) -> None:
    # byte strings are written on purpose: what Zarr stores for them is not our business
    config.addinivalue_line(
        "filterwarnings", "ignore:The data type .* does not have a Zarr V3 specification"
    )


def pytest_unconfigure() -> None:
    for found in _started:
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
def any_oracle() -> Oracle:
    """The reference, in whatever version."""
    found = _oracle()
    if isinstance(found, str):
        if is_required():
            pytest.fail(f"the reference Icechunk is required: {found}")
        pytest.skip(f"NO REFERENCE ICECHUNK: {found}")
    return found


@pytest.fixture(scope="session")
def theirs(any_oracle: Oracle) -> Oracle:
    """The reference, in a version that writes repositories of spec version 2."""
    if any_oracle.is_spec_1:
        pytest.skip(f"the reference is {any_oracle.version}, which knows only spec version 1")
    return any_oracle


@pytest.fixture
def repo_path(tmp_path: Path) -> str:
    """Where a test's repository goes."""
    return str(tmp_path / "repo")


@pytest.fixture(scope="session")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a bucket on the S3 server that the environment names, else on moto."""
    with reached("moto", tmp_path_factory) as (connection, named):
        yield S3Server(**connection, checks_signatures=named).address


@pytest.fixture(params=["ours to theirs", "theirs to ours"])
def exchange(request: pytest.FixtureRequest, ours: Side, theirs: Oracle) -> tuple[Side, Side]:
    """Writer and reader, in both directions."""
    return (ours, theirs) if request.param == "ours to theirs" else (theirs, ours)


@pytest.fixture(scope="session")
def effort() -> int:
    """Factor on the number of examples of the tests that could go on forever."""
    return 20 if os.environ.get("ICECHUNK_HYPOTHESIS_PROFILE") == "deep" else 1

"""Random histories of a repository are what a model of plain dictionaries says."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

import icechunk
from icechunk.storage.local import LocalStorage

sys.path.append(str(Path(__file__).parent.parent))  # `model` is imported by name, here and there

from model.driver import Driver
from model.expiring import ExpiringMachine
from model.machine import RepositoryMachine
from model.version_1 import MachineOfVersion1


class InMemory(RepositoryMachine):
    def make_system(self) -> Driver:
        return Driver(icechunk.in_memory_storage())


def on_disk(folder: Path) -> type[RepositoryMachine]:
    class OnDisk(RepositoryMachine):
        def make_system(self) -> Driver:
            # no test pulls the plug: the disk need not be waited for
            return Driver(LocalStorage(tempfile.mkdtemp(dir=folder), durable=False))

    return OnDisk


@pytest.mark.parametrize("place", ["memory", "local"])
def test_a_repository_is_what_its_history_says(place, tmp_path, effort):
    machine, examples = (InMemory, 50) if place == "memory" else (on_disk(tmp_path), 12)
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples * effort, stateful_step_count=30)
    )


def test_histories_that_expire(effort):
    """Sessions of all ages meet commits whose snapshots are gone, and logs that others inherit."""
    run_state_machine_as_test(
        ExpiringMachine, settings=settings(max_examples=15 * effort, stateful_step_count=30)
    )


def test_histories_of_version_1(effort):
    """Branches and tags in files of their own, history in snapshots: nobody sees a difference."""
    run_state_machine_as_test(
        MachineOfVersion1, settings=settings(max_examples=10 * effort, stateful_step_count=30)
    )

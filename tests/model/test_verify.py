"""Whatever happened to a repository, it verifies clean."""

import sys
from pathlib import Path

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

import icechunk

sys.path.append(str(Path(__file__).parent.parent))  # `model` is imported by name

from model.driver import Driver
from model.machine import RepositoryMachine


class Verified(RepositoryMachine):
    def make_system(self):
        self.storage = icechunk.in_memory_storage()
        return Driver(self.storage)

    def teardown(self):
        if icechunk.Repository.exists(self.storage):
            report = icechunk.Repository.open(self.storage).verify()
            assert report.is_clean, report


def test_random_histories_verify_clean(effort):
    run_state_machine_as_test(
        Verified, settings=settings(max_examples=5 * effort, stateful_step_count=30)
    )

"""Random histories, done by both implementations at once: every answer is the model's.

Each writes a repository of its own; at the end each reads both. Steps on which the two differ on
purpose are kept away by the rules of `apart`.
"""

from __future__ import annotations

import inspect
import tempfile
from pathlib import Path
from typing import Any

import apart
import pytest
from hypothesis import event, settings
from hypothesis.stateful import run_state_machine_as_test
from model.machine import RepositoryMachine
from model.repository import Outcome, Step
from model.values import differences
from oracle import Oracle, Side

EXAMPLES = 16


class Pair:
    """The same steps on both sides; answers with ours, after theirs was the same."""

    def __init__(self, sides: tuple[Side, Side], folder: Path) -> None:
        self._sides = sides
        self._paths = [tempfile.mkdtemp(prefix=side.name, dir=folder) for side in sides]
        self._handles = [
            side.call("machine.begin", path=path)
            for side, path in zip(sides, self._paths, strict=True)
        ]

    def apply(self, step: Step) -> Outcome:
        return self._both("machine.do", step=step)

    def seen(self, numbers: list[int]) -> dict[str, Any]:
        return self._both("machine.seen", numbers=numbers)

    def _both(self, call: str, **arguments: Any) -> Any:
        ours, theirs = (
            side.call(call, handle=handle, **arguments)
            for side, handle in zip(self._sides, self._handles, strict=True)
        )
        lines = differences(ours, theirs)
        assert not lines, "\n".join([f"ours is not theirs: {arguments}", *lines])
        return ours

    def read_each_other(self) -> None:
        """Open both repositories anew with both implementations."""
        reports = [
            side.call("machine.survey", path=path) for path in self._paths for side in self._sides
        ]
        for report in reports[1:]:
            lines = differences(report, reports[0])
            assert not lines, "\n".join(["the repositories read differently:", *lines])

    def close(self) -> None:
        for side, handle in zip(self._sides, self._handles, strict=True):
            side.call("machine.end", handle=handle)


class SideBySide(RepositoryMachine):
    sides: tuple[Side, Side]
    folder: Path
    least_length = 1  # there a chunk at 0 stays readable on an axis shrunk to nothing

    def make_system(self) -> Pair:
        return Pair(self.sides, self.folder)

    def may(self, step: Step) -> bool:
        reasons = list(apart.reasons(self.model, step))
        for reason in reasons:
            event(f"apart: {reason}")
        return not reasons

    def teardown(self) -> None:
        try:
            self.system.read_each_other()
        finally:
            self.system.close()


def test_both_do_what_the_model_says(
    ours: Side, theirs: Oracle, tmp_path: Path, effort: int
) -> None:
    machine_class = type("Machine", (SideBySide,), {"sides": (ours, theirs), "folder": tmp_path})
    run_state_machine_as_test(
        machine_class, settings=settings(max_examples=EXAMPLES * effort, stateful_step_count=30)
    )


@pytest.mark.parametrize("rule", apart.RULES, ids=lambda rule: rule.__name__)
def test_every_rule_that_keeps_a_step_away_says_why(rule: Any) -> None:
    assert len(inspect.getdoc(rule) or "") > 40

"""How much the tests try that could go on forever: ``ICECHUNK_HYPOTHESIS_PROFILE`` says.

``default`` and ``brief`` always try the same examples, ``brief`` a quarter as many. ``deep`` tries
twenty times as many, chosen at random.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from hypothesis import HealthCheck, Phase, settings


@dataclass(frozen=True)
class Effort:
    """A factor on numbers of examples: ``60 * EFFORT`` is a number, never less than one."""

    factor: float

    def __rmul__(self, examples: int) -> int:
        return max(1, round(examples * self.factor))


FACTORS = {"brief": 0.25, "default": 1, "deep": 20}
PROFILE = os.environ.get("ICECHUNK_HYPOTHESIS_PROFILE", "default")
EFFORT = Effort(FACTORS[PROFILE])

settings.register_profile(
    "icechunk",
    max_examples=100 * EFFORT,
    deadline=None,
    derandomize=PROFILE != "deep",
    phases=[phase for phase in Phase if phase is not Phase.explain],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("icechunk")

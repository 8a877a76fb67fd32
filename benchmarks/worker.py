"""One side of a comparison: a process that sets one work up and measures it when told to.

Started by `run.py` with one interpreter per implementation, because all of them are imported as
``icechunk``. Reads one JSON request per line from stdin, answers with one JSON line on stdout;
whatever the work prints goes to stderr.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys
import traceback
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

PIPELINE_VARIABLE = "ZARR_CODEC_PIPELINE__PATH"  # read by Zarr's configuration, here and below


class Worker:
    """Answers the requests of the orchestrator."""

    work: Any = None

    def describe(self) -> dict[str, str]:
        """Say which implementation and which libraries answer here."""
        import numpy
        import zarr

        import icechunk

        return {
            "icechunk": icechunk.__version__,
            "zarr": zarr.__version__,
            "numpy": numpy.__version__,
            "python": platform.python_version(),
        }

    def set_up(self, module: str, params: dict[str, Any], folder: str) -> None:
        """Make a work ready to be measured; takes as long as it takes."""
        require_pipeline(os.environ.get(PIPELINE_VARIABLE))
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        self.work = importlib.import_module(f"works.{module}").Work(place, **params)

    def measure(self) -> dict[str, float]:
        """Measure the work once; it checks its own result before it answers."""
        return {name: float(value) for name, value in self.work.measure().items()}

    def tear_down(self) -> None:
        """End what the work started."""
        if hasattr(self.work, "close"):
            self.work.close()


def require_pipeline(path: str | None) -> None:
    """Refuse a codec pipeline that this Zarr does not have."""
    module, _, name = (path or "").rpartition(".")
    if module and not hasattr(importlib.import_module(module), name):
        raise ImportError(f"this Zarr has no {name}")


def main() -> None:
    """Answer requests until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # prints of libraries must not look like answers
    worker = Worker()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"result": getattr(worker, request.pop("command"))(**request)}
        except ImportError as error:
            answer = {"error": str(error)}  # something is not installed: no need for a traceback
        except Exception:
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()

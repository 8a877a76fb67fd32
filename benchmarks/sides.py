"""The processes that are compared: finding their interpreters, talking to them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from rows import REFERENCE

BENCHMARKS = Path(__file__).resolve().parent
CHECKOUT = BENCHMARKS.parent
OURS_VARIABLE = "ICECHUNK_BENCH_PYTHON"
REFERENCE_VARIABLE = "ICECHUNK_ORACLE_PYTHON"


class WorkerError(Exception):
    """A side could not do what it was asked; the message is its traceback."""


def find_ours() -> str:
    """Return the interpreter that has our dependencies, on the newest Python there is."""
    named = os.environ.get(OURS_VARIABLE)
    candidates = [CHECKOUT / ".env" / name / "bin" / "python" for name in ("newest", "default")]
    return named or next((str(path) for path in candidates if path.exists()), sys.executable)


def find_reference() -> str | None:
    """Return the interpreter that has the reference; None when there is none."""
    python = Path(
        os.environ.get(REFERENCE_VARIABLE) or CHECKOUT / ".env" / "oracle" / "bin" / "python"
    )
    return str(python) if python.exists() else None


class Side:
    """One implementation at work in a process of its own."""

    def __init__(self, name: str, python: str, pipeline: str | None) -> None:
        self.name = name
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "ZARR_"))}
        environment["ICECHUNK_NO_LOGS"] = "1"
        if name != REFERENCE:
            environment["PYTHONPATH"] = str(CHECKOUT / "src")
        if pipeline is not None:
            environment["ZARR_CODEC_PIPELINE__PATH"] = pipeline
        self._process = subprocess.Popen(
            [python, str(BENCHMARKS / "worker.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def call(self, command: str, **arguments: Any) -> Any:
        """Have the process do something and wait for the answer.

        Raises
        ------
        WorkerError
            It failed or died.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps({"command": command, **arguments}) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(f"{self.name} died with code {self._process.wait()} in {command}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(f"{self.name}: {answer['error']}")
        return answer["result"]

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(WorkerError):
            self.call("tear_down")
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def fill_in(params: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """Exchange what stands for something in parameters for what it stands for."""
    return {
        name: known.get(value, value) if isinstance(value, str) else value
        for name, value in params.items()
    }

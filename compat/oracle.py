"""The two sides of an exchange: this package in the test process, the reference in another one.

Both answer the same calls of `interop` functions with the same JSON values, so a test takes a
writer and a reader and does not care which is which. The reference runs in the interpreter named by
``ICECHUNK_ORACLE_PYTHON``, by default ``.env/oracle/bin/python`` of the checkout. Its last version
that knew only version 1 of the format runs in that of ``ICECHUNK_ORACLE_1_PYTHON``, by default
``.env/oracle-1/bin/python``.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import selectors
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Protocol

CHECKOUT = Path(__file__).resolve().parent.parent
SERVER = Path(__file__).with_name("oracle_server.py")
PYTHON_VARIABLES = {"oracle": "ICECHUNK_ORACLE_PYTHON", "oracle-1": "ICECHUNK_ORACLE_1_PYTHON"}
REQUIRE_VARIABLE = "ICECHUNK_REQUIRE_ORACLE"
ANSWER_WITHIN_SECONDS = 120


class OracleUnavailableError(Exception):
    """No interpreter with the reference was found, or it does not start."""


class RemoteError(Exception):
    """A call failed on one side; carries the class and kind of the exception over there."""

    def __init__(self, side: str, call: str, error: dict[str, Any]) -> None:
        super().__init__(f"{side} failed in {call}: {error['class']}: {error['message']}")
        self.class_name: str = error["class"]
        self.kind: str | None = error["kind"]
        self.message: str = error["message"]
        self.add_note(error["traceback"])


class Side(Protocol):
    """One implementation of Icechunk."""

    name: str

    def call(self, function: str, **arguments: Any) -> Any:
        """Call ``module.function`` of `interop` there."""
        ...


class Ours:
    """This package, called in the test process."""

    name = "ours"

    def call(self, function: str, **arguments: Any) -> Any:
        """Call a function here; the result takes the same way through JSON as a remote one."""
        module, _, name = function.rpartition(".")
        target = getattr(importlib.import_module(f"interop.{module}"), name)
        return json.loads(json.dumps(target(**arguments)))


class Oracle:
    """The reference, in a process of its own that lives as long as this object."""

    def __init__(self, python: Path, name: str = "theirs") -> None:
        self.python = python
        self.name = name
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        environment["ICECHUNK_NO_LOGS"] = "1"
        # Its warnings and the backtraces of its panics would drown the output of the tests.
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the process
        self._process = subprocess.Popen(
            [str(python), str(SERVER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            env=environment,
            cwd=SERVER.parent,
        )
        introduction = self._read()
        if introduction is None:
            raise OracleUnavailableError(
                f"{python} does not start with the reference installed: {self._last_complaint()}"
            )
        self.version: str = introduction["version"]
        self.description = (
            f"icechunk {self.version}, zarr {introduction['zarr']}, "
            f"python {introduction['python']} ({python})"
        )

    @property
    def is_spec_1(self) -> bool:
        """Whether it knows only the first version of the format."""
        return int(self.version.partition(".")[0]) < 2

    def call(self, function: str, **arguments: Any) -> Any:
        """Call a function in the other process."""
        assert self._process.stdin is not None
        request = {"call": function, "arguments": arguments}
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        answer = self._read()
        if answer is None:
            raise OracleUnavailableError(
                f"the reference died in {function}: {self._last_complaint()}"
            )
        if "error" in answer:
            raise RemoteError(self.name, function, answer["error"])
        return answer["result"]

    def close(self) -> None:
        """End the other process."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._complaints.close()

    def _last_complaint(self) -> str:
        """End the process and return the end of what it wrote to standard error."""
        self._process.wait(10)
        self._complaints.seek(0)
        text = self._complaints.read().decode(errors="replace")
        self.close()
        return text[-2000:]

    def _read(self) -> Any:
        """Read one answer; None when the process has ended."""
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(ANSWER_WITHIN_SECONDS):
                self._process.kill()
                raise OracleUnavailableError(
                    f"the reference gave no answer within {ANSWER_WITHIN_SECONDS} s"
                )
        line = self._process.stdout.readline()
        return json.loads(line) if line else None


def find_python(environment: str) -> Path:
    """Return the interpreter to run the reference in.

    Raises
    ------
    OracleUnavailableError
        There is none; says what to do.
    """
    variable = PYTHON_VARIABLES[environment]
    named = os.environ.get(variable)
    python = Path(named) if named else CHECKOUT / ".env" / environment / "bin" / "python"
    if not python.exists():
        raise OracleUnavailableError(
            f"{python} does not exist: make it with `python3 tools/envs.py {environment}`, or "
            "install the reference Icechunk in an environment of its own and name its interpreter "
            f"in {variable}"
        )
    return python


def is_required() -> bool:
    """Whether a missing oracle is a failure rather than a reason to skip."""
    return os.environ.get(REQUIRE_VARIABLE, "") not in ("", "0")

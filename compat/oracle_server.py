"""Runs under the reference Icechunk: answers calls of `interop` functions, one JSON value a line.

A request is ``{"call": "module.function", "arguments": {...}}``; the answer is ``{"result": ...}``
or ``{"error": {"class", "kind", "message", "traceback"}}``. The first line written introduces the
interpreter. Standard output belongs to the protocol alone: whatever else is printed goes to
standard error. Ends with its input.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import sys
import traceback
from typing import IO, Any


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    import icechunk  # only now, when it can print what it likes

    introduction = {
        "version": importlib.metadata.version("icechunk"),
        "zarr": importlib.metadata.version("zarr"),
        "python": sys.version.split()[0],
        "file": icechunk.__file__,
    }
    say(answers, introduction)
    for line in sys.stdin:
        say(answers, answer(json.loads(line)))


def answer(request: dict[str, Any]) -> dict[str, Any]:
    module, _, function = request["call"].rpartition(".")
    try:
        call = getattr(importlib.import_module(f"interop.{module}"), function)
        return {"result": call(**request["arguments"])}
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        return {
            "error": {
                "class": type(error).__name__,
                "kind": getattr(error, "kind", None),
                "message": str(error),
                "traceback": traceback.format_exc(),
            }
        }


def say(stream: IO[str], value: Any) -> None:
    stream.write(json.dumps(value) + "\n")
    stream.flush()


if __name__ == "__main__":
    main()

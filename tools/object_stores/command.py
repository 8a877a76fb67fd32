"""The command that servers run for: it ends with everything it has started, when told to end.

A command such as pytest has processes of its own. It gets a process group to itself, so that all of
them can be told, and a signal to us alone leaves none behind.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GENTLE_SECONDS = 20.0
"""For pytest to end its fixtures, and with them what runs outside of the group."""
FIRM_SECONDS = 5.0


def leave_on_signals() -> None:
    """Have the first signal to end this process raise SystemExit, and later ones ignored.

    Whoever cleans up then is not disturbed, as by ``make``, which passes an interrupt on twice.
    """
    for number in SIGNALS:
        signal.signal(number, _leave)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    os.write(2, f"--- ended by {signal.Signals(number).name}\n".encode())
    raise SystemExit(128 + number)


def run_command(command: list[str], variables: dict[str, str]) -> int:
    """Run a command to its end and return its exit code; if that is not waited for, end it.

    It reads nothing from a terminal, which would stop a group that the terminal does not belong to.
    """
    from_terminal = sys.stdin is not None and sys.stdin.isatty()
    process = subprocess.Popen(
        command,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL if from_terminal else None,
        process_group=0,
    )
    try:
        return process.wait()
    except BaseException:
        end(process)
        raise


def end(
    process: subprocess.Popen[bytes],
    gentle_seconds: float = GENTLE_SECONDS,
    firm_seconds: float = FIRM_SECONDS,
) -> None:
    """End the leader of a group, gently at first, and then whoever is left of the group."""
    for number, seconds in ((signal.SIGINT, gentle_seconds), (signal.SIGTERM, firm_seconds)):
        _tell(process, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            break
    _tell(process, signal.SIGKILL)
    process.wait()


def _tell(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # nobody is left of the group
        os.killpg(process.pid, number)

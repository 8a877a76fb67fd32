"""The package's log: standard loggers named ``icechunk.*``, and who prints what they record.

Records go to the application's handlers like those of any library. For those who have set up no
logging there is one handler of ours, on the logger ``icechunk``: warnings to standard error. The
environment, read when the package is imported, can ask for more:

``ICECHUNK_LOG``
    A filter, see `set_logs_filter`.
``ICECHUNK_LOG_TO_STDOUT``
    Print to standard output.
``ICECHUNK_NO_LOGS``
    Print nothing, leave everything to the application.

Nothing outside the loggers below ``icechunk`` is touched.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TextIO

__all__ = [
    "TRACE",
    "LogFilter",
    "initialize_logs",
    "parse_filter",
    "print_unless_silenced",
    "set_logs_filter",
    "shutdown_telemetry",
]

NAME: Final = "icechunk"
TRACE: Final = 5
OFF: Final = logging.CRITICAL + 10

LEVELS: Final = {
    "off": OFF,
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": TRACE,
}
NUMBERED: Final = dict(zip("012345", LEVELS.values(), strict=True))

TELEMETRY: Final = (
    "ICECHUNK_OTLP_ENDPOINT",
    "ICECHUNK_OTEL_SERVICE_NAME",
    "ICECHUNK_OTEL_FILTER",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
)
SHORTEST_MISSPELLING: Final = 6
MISSPELLING_DISTANCE: Final = 2

log = logging.getLogger(__name__)


def initialize_logs() -> None:
    """Print the package's log as the environment says.

    Importing the package does this already, unless ``ICECHUNK_NO_LOGS`` is set. Again does no harm.
    """
    logger = logging.getLogger(NAME)
    if _output in logger.handlers:
        return
    logger.addHandler(_output)
    _apply(os.environ.get("ICECHUNK_LOG"))
    unsupported = [name for name in TELEMETRY if os.environ.get(name)]
    if unsupported:
        log.debug("export of telemetry is not supported: ignoring %s", ", ".join(unsupported))


def print_unless_silenced() -> None:
    """Do what importing the package does."""
    if os.environ.get("ICECHUNK_NO_LOGS"):
        # or Python would print warnings that nobody handles
        logging.getLogger(NAME).addHandler(logging.NullHandler())
    else:
        initialize_logs()


def set_logs_filter(log_filter_directive: str | None) -> None:
    """Choose what the package logs.

    Parameters
    ----------
    log_filter_directive
        Levels separated by commas: of everything (``debug``) or of a part of the package
        (``icechunk.storage=debug``, with ``::`` as good as the dot). A part without a level logs
        everything. The level is ``off``, ``error``, ``warn``, ``info``, ``debug`` or ``trace``;
        parts that are not named keep ``warn``. None goes back to the environment's filter.

    Raises
    ------
    TypeError
        The filter is no text. What is wrong inside a text is reported on standard error, ignored.

    Notes
    -----
    Once a filter is set, here or by the environment, its records are printed even where the
    application handles them too, unless it prints them to the terminal itself.
    """
    if log_filter_directive is not None and not isinstance(log_filter_directive, str):
        raise TypeError(
            f"a log filter must be str or None, not {type(log_filter_directive).__name__}"
        )
    initialize_logs()
    if log_filter_directive is None:
        log_filter_directive = os.environ.get("ICECHUNK_LOG")
    _apply(log_filter_directive)


def shutdown_telemetry() -> None:
    """Do nothing: this package exports no telemetry, so there is nothing to flush."""


# --- filters -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LogFilter:
    """A filter as understood, and what was not."""

    levels: dict[str, int]
    """Lowest level by name of a logger of ours."""
    complaints: tuple[str, ...] = ()
    """What to tell the user who wrote it."""


def parse_filter(text: str) -> LogFilter:
    """Read ``level`` and ``target=level`` directives, separated by commas."""
    levels: dict[str, int] = {}
    complaints: list[str] = []
    for directive in filter(None, map(str.strip, text.split(","))):
        target, separator, name = directive.partition("=")
        level = _level(name) if separator else _level(target)
        if not separator and level is not None:
            levels[NAME] = level
            continue
        if not separator or not name:
            level = TRACE
        if not target or level is None:
            complaints.append(
                f"ignoring `{directive}` in the log filter: expected a level ({', '.join(LEVELS)})"
                " or target=level"
            )
            continue
        logger = _logger_name(target)
        if logger is not None:
            levels[logger] = level
        elif _is_misspelt(first := re.split(r"::|\.", target)[0]):
            complaints.append(f"WARNING: Did you mean '{NAME}' instead of '{first}' in log filter?")
    return LogFilter(levels, tuple(complaints))


def _level(name: str) -> int | None:
    return LEVELS.get(name.lower(), NUMBERED.get(name))


def _logger_name(target: str) -> str | None:
    """Return the logger that a target means, None for targets of other packages."""
    name = target.replace("::", ".")
    if name == NAME or name.startswith(f"{NAME}."):
        return name
    # Parts of the reference implementation are packages of their own.
    return f"{NAME}.{name.removeprefix(f'{NAME}_')}" if name.startswith(f"{NAME}_") else None


def _is_misspelt(name: str) -> bool:
    return (
        len(name) >= SHORTEST_MISSPELLING
        and name != NAME
        and _distance(name.lower(), NAME) <= MISSPELLING_DISTANCE
    )


def _distance(one: str, other: str) -> int:
    """Count the letters to insert, drop or replace to make one word of the other."""
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        diagonal, row[0] = row[0], i
        for j, wanted in enumerate(other, 1):
            cost = diagonal + (letter != wanted)
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, cost)
    return row[-1]


# --- output --------------------------------------------------------------------------------------


def _apply(text: str | None) -> None:
    chosen = parse_filter(text or "")
    for name in _filtered:
        logging.getLogger(name).setLevel(logging.NOTSET)
    _filtered[:] = chosen.levels
    for name, level in chosen.levels.items():
        logging.getLogger(name).setLevel(level)
    _output.was_asked_for = bool(chosen.levels)
    _output.setLevel(logging.NOTSET if chosen.levels else logging.WARNING)
    _output.to_stdout = bool(os.environ.get("ICECHUNK_LOG_TO_STDOUT"))
    if sys.stderr is not None:
        for complaint in chosen.complaints:
            print(complaint, file=sys.stderr)


class _Format(logging.Formatter):
    """Time, level, part and message on one line, and the traceback below."""

    def format(self, record: logging.LogRecord) -> str:
        if record.levelno == TRACE:  # named for our lines only
            record = logging.makeLogRecord({**record.__dict__, "levelname": "TRACE"})
        return super().format(record)


class _Output(logging.Handler):
    """Prints records, unless the application does.

    Which stream it is is decided at every record, since notebooks and tests replace them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(_Format("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        self.was_asked_for = False
        self.to_stdout = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record to the stream of the moment."""
        stream = sys.stdout if self.to_stdout else sys.stderr
        if stream is None or any(self._serves(other, record) for other in _handlers(record.name)):
            return
        try:
            stream.write(self.format(record) + "\n")
            stream.flush()
        except Exception:
            self.handleError(record)

    def _serves(self, other: logging.Handler, record: logging.LogRecord) -> bool:
        """Tell whether a handler of the application makes ours superfluous for a record."""
        if other is self or isinstance(other, logging.NullHandler):
            return False
        if not self.was_asked_for:
            return True
        if isinstance(other, logging.StreamHandler):
            return record.levelno >= other.level and _is_terminal(other.stream)
        return record.levelno >= other.level


def _handlers(name: str) -> Iterator[logging.Handler]:
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None:
        yield from logger.handlers
        logger = logger.parent if logger.propagate else None


def _is_terminal(stream: TextIO) -> bool:
    return stream in (sys.stderr, sys.stdout, sys.__stderr__, sys.__stdout__)


_output: Final = _Output()
_filtered: list[str] = []

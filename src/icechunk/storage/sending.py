"""What every client of obstore is told, whoever the provider: headers, timeouts, retries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

from icechunk.storage.attribution import Attribution, user_agent_of
from icechunk.storage.tuning import Tuning

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

__all__ = ["Pairs", "Sending", "client_options", "retry_config"]

Pairs: TypeAlias = tuple[tuple[str, str], ...]

_RETRY_BUDGET = timedelta(minutes=5)
_NO_LIMIT = timedelta(hours=24)
_SHORTEST_SECRET = 8
"""Header values below are words like ``true``, whose masking would only spoil messages."""


@dataclass(frozen=True, slots=True)
class Sending:
    """How requests are sent. Headers and options may be secrets."""

    allow_http: bool = False
    stall_seconds: int = 60
    """Give up a download that makes no progress for so long; 0 waits for ever."""
    read_headers: Pairs = ()
    write_headers: Pairs = ()
    options: Pairs = ()
    """Further options of the client, in obstore's words; they prevail."""

    def headers(self, *, writing: bool) -> Pairs:
        """Return the headers to add to reading requests, or to all others."""
        return self.write_headers if writing else self.read_headers

    def secrets(self) -> Iterator[str]:
        """Yield texts that must show up in no message."""
        for _, value in self.read_headers + self.write_headers + self.options:
            if len(value) >= _SHORTEST_SECRET:
                yield value


def client_options(
    sending: Sending, tuning: Tuning, attribution: Attribution | None, *, writing: bool
) -> ClientConfig:
    """Return the options of the client for reading requests, or of that for the others."""
    attempt_ms = tuning.attempt_timeout_ms
    options: dict[str, Any] = {
        "user_agent": user_agent_of(attribution),
        # A limit on the whole request, by default of 30 s, would fail large objects on
        # slow lines; stalled reads are found by the read timeout below.
        "timeout": _NO_LIMIT if attempt_ms is None else timedelta(milliseconds=attempt_ms),
    }
    if sending.allow_http:
        options["allow_http"] = True
    if tuning.connect_timeout_ms is not None:
        options["connect_timeout"] = timedelta(milliseconds=tuning.connect_timeout_ms)
    stall = timedelta(seconds=sending.stall_seconds)
    if tuning.read_timeout_ms is not None:
        stall = timedelta(milliseconds=tuning.read_timeout_ms)
    if stall and not writing:
        # Not for uploads: the client counts the time it takes to send the body.
        options["read_timeout"] = stall
    if headers := dict(sending.headers(writing=writing)):
        options["default_headers"] = headers
    return options | dict(sending.options)  # type: ignore[return-value]  # built up key by key


def retry_config(tuning: Tuning) -> RetryConfig:
    """Return how often and how patiently failed requests are repeated."""
    operation_ms = tuning.operation_timeout_ms
    return {
        "max_retries": tuning.max_tries - 1,
        "retry_timeout": (
            _RETRY_BUDGET if operation_ms is None else timedelta(milliseconds=operation_ms)
        ),
        "backoff": {
            "init_backoff": timedelta(milliseconds=tuning.initial_backoff_ms),
            "max_backoff": timedelta(milliseconds=tuning.max_backoff_ms),
            "base": 2,
        },
    }

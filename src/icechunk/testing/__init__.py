"""Tools for testing code that uses Icechunk, and storages written for it.

Storages that wrap another one: `FaultyStorage` fails at a chosen effect, `CountingStorage` counts
requests, `LatencyStorage` takes its time, `UnconditionalStorage` ignores conditions.
`StorageContract` is the test suite every storage must pass; it needs pytest, so it is imported only
when asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from icechunk.testing.counting import CountingStorage
from icechunk.testing.faults import FaultyStorage, InjectedFault
from icechunk.testing.latency import LatencyStorage
from icechunk.testing.unconditional import UnconditionalStorage
from icechunk.testing.wrapper import StorageWrapper

if TYPE_CHECKING:
    from icechunk.testing.storage_contract import StorageContract

__all__ = [
    "CountingStorage",
    "FaultyStorage",
    "InjectedFault",
    "LatencyStorage",
    "StorageContract",
    "StorageWrapper",
    "UnconditionalStorage",
]


def __getattr__(name: str) -> Any:
    if name == "StorageContract":
        from icechunk.testing.storage_contract import StorageContract

        return StorageContract
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Requests that take as long as over a network, to see what waits for what."""

from __future__ import annotations

import asyncio
import time

from icechunk.storage.base import BytesLike, Storage
from icechunk.testing.wrapper import StorageWrapper

_WRITES = frozenset({"put", "put_new", "copy", "put_if", "delete"})
_FREE = frozenset({"flush", "prepare"})


class LatencyStorage(StorageWrapper):
    """Add a delay before every request, as distant object stores have.

    Parameters
    ----------
    inner
        The storage that does the work.
    write_latency_ms, read_latency_ms
        Delays in milliseconds; listing and asking for metadata count as reading.
    """

    def __init__(
        self, inner: Storage, *, write_latency_ms: float = 0, read_latency_ms: float = 0
    ) -> None:
        super().__init__(inner)
        self.write_latency_ms = write_latency_ms
        self.read_latency_ms = read_latency_ms
        self.is_local = False  # callers must not wait for it on an event loop

    def _before(self, operation: str, key: str) -> None:
        if operation not in _FREE:
            time.sleep(self._delay(operation))

    def _delay(self, operation: str) -> float:
        latency_ms = self.write_latency_ms if operation in _WRITES else self.read_latency_ms
        return latency_ms / 1000

    # The coroutines sleep without holding up their event loop.

    async def get_async(self, key: str) -> bytes:  # noqa: D102
        await asyncio.sleep(self._delay("get"))
        return await self.inner.get_async(key)

    async def get_range_async(self, key: str, start: int, end: int) -> bytes:  # noqa: D102
        await asyncio.sleep(self._delay("get_range"))
        return await self.inner.get_range_async(key, start, end)

    async def put_new_async(self, key: str, data: BytesLike) -> None:  # noqa: D102
        await asyncio.sleep(self._delay("put_new"))
        await self.inner.put_new_async(key, data)

"""The storage contract, for the backends that need no server."""

import pytest

from icechunk.storage import LocalStorage, MemoryStorage
from icechunk.testing import CountingStorage, FaultyStorage, LatencyStorage, StorageContract


class TestMemory(StorageContract):
    @pytest.fixture
    def storage(self):
        return MemoryStorage()


class TestLocal(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path):
        return LocalStorage(tmp_path / "not" / "made yet", durable=False)


class TestDurableLocal(StorageContract):
    threads = 2
    increments = 5

    @pytest.fixture
    def storage(self, tmp_path):
        return LocalStorage(tmp_path)


class TestFaulty(StorageContract):
    @pytest.fixture
    def storage(self):
        return FaultyStorage(MemoryStorage())


class TestCounting(StorageContract):
    @pytest.fixture
    def storage(self):
        return CountingStorage(MemoryStorage())


class TestLatency(StorageContract):
    threads = 2
    increments = 5

    @pytest.fixture
    def storage(self):
        return LatencyStorage(MemoryStorage(), write_latency_ms=0.1, read_latency_ms=0.1)

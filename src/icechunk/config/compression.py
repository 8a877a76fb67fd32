"""How metadata files are compressed."""

from __future__ import annotations

from enum import IntEnum

from icechunk.config import checks
from icechunk.config.base import Field, Settings


class CompressionAlgorithm(IntEnum):
    """Algorithms for metadata files; the format knows one."""

    Zstd = 0

    @staticmethod
    def default() -> CompressionAlgorithm:
        """Return the algorithm used when none is chosen."""
        return CompressionAlgorithm.Zstd

    def __str__(self) -> str:
        return f"CompressionAlgorithm.{self.name}"

    def __repr__(self) -> str:
        return f"icechunk.config.CompressionAlgorithm.{self.name}"

    @property
    def _shown_in_block(self) -> str:
        return self.name


class CompressionConfig(Settings):
    """Compression of snapshots, manifests and transaction logs, to trade size for speed.

    Parameters
    ----------
    algorithm
        Default: Zstd.
    level
        Higher is smaller and slower. Default: 3.
    """

    __slots__ = ()
    _shown_as = "icechunk.config.CompressionConfig"

    algorithm: Field[CompressionAlgorithm | None] = Field(
        checks.instance(CompressionAlgorithm), CompressionAlgorithm.Zstd
    )
    level: Field[int | None] = Field(checks.u8, 3)

    def __init__(
        self, algorithm: CompressionAlgorithm | None = None, level: int | None = None
    ) -> None:
        self.algorithm = algorithm
        self.level = level

    @staticmethod
    def default() -> CompressionConfig:
        """Return a configuration with nothing set, which means the defaults."""
        return CompressionConfig()

"""What may be collected, and what looking for it may take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from icechunk.assets.workers import MAX_THREADS
from icechunk.ops.id_sets import SortedIds
from icechunk.ops.scan import ScanLimits

__all__ = ["MAX_IDS", "Bounds", "Limits", "Rule"]

#: Ids of chunks that are in memory together, at some 65 bytes each while they are sorted.
MAX_IDS: Final = 1 << 23


@dataclass(frozen=True, slots=True)
class Bounds:
    """What may go at most: what somebody has agreed to."""

    dropped: SortedIds
    """Snapshots that may leave the history."""
    objects: Mapping[str, SortedIds]
    """By folder."""
    backups: frozenset[str]
    """Names of former states."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What is garbage, besides being needed by nothing."""

    older_than_us: int
    """Only objects stored before this, microseconds since the epoch by the clock of the store."""
    backups_older_than_us: int | None = None
    """Former states stored before this go, whatever needs them; None for none."""
    bounds: Bounds | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What finding garbage may take."""

    scan: ScanLimits = field(default_factory=ScanLimits)
    max_ids: int = MAX_IDS
    """Chunks in memory. With more of them than this, manifests are read and chunks are listed
    several times, a range of ids each."""
    listings: int = MAX_THREADS
    """Listings of a folder at once, where that helps."""

"""What users may say about the effort of upkeep, checked, each limit under the name they know."""

from __future__ import annotations

import operator

from icechunk.assets.workers import MAX_THREADS
from icechunk.ops.garbage.delete import DeleteLimits
from icechunk.ops.scan import ScanLimits

__all__ = ["delete_limits", "listings_at_once", "positive", "scan_limits"]


def positive(name: str, value: int) -> int:
    """Return a number; raises TypeError if it is none, and ValueError unless it is above zero."""
    number = operator.index(value)
    if number <= 0:
        raise ValueError(f"{name} must be positive, not {number}")
    return number


def scan_limits(snapshots: int, file_bytes: int, decoded_bytes: int, manifests: int) -> ScanLimits:
    """Say what a scan over snapshots and manifests may take."""
    return ScanLimits(
        snapshots_at_once=positive("max_snapshots_in_memory", snapshots),
        manifests_at_once=positive("max_concurrent_manifest_fetches", manifests),
        file_bytes=positive("max_compressed_manifest_mem_bytes", file_bytes),
        decoded_bytes=positive("max_decoded_manifest_mem_bytes", decoded_bytes),
    )


def listings_at_once(number: int | None) -> int:
    """Say how many listings may be under way together; None is the default."""
    return MAX_THREADS if number is None else positive("max_concurrent_listings", number)


def delete_limits(at_once: int, failures: int) -> DeleteLimits:
    """Say how hard to try to delete objects."""
    return DeleteLimits(
        positive("max_concurrent_deletes", at_once),
        positive("max_consecutive_delete_failures", failures),
    )

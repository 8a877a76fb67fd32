"""Whether transaction logs tell the truth, as far as one number per snapshot can say.

The ids of a snapshot's nodes are hashed and added up. Between two snapshots the sum must change by
the hashes of what the logs say was created, minus those of what they say was deleted; also when
logs were united by an amend, where one id may be in both lists. Nothing here fetches.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from icechunk.format.ids import encode_ids, sortable
from icechunk.format.transaction_log import TransactionLog

__all__ = ["WORD", "difference", "fingerprint", "net_change"]

#: Sums are taken modulo this.
WORD: Final = 2**64
_EXAMPLES: Final = 3


def fingerprint(node_ids: npt.NDArray[np.uint8]) -> int:
    """Add up the hashes of a ``(n, 8)`` column of node ids, in any order."""
    words = np.ascontiguousarray(node_ids).view("<u8").reshape(-1).astype(np.uint64)
    words += np.uint64(0x9E3779B97F4A7C15)  # the finalizer of splitmix64
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return int(words.sum(dtype=np.uint64))


def net_change(log: TransactionLog) -> int:
    """Tell by how much a log changes the fingerprint."""
    created = fingerprint(log.new_groups) + fingerprint(log.new_arrays)
    deleted = fingerprint(log.deleted_groups) + fingerprint(log.deleted_arrays)
    return (created - deleted) % WORD


def difference(before: npt.NDArray[np.uint8], after: npt.NDArray[np.uint8]) -> str:
    """Describe which node ids came and went, for a message."""
    old, new = sortable(before), sortable(after)
    parts = []
    for word, rows in (
        ("created", after[~np.isin(new, old)]),
        ("deleted", before[~np.isin(old, new)]),
    ):
        names = ", ".join(encode_ids(rows[:_EXAMPLES]))
        parts.append(f"{len(rows)} nodes {word}" + (f" ({names})" if names else ""))
    return " and ".join(parts)

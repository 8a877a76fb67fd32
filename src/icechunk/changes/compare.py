"""Compare two snapshots of one history: read the logs between them, and name what they list.

Data is never compared: the transaction logs say what every commit did, by node id, and the two
snapshots say which paths these ids have.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import numpy as np

from icechunk.assets.manager import AssetManager
from icechunk.assets.workers import Workers
from icechunk.changes.diff import Diff, diff_of
from icechunk.changes.log_union import united_log
from icechunk.errors import ErrorKind, InvalidInputError
from icechunk.format.ids import encode_id, ids_of_column
from icechunk.format.nodes import NodeTable
from icechunk.format.transaction_log import ID_LISTS, TransactionLog
from icechunk.repo.ancestry import logs_between
from icechunk.repo.state import RepoState

__all__ = ["compare"]

_log = logging.getLogger(__name__)

#: Logs fetched at once from storages that answer slowly.
FETCHES_AT_ONCE: Final = 16

Result = TypeVar("Result")


def compare(assets: AssetManager, info: RepoState, base: bytes, tip: bytes) -> Diff:
    """Say what was done between a snapshot and one of its descendants.

    Raises
    ------
    InvalidInputError
        Of kind ``bad-snapshot-chain-for-diff`` when `tip` does not descend from `base`.
    """
    between = logs_between(info, base, tip)
    if not between:
        raise InvalidInputError(
            f"`to` snapshot ancestry doesn't include `from`: {encode_id(tip)} does not descend from"
            f" {encode_id(base)}",
            ErrorKind.BAD_SNAPSHOT_CHAIN_FOR_DIFF,
        )
    pruned = {log_id for item in between for log_id in item.pruned}

    def fetch(log_id: bytes) -> TransactionLog | None:
        if log_id not in pruned:
            return assets.transaction_log(log_id)
        found = assets.find_transaction_log(log_id)
        if found is None:
            _log.warning(
                "the transaction log of the expired snapshot %s is gone: what it changed is missing"
                " from the comparison of %s with %s",
                *map(encode_id, (log_id, base, tip)),
            )
        return found

    wanted = [log_id for item in between for log_id in item.logs]
    logs, (old, new) = _fetch_all(assets, fetch, wanted, (base, tip))
    log = united_log([log for log in logs if log is not None])
    present = _paths(log, new)
    paths = {**_paths(log, old), **present}
    # An array that was deleted and made anew has two ids and one path: chunks of the new one count.
    return diff_of(log, paths.get, preferred=present)


def _fetch_all(
    assets: AssetManager,
    fetch: Callable[[bytes], Result],
    log_ids: Sequence[bytes],
    snapshot_ids: Sequence[bytes],
) -> tuple[list[Result], list[NodeTable]]:
    def nodes(snapshot_id: bytes) -> NodeTable:
        return assets.snapshot(snapshot_id).nodes

    with Workers(assets.storage.is_local, "icechunk-diff") as workers:
        tables = list(workers.map(nodes, snapshot_ids, FETCHES_AT_ONCE))
        return list(workers.map(fetch, log_ids, FETCHES_AT_ONCE)), tables


def _paths(log: TransactionLog, nodes: NodeTable) -> dict[bytes, str]:
    """Find the paths of all nodes of a log that a snapshot has."""
    chunked = np.frombuffer(b"".join(log.updated_chunks), np.uint8).reshape(-1, 8)
    ids = np.concatenate([*(getattr(log, name) for name in ID_LISTS), chunked])
    rows = nodes.locate_ids(ids)
    known = rows >= 0
    texts = nodes.columns.paths
    return {
        node_id: texts[row].decode()
        for node_id, row in zip(ids_of_column(ids[known]), rows[known].tolist(), strict=True)
    }

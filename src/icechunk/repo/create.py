"""The first state of a repository: an empty snapshot, and what makes it a repository.

In spec version 2 that is the object ``repo``, and there is a transaction log beside the snapshot.
In version 1 it is the file of branch ``main``, and the configuration is stored before.
"""

from __future__ import annotations

import logging
from typing import Final

from icechunk.errors import (
    ConflictError,
    ErrorKind,
    InvalidInputError,
    ReadOnlyError,
)
from icechunk.format.ids import INITIAL_SNAPSHOT_ID
from icechunk.format.layout import CONFIG, snapshot_key, transaction_key
from icechunk.format.nodes import NodeTable
from icechunk.format.ops_log import RepoInitialized, RepoStatus, UpdateEntry
from icechunk.format.ops_table import OpsLog
from icechunk.format.refs_v1 import encode_ref
from icechunk.format.repo_info import RepoInfo
from icechunk.format.snapshot import Snapshot, encode_snapshot
from icechunk.format.snapshot_table import SnapshotTable
from icechunk.format.transaction_log import TransactionLog, encode_transaction_log
from icechunk.repo.entry_v1 import MAIN_KEY, StoredConfig
from icechunk.repo.entry_v2 import EntryPoint, already_there
from icechunk.repo.opening import find_spec_version
from icechunk.repo.preconditions import MAIN
from icechunk.storage.base import PreconditionFailed, Storage
from icechunk.storage.check import SCRATCH, require_conditional_writes

__all__ = ["check_place", "create_repository", "create_repository_v1", "initial_state"]

log = logging.getLogger(__name__)

INITIAL_MESSAGE: Final = "Repository initialized"

#: What a creation leaves that was interrupted, or that is under way: no reason not to create.
UNFINISHED: Final = frozenset(
    {snapshot_key(INITIAL_SNAPSHOT_ID), transaction_key(INITIAL_SNAPSHOT_ID)}
)
UNFINISHED_V1: Final = frozenset({snapshot_key(INITIAL_SNAPSHOT_ID), CONFIG})
INITIAL_METADATA: Final = {"__icechunk": {"is_root": True}}


def check_place(storage: Storage, spec_version: int, *, must_be_clean: bool) -> None:
    """Make sure that a repository may be created in a storage.

    Raises
    ------
    ReadOnlyError
        Of kind ``read-only-storage``.
    InvalidInputError
        Of kind ``empty-prefix-creation`` for the root of a bucket, ``parent-directory-not-clean``
        when something is there already.
    ConflictError
        Of kind ``repo-info-updated`` when a repository is there, and a clean place not asked for.
    StorageError
        Of kind ``storage-config`` when the store ignores the conditions that commits rely on.
    """
    if not storage.can_write:
        raise ReadOnlyError(
            f"cannot create a repository, the storage is read-only: {storage!r}",
            ErrorKind.READ_ONLY_STORAGE,
        )
    if storage.prefix_is_empty:
        raise InvalidInputError(
            "cannot create a repository at the root of a bucket, with an empty prefix: give the"
            " storage a prefix",
            ErrorKind.EMPTY_PREFIX_CREATION,
        )
    if must_be_clean:
        unfinished = UNFINISHED_V1 if spec_version == 1 else UNFINISHED
        keys = (item.key for item in storage.list())
        found = next((k for k in keys if k not in unfinished and not k.startswith(SCRATCH)), None)
        if found is not None:
            raise InvalidInputError(
                f"repositories can only be created in clean prefixes, but there is `{found}`:"
                " open the repository if it is one, or pass check_clean_root=False",
                ErrorKind.PARENT_DIRECTORY_NOT_CLEAN,
            )
    elif find_spec_version(storage) is not None:
        # Before anything is written: the first snapshot has the same name everywhere.
        raise ConflictError(
            message="there is a repository already: open it", kind=ErrorKind.REPO_INFO_UPDATED
        )
    require_conditional_writes(storage)


def create_repository(
    storage: Storage, entry: EntryPoint, config: bytes | None, now_us: int, *, level: int
) -> RepoInfo:
    """Write the first state; only the last of its objects makes it a repository."""
    _log_creation(storage)
    snapshot, transactions, info = initial_state(config, now_us)
    storage.prepare()
    # `put`, not `put_new`: an earlier attempt may have got as far as here.
    storage.put(snapshot_key(snapshot.id), encode_snapshot(snapshot, level=level))
    storage.put(transaction_key(transactions.id), encode_transaction_log(transactions, level=level))
    entry.flush()
    return entry.create(info, level=level)


def create_repository_v1(
    storage: Storage, config: bytes | None, now_us: int, *, level: int
) -> StoredConfig:
    """Write the first state of spec version 1.

    Parameters
    ----------
    storage
        Where to.
    config
        Content of ``config.yaml``; None for none.
    now_us
        Time of the first snapshot.
    level
        Zstd level of its file.

    Raises
    ------
    ConflictError
        There is a repository, or the configuration of one that somebody else creates now or has
        begun to create once.
    """
    _log_creation(storage)
    snapshot = _initial_snapshot(now_us, spec_version=1)
    storage.prepare()
    storage.put(snapshot_key(snapshot.id), encode_snapshot(snapshot, level=level))
    if config is not None:
        _put_config(storage, config)
    storage.flush()
    try:
        storage.put_if(MAIN_KEY, encode_ref(snapshot.id), None)
    except PreconditionFailed as error:
        raise already_there() from error
    return StoredConfig(config)


def _put_config(storage: Storage, config: bytes) -> None:
    try:
        storage.put_if(CONFIG, config, None)
    except PreconditionFailed as error:
        if find_spec_version(storage) is not None:
            raise already_there() from error
        if StoredConfig.read(storage).data != config:
            raise ConflictError(
                message=f"there is `{CONFIG}`, of a repository that somebody else is creating, or"
                " whose creation was interrupted: open the repository, or delete the object if"
                " there is none",
                kind=ErrorKind.CONFIG_UPDATED,
            ) from error


def _log_creation(storage: Storage) -> None:
    log.debug("creating a repository in %s", " ".join(filter(None, storage.identity()[:4])))


def initial_state(config: bytes | None, now_us: int) -> tuple[Snapshot, TransactionLog, RepoInfo]:
    """Make the values a new repository consists of."""
    snapshot = _initial_snapshot(now_us, spec_version=2)
    info = RepoInfo(
        snapshots=SnapshotTable.from_entries([snapshot.head]),
        branches={MAIN: INITIAL_SNAPSHOT_ID},
        status=RepoStatus(set_at=now_us),
        updates=OpsLog.from_entries([UpdateEntry(RepoInitialized(), now_us)]),
        config=config,
    )
    return snapshot, TransactionLog(INITIAL_SNAPSHOT_ID), info


def _initial_snapshot(now_us: int, *, spec_version: int) -> Snapshot:
    return Snapshot(
        id=INITIAL_SNAPSHOT_ID,
        parent_id=None,
        nodes=NodeTable.empty(),
        flushed_at=now_us,
        message=INITIAL_MESSAGE,
        metadata=INITIAL_METADATA,
        spec_version=spec_version,
    )

"""Bringing a repository to the present version of the format, for users.

What is done and in which order is in `icechunk.ops.migrate`.
"""

from __future__ import annotations

import logging
from typing import TypeVar

from icechunk.repository import Repository

__all__ = ["upgrade_icechunk_repository"]

log = logging.getLogger(__name__)

AnyRepository = TypeVar("AnyRepository", bound=Repository)


def upgrade_icechunk_repository(
    repo: AnyRepository,
    *,
    dry_run: bool,
    delete_unused_v1_files: bool = True,
    prefetch_concurrency: int | None = None,
) -> AnyRepository:
    """Bring a repository from spec version 1, that of Icechunk 1, to version 2.

    Branches, tags, histories, data and the stored configuration are as before. New is all that
    version 1 lacks, such as the operations log, which tells what has happened as far as version 1
    remembers. What no branch and no tag leads to is left behind as garbage, to be collected.

    Nobody else should write to the repository meanwhile. If somebody does, that is found out: the
    repository is of version 1 then, as before, or the other writer fails. Icechunk 1 can neither
    read nor write the repository afterwards.

    An upgrade may be interrupted anywhere: run it again. Until that is done the repository may be
    one of version 2 that can be read and not changed.

    Parameters
    ----------
    repo
        The repository. Of no use after the upgrade, except after a dry run.
    dry_run
        Whether to change nothing. What would be done is said in the log, at level INFO;
        `Repository.plan_upgrade` returns it.
    delete_unused_v1_files
        Whether to delete the files of branches and tags and the configuration of version 1. If
        they stay, Icechunk 1 goes on with them, and neither version sees what is committed to the
        other. A later call deletes them, if version 2 knows all that they say.
    prefetch_concurrency
        How many snapshots that are far away to read ahead, 32 of them at once; 64 by default. Fewer
        take less memory.

    Returns
    -------
    Repository
        The repository, opened anew with the same configuration and authorizations.

    Raises
    ------
    TypeError, ValueError
        An argument is of a wrong type, or not positive.
    SessionStateError
        Kind ``invalid-repository-migration``: the repository is of version 2 already and no files
        of version 1 are left to delete, or they say what version 2 does not know.
    ReadOnlyError
        Kind ``read-only-storage``, unless it is a dry run.
    ConflictError
        Kind ``repo-info-updated``: somebody else has changed or upgraded the repository meanwhile.
        Try again.
    FormatError
        A file of the repository cannot be read; `Repository.verify` says more. Kind
        ``snapshot-timestamp``: a snapshot is dated in the future.
    StorageError
        The storage failed: run the upgrade again.

    Notes
    -----
    Reads every branch and tag twice, and of snapshots that are far away all there are, once. Writes
    every branch once and the object ``repo`` twice.
    """
    for name, value in (("dry_run", dry_run), ("delete_unused_v1_files", delete_unused_v1_files)):
        if not isinstance(value, bool):
            raise TypeError(f"{name} must be True or False, not {value!r}")
    if not isinstance(repo, Repository):
        raise TypeError(f"expected a Repository to upgrade, not {type(repo).__name__}")
    if dry_run:
        plan = repo.plan_upgrade(
            delete_unused_v1_files=delete_unused_v1_files,
            prefetch_concurrency=prefetch_concurrency,
        )
        log.info("this is what an upgrade would do; nothing was changed:\n%r", plan)
        return repo.reopen()
    repo._migrate(delete_unused_v1_files, prefetch_concurrency)
    upgraded = repo.reopen()
    repo._invalidate()
    return upgraded

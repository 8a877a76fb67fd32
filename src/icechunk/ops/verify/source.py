"""Where a walk begins: the state of a repository, or what is left of it, and its snapshots.

Spec version 2 lists all snapshots in one object; the former states of it serve when it is damaged
itself. See `history.Source` for what is asked of a state, `source_v1` for spec version 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from icechunk.assets.workers import MAX_THREADS, Workers
from icechunk.errors import (
    ErrorKind,
    FormatError,
    IcechunkError,
    InvalidInputError,
    RepositoryNotFoundError,
    StorageError,
)
from icechunk.format.ids import encode_id, ids_of_column
from icechunk.format.layout import (
    CHUNKS,
    MANIFESTS,
    REPO,
    SNAPSHOTS,
    TRANSACTIONS,
    backup_key,
)
from icechunk.format.repo_info import RepoInfo, decode_repo_info
from icechunk.format.snapshot import Snapshot
from icechunk.ops.reachable import reachable_snapshots
from icechunk.ops.verify.findings import Findings
from icechunk.ops.verify.history import History, Recorded, Source, pointed_to_by
from icechunk.ops.verify.inventory import take_inventory
from icechunk.ops.verify.source_v1 import RefsSource, list_refs
from icechunk.ops.verify.state import check_log, check_state, newest_readable, read_pages
from icechunk.repo.times import time_text
from icechunk.storage.base import ObjectNotFound, Storage
from icechunk.verification import FaultKind, FaultSeverity

__all__ = ["FileSource", "StateSource", "open_source"]

_FOLDERS: Final = (SNAPSHOTS, MANIFESTS, TRANSACTIONS, CHUNKS)


class StateSource:
    """The object ``repo`` of spec version 2, or a backup of it."""

    def __init__(self, info: RepoInfo, key: str, changed_us: int) -> None:
        self.info = info
        self.spec_version = info.spec_version
        self.key = key
        self.changed_us = changed_us
        self.operations = 0
        self.backups = 0

    def check(
        self,
        storage: Storage,
        backups: set[str],
        findings: Findings,
        now_us: int,
        *,
        read_backups: bool,
    ) -> None:
        """Look at the state itself and at its operations log."""
        for problem in check_state(self.info, self.key, now_us):
            findings.add(
                problem.kind,
                problem.key,
                problem.message,
                snapshot_id=problem.snapshot_id,
                severity=problem.severity,
            )

        def is_there(name: str) -> bool:
            try:
                return name in backups or storage.exists(backup_key(name))
            except InvalidInputError:  # what a damaged file names is not even a key
                return False

        def load(name: str) -> RepoInfo:
            key = backup_key(name)
            if not is_there(name):
                raise ObjectNotFound(f"object not found: {key!r}")
            return decode_repo_info(storage.get(key), key)

        pages = read_pages(self.info, load)
        self.operations, self.backups = len(pages.times), len(pages.backups)
        for problem in check_log(pages, self.key, is_there, now_us):
            findings.add(problem.kind, problem.key, problem.message, severity=problem.severity)
        if read_backups:
            pages_read = {problem.key for problem in pages.problems}
            names = [name for name in pages.backups if backup_key(name) not in pages_read]
            self._open_backups(storage, list(filter(is_there, names)), findings)

    def _open_backups(self, storage: Storage, names: list[str], findings: Findings) -> None:
        """Decode former states, one file per update that was ever made."""

        def problem_of(name: str) -> IcechunkError | None:
            key = backup_key(name)
            try:
                decode_repo_info(storage.get(key), key)
            except (FormatError, StorageError) as error:
                return error
            return None

        with Workers(storage.is_local, "icechunk-verify-backups") as workers:
            found = workers.map(problem_of, names, MAX_THREADS)
            for name, error in zip(names, found, strict=True):
                if error is not None:
                    warning = FaultSeverity.WARNING
                    findings.add_error(error, backup_key(name), severity=warning)

    def first(self) -> list[Recorded]:
        """List all snapshots of the state, those first that a branch or tag leads to."""
        table = self.info.snapshots
        refs: dict[bytes, list[str]] = {}
        for what, named in (("branch", self.info.branches), ("tag", self.info.tags)):
            for name, target in named.items():
                refs.setdefault(target, []).append(f"{what} {name}")
        reachable = reachable_snapshots(self.info)
        known = set(reachable)
        others = [found for found in ids_of_column(table.ids) if found not in known]
        return [
            Recorded(found, is_needed, pointed_to_by(refs.get(found, [])))
            for ids, is_needed in ((reachable, True), (others, False))
            for found in ids
        ]

    def after(self, snapshot: Snapshot, recorded: Recorded) -> list[Recorded]:
        """List nothing: all snapshots were listed at first."""
        return []

    def compare(self, snapshot: Snapshot, findings: Findings, recorded: Recorded) -> None:
        """Compare message and time, which the state has copies of."""
        table = self.info.snapshots
        row = table.row(recorded.id)
        differs = []
        if snapshot.flushed_at != int(table.flushed_at[row]):
            differs.append(
                f"the file is dated {time_text(snapshot.flushed_at)}, the history says "
                f"{time_text(int(table.flushed_at[row]))}"
            )
        if snapshot.message != table.messages[row].decode():
            differs.append("its message is not the one in the history")
        if differs:
            findings.add(
                FaultKind.HISTORY_DISAGREES,
                f"{SNAPSHOTS}/{encode_id(recorded.id)}",
                "; ".join(differs),
                snapshot_id=recorded.id,
            )

    def finish(self, findings: Findings) -> None:
        """Say nothing: the state told all of the history before."""

    def history(self, snapshot_id: bytes) -> History:
        """Read parent and pruned logs from the state."""
        table = self.info.snapshots
        row = table.row(snapshot_id)
        return History(table.parent_id(row), table.pruned(row))

    def has_lost_snapshots(self, storage: Storage) -> bool:
        """Whether the stored state knows fewer snapshots: garbage was collected meanwhile."""
        if self.key != REPO:
            return False
        try:
            now = decode_repo_info(storage.get(REPO), REPO)
        except (FormatError, ObjectNotFound):
            return False
        return bool((now.snapshots.locate(self.info.snapshots.ids) < 0).any())


class FileSource:
    """Whatever snapshot files there are, where nothing tells how they belong together."""

    spec_version = 2
    key = f"{SNAPSHOTS}/"
    changed_us = 0
    operations = 0
    backups = 0

    def __init__(self, storage: Storage) -> None:
        self._ids = ids_of_column(take_inventory(storage, SNAPSHOTS).ids)

    def first(self) -> list[Recorded]:
        """List all snapshot files."""
        return [Recorded(found, True, "") for found in self._ids]

    def after(self, snapshot: Snapshot, recorded: Recorded) -> list[Recorded]:
        """List nothing: all files were listed at first."""
        return []

    def compare(self, snapshot: Snapshot, findings: Findings, recorded: Recorded) -> None:
        """Compare nothing, since nothing is recorded."""

    def finish(self, findings: Findings) -> None:
        """Know nothing."""

    def history(self, snapshot_id: bytes) -> History:
        """Know nothing."""
        return History(None, ())

    def has_lost_snapshots(self, storage: Storage) -> bool:
        """Know nothing."""
        return False


def open_source(
    storage: Storage,
    backups: set[str],
    findings: Findings,
    now_us: int,
    *,
    read_backups: bool = False,
) -> Source:
    """Load the state of a repository, or the newest backup that is one.

    `backups` are the names of those that there are; they are decoded only to `read_backups`.

    Raises
    ------
    RepositoryNotFoundError
        Nothing here looks like a repository.
    """
    try:
        changed_us = storage.head(REPO).last_modified_us
        state = StateSource(decode_repo_info(storage.get(REPO)), REPO, changed_us)
    except ObjectNotFound:
        refs = list_refs(storage)
        if refs and not any(name.startswith(f"{REPO}.") for name in backups):
            source = RefsSource(refs)
            source.check(storage, findings, now_us)
            return source
        if not backups and not any(_has_objects(storage, folder) for folder in _FOLDERS):
            raise RepositoryNotFoundError(
                f"there is no repository to verify in {storage!r}", ErrorKind.REPOSITORY_NOT_FOUND
            ) from None
        return _from_backup(storage, backups, findings, None)
    except FormatError as error:
        return _from_backup(storage, backups, findings, error)
    state.check(storage, backups, findings, now_us, read_backups=read_backups)
    return state


def _from_backup(
    storage: Storage, backups: Iterable[str], findings: Findings, error: FormatError | None
) -> Source:
    found = newest_readable(storage, backups)
    remedy = "Put it back from a copy: none of the backups below overwritten/ is readable"
    if found is not None:
        key, info = found
        remedy = (
            f"Copy {key} to {REPO}: it is the newest readable backup, and the state before the "
            "last update"
        )
    if error is not None:
        findings.add_error(error, REPO, remedy=remedy)
    else:
        message = "the object that names everything else is not there"
        findings.add(FaultKind.REPOSITORY_OBJECT_MISSING, REPO, message, remedy=remedy)
    if found is None:
        return FileSource(storage)
    return StateSource(info, key, storage.head(key).last_modified_us)


def _has_objects(storage: Storage, folder: str) -> bool:
    return next(iter(storage.list(folder + "/")), None) is not None

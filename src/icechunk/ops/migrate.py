"""Bring a repository from spec version 1 to version 2, so that it may stop anywhere and go on.

::

    census -> state -> plan          what there is, and what is to be; nothing is written
      |
    write `repo` as a draft          version 2 from here on: it can be read, and not changed
      |
    retire the branches              who commits to version 1 now finds the branch changed
      |
    census again ---- differs -----> restore the branches, delete the draft: version 1 as before
      |
    replace the draft                what was read is all there is: version 2 takes changes
      |
    delete the files of version 1    `main` first, so that no version 1 comes back to life

Whatever of this was interrupted, another run reads what there is and goes on from there. As long
as the draft stands, the files of version 1 say what is true, and a retired branch tells where it
was. Once the draft is replaced the object ``repo`` says it, and files that are left are rubbish.
Icechunk spec, "Migration from version 1 to 2".
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

from icechunk.assets.manager import AssetManager
from icechunk.assets.workers import Workers
from icechunk.config.yaml import config_from_yaml
from icechunk.errors import (
    ConflictError,
    ErrorKind,
    InternalError,
    RepositoryNotFoundError,
    SessionStateError,
    StorageError,
)
from icechunk.format.ids import encode_id, ids_of_column
from icechunk.format.layout import REPO, SNAPSHOTS, id_from_key
from icechunk.format.ops_log import (
    Availability,
    BranchCreated,
    RepoMigrated,
    RepoStatus,
    TagCreated,
)
from icechunk.format.refs_v1 import encode_ref, encode_retired_ref
from icechunk.format.repo_info import MAIN, RepoInfo, decode_repo_info, encode_repo_info
from icechunk.format.snapshot_table import SnapshotEntry
from icechunk.ops.census_v1 import Census, FoundRef, changes_between, take_census
from icechunk.ops.migrated_state import RefHistory, migrated_state
from icechunk.ops.upgrade_plan import UpgradePlan
from icechunk.repo.context import RepoContext
from icechunk.repo.entry_v2 import EntryPoint
from icechunk.repo.history_v1 import FileHistory
from icechunk.repo.log import read_log
from icechunk.repo.stored_config import encode_config
from icechunk.repo.surroundings import REAL, Surroundings
from icechunk.storage.base import ObjectNotFound, PreconditionFailed, Storage, Version
from icechunk.storage.check import require_conditional_writes

__all__ = ["SNAPSHOTS_AT_ONCE", "Migration"]

log = logging.getLogger(__name__)

#: How many snapshots are read at once where storage is far away.
SNAPSHOTS_AT_ONCE: Final = 64
WRITES_AT_ONCE: Final = 16
DRAFT_REASON: Final = (
    "it is being brought from spec version 1 to 2. If nobody is at it any more, because that was"
    " interrupted, run upgrade_icechunk_repository again"
)
TO_VERSION_2: Final = RepoMigrated(1, 2)


@dataclass(frozen=True, slots=True)
class Migration:
    """One migration of one repository.

    Parameters
    ----------
    assets
        Reads the snapshots.
    delete_files
        Whether to delete the files of version 1. If they stay, others may go on with version 1,
        and each version then has a life of its own.
    snapshots_at_once
        How many snapshots to read at once where storage is far away.
    compression_level
        Zstd level of the object ``repo``.
    """

    assets: AssetManager
    delete_files: bool = True
    snapshots_at_once: int = SNAPSHOTS_AT_ONCE
    compression_level: int = 3
    world: Surroundings = REAL

    @classmethod
    def of(cls, context: RepoContext, *, delete_files: bool, snapshots_at_once: int | None) -> Self:
        """Make the one of a repository that is open, with the settings that it was opened with."""
        # Nothing that is remembered: in version 1, snapshot files change when histories expire.
        assets = AssetManager(context.storage, context.assets.settings)
        return cls(
            assets,
            delete_files,
            SNAPSHOTS_AT_ONCE if snapshots_at_once is None else snapshots_at_once,
            context.compression_level,
            context.world,
        )

    @property
    def storage(self) -> Storage:
        """Where the repository is."""
        return self.assets.storage

    def plan(self) -> UpgradePlan:
        """Say what `run` would do; writes nothing, and raises as it does."""
        stored = self._stored()
        if stored is None or is_draft(stored.info):
            return self._prepare(stored).plan
        return self._rest(stored.info).plan

    def run(self) -> None:
        """Do what is left to do.

        Raises
        ------
        RepositoryNotFoundError
            There is no repository.
        SessionStateError
            Of kind ``invalid-repository-migration`` when the repository is of version 2 and
            nothing is left to do, or files of version 1 are left that say something else.
        FormatError
            A file cannot be read, or (kind ``snapshot-timestamp``) a clock is wrong.
        ConflictError
            Somebody changed the repository meanwhile. It is of version 1 as before, unless that
            was another migration.
        StorageError
            The storage failed, at any point: another run goes on from there.
        """
        stored = self._stored()
        if stored is not None and not is_draft(stored.info):
            self._clean_up(self._rest(stored.info).census)
            return
        require_conditional_writes(self.storage)
        prepared = self._prepare(stored)
        version = self._write_draft(prepared, stored)
        retired: list[_Retired] = []
        problems = self._retire(prepared.census, retired) if self.delete_files else []
        problems = problems or changes_between(prepared.census, take_census(self.storage))
        problems = problems or self._collected(prepared.state)
        if problems:
            self._undo(retired, version)
            raise ConflictError(
                message="the repository was changed while it was upgraded, and is of spec version 1"
                f" as before: {'; '.join(problems)}. Make sure that nobody else writes to it, and"
                " try again",
                kind=ErrorKind.REPO_INFO_UPDATED,
            )
        if self._put(REPO, self._encoded(prepared.state), version) is None:
            raise _another_migration()
        log.info("the repository is of spec version 2")
        if self.delete_files:
            self._clean_up(prepared.census)
            self._rest(prepared.state, is_wanted=False)

    # --- what there is ---------------------------------------------------------------------------

    def _stored(self) -> _Stored | None:
        try:
            data, version = self.storage.get_versioned(REPO)
        except ObjectNotFound:
            return None
        return _Stored(decode_repo_info(data, REPO), version)

    def _prepare(self, stored: _Stored | None) -> _Prepared:
        """Read everything, and make the state of it."""
        census = take_census(self.storage)
        branches, tags = census.pointers("branch"), census.pointers("tag")
        if MAIN not in branches:
            now = self._stored()
            if now is not None and (stored is None or now.version != stored.version):
                raise _another_migration()
            raise RepositoryNotFoundError(
                f"the repository doesn't exist: there is no branch `{MAIN}` of spec version 1 in"
                f" {' '.join(filter(None, self.storage.identity()[:4]))}",
                ErrorKind.REPOSITORY_NOT_FOUND,
            )
        config = None if census.config is None else config_from_yaml(census.config[0])
        history = RefHistory(
            branches=branches,
            tags=tags,
            deleted_tags=census.deleted_tags,
            snapshots=self._history([*branches.values(), *tags.values()]),
            config=None if config is None else encode_config(config),
        )
        state = migrated_state(history, self.world.now_us())
        plan = UpgradePlan(
            branches={name: encode_id(tip) for name, tip in sorted(branches.items())},
            tags={name: encode_id(target) for name, target in sorted(tags.items())},
            deleted_tags=state.deleted_tags,
            snapshots=len(state.snapshots),
            log_entries=len(state.updates),
            has_config=config is not None,
            resumes=stored is not None,
            deletes=tuple(census.keys) if self.delete_files else (),
            stays=census.others,
        )
        return _Prepared(census, state, plan)

    def _history(self, tips: Iterable[bytes]) -> dict[bytes, SnapshotEntry]:
        """Read all snapshots that some lead to."""
        history = FileHistory(self.assets)
        if not self.storage.is_local:
            ids = [id_from_key(item.key) for item in self.storage.list(SNAPSHOTS + "/")]
            history.read_ahead([id for id in ids if id is not None], self.snapshots_at_once)
        found: dict[bytes, SnapshotEntry] = {}
        for tip in tips:
            for row in history.ancestry(tip):
                if history.id(row) in found:
                    break  # as all that it leads to
                found[history.id(row)] = history.entry(row)
        return found

    def _rest(self, info: RepoInfo, *, is_wanted: bool = True) -> _Rest:
        """Find what a migration that took effect has left, and make sure that it is rubbish.

        Parameters
        ----------
        info
            The state of the repository in version 2.
        is_wanted
            Whether it is an error if there is nothing.
        """
        census = take_census(self.storage)
        # A lone configuration is what is left of version 1 if there was a version 1.
        was_migrated = any(entry.kind == TO_VERSION_2 for entry in info.updates)
        is_left = census.refs or census.tombstones or (census.config and was_migrated)
        if is_wanted and not (self.delete_files and is_left):
            raise SessionStateError(
                "the repository is of spec version 2 already: there is nothing to upgrade",
                ErrorKind.INVALID_REPOSITORY_MIGRATION,
            )
        unknown = [_described(item) for item in census.refs if not self._is_known(item, info)]
        if unknown:
            raise SessionStateError(
                "the repository is of spec version 2, but there are files of version 1 that say"
                f" what it does not know: {'; '.join(unknown)}. Somebody went on with version 1."
                " Have the same branches and tags in version 2 if you need them, then delete these"
                " files, and run the upgrade again",
                ErrorKind.INVALID_REPOSITORY_MIGRATION,
            )
        plan = UpgradePlan(
            branches={},
            tags={},
            writes_state=False,
            deletes=tuple(census.keys),
            stays=census.others,
        )
        return _Rest(census, plan)

    def _is_known(self, item: FoundRef, info: RepoInfo) -> bool:
        """Whether nothing is lost with a file: version 2 has, or had, all that it says."""
        if item.is_retired or item.is_deleted or item.snapshot is None:
            return True
        name = item.ref.name
        if item.snapshot not in info.snapshots:
            return False
        if item.ref.kind == "branch":
            created: BranchCreated | TagCreated = BranchCreated(name)
            is_there = name in info.branches
        else:
            created = TagCreated(name)
            is_there = name in info.tags or name in info.deleted_tags
        entry = EntryPoint(self.storage)
        return is_there or any(e.kind == created for e in read_log(info, entry.load_backup))

    # --- effects ---------------------------------------------------------------------------------

    def _write_draft(self, prepared: _Prepared, stored: _Stored | None) -> Version:
        """Store the state so that nobody can change it yet, and read it back."""
        status = RepoStatus(Availability.READ_ONLY, self.world.now_us(), DRAFT_REASON)
        draft = replace(prepared.state, status=status)
        data = self._encoded(draft)
        self.storage.flush()  # `repo` must not outlive what it names
        version = self._put(REPO, data, None if stored is None else stored.version)
        if version is None:
            raise _another_migration()
        now = self._stored()
        if now is None or now.version != version:
            raise _another_migration()
        if now.info != draft:
            self._undo([], version)
            raise InternalError(
                "the state of the repository reads otherwise than it was written; it is of spec"
                " version 1 as before",
                ErrorKind.UNKNOWN,
            )
        return version

    def _retire(self, census: Census, retired: list[_Retired]) -> list[str]:
        """Exchange the content of all branches, and say which have changed since they were read.

        `retired` gets those of which it is known that they were exchanged, also when this raises.
        """
        mark = self.world.random_id()

        def retire(item: FoundRef) -> str | None:
            assert item.snapshot is not None
            version = self._put(item.key, encode_retired_ref(item.snapshot, mark), item.version)
            if version is None:
                return f"branch `{item.ref.name}` ({item.key}) was changed"
            retired.append(_Retired(item.key, item.snapshot, version))
            return None

        branches = [item for item in census.refs if item.ref.kind == "branch"]
        with Workers(self.storage.is_local, "icechunk-upgrade") as workers:
            return list(filter(None, workers.map(retire, branches, WRITES_AT_ONCE)))

    def _collected(self, info: RepoInfo) -> list[str]:
        """Say which snapshots are gone since they were read; refs do not tell that.

        Who expires version 1 shortens histories by exchanging snapshot files, and garbage can be
        collected then.
        """
        stored = {id_from_key(item.key) for item in self.storage.list(SNAPSHOTS + "/")}
        gone = [
            encode_id(found) for found in ids_of_column(info.snapshots.ids) if found not in stored
        ]
        more = f" and {len(gone) - 1} more" if len(gone) > 1 else ""
        return [f"snapshot {gone[0]}{more} expired and was deleted"] if gone else []

    def _undo(self, retired: Sequence[_Retired], draft: Version) -> None:
        """Have version 1 again; the draft goes last, since without it retired branches are lost."""
        for item in retired:
            self._put(item.key, encode_ref(item.snapshot), item.version)
        self.storage.flush()
        if self.storage.get_versioned(REPO)[1] == draft:
            self.storage.delete([REPO])

    def _clean_up(self, census: Census) -> None:
        """Delete the files of version 1; without its ``main`` there is no such repository."""
        first, *rest = census.keys
        self.storage.delete([first])
        self.storage.delete(rest)

    def _encoded(self, info: RepoInfo) -> bytes:
        return encode_repo_info(info, level=self.compression_level)

    def _put(self, key: str, data: bytes, expected: Version | None) -> Version | None:
        """Write an object if it is still as expected; None if it is not.

        What is written differs from all that was ever there, so if there was no answer, the object
        tells whether it took effect.
        """
        try:
            return self.storage.put_if(key, data, expected)
        except StorageError as error:
            try:
                found, version = self.storage.get_versioned(key)
            except ObjectNotFound:
                found = None
            if found == data:
                return version
            if isinstance(error, PreconditionFailed | ObjectNotFound):
                return None
            raise


def is_draft(info: RepoInfo) -> bool:
    """Whether a state was written by a migration that was interrupted, or goes on yet."""
    return (
        info.status.availability == Availability.READ_ONLY
        and info.status.reason == DRAFT_REASON
        and info.updates[0].kind == TO_VERSION_2
    )


@dataclass(frozen=True, slots=True)
class _Stored:
    info: RepoInfo
    version: Version


@dataclass(frozen=True, slots=True)
class _Prepared:
    census: Census
    state: RepoInfo
    plan: UpgradePlan


@dataclass(frozen=True, slots=True)
class _Rest:
    census: Census
    plan: UpgradePlan


@dataclass(frozen=True, slots=True)
class _Retired:
    key: str
    snapshot: bytes
    version: Version


def _described(item: FoundRef) -> str:
    assert item.snapshot is not None
    return f"{item.ref.kind} `{item.ref.name}` at {encode_id(item.snapshot)} ({item.key})"


def _another_migration() -> ConflictError:
    return ConflictError(
        message="somebody else upgrades or changes the repository: wait for them, and open it anew",
        kind=ErrorKind.REPO_INFO_UPDATED,
    )

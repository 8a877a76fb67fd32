"""The public entry point: create or open a repository, look at its history, start sessions.

Methods translate between users' terms (text ids, datetimes) and the engine's, and leave the work to
`icechunk.repo`.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self

from icechunk._display import Block, Folded, Shown
from icechunk._iterators import AsyncCloseableIterator
from icechunk._threads import in_thread
from icechunk._verify import verify_context, verify_damaged
from icechunk.assets.authorization import Authorization
from icechunk.assets.manager import AssetManager
from icechunk.changes.commit import with_ours
from icechunk.changes.compare import compare
from icechunk.changes.diff import Diff
from icechunk.changes.solvers import ConflictSolver
from icechunk.config import RepositoryConfig, StorageSettings
from icechunk.config.effective import effective
from icechunk.config.serialize import splitting_to_dict
from icechunk.config.yaml import config_to_yaml
from icechunk.errors import (
    ConflictError,
    ErrorKind,
    FormatError,
    IcechunkError,
    InvalidInputError,
    NotFoundError,
)
from icechunk.format.envelope import FileKind
from icechunk.format.ids import OBJECT_ID_SIZE, decode_id, encode_id
from icechunk.format.layout import REPO
from icechunk.format.values import to_plain
from icechunk.ops.expiration import Rule
from icechunk.ops.expiration_plan import ExpirationPlan, rule_of
from icechunk.ops.expire import expire, planned
from icechunk.ops.garbage.collect import collect, find, garbage_rule, run_plan
from icechunk.ops.garbage.plan import GarbagePlan, plan_of
from icechunk.ops.garbage.rule import Limits
from icechunk.ops.garbage.summary import GCSummary
from icechunk.ops.garbage.tell import GarbageProgress, teller
from icechunk.ops.graph import AncestryGraph
from icechunk.ops.inspect import (
    describe_manifest,
    describe_repo_info,
    describe_snapshot,
    describe_transaction_log,
)
from icechunk.ops.limits import delete_limits, listings_at_once, positive, scan_limits
from icechunk.ops.log import Update
from icechunk.ops.migrate import Migration
from icechunk.ops.scan import ScanLimits
from icechunk.ops.stats import chunk_storage
from icechunk.ops.upgrade_plan import UpgradePlan
from icechunk.ops.usage.by import by_array, by_ref, by_snapshot, difference
from icechunk.ops.usage.freed import freed_by
from icechunk.ops.verify.tour import VerifyOptions
from icechunk.repo.ancestry import branch_tip, snapshot_at, tag_target
from icechunk.repo.context import RepoContext
from icechunk.repo.create import check_place, create_repository, create_repository_v1
from icechunk.repo.entry_v1 import EntryPointV1, StoredConfig
from icechunk.repo.entry_v2 import EntryPoint
from icechunk.repo.features import FeatureFlag, SetFeatureFlag, feature_number, flags_of
from icechunk.repo.graph import graph_of_branches, graph_of_history
from icechunk.repo.history_v1 import FileHistory
from icechunk.repo.log import read_log
from icechunk.repo.opening import Seen, find_repository, find_spec_version
from icechunk.repo.preconditions import IsOnline, Precondition, SnapshotKnown
from icechunk.repo.spec_version import SpecVersion, needs_version_2, parse_spec_version
from icechunk.repo.state import RepoState
from icechunk.repo.state_v1 import names_of
from icechunk.repo.status import RepoAvailability, RepoStatus, public_status, stored_status
from icechunk.repo.stored_config import Choices, chosen_for, encode_config
from icechunk.repo.times import from_datetime, now_us
from icechunk.repo.updates import (
    OPEN_REARRANGING,
    CreateBranch,
    CreateTag,
    DeleteBranch,
    DeleteTag,
    ResetBranch,
    SetConfig,
    SetMetadata,
    SetStatus,
    UpdateMetadata,
)
from icechunk.session import AMENDING, MOVING, Session
from icechunk.snapshots import ManifestFileInfo, SnapshotInfo
from icechunk.stats import ChunkStorageStats, FreedStorage, StorageTable
from icechunk.storage.attribution import Attribution, attributed
from icechunk.storage.base import Storage
from icechunk.storage.check import StorageCheck, check_storage
from icechunk.store import IcechunkStore
from icechunk.verification import VerifyProgress, VerifyReport

__all__ = ["ChunkStorageStats", "RepoAvailability", "RepoStatus", "Repository", "SpecVersion"]


_TOTAL_IS_DEPRECATED = (
    "total_chunks_storage is deprecated: call chunk_storage_stats with the same arguments, and "
    "take native_bytes of its result; it counts inlined and virtual chunks as well"
)


_METADATA = "metadata of the repository"
_STATUS = "a status of the repository"
_FLAGS = "feature flags"


class Repository(Shown):
    """A version-controlled Zarr hierarchy in some storage.

    Made by `create`, `open` or `open_or_create`. Holds no state of its own but the configuration
    and caches: every method sees what is stored now. Safe to use from many threads, after a fork,
    and in other processes by pickle.
    """

    __slots__ = ("_choices", "_context", "_default_metadata", "_storage")

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            """Say why an attribute is missing; its own are, once it was upgraded."""
            if name in Repository.__slots__:
                raise RuntimeError(
                    "this repository has been invalidated by upgrade_icechunk_repository(): use the"
                    " Repository that it returned"
                )
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self
            )

    def __init__(
        self,
        storage: Storage,
        choices: Choices,
        context: RepoContext,
        default_metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self._storage = storage
        self._choices = choices
        self._context = context
        self._default_metadata = dict(default_metadata or {})

    # --- making one ----------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        storage: Storage,
        config: RepositoryConfig | None = None,
        authorize_virtual_chunk_access: Mapping[str, Any] | None = None,
        spec_version: SpecVersion | int | None = None,
        check_clean_root: bool = True,
        attribution: Attribution | None = None,
    ) -> Self:
        """Create a repository with one empty snapshot on branch ``main``.

        Parameters
        ----------
        storage
            Where to create it.
        config
            Configuration to use. It is stored with the repository unless it is the default one.
        authorize_virtual_chunk_access
            Which virtual chunk containers may be read, and with what credentials: what
            `icechunk.containers_credentials` makes. Never stored.
        spec_version
            Version of the format: 2, the default, or 1, for readers before Icechunk 2. Version 1
            has no operations log, no metadata and no status of the repository, and commits can
            neither be amended nor move nodes.
        check_clean_root
            Whether to refuse a place that holds anything already.
        attribution
            On whose behalf requests are sent, for the logs of the object store.

        Raises
        ------
        TypeError, StorageError
            What is authorized is no credentials, or (kind ``storage-other``) none that the
            container's store takes.
        InvalidInputError
            Kind ``parent-directory-not-clean`` or ``empty-prefix-creation``.
        ReadOnlyError
            Kind ``read-only-storage``.
        ConflictError
            Kind ``repo-info-updated``: somebody else created a repository there.
        StorageError
            Kind ``storage-config``: the object store ignores the conditions of writes that commits
            rely on, see `check_storage`, and the settings do not say that this is known.
        """
        storage = attributed(storage, attribution)
        version = parse_spec_version(spec_version)
        choices = Choices.of(None, config)
        in_effect = choices.in_effect(storage)
        authorization = Authorization.of(authorize_virtual_chunk_access, in_effect)
        configured = storage.configured(in_effect.storage)
        check_place(configured, version, must_be_clean=check_clean_root)
        chosen = None if choices.config == RepositoryConfig() else choices.config
        level = effective(in_effect).compression_level
        seen: Seen | None = None
        entry: EntryPoint | None = None
        if version == SpecVersion.v1:
            text = None if chosen is None else config_to_yaml(chosen_for(chosen, storage))
            seen = create_repository_v1(configured, text, now_us(), level=level)
        else:
            entry = EntryPoint(configured)
            stored = None if chosen is None else encode_config(chosen)
            create_repository(configured, entry, stored, now_us(), level=level)
        context = RepoContext(
            configured,
            in_effect,
            spec_version=version,
            entry=entry,
            seen=seen,
            authorization=authorization,
        )
        return cls(storage, choices, context)

    create_async = in_thread(create)

    @classmethod
    def open(
        cls,
        storage: Storage,
        config: RepositoryConfig | None = None,
        authorize_virtual_chunk_access: Mapping[str, Any] | None = None,
        attribution: Attribution | None = None,
    ) -> Self:
        """Open an existing repository. Costs one request; three for one of spec version 1.

        Parameters
        ----------
        storage
            Where it is.
        config
            Configuration that takes precedence over the stored one, setting by setting.
        authorize_virtual_chunk_access
            Which virtual chunk containers may be read, and with what credentials: what
            `icechunk.containers_credentials` makes. Travels with pickles and forks.
        attribution
            On whose behalf requests are sent, for the logs of the object store.

        Raises
        ------
        RepositoryNotFoundError
            There is none.
        FormatError
            Kind ``unsupported-spec-version``: it is of a later version than 2.
        """
        storage = attributed(storage, attribution)
        passed = None if config is None else config.storage
        found = find_repository(storage.configured(passed))
        choices = Choices.of(found.config, config)
        in_effect = choices.in_effect(storage)
        authorization = Authorization.of(authorize_virtual_chunk_access, in_effect)
        context = RepoContext(
            storage.configured(in_effect.storage),
            in_effect,
            spec_version=found.spec_version,
            seen=found.seen,
            authorization=authorization,
        )
        return cls(storage, choices, context)

    open_async = in_thread(open)

    @classmethod
    def open_or_create(
        cls,
        storage: Storage,
        config: RepositoryConfig | None = None,
        authorize_virtual_chunk_access: Mapping[str, Any] | None = None,
        create_version: SpecVersion | int | None = None,
        check_clean_root: bool = True,
        attribution: Attribution | None = None,
    ) -> Self:
        """Open the repository in a storage, creating it first if there is none.

        Takes what `open` and `create` take; of several processes that do so at once, one creates
        the repository and the others open it.
        """
        storage = attributed(storage, attribution)
        if cls.exists(storage, None if config is None else config.storage):
            return cls.open(storage, config, authorize_virtual_chunk_access, attribution)
        try:
            return cls.create(
                storage,
                config,
                authorize_virtual_chunk_access,
                create_version,
                check_clean_root,
                attribution,
            )
        except (ConflictError, InvalidInputError):
            # Somebody else may have been faster; if it was not that, the first error stands.
            if not cls.exists(storage, None if config is None else config.storage):
                raise
            return cls.open(storage, config, authorize_virtual_chunk_access, attribution)

    open_or_create_async = in_thread(open_or_create)

    @staticmethod
    def exists(storage: Storage, storage_settings: StorageSettings | None = None) -> bool:
        """Tell whether there is a repository, of any version, in a storage."""
        return find_spec_version(storage.configured(storage_settings)) is not None

    exists_async = in_thread(exists)

    @staticmethod
    def check_storage(
        storage: Storage, storage_settings: StorageSettings | None = None
    ) -> StorageCheck:
        """Try whether a store does what repositories rely on, before trusting it with one.

        Conditional writes above all: a store that takes their conditions and ignores them loses
        commits without notice. Also reading and listing what was just written, metadata, copies on
        the server, and its clock. Works on scratch objects below the prefix, in a folder
        ``icechunk-check``, and removes them. Takes some thirty requests.

        Parameters
        ----------
        storage
            What to try; a repository may be in it or not.
        storage_settings
            Settings under which it would be used.

        Returns
        -------
        StorageCheck
            `verdict` says in one sentence what is safe, `is_safe` whether any number of processes
            may write, `findings` what was seen.

        Raises
        ------
        StorageError
            The store cannot be reached, or these credentials may not write.
        """
        return check_storage(storage, storage_settings)

    check_storage_async = in_thread(check_storage)

    @staticmethod
    def fetch_spec_version(
        storage: Storage, storage_settings: StorageSettings | None = None
    ) -> SpecVersion | None:
        """Return the version of the repository in a storage, None when there is no repository."""
        found = find_spec_version(storage.configured(storage_settings))
        return None if found is None else SpecVersion(found)

    fetch_spec_version_async = in_thread(fetch_spec_version)

    @staticmethod
    def fetch_config(storage: Storage) -> RepositoryConfig | None:
        """Return the configuration stored with a repository, None if none is.

        Raises
        ------
        RepositoryNotFoundError
            There is no repository.
        """
        return find_repository(storage.configured(None)).config

    fetch_config_async = in_thread(fetch_config)

    def reopen(
        self,
        config: RepositoryConfig | None = None,
        authorize_virtual_chunk_access: Mapping[str, Any] | None = None,
    ) -> Self:
        """Open the same repository once more, with another configuration.

        The other object has caches of its own, and no default commit metadata. What others stored
        as configuration meanwhile is not looked at: for that, `open` the storage.

        Parameters
        ----------
        config
            Takes precedence over the configuration of this object, setting by setting.
        authorize_virtual_chunk_access
            Takes the place of what this object may read; by default that stays.

        Raises
        ------
        RepositoryNotFoundError
            The repository is gone.
        TypeError
            The configuration is no `RepositoryConfig`.
        """
        choices = Choices.of(self._choices.config, config)
        in_effect = choices.in_effect(self._storage)
        authorization = self._context.virtual.authorization
        if authorize_virtual_chunk_access is not None:
            authorization = Authorization.of(authorize_virtual_chunk_access, in_effect)
        configured = self._storage.configured(in_effect.storage)
        found = find_repository(configured)
        # Who saves the configuration later replaces the one that this object knows, and no other.
        seen = self._stored_config or found.seen
        context = RepoContext(
            configured,
            in_effect,
            spec_version=found.spec_version,
            seen=seen,
            authorization=authorization,
        )
        return type(self)(self._storage, choices, context)

    reopen_async = in_thread(reopen)

    def __reduce__(self) -> tuple[object, ...]:
        authorization = self._context.virtual.authorization
        return _unpickle, (
            type(self),
            self._storage,
            self._choices,
            self._default_metadata,
            authorization,
            self._context.spec_version,
            None if self._stored_config is None else self._stored_config.data,
        )

    # --- what it is ----------------------------------------------------------------------------

    @property
    def storage(self) -> Storage:
        """The storage the repository is in."""
        return self._storage

    @property
    def config(self) -> RepositoryConfig:
        """A copy of the configuration in effect, storage defaults filled in."""
        return copy.deepcopy(self._context.config)

    @property
    def spec_version(self) -> SpecVersion:
        """Version of the format the repository follows."""
        return SpecVersion(self._context.spec_version)

    @property
    def authorized_virtual_container_prefixes(self) -> set[str]:
        """Prefixes of the virtual chunk containers that may be read, as they were passed."""
        return self._context.virtual.authorization.prefixes

    def save_config(self) -> None:
        """Store the configuration, for everybody who opens the repository from now on.

        What was chosen is stored, not what the storage defaults to. Raises as every change does,
        see `create_branch`.
        """
        config = chosen_for(self._choices.config, self._storage)
        self._context.update(SetConfig(encode_config(config)))

    save_config_async = in_thread(save_config)

    # --- metadata, status, features ------------------------------------------------------------

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata of the repository, as `get_metadata` returns them."""
        return self.get_metadata()

    def get_metadata(self) -> dict[str, Any]:
        """Return the metadata of the repository that are stored now."""
        return copy.deepcopy(dict(self._context.info(_METADATA).metadata))

    get_metadata_async = in_thread(get_metadata)

    def set_metadata(self, metadata: dict[str, Any]) -> None:
        """Replace the metadata of the repository.

        Raises
        ------
        TypeError
            The metadata are not JSON-like.
        ReadOnlyError
            Kind ``read-only-repository``: the repository takes no changes now.
        """
        self._context.update_info(SetMetadata(to_plain(metadata)), _METADATA)

    set_metadata_async = in_thread(set_metadata)

    def update_metadata(self, metadata: dict[str, Any]) -> dict[str, Any]:
        """Lay metadata over those of the repository, key by key, and return the result.

        What others set under other keys at the same time is kept. Raises as `set_metadata` does.
        """
        info = self._context.update_info(UpdateMetadata(to_plain(metadata)), _METADATA)
        return copy.deepcopy(dict(info.metadata))

    update_metadata_async = in_thread(update_metadata)

    @property
    def status(self) -> RepoStatus:
        """Whether the repository takes changes, as `get_status` returns it."""
        return self.get_status()

    def get_status(self) -> RepoStatus:
        """Return whether the repository takes changes now, since when, and why not."""
        return public_status(self._context.info(_STATUS).status)

    get_status_async = in_thread(get_status)

    def set_status(self, status: RepoStatus) -> None:
        """Open or close the repository for changes, by anybody.

        While it is read-only, nothing but this call changes it: writable sessions are not opened,
        and those that are open fail at their commit, which they can try again later.

        Raises
        ------
        TypeError
            The status is no `RepoStatus`.
        """
        if not isinstance(status, RepoStatus):
            raise TypeError(f"the status must be RepoStatus, not {type(status).__name__}")
        self._context.update_info(SetStatus(stored_status(status)), _STATUS)

    set_status_async = in_thread(set_status)

    def feature_flags(self) -> list[FeatureFlag]:
        """Return every feature that can be switched off, and whether it is on."""
        return flags_of(self._context.info(_FLAGS))

    feature_flags_async = in_thread(feature_flags)

    def enabled_feature_flags(self) -> list[FeatureFlag]:
        """Return the features that are on."""
        return [flag for flag in self.feature_flags() if flag.enabled]

    enabled_feature_flags_async = in_thread(enabled_feature_flags)

    def disabled_feature_flags(self) -> list[FeatureFlag]:
        """Return the features that are off."""
        return [flag for flag in self.feature_flags() if not flag.enabled]

    disabled_feature_flags_async = in_thread(disabled_feature_flags)

    def set_feature_flag(self, name: str, setting: bool | None) -> None:
        """Switch a feature on (True) or off (False) for everybody, or back to its default (None).

        Raises
        ------
        InvalidInputError
            Kind ``invalid-feature-flag``: there is no feature called `name`.
        TypeError
            The `setting` is none of the three.
        ReadOnlyError
            Kind ``read-only-repository``: the repository takes no changes now.
        """
        if not (setting is None or isinstance(setting, bool)):
            raise TypeError(f"setting must be True, False or None, not {setting!r}")
        self._context.entry.whole(_FLAGS)
        self._context.update_info(SetFeatureFlag(feature_number(name), setting), _FLAGS)

    set_feature_flag_async = in_thread(set_feature_flag)

    # --- default commit metadata ---------------------------------------------------------------

    def set_default_commit_metadata(self, metadata: dict[str, Any]) -> None:
        """Set properties for the commits of sessions opened from now on through this object.

        The metadata of a commit is laid over them. They are not stored.

        Raises
        ------
        TypeError
            The metadata are not JSON-like.
        """
        self._default_metadata = to_plain(metadata)

    def default_commit_metadata(self) -> dict[str, Any]:
        """Return the properties that `set_default_commit_metadata` set."""
        return copy.deepcopy(self._default_metadata)

    # --- history -------------------------------------------------------------------------------

    def ancestry(
        self,
        *,
        branch: str | None = None,
        tag: str | None = None,
        snapshot_id: str | None = None,
    ) -> AsyncCloseableIterator[SnapshotInfo]:
        """Iterate over the history of a branch, tag or snapshot, newest first.

        Works with ``for`` and ``async for``. The history is that of the moment of the call; no
        snapshot file is opened. In spec version 1 each is, as the iteration gets there.

        Raises
        ------
        ValueError
            Not exactly one of the three was given.
        RefNotFoundError
            There is no such branch or tag.
        SnapshotNotFoundError
            There is no such snapshot.
        """
        state, start = self._resolve(branch, tag, snapshot_id)
        history = state.snapshots
        return AsyncCloseableIterator(
            SnapshotInfo._of_rows(history, history.ancestry(start)),
            blocking=isinstance(history, FileHistory) and not self._context.storage.is_local,
        )

    def async_ancestry(
        self,
        *,
        branch: str | None = None,
        tag: str | None = None,
        snapshot_id: str | None = None,
    ) -> AsyncCloseableIterator[SnapshotInfo]:
        """Do as `ancestry` does, whose iterator serves ``async for`` too."""
        return self.ancestry(branch=branch, tag=tag, snapshot_id=snapshot_id)

    def ancestry_graph(
        self,
        *,
        branch: str | None = None,
        tag: str | None = None,
        snapshot_id: str | None = None,
        plain: bool = False,
    ) -> AncestryGraph:
        """Draw the history of all branches, or that of one branch, tag or snapshot.

        Parameters
        ----------
        branch, tag, snapshot_id
            Whose history: one of them, or none for all branches, ``main`` leftmost.
        plain
            Whether to do without colours, for logs and files.

        Returns
        -------
        AncestryGraph
            Text when printed, an image in notebooks. Shows the 100 newest commits, each above its
            parent; no snapshot file is opened.

        Raises
        ------
        ValueError
            More than one of the three was given.
        RefNotFoundError
            There is no such branch or tag.
        SnapshotNotFoundError
            There is no such snapshot.
        """
        if branch is None and tag is None and snapshot_id is None:
            return AncestryGraph(graph_of_branches(self._context.state()), plain)
        state, start = self._resolve(branch, tag, snapshot_id)
        return AncestryGraph(graph_of_history(state, start, branch), plain)

    ancestry_graph_async = in_thread(ancestry_graph)

    def lookup_snapshot(self, snapshot_id: str) -> SnapshotInfo:
        """Return what the history knows about one snapshot.

        Raises
        ------
        SnapshotNotFoundError
            The repository does not know it.
        """
        state, snapshot = self._resolve(None, None, snapshot_id)
        return SnapshotInfo._of(state.snapshots.info(snapshot))

    lookup_snapshot_async = in_thread(lookup_snapshot)

    def diff(
        self,
        *,
        from_branch: str | None = None,
        from_tag: str | None = None,
        from_snapshot_id: str | None = None,
        to_branch: str | None = None,
        to_tag: str | None = None,
        to_snapshot_id: str | None = None,
    ) -> Diff:
        """Say what was done between two points of a history: nodes, chunks and moves by path.

        What was created and deleted again in between is left out. Where commits in between have
        expired and their transaction logs are gone, what they did is missing, and a warning logged.

        Parameters
        ----------
        from_branch, from_tag, from_snapshot_id
            The earlier point: exactly one of them.
        to_branch, to_tag, to_snapshot_id
            The later point: exactly one of them.

        Raises
        ------
        ValueError
            A point is not given by exactly one argument.
        RefNotFoundError
            There is no such branch or tag.
        SnapshotNotFoundError
            There is no such snapshot.
        InvalidInputError
            Kind ``bad-snapshot-chain-for-diff``: the later point is not a descendant of the
            earlier one.

        Notes
        -----
        Costs the two snapshots, and one transaction log per commit in between.
        """
        state, base = self._resolve(from_branch, from_tag, from_snapshot_id)
        _, tip = self._resolve(to_branch, to_tag, to_snapshot_id, state)
        return compare(self._context.assets, state, base, tip)

    diff_async = in_thread(diff)

    def list_manifest_files(self, snapshot_id: str) -> list[ManifestFileInfo]:
        """List the manifest files of a snapshot, sorted by id."""
        _, snapshot = self._resolve(None, None, snapshot_id)
        files = self._context.assets.snapshot(snapshot).manifest_files
        return sorted(map(ManifestFileInfo._of, files), key=lambda file: file.id)

    list_manifest_files_async = in_thread(list_manifest_files)

    def ops_log(self) -> AsyncCloseableIterator[Update]:
        """Iterate over everything that was done to the repository, newest first.

        Older parts of the log are fetched as the iteration reaches them.
        """
        entry = self._context.entry.whole("the operations log")
        entries = read_log(entry.load().info, entry.load_backup)
        return AsyncCloseableIterator(
            map(Update._of, entries), blocking=not self._context.storage.is_local
        )

    def ops_log_async(self) -> AsyncCloseableIterator[Update]:
        """Do as `ops_log` does, whose iterator serves ``async for`` too."""
        return self.ops_log()

    # --- branches ------------------------------------------------------------------------------

    def create_branch(self, branch: str, snapshot_id: str) -> None:
        """Point a new branch at a snapshot.

        Raises
        ------
        AlreadyExistsError
            Kind ``branch-already-exists``.
        SnapshotNotFoundError
            The repository does not know the snapshot.
        ReadOnlyError
            Kind ``read-only-repository``: the repository takes no changes now.
        ConflictError
            Kind ``update-attempts-exhausted``: too many others changed the repository meanwhile.
        """
        self._context.update(CreateBranch(branch, _parse_id(snapshot_id)))

    create_branch_async = in_thread(create_branch)

    def list_branches(self) -> set[str]:
        """Return the names of all branches."""
        return names_of(self._context.state().branches)

    list_branches_async = in_thread(list_branches)

    def lookup_branch(self, branch: str) -> str:
        """Return the id of the snapshot a branch points to.

        Raises
        ------
        RefNotFoundError
            There is no such branch.
        """
        return encode_id(branch_tip(self._context.state(), branch))

    lookup_branch_async = in_thread(lookup_branch)

    def reset_branch(
        self, branch: str, snapshot_id: str, *, from_snapshot_id: str | None = None
    ) -> None:
        """Point a branch at any snapshot of the repository, whatever it pointed to.

        Parameters
        ----------
        branch
            Name of the branch.
        snapshot_id
            Where it shall point.
        from_snapshot_id
            If given, the branch is moved only if it still points here.

        Raises
        ------
        RefNotFoundError
            There is no such branch.
        SnapshotNotFoundError
            The repository does not know the snapshot.
        ConflictError
            Kind ``branch-update-conflict``: the branch is not at `from_snapshot_id`.
        """
        expected = None if from_snapshot_id is None else _parse_id(from_snapshot_id)
        self._context.update(ResetBranch(branch, _parse_id(snapshot_id), expected))

    reset_branch_async = in_thread(reset_branch)

    def delete_branch(self, branch: str) -> None:
        """Delete a branch. Its snapshots stay until garbage is collected.

        Raises
        ------
        RefNotFoundError
            There is no such branch.
        SessionStateError
            Kind ``cannot-delete-main``: every repository has a branch ``main``.
        """
        self._context.update(DeleteBranch(branch))

    delete_branch_async = in_thread(delete_branch)

    # --- tags ----------------------------------------------------------------------------------

    def create_tag(self, tag: str, snapshot_id: str) -> None:
        """Give a snapshot a name that will never mean another one.

        Raises
        ------
        AlreadyExistsError
            Kind ``tag-already-exists``, or ``tag-previously-deleted``: names are not reused.
        SnapshotNotFoundError
            The repository does not know the snapshot.
        SessionStateError
            Kind ``feature-flag-disabled``: the repository does not allow it.
        """
        self._context.update(CreateTag(tag, _parse_id(snapshot_id)))

    create_tag_async = in_thread(create_tag)

    def list_tags(self) -> set[str]:
        """Return the names of all tags, without deleted ones."""
        return names_of(self._context.state().tags)

    list_tags_async = in_thread(list_tags)

    def lookup_tag(self, tag: str) -> str:
        """Return the id of the snapshot a tag stands for.

        Raises
        ------
        RefNotFoundError
            There is no such tag.
        """
        return encode_id(tag_target(self._context.state(), tag))

    lookup_tag_async = in_thread(lookup_tag)

    def delete_tag(self, tag: str) -> None:
        """Delete a tag; its name stays taken.

        Raises
        ------
        RefNotFoundError
            There is no such tag.
        SessionStateError
            Kind ``feature-flag-disabled``: the repository does not allow it.
        """
        self._context.update(DeleteTag(tag))

    delete_tag_async = in_thread(delete_tag)

    # --- sessions ------------------------------------------------------------------------------

    def readonly_session(
        self,
        branch: str | None = None,
        *,
        tag: str | None = None,
        snapshot_id: str | None = None,
        as_of: datetime | None = None,
    ) -> Session:
        """Open one state of the data for reading.

        Parameters
        ----------
        branch, tag, snapshot_id
            Which state: exactly one of them.
        as_of
            With `branch`: the newest state of its history that was written by then. Needs a time
            zone.

        Raises
        ------
        ValueError
            Not exactly one was given, or `as_of` without a branch.
        RefNotFoundError
            There is no such branch or tag.
        SnapshotNotFoundError
            There is no such snapshot, or none that old (kind ``no-snapshot-at-time``).
        """
        if as_of is None:
            return Session.readonly(self._context, self._resolve(branch, tag, snapshot_id)[1])
        if branch is None or tag is not None or snapshot_id is not None:
            raise ValueError("as_of argument must be provided together with a branch name")
        time_us = from_datetime(as_of)
        return Session.readonly(self._context, snapshot_at(self._context.state(), branch, time_us))

    readonly_session_async = in_thread(readonly_session)

    def writable_session(self, branch: str) -> Session:
        """Open the tip of a branch for writing.

        The session stays at that tip; a commit fails if somebody else commits to the branch first.

        Raises
        ------
        RefNotFoundError
            There is no such branch.
        ReadOnlyError
            Kind ``read-only-storage``, or ``read-only-repository``: no changes are taken now.
        """
        tip = self._tip_to_write(branch, IsOnline("Cannot create writable session"))
        return Session.writable(self._context, branch, tip, self.default_commit_metadata())

    writable_session_async = in_thread(writable_session)

    def rearrange_session(self, branch: str) -> Session:
        """Open the tip of a branch for moving and renaming nodes, and for nothing else.

        Raises
        ------
        RefNotFoundError
            There is no such branch.
        ReadOnlyError
            Kind ``read-only-storage``, or ``read-only-repository``: no changes are taken now.
        SessionStateError
            Kind ``feature-flag-disabled``: the repository does not allow moves.
        """
        self._context.entry.whole(MOVING)
        online = IsOnline("Cannot create rearrange session")
        tip = self._tip_to_write(branch, online, OPEN_REARRANGING)
        return Session.writable(
            self._context, branch, tip, self.default_commit_metadata(), rearrange=True
        )

    rearrange_session_async = in_thread(rearrange_session)

    @contextmanager
    def transaction(
        self,
        branch: str,
        *,
        message: str,
        metadata: dict[str, Any] | None = None,
        rebase_with: ConflictSolver | None = None,
        rebase_tries: int = 1000,
    ) -> Iterator[IcechunkStore]:
        """Write to a branch in a ``with`` block and commit at its end.

        An error inside the block leaves it unchanged, and nothing is committed.

        Parameters
        ----------
        branch
            Branch to write to.
        message, metadata, rebase_with, rebase_tries
            See `Session.commit`.

        Yields
        ------
        IcechunkStore
            The store to write to.

        Raises
        ------
        SessionStateError
            Kind ``no-changes-to-commit``: the block wrote nothing. Else as `writable_session` and
            `Session.commit`.
        """
        session = self.writable_session(branch)
        yield session.store
        session.commit(message, metadata, rebase_with=rebase_with, rebase_tries=rebase_tries)

    # --- upkeep --------------------------------------------------------------------------------

    def rewrite_manifests(
        self,
        message: str,
        *,
        branch: str,
        metadata: dict[str, Any] | None = None,
        commit_method: Literal["new_commit", "amend"] = "new_commit",
    ) -> str:
        """Write all manifests of a branch anew, as the splitting configuration now has them.

        Data and nodes stay as they are. Worth it after the configuration has changed, or when many
        small commits have cut the manifests up.

        Parameters
        ----------
        message
            Describes the commit.
        branch
            Branch to commit to.
        metadata
            Properties of the commit. The splitting configuration is added under ``__icechunk``.
        commit_method
            Whether the result follows the tip of the branch or takes its place.

        Returns
        -------
        str
            Id of the new snapshot.

        Raises
        ------
        ValueError
            `commit_method` is none of the two.
        ConflictError
            Somebody committed to the branch meanwhile.
        SessionStateError
            Kind ``no-amend-for-initial-commit``.

        Notes
        -----
        Reads and writes every manifest of the branch; peak memory is that of the largest array's.
        """
        if commit_method not in ("new_commit", "amend"):
            raise ValueError(
                f"Invalid commit method: {commit_method!r}. Expected 'new_commit' or 'amend'."
            )
        if commit_method == "amend" and self.spec_version == SpecVersion.v1:
            raise needs_version_2(AMENDING, ErrorKind.UNSUPPORTED_OPERATION_FOR_VERSION)
        rules = splitting_to_dict(self._context.settings.splitting)
        plain = {} if metadata is None else to_plain(metadata)
        properties = with_ours(plain, splitting_config=rules)
        session = self.writable_session(branch)
        return session._commit(
            message, properties, allow_empty=True, rewrite=True, amend=commit_method == "amend"
        )

    rewrite_manifests_async = in_thread(rewrite_manifests)

    # --- expiration ----------------------------------------------------------------------------

    def expire_snapshots(
        self,
        older_than: datetime,
        *,
        delete_expired_branches: bool = False,
        delete_expired_tags: bool = False,
    ) -> set[str]:
        """Shorten histories: release the snapshots that were written before some time.

        Snapshots that a branch or a tag points to stay; so does the first one of the repository.
        What comes after a released snapshot then descends from the first one. `diff` and rebases
        see no difference, they find the transaction logs in between. Nothing is deleted: released
        snapshots can be collected as garbage afterwards.

        Parameters
        ----------
        older_than
            Snapshots written before this time expire.
        delete_expired_branches
            Whether to delete branches whose tips have expired, instead of keeping the tips;
            ``main`` always stays.
        delete_expired_tags
            Whether to delete tags of expired snapshots; their names stay taken.

        Returns
        -------
        set of str
            Ids of the released snapshots.

        Raises
        ------
        TypeError
            `older_than` is no datetime, or has no time zone.
        ReadOnlyError
            Kind ``read-only-storage`` or ``read-only-repository``: nothing can be changed now.
        ConflictError
            Kind ``update-attempts-exhausted``: too many others changed the repository meanwhile.

        Notes
        -----
        One update of the repository, whose outcome is computed from the state that it replaces:
        commits that others make meanwhile are kept. The operations log gets an entry even when
        nothing has expired. Its outcome is computed within milliseconds even for 10,000 snapshots.

        In spec version 1 all snapshots of all histories are read, and some files written anew.
        Then refs are deleted one by one. Differences over expired snapshots miss what these
        changed, sessions from before them cannot be rebased, and among the released snapshots may
        be some that a ref is still at.

        See Also
        --------
        plan_expiration : Says beforehand what this would do.
        """
        rule = Rule(from_datetime(older_than), delete_expired_branches, delete_expired_tags)
        return expire(self._context, rule)

    expire_snapshots_async = in_thread(expire_snapshots)

    def plan_expiration(
        self,
        older_than: datetime,
        *,
        delete_expired_branches: bool = False,
        delete_expired_tags: bool = False,
    ) -> ExpirationPlan:
        """Say what `expire_snapshots` would do now, given the same arguments, and change nothing.

        The plan can be printed, kept as JSON, and given to `run_expiration` later.

        Parameters
        ----------
        older_than
            Snapshots written before this time expire.
        delete_expired_branches, delete_expired_tags
            Whether branches and tags of expired snapshots are to go, too.

        Raises
        ------
        TypeError
            `older_than` is no datetime, or has no time zone.

        Notes
        -----
        Costs a look at the stored state.
        """
        rule = Rule(from_datetime(older_than), delete_expired_branches, delete_expired_tags)
        return planned(self._context, rule)

    plan_expiration_async = in_thread(plan_expiration)

    def run_expiration(self, plan: ExpirationPlan) -> set[str]:
        """Do what a plan says, as far as it still holds, and nothing else.

        Of the snapshots that the plan releases, those stay that a branch or a tag points to by now;
        refs that were moved since are not deleted. What else may have expired is left alone. How
        histories are shortened is computed anew from what is stored now.

        Parameters
        ----------
        plan
            Made by `plan_expiration`, just now or long ago.

        Returns
        -------
        set of str
            Ids of the released snapshots; fewer than the plan says if not all of it holds.

        Raises
        ------
        TypeError
            It is no plan.
        InvalidInputError
            Kind ``invalid-snapshot-id``: a plan that somebody has written has ids that are none.
        ReadOnlyError, ConflictError
            As `expire_snapshots` does.
        """
        if not isinstance(plan, ExpirationPlan):
            raise TypeError(f"expected an ExpirationPlan, not {type(plan).__name__}")
        return expire(self._context, rule_of(plan))

    run_expiration_async = in_thread(run_expiration)

    # --- garbage collection --------------------------------------------------------------------

    def garbage_collect(
        self,
        delete_object_older_than: datetime,
        *,
        dry_run: bool = False,
        max_snapshots_in_memory: int = 50,
        max_compressed_manifest_mem_bytes: int = 512 * 2**20,
        max_decoded_manifest_mem_bytes: int = 4 * 2**30,
        max_concurrent_manifest_fetches: int = 500,
        max_concurrent_deletes: int = 10,
        max_consecutive_delete_failures: int = 50,
        max_concurrent_listings: int | None = None,
        backup_retention: timedelta | None = None,
        progress: Callable[[GarbageProgress], object] | None = None,
    ) -> GCSummary:
        """Delete snapshots, transaction logs, manifests and chunks that nothing needs.

        What no branch or tag leads to is garbage: snapshots left behind by resets, amends, deleted
        branches and `expire_snapshots`, and what sessions wrote that never committed. Younger
        objects stay, since a session may be about to commit them: the time given must lie before
        the start of every session that is still to commit. Others may read, commit and branch
        meanwhile; what they come to need stays.

        Parameters
        ----------
        delete_object_older_than
            Only objects stored before this time are deleted, by the clock of the store; in object
            stores a second before it, since times are cut to seconds there.
        dry_run
            Whether to say what would be deleted, and delete nothing.
        max_snapshots_in_memory, max_compressed_manifest_mem_bytes, \
        max_decoded_manifest_mem_bytes, max_concurrent_manifest_fetches
            See `chunk_storage_stats`.
        max_concurrent_deletes
            Deletions sent at once, a thousand objects each. It begins with one, goes on with more
            as they succeed, and with fewer when the store asks for it.
        max_consecutive_delete_failures
            After how many failures in a row to give up.
        max_concurrent_listings
            Listings of a large folder at once, each of a range of names, on stores that list in
            order: S3 and Google. 32 by default.
        backup_retention
            How long to keep former states of the repository, in which the older part of the
            operations log is; those stored longer ago are deleted. None keeps all.
        progress
            Called with a `GarbageProgress` from time to time.

        Returns
        -------
        GCSummary
            What was deleted. A deletion that fails is counted there, and what is deleted after it
            is skipped, so that the next collection can go on.

        Raises
        ------
        TypeError
            The time is no datetime, or has no time zone.
        ValueError
            A limit is zero or less.
        ReadOnlyError
            Kind ``read-only-storage`` or ``read-only-repository``: nothing can be changed now.
        StorageError, FormatError
            Something that is needed cannot be read: nothing was deleted, `verify` tells what is
            wrong. Or deletions fail one after the other, kind ``gc-deletes-failing``.
        ConflictError
            Kind ``update-attempts-exhausted``: too many others changed the repository meanwhile.

        Notes
        -----
        Reads every snapshot and manifest that stays once, and lists the objects. Memory: the limits
        given, 50 to 70 bytes per chunk that stays up to half a gigabyte, beyond which manifests are
        read once more for every 8 million chunks; and 28 bytes per object to delete. The history is
        changed first, in one update, and objects are deleted after it: stopped at any moment, it
        leaves garbage for the next collection.

        See Also
        --------
        plan_garbage_collection : Says what would be deleted, object by object.
        """
        if dry_run:
            return self.plan_garbage_collection(
                delete_object_older_than,
                max_snapshots_in_memory=max_snapshots_in_memory,
                max_compressed_manifest_mem_bytes=max_compressed_manifest_mem_bytes,
                max_decoded_manifest_mem_bytes=max_decoded_manifest_mem_bytes,
                max_concurrent_manifest_fetches=max_concurrent_manifest_fetches,
                max_concurrent_listings=max_concurrent_listings,
                backup_retention=backup_retention,
                progress=progress,
            ).summary()
        return collect(
            self._context,
            garbage_rule(self._context.world, delete_object_older_than, backup_retention),
            Limits(
                scan_limits(
                    max_snapshots_in_memory,
                    max_compressed_manifest_mem_bytes,
                    max_decoded_manifest_mem_bytes,
                    max_concurrent_manifest_fetches,
                ),
                listings=listings_at_once(max_concurrent_listings),
            ),
            delete_limits(max_concurrent_deletes, max_consecutive_delete_failures),
            teller(progress),
        )

    garbage_collect_async = in_thread(garbage_collect)

    def plan_garbage_collection(
        self,
        delete_object_older_than: datetime,
        *,
        max_snapshots_in_memory: int = 50,
        max_compressed_manifest_mem_bytes: int = 512 * 2**20,
        max_decoded_manifest_mem_bytes: int = 4 * 2**30,
        max_concurrent_manifest_fetches: int = 500,
        max_concurrent_listings: int | None = None,
        backup_retention: timedelta | None = None,
        progress: Callable[[GarbageProgress], object] | None = None,
    ) -> GarbagePlan:
        """Say what `garbage_collect` would delete now, given the same arguments; change nothing.

        The plan can be printed, kept as JSON, and given to `run_garbage_collection` later.

        Parameters
        ----------
        delete_object_older_than, backup_retention, progress, max_snapshots_in_memory, \
        max_compressed_manifest_mem_bytes, max_decoded_manifest_mem_bytes, \
        max_concurrent_manifest_fetches, max_concurrent_listings
            See `garbage_collect`.

        Raises
        ------
        TypeError
            The time is no datetime, or has no time zone.
        ValueError
            A limit is zero or less.
        StorageError, FormatError
            Something that is needed cannot be read, so that garbage cannot be told from it.
        """
        limits = Limits(
            scan_limits(
                max_snapshots_in_memory,
                max_compressed_manifest_mem_bytes,
                max_decoded_manifest_mem_bytes,
                max_concurrent_manifest_fetches,
            ),
            listings=listings_at_once(max_concurrent_listings),
        )
        rule = garbage_rule(self._context.world, delete_object_older_than, backup_retention)
        return plan_of(find(self._context, rule, limits, teller(progress)))

    plan_garbage_collection_async = in_thread(plan_garbage_collection)

    def run_garbage_collection(
        self,
        plan: GarbagePlan,
        *,
        max_snapshots_in_memory: int = 50,
        max_compressed_manifest_mem_bytes: int = 512 * 2**20,
        max_decoded_manifest_mem_bytes: int = 4 * 2**30,
        max_concurrent_manifest_fetches: int = 500,
        max_concurrent_deletes: int = 10,
        max_consecutive_delete_failures: int = 50,
        progress: Callable[[GarbageProgress], object] | None = None,
    ) -> GCSummary:
        """Delete what a plan says, as far as it is garbage still, and nothing else.

        Garbage is looked for again: what is needed by now stays, whatever the plan says. So a plan
        may be of any age and come from anywhere.

        Parameters
        ----------
        plan
            Made by `plan_garbage_collection`, just now or long ago.
        progress, max_snapshots_in_memory, max_compressed_manifest_mem_bytes, \
        max_decoded_manifest_mem_bytes, max_concurrent_manifest_fetches, max_concurrent_deletes, \
        max_consecutive_delete_failures
            See `garbage_collect`.

        Returns
        -------
        GCSummary
            What was deleted; less than the plan says if not all of it holds.

        Raises
        ------
        TypeError
            It is no plan.
        InvalidInputError
            Kind ``invalid-snapshot-id``: a plan that somebody has written has ids that are none.
        ReadOnlyError, ConflictError, StorageError, FormatError
            As `garbage_collect` does.
        """
        if not isinstance(plan, GarbagePlan):
            raise TypeError(f"expected a GarbagePlan, not {type(plan).__name__}")
        limits = Limits(
            scan_limits(
                max_snapshots_in_memory,
                max_compressed_manifest_mem_bytes,
                max_decoded_manifest_mem_bytes,
                max_concurrent_manifest_fetches,
            )
        )
        deletes = delete_limits(max_concurrent_deletes, max_consecutive_delete_failures)
        return run_plan(self._context, plan, limits, deletes, teller(progress))

    run_garbage_collection_async = in_thread(run_garbage_collection)

    # --- verification --------------------------------------------------------------------------

    def verify(
        self,
        *,
        read_chunks: bool = False,
        decode_chunks: bool = False,
        virtual: bool = False,
        read_backups: bool = False,
        max_faults: int = 10_000,
        progress: Callable[[VerifyProgress], object] | None = None,
        max_snapshots_in_memory: int = 50,
        max_compressed_manifest_mem_bytes: int = 512 * 2**20,
        max_decoded_manifest_mem_bytes: int = 4 * 2**30,
        max_concurrent_manifest_fetches: int = 500,
    ) -> VerifyReport:
        """Look for everything that is wrong with what is stored. Writes nothing.

        Goes from branches and tags through the history to snapshots, transaction logs, manifests
        and chunks, and through the operations log and its backups. Whoever commits or collects
        garbage meanwhile causes no faults. Snapshots that no branch or tag leads to are looked at
        too, as long as the history has them.

        Parameters
        ----------
        read_chunks
            Whether to read the objects of native chunks, each once. By default their existence and
            length are checked, by listing them.
        decode_chunks
            Whether to decode native and inline chunks with the codecs of their arrays, too.
        virtual
            Whether to ask for the files of virtual chunks, one request for each; those of
            containers that were not authorized get a warning.
        read_backups
            Whether to decode all former states below ``overwritten/``, one per update of the
            repository. By default only those are that the operations log continues in.
        max_faults
            How many faults the report has room for; those beyond are counted.
        progress
            Called with a `VerifyProgress` from time to time.
        max_snapshots_in_memory, max_compressed_manifest_mem_bytes, \
        max_decoded_manifest_mem_bytes, max_concurrent_manifest_fetches
            See `chunk_storage_stats`.

        Returns
        -------
        VerifyReport
            `is_clean` tells whether all is well, `faults` what is not, `exit_status` what a script
            should exit with.

        Raises
        ------
        ValueError
            A limit is zero or less.
        StorageError
            The storage cannot be listed.

        Notes
        -----
        Reads every snapshot, transaction log and manifest once, and lists all objects. Beside the
        limits it takes some 40 bytes of memory per chunk object, and 50 per manifest of an array.
        """
        limits = scan_limits(
            max_snapshots_in_memory,
            max_compressed_manifest_mem_bytes,
            max_decoded_manifest_mem_bytes,
            max_concurrent_manifest_fetches,
        )
        options = VerifyOptions(
            limits,
            positive("max_faults", max_faults),
            read_chunks=read_chunks,
            read_backups=read_backups,
        )
        return verify_context(
            self._context, options, decode=decode_chunks, virtual=virtual, progress=progress
        )

    verify_async = in_thread(verify)

    @classmethod
    def verify_storage(
        cls,
        storage: Storage,
        config: RepositoryConfig | None = None,
        authorize_virtual_chunk_access: Mapping[str, Any] | None = None,
        *,
        read_chunks: bool = False,
        decode_chunks: bool = False,
        virtual: bool = False,
        read_backups: bool = False,
        max_faults: int = 10_000,
        progress: Callable[[VerifyProgress], object] | None = None,
    ) -> VerifyReport:
        """Verify what may be too damaged to be opened; see `verify` for what that does.

        Where the object ``repo`` is gone or cannot be decoded, that is a fault like any other, and
        the walk begins with the newest former state that can. Nothing is decoded then, and no
        virtual chunk looked at.

        Parameters
        ----------
        storage, config, authorize_virtual_chunk_access
            See `open`.
        read_chunks, decode_chunks, virtual, read_backups, max_faults, progress
            See `verify`.

        Raises
        ------
        RepositoryNotFoundError
            Nothing there looks like a repository.
        StorageError
            The storage cannot be read or listed.
        """
        try:
            repo = cls.open(storage, config, authorize_virtual_chunk_access)
        except (FormatError, NotFoundError):
            passed = RepositoryConfig() if config is None else config
            options = VerifyOptions(
                ScanLimits(),
                positive("max_faults", max_faults),
                read_chunks=read_chunks or decode_chunks,
                read_backups=read_backups,
            )
            return verify_damaged(storage.configured(passed.storage), passed, options, progress)
        return repo.verify(
            read_chunks=read_chunks,
            decode_chunks=decode_chunks,
            virtual=virtual,
            read_backups=read_backups,
            max_faults=max_faults,
            progress=progress,
        )

    verify_storage_async = in_thread(verify_storage)

    # --- versions of the format ------------------------------------------------------------------

    def plan_upgrade(
        self, *, delete_unused_v1_files: bool = True, prefetch_concurrency: int | None = None
    ) -> UpgradePlan:
        """Say what `icechunk.upgrade_icechunk_repository` would do now, and change nothing.

        Takes what that takes, raises and costs what a dry run of it does.
        """
        return self._migration(delete_unused_v1_files, prefetch_concurrency).plan()

    plan_upgrade_async = in_thread(plan_upgrade)

    # --- statistics ----------------------------------------------------------------------------

    def chunk_storage_stats(
        self,
        *,
        max_snapshots_in_memory: int = 50,
        max_compressed_manifest_mem_bytes: int = 512 * 2**20,
        max_decoded_manifest_mem_bytes: int = 4 * 2**30,
        max_concurrent_manifest_fetches: int = 500,
    ) -> ChunkStorageStats:
        """Add up the storage that chunks take, over all snapshots a branch or tag leads to.

        A chunk that several snapshots or arrays share is counted once: native chunks by their id,
        virtual ones by file and range. Inlined chunks are part of manifests and counted once in
        each. What no ref leads to any more is left to garbage collection and not counted.

        Parameters
        ----------
        max_snapshots_in_memory
            Snapshots fetched at once.
        max_compressed_manifest_mem_bytes
            Memory for manifest files.
        max_decoded_manifest_mem_bytes
            Memory for decoded manifests, estimated from their size; a larger one is read alone.
        max_concurrent_manifest_fetches
            Manifests fetched at once; more than a few dozen make no difference.

        Raises
        ------
        ValueError
            A limit is zero or less.
        StorageError, FormatError
            A snapshot or manifest cannot be read.

        Notes
        -----
        Reads every snapshot and every manifest once, whatever they share. Beside the limits it
        takes about 12 bytes of memory per native and 32 per virtual chunk.
        """
        limits = scan_limits(
            max_snapshots_in_memory,
            max_compressed_manifest_mem_bytes,
            max_decoded_manifest_mem_bytes,
            max_concurrent_manifest_fetches,
        )
        return chunk_storage(self._context.assets, self._context.state(), limits)

    chunk_storage_stats_async = in_thread(chunk_storage_stats)

    def total_chunks_storage(
        self,
        *,
        max_snapshots_in_memory: int = 50,
        max_compressed_manifest_mem_bytes: int = 512 * 2**20,
        max_decoded_manifest_mem_bytes: int = 4 * 2**30,
        max_concurrent_manifest_fetches: int = 500,
    ) -> int:
        """Do as `chunk_storage_stats` does, but return the bytes of native chunks alone.

        Deprecated: take `native_bytes` of what that returns.
        """
        warnings.warn(_TOTAL_IS_DEPRECATED, DeprecationWarning, stacklevel=2)
        return self.chunk_storage_stats(
            max_snapshots_in_memory=max_snapshots_in_memory,
            max_compressed_manifest_mem_bytes=max_compressed_manifest_mem_bytes,
            max_decoded_manifest_mem_bytes=max_decoded_manifest_mem_bytes,
            max_concurrent_manifest_fetches=max_concurrent_manifest_fetches,
        ).native_bytes

    async def total_chunks_storage_async(
        self,
        *,
        max_snapshots_in_memory: int = 50,
        max_compressed_manifest_mem_bytes: int = 512 * 2**20,
        max_decoded_manifest_mem_bytes: int = 4 * 2**30,
        max_concurrent_manifest_fetches: int = 500,
    ) -> int:
        """Do as `total_chunks_storage` does, in a worker thread: see there. Deprecated like it."""
        # Not by `in_thread`: the warning shall name the caller's line.
        warnings.warn(_TOTAL_IS_DEPRECATED, DeprecationWarning, stacklevel=2)
        stats = await self.chunk_storage_stats_async(
            max_snapshots_in_memory=max_snapshots_in_memory,
            max_compressed_manifest_mem_bytes=max_compressed_manifest_mem_bytes,
            max_decoded_manifest_mem_bytes=max_decoded_manifest_mem_bytes,
            max_concurrent_manifest_fetches=max_concurrent_manifest_fetches,
        )
        return stats.native_bytes

    def storage_statistics(
        self,
        *,
        by: Literal["array", "snapshot", "branch", "tag"] = "array",
        max_snapshots_in_memory: int = 50,
        max_compressed_manifest_mem_bytes: int = 512 * 2**20,
        max_decoded_manifest_mem_bytes: int = 4 * 2**30,
        max_concurrent_manifest_fetches: int = 500,
    ) -> StorageTable:
        """Tell whose the stored chunks are, over all snapshots a branch or tag leads to.

        Parameters
        ----------
        by
            What to tell it by. An array is known by its node id, through moves and changes: one
            that was deleted and made anew at the same path is another one. A snapshot has the
            chunks that can be read in it; what it added are those that its parent does not have. A
            branch or a tag has the chunks of all snapshots it leads to.
        max_snapshots_in_memory, max_compressed_manifest_mem_bytes, \
        max_decoded_manifest_mem_bytes, max_concurrent_manifest_fetches
            See `chunk_storage_stats`.

        Returns
        -------
        StorageTable
            Columns of bytes and chunks, a row for each array, snapshot, branch or tag. Native
            chunks are counted once in each row, by their id, and virtual ones by file and range;
            inlined ones once in each manifest.

        Raises
        ------
        ValueError
            There is nothing by that name, or a limit is zero or less.
        StorageError, FormatError
            A snapshot or manifest cannot be read.

        Notes
        -----
        Reads every snapshot and every manifest once, whatever they share. Beside the limits it
        takes some 40 bytes of memory per native and 60 per virtual chunk, and by snapshot a bit for
        each manifest and snapshot.
        """
        limits = scan_limits(
            max_snapshots_in_memory,
            max_compressed_manifest_mem_bytes,
            max_decoded_manifest_mem_bytes,
            max_concurrent_manifest_fetches,
        )
        if by not in StorageTable.KINDS:
            raise ValueError(f"by must be one of {', '.join(StorageTable.KINDS)}, not {by!r}")
        assets, state = self._context.assets, self._context.state()
        if by == "array":
            return by_array(assets, state, limits)
        if by == "snapshot":
            return by_snapshot(assets, state, limits)
        return by_ref(assets, state, by, limits)

    storage_statistics_async = in_thread(storage_statistics)

    def storage_added_by(
        self,
        snapshot_id: str,
        *,
        max_snapshots_in_memory: int = 50,
        max_compressed_manifest_mem_bytes: int = 512 * 2**20,
        max_decoded_manifest_mem_bytes: int = 4 * 2**30,
        max_concurrent_manifest_fetches: int = 500,
    ) -> StorageTable:
        """Tell by array what a snapshot has and its parent has not.

        Where ancestors have expired, the parent is the first snapshot of the history, and the
        snapshot counts as having added what they did.

        Parameters
        ----------
        snapshot_id
            The snapshot.
        max_snapshots_in_memory, max_compressed_manifest_mem_bytes, \
        max_decoded_manifest_mem_bytes, max_concurrent_manifest_fetches
            See `chunk_storage_stats`.

        Returns
        -------
        StorageTable
            A row for each array with chunks or manifests that are not in the parent.

        Raises
        ------
        SnapshotNotFoundError
            The repository does not know the snapshot.
        StorageError, FormatError
            A snapshot or manifest cannot be read.

        Notes
        -----
        Reads both snapshots and the manifests of both, or none if the snapshot has none of its own.
        """
        limits = scan_limits(
            max_snapshots_in_memory,
            max_compressed_manifest_mem_bytes,
            max_decoded_manifest_mem_bytes,
            max_concurrent_manifest_fetches,
        )
        state, snapshot = self._resolve(None, None, snapshot_id)
        parent = state.snapshots.info(snapshot).parent_id
        before = [] if parent is None else [parent]
        return difference(self._context.assets, state, [snapshot], before, limits)

    storage_added_by_async = in_thread(storage_added_by)

    def storage_freed_by_expiring(
        self,
        older_than: datetime,
        *,
        delete_expired_branches: bool = False,
        delete_expired_tags: bool = False,
        max_snapshots_in_memory: int = 50,
        max_compressed_manifest_mem_bytes: int = 512 * 2**20,
        max_decoded_manifest_mem_bytes: int = 4 * 2**30,
        max_concurrent_manifest_fetches: int = 500,
    ) -> FreedStorage:
        """Tell what `expire_snapshots` would leave to garbage collection, given the same arguments.

        What no branch or tag leads to now is garbage already, and not told. Nothing is changed.

        Parameters
        ----------
        older_than
            Snapshots written before this time expire.
        delete_expired_branches, delete_expired_tags
            Whether branches and tags of expired snapshots are to go, too.
        max_snapshots_in_memory, max_compressed_manifest_mem_bytes, \
        max_decoded_manifest_mem_bytes, max_concurrent_manifest_fetches
            See `chunk_storage_stats`.

        Raises
        ------
        TypeError
            `older_than` is no datetime, or has no time zone.
        ValueError
            A limit is zero or less.
        StorageError, FormatError
            A snapshot or manifest cannot be read.

        Notes
        -----
        Reads every snapshot once, and every manifest if some are freed at all; lists the snapshots
        and transaction logs. A collection deletes by age: what is younger than it is told goes
        later. In spec version 1 an expiration writes files of snapshots anew, so that a few may
        have other sizes by then.

        See Also
        --------
        plan_expiration : Says which snapshots go and why.
        plan_garbage_collection : Says what is garbage now, object by object.
        """
        limits = scan_limits(
            max_snapshots_in_memory,
            max_compressed_manifest_mem_bytes,
            max_decoded_manifest_mem_bytes,
            max_concurrent_manifest_fetches,
        )
        plan = self.plan_expiration(
            older_than,
            delete_expired_branches=delete_expired_branches,
            delete_expired_tags=delete_expired_tags,
        )
        return freed_by(self._context.assets, self._context.state(), plan, limits)

    storage_freed_by_expiring_async = in_thread(storage_freed_by_expiring)

    # --- inspection ----------------------------------------------------------------------------

    def inspect_snapshot(self, snapshot_id: str) -> dict[str, Any]:
        """Describe a snapshot file: its nodes, and the manifests of each array.

        For debugging: the keys may grow with later versions.

        Raises
        ------
        IcechunkError
            Kind ``unknown``: the text is no id.
        StorageError
            Kind ``object-not-found``: there is no such file.
        """
        wanted = _object_id(snapshot_id, "snapshot")
        return describe_snapshot(*self._context.assets.file(FileKind.SNAPSHOT, wanted))

    inspect_snapshot_async = in_thread(inspect_snapshot)

    def inspect_repo_info(self) -> dict[str, Any]:
        """Describe the state of the repository: refs, history, and the latest operations.

        For debugging: the keys may grow with later versions.
        """
        loaded = self._context.entry.whole("the object that has all of the state").load()
        return describe_repo_info(loaded.info, loaded.data, REPO)

    inspect_repo_info_async = in_thread(inspect_repo_info)

    def inspect_manifest(self, manifest_id: str) -> dict[str, Any]:
        """Describe a manifest file: how many chunk references of which kind it has per array.

        For debugging: the keys may grow with later versions. Decodes the whole manifest.

        Raises
        ------
        IcechunkError
            Kind ``unknown``: the text is no id.
        StorageError
            Kind ``object-not-found``: there is no such file.
        """
        wanted = _object_id(manifest_id, "manifest")
        return describe_manifest(*self._context.assets.file(FileKind.MANIFEST, wanted))

    inspect_manifest_async = in_thread(inspect_manifest)

    def inspect_transaction_log(self, snapshot_id: str) -> dict[str, Any]:
        """Describe what the commit of a snapshot changed, by node id.

        Where expiration dropped ancestors of the snapshot, their changes are part of it, and the
        key ``synthetic_composite`` names them. For debugging: the keys may grow with later
        versions.

        Raises
        ------
        IcechunkError
            Kind ``unknown``: the text is no id.
        StorageError
            Kind ``object-not-found``: there is no such file.
        """
        wanted = _object_id(snapshot_id, "snapshot")
        assets = self._context.assets
        data, key = assets.file(FileKind.TRANSACTION_LOG, wanted)
        history = self._context.state().snapshots
        row = history.find(wanted)
        dropped = history.pruned(row) if row >= 0 else ()
        return describe_transaction_log(
            data, key, [(log_id, assets.find_transaction_log(log_id)) for log_id in dropped]
        )

    inspect_transaction_log_async = in_thread(inspect_transaction_log)

    # --- upgrade -------------------------------------------------------------------------------

    def _migrate(self, delete_files: bool, snapshots_at_once: int | None) -> None:
        """Bring it to spec version 2, see `icechunk.upgrade_icechunk_repository`."""
        self._context.require_writable()
        self._migration(delete_files, snapshots_at_once).run()

    def _migration(self, delete_files: bool, snapshots_at_once: int | None) -> Migration:
        if snapshots_at_once is not None:
            snapshots_at_once = positive("prefetch_concurrency", snapshots_at_once)
        return Migration.of(
            self._context, delete_files=delete_files, snapshots_at_once=snapshots_at_once
        )

    def _invalidate(self) -> None:
        """Be of no use any more, see `__getattr__`."""
        for name in Repository.__slots__:
            delattr(self, name)

    # --- display -------------------------------------------------------------------------------

    def _block(self) -> Block:
        try:
            version = int(self.spec_version)
        except RuntimeError:
            return Block.of("icechunk.Repository (invalidated by upgrade_icechunk_repository)", {})
        return Block.of(
            f"icechunk.Repository (v{version})",
            {
                "storage": self._storage,
                "config": Folded("<RepositoryConfig ...>", self._context.config._block()),
            },
        )

    # --- parts ---------------------------------------------------------------------------------

    def _tip_to_write(self, branch: str, *rules: Precondition) -> bytes:
        """Return the tip of a branch, for a session that may write on top of it."""
        self._context.require_writable()
        state = self._context.state()
        for rule in rules:
            rule.check(state)
        return branch_tip(state, branch)

    def _resolve(
        self,
        branch: str | None,
        tag: str | None,
        snapshot_id: str | None,
        state: RepoState | None = None,
    ) -> tuple[RepoState, bytes]:
        """Return a state, the one stored now, and the snapshot that just one selector names."""
        if sum(given is not None for given in (branch, tag, snapshot_id)) != 1:
            raise ValueError("Must provide one of branch, tag, or snapshot_id")
        wanted = None if snapshot_id is None else _parse_id(snapshot_id)
        state = self._context.state() if state is None else state
        if branch is not None:
            return state, branch_tip(state, branch)
        if tag is not None:
            return state, tag_target(state, tag)
        assert wanted is not None
        SnapshotKnown(wanted).check(state)
        return state, wanted

    @property
    def _stored_config(self) -> StoredConfig | None:
        """The stored configuration as this object knows it, in spec version 1."""
        entry = self._context.entry
        return entry.config if isinstance(entry, EntryPointV1) else None


def _unpickle(
    cls: type[Repository],
    storage: Storage,
    choices: Choices,
    default_metadata: dict[str, Any],
    authorization: Authorization,
    spec_version: int,
    stored_config: bytes | None,
) -> Repository:
    in_effect = choices.in_effect(storage)
    configured = storage.configured(in_effect.storage)
    context = RepoContext(
        configured,
        in_effect,
        assets=AssetManager.shared(configured, in_effect, spec_version),
        seen=StoredConfig(stored_config),
        authorization=authorization,
    )
    return cls(storage, choices, context, default_metadata)


def _parse_id(text: str) -> bytes:
    try:
        return decode_id(text, OBJECT_ID_SIZE)
    except ValueError as error:
        raise InvalidInputError(
            f"invalid snapshot id: `{text}`", ErrorKind.INVALID_SNAPSHOT_ID
        ) from error


def _object_id(text: str, what: str) -> bytes:
    if not isinstance(text, str):
        raise TypeError(f"a {what} id must be str, not {type(text).__name__}")
    try:
        return decode_id(text, OBJECT_ID_SIZE)
    except ValueError as error:
        raise IcechunkError(f"`{text}` is no {what} id: {error}", ErrorKind.UNKNOWN) from error

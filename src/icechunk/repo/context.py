"""What sessions need of a repository: storage, configuration, objects, and its changing state."""

from __future__ import annotations

import pickle
from typing import Final
from weakref import WeakValueDictionary

from icechunk.assets.authorization import Authorization
from icechunk.assets.manager import AssetManager
from icechunk.assets.preload import start_preload
from icechunk.assets.virtual import VirtualChunks
from icechunk.config import RepositoryConfig
from icechunk.config.effective import EffectiveConfig, effective
from icechunk.errors import ErrorKind, IcechunkError, ReadOnlyError
from icechunk.format.repo_info import RepoInfo
from icechunk.repo.commit_loop import UpdatePolicy, run_update
from icechunk.repo.entry_v1 import EntryPointV1
from icechunk.repo.opening import Entry, Seen, entry_of
from icechunk.repo.pace import Pace
from icechunk.repo.preconditions import BranchExists, IsOnline, Precondition, TipIs
from icechunk.repo.state import RepoState
from icechunk.repo.surroundings import REAL, Surroundings
from icechunk.repo.updates import Change
from icechunk.repo.updates_v1 import run_update_v1
from icechunk.storage.base import Storage

__all__ = ["RepoContext"]

#: Zstd level of the entry point. A long history comes out as large as at level 3, in half the time.
QUICK_LEVEL: Final = 1
#: Where bytes are not sent anywhere a fifth more of them costs less than the time to squeeze them.
LOCAL_LEVEL: Final = -3


class RepoContext:
    """One repository as seen by this process.

    Shared by everything opened from one `Repository`, and safe to use from any thread. A pickle
    carries storage and configuration; unpickled copies share the caches of their process.

    Parameters
    ----------
    storage
        Where the repository is, set up as `config` says.
    config
        The configuration in effect. Not to be changed afterwards.
    spec_version
        Version of the format the repository follows.
    assets
        Access to its objects; made anew by default, with caches of its own.
    entry
        Where its state is read and changed.
    seen
        What was read of it when it was opened, to make an entry point with.
    authorization
        Which containers of virtual chunks may be read; none by default.
    """

    __slots__ = (
        "__weakref__",
        "_pickled",
        "_policy",
        "assets",
        "config",
        "entry",
        "pace",
        "settings",
        "storage",
        "virtual",
        "world",
    )

    def __init__(
        self,
        storage: Storage,
        config: RepositoryConfig,
        *,
        spec_version: int = 2,
        assets: AssetManager | None = None,
        entry: Entry | None = None,
        seen: Seen | None = None,
        authorization: Authorization | None = None,
        world: Surroundings = REAL,
    ) -> None:
        self.storage = storage
        self.config = config
        if assets is None:
            assets = AssetManager.fresh(storage, config, spec_version)
        self.assets = assets
        self.virtual = VirtualChunks(self.assets, config, authorization or Authorization())
        self.entry = entry_of(storage, self.assets, seen) if entry is None else entry
        self.settings = effective(config)
        self._policy = update_policy(self.settings, config, is_local=storage.is_local)
        self._pickled: bytes | None = None
        self.pace = Pace()
        self.world = world

    def preload(self, snapshot_id: bytes) -> None:
        """Begin to fetch what a session on a snapshot will probably read; returns at once."""
        start_preload(self.assets, snapshot_id, self.settings.preload)

    @property
    def compression_level(self) -> int:
        """Zstd level of the entry point of spec version 2."""
        return self._policy.compression_level

    @property
    def spec_version(self) -> int:
        """Version of the format the repository follows."""
        return self.entry.spec_version

    def state(self) -> RepoState:
        """Return the state stored now; decoded once per version, or read when it is asked."""
        return self.entry.state()

    def info(self, what: str = "this") -> RepoInfo:
        """Return the state stored now, in full.

        Raises FormatError of kind ``unsupported-spec-version`` for a repository of spec version 1,
        which does not have what is to be done with it; `what` names that.
        """
        return self.entry.whole(what).load().info

    def update(self, change: Change) -> RepoState:
        """Carry a change into the stored state.

        Raises ReadOnlyError of kind ``read-only-storage`` where that cannot be, else as
        `icechunk.repo.commit_loop.run_update` and `icechunk.repo.updates_v1.run_update_v1` do.
        """
        self.require_writable()
        if isinstance(self.entry, EntryPointV1):
            return run_update_v1(self.entry, change, self._policy, self.world)
        return run_update(self.entry, change, self._policy, self.world)

    def update_info(self, change: Change, what: str) -> RepoInfo:
        """Carry a change into the stored state that only spec version 2 has; see `info`."""
        entry = self.entry.whole(what)
        self.require_writable()
        return run_update(entry, change, self._policy, self.world)

    def require_writable(self) -> None:
        """Raise ReadOnlyError when the storage can only be read."""
        if not self.storage.can_write:
            raise ReadOnlyError(
                f"cannot change the repository, the storage is read-only: {self.storage!r}",
                ErrorKind.READ_ONLY_STORAGE,
            )

    def check(self, *rules: Precondition) -> None:
        """Raise at once what an update would raise later, before anything is written.

        Costs a look at the stored state.
        """
        self.require_writable()
        state = self.state()
        try:
            for rule in (IsOnline(), *rules):
                rule.check(state)
        except IcechunkError:
            if isinstance(self.entry, EntryPointV1):
                self.entry.require_not_migrated()  # which would be the reason
            raise

    def check_tip(self, branch: str, expected_parent: bytes, *more: Precondition) -> None:
        """Do as `check` does for a commit to a branch; a lost race then costs nothing else."""
        self.check(
            BranchExists(branch, ErrorKind.BRANCH_NOT_FOUND), TipIs(branch, expected_parent), *more
        )

    def __reduce__(self) -> tuple[object, ...]:
        if self._pickled is None:
            self._pickled = pickle.dumps(
                (self.storage, self.config, self.spec_version, self.virtual.authorization),
                pickle.HIGHEST_PROTOCOL,
            )
        return _unpickle, (self._pickled,)


# The many forks of a distributed write bring the same context: it is made once, and shared while
# anything uses it. Threads that make one at the same time merely make two.
_unpickled: WeakValueDictionary[bytes, RepoContext] = WeakValueDictionary()


def _unpickle(pickled: bytes) -> RepoContext:
    context = _unpickled.get(pickled)
    if context is None:
        storage, config, spec_version, authorization = pickle.loads(pickled)
        assets = AssetManager.shared(storage, config, spec_version)
        context = RepoContext(storage, config, assets=assets, authorization=authorization)
        _unpickled[pickled] = context
    return context


def update_policy(
    chosen: EffectiveConfig, config: RepositoryConfig, *, is_local: bool
) -> UpdatePolicy:
    """Read from the configuration how updates are tried and written.

    The entry point is written by every update and read once by most: unless the configuration says
    otherwise it is compressed quickly.
    """
    level = config.compression.level if config.compression is not None else None
    if level is None:
        level = LOCAL_LEVEL if is_local else QUICK_LEVEL
    return UpdatePolicy(
        max_tries=chosen.repo_update_retries.max_tries,
        initial_backoff_ms=chosen.repo_update_retries.initial_backoff_ms,
        max_backoff_ms=chosen.repo_update_retries.max_backoff_ms,
        max_log_entries=chosen.num_updates_per_repo_info_file,
        compression_level=level,
    )

"""The entry point of a repository of spec version 2: the object ``repo``, its backups, its swap.

Everything mutable lives in that one object, so replacing it under a condition is what makes an
update atomic. This module moves it between storage and `RepoInfo`; what may be changed, and what to
do about a lost race, is decided elsewhere. Icechunk spec, "Repo info file".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from icechunk._plain import one_line
from icechunk.errors import (
    ConflictError,
    ErrorKind,
    FormatError,
    InvalidInputError,
    RepositoryNotFoundError,
    operation,
)
from icechunk.format.layout import OVERWRITTEN, REPO, backup_key
from icechunk.format.repo_info import RepoInfo, decode_repo_info, encode_repo_info
from icechunk.format.snapshot_table import SnapshotEntry
from icechunk.storage.base import ObjectNotFound, PreconditionFailed, Storage, Version
from icechunk.storage.check import require_refusal

__all__ = ["EntryPoint", "Loaded", "already_there"]

SPEC_VERSION: Final = 2


@dataclass(frozen=True, slots=True)
class Loaded:
    """One stored state of a repository: its value, its bytes, and the token to replace it by."""

    info: RepoInfo
    data: bytes
    version: Version


class EntryPoint:
    """Reads and replaces the object ``repo`` of one storage.

    The last state seen is remembered and revalidated on every `load`, so an unchanged object is
    neither transferred (where the store can tell) nor decoded again.
    """

    __slots__ = ("_seen", "_storage")

    spec_version = SPEC_VERSION
    #: Whether what a lost commit wrote can be deleted: no state comes back, it is lost for good.
    can_forget_losers = True

    def __init__(self, storage: Storage, seen: Loaded | None = None) -> None:
        self._storage = storage
        # One immutable record, replaced whole: threads see some state that was stored at some time.
        self._seen = seen

    def load(self) -> Loaded:
        """Return the state stored now.

        Raises
        ------
        RepositoryNotFoundError
            When there is none.
        """
        seen = self._seen
        with operation("fetch_repo_info"):
            try:
                if seen is None:
                    data, version = self._storage.get_versioned(REPO)
                else:
                    fetched = self._storage.get_if_changed(REPO, seen.version)
                    if fetched is None:
                        return seen
                    data, version = fetched
            except ObjectNotFound as error:
                raise _absent(self._storage) from error
            loaded = Loaded(_decode(data, REPO), data, version)
        self._seen = loaded
        return loaded

    def state(self) -> RepoInfo:
        """Return the state stored now."""
        return self.load().info

    def whole(self, what: str) -> EntryPoint:
        """Return itself, which has what only spec version 2 has."""
        return self

    def has_committed(self, branch: str, entry: SnapshotEntry) -> bool:
        """Whether the history has a snapshot by now."""
        return entry.id in self.load().info.snapshots

    def load_backup(self, name: str) -> RepoInfo | None:
        """Return a former state by the name of its backup, None when the backup is gone.

        Raises
        ------
        FormatError
            When the backup is damaged, or the name, which some state gives, is none.
        """
        key = backup_key(name)
        with operation("fetch_repo_backup", name=one_line(name)):
            try:
                return _decode(self._storage.get(key), key)
            except ObjectNotFound:
                return None
            except InvalidInputError as error:
                raise FormatError(
                    f"{REPO}: the operations log goes on in {key!r}, which no object can be called:"
                    f" the file that says so is damaged, restore an older one from {OVERWRITTEN}/",
                    ErrorKind.DESERIALIZATION,
                ) from error

    def create(self, info: RepoInfo, *, level: int) -> RepoInfo:
        """Store the first state.

        Raises
        ------
        ConflictError
            When there is a repository already.
        """
        data = encode_repo_info(info, level=level)
        try:
            version = self._storage.put_if(REPO, data, None)
        except PreconditionFailed as error:
            raise already_there() from error
        return self._remember(info, data, version)

    def back_up(self, name: str) -> None:
        """Keep a copy of the state stored now under a fresh name; the storage makes it by itself.

        Raises
        ------
        RepositoryNotFoundError
            When there is none.
        """
        try:
            self._storage.copy(REPO, backup_key(name))
        except ObjectNotFound as error:
            raise _absent(self._storage) from error

    def require_swaps(self, backup: str, loaded: Loaded) -> None:
        """Make sure, once per process, that the store refuses a swap that it must refuse.

        Tried on a backup of our own that nothing refers to yet; drop it when this raises.
        """
        require_refusal(self._storage, backup_key(backup), loaded.version)

    def drop_backup(self, name: str) -> None:
        """Remove a backup that nothing refers to."""
        self._storage.delete([backup_key(name)])

    def flush(self) -> None:
        """Make durable whatever the next state will point to."""
        self._storage.flush()

    def swap(self, info: RepoInfo, data: bytes, expected: Version) -> RepoInfo:
        """Replace the state if it is still at `expected`; raises as `Storage.put_if` does."""
        return self._remember(info, data, self._storage.put_if(REPO, data, expected))

    @property
    def answers_are_final(self) -> bool:
        """Whether a write that failed cannot take effect later, as it can across a network."""
        return self._storage.is_local

    def _remember(self, info: RepoInfo, data: bytes, version: Version) -> RepoInfo:
        self._seen = Loaded(info, data, version)
        return info


def already_there() -> ConflictError:
    """Error for who comes too late to create a repository."""
    return ConflictError(
        message="the repository was created by somebody else in the meantime: open it",
        kind=ErrorKind.REPO_INFO_UPDATED,
    )


def _decode(data: bytes, key: str) -> RepoInfo:
    info = decode_repo_info(data, key)
    if info.spec_version != SPEC_VERSION:
        raise FormatError(
            f"{key}: spec version {info.spec_version} of the repository cannot be opened yet",
            ErrorKind.UNSUPPORTED_SPEC_VERSION,
        )
    return info


def _absent(storage: Storage) -> RepositoryNotFoundError:
    return RepositoryNotFoundError(
        f"the repository doesn't exist: there is no object `{REPO}` in {_where(storage)}",
        ErrorKind.REPOSITORY_NOT_FOUND,
    )


def _where(storage: Storage) -> str:
    # The repr has a line per fact: say them in one.
    return ", ".join(repr(storage).splitlines()[1:])

"""The entry point of a repository of spec version 1: ``refs/``, ``config.yaml``, snapshot files.

There is no object that names everything else. A repository is there when its branch ``main`` is,
and each branch, each tag and the configuration change by a conditional write of their own, see
`icechunk.repo.updates_v1`. Icechunk spec, "Spec version 1 differences".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NoReturn

from icechunk.assets.manager import AssetManager
from icechunk.config import RepositoryConfig
from icechunk.config.yaml import config_from_yaml
from icechunk.errors import ErrorKind, SessionStateError, operation
from icechunk.format.layout import CONFIG, REPO
from icechunk.format.refs_v1 import ref_key
from icechunk.format.snapshot_table import SnapshotEntry
from icechunk.repo.history_v1 import FileHistory
from icechunk.repo.preconditions import MAIN
from icechunk.repo.spec_version import needs_version_2
from icechunk.repo.state_v1 import RefFiles, StateV1
from icechunk.storage.base import ObjectNotFound, Storage, Version

__all__ = ["MAIN_KEY", "EntryPointV1", "StoredConfig"]

#: Its presence makes a repository of spec version 1.
MAIN_KEY: Final = ref_key("branch", MAIN)


class StoredConfig:
    """The content of ``config.yaml`` as somebody saw it, who may want to replace it."""

    __slots__ = ("data",)

    def __init__(self, data: bytes | None) -> None:
        self.data = data
        """None when there was no such object."""

    @classmethod
    def read(cls, storage: Storage) -> StoredConfig:
        """Read what is stored now."""
        return cls(read_config(storage)[0])

    def decode(self) -> RepositoryConfig | None:
        """Return the configuration, None when none was stored; raises FormatError."""
        return None if self.data is None else config_from_yaml(self.data)


def read_config(storage: Storage) -> tuple[bytes | None, Version | None]:
    """Read ``config.yaml``, and the token to replace it by; None twice when it is not there."""
    with operation("fetch_config"):
        try:
            return storage.get_versioned(CONFIG)
        except ObjectNotFound:
            return None, None


class EntryPointV1:
    """Reads the state of a repository of spec version 1.

    Parameters
    ----------
    storage
        Where it is.
    assets
        Reads the snapshot files that the history is in.
    config
        The configuration as it was when the repository was opened. Who saves another one replaces
        this one, and no other.
    """

    __slots__ = ("config", "files", "history", "storage")

    spec_version = 1

    def __init__(
        self, storage: Storage, assets: AssetManager, config: StoredConfig | None = None
    ) -> None:
        self.storage = storage
        self.files = RefFiles(storage)
        self.history = FileHistory(assets)
        self.config = config

    def state(self, branches: Iterable[tuple[str, bytes]] = ()) -> StateV1:
        """Return the state stored now; costs nothing until it is asked.

        Parameters
        ----------
        branches
            Branches of which it is known where they are.
        """
        return StateV1.of(self.files, self.history, branches)

    def has_committed(self, branch: str, entry: SnapshotEntry) -> bool:
        """Whether a branch leads to a snapshot by now."""
        tip = self.files.read("branch", branch)
        return tip is not None and self.leads_to(tip.snapshot, entry)

    def leads_to(self, tip: bytes, entry: SnapshotEntry) -> bool:
        """Whether a snapshot is in the history of another one.

        Nothing that its parent descends from leads to it, so the walk ends there. Times do not
        tell: clocks differ, and not every writer compares them.
        """
        history = self.history
        for row in history.ancestry(tip):
            if history.id(row) == entry.id:
                return True
            if history.id(row) == entry.parent_id:
                return False
        return False

    @property
    def can_forget_losers(self) -> bool:
        """Whether what a lost commit wrote can be deleted, as nothing can lead to it any more.

        Files of refs hold nothing that is unique. So where requests can be late, one that seems to
        have failed is carried out yet if the branch is reset to where it was before.
        """
        return self.storage.is_local

    def whole(self, what: str) -> NoReturn:
        """Refuse what only spec version 2 has."""
        raise needs_version_2(what)

    def require_not_migrated(self) -> None:
        """Make sure that the repository was not brought to spec version 2 since it was opened.

        Then nobody looks at the files that would be changed here.

        Raises
        ------
        SessionStateError
            Of kind ``invalid-repository-migration``.
        """
        if self.storage.exists(REPO):
            raise SessionStateError(
                "the repository was migrated to spec version 2 since it was opened, so changes of"
                " version 1 are not seen any more: open it again, and make the change there",
                ErrorKind.INVALID_REPOSITORY_MIGRATION,
            )

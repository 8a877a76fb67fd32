"""Which version of the format a repository follows, and where reading it begins.

The object ``repo`` makes it version 2, whatever else is there: a migration may have left files of
version 1 behind. Else a branch ``main`` makes it version 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from icechunk.assets.manager import AssetManager
from icechunk.config import RepositoryConfig
from icechunk.errors import RepositoryNotFoundError
from icechunk.format.layout import REPO
from icechunk.repo.entry_v1 import MAIN_KEY, EntryPointV1, StoredConfig
from icechunk.repo.entry_v2 import EntryPoint, Loaded
from icechunk.repo.stored_config import decode_config
from icechunk.storage.base import Storage

__all__ = ["Entry", "Found", "entry_of", "find_repository", "find_spec_version"]

Entry: TypeAlias = EntryPoint | EntryPointV1
Seen: TypeAlias = Loaded | StoredConfig
"""What was read of a repository when it was found: the state, or the configuration alone."""


@dataclass(frozen=True, slots=True)
class Found:
    """A repository as it was found in a storage."""

    spec_version: int
    config: RepositoryConfig | None
    """The stored configuration, if any."""
    seen: Seen


def find_repository(storage: Storage) -> Found:
    """Look for a repository, and read its configuration.

    Costs one request for spec version 2, three for version 1.

    Raises
    ------
    RepositoryNotFoundError
        There is none.
    FormatError
        What is there cannot be read.
    """
    try:
        loaded = EntryPoint(storage).load()
    except RepositoryNotFoundError:
        if not storage.exists(MAIN_KEY):
            raise
        stored = StoredConfig.read(storage)
        return Found(1, stored.decode(), stored)
    return Found(loaded.info.spec_version, decode_config(loaded.info.config), loaded)


def find_spec_version(storage: Storage) -> int | None:
    """Tell which spec version the repository in a storage has, None when there is no repository."""
    if storage.exists(REPO):
        return EntryPoint.spec_version
    return EntryPointV1.spec_version if storage.exists(MAIN_KEY) else None


def entry_of(storage: Storage, assets: AssetManager, seen: Seen | None = None) -> Entry:
    """Make the entry point of a repository of the version that its objects are written in."""
    if assets.settings.spec_version == EntryPointV1.spec_version:
        return EntryPointV1(storage, assets, seen if isinstance(seen, StoredConfig) else None)
    return EntryPoint(storage, seen if isinstance(seen, Loaded) else None)

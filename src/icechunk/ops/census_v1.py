"""All files of branches and tags of spec version 1, and the configuration, as they are at a time.

Two of them, taken one after the other, tell whether anybody has changed anything in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from icechunk.assets.workers import Workers
from icechunk.errors import ErrorKind, FormatError, operation
from icechunk.format.ids import encode_id
from icechunk.format.layout import CONFIG
from icechunk.format.refs_v1 import RefKey, RefKind, decode_ref, retired_ref
from icechunk.repo.entry_v1 import read_config
from icechunk.repo.state_v1 import RefFiles
from icechunk.storage.base import ObjectNotFound, Storage, Version

__all__ = ["Census", "FoundRef", "changes_between", "take_census"]

READS_AT_ONCE: Final = 16


@dataclass(frozen=True, slots=True)
class FoundRef:
    """The file of a branch or tag."""

    key: str
    ref: RefKey
    data: bytes
    version: Version
    snapshot: bytes | None
    """Where it points to, or did before it was retired; None for a deleted tag that is damaged."""
    is_retired: bool
    """Whether a migration has begun to replace it."""
    is_deleted: bool = False
    """Whether it is a tag with a tombstone."""


@dataclass(frozen=True, slots=True)
class Census:
    """What was found."""

    refs: tuple[FoundRef, ...]
    """In the order of their keys; those of deleted tags, too."""
    tombstones: Mapping[str, str]
    """Names of deleted tags by the keys of their tombstones."""
    config: tuple[bytes, Version] | None
    """The stored configuration, None if there is none."""
    others: tuple[str, ...]
    """Keys below ``refs/`` that belong to no branch and no tag."""

    def pointers(self, kind: RefKind) -> dict[str, bytes]:
        """Return where all branches, or all tags that were not deleted, point to.

        Raises
        ------
        FormatError
            Of kind ``invalid-file-format`` when two files of one name contradict each other.
        """
        found: dict[str, bytes] = {}
        keys: dict[str, str] = {}
        for item in self.refs:
            if item.ref.kind != kind or item.is_deleted or item.snapshot is None:
                continue
            name = item.ref.name
            if found.setdefault(name, item.snapshot) != item.snapshot:
                raise FormatError(
                    f"{kind} `{name}` has two files that point to different snapshots:"
                    f" {keys[name]} to {encode_id(found[name])}, {item.key} to"
                    f" {encode_id(item.snapshot)}. Remove the one that is out of date",
                    ErrorKind.INVALID_FILE_FORMAT,
                )
            keys[name] = item.key
        return found

    @property
    def deleted_tags(self) -> dict[str, bytes | None]:
        """Where deleted tags pointed; None where no file tells."""
        former = {item.ref.name: item.snapshot for item in self.refs if item.is_deleted}
        return {name: former.get(name) for name in self.tombstones.values()}

    @property
    def keys(self) -> list[str]:
        """Keys of all files found, in the order in which they may be deleted: ``main`` first.

        A tombstone goes after its tag, which would come back to life otherwise.
        """
        refs = [item.key for item in self.refs]
        main = [item.key for item in self.refs if _is_main(item.ref)]
        rest = [key for key in refs if key not in main]
        config = [] if self.config is None else [CONFIG]
        return [*main, *rest, *self.tombstones, *config]


def take_census(storage: Storage) -> Census:
    """List and read them all.

    Raises
    ------
    FormatError
        The file of a branch, or of a tag that was not deleted, names no snapshot.
    StorageError
        The storage fails.
    """
    with operation("list_refs"):
        parsed = dict(sorted(RefFiles(storage).keys()))
    tombstones = {key: ref.name for key, ref in parsed.items() if ref is not None and ref.deleted}
    deleted = set(tombstones.values())

    def read(key_and_ref: tuple[str, RefKey]) -> FoundRef | None:
        key, ref = key_and_ref
        with operation(f"fetch_{ref.kind}", name=ref.name):
            try:
                data, version = storage.get_versioned(key)
            except ObjectNotFound:
                return None  # deleted since it was listed
            is_deleted = ref.kind == "tag" and ref.name in deleted
            former = retired_ref(data)
            snapshot = former if former is not None else _target(data, key, is_deleted)
        return FoundRef(key, ref, data, version, snapshot, former is not None, is_deleted)

    alive = [(key, ref) for key, ref in parsed.items() if ref is not None and not ref.deleted]
    with Workers(storage.is_local, "icechunk-refs") as workers:
        refs = tuple(filter(None, workers.map(read, alive, READS_AT_ONCE)))
    config, version = read_config(storage)
    return Census(
        refs=refs,
        tombstones=tombstones,
        config=None if config is None or version is None else (config, version),
        others=tuple(key for key, ref in parsed.items() if ref is None),
    )


def changes_between(before: Census, after: Census) -> list[str]:
    """Say what is not as it was; that a branch was retired is no change."""
    old, new = _contents(before), _contents(after)
    found = [f"{what} was created" for what in sorted(new.keys() - old.keys())]
    found += [f"{what} was deleted" for what in sorted(old.keys() - new.keys())]
    found += [f"{what} was changed" for what in sorted(old.keys() & new) if old[what] != new[what]]
    return found


def _contents(census: Census) -> dict[str, bytes | None]:
    contents: dict[str, bytes | None] = {
        f"{item.ref.kind} `{item.ref.name}` ({item.key})": item.snapshot for item in census.refs
    }
    for key, name in census.tombstones.items():
        contents[f"the tombstone of tag `{name}` ({key})"] = None
    if census.config is not None:
        contents[CONFIG] = census.config[0]
    return contents


def _target(data: bytes, key: str, is_deleted: bool) -> bytes | None:
    try:
        return decode_ref(data, key)
    except FormatError:
        if is_deleted:
            return None
        raise


def _is_main(ref: RefKey) -> bool:
    return (ref.kind, ref.name) == ("branch", "main")

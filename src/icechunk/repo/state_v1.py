"""The state of a repository of spec version 1: files of branches and tags, read when asked for.

One request looks a branch up, two a tag: it may have a tombstone. Whatever asks for all names lists
them. What was read once stays as it is for as long as the state is used, so it does not contradict
itself; as a whole it is of no single moment, which the format does not have.
Icechunk spec, "Spec version 1 differences".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from icechunk.assets.workers import Workers
from icechunk.errors import operation
from icechunk.format.layout import REFS
from icechunk.format.ops_log import RepoStatus
from icechunk.format.refs_v1 import (
    RefKey,
    RefKind,
    decode_ref,
    parse_ref_key,
    ref_key,
    tombstone_key,
)
from icechunk.repo.history_v1 import FileHistory
from icechunk.storage.base import ObjectNotFound, Storage, Version, is_key

__all__ = ["Ref", "RefFiles", "Refs", "StateV1", "names_of"]

READS_AT_ONCE: Final = 16


@dataclass(frozen=True, slots=True)
class Ref:
    """The file of one branch or tag as it was read."""

    key: str
    snapshot: bytes
    version: Version


class RefFiles:
    """The files below ``refs/`` of one storage. Remembers nothing."""

    __slots__ = ("storage",)

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def key(self, kind: RefKind, name: str) -> str:
        """Key of a branch or tag; raises InvalidInputError for a name that none can have."""
        return ref_key(kind, name, verbatim=self.storage.names_verbatim)

    def tombstone(self, name: str) -> str:
        """Key of the file that says that a tag was deleted."""
        return tombstone_key(name, verbatim=self.storage.names_verbatim)

    def read(self, kind: RefKind, name: str) -> Ref | None:
        """Read a branch, or a tag whether it was deleted or not; None when there is no such file.

        Raises
        ------
        InvalidInputError
            No ref can have that name.
        FormatError
            The file names no snapshot.
        """
        with operation(f"fetch_{kind}", name=name):
            for key in self._keys(kind, name):
                try:
                    data, version = self.storage.get_versioned(key)
                except ObjectNotFound:
                    continue
                return Ref(key, decode_ref(data, key), version)
        return None

    def _keys(self, kind: RefKind, name: str) -> Iterator[str]:
        """Yield the key of a ref, and the one it has if it was copied from another storage."""
        key = self.key(kind, name)
        yield key
        other = ref_key(kind, name, verbatim=not self.storage.names_verbatim)
        if other != key and is_key(other):
            yield other

    def is_deleted(self, tag: str) -> bool:
        """Whether a tag has a tombstone."""
        return self.storage.exists(self.tombstone(tag))

    def keys(self) -> Iterator[tuple[str, RefKey | None]]:
        """List all keys, and whose they are; None for those of no branch and no tag."""
        verbatim = self.storage.names_verbatim
        for item in self.storage.list(REFS + "/"):
            yield item.key, parse_ref_key(item.key, verbatim=verbatim)

    def list(self) -> RefNames:
        """List all names; files that belong to no branch and no tag are passed over."""
        found = [ref for _, ref in self.keys() if ref is not None]
        deleted = {key.name for key in found if key.deleted}
        names = {
            kind: {key.name for key in found if key.kind == kind and not key.deleted}
            for kind in ("branch", "tag")
        }
        return RefNames(
            branches=tuple(sorted(names["branch"])),
            tags=tuple(sorted(names["tag"] - deleted)),
            deleted_tags=tuple(sorted(deleted)),
        )


@dataclass(frozen=True, slots=True)
class RefNames:
    """The names of a listing, sorted."""

    branches: tuple[str, ...]
    tags: tuple[str, ...]
    deleted_tags: tuple[str, ...]


class _Listing:
    """One listing for all who ask for names."""

    __slots__ = ("_files", "_names")

    def __init__(self, files: RefFiles) -> None:
        self._files = files
        self._names: RefNames | None = None

    @property
    def names(self) -> RefNames:
        if self._names is None:
            self._names = self._files.list()
        return self._names


class Refs(Mapping[str, bytes]):
    """All branches, or all tags, by name."""

    def __init__(
        self, files: RefFiles, kind: RefKind, listing: _Listing, known: Mapping[str, bytes]
    ) -> None:
        self._files = files
        self._kind: RefKind = kind
        self._listing = listing
        self._known: dict[str, bytes | None] = dict(known)

    def __getitem__(self, name: str) -> bytes:
        if name not in self._known:
            self._known[name] = self._read(name)
        snapshot = self._known[name]
        if snapshot is None:
            raise KeyError(name)
        return snapshot

    def __iter__(self) -> Iterator[str]:
        """List the names and read all the files: some may be gone by now, and are passed over."""
        names = self._names()
        unread = [name for name in names if name not in self._known]
        with Workers(self._files.storage.is_local, "icechunk-refs") as workers:
            found = workers.map(self._read_file, unread, READS_AT_ONCE)
            self._known.update(zip(unread, found, strict=True))
        return iter([name for name in names if self._known[name] is not None])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def names(self) -> set[str]:
        """List the names alone."""
        return set(self._names())

    def _names(self) -> tuple[str, ...]:
        names = self._listing.names
        return names.branches if self._kind == "branch" else names.tags

    def _read(self, name: str) -> bytes | None:
        found = self._read_file(name)
        is_deleted = found is not None and self._kind == "tag" and self._files.is_deleted(name)
        return None if is_deleted else found

    def _read_file(self, name: str) -> bytes | None:
        ref = self._files.read(self._kind, name)
        return None if ref is None else ref.snapshot


class _DeletedTags:
    """Names of tags that were deleted."""

    __slots__ = ("_files", "_listing")

    def __init__(self, files: RefFiles, listing: _Listing) -> None:
        self._files = files
        self._listing = listing

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._files.is_deleted(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._listing.names.deleted_tags)

    def __len__(self) -> int:
        return len(self._listing.names.deleted_tags)


@dataclass(frozen=True, slots=True)
class StateV1:
    """A `icechunk.repo.state.RepoState` that is read piece by piece."""

    snapshots: FileHistory
    branches: Refs
    tags: Refs
    deleted_tags: _DeletedTags
    status: RepoStatus = field(default_factory=RepoStatus)
    enabled_feature_flags: None = None
    disabled_feature_flags: None = None

    @classmethod
    def of(
        cls, files: RefFiles, history: FileHistory, branches: Iterable[tuple[str, bytes]] = ()
    ) -> StateV1:
        """Make a state of which nothing was read yet but where some branches are."""
        listing = _Listing(files)
        return cls(
            snapshots=history,
            branches=Refs(files, "branch", listing, dict(branches)),
            tags=Refs(files, "tag", listing, {}),
            deleted_tags=_DeletedTags(files, listing),
        )


def names_of(refs: Mapping[str, bytes]) -> set[str]:
    """List the names of all branches or tags, without reading what they point to."""
    return refs.names() if isinstance(refs, Refs) else set(refs)

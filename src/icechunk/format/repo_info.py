"""The repo info file: everything about a repository that changes.

Branches, tags, the graph of snapshots, status, metadata, configuration, feature flags and the
operations log live in this one object, which is exchanged as a whole. What an update does not
touch is written back as it was read. Icechunk spec, "Repo info file".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from icechunk.errors import ErrorKind, FormatError
from icechunk.format import schema
from icechunk.format.damage import Damage
from icechunk.format.envelope import SPEC_VERSIONS, FileKind, unwrap, wrap
from icechunk.format.flatbuf import Buffer, Children, Maybe, Ragged, Rows, Tables, encode
from icechunk.format.ids import OBJECT_ID_SIZE, encode_id, id_column, ids_of_column, sortable
from icechunk.format.metadata_items import metadata_of, metadata_to
from icechunk.format.ops_codec import ops_of, ops_to, status_of, status_to
from icechunk.format.ops_log import RepoStatus, UpdateEntry
from icechunk.format.ops_table import OpsLog
from icechunk.format.rows import counts_of, starts_of
from icechunk.format.snapshot_table import SnapshotEntry, SnapshotTable, has_cycle

__all__ = [
    "OpsLog",
    "RepoInfo",
    "RepoStatus",
    "SnapshotEntry",
    "SnapshotTable",
    "UpdateEntry",
    "decode_repo_info",
    "encode_repo_info",
]

MAIN = "main"


@dataclass(frozen=True, slots=True)
class RepoInfo:
    """The state of a repository, with refs as ids."""

    snapshots: SnapshotTable
    branches: Mapping[str, bytes]
    """Snapshot id of each branch; ``main`` is always among them."""
    tags: Mapping[str, bytes] = field(default_factory=dict)
    deleted_tags: tuple[str, ...] = ()
    """Names that no tag may have again."""
    status: RepoStatus = field(default_factory=RepoStatus)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    updates: Sequence[UpdateEntry] = ()
    """Newest first, at least one; an `OpsLog` when read."""
    repo_before_updates: str | None = None
    """Name of the backup where the operations log continues."""
    config: bytes | None = None
    """The persisted configuration as FlexBuffers, None for the default one."""
    enabled_feature_flags: tuple[int, ...] | None = None
    """None until a flag was ever touched, and distinct from empty."""
    disabled_feature_flags: tuple[int, ...] | None = None
    spec_version: int = 2


def decode_repo_info(data: bytes, key: str = "repo") -> RepoInfo:
    """Read a repo info file; `key` names it in messages.

    Raises
    ------
    FormatError
        When the file is damaged, not a repo info, or of a spec version that has none.
    """
    envelope = unwrap(data, FileKind.REPO_INFO, key)
    if envelope.spec_version < 2:
        raise FormatError(
            f"{key}: repo info files exist from spec version 2 on, but this one says version 1",
            ErrorKind.INVALID_FILE_FORMAT,
        )
    root = Buffer(envelope.payload, key).root(schema.REPO)
    spec_version = int(root.scalar("spec_version")[0])
    if spec_version not in SPEC_VERSIONS:
        raise FormatError(
            f"{key}: the repository follows spec version {spec_version}, while this library knows "
            "versions 1 and 2; upgrade the library to open it",
            ErrorKind.UNSUPPORTED_SPEC_VERSION,
        )
    snapshots = _snapshots_of(root.tables("snapshots")[0])
    has_config = root.present("config")[0]
    return RepoInfo(
        snapshots=snapshots,
        branches=_refs_of(root, "branches", snapshots),
        tags=_refs_of(root, "tags", snapshots),
        deleted_tags=tuple(root.string_lists("deleted_tags")[0]),
        status=status_of(root.child("status")),
        metadata=metadata_of(root, 2),
        updates=ops_of(root.tables("latest_updates")[0]),
        repo_before_updates=root.texts("repo_before_updates")[0],
        config=root.byte_strings("config")[0] if has_config else None,
        enabled_feature_flags=_flags_of(root, "enabled_feature_flags"),
        disabled_feature_flags=_flags_of(root, "disabled_feature_flags"),
        spec_version=spec_version,
    )


def encode_repo_info(info: RepoInfo, *, level: int | None = None) -> bytes:
    """Write a repo info file.

    Raises
    ------
    FormatError
        Of kind ``serialization`` for a state that would leave the repository unusable for some
        reader: no ``main`` branch, a ref to an unknown snapshot, an empty operations log, a newest
        operation that has a backup already, an operation of unknown kind.
    """
    _refuse_unusable(info)
    log = info.updates if isinstance(info.updates, OpsLog) else OpsLog.from_entries(info.updates)
    columns: dict[str, Any] = {
        "spec_version": [info.spec_version],
        "tags": _refs_to(info.tags, "tag", info.snapshots),
        "branches": _refs_to(info.branches, "branch", info.snapshots),
        "deleted_tags": Children([len(set(info.deleted_tags))], sorted(set(info.deleted_tags))),
        "snapshots": _snapshots_to(info.snapshots),
        "status": status_to(info.status),
        "metadata": metadata_to(info.metadata, 2),
        "latest_updates": ops_to(log),
        "repo_before_updates": _optional(info.repo_before_updates),
        "config": _optional(info.config),
        "enabled_feature_flags": _flags_to(info.enabled_feature_flags),
        "disabled_feature_flags": _flags_to(info.disabled_feature_flags),
    }
    try:
        payload = encode(schema.REPO, Tables(1, columns))
    except UnicodeEncodeError as error:
        raise _unusable(f"{error.object!r} is not valid Unicode text") from error
    return wrap(FileKind.REPO_INFO, payload, level=level)


def _refuse_unusable(info: RepoInfo) -> None:
    if MAIN not in info.branches:
        raise _unusable("it has no branch 'main'")
    if not len(info.updates):
        raise _unusable("its operations log is empty")
    if info.updates[0].backup_path is not None:
        raise _unusable("its newest operation already names a backup")
    ids = sortable(info.snapshots.ids)
    if not (ids[:-1] < ids[1:]).all():
        raise _unusable("its snapshots are not sorted by id, each once")


def _unusable(problem: str) -> FormatError:
    return FormatError(f"repo: refusing to write the repo info: {problem}", ErrorKind.SERIALIZATION)


def _refs_of(root: Rows, name: str, snapshots: SnapshotTable) -> dict[str, bytes]:
    refs, _ = root.tables(name)
    indices = refs.scalar("snapshot_index")
    if len(indices) and int(indices.max()) >= len(snapshots):
        root.buffer.fail(
            f"Repo.{name}",
            "a ref points to a snapshot that is not listed",
            Damage.REF_TO_UNKNOWN_SNAPSHOT,
        )
    names = [str(text) for text in refs.texts("name")]
    found = dict(zip(names, ids_of_column(snapshots.ids[indices]), strict=True))
    if len(found) != len(names):
        root.buffer.fail(f"Repo.{name}", "two refs have the same name", Damage.DUPLICATE_REF)
    return found


def _refs_to(refs: Mapping[str, bytes], what: str, snapshots: SnapshotTable) -> Children:
    names = sorted(refs)
    ids = [refs[name] for name in names]
    rows = snapshots.locate(id_column(ids, OBJECT_ID_SIZE))
    if (rows < 0).any():
        lost = int(np.argmax(rows < 0))
        raise _unusable(
            f"{what} {names[lost]!r} points to snapshot {encode_id(ids[lost])}, which is not listed"
        )
    return Children([len(names)], Tables(len(names), {"name": names, "snapshot_index": rows}))


def _snapshots_of(rows: Rows) -> SnapshotTable:
    fail = rows.buffer.fail
    ids = rows.struct("id")
    if not (sortable(ids)[:-1] < sortable(ids)[1:]).all():
        fail("SnapshotInfo.id", "snapshots are not sorted by id, each once")
    parents = rows.scalar("parent_offset")
    if len(parents) and not -1 <= int(parents.min()) <= int(parents.max()) < len(rows):
        fail("SnapshotInfo.parent_offset", "a parent is not in the list", Damage.DANGLING_PARENT)
    if has_cycle(parents):
        fail("SnapshotInfo.parent_offset", "a snapshot is its own ancestor", Damage.HISTORY_CYCLE)
    messages = rows.byte_strings("message")
    items, item_counts = rows.tables("metadata")
    names = items.byte_strings("name")
    if not messages.is_utf8() or not names.is_utf8():
        fail("SnapshotInfo", "text is not UTF-8")
    pruned = rows.vectors("pruned_ancestor_tx_logs")
    return SnapshotTable(
        ids=ids,
        parents=parents,
        flushed_at=rows.scalar("flushed_at"),
        messages=messages,
        metadata_starts=starts_of(item_counts),
        metadata_names=names,
        metadata_values=items.byte_strings("value"),
        pruned_starts=np.asarray(pruned.offsets, dtype=np.int64),
        pruned_ids=pruned.values,
    )


def _snapshots_to(snapshots: SnapshotTable) -> Children:
    items = Tables(
        len(snapshots.metadata_names),
        {"name": snapshots.metadata_names, "value": snapshots.metadata_values},
    )
    has_pruned = counts_of(snapshots.pruned_starts) > 0  # older readers know no such field
    columns = {
        "id": snapshots.ids,
        "parent_offset": snapshots.parents,
        "flushed_at": snapshots.flushed_at,
        "message": snapshots.messages,
        "metadata": Children(counts_of(snapshots.metadata_starts), items),
        "pruned_ancestor_tx_logs": Maybe(
            has_pruned, Ragged(snapshots.pruned_starts, snapshots.pruned_ids)
        ),
    }
    return Children([len(snapshots)], Tables(len(snapshots), columns))


def _flags_of(root: Rows, name: str) -> tuple[int, ...] | None:
    return tuple(root.vectors(name)[0].tolist()) if root.present(name)[0] else None


def _flags_to(flags: tuple[int, ...] | None) -> Any:
    return None if flags is None else np.array([sorted(flags)], dtype=np.uint16)


def _optional(value: str | bytes | None) -> list[str | bytes] | None:
    return None if value is None else [value]

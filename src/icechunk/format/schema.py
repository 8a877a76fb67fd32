"""The flatbuffer tables of every Icechunk metadata file, declared as data.

One `Table` per table of the Icechunk spec; a field's slot is its position in the declaration (a
union takes two slots, the type and the value). The declarations drive both directions:
`flatbuf_read` gathers the columns of many tables at once, `flatbuf_write` lays them out. Nothing
here knows bytes.

Slots that a file has and a declaration lacks are ignored by the reader.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np


class Kind(Enum):
    """What a slot holds, and so how its column looks in memory."""

    SCALAR = "scalar"
    """A number inside the table: (n,) array; absent means the default."""
    STRUCT = "struct"
    """A fixed-size record inside the table: (n, size) bytes or an (n,) structured array."""
    STRING = "string"
    """UTF-8 text: one byte string per row."""
    VECTOR = "vector"
    """A vector of numbers or structs: ragged rows of elements; of bytes: byte strings."""
    STRINGS = "strings"
    """A vector of strings: byte strings of all rows flattened, and a count per row."""
    TABLE = "table"
    """One child table."""
    TABLES = "tables"
    """A vector of child tables: the children of all rows flattened, and a count per row."""
    UNION = "union"
    """A discriminant and one child table of the type it names."""


@dataclass(frozen=True, slots=True)
class Element:
    """A fixed-size value on disk: a number, a struct of fields, or a plain run of bytes."""

    name: str
    dtype: np.dtype[Any]
    align: int
    width: int = 0
    """Length of a plain run of bytes, the last axis in memory; 0 for numbers and records."""

    @property
    def size(self) -> int:
        """Bytes of one value on disk, padding included."""
        return self.width or self.dtype.itemsize

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one value in memory."""
        return (self.width,) if self.width else ()


def _number(name: str, code: str) -> Element:
    dtype = np.dtype(code)
    return Element(name, dtype, dtype.itemsize)


U8 = _number("u8", "u1")
U16 = _number("u16", "<u2")
U32 = _number("u32", "<u4")
U64 = _number("u64", "<u8")
I32 = _number("i32", "<i4")
BOOL = _number("bool", "u1")

OBJECT_ID_12 = Element("ObjectId12", np.dtype("u1"), 1, width=12)
OBJECT_ID_8 = Element("ObjectId8", np.dtype("u1"), 1, width=8)
CHUNK_INDEX_RANGE = Element("ChunkIndexRange", np.dtype([("from", "<u4"), ("to", "<u4")]), align=4)
DIMENSION_SHAPE = Element(
    "DimensionShape", np.dtype([("array_length", "<u8"), ("chunk_length", "<u8")]), align=8
)
MANIFEST_FILE_INFO = Element(
    "ManifestFileInfo",
    np.dtype(
        {
            "names": ["id", "size_bytes", "num_chunk_refs"],
            "formats": [("u1", (12,)), "<u8", "<u4"],
            "offsets": [0, 16, 24],
            "itemsize": 32,
        }
    ),
    align=8,
)


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a table."""

    name: str
    kind: Kind
    slot: int = -1
    """Position in the vtable; set by the table it belongs to. A union's value follows its type."""
    element: Element | None = None
    """Type of a scalar, of a struct, or of a vector's items."""
    target: Table | None = None
    """Type of a child table."""
    members: Mapping[int, Table] | None = None
    """Table of each discriminant of a union."""
    default: int = 0
    """Value of an absent scalar."""
    required: bool = False
    """A file without it is corrupt."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table: its name and its fields by name, in slot order."""

    name: str
    fields: Mapping[str, Field]

    def __getitem__(self, name: str) -> Field:
        return self.fields[name]


def _table(name: str, *fields: Field) -> Table:
    placed: dict[str, Field] = {}
    slot = 0
    for field in fields:
        placed[field.name] = replace(field, slot=slot)
        slot += 2 if field.kind is Kind.UNION else 1
    return Table(name, placed)


def _scalar(name: str, element: Element, default: int = 0) -> Field:
    return Field(name, Kind.SCALAR, element=element, default=default)


def _struct(name: str, element: Element, *, required: bool = False) -> Field:
    return Field(name, Kind.STRUCT, element=element, required=required)


def _string(name: str, *, required: bool = False) -> Field:
    return Field(name, Kind.STRING, required=required)


def _vector(name: str, element: Element, *, required: bool = False) -> Field:
    return Field(name, Kind.VECTOR, element=element, required=required)


def _bytes(name: str, *, required: bool = False) -> Field:
    return _vector(name, U8, required=required)


def _tables(name: str, target: Table, *, required: bool = False) -> Field:
    return Field(name, Kind.TABLES, target=target, required=required)


def _child(name: str, target: Table, *, required: bool = False) -> Field:
    return Field(name, Kind.TABLE, target=target, required=required)


def _union(name: str, members: Mapping[int, Table], *, required: bool = False) -> Field:
    return Field(name, Kind.UNION, members=members, required=required)


METADATA_ITEM = _table(
    "MetadataItem", _string("name", required=True), _bytes("value", required=True)
)

# Snapshot file

DIMENSION_SHAPE_V2 = _table(
    "DimensionShapeV2", _scalar("array_length", U64), _scalar("num_chunks", U32)
)
DIMENSION_NAME = _table("DimensionName", _string("name"))
MANIFEST_REF = _table(
    "ManifestRef",
    _struct("object_id", OBJECT_ID_12, required=True),
    _vector("extents", CHUNK_INDEX_RANGE, required=True),
)
ARRAY_NODE_DATA = _table(
    "ArrayNodeData",
    _vector("shape", DIMENSION_SHAPE, required=True),
    _tables("dimension_names", DIMENSION_NAME),
    _tables("manifests", MANIFEST_REF, required=True),
    _tables("shape_v2", DIMENSION_SHAPE_V2),
)
GROUP_NODE_DATA = _table("GroupNodeData")
NODE_DATA = {1: ARRAY_NODE_DATA, 2: GROUP_NODE_DATA}
NODE_SNAPSHOT = _table(
    "NodeSnapshot",
    _struct("id", OBJECT_ID_8, required=True),
    _string("path", required=True),
    _bytes("user_data", required=True),
    _union("node_data", NODE_DATA, required=True),
    _bytes("extra"),
)
MANIFEST_FILE_INFO_V2 = _table(
    "ManifestFileInfoV2",
    # Optional in the schema, but readers fail without it.
    _struct("id", OBJECT_ID_12, required=True),
    _scalar("size_bytes", U64),
    _scalar("num_chunk_refs", U32),
    _bytes("extra"),
)
SNAPSHOT = _table(
    "Snapshot",
    _struct("id", OBJECT_ID_12, required=True),
    _struct("parent_id", OBJECT_ID_12),
    _tables("nodes", NODE_SNAPSHOT, required=True),
    _scalar("flushed_at", U64),
    _string("message", required=True),
    _tables("metadata", METADATA_ITEM, required=True),
    _vector("manifest_files", MANIFEST_FILE_INFO, required=True),
    _tables("manifest_files_v2", MANIFEST_FILE_INFO_V2),
    _bytes("extra"),
)

# Manifest file

CHUNK_REF = _table(
    "ChunkRef",
    _vector("index", U32, required=True),
    _bytes("inline"),
    _scalar("offset", U64),
    _scalar("length", U64),
    _struct("chunk_id", OBJECT_ID_12),
    _string("location"),
    _string("checksum_etag"),
    _scalar("checksum_last_modified", U32),
    _bytes("compressed_location"),
    _bytes("extra"),
)
ARRAY_MANIFEST = _table(
    "ArrayManifest",
    _struct("node_id", OBJECT_ID_8, required=True),
    _tables("refs", CHUNK_REF, required=True),
    _bytes("extra"),
)
MANIFEST = _table(
    "Manifest",
    _struct("id", OBJECT_ID_12, required=True),
    _tables("arrays", ARRAY_MANIFEST, required=True),
    _bytes("location_dictionary"),
    _scalar("compression_algorithm", U8, default=1),
    _bytes("extra"),
)

# Transaction log file

CHUNK_INDICES = _table("ChunkIndices", _vector("coords", U32, required=True))
ARRAY_UPDATED_CHUNKS = _table(
    "ArrayUpdatedChunks",
    _struct("node_id", OBJECT_ID_8, required=True),
    _tables("chunks", CHUNK_INDICES, required=True),
)
MOVE_OPERATION = _table(
    "MoveOperation",
    # Optional in the schema, but readers fail without these three.
    _string("from", required=True),
    _string("to", required=True),
    _struct("node_id", OBJECT_ID_8, required=True),
    _scalar("node_type", U8),
)
TRANSACTION_LOG = _table(
    "TransactionLog",
    _struct("id", OBJECT_ID_12, required=True),
    _vector("new_groups", OBJECT_ID_8, required=True),
    _vector("new_arrays", OBJECT_ID_8, required=True),
    _vector("deleted_groups", OBJECT_ID_8, required=True),
    _vector("deleted_arrays", OBJECT_ID_8, required=True),
    _vector("updated_arrays", OBJECT_ID_8, required=True),
    _vector("updated_groups", OBJECT_ID_8, required=True),
    _tables("updated_chunks", ARRAY_UPDATED_CHUNKS, required=True),
    _tables("moved_nodes", MOVE_OPERATION),
    _bytes("extra"),
)

# Repo file

REF = _table("Ref", _string("name", required=True), _scalar("snapshot_index", U32))
SNAPSHOT_INFO = _table(
    "SnapshotInfo",
    _struct("id", OBJECT_ID_12, required=True),
    _scalar("parent_offset", I32),
    _scalar("flushed_at", U64),
    _string("message", required=True),
    _tables("metadata", METADATA_ITEM),
    _vector("pruned_ancestor_tx_logs", OBJECT_ID_12),
)
REPO_STATUS = _table(
    "RepoStatus",
    _scalar("availability", U8),
    _scalar("set_at", U64),
    _string("limited_availability_reason"),
)
REPO_INITIALIZED_UPDATE = _table("RepoInitializedUpdate")
REPO_MIGRATED_UPDATE = _table(
    "RepoMigratedUpdate", _scalar("from_version", U8), _scalar("to_version", U8)
)
CONFIG_CHANGED_UPDATE = _table("ConfigChangedUpdate")
METADATA_CHANGED_UPDATE = _table("MetadataChangedUpdate")
TAG_CREATED_UPDATE = _table("TagCreatedUpdate", _string("name", required=True))
TAG_DELETED_UPDATE = _table(
    "TagDeletedUpdate",
    _string("name", required=True),
    _struct("previous_snap_id", OBJECT_ID_12, required=True),
)
BRANCH_CREATED_UPDATE = _table("BranchCreatedUpdate", _string("name", required=True))
BRANCH_DELETED_UPDATE = _table(
    "BranchDeletedUpdate",
    _string("name", required=True),
    _struct("previous_snap_id", OBJECT_ID_12, required=True),
)
BRANCH_RESET_UPDATE = _table(
    "BranchResetUpdate",
    _string("name", required=True),
    _struct("previous_snap_id", OBJECT_ID_12, required=True),
)
NEW_COMMIT_UPDATE = _table(
    "NewCommitUpdate",
    _string("branch", required=True),
    _struct("new_snap_id", OBJECT_ID_12, required=True),
)
COMMIT_AMENDED_UPDATE = _table(
    "CommitAmendedUpdate",
    _string("branch", required=True),
    _struct("previous_snap_id", OBJECT_ID_12, required=True),
    _struct("new_snap_id", OBJECT_ID_12, required=True),
)
NEW_DETACHED_SNAPSHOT_UPDATE = _table(
    "NewDetachedSnapshotUpdate", _struct("new_snap_id", OBJECT_ID_12, required=True)
)
GC_RAN_UPDATE = _table("GCRanUpdate")
EXPIRATION_RAN_UPDATE = _table("ExpirationRanUpdate")
FEATURE_FLAG_CHANGED_UPDATE = _table(
    "FeatureFlagChangedUpdate",
    _scalar("id", U16),
    _scalar("new_value", BOOL),
    _scalar("is_set", BOOL),
)
REPO_STATUS_CHANGED_UPDATE = _table(
    "RepoStatusChangedUpdate",
    # Not required in the schema, but readers assume it.
    _child("status", REPO_STATUS, required=True),
)
UPDATE_TYPE = {
    1: REPO_INITIALIZED_UPDATE,
    2: REPO_MIGRATED_UPDATE,
    3: CONFIG_CHANGED_UPDATE,
    4: METADATA_CHANGED_UPDATE,
    5: TAG_CREATED_UPDATE,
    6: TAG_DELETED_UPDATE,
    7: BRANCH_CREATED_UPDATE,
    8: BRANCH_DELETED_UPDATE,
    9: BRANCH_RESET_UPDATE,
    10: NEW_COMMIT_UPDATE,
    11: COMMIT_AMENDED_UPDATE,
    12: NEW_DETACHED_SNAPSHOT_UPDATE,
    13: GC_RAN_UPDATE,
    14: EXPIRATION_RAN_UPDATE,
    15: FEATURE_FLAG_CHANGED_UPDATE,
    16: REPO_STATUS_CHANGED_UPDATE,
}
UPDATE = _table(
    "Update",
    _union("update_type", UPDATE_TYPE, required=True),
    _scalar("updated_at", U64),
    _string("backup_path"),
)
REPO = _table(
    "Repo",
    _scalar("spec_version", U8),
    _tables("tags", REF, required=True),
    _tables("branches", REF, required=True),
    Field("deleted_tags", Kind.STRINGS, required=True),
    _tables("snapshots", SNAPSHOT_INFO, required=True),
    _child("status", REPO_STATUS, required=True),
    _tables("metadata", METADATA_ITEM),
    _tables("latest_updates", UPDATE, required=True),
    _string("repo_before_updates"),
    _bytes("config"),
    _vector("enabled_feature_flags", U16),
    _vector("disabled_feature_flags", U16),
    _bytes("extra"),
)

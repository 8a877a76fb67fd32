"""Public records of a verification: faults, their kinds and gravity, and the report of them all.

Values only; what looks for faults is `icechunk.ops.verify`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, Final

from icechunk._display import Block, Group, Lines, Shown
from icechunk._plain import one_line

__all__ = [
    "Checked",
    "Fault",
    "FaultKind",
    "FaultSeverity",
    "VerifyProgress",
    "VerifyReport",
]

#: Faults of one severity that a report shows; `to_json` and `faults` have them all.
SHOWN_FAULTS: Final = 20


class FaultSeverity(StrEnum):
    """How bad a fault is."""

    NOTE = "note"
    """Worth knowing, nothing wrong: objects that nothing refers to, for instance."""
    WARNING = "warning"
    """Data can be read, but something that goes with them cannot, or not by everybody."""
    ERROR = "error"
    """Data are lost or cannot be read, or the repository cannot be opened or written."""


class FaultKind(StrEnum):
    """What is wrong, as a stable code for programs. Codes are only ever added."""

    # any file
    CORRUPT_FILE = "corrupt-file"
    """A metadata file cannot be decoded; the message says why."""
    UNSUPPORTED_VERSION = "unsupported-version"
    """A metadata file follows a spec that this version does not know."""
    ID_MISMATCH = "id-mismatch"
    """A file says it is another object than its key names."""
    UNREADABLE = "unreadable"
    """The storage has an object but did not hand it over."""
    # the state of the repository
    REPOSITORY_OBJECT_MISSING = "repository-object-missing"
    """Objects of a repository are there, but not the one that names them."""
    MAIN_MISSING = "main-missing"
    """There is no branch ``main``."""
    REF_TO_UNKNOWN_SNAPSHOT = "ref-to-unknown-snapshot"
    """A branch or tag names a snapshot that is not there."""
    DUPLICATE_REF = "duplicate-ref"
    """Two branches or two tags have one name."""
    REF_UNREADABLE = "ref-unreadable"
    """A ref file of spec version 1 cannot be understood."""
    BAD_REF_NAME = "bad-ref-name"
    """A file among the refs of spec version 1 is the one of no branch and no tag."""
    TOMBSTONE_WITHOUT_REF = "tombstone-without-ref"
    """A tag of spec version 1 is marked as deleted, but was never there."""
    DANGLING_PARENT = "dangling-parent"
    """A snapshot has a parent that is not there."""
    HISTORY_CYCLE = "history-cycle"
    """A snapshot is its own ancestor."""
    PARENT_NEWER = "parent-newer-than-child"
    """A snapshot is older than the one it was made from."""
    TIME_IN_FUTURE = "time-in-future"
    """Something is dated later than now, and refuses changes until then."""
    HISTORY_DISAGREES = "history-disagrees"
    """History and snapshot file differ in the message or time of a snapshot."""
    HISTORY_METADATA_UNREADABLE = "history-metadata-unreadable"
    """The metadata of a snapshot cannot be decoded in the history."""
    CONFIG_UNREADABLE = "config-unreadable"
    """The stored configuration is none."""
    UNSORTED = "unsorted"
    """A list that readers search by bisection is not in order."""
    # the operations log
    OPERATIONS_LOG_UNUSABLE = "operations-log-unusable"
    """The log is empty, or its newest entry has a backup: some writers cannot go on."""
    OPERATIONS_LOG_DISORDER = "operations-log-disorder"
    """Times do not grow from entry to newer entry."""
    OPERATIONS_LOG_CUT = "operations-log-cut"
    """The oldest backups are gone, and with them the beginning of the log."""
    BACKUP_MISSING = "backup-missing"
    """A former state that the log names is gone, while older ones are there."""
    UNKNOWN_OPERATION = "unknown-operation"
    """The log has an operation that this version does not know."""
    # snapshots
    SNAPSHOT_MISSING = "snapshot-missing"
    """A snapshot file is not there."""
    UNSORTED_NODES = "unsorted-nodes"
    """The nodes of a snapshot are not in the order of their paths."""
    DUPLICATE_PATH = "duplicate-path"
    """Two nodes of a snapshot have one path."""
    DUPLICATE_NODE_ID = "duplicate-node-id"
    """Two nodes of a snapshot have one id."""
    BAD_PATH = "bad-path"
    """A node has a path that nothing can be stored at."""
    PARENT_GROUP_MISSING = "parent-group-missing"
    """A node lies below a path where there is no group."""
    BELOW_AN_ARRAY = "below-an-array"
    """A node lies below an array."""
    DOCUMENT_INVALID = "document-invalid"
    """The ``zarr.json`` of a node cannot be understood."""
    DOCUMENT_DISAGREES = "document-disagrees"
    """The ``zarr.json`` of a node and what the snapshot records of it differ."""
    MANIFEST_NOT_LISTED = "manifest-not-listed"
    """An array refers to a manifest that the snapshot does not list."""
    MANIFEST_LISTED_IN_VAIN = "manifest-listed-in-vain"
    """A snapshot lists a manifest that none of its arrays refers to."""
    EXTENTS_OVERLAP = "extents-overlap"
    """Two manifests of an array cover the same chunks, and the second is not looked at."""
    # manifests
    MANIFEST_MISSING = "manifest-missing"
    """A manifest file is not there."""
    MANIFEST_SIZE_WRONG = "manifest-size-wrong"
    """A snapshot records another size of a manifest than it has."""
    MANIFEST_COUNT_WRONG = "manifest-count-wrong"
    """A snapshot records another number of references in a manifest than there are."""
    UNSORTED_REFERENCES = "unsorted-references"
    """The references of an array are not in the order of their coordinates, each once."""
    RANK_WRONG = "rank-wrong"
    """References, or the extents of a manifest, have another rank than the array."""
    NODE_NOT_IN_MANIFEST = "node-not-in-manifest"
    """An array refers to a manifest that has nothing of it."""
    EXTENTS_TOO_SMALL = "extents-too-small"
    """References lie outside the extents of their manifest, where nobody looks for them."""
    REFERENCES_BEYOND_GRID = "references-beyond-grid"
    """References lie outside the array, which was made smaller or is damaged."""
    ZERO_LENGTH_CHUNK = "zero-length-chunk"
    """References to no bytes, which some writers made and some readers refuse."""
    # chunks
    CHUNK_MISSING = "chunk-missing"
    """The object of a chunk is not there."""
    CHUNK_TOO_SHORT = "chunk-too-short"
    """The object of a chunk ends before the range that a reference names."""
    CHUNK_UNREADABLE = "chunk-unreadable"
    """The bytes of a chunk could not be read."""
    CHUNK_UNDECODABLE = "chunk-undecodable"
    """The bytes of a chunk are not what the codecs of its array make."""
    ARRAY_NOT_DECODED = "array-not-decoded"
    """Zarr, as it is installed here, cannot open the array; its chunks were not decoded."""
    VIRTUAL_CHUNK_UNREADABLE = "virtual-chunk-unreadable"
    """The file of a virtual chunk is not there, too short, or cannot be read."""
    VIRTUAL_CHUNK_MODIFIED = "virtual-chunk-modified"
    """The file of a virtual chunk has changed since the reference was set."""
    VIRTUAL_CHUNK_UNCHECKED = "virtual-chunk-unchecked"
    """A virtual chunk is in no container, or in one that was not authorized."""
    # transaction logs
    TRANSACTION_LOG_MISSING = "transaction-log-missing"
    """The transaction log of a snapshot, or of a pruned ancestor, is not there."""
    TRANSACTION_LOG_DISAGREES = "transaction-log-disagrees"
    """Transaction logs tell of other nodes created and deleted than the snapshots show."""
    # what nothing needs
    UNREFERENCED_OBJECTS = "unreferenced-objects"
    """Objects that nothing refers to: garbage, or not yet committed."""
    FOREIGN_OBJECT = "foreign-object"
    """An object among ours whose name is none that we give."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong."""

    kind: FaultKind
    severity: FaultSeverity
    key: str
    """Key of the object that is at fault, relative to the repository; of a virtual chunk the
    location."""
    message: str
    """What is wrong, in words."""
    remedy: str
    """What can be done about it."""
    path: str | None = None
    """The group or array it is about."""
    snapshot_id: str | None = None
    """A snapshot in which it shows; it may show in others as well."""

    def __str__(self) -> str:
        # Names and messages come from files, of which something is wrong as it is.
        text = f"{self.severity}: {self.key}: {self.message} [{self.kind}]. {self.remedy}"
        return one_line(text)


@dataclass(frozen=True, slots=True)
class Checked:
    """How much was looked at."""

    snapshots: int = 0
    nodes: int = 0
    """Groups and arrays, counted in every snapshot."""
    manifests: int = 0
    references: int = 0
    """Chunk references in manifests."""
    chunk_objects: int = 0
    """Objects of chunks whose existence and length were compared with the references."""
    chunk_bytes: int = 0
    """Their bytes."""
    chunks_read: int = 0
    """Chunks whose bytes were read."""
    chunks_decoded: int = 0
    """Chunks that were decoded."""
    virtual_objects: int = 0
    """Files of virtual chunks that were asked for."""
    transaction_logs: int = 0
    operations: int = 0
    """Entries of the operations log."""
    backups: int = 0
    """Former states of the repository that the operations log names."""


@dataclass(frozen=True, slots=True)
class VerifyProgress:
    """How far a verification has come."""

    phase: str
    """``state``, ``snapshots``, ``transaction logs``, ``listing``, ``manifests``, ``chunks`` or
    ``virtual chunks``."""
    done: int
    total: int | None = None
    """None where it is not known."""


@dataclass(frozen=True, slots=True, repr=False)
class VerifyReport(Shown):
    """What a verification found. Two questions first: `is_clean`, and the `faults` if it is not."""

    spec_version: int
    state_key: str
    """Key of the object that the walk began with; a backup where ``repo`` itself is unusable."""
    faults: tuple[Fault, ...] = ()
    """In the order of gravity; of one gravity in the order found."""
    counts: Mapping[FaultKind, int] = field(default_factory=dict)
    """How many faults of each kind there are, those included that `faults` has no room for."""
    errors: int = 0
    warnings: int = 0
    notes: int = 0
    checked: Checked = field(default_factory=Checked)

    @property
    def is_clean(self) -> bool:
        """Whether there are no errors and no warnings; notes may be."""
        return not self.errors and not self.warnings

    @property
    def exit_status(self) -> int:
        """For ``sys.exit``: 0 when clean, 1 with warnings but no errors, 2 with errors."""
        return 2 if self.errors else 1 if self.warnings else 0

    @property
    def left_out(self) -> int:
        """How many faults were counted but are not in `faults`."""
        return self.errors + self.warnings + self.notes - len(self.faults)

    def of(self, severity: FaultSeverity | str) -> tuple[Fault, ...]:
        """Return the faults of one severity."""
        wanted = FaultSeverity(severity)
        return tuple(fault for fault in self.faults if fault.severity is wanted)

    def to_json(self) -> str:
        """Write the report as JSON, for programs."""
        described: dict[str, Any] = {
            "spec_version": self.spec_version,
            "state_key": self.state_key,
            "is_clean": self.is_clean,
            "exit_status": self.exit_status,
            "errors": self.errors,
            "warnings": self.warnings,
            "notes": self.notes,
            "left_out": self.left_out,
            "counts": {str(kind): count for kind, count in sorted(self.counts.items())},
            "checked": asdict(self.checked),
            "faults": [asdict(fault) for fault in self.faults],
        }
        return json.dumps(described, indent=2)

    def _block(self) -> Block:
        shown: dict[str, object] = {
            "spec_version": self.spec_version,
            "is_clean": self.is_clean,
            "errors": self.errors,
            "warnings": self.warnings,
            "notes": self.notes,
            "checked": Group(
                tuple(
                    (item.name, str(getattr(self.checked, item.name))) for item in fields(Checked)
                )
            ),
        }
        for severity in reversed(FaultSeverity):
            lines = [str(fault) for fault in self.of(severity)]
            total = getattr(self, f"{severity}s")
            if total > SHOWN_FAULTS:
                lines = [*lines[:SHOWN_FAULTS], f"... and {total - SHOWN_FAULTS} more"]
            if lines:
                shown[f"faults ({severity})"] = Lines(tuple(lines))
        return Block.of("icechunk.verification.VerifyReport", shown)

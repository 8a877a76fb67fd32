"""How grave each kind of fault is, what to do about it, and which kind an undecodable file is.

Tables. Severities follow what readers of the format must tolerate: what they read in spite of it
is at most a warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from icechunk.errors import ErrorKind, FormatError, IcechunkError, StorageError
from icechunk.verification import FaultKind, FaultSeverity

__all__ = ["RULES", "Rule", "kind_of", "text_of"]

_NOTE, _WARNING, _ERROR = FaultSeverity.NOTE, FaultSeverity.WARNING, FaultSeverity.ERROR

_RESTORE: Final = "Put the object back from a copy of the repository"
_REWRITE: Final = "write the node again and commit"


class Rule(NamedTuple):
    """What is known about a kind of fault."""

    severity: FaultSeverity
    remedy: str


RULES: Final[Mapping[FaultKind, Rule]] = {
    FaultKind.CORRUPT_FILE: Rule(_ERROR, f"{_RESTORE}; nothing in the file can be relied on"),
    FaultKind.UNSUPPORTED_VERSION: Rule(_ERROR, "Upgrade the library, and verify again"),
    FaultKind.ID_MISMATCH: Rule(
        _ERROR, f"{_RESTORE}: another file was copied or renamed to its name"
    ),
    FaultKind.UNREADABLE: Rule(
        _ERROR, "Look at permissions and at the storage itself, then verify again"
    ),
    FaultKind.REPOSITORY_OBJECT_MISSING: Rule(
        _ERROR, "Copy the newest readable backup below overwritten/ to repo"
    ),
    FaultKind.MAIN_MISSING: Rule(
        _ERROR, "Restore an older state from overwritten/; without main nothing can be written"
    ),
    FaultKind.REF_TO_UNKNOWN_SNAPSHOT: Rule(
        _ERROR, "Put the snapshot back from a copy, or point the ref at another snapshot"
    ),
    FaultKind.DUPLICATE_REF: Rule(_ERROR, "Restore an older state from overwritten/"),
    FaultKind.REF_UNREADABLE: Rule(
        _ERROR, "Write the file anew, naming the snapshot the ref should point to"
    ),
    FaultKind.BAD_REF_NAME: Rule(_WARNING, "Remove the file if it is not yours"),
    FaultKind.TOMBSTONE_WITHOUT_REF: Rule(
        _WARNING, "Nothing; the name of the tag cannot be used again"
    ),
    FaultKind.DANGLING_PARENT: Rule(
        _ERROR, "Put the parent back from a copy; the history before it is lost otherwise"
    ),
    FaultKind.HISTORY_CYCLE: Rule(_ERROR, "Restore an older state from a copy or overwritten/"),
    FaultKind.PARENT_NEWER: Rule(
        _WARNING, "Nothing; readonly_session(as_of=...) may choose another snapshot than expected"
    ),
    FaultKind.TIME_IN_FUTURE: Rule(
        _WARNING, "Set the clock of the machine that wrote it; changes are refused until then"
    ),
    FaultKind.HISTORY_DISAGREES: Rule(
        _WARNING, "Nothing; histories show what the state of the repository says"
    ),
    FaultKind.HISTORY_METADATA_UNREADABLE: Rule(
        _WARNING, "Restore an older state, or leave it: the data can be read"
    ),
    FaultKind.CONFIG_UNREADABLE: Rule(_ERROR, "Put the configuration back from a copy"),
    FaultKind.UNSORTED: Rule(
        _WARNING, "Make any change, such as set_metadata: it is written in order again"
    ),
    FaultKind.OPERATIONS_LOG_UNUSABLE: Rule(
        _WARNING, "Restore an older state from overwritten/ before others write"
    ),
    FaultKind.OPERATIONS_LOG_DISORDER: Rule(_WARNING, "Nothing; no data depend on it"),
    FaultKind.OPERATIONS_LOG_CUT: Rule(_NOTE, "Nothing, if old backups were removed on purpose"),
    FaultKind.BACKUP_MISSING: Rule(
        _WARNING, "Put the backup back from a copy; no data depend on it"
    ),
    FaultKind.UNKNOWN_OPERATION: Rule(_WARNING, "Upgrade the library before making changes"),
    FaultKind.SNAPSHOT_MISSING: Rule(
        _ERROR, f"{_RESTORE}; if there is none, point branches and tags elsewhere and expire it"
    ),
    FaultKind.UNSORTED_NODES: Rule(_ERROR, f"{_RESTORE}: nodes of this snapshot are not found"),
    FaultKind.DUPLICATE_PATH: Rule(_ERROR, f"{_RESTORE}: one of the nodes is never found"),
    FaultKind.DUPLICATE_NODE_ID: Rule(
        _WARNING, "Copy one of the nodes to a new one; changes of the two are taken for each other"
    ),
    FaultKind.BAD_PATH: Rule(_WARNING, "Copy the node to a path that Zarr can address"),
    FaultKind.PARENT_GROUP_MISSING: Rule(
        _NOTE, "Create the group if the node should show in listings"
    ),
    FaultKind.BELOW_AN_ARRAY: Rule(_NOTE, "Move the node elsewhere if it should show in listings"),
    FaultKind.DOCUMENT_INVALID: Rule(_ERROR, f"Take the document from a copy, {_REWRITE}"),
    FaultKind.DOCUMENT_DISAGREES: Rule(_ERROR, f"Find out which of the two is right, {_REWRITE}"),
    FaultKind.MANIFEST_NOT_LISTED: Rule(
        _ERROR, "Call rewrite_manifests on the branch, if the manifest itself can be read"
    ),
    FaultKind.MANIFEST_LISTED_IN_VAIN: Rule(
        _WARNING, "Nothing; the manifest and its chunks are kept for no use"
    ),
    FaultKind.EXTENTS_OVERLAP: Rule(
        _ERROR, "Write the array again: which manifest has the newer chunks is not known"
    ),
    FaultKind.MANIFEST_MISSING: Rule(
        _ERROR, f"{_RESTORE}; if there is none, the chunks it lists are lost: write them again"
    ),
    FaultKind.MANIFEST_SIZE_WRONG: Rule(
        _ERROR, "Call rewrite_manifests on the branch; other readers ask for too few bytes"
    ),
    FaultKind.MANIFEST_COUNT_WRONG: Rule(_WARNING, "Nothing; only estimates depend on it"),
    FaultKind.UNSORTED_REFERENCES: Rule(_ERROR, f"{_RESTORE}: chunks listed in it are not found"),
    FaultKind.RANK_WRONG: Rule(_ERROR, f"{_RESTORE}: its chunks are found nowhere"),
    FaultKind.NODE_NOT_IN_MANIFEST: Rule(
        _WARNING, "Nothing, if the array has no chunks there: they read as the fill value"
    ),
    FaultKind.EXTENTS_TOO_SMALL: Rule(
        _ERROR, "Put the snapshot back from a copy, or write those chunks again"
    ),
    FaultKind.REFERENCES_BEYOND_GRID: Rule(
        _NOTE, "Nothing, if the array was made smaller; rewrite_manifests drops them"
    ),
    FaultKind.ZERO_LENGTH_CHUNK: Rule(
        _WARNING, "Write the chunks again, or delete them: some readers refuse them"
    ),
    FaultKind.CHUNK_MISSING: Rule(
        _ERROR, f"{_RESTORE}; if there is none, the chunk is lost: write it again"
    ),
    FaultKind.CHUNK_TOO_SHORT: Rule(
        _ERROR, f"{_RESTORE}; if there is none, the chunk is lost: write it again"
    ),
    FaultKind.CHUNK_UNREADABLE: Rule(
        _ERROR, "Look at permissions and at the storage itself, then verify again"
    ),
    FaultKind.CHUNK_UNDECODABLE: Rule(
        _ERROR, f"{_RESTORE}; if there is none, the chunk is lost: write it again"
    ),
    FaultKind.ARRAY_NOT_DECODED: Rule(
        _WARNING, "Verify where the array can be read, with its codecs and its Zarr installed"
    ),
    FaultKind.VIRTUAL_CHUNK_UNREADABLE: Rule(
        _ERROR, "Put the file back where the reference says, or set the reference again"
    ),
    FaultKind.VIRTUAL_CHUNK_MODIFIED: Rule(
        _ERROR, "Put the former file back, or set the references to it again"
    ),
    FaultKind.VIRTUAL_CHUNK_UNCHECKED: Rule(
        _WARNING, "Authorize the container and verify again; chunks in no container need one"
    ),
    FaultKind.TRANSACTION_LOG_MISSING: Rule(
        _WARNING, f"{_RESTORE}; data can be read, but diff and rebase over the commit fail"
    ),
    FaultKind.TRANSACTION_LOG_DISAGREES: Rule(
        _WARNING, "Nothing; do not rely on diff and rebase over the commit"
    ),
    FaultKind.UNREFERENCED_OBJECTS: Rule(
        _NOTE, "Garbage collection removes them, once no session can still be using them"
    ),
    FaultKind.FOREIGN_OBJECT: Rule(_NOTE, "Remove it if it is not needed; nothing here uses it"),
}


def kind_of(error: IcechunkError) -> FaultKind:
    """Tell which kind of fault a file has that could not be read or was refused."""
    if isinstance(error, StorageError):
        return FaultKind.UNREADABLE
    if error.kind == ErrorKind.UNSUPPORTED_SPEC_VERSION:
        return FaultKind.UNSUPPORTED_VERSION
    if isinstance(error, FormatError) and error.damage is not None:
        return FaultKind(error.damage)
    return FaultKind.CORRUPT_FILE


def text_of(error: IcechunkError) -> str:
    """Return what an error says, without what was being done."""
    return error.message.partition("\n\n")[0]

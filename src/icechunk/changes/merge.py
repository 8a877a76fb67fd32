"""Merging what several forks did into one change set.

Either everything is merged or nothing is. Two writers conflict when they did different things to
the same node document or the same chunk *and neither could see the other's edit*: an edit that a
fork already found in its base is not a conflict but something it built upon. Epochs decide that,
see `ChangeSet.seen_by`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np

from icechunk.changes.change_set import ChangeSet, Deletion, NodeEdit
from icechunk.chunks import ChunkTable, concat_many, overlap, overlay
from icechunk.errors import ErrorKind, InvalidInputError, SessionStateError
from icechunk.format.ids import encode_id

OverlapPolicy = Literal["raise", "last"]

OVERLAP_POLICIES: Final = ("raise", "last")
SHOWN_COORDINATES: Final = 5


def merge(
    target: ChangeSet,
    others: Iterable[ChangeSet],
    *,
    base_path: Callable[[bytes], str | None],
    base_id: Callable[[str], bytes | None],
    on_overlap: OverlapPolicy = "raise",
) -> None:
    """Merge ``others`` into ``target``, in order, all or nothing.

    Parameters
    ----------
    target
        Receives the edits.
    others
        What to merge. Sets that are the target itself, or that appear twice, count once.
    base_path
        Path of a node id in the target's base snapshot, None when unknown there.
    base_id
        Node id at a path of the target's base snapshot, None when nothing is there.
    on_overlap
        ``"raise"`` refuses two writers of one chunk; ``"last"`` lets the later one win.

    Raises
    ------
    SessionStateError
        Kind ``merge-failed``, or ``rearrange-session-only`` when one of the sets holds moves; the
        target is unchanged.
    InvalidInputError
        ``on_overlap`` is neither ``"raise"`` nor ``"last"``.
    """
    if on_overlap not in OVERLAP_POLICIES:
        raise InvalidInputError(
            f"overlap must be one of {OVERLAP_POLICIES}, got {on_overlap!r}", ErrorKind.UNKNOWN
        )
    distinct: list[ChangeSet] = []
    for other in others:
        if other is not target and all(other is not known for known in distinct):
            distinct.append(other)
    if not distinct:
        return
    for changes in (target, *distinct):
        changes.require_edits()
    draft = _Draft(target, base_path, base_id)
    for other in distinct:
        draft.merge_nodes(other)
        draft.collect_chunks(other)
    if on_overlap == "raise":
        draft.check_overlaps()
    draft.apply()


@dataclass(slots=True)
class _Draft:
    """The merged state under construction; only `apply` touches the target."""

    target: ChangeSet
    base_path: Callable[[bytes], str | None]
    base_id: Callable[[str], bytes | None]
    created: dict[str, NodeEdit] = field(init=False)
    updated: dict[bytes, NodeEdit] = field(init=False)
    deleted: dict[bytes, Deletion] = field(init=False)
    created_paths: dict[bytes, str] = field(init=False)
    incoming: dict[bytes, list[tuple[int, ChunkTable]]] = field(default_factory=dict)
    """Per node: tables to merge in order, each with the last target epoch its writer saw."""
    dropped_logs: set[bytes] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.created = dict(self.target.created)
        self.updated = dict(self.target.updated)
        self.deleted = dict(self.target.deleted)
        self.created_paths = {edit.id: path for path, edit in self.created.items()}

    # --- nodes ---------------------------------------------------------------------------------

    def merge_nodes(self, other: ChangeSet) -> None:
        seen = self.target.seen_by(other)
        # lists are copies, made at once: other threads may be writing to the fork
        for deletion in list(other.deleted.values()):
            self._merge_deletion(deletion, seen)
        for edit in list(other.created.values()):
            self._merge_creation(edit, seen)
        for edit in list(other.updated.values()):
            self._merge_update(edit, seen)

    def _merge_deletion(self, deletion: Deletion, seen: int) -> None:
        node_id = deletion.id
        mine = self._edit_of(node_id)
        if (mine is not None and mine.epoch > seen) or self._has_chunks(node_id, since=seen):
            raise _both_deleted_and_modified(deletion.path, is_array=deletion.is_array)
        self.dropped_logs.add(node_id)
        self.incoming.pop(node_id, None)
        self.updated.pop(node_id, None)
        path = self.created_paths.pop(node_id, None)
        if path is not None:
            del self.created[path]
        elif self.base_path(node_id) is not None:
            self.deleted[node_id] = replace(deletion, epoch=self.target.epoch)

    def _merge_creation(self, edit: NodeEdit, seen: int) -> None:
        mine = self.created.get(edit.path)
        what = "groups" if edit.grid is None else "arrays"
        below = self.base_id(edit.path) if mine is None else None
        is_taken = below is not None and below not in self.deleted
        if is_taken or (mine is not None and mine.id != edit.id):
            raise _failed(f"Multiple writers created the same {what}", edit.path)
        if mine is not None and mine.user_data != edit.user_data and mine.epoch > seen:
            raise _failed(f"Multiple writers updated the same {what}", edit.path)
        if edit.id in self.deleted:
            raise _both_deleted_and_modified(edit.path, is_array=edit.grid is not None)
        self._put_created(edit)

    def _merge_update(self, edit: NodeEdit, seen: int) -> None:
        mine = self._edit_of(edit.id)
        if mine is not None and mine.user_data != edit.user_data and mine.epoch > seen:
            what = "groups" if edit.grid is None else "arrays"
            raise _failed(
                f"Multiple writers updated the same {what}", f"{edit.path} ({encode_id(edit.id)})"
            )
        self._require_known(edit.id, edit.path, is_array=edit.grid is not None)
        if edit.id in self.created_paths:
            self._put_created(edit)
        else:
            self.updated[edit.id] = replace(edit, epoch=self.target.epoch)

    def _put_created(self, edit: NodeEdit) -> None:
        self.created[edit.path] = replace(edit, epoch=self.target.epoch)
        self.created_paths[edit.id] = edit.path

    def _edit_of(self, node_id: bytes) -> NodeEdit | None:
        path = self.created_paths.get(node_id)
        return self.created[path] if path is not None else self.updated.get(node_id)

    def _require_known(self, node_id: bytes, path: str, *, is_array: bool) -> None:
        if node_id in self.deleted:
            raise _both_deleted_and_modified(path, is_array=is_array)
        if node_id not in self.created_paths and self.base_path(node_id) is None:
            raise _failed(
                "the fork edited a node that this session does not know "
                "(a nested fork must be merged into the fork it came from first)",
                path,
            )

    # --- chunks --------------------------------------------------------------------------------

    def collect_chunks(self, other: ChangeSet) -> None:
        seen = self.target.seen_by(other)
        for node_id, table in other.tables():
            self._require_known(node_id, self._name(node_id), is_array=True)
            self._check_rank(node_id, table)
            self.incoming.setdefault(node_id, []).append((seen, table))

    def _check_rank(self, node_id: bytes, table: ChunkTable) -> None:
        log = self.target.chunks.get(node_id)
        arrivals = self.incoming.get(node_id)
        known = arrivals[0][1].rank if arrivals else log.rank if log else table.rank
        if known != table.rank:
            raise _failed("chunks of different ranks for one array", self._name(node_id))

    def check_overlaps(self) -> None:
        for node_id, arrivals in self.incoming.items():
            clashes = _clashes_among([table for _, table in arrivals])
            log = self.target.chunks.get(node_id)
            if log and node_id not in self.dropped_logs:
                for seen in {seen for seen, _ in arrivals}:
                    unseen = log.table(since=seen)
                    clashes += [overlap(unseen, table) for s, table in arrivals if s == seen]
            coords = [c for c in clashes if len(c)]
            if coords:
                raise _overlapping(self._name(node_id), np.unique(np.concatenate(coords), axis=0))

    def _has_chunks(self, node_id: bytes, *, since: int) -> bool:
        if node_id in self.incoming:
            return True
        log = self.target.chunks.get(node_id)
        return bool(log) and log is not None and len(log.table(since=since)) > 0

    def _name(self, node_id: bytes) -> str:
        path = self.created_paths.get(node_id)
        if path is None and node_id in self.deleted:
            path = self.deleted[node_id].path
        return path or self.base_path(node_id) or encode_id(node_id)

    # --- the one effect ------------------------------------------------------------------------

    def apply(self) -> None:
        target = self.target
        target.created, target.updated, target.deleted = self.created, self.updated, self.deleted
        for node_id in self.dropped_logs:
            target.chunks.pop(node_id, None)
        for node_id, arrivals in self.incoming.items():
            tables = [table for _, table in arrivals]
            merged = tables[0] if len(tables) == 1 else concat_many(tables)
            target.log(node_id, merged.rank).put_table(merged)


def _clashes_among(tables: Sequence[ChunkTable]) -> list[np.ndarray]:
    """Coordinates that two of the tables hold with different references."""
    if len(tables) < 2:
        return []
    union = concat_many(tables)
    if len(union) == sum(map(len, tables)):
        return []  # no coordinate twice: the normal end of a distributed write
    clashes = []
    so_far = tables[0]
    for table in tables[1:]:
        clashes.append(overlap(so_far, table))
        so_far = overlay(so_far, table)
    return clashes


def _overlapping(path: str, coords: np.ndarray) -> SessionStateError:
    shown = ", ".join(str(row) for row in coords[:SHOWN_COORDINATES].tolist())
    rest = len(coords) - SHOWN_COORDINATES
    more = f" and {rest} more" if rest > 0 else ""
    return _failed(
        "Multiple writers wrote the same chunks of an array (align the writers' regions with the "
        'chunk grid, or merge with overlap="last" to let the later writer win)',
        f"{path} chunks {shown}{more}",
    )


def _both_deleted_and_modified(path: str, *, is_array: bool) -> SessionStateError:
    what = "Arrays" if is_array else "Groups"
    return _failed(f"{what} were both deleted and modified", path)


def _failed(reason: str, where: str) -> SessionStateError:
    return SessionStateError(f"cannot merge: {reason}: {where}", ErrorKind.MERGE_FAILED)

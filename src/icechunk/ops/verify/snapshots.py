"""What can be wrong inside one snapshot: its nodes, their documents, and the manifests they name.

From a decoded snapshot to problems; nothing here fetches. Most of a snapshot stands in its
neighbours too, so nodes and boxes that were looked at before are recognised and skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Final, NamedTuple

import numpy as np

from icechunk.changes.documents import parse_document
from icechunk.errors import InvalidInputError
from icechunk.format import schema
from icechunk.format.envelope import FileKind, unwrap
from icechunk.format.flatbuf import Buffer
from icechunk.format.ids import encode_id, sortable
from icechunk.format.nodes import NodeColumns
from icechunk.format.paths import parent, validate_path
from icechunk.format.snapshot import Snapshot
from icechunk.ops.verify.overlap import first_overlap
from icechunk.ops.verify.rules import text_of
from icechunk.verification import FaultKind, FaultSeverity

__all__ = ["Problem", "SnapshotChecks", "repeats_a_path"]

_DIGEST: Final = 16
_EVERYWHERE: Final = (0, 2**32 - 1)


class Problem(NamedTuple):
    """A fault of a snapshot, before it has got a key."""

    kind: FaultKind
    message: str
    path: str | None = None
    severity: FaultSeverity | None = None


class SnapshotChecks:
    """Looks at snapshots one after the other, at what is new in each."""

    def __init__(self) -> None:
        self._tables: set[bytes] = set()
        self._nodes: set[bytes] = set()
        self._boxes: set[bytes] = set()
        self._reported: set[tuple[FaultKind, str]] = set()

    def check(self, snapshot: Snapshot) -> Iterator[Problem]:
        """Yield what is wrong with a snapshot and was not said of an earlier one."""
        columns = snapshot.nodes.columns
        yield from _manifest_list(snapshot)
        yield from self._overlaps(columns)
        if self._is_new(self._tables, *_node_facts(columns)):
            yield from self._structure(columns)
            for row in range(len(columns)):
                yield from self._document(columns, row)

    def _document(self, columns: NodeColumns, row: int) -> Iterator[Problem]:
        dims = slice(columns.dim_starts[row], columns.dim_starts[row + 1])
        data, raw_path = columns.user_data[row], columns.paths[row]
        is_array = bool(columns.is_array[row])
        shape, counts = columns.array_lengths[dims], columns.num_chunks[dims]
        facts = (raw_path, data, bytes([is_array]), shape.tobytes(), counts.tobytes())
        if not self._is_new(self._nodes, *facts):
            return
        path = raw_path.decode()
        try:
            grid = parse_document(data, path)
        except InvalidInputError as error:
            said = text_of(error).removeprefix(f"bad metadata for node `{path}`: ")
            yield Problem(FaultKind.DOCUMENT_INVALID, f"zarr.json of {path}: {said}", path)
            return
        disagreement = None
        if (grid is not None) != is_array:
            document, recorded = _node_type(grid is not None), _node_type(is_array)
            disagreement = f"zarr.json describes {document}, the snapshot has {recorded}"
        elif grid is not None and grid.shape != tuple(shape.tolist()):
            disagreement = (
                f"zarr.json has the shape {grid.shape}, the snapshot {tuple(shape.tolist())}"
            )
        elif grid is not None and grid.num_chunks != tuple(counts.tolist()):
            disagreement = (
                f"zarr.json makes a grid of {grid.num_chunks} chunks, the snapshot has "
                f"{tuple(counts.tolist())}"
            )
        if disagreement is not None:
            yield Problem(FaultKind.DOCUMENT_DISAGREES, f"{path}: {disagreement}", path)
        elif grid is not None:
            names = columns.node(row).array
            assert names is not None
            if grid.dimension_names != names.dimension_names:
                yield Problem(
                    FaultKind.DOCUMENT_DISAGREES,
                    f"{path}: zarr.json names the dimensions {grid.dimension_names}, the snapshot "
                    f"{names.dimension_names}",
                    path,
                    FaultSeverity.WARNING,
                )

    def _structure(self, columns: NodeColumns) -> Iterator[Problem]:
        ids = np.sort(sortable(columns.ids))
        if (ids[1:] == ids[:-1]).any():
            yield from self._once(_same_ids(columns))
        types = dict(zip(columns.paths, columns.is_array.tolist(), strict=True))
        for raw_path in types:
            path = raw_path.decode()
            try:
                validate_path(path)
            except InvalidInputError as error:
                yield from self._once([Problem(FaultKind.BAD_PATH, text_of(error), path)])
                continue
            above = parent(path)
            if above is None or (is_array := types.get(above.encode())) is False:
                continue
            if is_array:
                message = f"{path} lies below {above}, which is an array"
                problem = Problem(FaultKind.BELOW_AN_ARRAY, message, path)
            else:
                message = f"{path} is there, but no group {above}"
                problem = Problem(FaultKind.PARENT_GROUP_MISSING, message, path)
            yield from self._once([problem])

    def _overlaps(self, columns: NodeColumns) -> Iterator[Problem]:
        for row in np.flatnonzero(np.diff(columns.ref_starts) > 1).tolist():
            first, last = int(columns.ref_starts[row]), int(columns.ref_starts[row + 1])
            low, high = int(columns.extent_starts[first]), int(columns.extent_starts[last])
            ranges = columns.extents[low:high]
            counts = np.diff(columns.extent_starts[first : last + 1])
            ids = columns.ref_ids[first:last]
            if not self._is_new(self._boxes, ids.tobytes(), ranges.tobytes(), counts.tobytes()):
                continue
            rank = int(columns.dim_starts[row + 1] - columns.dim_starts[row])
            boxes = np.empty((last - first, rank, 2), np.int64)
            boxes[:] = _EVERYWHERE
            if rank:
                boxes[counts > 0] = ranges.reshape(-1, rank, 2)
            pair = first_overlap(boxes)
            if pair is None:
                continue
            one, other = (encode_id(ids[place].tobytes()) for place in pair)
            path = columns.paths[row].decode()
            yield Problem(
                FaultKind.EXTENTS_OVERLAP,
                f"{path}: the extents of the manifests {one} and {other} overlap, so that chunks "
                "of the second are not found",
                path,
            )

    def _once(self, problems: Iterator[Problem] | list[Problem]) -> Iterator[Problem]:
        for problem in problems:
            facts = problem.kind, problem.path or ""
            if facts not in self._reported:
                self._reported.add(facts)
                yield problem

    @staticmethod
    def _is_new(seen: set[bytes], *parts: bytes) -> bool:
        digest = blake2b(digest_size=_DIGEST)
        for part in parts:
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
        value = digest.digest()
        if value in seen:
            return False
        seen.add(value)
        return True


def repeats_a_path(data: bytes, key: str) -> bool:
    """Tell whether a snapshot file that was refused for the order of its nodes has a path twice."""
    root = Buffer(unwrap(data, FileKind.SNAPSHOT, key).payload, key).root(schema.SNAPSHOT)
    nodes, _ = root.tables("nodes")
    paths = list(nodes.byte_strings("path"))
    return len(set(paths)) < len(paths)


def _manifest_list(snapshot: Snapshot) -> Iterator[Problem]:
    columns, files = snapshot.nodes.columns, snapshot.manifest_files
    if files.is_exactly(columns.ref_ids):
        return
    used, listed = sortable(columns.ref_ids), sortable(files.ids)
    for ref in np.flatnonzero(~np.isin(used, listed)).tolist():
        row = int(np.searchsorted(columns.ref_starts, ref, side="right")) - 1
        path = columns.paths[row].decode()
        name = encode_id(columns.ref_ids[ref].tobytes())
        message = f"{path} refers to the manifest {name}, which the snapshot does not list"
        yield Problem(FaultKind.MANIFEST_NOT_LISTED, message, path)
    for file in np.flatnonzero(~np.isin(listed, used)).tolist():
        name = encode_id(files.ids[file].tobytes())
        message = f"it lists the manifest {name}, which none of its arrays refers to"
        yield Problem(FaultKind.MANIFEST_LISTED_IN_VAIN, message)


def _same_ids(columns: NodeColumns) -> Iterator[Problem]:
    owners: dict[bytes, str] = {}
    for node_id, raw_path in zip(columns.ids, columns.paths, strict=True):
        path = raw_path.decode()
        other = owners.setdefault(node_id.tobytes(), path)
        if other != path:
            message = f"{other} and {path} have one id, {encode_id(node_id.tobytes())}"
            yield Problem(FaultKind.DUPLICATE_NODE_ID, message, path)


def _node_facts(columns: NodeColumns) -> Iterator[bytes]:
    """Everything that the checks of structure and documents look at."""
    for column in (columns.paths, columns.user_data, columns.names):
        yield column.offsets.tobytes()
        yield column.data.tobytes()
    for array in (
        columns.ids,
        columns.is_array,
        columns.dim_starts,
        columns.array_lengths,
        columns.num_chunks,
        columns.has_names,
        columns.name_starts,
        columns.name_is_given,
    ):
        yield array.tobytes()


def _node_type(is_array: bool) -> str:
    return "an array" if is_array else "a group"

"""What can be wrong between a manifest and those who refer to it.

From a decoded manifest and the claims of snapshots to problems; nothing here fetches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from icechunk.chunks import ChunkKind, ChunkTable
from icechunk.errors import FormatError
from icechunk.format.manifest import Manifest
from icechunk.ops.verify.claims import ClaimsOfNode, FileClaim
from icechunk.ops.verify.rules import kind_of, text_of
from icechunk.verification import FaultKind, FaultSeverity

__all__ = ["ManifestProblem", "check_claims", "check_record", "decoded_tables"]


class ManifestProblem(NamedTuple):
    """A fault of a manifest, before its array has got a path."""

    kind: FaultKind
    message: str
    node_id: bytes | None = None
    snapshot: int | None = None
    """Number of a snapshot in which it shows."""
    severity: FaultSeverity | None = None


def check_record(claims: Sequence[FileClaim], size: int, count: int) -> Iterator[ManifestProblem]:
    """Compare what snapshots record of a manifest file with the file."""
    for claim in claims:
        if claim.size and claim.size != size:
            yield ManifestProblem(
                FaultKind.MANIFEST_SIZE_WRONG,
                f"the file has {size} bytes, a snapshot records {claim.size}",
                None,
                claim.snapshot,
                # Asking for more than there is does no harm.
                FaultSeverity.WARNING if claim.size > size else None,
            )
        if claim.num_refs >= 0 and claim.num_refs != count:
            yield ManifestProblem(
                FaultKind.MANIFEST_COUNT_WRONG,
                f"the file has {count} references, a snapshot records {claim.num_refs}",
                None,
                claim.snapshot,
            )


def decoded_tables(
    manifest: Manifest,
) -> tuple[dict[bytes, ChunkTable], list[ManifestProblem]]:
    """Decode all references, and tell which arrays' cannot be decoded."""
    tables: dict[bytes, ChunkTable] = {}
    problems = []
    if list(manifest.node_ids) != sorted(manifest.node_ids):
        message = "its arrays are not sorted by id, so that some readers do not find them"
        problems.append(ManifestProblem(FaultKind.UNSORTED, message))
    for node_id in manifest.node_ids:
        try:
            tables[node_id] = manifest.table(node_id)
        except FormatError as error:
            said = text_of(error).removeprefix(f"{manifest.key} is corrupt: ")
            problems.append(ManifestProblem(kind_of(error), said, node_id))
            continue
        kinds, lengths = tables[node_id].kinds, tables[node_id].lengths
        empty = int(np.count_nonzero((lengths == 0) & (kinds != ChunkKind.INLINE)))
        if empty:
            message = f"{empty} references are to chunks of no bytes"
            problems.append(ManifestProblem(FaultKind.ZERO_LENGTH_CHUNK, message, node_id))
    return tables, problems


def check_claims(
    manifest: Manifest, tables: Mapping[bytes, ChunkTable], claims: Sequence[ClaimsOfNode]
) -> Iterator[ManifestProblem]:
    """Compare the references of a manifest with what snapshots claim about it."""
    for claimed in claims:
        node_id, first = claimed.node_id, int(claimed.snapshots.min())
        if not manifest.num_refs(node_id):
            message = "it has no chunks of an array that refers to it"
            yield ManifestProblem(FaultKind.NODE_NOT_IN_MANIFEST, message, node_id, first)
        elif node_id in tables:
            yield from _check_places(tables[node_id], claimed)


def _check_places(table: ChunkTable, claims: ClaimsOfNode) -> Iterator[ManifestProblem]:
    first = int(claims.snapshots.min())
    if table.rank != claims.rank:
        message = f"its references have {table.rank} axes, their array {claims.rank}"
        yield ManifestProblem(FaultKind.RANK_WRONG, message, claims.node_id, first)
        return
    if not claims.rank:
        return
    coords = table.coords
    lows, highs = coords.min(axis=0), coords.max(axis=0)  # (rank,) each, inclusive
    is_beyond = (highs >= claims.grids).any(axis=1)  # (claims,)
    if is_beyond.any():
        at = int(np.argmax(is_beyond))
        beyond = ~_below(coords, claims.grids[at])
        yield ManifestProblem(
            FaultKind.REFERENCES_BEYOND_GRID,
            f"{_counted(coords, beyond)} lie outside the array's grid of "
            f"{tuple(claims.grids[at].tolist())} chunks",
            claims.node_id,
            int(claims.snapshots[at]),
        )
    begins, ends = claims.boxes[:, :, 0], claims.boxes[:, :, 1]
    may_leave = (lows < begins).any(axis=1) | (highs >= ends).any(axis=1)
    for at in np.flatnonzero(may_leave).tolist():
        # What the array's shape cuts off is not looked for, whatever the extents are.
        is_inside = (coords >= begins[at]).all(axis=1) & _below(coords, ends[at])
        lost = ~is_inside & _below(coords, claims.grids[at])
        if not lost.any():
            continue
        yield ManifestProblem(
            FaultKind.EXTENTS_TOO_SMALL,
            f"{_counted(coords, lost)} lie outside the extents "
            f"{claims.boxes[at].tolist()} and read as the fill value",
            claims.node_id,
            int(claims.snapshots[at]),
        )


def _below(coords: npt.NDArray[np.uint32], ends: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
    return np.asarray((coords < ends).all(axis=1))


def _counted(coords: npt.NDArray[np.uint32], is_meant: npt.NDArray[np.bool_]) -> str:
    """Say how many references are meant, and name the first."""
    example = tuple(coords[int(np.argmax(is_meant))].tolist())
    return f"{int(is_meant.sum())} references, such as {example},"

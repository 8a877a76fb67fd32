"""The walk through a stored repository: state, snapshots, logs, manifests, chunks, what is left.

The state is taken first and folders are listed after it, so that whoever commits meanwhile only
adds what nobody asks for. Who collects garbage meanwhile removes what this state still names: then
the walk is made once more. Snapshots and manifests are fetched by the batch; what stays of them is
columns, each distinct fact once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from icechunk.assets.manager import AssetManager
from icechunk.assets.virtual import VirtualChunks
from icechunk.assets.workers import Workers
from icechunk.format.layout import CHUNKS, OVERWRITTEN
from icechunk.ops.verify.findings import Findings
from icechunk.ops.verify.inventory import take_inventory
from icechunk.ops.verify.leftovers import note_leftovers, note_unused
from icechunk.ops.verify.source import open_source
from icechunk.ops.verify.tour import Tour, VerifyOptions
from icechunk.ops.verify.visit_chunks import ChunkVisits, Decoder
from icechunk.ops.verify.visit_logs import visit_logs
from icechunk.ops.verify.visit_manifests import visit_manifests
from icechunk.ops.verify.visit_snapshots import visit_snapshots
from icechunk.repo.surroundings import Surroundings
from icechunk.storage.base import Storage
from icechunk.verification import Checked, FaultKind, VerifyProgress, VerifyReport

__all__ = ["verify"]

#: How often a walk is made at most while others collect garbage.
MAX_WALKS: Final = 3
_MAY_HAVE_BEEN_COLLECTED: Final = (
    FaultKind.SNAPSHOT_MISSING,
    FaultKind.DANGLING_PARENT,
    FaultKind.REF_TO_UNKNOWN_SNAPSHOT,
    FaultKind.MANIFEST_MISSING,
    FaultKind.CHUNK_MISSING,
    FaultKind.CHUNK_UNREADABLE,
    FaultKind.CHUNK_UNDECODABLE,
    FaultKind.TRANSACTION_LOG_MISSING,
)


def verify(
    assets: AssetManager,
    options: VerifyOptions,
    world: Surroundings,
    *,
    progress: Callable[[VerifyProgress], object] | None = None,
    virtual: VirtualChunks | None = None,
    decoder: Decoder | None = None,
) -> VerifyReport:
    """Look for everything that is wrong with a stored repository.

    Parameters
    ----------
    assets
        Over the storage; its caches are not used.
    options
        What to look at.
    world
        Whose clock tells what is in the future.
    progress
        Told how far the walk has come.
    virtual
        Reads virtual chunks; None does not look at them.
    decoder
        Decodes native and inline chunks; None does not.

    Raises
    ------
    RepositoryNotFoundError
        There is nothing that looks like a repository.
    StorageError
        The storage cannot be listed, or its state not be fetched for another reason than that it
        is not there.
    """
    for _ in range(MAX_WALKS):
        tour = _begin(assets, options, world, progress or _ignore)
        _walk(tour, virtual, decoder)
        if not tour.findings.count(*_MAY_HAVE_BEEN_COLLECTED) or not tour.source.has_lost_snapshots(
            assets.storage
        ):
            break
    return tour.findings.report(tour.source.spec_version, tour.source.key, Checked(**tour.count))


def _begin(
    assets: AssetManager,
    options: VerifyOptions,
    world: Surroundings,
    progress: Callable[[VerifyProgress], object],
) -> Tour:
    progress(VerifyProgress("state", 0))
    findings = Findings(options.max_faults)
    backups = _backup_names(assets.storage)
    source = open_source(
        assets.storage, backups, findings, world.now_us(), read_backups=options.read_backups
    )
    tour = Tour(assets, options, source, findings, progress)
    tour.count["operations"], tour.count["backups"] = source.operations, source.backups
    return tour


def _walk(tour: Tour, virtual: VirtualChunks | None, decoder: Decoder | None) -> None:
    with Workers(tour.storage.is_local, "icechunk-verify") as workers:
        claims, files = visit_snapshots(tour, workers)
        logs = visit_logs(tour, workers)
        listed = take_inventory(tour.storage, CHUNKS, lambda count: tour.tell("listing", count))
        chunks = ChunkVisits(tour, listed, virtual, decoder)
        visit_manifests(tour, workers, claims, files, chunks)
        chunks.settle(workers)
    note_leftovers(tour, logs, files.ids())
    note_unused(tour, listed, chunks.is_used)


def _backup_names(storage: Storage) -> set[str]:
    start = len(OVERWRITTEN) + 1
    return {info.key[start:] for info in storage.list(OVERWRITTEN + "/")}


def _ignore(_: VerifyProgress) -> None:
    pass

"""The walk through a stored repository: state, snapshots, logs, manifests, chunks, what is left.

The state is taken first and folders are listed after it, so that whoever commits meanwhile only
adds what nobody asks for. Who collects garbage meanwhile removes what this state still names: then
the walk is made once more. Snapshots and manifests are fetched by the batch; what stays of them is
columns, each distinct fact once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from icechunk.assets.manager import AssetManager
from icechunk.assets.virtual import VirtualChunks
from icechunk.assets.workers import MAX_THREADS, Workers
from icechunk.chunks import ChunkKind, ChunkTable
from icechunk.errors import FormatError, IcechunkError, StorageError
from icechunk.format.envelope import FileKind
from icechunk.format.ids import OBJECT_ID_SIZE, encode_id, id_column
from icechunk.format.layout import (
    CHUNKS,
    MANIFESTS,
    OVERWRITTEN,
    SNAPSHOTS,
    TRANSACTIONS,
    chunk_key,
    manifest_key,
    snapshot_key,
    transaction_key,
)
from icechunk.format.manifest import Manifest
from icechunk.format.manifest_files import ManifestFile
from icechunk.format.nodes import NodeTable
from icechunk.format.snapshot import Snapshot, decode_snapshot
from icechunk.format.transaction_log import decode_transaction_log
from icechunk.ops.stats import ScanLimits, batches
from icechunk.ops.verify.chunks import ChunkCheck, Owner, read_whole
from icechunk.ops.verify.claims import Claims, FileClaim, FileClaims
from icechunk.ops.verify.findings import Findings
from icechunk.ops.verify.history import Recorded, Source
from icechunk.ops.verify.inventory import Inventory, Rows, take_inventory
from icechunk.ops.verify.logs import WORD, difference, fingerprint, net_change
from icechunk.ops.verify.manifests import (
    ManifestProblem,
    check_claims,
    check_record,
    decoded_tables,
)
from icechunk.ops.verify.rules import kind_of
from icechunk.ops.verify.snapshots import SnapshotChecks, repeats_a_path, unlisted_manifests
from icechunk.ops.verify.source import open_source
from icechunk.ops.verify.virtual import VirtualCheck
from icechunk.repo.surroundings import Surroundings
from icechunk.storage.base import ObjectNotFound, Storage
from icechunk.verification import (
    Checked,
    FaultKind,
    FaultSeverity,
    VerifyProgress,
    VerifyReport,
)

__all__ = ["Decoder", "VerifyOptions", "verify"]

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
    FaultKind.UNREADABLE,
)
_LOG_MISSING: Final = (FaultKind.TRANSACTION_LOG_MISSING, "the transaction log is not there")
_KEEP_GARBAGE: Final = (
    "Collect no garbage before the errors are mended: objects of what cannot be read are among it"
)

#: Makes, of a snapshot and the path of an array in it, a function that decodes one chunk and
#: returns what is wrong with it; or says why no chunk of the array can be decoded.
ChunkDecoder = Callable[[tuple[int, ...]], str | None]
Decoder = Callable[[bytes, str], ChunkDecoder | str]


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """What to look at, and what that may take."""

    limits: ScanLimits
    max_faults: int
    read_chunks: bool = False
    """Whether to read the objects of all native chunks."""


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
    for attempt in range(MAX_WALKS):
        walk = _Walk(assets, options, world, progress or _ignore, virtual, decoder)
        report = walk.run()
        is_last = attempt == MAX_WALKS - 1
        if is_last or not walk.found_losses() or not walk.source.has_lost_snapshots(assets.storage):
            break
    return report


def _ignore(_: VerifyProgress) -> None:
    pass


class _Visited(NamedTuple):
    """What stays of a snapshot."""

    recorded: Recorded
    fingerprint: int | None
    """Of its nodes; None when it could not be read."""
    spec_version: int


class _Opened(NamedTuple):
    """A manifest that was read."""

    manifest: Manifest
    size: int
    tables: dict[bytes, ChunkTable]
    problems: list[ManifestProblem]


class _Walk:
    """One walk, from the state to the report."""

    def __init__(
        self,
        assets: AssetManager,
        options: VerifyOptions,
        world: Surroundings,
        progress: Callable[[VerifyProgress], object],
        virtual: VirtualChunks | None,
        decoder: Decoder | None,
    ) -> None:
        self._assets = assets
        self._storage: Storage = assets.storage
        self._options = options
        self._world = world
        self._progress = progress
        self._virtual = virtual
        self._decoder = decoder
        self._findings = Findings(options.max_faults)
        self._visited: list[_Visited] = []
        self._claims = Claims()
        self._files = FileClaims()
        self._paths = _Paths(self)
        self._count = dict.fromkeys(Checked.__slots__, 0)
        self.source: Source

    def run(self) -> VerifyReport:
        self._tell("state", 0)
        backups = self._backup_names()
        self.source = open_source(self._storage, backups, self._findings, self._world.now_us())
        self._count["operations"] = self.source.operations
        self._count["backups"] = self.source.backups
        with Workers(self._storage.is_local, "icechunk-verify") as workers:
            self._walk_snapshots(workers)
            used_logs = self._walk_logs(workers)
            chunks = take_inventory(
                self._storage, CHUNKS, lambda count: self._tell("listing", count)
            )
            check = ChunkCheck(chunks)
            files = VirtualCheck()
            self._walk_manifests(workers, check, files)
            self._settle_chunks(check, workers)
            self._settle_virtual(files)
        self._count["chunk_objects"] = int(check.is_used.sum())
        self._count["chunk_bytes"] = int(chunks.sizes[check.is_used].sum(dtype=np.uint64))
        self._leftovers(chunks, check, used_logs, backups)
        checked = Checked(**self._count)
        return self._findings.report(self.source.spec_version, self.source.key, checked)

    def found_losses(self) -> bool:
        """Whether something was not found that a garbage collection may have removed."""
        return self._findings.count(*_MAY_HAVE_BEEN_COLLECTED) > 0

    # --- snapshots -----------------------------------------------------------------------------

    def _walk_snapshots(self, workers: Workers) -> None:
        checks = SnapshotChecks()
        frontier = self.source.first()
        at_once = min(self._options.limits.snapshots_at_once, MAX_THREADS)
        while frontier:
            found: list[Recorded] = []
            opened = workers.map(lambda recorded: self._open(recorded.id), frontier, at_once)
            for recorded, snapshot in zip(frontier, opened, strict=True):
                if isinstance(snapshot, IcechunkError):
                    self._unreadable_snapshot(recorded, snapshot)
                    self._visited.append(_Visited(recorded, None, 0))
                else:
                    self._visit(checks, recorded, snapshot)
                    found += self.source.after(snapshot, recorded)
                total = len(self._visited) if self.source.spec_version == 1 else len(frontier)
                self._tell("snapshots", len(self._visited), total)
            frontier = found
        self.source.finish(self._findings)
        self._claims.close()
        self._count["snapshots"] = len(self._visited)

    def _open(self, snapshot_id: bytes) -> Snapshot | IcechunkError:
        """Fetch a snapshot as it is stored now, or return what keeps from it."""
        key = snapshot_key(snapshot_id)
        data = b""
        try:
            data, _ = self._assets.file(FileKind.SNAPSHOT, snapshot_id)
            snapshot = decode_snapshot(data, key)
            _check_id(key, snapshot.id, snapshot_id)
        except FormatError as error:
            if kind_of(error) is FaultKind.UNSORTED_NODES and repeats_a_path(data, key):
                return FormatError(f"{key} is corrupt: two nodes have the same path", error.kind)
            return error
        except StorageError as error:
            return error
        return snapshot

    def _unreadable_snapshot(self, recorded: Recorded, error: IcechunkError) -> None:
        named = f"; {recorded.reason}" if recorded.reason else ""
        self._findings.add_error(
            error,
            snapshot_key(recorded.id),
            missing=(recorded.if_missing, f"the snapshot file is not there{named}"),
            snapshot_id=recorded.id,
            is_needed=recorded.is_needed,
        )

    def _visit(self, checks: SnapshotChecks, recorded: Recorded, snapshot: Snapshot) -> None:
        number, key = len(self._visited), snapshot_key(recorded.id)
        columns = snapshot.nodes.columns
        for problem in checks.check(snapshot):
            self._findings.add(
                problem.kind,
                key,
                problem.message,
                path=problem.path,
                snapshot_id=recorded.id,
                is_needed=recorded.is_needed,
                severity=problem.severity,
            )
        self.source.compare(snapshot, self._findings, recorded)
        self._claims.add(columns, number)
        self._files.add(snapshot.manifest_files, number)
        unlisted = unlisted_manifests(snapshot)
        if len(unlisted):
            self._files.add_unlisted(unlisted, number)
        self._count["nodes"] += len(columns)
        self._visited.append(_Visited(recorded, fingerprint(columns.ids), snapshot.spec_version))

    # --- transaction logs ----------------------------------------------------------------------

    def _walk_logs(self, workers: Workers) -> list[bytes]:
        """Read the logs of all snapshots, compare them, and return the ids of those in use."""
        roots, ids = set(), []
        for visited in self._visited:
            snapshot_id = visited.recorded.id
            history = self.source.history(snapshot_id)
            ids += [*history.pruned, snapshot_id]
            if history.parent_id is None:
                roots.add(snapshot_id)  # nobody asks what it changed
        ids = list(dict.fromkeys(ids))
        changes: dict[bytes, int | None] = {}
        at_once = min(self._options.limits.snapshots_at_once, MAX_THREADS)
        for log_id, change in zip(ids, workers.map(self._open_log, ids, at_once), strict=True):
            if isinstance(change, IcechunkError):
                if log_id not in roots or not isinstance(change, ObjectNotFound):
                    self._findings.add_error(
                        change,
                        transaction_key(log_id),
                        missing=_LOG_MISSING,
                        snapshot_id=log_id,
                        severity=FaultSeverity.WARNING,
                    )
                changes[log_id] = None
            else:
                changes[log_id] = change
                self._count["transaction_logs"] += 1
            self._tell("transaction logs", len(changes), len(ids))
        self._compare_logs(changes)
        return ids

    def _open_log(self, snapshot_id: bytes) -> int | IcechunkError:
        try:
            data, key = self._assets.file(FileKind.TRANSACTION_LOG, snapshot_id)
            log = decode_transaction_log(data, key)
            _check_id(key, log.id, snapshot_id)
        except (FormatError, StorageError) as error:
            return error
        return net_change(log)

    def _compare_logs(self, changes: dict[bytes, int | None]) -> None:
        by_id = {visited.recorded.id: visited for visited in self._visited}
        for visited in self._visited:
            snapshot_id = visited.recorded.id
            history = self.source.history(snapshot_id)
            parent = by_id.get(history.parent_id) if history.parent_id else None
            if parent is None or parent.fingerprint is None or visited.fingerprint is None:
                continue
            logs = [changes.get(log_id) for log_id in (*history.pruned, snapshot_id)]
            expected = (visited.fingerprint - parent.fingerprint) % WORD
            known = [log for log in logs if log is not None]
            if len(known) < len(logs) or sum(known) % WORD == expected:
                continue
            # Before spec 2.1 expiration left no trace of the ancestors it dropped.
            is_first = self.source.history(parent.recorded.id).parent_id is None
            may_be_expired = is_first and not history.pruned
            if may_be_expired and visited.spec_version == 1:
                continue
            self._log_disagrees(visited, parent, may_be_expired)

    def _log_disagrees(self, visited: _Visited, parent: _Visited, may_be_expired: bool) -> None:
        before, after = self._open(parent.recorded.id), self._open(visited.recorded.id)
        if isinstance(before, IcechunkError) or isinstance(after, IcechunkError):
            return
        seen = difference(before.nodes.columns.ids, after.nodes.columns.ids)
        message = f"since the parent the snapshot shows {seen}, the log says something else"
        if may_be_expired:
            message += "; the parent may be the result of an expiration that kept no record"
        self._findings.add(
            FaultKind.TRANSACTION_LOG_DISAGREES,
            transaction_key(visited.recorded.id),
            message,
            snapshot_id=visited.recorded.id,
            severity=FaultSeverity.NOTE if may_be_expired else None,
        )

    # --- manifests -----------------------------------------------------------------------------

    def _walk_manifests(self, workers: Workers, check: ChunkCheck, files: VirtualCheck) -> None:
        records: dict[bytes, list[FileClaim]] = {}
        at_once = min(self._options.limits.manifests_at_once, MAX_THREADS)
        for batch in batches(self._manifest_files(records), self._options.limits):
            opened = workers.map(lambda file: self._open_manifest(file.id), batch, at_once)
            for file, found in zip(batch, opened, strict=True):
                record = records.pop(file.id)
                if isinstance(found, IcechunkError):
                    self._unreadable_manifest(file.id, record, found)
                else:
                    self._check_manifest(found, record, check, files, workers)
                self._count["manifests"] += 1
                self._tell("manifests", self._count["manifests"])

    def _manifest_files(self, records: dict[bytes, list[FileClaim]]) -> Iterator[ManifestFile]:
        for claims in self._files.by_manifest():
            first = claims[0]
            records[first.id] = claims
            yield ManifestFile(first.id, first.size, max(first.num_refs, 0))

    def _open_manifest(self, manifest_id: bytes) -> _Opened | IcechunkError:
        try:
            data, key = self._assets.file(FileKind.MANIFEST, manifest_id)
            manifest = Manifest.decode(data, key)
            _check_id(key, manifest.id, manifest_id)
        except (FormatError, StorageError) as error:
            return error
        return _Opened(manifest, len(data), *decoded_tables(manifest))

    def _unreadable_manifest(
        self, manifest_id: bytes, record: Sequence[FileClaim], error: IcechunkError
    ) -> None:
        key, visited = manifest_key(manifest_id), self._visited[record[0].snapshot]
        claims = self._claims.of(manifest_id)
        path, more = None, 0
        if claims:
            path = self._paths.find(int(claims[0].snapshots.min()), claims[0].node_id)
            more = len({claim.node_id for claim in claims}) - 1
        owner = f" of {path}" if path else ""
        others = f" and {more} other arrays" if more else ""
        lost = f": {record[0].num_refs} chunks are lost" if record[0].num_refs > 0 else ""
        message = f"the manifest{owner}{others} is not there{lost}"
        self._findings.add_error(
            error,
            key,
            missing=(FaultKind.MANIFEST_MISSING, message),
            path=path,
            snapshot_id=visited.recorded.id,
            is_needed=visited.recorded.is_needed,
        )

    def _check_manifest(
        self,
        opened: _Opened,
        record: Sequence[FileClaim],
        check: ChunkCheck,
        files: VirtualCheck,
        workers: Workers,
    ) -> None:
        manifest = opened.manifest
        claims = self._claims.of(manifest.id)
        owners = {claim.node_id: int(claim.snapshots.min()) for claim in claims}
        self._count["references"] += manifest.num_refs()
        for problem in (
            *opened.problems,
            *check_record(record, opened.size, manifest.num_refs()),
            *check_claims(manifest, opened.tables, claims),
        ):
            snapshot = problem.snapshot
            if snapshot is None and problem.node_id is not None:
                snapshot = owners.get(problem.node_id)
            self._manifest_problem(manifest, problem, snapshot, record[0].snapshot)
        for node_id, table in opened.tables.items():
            owner = Owner(manifest.id, node_id, owners.get(node_id))
            fresh = check.add(table, owner)
            if self._virtual is not None:
                files.add(table, owner)
            if self._decoder is not None and owner.snapshot is not None:
                self._decode(table, fresh, owner)
            elif self._options.read_chunks or self._decoder is not None:
                self._read(table, fresh, owner, workers)

    def _manifest_problem(
        self, manifest: Manifest, problem: ManifestProblem, snapshot: int | None, listed_by: int
    ) -> None:
        visited = self._visited[listed_by if snapshot is None else snapshot]
        path = None
        if problem.node_id is not None and snapshot is not None:
            path = self._paths.find(snapshot, problem.node_id)
        where = f"{path}: " if path else ""
        self._findings.add(
            problem.kind,
            manifest.key,
            where + problem.message,
            path=path,
            snapshot_id=visited.recorded.id,
            is_needed=visited.recorded.is_needed,
            severity=problem.severity,
        )

    # --- chunks --------------------------------------------------------------------------------

    def _read(self, table: ChunkTable, rows: Rows, owner: Owner, workers: Workers) -> None:
        if not len(rows):
            return
        assert table.ids is not None
        ids = [table.ids[row].tobytes() for row in rows.tolist()]

        def read(chunk_id: bytes) -> str | None:
            return read_whole(self._storage, chunk_id)

        for row, chunk_id, problem in zip(
            rows.tolist(), ids, workers.map(read, ids, MAX_THREADS), strict=True
        ):
            self._count["chunks_read"] += 1
            self._tell("chunks", self._count["chunks_read"])
            if problem is not None:
                coords = tuple(table.coords[row].tolist())
                message = f"the chunk {coords} cannot be read: {problem}"
                self._chunk_fault(FaultKind.CHUNK_UNREADABLE, chunk_key(chunk_id), message, owner)

    def _decode(self, table: ChunkTable, fresh: Rows, owner: Owner) -> None:
        assert owner.snapshot is not None
        assert self._decoder is not None
        inline = np.flatnonzero(table.kinds == ChunkKind.INLINE)
        rows = np.sort(np.concatenate([fresh, inline]))
        path = self._paths.find(owner.snapshot, owner.node_id)
        if not len(rows) or path is None:
            return
        decode = self._decoder(self._visited[owner.snapshot].recorded.id, path)
        if isinstance(decode, str):
            key, message = manifest_key(owner.manifest_id), f"its chunks were not decoded: {decode}"
            self._chunk_fault(FaultKind.ARRAY_NOT_DECODED, key, message, owner)
            return
        for row in rows.tolist():
            coords = tuple(table.coords[row].tolist())
            problem = decode(coords)
            self._count["chunks_decoded"] += 1
            self._tell("chunks", self._count["chunks_decoded"])
            if problem is None:
                continue
            key = manifest_key(owner.manifest_id)
            if table.ids is not None and table.kinds[row] != ChunkKind.INLINE:
                key = chunk_key(table.ids[row].tobytes())
            message = f"the chunk {coords} cannot be decoded: {problem}"
            self._chunk_fault(FaultKind.CHUNK_UNDECODABLE, key, message, owner)

    def _settle_chunks(self, check: ChunkCheck, workers: Workers) -> None:
        for fault in check.faults(self._storage, workers):
            self._chunk_fault(fault.kind, chunk_key(fault.chunk_id), fault.message, fault.owner)

    def _settle_virtual(self, files: VirtualCheck) -> None:
        if self._virtual is None:
            return
        with Workers(self._virtual.is_local, "icechunk-verify-virtual") as workers:
            for fault in files.faults(self._virtual, workers):
                self._count["virtual_objects"] += 1
                self._tell("virtual chunks", self._count["virtual_objects"], len(files))
                if fault is not None:
                    self._chunk_fault(fault.kind, fault.location, fault.message, fault.owner)

    def _chunk_fault(self, kind: FaultKind, key: str, message: str, owner: Owner) -> None:
        path = snapshot_id = None
        is_needed = False
        if owner.snapshot is not None:
            recorded = self._visited[owner.snapshot].recorded
            snapshot_id, is_needed = recorded.id, recorded.is_needed
            path = self._paths.find(owner.snapshot, owner.node_id)
        where = f"{path}: " if path else ""
        self._findings.add(
            kind,
            key,
            where + message,
            path=path,
            snapshot_id=snapshot_id,
            is_needed=is_needed,
        )

    # --- what is left --------------------------------------------------------------------------

    def _leftovers(
        self, chunks: Inventory, check: ChunkCheck, used_logs: list[bytes], backups: set[str]
    ) -> None:
        snapshots = [visited.recorded.id for visited in self._visited]
        self._unreferenced(take_inventory(self._storage, SNAPSHOTS), snapshots)
        self._unreferenced(take_inventory(self._storage, TRANSACTIONS), used_logs)
        manifests = take_inventory(self._storage, MANIFESTS)
        is_used = np.zeros(len(manifests), np.bool_)
        slots = manifests.locate(self._files.ids())
        is_used[slots[slots >= 0]] = True
        self._note_unused(manifests, is_used)
        self._note_unused(chunks, check.is_used)

    def _unreferenced(self, inventory: Inventory, ids: list[bytes]) -> None:
        slots = inventory.locate(id_column(ids, OBJECT_ID_SIZE))
        is_used = np.zeros(len(inventory), np.bool_)
        is_used[slots[slots >= 0]] = True
        self._note_unused(inventory, is_used)

    def _note_unused(self, inventory: Inventory, is_used: np.ndarray) -> None:
        unused = np.flatnonzero(~is_used)
        if len(unused):
            size = int(inventory.sizes[unused].sum(dtype=np.uint64))
            young = int((inventory.modified_us[unused] > self.source.changed_us).sum())
            message = f"objects that nothing refers to: {len(unused)}, of {size} bytes"
            if young:
                message += (
                    f"; {young} of them are younger than the last update of the repository, and "
                    "may belong to sessions that have not committed yet"
                )
            remedy = _KEEP_GARBAGE if self._findings.has_errors() else None
            key = f"{inventory.folder}/"
            self._findings.add(FaultKind.UNREFERENCED_OBJECTS, key, message, remedy=remedy)
        for key in inventory.foreign:
            message = "its name is none that objects here are given"
            self._findings.add(FaultKind.FOREIGN_OBJECT, key, message)

    def _backup_names(self) -> set[str]:
        start = len(OVERWRITTEN) + 1
        return {info.key[start:] for info in self._storage.list(OVERWRITTEN + "/")}

    def _tell(self, phase: str, done: int, total: int | None = None) -> None:
        self._progress(VerifyProgress(phase, done, total))


class _Paths:
    """Finds the paths of nodes in snapshots that were walked, for messages only."""

    def __init__(self, walk: _Walk) -> None:
        self._walk = walk
        self._last: tuple[int, NodeTable] | None = None

    def find(self, snapshot: int, node_id: bytes) -> str | None:
        if self._last is None or self._last[0] != snapshot:
            opened = self._walk._open(self._walk._visited[snapshot].recorded.id)
            if isinstance(opened, IcechunkError):
                return None
            self._last = (snapshot, opened.nodes)
        node = self._last[1].find_id(node_id)
        return None if node is None else node.path


def _check_id(key: str, found: bytes, expected: bytes) -> None:
    if found != expected:
        raise FormatError(f"{key}: the file says it is {encode_id(found)}")

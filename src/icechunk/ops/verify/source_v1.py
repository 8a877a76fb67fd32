"""Where a walk through a repository of spec version 1 begins: one file per branch and tag.

Nothing lists the snapshots. Each names its parent, so those that branches and tags point to lead to
all that count. Icechunk spec, "Spec version 1 differences".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from icechunk.config.yaml import config_from_yaml
from icechunk.errors import IcechunkError
from icechunk.format.ids import encode_id
from icechunk.format.layout import CONFIG, REFS, snapshot_key
from icechunk.format.refs_v1 import RefKey, decode_ref, parse_ref_key, ref_key
from icechunk.format.snapshot import Snapshot
from icechunk.ops.verify.findings import Findings
from icechunk.ops.verify.history import History, Recorded, pointed_to_by
from icechunk.ops.verify.rules import text_of
from icechunk.ops.verify.state import MAX_DRIFT_US, in_future, parent_newer
from icechunk.storage.base import ObjectInfo, ObjectNotFound, Storage
from icechunk.verification import FaultKind

__all__ = ["RefsSource", "list_refs"]

_MAIN: Final = RefKey("branch", "main", deleted=False)


def list_refs(storage: Storage) -> list[ObjectInfo]:
    """List all objects among the refs, sorted by key."""
    return sorted(storage.list(REFS + "/"))


class RefsSource:
    """The files of branches and tags, and the configuration beside them."""

    spec_version = 1
    key = f"{REFS}/"
    operations = 0
    backups = 0

    def __init__(self, listed: list[ObjectInfo]) -> None:
        self._listed = listed
        self.changed_us = max((info.last_modified_us for info in listed), default=0)
        self._targets: dict[bytes, list[str]] = {}
        self._parents: dict[bytes, bytes | None] = {}
        self._times: dict[bytes, int] = {}

    def check(self, storage: Storage, findings: Findings, now_us: int) -> None:
        """Read every ref, and the configuration."""
        self._now_us = now_us
        keys = {info.key for info in self._listed}
        verbatim = storage.names_verbatim
        found: dict[RefKey, str] = {}
        for key in sorted(keys):
            ref = parse_ref_key(key, verbatim=verbatim)
            if ref is None:
                message = "it is the file of no branch and no tag, and some readers stop there"
                findings.add(FaultKind.BAD_REF_NAME, key, message)
            elif ref.deleted:
                if key.removesuffix(".deleted") not in keys:
                    message = f"{_label(ref)} is marked as deleted, but there is no such tag"
                    findings.add(FaultKind.TOMBSTONE_WITHOUT_REF, key, message)
            elif f"{key}.deleted" in keys and ref.kind == "tag":
                continue
            elif ref in found:
                message = f"{_label(ref)} has another file, {found[ref]}"
                findings.add(FaultKind.DUPLICATE_REF, key, message)
            else:
                found[ref] = key
                self._read(storage, key, _label(ref), findings)
        if _MAIN not in found:
            message = "there is no branch main: nothing can be opened"
            findings.add(FaultKind.MAIN_MISSING, ref_key("branch", "main"), message)
        try:
            config_from_yaml(storage.get(CONFIG))
        except ObjectNotFound:
            pass  # the default one
        except IcechunkError as error:
            findings.add_error(error, CONFIG, kind=FaultKind.CONFIG_UNREADABLE)

    def _read(self, storage: Storage, key: str, name: str, findings: Findings) -> None:
        try:
            target = decode_ref(storage.get(key), key)
        except ObjectNotFound:
            return  # deleted since it was listed
        except IcechunkError as error:
            findings.add(FaultKind.REF_UNREADABLE, key, f"{name}: {text_of(error)}")
        else:
            self._targets.setdefault(target, []).append(name)

    def first(self) -> list[Recorded]:
        """List the snapshots that branches and tags point to."""
        kind = FaultKind.REF_TO_UNKNOWN_SNAPSHOT
        return [
            Recorded(target, True, pointed_to_by(names), kind)
            for target, names in self._targets.items()
        ]

    def after(self, snapshot: Snapshot, recorded: Recorded) -> list[Recorded]:
        """List the parent, unless it was listed before."""
        parent_id = snapshot.parent_id
        self._parents[recorded.id] = parent_id
        self._times[recorded.id] = snapshot.flushed_at
        if parent_id is None or parent_id in self._targets:
            return []
        child = f"it is the parent of {encode_id(recorded.id)}"
        self._targets[parent_id] = [child]
        return [Recorded(parent_id, True, child, FaultKind.DANGLING_PARENT)]

    def compare(self, snapshot: Snapshot, findings: Findings, recorded: Recorded) -> None:
        """Compare nothing: what a snapshot says of itself stands in its file alone."""

    def finish(self, findings: Findings) -> None:
        """Look at the history, once all of it was seen."""
        for snapshot_id, time in self._times.items():
            key = snapshot_key(snapshot_id)
            if time > self._now_us + MAX_DRIFT_US:
                problem = in_future(key, "the snapshot", time, snapshot_id)
                findings.add(problem.kind, key, problem.message, snapshot_id=snapshot_id)
            parent_id = self._parents[snapshot_id]
            if parent_id is not None and self._times.get(parent_id, 0) > time:
                parent_time = self._times[parent_id]
                problem = parent_newer(key, snapshot_id, time, parent_id, parent_time)
                findings.add(problem.kind, key, problem.message, snapshot_id=snapshot_id)
        for snapshot_id in self._cycles():
            message = "the snapshot is its own ancestor"
            key = snapshot_key(snapshot_id)
            findings.add(FaultKind.HISTORY_CYCLE, key, message, snapshot_id=snapshot_id)

    def _cycles(self) -> Iterator[bytes]:
        """Yield one snapshot of every circle of parents."""
        done: set[bytes] = set()
        for start in self._parents:
            path: set[bytes] = set()
            at: bytes | None = start
            while at is not None and at not in done and at not in path:
                path.add(at)
                at = self._parents.get(at)
            if at in path:
                yield at
            done |= path

    def history(self, snapshot_id: bytes) -> History:
        """Tell the parent; nothing records what expiration dropped."""
        return History(self._parents.get(snapshot_id), ())

    def has_lost_snapshots(self, storage: Storage) -> bool:
        """Whether refs have changed, so that a garbage collection may have removed something."""
        return list_refs(storage) != self._listed


def _label(ref: RefKey) -> str:
    return f"{ref.kind} {ref.name}"

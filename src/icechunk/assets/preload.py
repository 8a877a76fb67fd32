"""Fetching manifests ahead of their first use, when a session starts.

Who opens a dataset reads its coordinates at once. On an object store each of their small manifests
costs a round trip, which this module makes while the session's owner is still busy: in a few
threads that end when the chosen manifests are in the cache. Readers who come earlier wait for the
very same fetch, see `icechunk.assets.cache`. It is an optimisation only: errors are logged, not
raised, and whoever needs what could not be fetched gets the error from there.

Local and memory storage answer in less time than a thread takes to start, so nothing is fetched
from them before it is needed.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Final
from weakref import WeakSet

from icechunk.assets.cache import process_lock
from icechunk.assets.manager import AssetManager
from icechunk.config.effective import Preload
from icechunk.config.preload import ManifestPreloadCondition
from icechunk.format.ids import encode_id
from icechunk.format.manifest_files import ManifestFile
from icechunk.format.snapshot import Snapshot

__all__ = ["manifests_to_preload", "start_preload"]

log = logging.getLogger(__name__)

#: Manifests fetched at once by one session's start.
AT_ONCE: Final = 4
#: A request under way is waited for so long when the process ends.
EXIT_WAIT_SECONDS: Final = 5.0


def start_preload(assets: AssetManager, snapshot_id: bytes, preload: Preload) -> None:
    """Begin to fetch what a session on a snapshot will probably read; returns at once.

    Does nothing where storage is local, where the configuration switches preloading off, and for
    the snapshot that was preloaded last, so that opening session after session costs nothing.
    """
    budget = min(preload.max_total_refs, assets.caches.sizes.chunk_refs)
    if (
        assets.storage.is_local
        or budget == 0
        or preload.max_arrays_to_scan == 0
        or preload.preload_if == ManifestPreloadCondition.false()
        or assets.caches.preloaded == snapshot_id
    ):
        return
    assets.caches.preloaded = snapshot_id  # two threads at the same moment merely do it twice
    _Preloading(assets, snapshot_id, preload, budget).start()


def manifests_to_preload(
    snapshot: Snapshot, preload: Preload, budget: int | None = None
) -> list[ManifestFile]:
    """Choose manifests, in the order of the paths of their arrays.

    Looks at the first arrays of the snapshot. A manifest is chosen when the condition holds for
    its array's path and its number of references, and when it still fits into the number of
    references allowed altogether; one that does not fit is passed over for smaller ones.

    Parameters
    ----------
    snapshot
        Where the arrays are.
    preload
        What to choose.
    budget
        References allowed altogether, if it is not what `preload` says.
    """
    columns = snapshot.nodes.columns
    left = preload.max_total_refs if budget is None else budget
    chosen: dict[bytes, ManifestFile] = {}
    arrays = columns.is_array.nonzero()[0][: preload.max_arrays_to_scan]
    for row in arrays.tolist():
        path = ""
        for ref in range(int(columns.ref_starts[row]), int(columns.ref_starts[row + 1])):
            manifest_id = columns.ref_ids[ref].tobytes()
            file = snapshot.manifest_files.find(manifest_id)
            if file is None or manifest_id in chosen or file.num_chunk_refs > left:
                continue
            path = path or columns.paths[row].decode()
            if preload.preload_if.matches(path, file.num_chunk_refs):
                chosen[manifest_id] = file
                left -= file.num_chunk_refs
    return list(chosen.values())


class _Preloading:
    """One session's preload: a thread that plans, and up to `AT_ONCE` that fetch."""

    def __init__(
        self, assets: AssetManager, snapshot_id: bytes, preload: Preload, budget: int
    ) -> None:
        self._assets = assets
        self._snapshot_id = snapshot_id
        self._preload = preload
        self._budget = budget
        self._waiting: deque[ManifestFile] = deque()

    def start(self) -> None:
        self._start_thread(self._plan)

    def _plan(self) -> None:
        snapshot = self._assets.snapshot(self._snapshot_id)
        for file in manifests_to_preload(snapshot, self._preload, self._budget):
            if not self._assets.has_manifest(file.id):
                self._waiting.append(file)
        for _ in range(min(AT_ONCE, len(self._waiting)) - 1):
            self._start_thread(self._fetch)
        self._fetch()

    def _fetch(self) -> None:
        while not _threads.is_ending:
            try:
                file = self._waiting.popleft()
            except IndexError:
                return
            self._assets.manifest(file.id, size=file.size_bytes)

    def _start_thread(self, work: Callable[[], None]) -> None:
        # A daemon, since a process must not wait for what nobody has asked for.
        thread = threading.Thread(
            target=self._logged, args=(work,), name="icechunk-preload", daemon=True
        )
        try:
            _threads.start(thread)
        except RuntimeError as error:  # too many threads, or the interpreter is about to end
            log.debug("no manifests are preloaded: %s", error)

    def _logged(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:
            log.debug(
                "preloading manifests of snapshot %s failed; they will be fetched when needed",
                encode_id(self._snapshot_id),
                exc_info=True,
            )


class _Threads:
    """The threads under way, for the end of the process.

    A thread inside a foreign library may not find the interpreter gone when it returns. So before
    that happens no further request is begun, and those under way are waited for.
    """

    def __init__(self) -> None:
        self.is_ending = False
        self._alive: WeakSet[threading.Thread] = WeakSet()
        self._pid: int | None = None

    def start(self, thread: threading.Thread) -> None:
        with process_lock():  # which no fork finds held
            if self._pid is None:
                atexit.register(self._end)
            if self._pid != os.getpid():  # in a forked child the parent's threads do not run
                self._alive = WeakSet()
                self._pid = os.getpid()
            self._alive.add(thread)
        thread.start()

    def _end(self) -> None:
        self.is_ending = True
        with process_lock():
            threads = list(self._alive) if self._pid == os.getpid() else []
        for thread in threads:
            if thread.ident is not None:
                thread.join(EXIT_WAIT_SECONDS)


_threads = _Threads()

"""Deleting many objects: in batches, as many at once as the store takes, whatever fails.

It begins with one request at a time and goes on with one more after each success, up to the limit;
with half as many after the store asks for fewer. A batch that fails is tried again in halves, down
to the object that does not let itself be deleted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from icechunk.assets.workers import MAX_THREADS
from icechunk.errors import ErrorKind, StorageError
from icechunk.repo.surroundings import Surroundings
from icechunk.storage.base import Storage

__all__ = ["BATCH", "DeleteLimits", "Deleter"]

#: Objects that stores delete with one request.
BATCH: Final = 1000
#: A disk deletes one after the other. Threads that wait for it in turns get on all the same when
#: others keep the machine busy.
LOCAL_BATCH: Final = 100
MAX_MESSAGES: Final = 10
FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class DeleteLimits:
    """How hard to try."""

    at_once: int = 10
    failures_in_a_row: int = 50


class _Batch(NamedTuple):
    start: int
    stop: int
    throttled: int = 0
    """How often the store has asked to send it later."""


@dataclass(slots=True)
class Deleter:
    """Deletes, and keeps account of what goes wrong."""

    storage: Storage
    limits: DeleteLimits
    world: Surroundings
    throttled_batches: int = field(default=0, init=False)
    messages: list[str] = field(default_factory=list, init=False)
    _window: int = field(default=1, init=False)
    _in_a_row: int = field(default=0, init=False)

    def delete(
        self,
        count: int,
        keys: Callable[[int, int], Sequence[str]],
        done: Callable[[int], object],
        *,
        in_order: bool = False,
    ) -> npt.NDArray[np.bool_]:
        """Delete objects, given by number.

        Parameters
        ----------
        count
            How many there are.
        keys
            Returns the keys of those from a number to another.
        done
            Told from time to time how many are gone.
        in_order
            Whether to end at the first one that cannot be deleted.

        Returns
        -------
        numpy.ndarray
            Which of them are gone, ``(count,)`` bool.

        Raises
        ------
        StorageError
            Kind ``gc-deletes-failing``: too many requests failed in a row.
        """
        gone = np.zeros(count, np.bool_)
        size = LOCAL_BATCH if self.storage.is_local else BATCH
        waiting = deque(_Batch(start, min(start + size, count)) for start in range(0, count, size))
        running: dict[Future[StorageError | None], _Batch] = {}
        is_serial = in_order or self.limits.at_once == 1
        threads: AbstractContextManager[ThreadPoolExecutor | None] = nullcontext()
        if not is_serial and count > size:
            threads = ThreadPoolExecutor(min(self.limits.at_once, MAX_THREADS), "icechunk-delete")
        with threads as pool:
            while waiting or running:
                if pool is None:
                    batch = waiting.popleft()
                    ended = [(batch, self._attempt(keys(*batch[:2])))]
                else:
                    while waiting and len(running) < self._window:
                        batch = waiting.popleft()
                        running[pool.submit(self._attempt, keys(*batch[:2]))] = batch
                    first, _ = wait(running, return_when=FIRST_COMPLETED)
                    ended = [(running.pop(future), future.result()) for future in first]
                for batch, error in ended:
                    if error is None:
                        gone[batch.start : batch.stop] = True
                        self._in_a_row = 0
                        self._window = min(self._window + 1, self.limits.at_once)
                        done(int(gone.sum()))
                        continue
                    again = self._after(batch, error)
                    waiting.extendleft(reversed(again))
                    if in_order and not again:
                        waiting.clear()
        return gone

    def _attempt(self, keys: Sequence[str]) -> StorageError | None:
        try:
            self.storage.delete(keys)
        except StorageError as error:
            return error
        return None

    def _after(self, batch: _Batch, error: StorageError) -> list[_Batch]:
        """Say what is to be tried after a failure."""
        if error.kind == ErrorKind.THROTTLED:
            self.throttled_batches += 1
            self._window = max(1, self._window // 2)
            pause = FIRST_PAUSE_SECONDS * 2**batch.throttled
            if pause >= LONGEST_PAUSE_SECONDS:
                self._count(error)
            self.world.sleep(min(pause, LONGEST_PAUSE_SECONDS) * (1 + self.world.uniform()) / 2)
            return [batch._replace(throttled=batch.throttled + 1)]
        self._count(error)
        if batch.stop - batch.start == 1:
            return []
        half = (batch.start + batch.stop) // 2
        return [_Batch(batch.start, half), _Batch(half, batch.stop)]

    def _count(self, error: StorageError) -> None:
        """Keep account of a failure, and give up after too many."""
        message = error.message.partition("\n")[0]
        if message not in self.messages and len(self.messages) < MAX_MESSAGES:
            self.messages.append(message)
        self._in_a_row += 1
        if self._in_a_row >= self.limits.failures_in_a_row:
            raise StorageError(
                f"the garbage collection gave up: {self._in_a_row} deletions in a row failed, the"
                f" last one with: {message}. What was deleted before is gone and nothing that is"
                " needed is lost: mend the cause, then collect garbage again",
                ErrorKind.GC_DELETES_FAILING,
            ) from error

"""What can be wrong with the state of a repository: refs, history, configuration, operations log.

From a decoded state, and what backups are there, to problems. Only `newest_readable` and the pages
of the log are fetched. Icechunk spec, "Repo info file".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from icechunk.errors import FormatError, IcechunkError, StorageError
from icechunk.format.ids import encode_id
from icechunk.format.layout import REPO, backup_key
from icechunk.format.ops_log import UPDATE_RECORDS
from icechunk.format.ops_table import OpsLog
from icechunk.format.repo_info import RepoInfo, decode_repo_info
from icechunk.format.snapshot_table import SnapshotTable
from icechunk.ops.verify.rules import kind_of, text_of
from icechunk.repo.stored_config import decode_config
from icechunk.repo.times import time_text
from icechunk.storage.base import ObjectNotFound, Storage
from icechunk.verification import FaultKind, FaultSeverity

__all__ = ["LogPages", "StateProblem", "check_log", "check_state", "newest_readable", "read_pages"]

#: Clocks of honest machines differ by less; commits check the same.
MAX_DRIFT_US: Final = 600 * 1_000_000
#: Backups that are opened before giving up.
TRIED_BACKUPS: Final = 20

_MAIN: Final = "main"


class StateProblem(NamedTuple):
    """A fault of the state of a repository."""

    kind: FaultKind
    key: str
    message: str
    snapshot_id: bytes | None = None
    severity: FaultSeverity | None = None


def check_state(info: RepoInfo, key: str, now_us: int) -> Iterator[StateProblem]:
    """Look at everything in a state but the operations log."""
    if _MAIN not in info.branches:
        message = "there is no branch main: nothing can be written"
        yield StateProblem(FaultKind.MAIN_MISSING, key, message)
    named = {"branches": info.branches, "tags": info.tags, "deleted tags": info.deleted_tags}
    for what, names in named.items():
        listed = [name.encode() for name in names]
        if listed != sorted(listed):
            message = f"its {what} are not sorted by name, so that some readers do not find them"
            yield StateProblem(FaultKind.UNSORTED, key, message)
    try:
        decode_config(info.config)
    except IcechunkError as error:
        yield StateProblem(FaultKind.CONFIG_UNREADABLE, key, text_of(error))
    yield from _history(info.snapshots, key, now_us)


def _history(table: SnapshotTable, key: str, now_us: int) -> Iterator[StateProblem]:
    has_parent = np.flatnonzero(table.parents >= 0)
    times = table.flushed_at
    is_older = times[has_parent] < times[table.parents[has_parent]]
    for row in has_parent[is_older].tolist():
        yield parent_newer(
            key,
            table.id(row),
            int(times[row]),
            table.id(int(table.parents[row])),
            int(times[table.parents[row]]),
        )
    for row in np.flatnonzero(times > np.uint64(now_us + MAX_DRIFT_US)).tolist():
        yield in_future(key, f"snapshot {encode_id(table.id(row))}", int(times[row]), table.id(row))
    for row in np.flatnonzero(np.diff(table.metadata_starts)).tolist():
        try:
            table.metadata(row)
        except FormatError as error:
            kind = FaultKind.HISTORY_METADATA_UNREADABLE
            yield StateProblem(kind, key, text_of(error), table.id(row))


def parent_newer(
    key: str, snapshot_id: bytes, time: int, parent_id: bytes, parent_time: int
) -> StateProblem:
    """Describe a snapshot that is older than its parent."""
    message = (
        f"snapshot {encode_id(snapshot_id)} is dated {time_text(time)}, its parent "
        f"{encode_id(parent_id)} {time_text(parent_time)}"
    )
    return StateProblem(FaultKind.PARENT_NEWER, key, message, snapshot_id)


def in_future(key: str, what: str, time: int, snapshot_id: bytes | None = None) -> StateProblem:
    """Describe something that is dated later than now."""
    message = f"{what} is dated {time_text(time)}, which is in the future"
    return StateProblem(FaultKind.TIME_IN_FUTURE, key, message, snapshot_id)


class LogPages(NamedTuple):
    """A whole operations log, newest first, and what went wrong on the way through its pages."""

    times: npt.NDArray[np.uint64]  # (n,) microseconds
    kinds: npt.NDArray[np.uint8]  # (n,)
    backups: list[str]
    """Names of the backups that its entries mention, newest first, each once."""
    begins_with_backup: bool
    """Whether the newest entry names a backup, which none may."""
    problems: list[StateProblem]


def read_pages(info: RepoInfo, load: Callable[[str], RepoInfo]) -> LogPages:
    """Go through the log, from page to page.

    Parameters
    ----------
    info
        The state with the newest page.
    load
        Fetches a former state by the name of its backup. Raises `ObjectNotFound` when it is gone:
        the log ends there.
    """
    times, kinds, backups, problems = [], [], [], []
    page: RepoInfo | None = info
    begins_with_backup = bool(len(info.updates)) and info.updates[0].backup_path is not None
    met: set[str] = set()
    while page is not None:
        log = page.updates
        table = log if isinstance(log, OpsLog) else OpsLog.from_entries(log)
        times.append(table.updated_at)
        kinds.append(table.kinds)
        rows = np.flatnonzero(table.has_backup)
        backups += [name.decode() for name in table.backups.take(rows)]
        name, page = page.repo_before_updates, None
        if name is None:
            break
        backups.append(name)
        if name in met:
            message = "the operations log leads back to a page of it that was read before"
            problem = StateProblem(FaultKind.OPERATIONS_LOG_DISORDER, backup_key(name), message)
            problems.append(problem)
            break
        met.add(name)
        try:
            page = load(name)
        except ObjectNotFound:
            pass
        except FormatError as error:
            said, key = text_of(error), backup_key(name)
            warning = FaultSeverity.WARNING
            problems.append(StateProblem(kind_of(error), key, said, severity=warning))
        except StorageError as error:
            said, key = text_of(error), backup_key(name)
            warning = FaultSeverity.WARNING
            problems.append(StateProblem(FaultKind.UNREADABLE, key, said, severity=warning))
    return LogPages(
        np.concatenate(times),
        np.concatenate(kinds),
        list(dict.fromkeys(backups)),
        begins_with_backup,
        problems,
    )


def check_log(
    pages: LogPages, key: str, is_there: Callable[[str], bool], now_us: int
) -> Iterator[StateProblem]:
    """Look at a whole operations log.

    Parameters
    ----------
    pages
        The log.
    key
        Key of the state it is the log of.
    is_there
        Whether there is a backup of a name.
    now_us
        The time, by this machine's clock.
    """
    yield from pages.problems
    if not len(pages.times):
        message = "its operations log is empty"
        yield StateProblem(FaultKind.OPERATIONS_LOG_UNUSABLE, key, message)
        return
    if pages.begins_with_backup:
        message = "the newest entry of its operations log names a backup"
        yield StateProblem(FaultKind.OPERATIONS_LOG_UNUSABLE, key, message)
    if int(pages.times[0]) > now_us + MAX_DRIFT_US:
        yield in_future(key, "the last operation", int(pages.times[0]))
    is_wrong = pages.times[:-1] <= pages.times[1:]
    if is_wrong.any():
        at = int(np.argmax(is_wrong))
        message = (
            f"{int(is_wrong.sum())} operations are not dated later than the one before: one of "
            f"{time_text(int(pages.times[at]))} follows one of "
            f"{time_text(int(pages.times[at + 1]))}"
        )
        yield StateProblem(FaultKind.OPERATIONS_LOG_DISORDER, key, message)
    unknown = sorted({kind for kind in pages.kinds.tolist() if kind not in UPDATE_RECORDS})
    for kind in unknown:
        message = f"its operations log has operations of the unknown kind {kind}"
        yield StateProblem(FaultKind.UNKNOWN_OPERATION, key, message)
    yield from _missing_backups(pages.backups, key, is_there)


def _missing_backups(
    names: Sequence[str], key: str, is_there: Callable[[str], bool]
) -> Iterator[StateProblem]:
    is_found = [is_there(name) for name in names]
    if all(is_found):
        return
    # Whoever removes old backups removes the oldest; anything else was not done on purpose.
    oldest = max((place for place, found in enumerate(is_found) if found), default=-1)
    for name in (
        name for name, found in zip(names[: oldest + 1], is_found, strict=False) if not found
    ):
        message = "the operations log names this former state, which is gone"
        yield StateProblem(FaultKind.BACKUP_MISSING, backup_key(name), message)
    if gone := len(names) - oldest - 1:
        message = f"the {gone} oldest former states that its operations log names are gone"
        yield StateProblem(FaultKind.OPERATIONS_LOG_CUT, key, message)


def newest_readable(storage: Storage, names: Iterable[str]) -> tuple[str, RepoInfo] | None:
    """Find the newest backup that can be decoded, for when the state itself cannot."""
    repo_names = sorted(name for name in names if name.startswith(f"{REPO}."))
    for name in repo_names[:TRIED_BACKUPS]:  # names count down: the first is the newest
        key = backup_key(name)
        try:
            return key, decode_repo_info(storage.get(key), key)
        except (FormatError, StorageError):
            continue
    return None

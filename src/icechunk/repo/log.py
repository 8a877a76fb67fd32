"""The operations log: when an update may be stamped, where it goes, and how to read it all.

The state of a repository carries the newest entries; the rest is a chain of backups, each of them a
former state. Every entry but the newest names the backup made right before the next update, the
state in which that entry was the newest. Icechunk spec, "Operations log".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from icechunk.format.ops_log import UpdateEntry, UpdateKind
from icechunk.format.ops_table import OpsLog
from icechunk.format.repo_info import RepoInfo
from icechunk.repo.times import later_than

__all__ = ["append_update", "read_log", "update_time"]


def append_update(
    info: RepoInfo, kind: UpdateKind, now_us: int, *, backup_name: str, max_entries: int
) -> RepoInfo:
    """Put an entry on top of the log.

    Parameters
    ----------
    info
        The state, changed already but for its log.
    kind
        What was done.
    now_us
        When, by this machine's clock.
    backup_name
        Where the state with the present log is kept; its newest entry, now the second, gets it.
    max_entries
        Entries to keep here; the log goes on in the backup of the first one that is cut.
    """
    log = info.updates
    table = log if isinstance(log, OpsLog) else OpsLog.from_entries(log)
    when = update_time(table[0].updated_at if len(table) else None, now_us)
    table, continued_in = table.push(kind, when, backup_name, max(1, max_entries))
    return replace(
        info,
        updates=table,
        repo_before_updates=info.repo_before_updates if continued_in is None else continued_in,
    )


def update_time(previous_us: int | None, now_us: int) -> int:
    """Time for an update after one at `previous_us`; raises as `later_than` does."""
    if previous_us is None:
        return now_us
    return later_than(previous_us, now_us, "the last update of the repository")


def read_log(
    info: RepoInfo, load_backup: Callable[[str], RepoInfo | None]
) -> Iterator[UpdateEntry]:
    """Iterate over the whole log, newest first, following the chain of backups.

    Parameters
    ----------
    info
        The state to start from.
    load_backup
        Loads a former state by name; None when it is gone, which ends the log.
    """
    name: str | None = None
    seen: set[str] = set()
    current: RepoInfo | None = info
    while current is not None:
        for position, entry in enumerate(current.updates):
            # A state does not know its own backup's name; whoever led here does.
            yield entry if position or name is None else replace(entry, backup_path=name)
        name = current.repo_before_updates
        if name is None or name in seen:  # a chain that bites its tail is damaged: stop
            return
        seen.add(name)
        current = load_backup(name)

"""Where a collection begins in a repository of spec version 1: refs, and files of snapshots.

Nothing lists the snapshots, and nothing takes one out of the history but the deletion of its file.
Young files that no ref leads to stay, and all that they lead to: somebody may be about to point a
branch to them. One that cannot be read is passed over, for it may be written at this moment.

Refs are taken by the file, not by the name: of two files of one name, which a copy between storages
may leave, either counts. Where there is no ``main``, nothing is known to be garbage: refs may be on
their way back from a copy, or belong to version 2 by now.
Icechunk spec, "Spec version 1 differences".
"""

from __future__ import annotations

from icechunk.errors import ErrorKind, RepositoryNotFoundError, SnapshotNotFoundError
from icechunk.format.ids import ids_of_column
from icechunk.format.layout import SNAPSHOTS
from icechunk.ops.census_v1 import take_census
from icechunk.ops.expire_v1 import as_stored
from icechunk.ops.garbage.listing import young_ids
from icechunk.ops.garbage.rule import Rule
from icechunk.ops.garbage.source import Stays
from icechunk.ops.garbage.version_1 import led_to
from icechunk.ops.id_sets import SortedIds
from icechunk.repo.context import RepoContext
from icechunk.repo.entry_v1 import MAIN_KEY, EntryPointV1
from icechunk.repo.preconditions import MAIN
from icechunk.repo.state import History

__all__ = ["RefsSource"]


class RefsSource:
    """The history of a repository of spec version 1."""

    def __init__(self, context: RepoContext, entry: EntryPointV1) -> None:
        self._context = context
        self._entry = entry

    def look(self, rule: Rule) -> Stays:
        """Read all refs, and follow parents through the files.

        Raises
        ------
        SessionStateError
            Of kind ``invalid-repository-migration`` when the repository is of version 2 by now.
        RepositoryNotFoundError
            There is no branch ``main``.
        SnapshotNotFoundError
            There is no file of a snapshot that a ref leads to.
        StorageError, FormatError
            One cannot be read.
        """
        history, reachable = self._reachable()
        young = young_ids(self._context.storage, SNAPSHOTS, rule.older_than_us)
        for snapshot_id in ids_of_column(young):
            if snapshot_id not in reachable:
                reachable.update(led_to(history, snapshot_id))
        kept = SortedIds.of(reachable)
        return Stays(kept, kept, (), None)

    def has_lost_some(self) -> bool:
        """Say yes: histories may have been shortened and collected, of which refs tell nothing."""
        return True

    def _reachable(self) -> tuple[History, set[bytes]]:
        """Follow the refs; from the start if something that they led to is gone meanwhile."""
        for last in (False, False, True):
            tips = self._pointed_to()
            history = as_stored(self._context).snapshots
            try:
                return history, set(ids_of_column(history.table_of(tips).ids))
            except SnapshotNotFoundError:
                if last:
                    raise
        raise AssertionError("unreachable")

    def _pointed_to(self) -> set[bytes]:
        census = take_census(self._context.storage)
        # After they were read: a migration deletes them when it is done.
        self._entry.require_not_migrated()
        if not any((item.ref.kind, item.ref.name) == ("branch", MAIN) for item in census.refs):
            raise RepositoryNotFoundError(
                f"there is no branch `{MAIN}`, which every repository of spec version 1 has, so"
                f" garbage cannot be told from what is needed: put {MAIN_KEY} back, or delete the"
                " whole folder if nothing in it is needed",
                ErrorKind.REPOSITORY_NOT_FOUND,
            )
        return {item.snapshot for item in census.refs if item.snapshot and not item.is_deleted}

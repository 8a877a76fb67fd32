"""Carries the steps of the model out, with nothing but Icechunk's public interface.

Answers as the model does, so that the two can be compared with ``==``. Runs unchanged with the
reference implementation; everything it takes and gives is JSON-like.
"""

from __future__ import annotations

import asyncio
import itertools
import pickle
from collections.abc import Callable
from typing import Any

from model.repository import NEWEST
from model.values import Document, absolute, chunk_key, document_key
from zarr.core.buffer import cpu, default_buffer_prototype
from zarr.core.sync import sync

import icechunk

DIFF_SETS = (
    "new_groups",
    "new_arrays",
    "deleted_groups",
    "deleted_arrays",
    "updated_groups",
    "updated_arrays",
)
SNAPSHOT_FIELDS = ("previous_snap_id", "new_snap_id")
OPERATION_FIELDS = ("name", "branch", *SNAPSHOT_FIELDS)


class Driver:
    """One repository, with the sessions that were opened on it."""

    def __init__(self, storage: icechunk.Storage, *, lists_shrunk: bool = False) -> None:
        self._storage = storage
        self._lists_shrunk = lists_shrunk
        """Whether listings may name chunks that a smaller shape has cut off."""
        self._ids: list[str] = []
        self._sessions: dict[int, icechunk.Session] = {}

    def apply(self, step: dict[str, Any]) -> dict[str, Any]:
        """Do one step and tell what came of it."""
        arguments = {name: value for name, value in step.items() if name != "op"}
        try:
            return {"done": getattr(self, step["op"])(**arguments)}
        except icechunk.IcechunkError as error:
            return {"failed": type(error).__name__, "kind": str(error.kind), **self._details(error)}

    def _details(self, error: icechunk.IcechunkError) -> dict[str, Any]:
        if isinstance(error, icechunk.RebaseFailedError):
            conflicts = [
                [str(found.conflict_type), found.path, found.conflicted_chunks]
                for found in error.conflicts
            ]
            return {"snapshot": self._number(error.snapshot), "conflicts": in_order(conflicts)}
        if isinstance(error, icechunk.ConflictError):
            expected, actual = error.expected_parent, error.actual_parent
            return {"expected": self._number(expected), "actual": self._number(actual)}
        return {}

    def seen(self, numbers: list[int]) -> dict[str, Any]:
        """Tell what is found in the repository, and in some sessions."""
        repo = self._repo
        branches = {name: repo.lookup_branch(name) for name in repo.list_branches()}
        return {
            "branches": {name: self._number(tip) for name, tip in branches.items()},
            "tags": {name: self._number(repo.lookup_tag(name)) for name in repo.list_tags()},
            "histories": {
                name: [
                    [self._number(info.id), info.message, info.metadata]
                    for info in repo.ancestry(branch=name)
                ]
                for name in branches
            },
            "sessions": {str(number): self._session_seen(number) for number in numbers},
            **self._of_repository(),
        }

    def _of_repository(self) -> dict[str, Any]:
        """Tell what is of the repository as a whole."""
        repo = self._repo
        return {
            "operations": self.operations(NEWEST),
            "metadata": repo.get_metadata(),
            "online": repo.status.availability == icechunk.RepoAvailability.online,
        }

    def operations(self, count: int | None) -> list[Any]:
        log = itertools.islice(self._repo.ops_log(), count)
        return [self._operation(update.kind) for update in log]

    def _operation(self, kind: Any) -> list[Any]:
        found = {name: getattr(kind, name) for name in OPERATION_FIELDS if hasattr(kind, name)}
        for name in SNAPSHOT_FIELDS:
            if name in found:
                found[name] = self._number(found[name])
        return [type(kind).__name__.rpartition("_")[2], found]

    def _session_seen(self, number: int) -> dict[str, Any]:
        session = self._sessions[number]
        return {
            "mode": ("readonly", "writable", "rearrange")[int(session.mode)],
            "read_only": session.read_only,
            "branch": session.branch,
            "snapshot": self._number(session.snapshot_id),
            "changed": session.has_uncommitted_changes,
            "status": diff_record(session.status()),
            "contents": self._contents(session),
        }

    def _contents(self, session: icechunk.Session) -> dict[str, Any]:
        return contents_of(session, lists_shrunk=self._lists_shrunk)

    def _number(self, snapshot_id: str | None) -> int | None:
        return self._ids.index(snapshot_id) if snapshot_id in self._ids else None

    def _new(self, snapshot_id: str) -> int:
        self._ids.append(snapshot_id)
        return len(self._ids) - 1

    # --- opening -------------------------------------------------------------------------------

    def create(self, threshold: int, split: int | None, page: int | None, **options: Any) -> None:
        config = configuration(threshold, split)
        if page is not None:
            config.num_updates_per_repo_info_file = page
        self._repo = icechunk.Repository.create(self._storage, config, **options)
        self._new(self._repo.lookup_branch("main"))

    def reopen(self, threshold: int, split: int | None, how: str) -> None:
        config = configuration(threshold, split)
        opening: dict[str, Callable[[], icechunk.Repository]] = {
            "open": lambda: icechunk.Repository.open(self._storage, config),
            "reopen": lambda: self._repo.reopen(config),
            "pickle": lambda: pickle.loads(pickle.dumps(self._repo)),
        }
        self._repo = opening[how]()

    def open_session(self, session: int, mode: str, branch: str) -> int | None:
        opened = getattr(self._repo, f"{mode}_session")(branch)
        self._sessions[session] = opened
        return self._number(opened.snapshot_id)

    def forget_session(self, session: int) -> None:
        del self._sessions[session]

    def look_back(self, snapshot: int) -> dict[str, Any]:
        return self._contents(self._repo.readonly_session(snapshot_id=self._ids[snapshot]))

    # --- edits ---------------------------------------------------------------------------------

    def put(self, session: int, path: str, attribute: int, grid: list[int] | None) -> None:
        document = Document(attribute, None if grid is None else tuple(grid))
        self._set(session, document_key(path), document.text.encode())

    def write(self, session: int, path: str, coords: list[int], value: list[int]) -> None:
        size, byte = value
        self._set(session, chunk_key(path, coords), bytes([byte]) * size)

    def _set(self, session: int, key: str, data: bytes) -> None:
        sync(self._sessions[session].store.set(key, cpu.Buffer.from_bytes(data)))

    def delete(self, session: int, path: str, by_directory: bool) -> None:
        store = self._sessions[session].store
        sync(store.delete_dir(path) if by_directory else store.delete(document_key(path)))

    def erase(self, session: int, path: str, coords: list[int], by_directory: bool) -> None:
        store, key = self._sessions[session].store, chunk_key(path, coords)
        sync(store.delete_dir(key) if by_directory else store.delete(key))

    def shift(self, session: int, path: str, offset: list[int]) -> None:
        self._sessions[session].shift_array(absolute(path), offset)

    def move(self, session: int, source: str, target: str) -> None:
        self._sessions[session].move(absolute(source), absolute(target))

    def discard(self, session: int) -> None:
        self._sessions[session].discard_changes()

    # --- forks ---------------------------------------------------------------------------------

    def fork(self, session: int, new: int, pickled: bool) -> None:
        fork = self._sessions[session].fork()
        self._sessions[new] = travelled(fork) if pickled else fork

    def merge(self, session: int, others: list[int], pickled: bool) -> None:
        forks = [self._sessions[number] for number in others]
        if pickled:
            forks = [travelled(fork) for fork in forks]
        self._sessions[session].merge(*forks)

    # --- commits -------------------------------------------------------------------------------

    def commit(
        self,
        session: int,
        message: str,
        metadata: dict[str, Any] | None,
        allow_empty: bool,
        solver: dict[str, Any] | None,
        tries: int,
    ) -> int:
        rebasing = {}
        if solver is not None:
            rebasing = {"rebase_with": conflict_solver(**solver), "rebase_tries": tries}
        found = self._sessions[session].commit(
            message, metadata, allow_empty=allow_empty, **rebasing
        )
        return self._new(found)

    def amend(
        self, session: int, message: str, metadata: dict[str, Any] | None, allow_empty: bool
    ) -> int:
        work = self._sessions[session]
        return self._new(work.amend(message, metadata=metadata, allow_empty=allow_empty))

    def flush(self, session: int, message: str, metadata: dict[str, Any] | None) -> int:
        return self._new(self._sessions[session].flush(message, metadata=metadata))

    def rebase(self, session: int, solver: dict[str, Any]) -> None:
        self._sessions[session].rebase(conflict_solver(**solver))

    # --- refs and the repository ---------------------------------------------------------------

    def create_branch(self, name: str, snapshot: int) -> None:
        self._repo.create_branch(name, self._ids[snapshot])

    def reset_branch(self, name: str, snapshot: int, expected: int | None) -> None:
        guard = {} if expected is None else {"from_snapshot_id": self._ids[expected]}
        self._repo.reset_branch(name, self._ids[snapshot], **guard)

    def delete_branch(self, name: str) -> None:
        self._repo.delete_branch(name)

    def create_tag(self, name: str, snapshot: int) -> None:
        self._repo.create_tag(name, self._ids[snapshot])

    def delete_tag(self, name: str) -> None:
        self._repo.delete_tag(name)

    def set_metadata(self, values: dict[str, Any]) -> None:
        self._repo.set_metadata(values)

    def update_metadata(self, values: dict[str, Any]) -> dict[str, Any]:
        return self._repo.update_metadata(values)

    def set_online(self, online: bool) -> None:
        availability = icechunk.RepoAvailability
        self._repo.set_status(
            icechunk.RepoStatus(availability.online if online else availability.read_only)
        )

    def set_defaults(self, values: dict[str, Any]) -> None:
        self._repo.set_default_commit_metadata(values)

    def diff(self, start: int, end: int) -> dict[str, Any]:
        found = self._repo.diff(from_snapshot_id=self._ids[start], to_snapshot_id=self._ids[end])
        return diff_record(found)


def contents_of(session: icechunk.Session, *, lists_shrunk: bool = False) -> dict[str, Any]:
    """Read everything that a session shows."""
    return sync(_contents(session.store, lists_shrunk))


async def _contents(store: Any, lists_shrunk: bool) -> dict[str, Any]:
    keys = [key async for key in store.list()]
    assert len(keys) == len(set(keys)), f"a key is listed twice: {keys}"
    prototype = default_buffer_prototype()
    values = await asyncio.gather(*(store.get(key, prototype) for key in keys))
    found = dict(zip(keys, values, strict=True))
    if lists_shrunk:
        found = {key: value for key, value in found.items() if value is not None}
    return {key: value_record(key, value.to_bytes()) for key, value in found.items()}


def value_record(key: str, data: bytes) -> Any:
    """Spell a value as the model does; a value that no step has written comes out as digits."""
    if key.endswith("zarr.json"):
        return data.decode()
    return [len(data), data[0]] if data == data[:1] * len(data) else data.hex()


def diff_record(diff: icechunk.Diff) -> dict[str, Any]:
    return {
        **{name: sorted(getattr(diff, name)) for name in DIFF_SETS},
        "updated_chunks": {path: list(coords) for path, coords in diff.updated_chunks.items()},
        "moved_nodes": [list(move) for move in diff.moved_nodes],
    }


def in_order(conflicts: list[list[Any]]) -> list[list[Any]]:
    """Sort by path those of one kind that follow each other: their order is not specified."""
    groups = itertools.groupby(conflicts, key=lambda found: found[0])
    return [found for _, group in groups for found in sorted(group, key=lambda found: found[1])]


def conflict_solver(
    on_chunks: str | None, fail_on_array: bool = False, fail_on_group: bool = False
) -> icechunk.ConflictSolver:
    if on_chunks is None:
        return icechunk.ConflictDetector()
    return icechunk.BasicConflictSolver(
        on_chunk_conflict=getattr(icechunk.VersionSelection, on_chunks),
        fail_on_delete_of_updated_array=fail_on_array,
        fail_on_delete_of_updated_group=fail_on_group,
    )


def configuration(threshold: int, split: int | None) -> icechunk.RepositoryConfig:
    """Say up to which size chunks are inline, and how many go into one manifest along an axis."""
    config = icechunk.RepositoryConfig(inline_chunk_threshold_bytes=threshold)
    if split is not None:
        condition = icechunk.ManifestSplitCondition.AnyArray()
        axis = icechunk.ManifestSplitDimCondition.Any()
        sizes = icechunk.ManifestSplittingConfig.from_dict({condition: {axis: split}})
        config.manifest = icechunk.ManifestConfig(splitting=sizes)
    return config


def travelled(fork: Any) -> Any:
    """Send a fork to another process and back."""
    return pickle.loads(pickle.dumps(fork))

"""Carry one change into a repository of spec version 1: a conditional write of one object.

The records are those of `icechunk.repo.updates`; each is carried out by a function here. What
becomes of a write without an answer is read from the object afterwards. A branch that points to the
new snapshot, or whose history has it, has been moved by us: ids are random, and nobody else knows
them before. Icechunk spec, "Spec version 1 differences".
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from icechunk.config.yaml import config_to_yaml
from icechunk.errors import (
    AlreadyExistsError,
    ConflictError,
    ErrorKind,
    RefNotFoundError,
    SnapshotNotFoundError,
    StorageError,
)
from icechunk.format.ids import encode_id
from icechunk.format.layout import CONFIG, backup_key, backup_name, snapshot_key
from icechunk.format.refs_v1 import encode_ref
from icechunk.repo.commit_loop import UpdatePolicy, delays_ms, exhausted
from icechunk.repo.entry_v1 import EntryPointV1, read_config
from icechunk.repo.preconditions import BranchAt, NotMain, TipIs
from icechunk.repo.spec_version import needs_version_2
from icechunk.repo.state import RepoState
from icechunk.repo.state_v1 import Ref, StateV1
from icechunk.repo.stored_config import decode_config
from icechunk.repo.surroundings import Surroundings
from icechunk.repo.updates import (
    AddDetachedSnapshot,
    AddSnapshot,
    Change,
    CreateBranch,
    CreateTag,
    DeleteBranch,
    DeleteTag,
    ResetBranch,
    SetConfig,
)
from icechunk.storage.base import (
    ObjectNotFound,
    PreconditionFailed,
    Version,
    WriteOutcomeUnknown,
)
from icechunk.storage.check import require_conditional_writes

__all__ = ["run_update_v1"]


def run_update_v1(
    entry: EntryPointV1, change: Change, policy: UpdatePolicy, world: Surroundings
) -> RepoState:
    """Apply a change to the stored state of a repository.

    Returns
    -------
    RepoState
        The state as of the change.

    Raises
    ------
    FormatError
        Of kind ``unsupported-spec-version`` for a change that spec version 1 does not have.
    SessionStateError
        Of kind ``invalid-repository-migration`` when the repository is of version 2 by now.
    IcechunkError
        The error of a rule that does not hold; nothing was changed.
    ConflictError
        Others were faster; nothing was changed.
    WriteOutcomeUnknown
        When the store gave no answer: the change may have taken effect, or may yet.
    StorageError
        Any other: storage failed, nothing was changed.
    """
    entry.require_not_migrated()
    require_conditional_writes(entry.storage)
    match change:
        case AddSnapshot():
            return _commit(entry, change, policy, world)
        case AddDetachedSnapshot():  # its file is all there is of it
            entry.history.remember(change.entry)
            return entry.state()
        case CreateBranch():
            return _create_branch(entry, change)
        case ResetBranch():
            return _reset_branch(entry, change, policy, world)
        case DeleteBranch():
            return _delete_branch(entry, change)
        case CreateTag():
            return _create_tag(entry, change)
        case DeleteTag():
            return _delete_tag(entry, change)
        case SetConfig():
            return _set_config(entry, change, world)
    raise needs_version_2(f"the change {type(change).__name__}")


# --- branches ------------------------------------------------------------------------------------


def _commit(
    entry: EntryPointV1, change: AddSnapshot, policy: UpdatePolicy, world: Surroundings
) -> StateV1:
    new = change.entry

    def check(ref: Ref | None, was_tried: bool) -> bool:
        if ref is None:
            raise RefNotFoundError(
                f"branch not found `{change.branch}`", ErrorKind.BRANCH_NOT_FOUND
            )
        if ref.snapshot == change.expected_tip:
            return False
        if was_tried and entry.leads_to(ref.snapshot, new):
            return True
        TipIs(change.branch, change.expected_tip).check(
            entry.state([(change.branch, ref.snapshot)])
        )
        return False

    state = entry.state()
    for rule in change.rules:
        rule.check(state)
    _move(entry, change.branch, new.id, check, policy, world)
    entry.history.remember(new)
    return entry.state([(change.branch, new.id)])


def _reset_branch(
    entry: EntryPointV1, change: ResetBranch, policy: UpdatePolicy, world: Surroundings
) -> StateV1:
    def check(ref: Ref | None, was_tried: bool) -> bool:
        if ref is None:
            raise RefNotFoundError(f"ref not found `{change.name}`", ErrorKind.REF_NOT_FOUND)
        if change.expected is not None:
            BranchAt(change.name, change.expected).check(entry.state([(change.name, ref.snapshot)]))
        return False

    if entry.files.read("branch", change.name) is None:
        check(None, was_tried=False)
    _require_snapshot(entry, change.snapshot)
    _move(entry, change.name, change.snapshot, check, policy, world)
    return entry.state([(change.name, change.snapshot)])


def _move(
    entry: EntryPointV1,
    branch: str,
    snapshot_id: bytes,
    check: Callable[[Ref | None, bool], bool],
    policy: UpdatePolicy,
    world: Surroundings,
) -> None:
    """Point a branch to a snapshot, as often as it takes.

    `check` is shown the branch as it is, and told whether a write was tried before. It raises what
    speaks against the move, and returns whether that was carried out already.
    """
    tries = 0
    for tries, delay in enumerate(delays_ms(policy, world)):
        if delay:
            world.sleep(delay / 1000)
        ref = entry.files.read("branch", branch)
        if check(ref, tries > 0):
            break
        assert ref is not None
        try:
            if _put(entry, ref.key, encode_ref(snapshot_id), ref.version):
                break
        except StorageError:
            if check(entry.files.read("branch", branch), True):
                break
            raise
    else:
        raise exhausted(tries + 1)
    _require_seen(entry)


def _create_branch(entry: EntryPointV1, change: CreateBranch) -> StateV1:
    key = entry.files.key("branch", change.name)
    _require_snapshot(entry, change.snapshot)
    existing = entry.files.read("branch", change.name)
    if existing is None and _put(entry, key, encode_ref(change.snapshot), None):
        _require_seen(entry)
        return entry.state([(change.name, change.snapshot)])
    existing = existing or entry.files.read("branch", change.name)
    actual = None if existing is None else encode_id(existing.snapshot)
    raise ConflictError(
        actual_parent=actual,
        message=f"branch update conflict: `None != Some({actual})`, branch `{change.name}` exists"
        " already; reset it to have it elsewhere, or choose another name",
        kind=ErrorKind.BRANCH_UPDATE_CONFLICT,
    )


def _delete_branch(entry: EntryPointV1, change: DeleteBranch) -> StateV1:
    NotMain(change.name).check(entry.state())
    ref = entry.files.read("branch", change.name)
    if ref is None:
        raise RefNotFoundError(f"ref not found `{change.name}`", ErrorKind.REF_NOT_FOUND)
    entry.storage.delete([ref.key])
    return entry.state()


# --- tags ----------------------------------------------------------------------------------------


def _create_tag(entry: EntryPointV1, change: CreateTag) -> StateV1:
    key = entry.files.key("tag", change.name)
    _require_snapshot(entry, change.snapshot)
    is_deleted = entry.files.is_deleted(change.name)
    if not is_deleted and entry.files.read("tag", change.name) is None:
        if _put(entry, key, encode_ref(change.snapshot), None):
            _require_seen(entry)
            return entry.state()
        is_deleted = entry.files.is_deleted(change.name)
    why = "; it was deleted, and names of tags are never used again" if is_deleted else ""
    raise AlreadyExistsError(
        f"tag already exists `{change.name}`{why}", ErrorKind.TAG_ALREADY_EXISTS
    )


def _delete_tag(entry: EntryPointV1, change: DeleteTag) -> StateV1:
    files = entry.files
    ref = files.read("tag", change.name)
    if ref is None or files.is_deleted(change.name):
        raise _no_tag(change.name)
    if not _put(entry, f"{ref.key}.deleted", b"", None):
        raise _no_tag(change.name)
    return entry.state()


def _no_tag(name: str) -> RefNotFoundError:
    return RefNotFoundError(f"ref not found `{name}`", ErrorKind.REF_NOT_FOUND)


# --- configuration -------------------------------------------------------------------------------


def _set_config(entry: EntryPointV1, change: SetConfig, world: Surroundings) -> StateV1:
    config = decode_config(change.config)
    data = b"" if config is None else config_to_yaml(config)
    stored, version = read_config(entry.storage)
    if entry.config is not None and stored != entry.config.data:
        raise _config_updated()
    backup = None
    if version is not None:
        backup = backup_key(backup_name(world.now_us(), world.random_id(), CONFIG))
        try:
            entry.storage.copy(CONFIG, backup)
        except ObjectNotFound:
            raise _config_updated() from None
    try:
        is_ours = _put(entry, CONFIG, data, version)
    except WriteOutcomeUnknown:
        raise
    except StorageError:
        _drop(entry, backup)
        raise
    if not is_ours:
        _drop(entry, backup)
        raise _config_updated()
    if entry.config is not None:
        entry.config.data = data
    return entry.state()


def _config_updated() -> ConflictError:
    return ConflictError(
        message="the configuration was changed by somebody else since the repository was opened:"
        " open it again, and make the change there",
        kind=ErrorKind.CONFIG_UPDATED,
    )


def _drop(entry: EntryPointV1, backup: str | None) -> None:
    """Remove a backup of what was not replaced; garbage if that fails, never damage."""
    if backup is not None:
        with suppress(StorageError):
            entry.storage.delete([backup])


# --- parts ---------------------------------------------------------------------------------------


def _require_snapshot(entry: EntryPointV1, snapshot_id: bytes) -> None:
    """Refuse to point to a snapshot whose file is not there: what is remembered may be gone."""
    if not entry.storage.exists(snapshot_key(snapshot_id)):
        raise SnapshotNotFoundError(
            f"snapshot id not found `{encode_id(snapshot_id)}`", ErrorKind.SNAPSHOT_NOT_FOUND
        )


def _require_seen(entry: EntryPointV1) -> None:
    """Make sure that a ref that was written is one that counts.

    Raises
    ------
    SessionStateError
        Of kind ``invalid-repository-migration`` when a migration has begun meanwhile.
    WriteOutcomeUnknown
        That cannot be found out.
    """
    try:
        entry.require_not_migrated()
    except StorageError as error:
        raise WriteOutcomeUnknown(
            "the change was written, but the object store did not say whether the repository was"
            " migrated meanwhile, where it may not be seen: look at the branch or tag before trying"
            f" again ({error.message})"
        ) from error


def _put(entry: EntryPointV1, key: str, data: bytes, expected: Version | None) -> bool:
    """Write an object if it is still as expected, and tell whether that took effect.

    Raises
    ------
    WriteOutcomeUnknown
        There was no answer, the object is not as it would be, and the write may yet take effect.
    """
    # Before the write: what it makes reachable must outlive a power failure.
    entry.storage.flush()
    try:
        entry.storage.put_if(key, data, expected)
    except (PreconditionFailed, ObjectNotFound):
        return False
    except StorageError as error:
        if _content(entry, key, error) == data:
            return True
        if entry.storage.is_local:
            raise
        raise _unknown(key, error) from error
    return True


def _content(entry: EntryPointV1, key: str, cause: StorageError) -> bytes | None:
    try:
        return entry.storage.get(key)
    except ObjectNotFound:
        return None
    except StorageError as error:
        raise _unknown(key, cause) from error


def _unknown(key: str, cause: StorageError) -> WriteOutcomeUnknown:
    return WriteOutcomeUnknown(
        f"the object store did not say whether {key} was written, and it may be yet: look at it"
        f" before trying again ({cause.message})"
    )

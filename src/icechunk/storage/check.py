"""Does a store keep what it is trusted with? Asked on scratch objects, never on a repository's own.

Commits are safe because a store refuses a write whose condition does not hold. Some stores take the
condition and ignore it: nothing fails, and of two commits at the same time one is lost. So

- `check_storage` tries everything a repository relies on and says what is safe;
- `require_conditional_writes` tries the conditions alone, before a repository is created;
- `require_refusal` tries one of them with one request, at the first commit of a process.

Local storages are not asked by the latter two: what they promise is carried out by this package.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, NoReturn

from icechunk._display import Block, Shown
from icechunk.config import StorageSettings
from icechunk.errors import ErrorKind, StorageError
from icechunk.storage.base import (
    ObjectNotFound,
    PreconditionFailed,
    Storage,
    Version,
    WriteOutcomeUnknown,
)

__all__ = [
    "SCRATCH",
    "StorageCheck",
    "StorageFinding",
    "check_storage",
    "require_conditional_writes",
    "require_refusal",
]

SCRATCH: Final = "icechunk-check/"
"""Folder of scratch objects, below the prefix of the storage."""

RACERS: Final = 4
CLOCKS_MAY_DIFFER: Final = 600
"""Seconds; commits are refused beyond."""
_CONDITIONS_ON: Final = StorageSettings(
    unsafe_use_conditional_create=True, unsafe_use_conditional_update=True
)


@dataclass(frozen=True, slots=True)
class StorageFinding:
    """One thing that was tried.

    Parameters
    ----------
    name
        What was asked.
    holds
        Whether the store does it; None when it could not be asked.
    text
        What was seen, in words.
    """

    name: str
    holds: bool | None
    text: str


@dataclass(frozen=True, slots=True, repr=False)
class StorageCheck(Shown):
    """What a store was found to do, and what follows.

    Parameters
    ----------
    verdict
        One sentence that says what is safe.
    is_safe
        Whether any number of processes may commit at the same time.
    findings
        What was tried, in order.
    clock_difference_seconds
        How far the store's clock is ahead of this machine's; None when it could not be asked.
    """

    verdict: str
    is_safe: bool
    findings: tuple[StorageFinding, ...]
    clock_difference_seconds: float | None = None

    def __getitem__(self, name: str) -> StorageFinding:
        """Return the finding of a name."""
        for finding in self.findings:
            if finding.name == name:
                return finding
        raise KeyError(name)

    def _block(self) -> Block:
        answers = {True: "yes", False: "NO", None: "unknown"}
        shown = {f.name: f"{answers[f.holds]}: {f.text}" for f in self.findings}
        return Block.of("icechunk.storage.StorageCheck", {"verdict": self.verdict, **shown})


def check_storage(storage: Storage, settings: StorageSettings | None = None) -> StorageCheck:
    """Try on scratch objects what a repository relies on, and say what is safe.

    Conditions are tried even where `settings` switch them off; the verdict is about the settings.

    Raises
    ------
    StorageError
        The store cannot be reached, or not written with these credentials: nothing was found out.
    """
    chosen = storage.configured(settings)
    if not storage.can_write:
        return StorageCheck(
            "Can only be read: this kind of storage does not write.", is_safe=False, findings=()
        )
    tried = storage.configured((settings or StorageSettings()).merge(_CONDITIONS_ON))
    with _scratch(tried) as name:
        findings = list(_findings(tried, name))
        difference, clock = _clock(tried, name("clock"))
        findings.append(clock)
    holds = {finding.name: finding.holds for finding in findings}
    return StorageCheck(
        verdict=_verdict(holds, chosen),
        is_safe=_is_safe(holds, chosen),
        findings=tuple(findings),
        clock_difference_seconds=difference,
    )


def require_conditional_writes(storage: Storage) -> None:
    """Refuse a store that ignores the conditions which the settings rely on.

    Four requests, once per process and storage.

    Raises
    ------
    StorageError
        Kind ``storage-config``; or the store's own error when it rejects such requests.
    """
    if storage.is_local or storage.identity() in _trusted:
        return
    creating, updating = storage.creates_conditionally, storage.updates_conditionally
    if not creating and not updating:
        return
    with _scratch(storage) as name:
        key = name("conditions")
        version = storage.put_if(key, _unique(), None)
        ignored = []
        if creating and not storage.refuses(key, _unique(), None):
            ignored.append(_CREATE)
        if updating and not storage.refuses(key, _unique(), _mistaken(version)):
            ignored.append(_UPDATE)
    if ignored:
        _refuse(storage, *ignored)
    _trusted.add(storage.identity())


def require_refusal(storage: Storage, key: str, known: Version) -> None:
    """Refuse a store that replaces an object whose version is not the expected one.

    One request, once per process and storage. `key` names an object that nothing refers to and that
    is given up when this raises, `known` is the version of any object.

    Raises
    ------
    StorageError
        Kind ``storage-config``.
    """
    if storage.is_local or not storage.updates_conditionally or storage.identity() in _trusted:
        return
    if not storage.refuses(key, b"to be refused", _mistaken(known)):
        _refuse(storage, _UPDATE)
    _trusted.add(storage.identity())


_trusted: Final[set[tuple[str, ...]]] = set()
"""Storages that were seen to refuse what they must. A child inherits what its parent saw."""


# A condition, and the setting that does without it.
_CREATE: Final = ("If-None-Match", "unsafe_use_conditional_create=False")
_UPDATE: Final = ("If-Match", "unsafe_use_conditional_update=False")


def _refuse(storage: Storage, *ignored: tuple[str, str]) -> NoReturn:
    where = ", ".join(repr(storage).splitlines()[1:])
    conditions = " and ".join(condition for condition, _ in ignored)
    settings = ", ".join(setting for _, setting in ignored)
    raise StorageError(
        f"the object store ignores {conditions} of conditional writes, so of two "
        f"commits at the same time one would be lost without notice ({where}). Use a store that "
        "supports conditional writes. If no two processes ever write at the same time, insist with "
        f"StorageSettings({settings})",
        ErrorKind.STORAGE_CONFIG,
    )


def _mistaken(version: Version) -> Version:
    """Make a version that looks like a given one and that no object has.

    The first character changes, so that a count does not become the next one.
    """

    def other(text: str | None) -> str | None:
        return text and ("1" if text[0] == "0" else "0") + text[1:]

    return Version(other(version.etag), other(version.generation))


def _unique() -> bytes:
    # Told from other attempts by content, where the store keeps no metadata.
    return uuid.uuid4().hex.encode()


@contextmanager
def _scratch(storage: Storage) -> Iterator[Callable[[str], str]]:
    """Offer keys for scratch objects, which are removed at the end, whatever it is."""
    folder = f"{SCRATCH}{uuid.uuid4().hex}"
    used: set[str] = set()

    def name(text: str) -> str:
        key = f"{folder}/{text}"
        used.add(key)
        return key

    try:
        yield name
    except BaseException:
        with suppress(StorageError):  # the first error says more
            storage.delete(sorted(used))
        raise
    storage.delete(sorted(used))


# --- what is tried --------------------------------------------------------------------------------


def _findings(storage: Storage, name: Callable[[str], str]) -> Iterator[StorageFinding]:
    first = name("object")
    storage.put(first, b"first")  # raises when nothing works at all
    storage.put(first, b"second")
    is_seen = storage.get(first) == b"second"
    yield StorageFinding(
        "read after write",
        is_seen,
        "an object replaced is read as replaced"
        if is_seen
        else "an object that was replaced is still read as it was",
    )
    yield _creating(storage, name("created"))
    yield from _replacing(storage, name("replaced"))
    yield _racing(storage, name("raced"))
    yield _listing(storage, first, name("listed"))
    yield _metadata(storage, name("metadata"))
    yield _copying(storage, first, name("copy"))


def _creating(storage: Storage, key: str) -> StorageFinding:
    title = "create if absent"
    try:
        storage.put_if(key, _unique(), None)
        if storage.refuses(key, _unique(), None):
            return StorageFinding(title, True, "If-None-Match is honoured")
    except WriteOutcomeUnknown:
        raise
    except StorageError as error:
        return _rejected(title, error)
    return StorageFinding(title, False, "If-None-Match is ignored: an object was replaced")


def _replacing(storage: Storage, key: str) -> Iterator[StorageFinding]:
    title, quoted = "replace if unchanged", "quoted entity tags"
    storage.put(key, _unique())
    _, stale = storage.get_versioned(key)
    try:
        current = storage.put_if(key, _unique(), stale)
        if not storage.refuses(key, _unique(), stale):
            yield StorageFinding(title, False, "If-Match is ignored: a newer object was replaced")
            return
        if not storage.refuses(key, _unique(), _mistaken(current)):
            yield StorageFinding(title, False, "If-Match is ignored: any entity tag will do")
            return
    except WriteOutcomeUnknown:
        raise
    except StorageError as error:
        yield _rejected(title, error)
        return
    yield StorageFinding(title, True, "If-Match is honoured, and stale versions are refused")
    if current.etag is None or storage.is_local:
        return
    is_taken = not storage.refuses(key, _unique(), Version(f'"{current.etag}"', current.generation))
    yield StorageFinding(
        quoted,
        is_taken,
        "taken with quotes and without"
        if is_taken
        else "taken without quotes only, which is how they are sent",
    )


def _racing(storage: Storage, key: str) -> StorageFinding:
    """Create one object from several threads: exactly one may come through."""
    title = "one winner"

    def race(_: int) -> bool | None:
        try:
            return not storage.refuses(key, _unique(), None)
        except StorageError:
            return None  # unknown, or too many requests

    with ThreadPoolExecutor(RACERS, thread_name_prefix="icechunk-check") as pool:
        results = list(pool.map(race, range(RACERS)))
    winners = results.count(True)
    if winners > 1:
        text = f"{winners} of {RACERS} creations of one object at the same time succeeded"
        return StorageFinding(title, False, text)
    if winners == 0:
        return StorageFinding(title, None, "no creation of an object was answered with success")
    return StorageFinding(title, True, f"of {RACERS} creations at the same time one succeeded")


def _listing(storage: Storage, known: str, key: str) -> StorageFinding:
    title = "list after write"
    folder = known.rpartition("/")[0]
    storage.put(key, b"listed")
    listed = {info.key for info in storage.list(folder)}
    storage.delete([key])
    remaining = {info.key for info in storage.list(folder)}
    if key not in listed or known not in listed:
        return StorageFinding(title, False, "listings miss objects that were just written")
    if key in remaining:
        return StorageFinding(title, False, "listings still show objects that were deleted")
    return StorageFinding(title, True, "listings show what is there")


def _metadata(storage: Storage, key: str) -> StorageFinding:
    kept = storage.keeps_metadata(key)
    if kept is None:
        text = "not used here; a commit whose answer is lost is recognised by its content"
    elif kept:
        text = "kept, so that a commit whose answer is lost is recognised"
    else:
        text = "lost; a commit whose answer is lost is recognised by its content instead"
    return StorageFinding("metadata", kept, text)


def _copying(storage: Storage, source: str, target: str) -> StorageFinding:
    copied = storage.copies_by_itself(source, target)
    text = "the store copies by itself" if copied else "objects are copied by way of this machine"
    return StorageFinding("copy", copied, text)


def _clock(storage: Storage, key: str) -> tuple[float | None, StorageFinding]:
    title = "clock"
    before = time.time()
    storage.put(key, b"what time is it")
    after = time.time()
    try:
        stored = storage.head(key).last_modified_us / 1_000_000
    except ObjectNotFound:
        return None, StorageFinding(title, None, "an object just written is not found")
    # Some stores keep whole seconds: up to one second behind is no difference.
    ahead = max(0.0, stored - after) - max(0.0, before - 1 - stored)
    text = f"differs from this machine's by {ahead:+.0f} seconds" if ahead else "as this machine's"
    return ahead, StorageFinding(title, abs(ahead) <= CLOCKS_MAY_DIFFER, text)


def _rejected(title: str, error: StorageError) -> StorageFinding:
    if isinstance(error, PreconditionFailed):
        return StorageFinding(title, False, f"refused though the condition holds: {error.message}")
    if error.kind == ErrorKind.THROTTLED:
        raise error
    return StorageFinding(title, False, f"rejected by the store: {error.message}")


# --- what follows ---------------------------------------------------------------------------------

_BASICS: Final = ("read after write", "create if absent", "replace if unchanged", "one winner")


def _is_safe(holds: dict[str, bool | None], chosen: Storage) -> bool:
    return (
        all(holds[name] is not False for name in (*_BASICS, "clock"))
        and chosen.creates_conditionally
        and chosen.updates_conditionally
    )


def _verdict(holds: dict[str, bool | None], chosen: Storage) -> str:
    if holds["read after write"] is False:
        return "Not safe to use: what was written is not what is read."
    broken = [name for name in _BASICS[1:] if holds[name] is False]
    off = list(_switched_off(chosen))
    if broken and not off:
        return (
            "Not safe to write: the store does not keep to conditional writes "
            f"({', '.join(broken)}), so commits at the same time could be lost."
        )
    if off:
        able = "" if broken else ", although the store honours conditions"
        return (
            "Safe only while a single process writes at a time: the settings say "
            f"{' and '.join(off)}{able}."
        )
    if holds["clock"] is False:
        return "Commits are refused: the clocks of this machine and of the store differ too much."
    return "Safe: any number of processes may commit at the same time."


def _switched_off(chosen: Storage) -> Iterable[str]:
    if not chosen.creates_conditionally:
        yield "unsafe_use_conditional_create=False"
    if not chosen.updates_conditionally:
        yield "unsafe_use_conditional_update=False"

"""Objects as files below a directory, with a compare-and-swap that loses no commit.

Objects with fresh names are created in place, because nobody looks for them until something
refers to them. Everything that may replace an object goes through a temporary file and a rename,
so a reader sees the old or the new content and a process killed at any moment leaves one of the
two. An object is never written in place: former versions of ``repo`` are kept as hard links to the
same file, by this implementation and others.

Temporary and lock files have names ending in ``#`` and digits, which listings ignore, here as in
other implementations.

Spec: Icechunk spec, "Storage operations"; layout of a local file system repository.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, TypeAlias

from icechunk.errors import ErrorKind, InvalidInputError, StorageError
from icechunk.storage.base import (
    BytesLike,
    ObjectInfo,
    ObjectNotFound,
    PreconditionFailed,
    Storage,
    Version,
    check_range,
    short_object,
    validate_key,
)
from icechunk.storage.defaults import local_settings
from icechunk.storage.durability import sync_directory, sync_file_system
from icechunk.storage.local_listing import files_of, walk
from icechunk.storage.locks import exclusive, queue

if TYPE_CHECKING:
    from icechunk.config import StorageSettings

_Infos: TypeAlias = list[ObjectInfo]  # named here because storages have a method called list

_BINARY = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_READ = os.O_RDONLY | _BINARY
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY

# One lock for all conditional writes of a storage: they are short, and it leaves one file.
_LOCK_NAME = "repo.lock#0"
_QUEUE_NAME = "repo.queue#0"

# Reads beyond this ask for the file's size first, so that a damaged length cannot make us
# allocate memory the file does not fill; shorter ones save the call.
_TRUSTED_END = 1 << 20

_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR})
_NO_HARD_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_ADVICE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space or raise the quota",
    errno.EACCES: "check the permissions",
    errno.EPERM: "check the permissions",
    errno.EROFS: "the file system is mounted read-only",
    errno.EEXIST: "it exists already",
}


class LocalStorage(Storage):
    """Keep objects as files below a directory of this machine.

    Concurrent commits are safe among any threads and processes that use this class, on every
    file system with advisory locks. Nothing is held open between calls, so instances survive
    `os.fork` and pickle as their path.

    Parameters
    ----------
    root
        The directory. Made absolute, symbolic links resolved; created by the first write.
    durable
        Whether `flush` and `put_if` wait until the data would survive a power failure. Turn it
        off only for data that a power failure may take along, such as tests.
    """

    is_local = True

    def __init__(self, root: str | os.PathLike[str], *, durable: bool = True) -> None:
        text = os.fspath(root)
        if not isinstance(text, str):
            raise TypeError(f"storage path must be str, not {type(text).__name__}")
        if "\0" in text:
            raise InvalidInputError(
                f"invalid storage path {text!r}: it holds a NUL", ErrorKind.INVALID_PATH
            )
        self._root = os.path.realpath(text)
        self._base = self._root.rstrip("/") + "/"
        self._durable = durable

    @property
    def root(self) -> str:
        """Absolute path of the directory."""
        return self._root

    # Reading

    def get(self, key: str) -> bytes:
        """Return the whole file."""
        path = self._path(key)
        try:
            descriptor = os.open(path, _READ)
            try:
                return _read(descriptor, 0, os.fstat(descriptor).st_size)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _read_failure(error, key, path) from error

    def get_versioned(self, key: str) -> tuple[bytes, Version]:
        """Return the whole file and the hash of its content."""
        data = self.get(key)
        return data, _version(data)

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """Return the bytes ``[start, end)`` of a file."""
        check_range(key, start, end)
        path = self._path(key)
        try:
            descriptor = os.open(path, _READ)
            try:
                if end > _TRUSTED_END:
                    size = os.fstat(descriptor).st_size
                    if end > size:
                        raise short_object(key, start, end, size)
                data = _read(descriptor, start, end - start)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _read_failure(error, key, path) from error
        if len(data) != end - start:
            raise short_object(key, start, end)
        return data

    def head(self, key: str) -> ObjectInfo:
        """Return size and modification time of a file."""
        path = self._path(key)
        try:
            status = os.stat(path)
        except OSError as error:
            raise _read_failure(error, key, path) from error
        if not stat.S_ISREG(status.st_mode):
            raise ObjectNotFound(f"object not found: {key!r} (not a file: {path})")
        return ObjectInfo(key, status.st_size, status.st_mtime_ns // 1000)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Iterate over the files below `prefix`, reading directories as they are reached."""
        prefix = prefix.rstrip("/")
        if prefix:
            validate_key(prefix)
        try:
            yield from walk(self._base, prefix)
        except OSError as error:
            raise _failure(error, "list", prefix, error.filename or self._root) from error

    def list_where(
        self,
        folder: str,
        is_wanted: Callable[[Sequence[str]], Iterable[bool]],
        at_once: int = 1,
    ) -> Iterator[_Infos]:
        """Iterate over the wanted files of a directory, asking for size and time of these alone."""
        validate_key(folder)
        try:
            yield from files_of(self._base, folder, is_wanted)
        except OSError as error:
            raise _failure(error, "list", folder, error.filename or self._root) from error

    # Writing

    def put(self, key: str, data: BytesLike) -> None:
        """Write a file whatever was there, by renaming a complete one onto it."""
        path = self._path(key)
        try:
            temporary = self._write_temporary(path, data)
            with _removed_on_failure(temporary):
                os.replace(temporary, path)
        except OSError as error:
            raise _failure(error, "write", key, path) from error

    def put_new(self, key: str, data: BytesLike) -> None:
        """Create a file under its final name; an existing one raises `StorageError`.

        Safe without a temporary name or a sync because nothing refers to the object yet: if we
        die half-way it is garbage, and `flush` comes before the write that refers to it.
        """
        path = self._path(key)
        try:
            _create(path, data)
        except OSError as error:
            raise _failure(error, "create", key, path) from error

    def copy(self, source: str, target: str) -> None:
        """Make a hard link: both names are one file until either is replaced, never written to.

        File systems without hard links, and files with too many, are read and written instead.
        """
        path, link = self._path(source), self._path(target)
        try:
            try:
                os.link(path, link)
            except FileNotFoundError:
                # The source is missing, or the directory of the target is.
                os.makedirs(os.path.dirname(link), exist_ok=True)
                os.link(path, link)
        except FileNotFoundError:
            # Again: there is no source, or it was replaced between being found and being linked,
            # which the system takes for missing. Reading finds out which.
            super().copy(source, target)
        except OSError as error:
            if error.errno in _NO_HARD_LINKS:
                super().copy(source, target)
            elif error.errno == errno.EEXIST:
                raise _failure(error, "create", target, link) from error
            else:
                raise _read_failure(error, source, path) from error

    def put_if(self, key: str, data: BytesLike, expected: Version | None) -> Version:
        """Replace a file if its content is the expected one, under a lock.

        The version is a hash of the content. Inode numbers and modification times would be
        cheaper to get, but file systems reuse the former and cut the latter to the clock tick,
        so two states could share a token and an update would be lost.
        """
        path = self._path(key)
        try:
            if expected is None:
                os.makedirs(os.path.dirname(path), exist_ok=True)
            with exclusive(self._base + _LOCK_NAME):
                self._check(key, path, expected)
                temporary = self._write_temporary(path, data, sync=self._durable)
                with _removed_on_failure(temporary):
                    if expected is None:
                        _publish_new(temporary, path)
                    else:
                        os.replace(temporary, path)
                if self._durable:
                    self._sync_directories(os.path.dirname(path), new=expected is None)
        except FileNotFoundError as error:
            raise PreconditionFailed(f"object {key!r} does not exist any more: {path}") from error
        except FileExistsError as error:
            raise PreconditionFailed(f"object {key!r} exists already: {path}") from error
        except OSError as error:
            raise _failure(error, "conditionally write", key, path) from error
        return _version(data)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete files. Directories stay: a concurrent write may be about to use them."""
        for key in keys:
            path = self._path(key)
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass
            except OSError as error:
                raise _failure(error, "delete", key, path) from error

    def flush(self) -> None:
        """Wait until all files written so far, by any process of this machine, are on disk."""
        if not self._durable:
            return
        try:
            sync_file_system(self._root)
        except OSError as error:
            raise _failure(error, "flush", "", self._root) from error

    def prepare(self) -> None:
        """Create the directory."""
        try:
            os.makedirs(self._root, exist_ok=True)
        except OSError as error:
            raise _failure(error, "create the directory of", "", self._root) from error

    def turn(self, patience: float) -> AbstractContextManager[bool]:
        """Stand in line with all threads and processes of this machine, by way of a lock file."""
        return queue(self._base + _QUEUE_NAME, patience)

    # Description

    def default_settings(self) -> StorageSettings:
        """Return the settings of a local disk."""
        return local_settings()

    def identity(self) -> tuple[str, ...]:
        """Name the directory."""
        return ("local", self._root)

    def _describe(self) -> Mapping[str, object]:
        return {"type": "local filesystem", "path": self._root}

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (self._root, self._durable))

    # Parts

    def _path(self, key: str) -> str:
        validate_key(key)
        return self._base + key

    def _check(self, key: str, path: str, expected: Version | None) -> None:
        try:
            current: Version | None = self.get_versioned(key)[1]
        except ObjectNotFound:
            current = None
        if current != expected:
            raise PreconditionFailed(
                f"object {key!r} is at version {current}, not at {expected}: {path}"
            )

    def _write_temporary(self, path: str, data: BytesLike, *, sync: bool = False) -> str:
        """Write a complete file beside `path` and return its name."""
        temporary = f"{path}#{int.from_bytes(os.urandom(7), 'big')}"
        _create(temporary, data, sync=sync)
        return temporary

    def _sync_directories(self, path: str, *, new: bool) -> None:
        """Make a rename durable; for a new object also the directories made for it."""
        sync_directory(path)
        while new and path != self._root:
            path = os.path.dirname(path)
            sync_directory(path)


def _rebuild(root: str, durable: bool) -> LocalStorage:
    return LocalStorage(root, durable=durable)


def _version(data: BytesLike) -> Version:
    """Make a token of some content: equal content, equal token, within this process.

    Python hashes bytes with SipHash under a key of the process, which takes a fifth of the time
    of the quickest cryptographic hash. Nobody can aim for a collision, and by accident two states
    that race share 64 bits and their length once in 10**19 races.
    """
    content = data if type(data) is bytes else bytes(data)
    return Version(etag=f"{hash(content) % 2**64:016x}-{len(content)}")


def _create(path: str, data: BytesLike, *, sync: bool = False) -> None:
    """Create a file, and its directory when that is what is missing."""
    try:
        descriptor = os.open(path, _CREATE, 0o666)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        descriptor = os.open(path, _CREATE, 0o666)
    try:
        _write(descriptor, data)
        if sync:
            os.fsync(descriptor)
    except BaseException:
        os.close(descriptor)
        os.unlink(path)
        raise
    os.close(descriptor)


def _write(descriptor: int, data: BytesLike) -> None:
    if type(data) is not bytes:
        data = memoryview(data).cast("B")
    written = os.write(descriptor, data)
    while written < len(data):  # beyond 2 GiB, or interrupted by a signal
        written += os.write(descriptor, memoryview(data)[written:])


def _read(descriptor: int, start: int, count: int) -> bytes:
    """Read `count` bytes, or what is left of the file."""
    data = os.pread(descriptor, count, start)
    if len(data) == count:
        return data
    parts = [data]
    while data and (count := count - len(data)) > 0:  # beyond 2 GiB, or a short file
        start += len(data)
        data = os.pread(descriptor, count, start)
        parts.append(data)
    return b"".join(parts)


def _publish_new(temporary: str, path: str) -> None:
    """Give a complete file its name, unless the name is taken: then `FileExistsError`."""
    try:
        os.link(temporary, path)  # fails on an existing name, even one made without our lock
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        os.rename(temporary, path)  # we hold the lock and saw that the name was free
    else:
        os.unlink(temporary)


@contextmanager
def _removed_on_failure(path: str) -> Iterator[None]:
    """Delete a temporary file if the block fails; killed processes may leave theirs."""
    try:
        yield
    except BaseException:
        os.unlink(path)
        raise


def _read_failure(error: OSError, key: str, path: str) -> StorageError:
    if error.errno in _MISSING:
        return ObjectNotFound(f"object not found: {key!r} ({path})")
    return _failure(error, "read", key, path)


def _failure(error: OSError, verb: str, key: str, path: str) -> StorageError:
    advice = _ADVICE.get(error.errno or 0)
    subject = f"object {key!r}" if key else "storage"
    return StorageError(
        f"could not {verb} {subject}: {error.strerror or error} ({path})"
        + (f"; {advice}" if advice else ""),
        ErrorKind.IO,
    )

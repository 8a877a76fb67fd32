"""obstore, as this process can use it.

obstore runs requests on threads of its own, which do not exist in a forked child: there the library
as inherited would wait for them forever. So a child loads the extension module a second time, from
a copy, which brings fresh state and threads of its own; what was inherited is left alone. Loading
takes some 20 ms and 15 MB, once per child that uses an object store.

Modules of this package say ``library.obstore.get(...)``, and call `ensure_usable` before. Clients
and errors belong to one copy of the library and must not meet another.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from importlib.util import spec_from_file_location
from types import ModuleType
from typing import Any, Final

import obstore
from obstore import _obstore, exceptions, store

from icechunk._fork import new_lock
from icechunk.errors import ErrorKind, StorageError

__all__ = ["abandon", "ensure_usable", "exceptions", "obstore", "store"]

_EXTENSION: Final = "obstore._obstore"
_FILE: Final[str] = _obstore.__file__

_lock = new_lock()
_process = os.getpid()


def ensure_usable() -> None:
    """Load a copy of obstore if this process is not the one that loaded the one at hand.

    Raises
    ------
    StorageError
        Kind ``concurrency``: there is nowhere to load a copy from.
    """
    global obstore, exceptions, store, _process
    process = os.getpid()
    if _process == process:
        return
    with _lock:
        if _process == process:
            return
        abandon(obstore, exceptions, store)
        try:
            obstore, exceptions, store = _load_copy()
        except (OSError, ImportError) as error:
            raise StorageError(
                "object stores cannot be used in this process, which was forked from one that "
                f"used them, since loading obstore again failed: {error}. Start workers by "
                "'spawn' or 'forkserver' (multiprocessing.set_start_method)",
                ErrorKind.CONCURRENCY,
            ) from error
        _process = process


def abandon(*things: object) -> None:
    """Keep objects of the parent's obstore from ever being destroyed in this child.

    Destroying a client takes locks that some thread of the parent may have held at the fork.
    """
    for thing in things:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _load_copy() -> tuple[Any, Any, Any]:
    # Everybody else in this process goes on with the modules they know, so these come back.
    inherited = {
        name: module for name, module in sys.modules.items() if name.split(".")[0] == "obstore"
    }
    for name in inherited:
        del sys.modules[name]
    try:
        with _copied_file() as path:
            finder = _OneModule(path)
            sys.meta_path.insert(0, finder)
            try:
                import obstore as package
                from obstore import exceptions as its_exceptions
                from obstore import store as its_store
            finally:
                sys.meta_path.remove(finder)
        return package, its_exceptions, its_store
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "obstore"]:
            del sys.modules[name]
        sys.modules.update(inherited)


class _OneModule:
    """Finds the extension module in a file of our choice."""

    def __init__(self, path: str) -> None:
        self._path = path

    def find_spec(
        self, name: str, path: object = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _EXTENSION:
            return None
        loader = ExtensionFileLoader(name, self._path)
        return spec_from_file_location(name, self._path, loader=loader)


@contextmanager
def _copied_file() -> Iterator[str]:
    """Offer a copy of the extension module: the dynamic linker loads no file twice."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("obstore")
        with os.fdopen(descriptor, "wb") as copy:
            with open(_FILE, "rb") as original:
                shutil.copyfileobj(original, copy, 1 << 20)
            copy.flush()
            yield f"/proc/self/fd/{descriptor}"
        return
    with tempfile.TemporaryDirectory(prefix="icechunk-") as folder:
        yield shutil.copy(_FILE, folder)

"""Surviving `os.fork`: locks that no child inherits held, and what else a child must renew.

Only the thread that forks lives on in the child. A lock that another thread held at that moment
would stay locked there for good, so all locks of the package are made here and opened again in the
child. What such a lock protects is then as any other thread could have seen it at that moment,
which every holder of these locks arranges for: state changes in steps that are each complete.

Handlers are registered with the interpreter when first needed, not when this module is loaded.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import cache
from typing import Any
from weakref import WeakSet

__all__ = ["in_child", "new_lock", "new_rlock", "wait_for"]

_locks: WeakSet[Any] = WeakSet()
_awaited: list[threading.Lock] = []
_renewals: list[Callable[[], object]] = []


def new_lock() -> threading.Lock:
    """Make a lock that is free in a forked child."""
    lock = threading.Lock()
    _note(lock)
    return lock


def new_rlock() -> threading.RLock:
    """Make a reentrant lock that is free in a forked child, unless the forking thread holds it."""
    lock = threading.RLock()
    _note(lock)
    return lock


def wait_for(lock: threading.Lock) -> None:
    """Let forks wait for a lock, so that a child finds what it protects complete.

    For state of the process on which work is short: whoever holds the lock must neither wait for
    anything nor take another such lock. Called before the lock is used; again does no harm.
    """
    with lock:
        if lock in _awaited or not hasattr(os, "register_at_fork"):
            return
        _awaited.append(lock)
    os.register_at_fork(
        before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release
    )


def in_child(renew: Callable[[], object]) -> None:
    """Call a function in every child that is forked from now on, before anything else runs."""
    _register()
    _renewals.append(renew)


def _note(lock: Any) -> None:
    _register()
    _locks.add(lock)


@cache
def _register() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_renew)


def _renew() -> None:
    for lock in _locks:
        # A reentrant lock of this very thread stays as it is: its block goes on in the child.
        if not (hasattr(lock, "_is_owned") and lock._is_owned()):
            lock._at_fork_reinit()
    for renew in _renewals:
        renew()

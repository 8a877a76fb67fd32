"""Coroutine twins of synchronous methods: the same call, made in a worker thread.

The engine is synchronous; whoever runs an event loop awaits the ``*_async`` twin of a method, which
blocks a thread instead of the loop. Written once, so that twins cannot drift from their originals.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar, overload

__all__ = ["in_thread"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


# What a class body calls a class method is the function that takes the class, to a type checker.
@overload
def in_thread(
    method: Callable[Concatenate[type[T], P], R],
) -> classmethod[T, P, Coroutine[Any, Any, R]]: ...
@overload
def in_thread(method: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]: ...
def in_thread(method: Any) -> Any:
    """Return the coroutine function that makes the same call in a worker thread.

    Used in class bodies, ``commit_async = in_thread(commit)``; class and static methods stay what
    they are. Arguments, result, errors and signature are those of `method`; any running asyncio
    loop will do. Cancelling the coroutine does not stop the thread: what was begun is carried out.
    """
    if isinstance(method, classmethod):
        return classmethod(_twin(method.__func__))
    if isinstance(method, staticmethod):
        return staticmethod(_twin(method.__func__))
    return _twin(method)


def _twin(method: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
    @functools.wraps(method)
    async def twin(*args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.to_thread(method, *args, **kwargs)

    name = method.__name__
    twin.__name__ = f"{name}_async"
    twin.__qualname__ = f"{method.__qualname__}_async"
    twin.__doc__ = f"Do as `{name}` does, in a worker thread: see there."
    return twin

"""Translation of the errors of obstore, the one place that knows them.

Servers echo parts of a request in their answers, credentials among them, and obstore puts answers
into its messages. So messages are shortened and masked, and translated errors do not chain the
original.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from icechunk.errors import ErrorKind, StorageError
from icechunk.storage import obstore_library as library
from icechunk.storage.base import ObjectNotFound, PreconditionFailed

_LONGEST = 500  # characters
_QUERY = re.compile(r"(https?://[^\s?\"]+)\?[^\s\"]+")  # signed URLs carry their signature here
_BUCKET_MISSING = ("NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist")
_THROTTLED = ("429 Too Many Requests", "SlowDown", "503 Slow Down", "503 Service Unavailable")
_RANGE = ("416 Range Not Satisfiable", "Wanted range starting at")

# Names of the classes in obstore's module of exceptions.
_REFUSED = ("AlreadyExistsError", "PreconditionError")
_DENIED = ("PermissionDeniedError", "UnauthenticatedError")
_NEVER_SENT = ("NotSupportedError", "InvalidPathError", "UnknownConfigurationKeyError")
_REJECTED = re.compile(r"status code: 4(?!08|29)\d\d\b")  # by the server, for good
_NOT_THERE = re.compile(r"status code: (405|501)\b|\bNotImplemented\b|\bMethodNotAllowed\b")
_BUILDER = "builder error"
_LOST = re.compile(
    r"status code: 5\d\d\b|5\d\d Internal|HTTP error|error sending request|timed out"
)
_LATER = (
    "; the store asks for fewer requests: try again later, lower max_concurrent_requests, or raise"
    " storage.retries"
)
_AGAIN = "; try again, and raise storage.retries or storage.timeouts if it happens often"


def translate(
    error: BaseException, verb: str, key: str | None, place: str, secrets: Iterable[str]
) -> StorageError:
    """Describe an error of obstore as one of ours."""
    text = _clean(str(error), secrets)
    subject = f"object {key!r} in {place}" if key is not None else place
    message = f"could not {verb} {subject}: {text}"
    if any(sign in text for sign in _BUCKET_MISSING):
        return StorageError(
            f"could not {verb} {subject}: the bucket does not exist", ErrorKind.OBJECT_STORE
        )
    if is_absence(error):
        return ObjectNotFound(f"object not found: {key!r} in {place}")
    if _is_one_of(error, _REFUSED):
        return PreconditionFailed(f"{subject} is not in the expected state: {text}")
    if _is_one_of(error, _DENIED):
        message += "; check the credentials and their permissions"
    elif _BUILDER in text:
        message += "; plain http needs allow_http=True"
    if any(sign in text for sign in _RANGE):
        return StorageError(message, ErrorKind.INVALID_OBJECT_SIZE)
    if any(sign in text for sign in _THROTTLED):
        return StorageError(message + _LATER, ErrorKind.THROTTLED)
    if _LOST.search(text) is not None:
        message += _AGAIN
    return StorageError(message, ErrorKind.OBJECT_STORE)


def cannot_connect(
    error: BaseException, place: str, secrets: Iterable[str], variables: Iterable[str]
) -> StorageError:
    """Describe why there is no client, naming the variables of the environment it has read."""
    message = f"could not make a client for {place}: {_clean(str(error), secrets)}"
    if names := ", ".join(sorted(variables)):
        message += f"; beside what it is given it reads {names} from the environment: unset what"
        message += " does not belong to this storage"
    return StorageError(message, ErrorKind.STORAGE_CONFIG)


def is_absence(error: BaseException) -> bool:
    """Tell whether there is no such object, as opposed to no such bucket."""
    missing = any(sign in str(error) for sign in _BUCKET_MISSING)
    return isinstance(error, FileNotFoundError) and not missing


def had_no_effect(error: BaseException) -> bool:
    """Tell whether a failed write was certainly not carried out."""
    return (
        isinstance(error, FileNotFoundError | ValueError | TypeError)
        or _is_one_of(error, _REFUSED + _DENIED + _NEVER_SENT)
        or _BUILDER in str(error)
        or _REJECTED.search(str(error)) is not None
    )


def cannot_copy(error: BaseException) -> bool:
    """Tell whether the server does not know how to copy, as opposed to failing at it."""
    is_unsupported = _is_one_of(error, ("NotSupportedError",))
    return is_unsupported or _NOT_THERE.search(str(error)) is not None


def _is_one_of(error: BaseException, names: Iterable[str]) -> bool:
    # Looked up each time: a forked child works with another copy of the library.
    return isinstance(error, tuple(getattr(library.exceptions, name) for name in names))


def _clean(text: str, secrets: Iterable[str]) -> str:
    """Keep the sentence a human can use: no debug dump, no signatures, no secrets."""
    text = " ".join(text.partition("\n\nDebug source")[0].split())
    text = _QUERY.sub(r"\1?...", text)
    for secret in secrets:
        text = text.replace(secret, "****")
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."

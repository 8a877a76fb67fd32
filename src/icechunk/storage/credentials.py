"""Credentials for S3 as values, and the rule that picks one kind from a constructor's arguments.

Secrets show up in no text of these objects, only in their attributes and pickles.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

from icechunk.errors import ErrorKind, InvalidInputError


@dataclass(frozen=True, slots=True)
class S3StaticCredentials:
    """An access key, in the user's own words.

    Parameters
    ----------
    access_key_id, secret_access_key
        The key and its secret.
    session_token
        Present for temporary keys.
    expires_after
        When a temporary key stops working. Must be timezone-aware.
    """

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    expires_after: datetime | None = None

    def __post_init__(self) -> None:
        if self.expires_after is not None and self.expires_after.tzinfo is None:
            raise TypeError("expected a datetime with non-None tzinfo as expires_after")

    def __repr__(self) -> str:
        lines = [
            "<icechunk.credentials.S3StaticCredentials>",
            f"access_key_id: {_masked(self.access_key_id)}",
            f"secret_access_key: {_masked(self.secret_access_key)}",
        ]
        if self.session_token is not None:
            lines.append(f"session_token: {_masked(self.session_token)}")
        if self.expires_after is not None:
            lines.append(f"expires_after: {self.expires_after.isoformat()}")
        return "\n".join(lines) + "\n"

    __str__ = __repr__


class S3Credentials:
    """How requests to S3 are signed: `FromEnv`, `Anonymous` or `Static`."""

    __slots__ = ()

    FromEnv: ClassVar[type[S3FromEnv]]
    Anonymous: ClassVar[type[S3Anonymous]]
    Static: ClassVar[type[S3Static]]


@dataclass(frozen=True, slots=True)
class S3FromEnv(S3Credentials):
    """Let the client find credentials: environment variables, web identity, instance metadata."""


@dataclass(frozen=True, slots=True)
class S3Anonymous(S3Credentials):
    """Send unsigned requests."""


@dataclass(frozen=True, slots=True)
class S3Static(S3Credentials):
    """Sign with a given key."""

    credentials: S3StaticCredentials


S3Credentials.FromEnv = S3FromEnv
S3Credentials.Anonymous = S3Anonymous
S3Credentials.Static = S3Static


def s3_credentials(
    *,
    access_key_id: str | None = None,
    secret_access_key: str | None = None,
    session_token: str | None = None,
    expires_after: datetime | None = None,
    anonymous: bool | None = None,
    from_env: bool | None = None,
    get_credentials: object = None,
    scatter_initial_credentials: bool = False,
) -> S3Credentials:
    """Pick the kind of S3 credentials that the given arguments ask for.

    Nothing at all means `S3Credentials.FromEnv`. Credentials that a function refreshes are not
    supported.

    Raises
    ------
    ValueError
        If arguments of different kinds are mixed, or a key lacks its secret.
    """
    if get_credentials is not None or scatter_initial_credentials:
        raise InvalidInputError(
            "refreshable credentials (get_credentials, scatter_initial_credentials) are not "
            "supported: pass keys, anonymous=True or from_env=True",
            ErrorKind.INVALID_CREDENTIALS,
        )
    parts = (access_key_id, secret_access_key, session_token, expires_after)
    has_key = any(part is not None for part in parts)
    chosen = (has_key, bool(anonymous), bool(from_env))
    if chosen in _FROM_ENV:
        return S3FromEnv()
    if chosen == _ANONYMOUS:
        return S3Anonymous()
    if chosen == _STATIC and access_key_id is not None and secret_access_key is not None:
        return S3Static(
            S3StaticCredentials(access_key_id, secret_access_key, session_token, expires_after)
        )
    raise ValueError("Conflicting arguments to s3_credentials function")


# (has any part of a key, anonymous, from_env)
_FROM_ENV = frozenset({(False, False, False), (False, False, True)})
_ANONYMOUS = (False, True, False)
_STATIC = (True, False, False)


def _masked(secret: str) -> str:
    return secret[:4] + "****"
